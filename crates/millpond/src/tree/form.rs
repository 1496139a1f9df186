//! How a record looks as a file: definitions as YAML, any other document as JSON with a field a line.

use millpond_core::{Error, Event, Json, Record, Result};
use serde_json::Value;

use super::subject::Subject;
use crate::{WorkflowVersion, yaml};

/// The text of a record's file.
pub(super) fn text_of(subject: &Subject, record: &Record) -> Result<String> {
    text(subject, &value_of(subject, record)?)
}

/// The value that a record's file says: of a version, its definition.
pub(super) fn value_of(subject: &Subject, record: &Record) -> Result<Value> {
    match subject {
        Subject::Version(_) => Ok(record.decode::<WorkflowVersion>()?.value.definition),
        _ => record.value.value(),
    }
}

/// The text for a value in the place of a subject.
pub(super) fn text(subject: &Subject, value: &Value) -> Result<String> {
    if subject.is_definition() {
        return yaml::write(value);
    }
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::invalid("cannot be written as JSON").with_source(e))?;
    Ok(text + "\n")
}

/// What a person's file says.
///
/// # Errors
/// `Invalid` when it is not UTF-8, or not YAML (JSON, by the file's name) that can be kept.
pub(super) fn read<'b>(path: &str, bytes: &'b [u8]) -> Result<(&'b str, Value)> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::invalid("it is not UTF-8").with_source(e))?;
    let value = if path.ends_with(".json") { Json::parse(text)?.value()? } else { yaml::parse(text)? };
    Ok((text, value))
}

/// An event's line in its stream's file.
pub(super) fn line(event: &Event) -> Result<String> {
    let line = serde_json::to_string(event).map_err(|e| Error::invalid("cannot be written as JSON").with_source(e))?;
    Ok(line + "\n")
}

/// A person's text of a definition, in which the definition's own version is another: if the text can say that by a
/// change of one line. Comments and layout stay.
pub(super) fn retold(text: &str, definition: &Value) -> Option<String> {
    let says = |text: &str| yaml::parse(text).is_ok_and(|value| value == *definition);
    if says(text) {
        return Some(text.to_owned());
    }
    let version = definition.get("version")?.as_i64()?;
    let mut changed = false;
    let lines = text.split_inclusive('\n').map(|line| match line.strip_prefix("version:") {
        Some(rest) if !changed => {
            changed = true;
            let after = rest.find(" #").map_or_else(|| &rest[rest.trim_end().len()..], |at| &rest[at..]);
            format!("version: {version}{after}")
        }
        _ => line.to_owned(),
    });
    let retold: String = lines.collect();
    says(&retold).then_some(retold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_persons_text_is_kept_with_another_version() {
        let definition = json!({"id": "etl", "version": 4, "nodes": []});
        let text = "# mine\nid: etl\nversion: 3 # the third\nnodes: []\n";
        assert_eq!(retold(text, &definition).as_deref(), Some("# mine\nid: etl\nversion: 4 # the third\nnodes: []\n"));
        assert_eq!(retold("{id: etl, version: 4, nodes: []}", &definition).as_deref(), Some("{id: etl, version: 4, nodes: []}"));
        assert_eq!(retold("{id: etl, version: 3, nodes: []}", &definition), None);
        assert_eq!(retold("id: etl\nversion: 3\nnodes: [1]\n", &definition), None);
    }
}
