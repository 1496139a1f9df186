//! What is kept of an execution that was written off: one record, which is the job and the mark at once.

use millpond_core::{Collection, Document, Error, FieldKind, Key, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::extra::{Extended, Extra};
use crate::text::key_segment;

/// Every collection of prunes.
pub(crate) const COLLECTIONS: [Collection; 1] = [Prune::COLLECTION];

/// How a prune stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PruneStatus {
    /// Something is left to be deleted; somebody is at it, or anybody may go on.
    Running,
    /// Nothing is left.
    Done,
}

impl PruneStatus {
    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
        }
    }
}

impl std::str::FromStr for PruneStatus {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        [Self::Running, Self::Done]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Error::invalid(format!("{text:?} is not how a prune stands")).with_next("use running or done"))
    }
}

impl std::fmt::Display for PruneStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is deleted in which order. Each is finished before the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrunePhase {
    /// It is marked, and looked at once more: nothing is deleted before that.
    Marked,
    /// Artifacts: from here on nobody reads them. Each deletion is a storage event in the same commit.
    Artifacts,
    /// Their versions, and behind each page of those the bytes that nobody else names.
    Versions,
    /// Rows of lineage, each with its edges.
    Lineage,
    /// The run and its log.
    #[serde(alias = "events")]
    Run,
    /// Nothing is left.
    Done,
}

impl PrunePhase {
    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Marked => "marked",
            Self::Artifacts => "artifacts",
            Self::Versions => "versions",
            Self::Lineage => "lineage",
            Self::Run => "run",
            Self::Done => "done",
        }
    }

    /// What comes after it.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Marked => Self::Artifacts,
            Self::Artifacts => Self::Versions,
            Self::Versions => Self::Lineage,
            Self::Lineage => Self::Run,
            Self::Run | Self::Done => Self::Done,
        }
    }
}

/// How much of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PruneCounts {
    /// Artifacts.
    pub artifacts: u64,
    /// Their versions, deletions among them.
    pub versions: u64,
    /// Objects whose bytes go.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects whose bytes stay, because a copy of another execution names them.
    pub kept_objects: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Rows of lineage.
    pub lineage_rows: u64,
    /// Edges from and to those rows.
    pub lineage_edges: u64,
    /// Storage events that say so: one for each artifact. They are appended; none is forgotten.
    pub events: u64,
    /// Events of the run's log.
    pub log_events: u64,
    /// The run: one or none.
    pub runs: u64,
}

/// An object of versions that are deleted: its bytes go when nobody else names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunedObject {
    /// Where it is.
    pub location: String,
    /// Its bytes.
    pub length: u64,
}

/// An execution that was written off: the job that deletes it, and afterwards the mark that nothing is written into
/// it any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prune {
    /// The execution.
    pub execution: String,
    /// How the job stands.
    pub status: PruneStatus,
    /// What is being deleted.
    pub phase: PrunePhase,
    /// Who worked on it last.
    pub worker: String,
    /// Since when.
    pub began: Timestamp,
    /// When nothing was left.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// Events of the run's log, counted when it was marked; `None` when the execution is no run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_events: Option<u64>,
    /// What was deleted until now, each thing counted once.
    pub deleted: PruneCounts,
    /// Objects that versions named which are gone, and that were not looked at yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<PrunedObject>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Extended for Prune {
    fn extras(&self) -> Vec<&Extra> {
        vec![&self.extra]
    }
}

impl Document for Prune {
    const COLLECTION: Collection = Collection::new("execution_prunes")
        .version(1)
        .index("status", FieldKind::Text)
        .index("began", FieldKind::Timestamp)
        .index_on(&["status", "began"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(key_segment(&self.execution))
    }
}
