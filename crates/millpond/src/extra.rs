//! Fields beside those a document declares: kept as they are, but never in the place of one that it declares.
//!
//! They are written last, next to the declared ones, so a name of both kinds would put the caller's word where the
//! store's belongs (a version, a hash, a time).

use std::collections::BTreeMap;

use millpond_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Fields that a document does not declare.
pub(crate) type Extra = BTreeMap<String, Value>;

/// A document, or a part of one, that a caller can put further fields into.
pub(crate) trait Extended: Serialize + DeserializeOwned {
    /// The further fields: those of the document, then those of its parts, always in the same order.
    fn extras(&self) -> Vec<&Extra>;
}

/// Refuses a further field whose name the document, or the part it is in, declares itself.
///
/// No list of names is kept: the document is written and read back, and a further field that is none comes back as the
/// declared one. That costs nothing while there are no further fields.
///
/// # Errors
/// `Invalid`, naming the field.
pub(crate) fn check<T: Extended>(what: &str, document: &T) -> Result<()> {
    let given = document.extras();
    if given.iter().all(|extra| extra.is_empty()) {
        return Ok(());
    }
    let written = serde_json::to_value(document).map_err(|e| Error::invalid("cannot be written as JSON").with_source(e))?;
    let taken = |name: String| {
        Error::invalid(format!("{what} holds another field named {name}, which is its own"))
            .with_next("give the extra field another name, or set the field itself")
    };
    let Ok(read) = serde_json::from_value::<T>(written) else {
        // One of them has not even the type of the declared field.
        let names: Vec<String> = given.iter().flat_map(|extra| extra.keys()).map(|name| format!("{name:?}")).collect();
        return Err(taken(format!("as one of {}", names.join(", "))));
    };
    for (given, read) in given.into_iter().zip(read.extras()) {
        if let Some(name) = given.keys().find(|name| !read.contains_key(*name)) {
            return Err(taken(format!("{name:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Serialize, Deserialize)]
    struct Part {
        size: u32,
        #[serde(flatten)]
        extra: Extra,
    }

    #[derive(Serialize, Deserialize)]
    struct Whole {
        id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
        parts: Vec<Part>,
        #[serde(flatten)]
        extra: Extra,
    }

    impl Extended for Whole {
        fn extras(&self) -> Vec<&Extra> {
            [&self.extra].into_iter().chain(self.parts.iter().map(|p| &p.extra)).collect()
        }
    }

    fn refusal(of_whole: Value, of_part: Value) -> Option<String> {
        let extra = |value: Value| serde_json::from_value(value).expect("an object");
        let parts = vec![Part { size: 1, extra: extra(of_part) }];
        let whole = Whole { id: "w".into(), parent: None, parts, extra: extra(of_whole) };
        check("the whole", &whole).err().map(|e| e.to_string())
    }

    #[test]
    fn a_further_field_is_never_a_declared_one() {
        assert_eq!(refusal(json!({}), json!({})), None);
        assert_eq!(refusal(json!({"size": 9, "of_a_newer_version": null}), json!({"id": "p"})), None);
        // Of the same type, of another one, one that is left out when it is empty, one of a part.
        let cases = [
            (json!({"id": "x"}), json!({}), "\"id\""),
            (json!({"id": 5}), json!({}), "\"id\""),
            (json!({"parent": "x"}), json!({}), "\"parent\""),
            (json!({"parts": []}), json!({"a": 1}), "\"parts\""),
            (json!({"a": 1}), json!({"size": 7}), "\"size\""),
        ];
        for (of_whole, of_part, name) in cases {
            let said = refusal(of_whole.clone(), of_part).expect("refused");
            assert!(said.contains(name) && said.contains("the whole"), "{of_whole}: {said}");
        }
    }
}
