//! What streams and subjects are called.
//!
//! ```text
//!   PREFIX_store                                   what this place is, and which journals were removed
//!   PREFIX_journal_default=0192…                   one journal
//!   PREFIX_snapshots_default=0192…                 its snapshots
//! ```

use millpond_core::{Error, Result};

/// The longest name of a journal; a stream's name has at most 255 bytes.
const JOURNAL_BYTES: usize = 128;

/// The names of one journal.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The stream of entries.
    pub(super) stream: String,
    /// The subject of entries.
    pub(super) subject: String,
    /// Where the server tells, without the entry, that there is one.
    pub(super) hints: String,
    /// The stream of snapshots.
    pub(super) snapshots: String,
    /// What subjects of snapshots begin with.
    pub(super) snapshot: String,
    /// The subject that says that this journal was removed.
    pub(super) removed: String,
}

impl Names {
    /// The names of a journal. A point means something in a subject, so it is written as an equals sign, which no
    /// journal's name has.
    ///
    /// # Errors
    /// `Invalid` for a name that no journal of the engine has.
    pub(super) fn of(prefix: &str, journal: &str) -> Result<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if journal.is_empty() || journal.len() > JOURNAL_BYTES || !journal.bytes().all(plain) {
            return Err(Error::invalid(format!("{journal:?} is no name of a journal")));
        }
        let name = journal.replace('.', "=");
        Ok(Self {
            stream: format!("{prefix}_journal_{name}"),
            subject: format!("{prefix}.entry.{name}"),
            hints: format!("{prefix}.changed.{name}"),
            snapshots: format!("{prefix}_snapshots_{name}"),
            snapshot: format!("{prefix}.snapshot.{name}"),
            removed: removed(prefix, &name),
        })
    }
}

/// The stream that makes a prefix a store.
pub(super) fn store(prefix: &str) -> String {
    format!("{prefix}_store")
}

/// The subjects of removed journals; of all of them for `*`.
pub(super) fn removed(prefix: &str, name: &str) -> String {
    format!("{prefix}.removed.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_journals_never_share_a_stream() {
        let names = Names::of("p", "a.0192-3").unwrap();
        assert_eq!((names.stream.as_str(), names.subject.as_str()), ("p_journal_a=0192-3", "p.entry.a=0192-3"));
        assert_ne!(Names::of("p", "a_b").unwrap().stream, Names::of("p", "a.b").unwrap().stream);
        for bad in ["", "a=b", "a b", "a*", "ä", &"x".repeat(JOURNAL_BYTES + 1)] {
            assert!(Names::of("p", bad).is_err(), "{bad}");
        }
    }
}
