//! The documents of a session: Prodigy's shape, field for field; fields we do not know are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{Collection, Document, FieldKind, Key, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SessionStatus;
use crate::extra::{Extended, Extra};

/// What a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SessionType {
    /// Steps, one after another.
    Workflow,
    /// Many agents over many items.
    MapReduce,
}

impl SessionType {
    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workflow => "Workflow",
            Self::MapReduce => "MapReduce",
        }
    }
}

impl std::str::FromStr for SessionType {
    type Err = millpond_core::Error;
    fn from_str(text: &str) -> Result<Self> {
        [Self::Workflow, Self::MapReduce].into_iter().find(|t| t.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
            millpond_core::Error::invalid(format!("{text:?} is not the type of a session")).with_next("use workflow or mapreduce")
        })
    }
}

/// One session. Times keep microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The id: the record's key.
    pub id: String,
    /// What it runs.
    pub session_type: SessionType,
    /// How it stands. Changes only by the steps of [`SessionStatus::allowed`].
    pub status: SessionStatus,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was last changed; set by the store's clock, whatever a caller says.
    pub updated_at: Timestamp,
    /// When it was completed, failed or cancelled.
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
    /// Anything.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
    /// Checkpoints that Prodigy embeds. New ones belong to the checkpoints domain: embedded ones make a session grow
    /// without end.
    #[serde(default)]
    pub checkpoints: Vec<SessionCheckpoint>,
    /// How long operations took, by name.
    #[serde(default)]
    pub timings: BTreeMap<String, Duration>,
    /// The last error.
    #[serde(default)]
    pub error: Option<String>,
    /// What a workflow keeps.
    #[serde(default)]
    pub workflow_data: Option<WorkflowData>,
    /// What a map-reduce job keeps.
    #[serde(default)]
    pub mapreduce_data: Option<MapReduceData>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Extended for Session {
    fn extras(&self) -> Vec<&Extra> {
        let checkpoints = self.checkpoints.iter().map(|c| &c.extra);
        let (workflow, job) = (self.workflow_data.iter().map(|w| &w.extra), self.mapreduce_data.iter().map(|m| &m.extra));
        [&self.extra].into_iter().chain(checkpoints).chain(workflow).chain(job).collect()
    }
}

impl Document for Session {
    const COLLECTION: Collection = Collection::new("sessions")
        .version(1)
        .index("status", FieldKind::Text)
        .index("session_type", FieldKind::Text)
        .index("started_at", FieldKind::Timestamp)
        .index("updated_at", FieldKind::Timestamp)
        .index("completed_at", FieldKind::Timestamp)
        .index_at("worktree_name", "/workflow_data/worktree_name", FieldKind::Text)
        .index_at("workflow_id", "/workflow_data/workflow_id", FieldKind::Text)
        .index_at("job_id", "/mapreduce_data/job_id", FieldKind::Text)
        .index_on(&["status", "started_at"])
        .index_on(&["status", "updated_at"])
        .index_on(&["session_type", "started_at"])
        .index_on(&["worktree_name", "started_at"])
        .index_on(&["workflow_id", "started_at"])
        .index_on(&["status", "session_type", "started_at"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str()).map_err(|e| e.with("session", &self.id))
    }
}

impl Session {
    /// How long it ran, or has been running up to its last change.
    pub fn took(&self) -> Duration {
        self.completed_at.unwrap_or(self.updated_at).since(self.started_at)
    }
}

/// A checkpoint inside a session, as Prodigy keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionCheckpoint {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The state it keeps.
    pub state: Value,
    /// Anything.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a session keeps about its workflow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkflowData {
    /// The workflow's id.
    pub workflow_id: String,
    /// The workflow's name.
    pub workflow_name: String,
    /// The step it is at.
    pub current_step: u64,
    /// Steps in all.
    pub total_steps: u64,
    /// Steps that were completed.
    pub completed_steps: Vec<u64>,
    /// Variables.
    pub variables: BTreeMap<String, String>,
    /// Iterations that were completed: a counter, changed by merges.
    pub iterations_completed: i64,
    /// Files that were changed: a counter, changed by merges.
    pub files_changed: i64,
    /// The worktree it works in.
    pub worktree_name: Option<String>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a session keeps about its map-reduce job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapReduceData {
    /// The job.
    pub job_id: String,
    /// Items in all.
    pub total_items: u64,
    /// Items that were processed.
    pub processed_items: u64,
    /// Items that failed.
    pub failed_items: u64,
    /// Agents.
    pub agent_count: u64,
    /// The phase.
    pub phase: MapReducePhase,
    /// What reducing gave.
    #[serde(default)]
    pub reduce_results: Option<Value>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The phase of a map-reduce job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapReducePhase {
    /// Getting ready.
    Setup,
    /// Working on the items.
    Map,
    /// Putting the results together.
    Reduce,
    /// Done.
    Complete,
}

/// A session that is to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSession {
    /// The id; `session-` and a UUIDv7 if left out.
    pub id: Option<String>,
    /// What it runs.
    pub session_type: SessionType,
    /// Anything.
    pub metadata: BTreeMap<String, Value>,
    /// What a workflow keeps.
    pub workflow_data: Option<WorkflowData>,
    /// What a map-reduce job keeps.
    pub mapreduce_data: Option<MapReduceData>,
}

impl NewSession {
    /// A session that runs a workflow.
    pub fn workflow(data: WorkflowData) -> Self {
        let session_type = SessionType::Workflow;
        Self { id: None, session_type, metadata: BTreeMap::new(), workflow_data: Some(data), mapreduce_data: None }
    }

    /// A session that runs a map-reduce job.
    pub fn mapreduce(data: MapReduceData) -> Self {
        let session_type = SessionType::MapReduce;
        Self { id: None, session_type, metadata: BTreeMap::new(), workflow_data: None, mapreduce_data: Some(data) }
    }

    /// Chooses the id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Adds a piece of metadata.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: Value) -> Self {
        self.metadata.insert(name.into(), value);
        self
    }
}

/// What [`crate::Sessions::add_counts`] adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionCounts {
    /// Files that were changed.
    pub files_changed: u32,
    /// Iterations that were completed.
    pub iterations: u32,
}

/// What one session did, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionStats {
    /// How long it ran, or has been running up to its last change, in microseconds.
    pub total_duration_us: u64,
    /// Steps completed, or items processed.
    pub commands_executed: u64,
    /// Items failed, and one more for an error that ended the session.
    pub errors_encountered: u64,
    /// Files changed.
    pub files_modified: i64,
    /// Iterations completed.
    pub iterations_completed: i64,
}

impl SessionStats {
    pub(super) fn of(session: &Session) -> Self {
        let workflow = session.workflow_data.as_ref();
        let job = session.mapreduce_data.as_ref();
        Self {
            total_duration_us: u64::try_from(session.took().as_micros()).unwrap_or(u64::MAX),
            commands_executed: workflow.map_or(0, |w| w.completed_steps.len() as u64) + job.map_or(0, |j| j.processed_items),
            errors_encountered: job.map_or(0, |j| j.failed_items) + u64::from(session.error.is_some()),
            files_modified: workflow.map_or(0, |w| w.files_changed),
            iterations_completed: workflow.map_or(0, |w| w.iterations_completed),
        }
    }
}

/// How many sessions there are, counted by the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SessionTotals {
    /// All of them.
    pub total: u64,
    /// By status.
    pub by_status: BTreeMap<String, u64>,
    /// By type.
    pub by_type: BTreeMap<String, u64>,
    /// When the oldest began.
    pub first_started_at: Option<Timestamp>,
    /// When the newest began.
    pub last_started_at: Option<Timestamp>,
}
