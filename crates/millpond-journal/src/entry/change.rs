//! What an entry does to the replica.

use millpond_core::plan::Mutations;
use millpond_core::{CollectionSpec, Error, NamespaceStatus, Result, Timestamp};
use serde::{Deserialize, Serialize};

use super::commit::WireCommit;

/// A namespace's name and identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) store_id: String,
    #[serde(rename = "created_us", with = "micros")]
    pub(crate) created_at: Timestamp,
}

mod micros {
    use millpond_core::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference.
    pub(super) fn serialize<S: Serializer>(time: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i64(time.as_micros())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(d).map(Timestamp::from_micros)
    }
}

/// A moment in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Micros(#[serde(with = "micros")] pub(crate) Timestamp);

/// What a namespace's journal can say.
#[derive(Debug)]
pub(crate) enum Change {
    /// Commits, resolved.
    Commit(Mutations),
    /// Anything else.
    Other(Other),
}

/// What is not a commit, and what the register of namespaces says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Other {
    /// The namespace comes into being: the first entry of its journal.
    Create(Named),
    /// Collections as they were declared; what was there already is merged.
    Declare(Vec<CollectionSpec>),
    /// Open, frozen or moved.
    Status(NamespaceStatus),
    /// Receipts and tombstones from before a moment are forgotten.
    PurgeBefore(Micros),
    /// The namespace is deleted, the last entry of its journal.
    Delete { store_id: String },
    /// Somebody makes a snapshot, and others leave that to it for a while. With the size of the snapshot: it is made.
    Snapshot {
        by: String,
        until: Micros,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made_bytes: Option<u64>,
    },
    /// In the register: a name is taken.
    Register(Named),
    /// In the register: a name is free again.
    Unregister { name: String, store_id: String },
}

#[derive(Deserialize)]
struct OnlyCommit<'a> {
    #[serde(borrow)]
    commit: WireCommit<'a>,
}

impl Change {
    /// Reads a change's text.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let unreadable = |e| Error::corrupt("a journal entry holds a change that this program cannot read").with_source(e);
        if text.starts_with("{\"commit\"") {
            let only: OnlyCommit<'_> = serde_json::from_str(text).map_err(unreadable)?;
            return only.commit.into_mutations().map(Self::Commit);
        }
        serde_json::from_str(text).map(Self::Other).map_err(unreadable)
    }
}

impl Other {
    /// The change as text.
    pub(crate) fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::invalid("the change cannot be written as JSON").with_source(e))
    }
}
