//! What failed: Prodigy's dead-lettered item, field for field; fields we do not know are kept.

use std::collections::BTreeMap;

use millpond_core::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What kind of failure it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ErrorType {
    /// It took too long.
    Timeout,
    /// A command failed.
    CommandFailed {
        /// The command's exit code.
        exit_code: i64,
    },
    /// What was committed was not accepted.
    CommitValidationFailed,
    /// The worktree could not be made or used.
    WorktreeError,
    /// Changes did not merge.
    MergeConflict,
    /// The result was not accepted.
    ValidationFailed,
    /// Memory, disk or quota ran out.
    ResourceExhausted,
    /// Nobody knows.
    Unknown,
    /// A kind that this version does not know, as it was written.
    #[serde(untagged)]
    Other(Value),
}

impl ErrorType {
    /// The name alone, as filters use it: `CommandFailed` for every exit code.
    pub fn name(&self) -> String {
        let name = match self {
            Self::Timeout => "Timeout",
            Self::CommandFailed { .. } => "CommandFailed",
            Self::CommitValidationFailed => "CommitValidationFailed",
            Self::WorktreeError => "WorktreeError",
            Self::MergeConflict => "MergeConflict",
            Self::ValidationFailed => "ValidationFailed",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::Unknown => "Unknown",
            Self::Other(Value::String(name)) => name,
            Self::Other(Value::Object(map)) => map.keys().next().map_or("Other", String::as_str),
            Self::Other(_) => "Other",
        };
        name.chars().take(100).collect()
    }

    /// The name and what belongs to it, as signatures use it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::CommandFailed { exit_code } => format!("CommandFailed {{ exit_code: {exit_code} }}"),
            other => other.name(),
        }
    }
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct FailureDetail {
    /// 1, 2, 3 …
    pub attempt_number: u32,
    /// When it failed.
    pub timestamp: Timestamp,
    /// How.
    pub error_type: ErrorType,
    /// In words.
    pub error_message: String,
    /// What the error was wrapped in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_context: Option<Vec<String>>,
    /// The stack.
    #[serde(default)]
    pub stack_trace: Option<String>,
    /// The agent that tried.
    #[serde(default)]
    pub agent_id: String,
    /// The step that failed.
    #[serde(default)]
    pub step_failed: String,
    /// How long the attempt took, in microseconds. Read also from Prodigy's `duration_ms`.
    #[serde(default)]
    pub duration_us: u64,
    /// Where the agent's log is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_log_location: Option<String>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The name Prodigy and letters written earlier have for how long an attempt took, in milliseconds.
const MILLISECONDS: &str = "duration_ms";

impl<'de> Deserialize<'de> for FailureDetail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // With `remote`, this is the derived function and not this one again.
        let mut failure = Self::deserialize(deserializer)?;
        if failure.duration_us == 0
            && let Some(millis) = failure.extra.get(MILLISECONDS).and_then(Value::as_u64)
        {
            failure.duration_us = millis.saturating_mul(1_000);
            failure.extra.remove(MILLISECONDS);
        }
        Ok(failure)
    }
}

impl Serialize for FailureDetail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl FailureDetail {
    /// A failure with a type and a message.
    pub fn of(timestamp: Timestamp, error_type: ErrorType, message: impl Into<String>) -> Self {
        Self {
            attempt_number: 1,
            timestamp,
            error_type,
            error_message: message.into(),
            error_context: None,
            stack_trace: None,
            agent_id: String::new(),
            step_failed: String::new(),
            duration_us: 0,
            json_log_location: None,
            extra: BTreeMap::new(),
        }
    }
}

/// What a failed agent left behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorktreeArtifacts {
    /// Where.
    pub worktree_path: String,
    /// On which branch.
    pub branch_name: String,
    /// Changes that were not committed.
    #[serde(default)]
    pub uncommitted_changes: Option<String>,
    /// Logs.
    #[serde(default)]
    pub error_logs: Option<String>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A work item that failed too often: what a caller adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetteredItem {
    /// The item; unique within its job.
    pub item_id: String,
    /// The item's data.
    pub item_data: Value,
    /// When it was first tried.
    pub first_attempt: Timestamp,
    /// When it was last tried.
    pub last_attempt: Timestamp,
    /// How often it failed.
    pub failure_count: u32,
    /// The attempts, oldest first; the newest hundred are kept.
    #[serde(default)]
    pub failure_history: Vec<FailureDetail>,
    /// What failures of the same cause share; made from the newest attempt when left empty.
    #[serde(default)]
    pub error_signature: String,
    /// What the failed agent left behind.
    #[serde(default)]
    pub worktree_artifacts: Option<WorktreeArtifacts>,
    /// Whether it may be claimed.
    pub reprocess_eligible: bool,
    /// Whether a person has to look at it.
    pub manual_review_required: bool,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl DeadLetteredItem {
    /// An item that failed once and may be tried again.
    pub fn of(item_id: impl Into<String>, item_data: Value, failure: FailureDetail) -> Self {
        Self {
            item_id: item_id.into(),
            item_data,
            first_attempt: failure.timestamp,
            last_attempt: failure.timestamp,
            failure_count: 1,
            failure_history: vec![failure],
            error_signature: String::new(),
            worktree_artifacts: None,
            reprocess_eligible: true,
            manual_review_required: false,
            extra: BTreeMap::new(),
        }
    }
}
