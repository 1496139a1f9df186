//! A note as the value of a header: in ASCII, and short.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::Note;

/// Bytes of a note. S3 takes 2 KiB of metadata, names included; the other stores take more.
const MOST: usize = 1_900;

/// What is kept of a note that is too long, as long as there is room: what the bytes are, then where they come from. What
/// an application added, which may be of any length, is in the record.
const KEPT: [&str; 19] = [
    "sha256",
    "length",
    "key",
    "version",
    "location",
    "created",
    "content_type",
    "written_at",
    "execution",
    "route",
    "stage",
    "message",
    "adapter",
    "extension",
    "correlation",
    "document",
    "lineage",
    "config_hash",
    "original_key",
];

/// A note's text, if it fits; else what is kept of it, and `"shortened": true`.
pub(super) fn of(note: &Note) -> String {
    let whole = ascii(note.as_str());
    if whole.len() <= MOST { whole } else { shortened(note) }
}

fn shortened(note: &Note) -> String {
    let fields: Map<String, Value> = serde_json::from_str(note.as_str()).unwrap_or_default();
    let mut text = r#"{"shortened":true"#.to_owned();
    for name in KEPT {
        let Some(value) = fields.get(name) else { continue };
        let field = ascii(&format!(",\"{name}\":{value}"));
        // One byte is for the brace at the end.
        if text.len() + field.len() < MOST {
            text.push_str(&field);
        }
    }
    text + "}"
}

/// JSON with an escape for every letter that a header could not carry as it is. Servers make one space of several, and
/// signatures are made of what they make: so of several only the first stays.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            ' ' if text.ends_with(' ') => text.push_str("\\u0020"),
            ' '..='~' => text.push(letter),
            _ => letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(text, "\\u{unit:04x}");
            }),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(header: &str) -> Value {
        assert!(header.len() <= MOST && header.bytes().all(|b| (b' '..=b'~').contains(&b)), "{header}");
        assert!(!header.contains("  "), "{header}");
        serde_json::from_str(header).unwrap()
    }

    #[test]
    fn every_letter_comes_back() {
        let about = json!({"key": "é/日本/🦆", "custom": {"two  spaces   three": "\u{7f}\u{0}\t\"\\"}});
        assert_eq!(read(&of(&Note::of(&about).unwrap())), about);
    }

    #[test]
    fn what_is_too_long_goes_and_that_is_said() {
        let long = "x".repeat(MOST);
        let note = |about: Value| read(&of(&Note::of(&about).unwrap()));
        let short = note(json!({"sha256": "ab", "length": 7, "custom": {"note": long}, "unknown": 1}));
        assert_eq!(short, json!({"shortened": true, "sha256": "ab", "length": 7}));
        // A key may be long, and six times as long in ASCII.
        let short = note(json!({"key": "é".repeat(1_024), "stage": "index", "sha256": "ab"}));
        assert_eq!(short, json!({"shortened": true, "sha256": "ab", "stage": "index"}));
    }

    #[test]
    fn the_limit_is_met_to_the_byte() {
        for length in MOST - 40..MOST + 40 {
            let about = json!({"a": "x".repeat(length)});
            let fits = length + r#"{"a":""}"#.len() <= MOST;
            assert_eq!(read(&of(&Note::of(&about).unwrap())) == about, fits, "{length}");
            let kept = read(&of(&Note::of(&json!({"key": "x".repeat(length), "custom": "y".repeat(200)})).unwrap()));
            let fits = length + r#"{"shortened":true,"key":""}"#.len() <= MOST;
            assert_eq!(kept["key"].is_string(), fits, "{length}");
        }
    }
}
