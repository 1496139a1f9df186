//! What people find beside an object's bytes: a copy of what its record says.

use std::sync::Arc;

use millpond_core::{Error, Result};
use serde::Serialize;

/// A note: the JSON text of an object. Millpond writes it beside the bytes and never reads it; the record is the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note(Arc<str>);

impl Note {
    /// Of anything that is written as a JSON object.
    ///
    /// # Errors
    /// `Invalid` for what is no JSON object.
    pub fn of(about: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_string(about).map_err(|e| Error::invalid("a note cannot be written as JSON").with_source(e))?;
        if text.starts_with('{') {
            return Ok(Self(text.into()));
        }
        Err(Error::invalid("a note is no JSON object").with_next("give a struct or a map"))
    }

    /// Its text, on one line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_an_object_is_a_note() {
        assert_eq!(Note::of(&json!({"key": "a/b"})).unwrap().as_str(), r#"{"key":"a/b"}"#);
        for wrong in [json!(null), json!([{}]), json!("{}"), json!(1)] {
            assert_eq!(Note::of(&wrong).unwrap_err().kind(), millpond_core::ErrorKind::Invalid, "{wrong}");
        }
    }
}
