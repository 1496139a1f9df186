//! The documents of metrics: one fact for each run, and records that add the facts up.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{Collection, Document, Error, FieldKind, Json, Key, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sketch::Sketch;
use crate::extra::{self, Extended, Extra};
use crate::text::{key_segment, micros, sha256_hex};

/// The figures of one run: what a caller hands in, and the fact that is kept.
///
/// ```
/// # use std::time::Duration;
/// # use millpond::Execution;
/// let figures = Execution::new("run-1", "etl", 3)
///     .took(Duration::from_millis(1_250))
///     .tokens(412)
///     .cost_micros(2_600)
///     .operation("llm.call", 2)
///     .node("fetch", Duration::from_millis(900));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// The run. It is counted once, however often it is recorded.
    pub run: String,
    /// The workflow.
    pub workflow: String,
    /// The workflow's version.
    pub version: u32,
    /// Whether it reached its end.
    pub success: bool,
    /// When it ended; the store's time if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// How long it took, in microseconds.
    pub duration_us: i64,
    /// Tokens used.
    pub tokens: i64,
    /// Cost, in millionths of whatever unit the caller counts in.
    pub cost_micros: i64,
    /// How often it did what.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub operations: BTreeMap<String, i64>,
    /// The nodes it executed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeExecution>,
    /// Set by the store: SHA-256 of the figures as they were handed in.
    #[serde(default)]
    pub(super) digest: String,
    /// Anything else the caller wants to keep with it.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Extended for Execution {
    fn extras(&self) -> Vec<&Extra> {
        vec![&self.extra]
    }
}

/// One execution of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeExecution {
    /// The node.
    pub node: String,
    /// How long it took, in microseconds.
    pub duration_us: i64,
    /// Whether it reached its end.
    pub success: bool,
}

/// A duration in whole microseconds.
pub(super) fn to_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Execution {
    /// The figures of a run, which succeeded unless said otherwise.
    pub fn new(run: impl Into<String>, workflow: impl Into<String>, version: u32) -> Self {
        Self {
            run: run.into(),
            workflow: workflow.into(),
            version,
            success: true,
            at: None,
            duration_us: 0,
            tokens: 0,
            cost_micros: 0,
            operations: BTreeMap::new(),
            nodes: Vec::new(),
            digest: String::new(),
            extra: BTreeMap::new(),
        }
    }

    /// The figures of a run of this pond.
    pub fn of(run: &crate::Run) -> Self {
        Self::new(run.id.as_str(), run.workflow.as_str(), run.version)
    }

    /// Whether it reached its end.
    #[must_use]
    pub fn succeeded(mut self, success: bool) -> Self {
        self.success = success;
        self
    }

    /// When it ended.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Self {
        self.at = Some(time);
        self
    }

    /// How long it took.
    #[must_use]
    pub fn took(mut self, duration: Duration) -> Self {
        self.duration_us = to_micros(duration);
        self
    }

    /// Tokens used.
    #[must_use]
    pub fn tokens(mut self, tokens: i64) -> Self {
        self.tokens = tokens;
        self
    }

    /// Cost, in millionths.
    #[must_use]
    pub fn cost_micros(mut self, cost: i64) -> Self {
        self.cost_micros = cost;
        self
    }

    /// Adds to how often it did something.
    #[must_use]
    pub fn operation(mut self, name: impl Into<String>, times: i64) -> Self {
        *self.operations.entry(name.into()).or_default() += times;
        self
    }

    /// Adds a node that reached its end.
    #[must_use]
    pub fn node(self, node: impl Into<String>, duration: Duration) -> Self {
        self.node_execution(node, duration, true)
    }

    /// Adds a node, with whether it reached its end.
    #[must_use]
    pub fn node_execution(mut self, node: impl Into<String>, duration: Duration, success: bool) -> Self {
        self.nodes.push(NodeExecution { node: node.into(), duration_us: to_micros(duration), success });
        self
    }

    /// Checks the figures and signs them, so that another record of the same run can be compared.
    pub(super) fn signed(mut self, now: Timestamp) -> Result<Self> {
        let counts = [self.duration_us, self.tokens, self.cost_micros];
        let nodes = self.nodes.iter().map(|n| n.duration_us);
        if counts.into_iter().chain(self.operations.values().copied()).chain(nodes).any(|n| n < 0) {
            return Err(Error::invalid(format!("the figures of run {} hold a number below 0", self.run)));
        }
        if self.workflow.is_empty() {
            return Err(Error::invalid(format!("the figures of run {} name no workflow", self.run)));
        }
        extra::check(&format!("the record of run {}", self.run), &self)?;
        self.digest = String::new();
        self.digest = sha256_hex(Json::of(&self)?.as_str().as_bytes());
        self.at = self.at.or(Some(now));
        Ok(self)
    }
}

impl Document for Execution {
    const COLLECTION: Collection = Collection::new("executions")
        .version(1)
        .index("workflow", FieldKind::Text)
        .index("version", FieldKind::Integer)
        .index("success", FieldKind::Bool)
        .index("at", FieldKind::Timestamp)
        .index("duration_us", FieldKind::Integer)
        .index("tokens", FieldKind::Integer)
        .index("cost_micros", FieldKind::Integer)
        .index_on(&["workflow", "version", "at"])
        .index_on(&["workflow", "at"])
        .create_only()
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(key_segment(&self.run))
    }
}

/// Sum, smallest and largest of one figure. Exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measure {
    /// The sum.
    pub sum: i64,
    /// The smallest.
    pub min: i64,
    /// The largest.
    pub max: i64,
}

impl Measure {
    /// The measure of one more value.
    pub(super) fn with(self, value: i64, first: bool) -> Self {
        if first {
            return Self { sum: value, min: value, max: value };
        }
        Self { sum: self.sum.saturating_add(value), min: self.min.min(value), max: self.max.max(value) }
    }
}

/// What all runs of a workflow's version add up to. Written by merges only, so no two runs ever conflict over it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSummary {
    /// The workflow.
    pub workflow: String,
    /// The version.
    pub version: u32,
    /// Runs.
    pub executions: i64,
    /// Runs that reached their end.
    pub succeeded: i64,
    /// Runs that did not.
    pub failed: i64,
    /// Durations in microseconds.
    pub duration_us: Measure,
    /// Tokens.
    pub tokens: Measure,
    /// Cost in millionths.
    pub cost_micros: Measure,
    /// Nodes executed.
    pub nodes_executed: i64,
    /// When the earliest run ended, in microseconds since 1970.
    #[serde(with = "micros")]
    pub first_at: Timestamp,
    /// When the latest run ended, in microseconds since 1970.
    #[serde(with = "micros")]
    pub last_at: Timestamp,
    /// The durations' distribution.
    pub durations: Sketch,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Document for MetricSummary {
    const COLLECTION: Collection = Collection::new("metric_summaries")
        .version(1)
        .index("workflow", FieldKind::Text)
        .index("version", FieldKind::Integer)
        .index("executions", FieldKind::Integer)
        .index("last_at", FieldKind::Timestamp)
        .index_on(&["workflow", "version"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(version_key(&self.workflow, self.version))
    }
}

/// The key of what belongs to a workflow's version.
pub(super) fn version_key(workflow: &str, version: u32) -> String {
    format!("{}/{version}", key_segment(workflow))
}

/// The key of what belongs to a name under a workflow's version.
pub(super) fn named_key(workflow: &str, version: u32, name: &str) -> String {
    format!("{}/{}", version_key(workflow, version), key_segment(name))
}

/// How often the runs of a workflow's version did something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationCount {
    /// The workflow.
    pub workflow: String,
    /// The version.
    pub version: u32,
    /// What they did.
    pub operation: String,
    /// How often.
    pub count: i64,
    /// In how many runs.
    pub runs: i64,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Document for OperationCount {
    const COLLECTION: Collection = Collection::new("metric_operations")
        .version(1)
        .index("workflow", FieldKind::Text)
        .index("version", FieldKind::Integer)
        .index("operation", FieldKind::Text)
        .index("count", FieldKind::Integer)
        .index_on(&["workflow", "version", "count"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(named_key(&self.workflow, self.version, &self.operation))
    }
}

/// How long a node took in the runs of a workflow's version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeDurations {
    /// The workflow.
    pub workflow: String,
    /// The version.
    pub version: u32,
    /// The node.
    pub node: String,
    /// How often it was executed.
    pub executions: i64,
    /// How often it did not reach its end.
    pub failed: i64,
    /// Durations in microseconds.
    pub duration_us: Measure,
    /// The durations' distribution.
    pub durations: Sketch,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Document for NodeDurations {
    const COLLECTION: Collection = Collection::new("metric_nodes")
        .version(1)
        .index("workflow", FieldKind::Text)
        .index("version", FieldKind::Integer)
        .index("node", FieldKind::Text)
        .index_at("total_us", "/duration_us/sum", FieldKind::Integer)
        .index_on(&["workflow", "version", "total_us"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(named_key(&self.workflow, self.version, &self.node))
    }
}
