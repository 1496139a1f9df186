//! What lists and counts look at: fields worked out from a row, because an index takes short text and compares bytes.
//!
//! ```text
//!   artifact.key   up to 2,048 bytes     ──► artifact   half of its SHA-256
//!   metadata.url   any length and case   ──► url        lower case, the first 1,024 bytes
//!   route, adapter, status               ──► tally      one text to group by
//! ```

use millpond_core::limits::INDEXED_TEXT_BYTES;
use millpond_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{LineageRow, LineageStatus};
use crate::text::sha256_hex;

/// Stands between the parts of a tally; no name of a route or an adapter holds it.
const BETWEEN: char = '\u{1f}';

/// Bytes of the name of a route or an adapter, so that both and a status fit into one indexed text.
pub(super) const NAME_BYTES: usize = 480;

/// What a row is found and counted by. Worked out whenever a row is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundBy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact: Option<String>,
    #[serde(default)]
    tally: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
}

impl FoundBy {
    /// What this row is found by now.
    pub(super) fn of(row: &LineageRow) -> Self {
        let text = |name: &str| row.metadata.get(name).and_then(Value::as_str).map(searched);
        Self {
            artifact: row.artifact.as_ref().map(|a| artifact(&a.key)),
            tally: format!("{}{BETWEEN}{}{BETWEEN}{}", row.route, row.adapter, row.status),
            url: text("url"),
            origin: text("origin"),
            title: text("title"),
        }
    }
}

/// Route, adapter and status of a tally.
pub(super) fn of_tally(tally: &str) -> Option<(&str, &str, LineageStatus)> {
    let mut parts = tally.split(BETWEEN);
    let (route, adapter, status) = (parts.next()?, parts.next()?, parts.next()?);
    Some((route, adapter, status.parse().ok()?))
}

/// What stands for an artifact's key in the index.
pub(crate) fn artifact(key: &str) -> String {
    sha256_hex(key.as_bytes())[..32].to_owned()
}

/// A text as it is searched for: in lower case, as much of it as an index takes.
pub(super) fn searched(text: &str) -> String {
    let mut lower = text.to_lowercase();
    lower.truncate(lower.floor_char_boundary(INDEXED_TEXT_BYTES));
    lower
}

/// Refuses names that would not fit into a tally, or could be taken apart in another way.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(format!("a row of lineage needs the name of its {what}")));
    }
    if name.len() > NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "{what} {:?} of a row of lineage: a name has at most {NAME_BYTES} bytes and no control characters",
            name.chars().take(60).collect::<String>()
        ))
        .with_next("give it a shorter name, and keep the long one in the row's metadata"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_taken_apart_as_it_was_put_together() {
        let tally = format!("a b{BETWEEN}c/d{BETWEEN}failed");
        assert_eq!(of_tally(&tally), Some(("a b", "c/d", LineageStatus::Failed)));
        assert_eq!(of_tally("a"), None);
        assert!(check_name("route", "a\u{1f}b").is_err() && check_name("route", "").is_err());
        assert!(check_name("route", &"x".repeat(NAME_BYTES)).is_ok());
        assert!(2 * NAME_BYTES + "processing".len() + 2 <= INDEXED_TEXT_BYTES);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "É".repeat(600);
        assert_eq!(searched(&long), "é".repeat(512));
        assert_eq!(searched(&format!("a{long}")).len(), 1_023);
    }
}
