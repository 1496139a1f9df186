//! What commands read: files, JSON, lengths of time, moments, `name=value` pairs.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use millpond::{Error, Host, Json, PageCursor, Result, STORE_FIELD, Scope, SystemHost, Timestamp, VersionRef};
use serde_json::Value;

/// The text of a file; `-` is stdin.
///
/// # Errors
/// `Unavailable` when it cannot be read.
pub fn read_text(file: &str) -> Result<String> {
    let read = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|e| Error::unavailable(format!("cannot read {file}")).with_source(e))
}

/// A document's text without what the program shows beside it: the field `_store`. So what a command printed can be
/// given back to another. Text that is no such JSON stays as it is, for the document's own reader to judge.
pub fn without_store_field(text: String) -> String {
    let Ok(mut value) = Json::parse(&text).and_then(|json| json.value()) else { return text };
    match value.as_object_mut().and_then(|fields| fields.remove(STORE_FIELD)) {
        Some(_) => value.to_string(),
        None => text,
    }
}

/// The text of a document's file, without the store's own field; `-` is stdin.
///
/// # Errors
/// As [`read_text`].
pub fn document_file(file: &str) -> Result<String> {
    read_text(file).map(without_store_field)
}

/// A document given in place, as `@FILE`, or as `-` for stdin, without the store's own field.
///
/// # Errors
/// As [`json`].
pub fn document(given: &str) -> Result<Value> {
    Json::parse(&without_store_field(inline_or_file(given)?))?.value()
}

/// Text given in place, as `@FILE`, or as `-` for stdin.
///
/// # Errors
/// As [`read_text`].
pub fn inline_or_file(given: &str) -> Result<String> {
    match given.strip_prefix('@') {
        Some(file) => read_text(file),
        None if given == "-" => read_text("-"),
        None => Ok(given.to_owned()),
    }
}

/// A length of time such as `250ms`, `30s`, `5m`, `2h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("{text:?} is not a length of time; write it like 250ms, 30s, 5m, 2h or 7d");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// A moment: RFC 3339, or how long ago, such as `2d`.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = duration(text) {
        return Ok(SystemHost.now().minus(ago));
    }
    Timestamp::parse(text)
        .map_err(|_| format!("{text:?} is not a moment; write it like 2026-11-21T08:00:00Z, or like 2d for two days ago"))
}

/// A page of a list: how long, and where to go on.
#[derive(Debug, clap::Args)]
pub struct PageArgs {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Continue after the page that gave out this cursor
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<PageCursor>,
}

/// JSON given in place, as `@FILE`, or as `-` for stdin.
///
/// # Errors
/// `Invalid` when it is not JSON that can be kept; as [`read_text`].
pub fn json(given: &str) -> Result<Value> {
    Json::parse(&inline_or_file(given)?)?.value()
}

/// JSON, if any was given.
///
/// # Errors
/// As [`json`].
pub fn json_or_null(given: Option<&str>) -> Result<Value> {
    given.map_or(Ok(Value::Null), json)
}

/// `name=JSON` pairs as a map. What is no JSON is taken as text, so that quotes can be left out.
pub fn json_map(pairs: Vec<(String, String)>) -> BTreeMap<String, Value> {
    pairs.into_iter().map(|(n, v)| (n, Json::parse(&v).and_then(|j| j.value()).unwrap_or(Value::String(v)))).collect()
}

/// A workflow, and the version it is asked about: `etl`, `etl@3`, or `etl` with `--of-version 3`.
///
/// # Errors
/// `Invalid` when two versions are named.
pub fn workflow(named: String, of_version: Option<u32>) -> Result<(String, Option<u32>)> {
    let Ok(at) = named.parse::<VersionRef>() else { return Ok((named, of_version)) };
    match of_version.filter(|other| *other != at.version) {
        Some(other) => {
            Err(Error::invalid(format!("{at} and --of-version {other} are two versions")).with_next("name one of them"))
        }
        None => Ok((at.id, Some(at.version))),
    }
}

/// A workflow where one version cannot be asked about.
///
/// # Errors
/// `Invalid` when a version is named.
pub fn whole_workflow(named: String, instead: &str) -> Result<String> {
    match named.parse::<VersionRef>() {
        Ok(at) => Err(Error::invalid(format!("{at} is one version; this is about all versions of a workflow"))
            .with_next(format!("name {}, or ask about the version with: millpond {instead} {at}", at.id))),
        Err(_) => Ok(named),
    }
}

/// The scope of checkpoints.
pub fn scope(text: &str) -> Result<Scope, Error> {
    text.parse()
}

/// `name=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

/// Pairs as a map; the last of a name stands.
pub fn map(pairs: Vec<(String, String)>) -> BTreeMap<String, String> {
    pairs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        for bad in ["", "5", "s", "-1s", "1.5h", "99999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(moment("2026-11-21T08:00:00Z").map(Timestamp::as_micros), Ok(1_795_248_000_000_000));
        assert!(moment("2d").is_ok());
        assert!(moment("yesterday").is_err());
    }
}
