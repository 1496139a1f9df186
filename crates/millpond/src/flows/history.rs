//! The history of flows: an immutable record for each version, written in the commit that made it.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{Collection, Document, Error, FieldKind, Key, Page, PageCursor, Query, Result, Timestamp, Versioned};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Flows;
use super::model::Flow;

/// What made a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowChange {
    /// Created, perhaps again.
    Created,
    /// Edited.
    Updated,
    /// Deployed.
    Deployed,
    /// Started.
    Started,
    /// Stopped.
    Stopped,
    /// Undeployed.
    Undeployed,
    /// Marked as failed.
    Failed,
    /// Deleted: the flow in this record is the last one there was.
    Deleted,
}

impl FlowChange {
    /// The type of the event in the flow's stream, such as `flow.deployed`.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Created => "flow.created",
            Self::Updated => "flow.updated",
            Self::Deployed => "flow.deployed",
            Self::Started => "flow.started",
            Self::Stopped => "flow.stopped",
            Self::Undeployed => "flow.undeployed",
            Self::Failed => "flow.failed",
            Self::Deleted => "flow.deleted",
        }
    }
}

/// One version of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowVersion {
    /// The flow's id.
    pub id: String,
    /// The version.
    pub version: i64,
    /// From when on it held. Later than the version before, always.
    pub at: Timestamp,
    /// What made it.
    pub change: FlowChange,
    /// Who made it, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_by: Option<String>,
    /// The whole flow.
    pub flow: Flow,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl FlowVersion {
    pub(super) fn key_of(id: &str, version: i64) -> Result<Key> {
        Key::new(format!("{id}@{version}"))
    }
}

impl Document for FlowVersion {
    const COLLECTION: Collection = Collection::new("flow_versions")
        .version(1)
        .create_only()
        .owned()
        .index("id", FieldKind::Text)
        .index("version", FieldKind::Integer)
        .index("at", FieldKind::Timestamp)
        .index("change", FieldKind::Text)
        .index_on(&["id", "version"])
        .index_on(&["id", "at"]);

    fn key(&self) -> Result<Key> {
        Self::key_of(&self.id, self.version)
    }
}

impl Flows {
    /// The versions of a flow, newest first; also of one that was deleted.
    ///
    /// # Errors
    /// `Invalid` for a limit out of range or a cursor of another list.
    pub async fn versions(&self, id: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<FlowVersion>>> {
        let query = history(id)?.order_desc("version").limit(limit).after(after);
        self.history().page(query).await.map_err(|e| e.during("flows.versions"))
    }

    /// One version of a flow.
    ///
    /// # Errors
    /// `Corrupt` when it does not read back.
    pub async fn at_version(&self, id: &str, version: i64) -> Result<Option<Versioned<FlowVersion>>> {
        let key = FlowVersion::key_of(id, version)?;
        self.history().get(key.as_str()).await.map_err(|e| e.during("flows.at_version"))
    }

    /// The flow as it was at a moment; `None` when it did not exist then.
    ///
    /// # Errors
    /// `Corrupt` when that version does not read back.
    pub async fn as_of(&self, id: &str, time: Timestamp) -> Result<Option<Versioned<FlowVersion>>> {
        let query = history(id)?.below("at", time.plus(Duration::from_micros(1))).order_desc("at").limit(1);
        let mut page = self.history().page(query).await.map_err(|e| e.during("flows.as_of"))?;
        match (page.items.pop(), page.damaged.pop()) {
            (None, Some(damaged)) => Err(Error::corrupt(format!("{}: {}", damaged.what, damaged.why)).during("flows.as_of")),
            (found, _) => Ok(found.filter(|v| v.change != FlowChange::Deleted)),
        }
    }

    /// The unified diff of two versions of a flow, as indented JSON; empty when they are equal.
    ///
    /// # Errors
    /// `NotFound` when one does not exist.
    pub async fn diff(&self, id: &str, old: i64, new: i64) -> Result<String> {
        let before = self.version_text(id, old).await.map_err(|e| e.during("flows.diff"))?;
        let after = self.version_text(id, new).await.map_err(|e| e.during("flows.diff"))?;
        Ok(crate::diff::unified(&format!("{id}@{old}"), &before, &format!("{id}@{new}"), &after))
    }

    async fn version_text(&self, id: &str, version: i64) -> Result<String> {
        let missing = || Error::not_found(format!("flow {id:?} has no version {version}")).with_next("list its versions");
        let found = self.at_version(id, version).await?.ok_or_else(missing)?;
        let value = serde_json::to_value(&found.value.flow);
        let text = value.and_then(|v| serde_json::to_string_pretty(&v));
        text.map(|t| t + "\n").map_err(|e| Error::corrupt("a stored flow cannot be written as JSON").with_source(e))
    }
}

pub(super) fn history(id: &str) -> Result<Query> {
    Ok(Query::new(FlowVersion::COLLECTION.name())?.eq("id", id))
}
