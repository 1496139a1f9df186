//! Lineage as the store keeps it: a row for each piece of work, an edge for each row it came from.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{Collection, Document, Error, FieldKind, Key, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::found_by::FoundBy;
use crate::extra::Extra;
use crate::text::sha256_hex;

/// Every collection of lineage.
pub(crate) const COLLECTIONS: [Collection; 2] = [LineageRow::COLLECTION, LineageEdge::COLLECTION];

/// How a piece of work stands. It only ever moves on: from one of the first three to a later one, and once to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineageStatus {
    /// It is known that it has to be done.
    Pending,
    /// Somebody took it.
    Initiated,
    /// It is being done.
    Processing,
    /// It was done.
    Completed,
    /// It ended with an error.
    Failed,
    /// It was given up.
    Cancelled,
}

impl LineageStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [Self::Pending, Self::Initiated, Self::Processing, Self::Completed, Self::Failed, Self::Cancelled];

    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Initiated => "initiated",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing comes after it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether a row of this status can go on to another one.
    pub fn can_become(self, next: Self) -> bool {
        !self.is_final() && (next.is_final() || next > self)
    }
}

impl std::fmt::Display for LineageStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for LineageStatus {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            Error::invalid(format!("{text:?} is not the status of a piece of work"))
                .with_next("use pending, initiated, processing, completed, failed or cancelled")
        })
    }
}

/// One version of one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// The artifact's key.
    pub key: String,
    /// The version, as the artifact's history names it; the newest one when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl ArtifactRef {
    /// An artifact by its key.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), version: None }
    }

    /// This version of it.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }
}

impl From<&str> for ArtifactRef {
    fn from(key: &str) -> Self {
        Self::new(key)
    }
}

impl From<String> for ArtifactRef {
    fn from(key: String) -> Self {
        Self::new(key)
    }
}

/// What one adapter of one route did with one message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineageRow {
    /// Its id, unique in the namespace.
    pub id: String,
    /// The execution it belongs to.
    pub execution: String,
    /// The route.
    pub route: String,
    /// The adapter.
    pub adapter: String,
    /// The adapter's place in its route, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_index: Option<u32>,
    /// The stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// How it stands.
    pub status: LineageStatus,
    /// What ties together everything that one message became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// The row it came from. It is one of the row's edges, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Whether it came from no other row.
    pub root: bool,
    /// The batch, such as that of a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// The document it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// A hash of what went in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_hash: Option<String>,
    /// A hash of what came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_hash: Option<String>,
    /// The artifact that came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactRef>,
    /// The unit of work that wrote the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// Why it failed or was cancelled.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub error: Value,
    /// Anything else. `url`, `origin` and `title` can be searched for parts of their text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Value>,
    /// What lists and counts look at, worked out from the fields above.
    #[serde(default)]
    pub found_by: FoundBy,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl LineageRow {
    /// The row with what it is found by worked out anew: for rows that are put together by hand.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.found_by = FoundBy::of(&self);
        self
    }

    /// How long it took; `None` before its end.
    pub fn took(&self) -> Option<Duration> {
        self.completed_at.map(|end| end.since(self.started_at))
    }
}

impl Document for LineageRow {
    const COLLECTION: Collection = Collection::new("lineage")
        .version(1)
        .index("execution", FieldKind::Text)
        .index("route", FieldKind::Text)
        .index("adapter", FieldKind::Text)
        .index("stage", FieldKind::Text)
        .index("status", FieldKind::Text)
        .index("correlation", FieldKind::Text)
        .index("parent", FieldKind::Text)
        .index("root", FieldKind::Bool)
        .index("batch", FieldKind::Text)
        .index("document", FieldKind::Text)
        .index("started_at", FieldKind::Timestamp)
        .index("completed_at", FieldKind::Timestamp)
        .index_at("artifact", "/found_by/artifact", FieldKind::Text)
        .index_at("tally", "/found_by/tally", FieldKind::Text)
        .index_at("url", "/found_by/url", FieldKind::Text)
        .index_at("origin", "/found_by/origin", FieldKind::Text)
        .index_at("title", "/found_by/title", FieldKind::Text)
        .index_on(&["execution", "started_at"])
        .index_on(&["route", "started_at"])
        .index_on(&["adapter", "started_at"])
        .index_on(&["stage", "started_at"])
        .index_on(&["status", "started_at"])
        .index_on(&["correlation", "started_at"])
        .index_on(&["parent", "started_at"])
        .index_on(&["root", "started_at"])
        .index_on(&["batch", "started_at"])
        .index_on(&["document", "started_at"])
        .index_on(&["artifact", "started_at"])
        .index_on(&["execution", "completed_at"])
        .index_on(&["status", "completed_at"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str())
    }
}

/// That one row came from another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageEdge {
    /// The row that came from the other.
    pub child: String,
    /// The row it came from.
    pub parent: String,
    /// In which way: [`LineageEdge::PARENT`], [`LineageEdge::DERIVED_FROM`] or a word of the caller's own.
    pub kind: String,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl LineageEdge {
    /// The kind of the edge to a row's parent.
    pub const PARENT: &'static str = "parent";
    /// The kind of the edges to the other rows it came from.
    pub const DERIVED_FROM: &'static str = "derived_from";

    pub(super) fn new(child: &str, parent: &str, kind: &str) -> Self {
        Self { child: child.to_owned(), parent: parent.to_owned(), kind: kind.to_owned(), extra: Extra::new() }
    }
}

impl Document for LineageEdge {
    const COLLECTION: Collection = Collection::new("lineage_edges")
        .version(1)
        .index("child", FieldKind::Text)
        .index("parent", FieldKind::Text)
        .index("kind", FieldKind::Text)
        .owned();

    /// Made from what it says, so that the same edge written twice is one record.
    fn key(&self) -> Result<Key> {
        let short = |text: &str| sha256_hex(text.as_bytes())[..32].to_owned();
        Key::new(format!("{}/{}/{}", short(&self.child), short(&self.parent), short(&self.kind)))
    }
}
