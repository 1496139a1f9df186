//! The documents of a run, and what a caller hands in to make one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millpond_core::{Collection, Document, FieldKind, Json, Key, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text::sha256_hex;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// It goes on; its log is open.
    Running,
    /// It reached its end.
    Completed,
    /// It ended with an error.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// Its process went away. A run that takes the work up again names this one as its parent.
    Interrupted,
}

impl RunStatus {
    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether a run of this status has a sealed log.
    pub fn is_final(self) -> bool {
        self != Self::Running
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for RunStatus {
    type Err = millpond_core::Error;
    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Running, Self::Completed, Self::Failed, Self::Cancelled, Self::Interrupted];
        all.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            millpond_core::Error::invalid(format!("{text:?} is not the status of a run"))
                .with_next("use running, completed, failed, cancelled or interrupted")
        })
    }
}

/// How often what happened in a run. Written by merges, so concurrent steps never conflict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunCounters {
    /// `step.started` events.
    pub steps_started: i64,
    /// `step.completed` events.
    pub steps_completed: i64,
    /// `step.failed` events.
    pub steps_failed: i64,
    /// Actions: `action` events and the actions that steps carried.
    pub actions: i64,
}

/// One execution of one workflow version. Its log is the stream [`Run::stream`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The run's id.
    pub id: String,
    /// The workflow.
    pub workflow: String,
    /// The workflow's version.
    pub version: u32,
    /// How it stands.
    pub status: RunStatus,
    /// When it started, on the store's clock.
    pub started_at: Timestamp,
    /// When it finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The run this one came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The key under which it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// SHA-256 of the configuration it runs with; see [`super::Runs::config`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it was given.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// What it gave back.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Anything else the caller wanted to keep with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Value>,
    /// How often what happened.
    #[serde(default)]
    pub counters: RunCounters,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Run {
    /// The run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The stream of the run's log.
    pub fn stream(&self) -> String {
        stream_of(&self.id)
    }

    /// How long it took; `None` while it runs.
    pub fn took(&self) -> Option<Duration> {
        self.finished_at.map(|end| end.since(self.started_at))
    }
}

/// The stream that holds the log of the run with this id.
pub(crate) fn stream_of(run: &str) -> String {
    format!("{STREAM_PREFIX}{run}")
}

/// What the streams of all runs begin with.
pub(crate) const STREAM_PREFIX: &str = "runs/";

impl Document for Run {
    const COLLECTION: Collection = Collection::new("runs")
        .version(1)
        .index("workflow", FieldKind::Text)
        .index("version", FieldKind::Integer)
        .index("status", FieldKind::Text)
        .index("started_at", FieldKind::Timestamp)
        .index("finished_at", FieldKind::Timestamp)
        .index("parent", FieldKind::Text)
        .index("config", FieldKind::Text)
        .index("tags", FieldKind::TextSet)
        .index("labels", FieldKind::TextSet)
        .index_on(&["workflow", "version", "started_at"])
        .index_on(&["workflow", "started_at"])
        .index_on(&["status", "started_at"])
        .index_on(&["parent", "started_at"])
        .index_on(&["config", "started_at"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str())
    }
}

/// Which run an idempotency key started. Lives as long as the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunKey {
    /// The idempotency key itself; the record's key is its SHA-256.
    pub key: String,
    /// The run it started.
    pub run: String,
    /// SHA-256 of what was asked for, so that the same key with another request is noticed.
    pub request: String,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Document for RunKey {
    const COLLECTION: Collection = Collection::new("run_keys").version(1).owned();

    fn key(&self) -> Result<Key> {
        Key::new(sha256_hex(self.key.as_bytes()))
    }
}

/// A configuration that runs were started with. Never changed; equal ones are kept once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// SHA-256 of the configuration's canonical JSON text.
    pub hash: String,
    /// The configuration.
    pub config: Value,
    /// When a run first used it.
    pub created_at: Timestamp,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Document for RunConfig {
    const COLLECTION: Collection =
        Collection::new("run_configs").version(1).index("created_at", FieldKind::Timestamp).create_only().owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.hash.as_str())
    }
}

/// The configuration of a new run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ConfigChoice {
    /// Kept with the run if it is new.
    Snapshot(Value),
    /// Kept before, named by its hash.
    Known(String),
}

/// A run that is to be started.
///
/// ```
/// # use millpond::NewRun;
/// let new = NewRun::of("etl", 3).idempotency_key("request-17").tag("nightly").input(serde_json::json!({"day": 5}));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    pub(crate) id: Option<String>,
    pub(crate) workflow: String,
    pub(crate) version: u32,
    pub(crate) parent: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) config: Option<ConfigChoice>,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) input: Value,
    pub(crate) metadata: BTreeMap<String, Value>,
}

impl NewRun {
    /// A run of a workflow's version.
    pub fn of(workflow: impl Into<String>, version: u32) -> Self {
        Self {
            id: None,
            workflow: workflow.into(),
            version,
            parent: None,
            idempotency_key: None,
            config: None,
            tags: BTreeSet::new(),
            labels: BTreeMap::new(),
            input: Value::Null,
            metadata: BTreeMap::new(),
        }
    }

    /// An id of one's own; a UUIDv7 if left out. An id is never used twice, not even after the run was deleted.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Makes a retry safe: the same key gives the run it started first, for as long as that run is kept.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// The run this one comes from. It has to exist.
    #[must_use]
    pub fn parent(mut self, run: impl Into<String>) -> Self {
        self.parent = Some(run.into());
        self
    }

    /// The configuration it runs with, kept as it is now. Equal configurations are kept once.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.config = Some(ConfigChoice::Snapshot(config));
        self
    }

    /// A configuration that an earlier run kept, by its hash.
    #[must_use]
    pub fn config_hash(mut self, hash: impl Into<String>) -> Self {
        self.config = Some(ConfigChoice::Known(hash.into()));
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// What it is given. Kept in the run's record, which a step's merge rewrites: name large inputs, do not copy them.
    #[must_use]
    pub fn input(mut self, input: Value) -> Self {
        self.input = input;
        self
    }

    /// Anything else to keep with it.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: Value) -> Self {
        self.metadata.insert(name.into(), value);
        self
    }

    /// The hash of its configuration.
    pub(crate) fn config_key(&self) -> Result<Option<String>> {
        Ok(match &self.config {
            None => None,
            Some(ConfigChoice::Known(hash)) => Some(hash.clone()),
            Some(ConfigChoice::Snapshot(value)) => Some(sha256_hex(Json::from_value(value)?.as_str().as_bytes())),
        })
    }

    /// SHA-256 over what is asked for: everything but the idempotency key.
    pub(crate) fn request_digest(&self) -> Result<String> {
        let request = serde_json::json!({
            "id": self.id, "workflow": self.workflow, "version": self.version, "parent": self.parent,
            "config": self.config_key()?, "tags": self.tags, "labels": self.labels, "input": self.input,
            "metadata": self.metadata,
        });
        Ok(sha256_hex(Json::from_value(&request)?.as_str().as_bytes()))
    }
}

/// How a run ends.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnd {
    pub(crate) status: RunStatus,
    pub(crate) output: Value,
    pub(crate) error: Option<String>,
}

impl RunEnd {
    /// Ends with a status and an output. `running` is refused when the run is finished with it.
    pub fn new(status: RunStatus, output: Value) -> Self {
        Self { status, output, error: None }
    }

    /// It reached its end.
    pub fn completed(output: Value) -> Self {
        Self::new(RunStatus::Completed, output)
    }

    /// It ended with an error.
    pub fn failed(error: impl Into<String>) -> Self {
        Self::new(RunStatus::Failed, Value::Null).error(error)
    }

    /// Somebody ended it.
    pub fn cancelled(reason: impl Into<String>) -> Self {
        Self::new(RunStatus::Cancelled, Value::Null).error(reason)
    }

    /// Its process went away.
    pub fn interrupted(reason: impl Into<String>) -> Self {
        Self::new(RunStatus::Interrupted, Value::Null).error(reason)
    }

    /// What it gave back.
    #[must_use]
    pub fn output(mut self, output: Value) -> Self {
        self.output = output;
        self
    }

    /// Why it did not complete.
    #[must_use]
    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }
}
