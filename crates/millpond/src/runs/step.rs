//! What happens inside a run: steps and actions, as events of its log.
//!
//! The order of these events is the caller's: they are kept as they come, and a step may be completed that was never
//! started. Each call counts, also a repeated one. A caller who repeats a call whose answer was lost takes the event's
//! part (such as `step_completed_part`) and commits it under a commit id of its own: a commit is applied once.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{MergeOp, NewEvent, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The types of the events in a run's log.
pub mod kinds {
    /// The first event.
    pub const RUN_STARTED: &str = "run.started";
    /// The last event; the log is sealed with it.
    pub const RUN_FINISHED: &str = "run.finished";
    /// A step began.
    pub const STEP_STARTED: &str = "step.started";
    /// A step reached its end.
    pub const STEP_COMPLETED: &str = "step.completed";
    /// A step ended with an error.
    pub const STEP_FAILED: &str = "step.failed";
    /// Something a step did.
    pub const ACTION: &str = "action";
}

/// One step of a run, as its events carry it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The step's id, unique within the run unless a step is repeated.
    pub step: String,
    /// The workflow's node it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The node's type, such as `TOOL_CALL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_type: Option<String>,
    /// What it was given.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// What it gave back.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
    /// How long it took, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<i64>,
    /// Anything else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Value>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Step {
    /// A step by its id.
    pub fn new(step: impl Into<String>) -> Self {
        Self { step: step.into(), ..Self::default() }
    }

    /// The node it stands for.
    #[must_use]
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// The node's type.
    #[must_use]
    pub fn node_type(mut self, node_type: impl Into<String>) -> Self {
        self.node_type = Some(node_type.into());
        self
    }

    /// What it was given.
    #[must_use]
    pub fn input(mut self, input: Value) -> Self {
        self.input = input;
        self
    }

    /// What it gave back.
    #[must_use]
    pub fn output(mut self, output: Value) -> Self {
        self.output = output;
        self
    }

    /// Why it failed.
    #[must_use]
    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }

    /// Adds something it did.
    #[must_use]
    pub fn action(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    /// How long it took.
    #[must_use]
    pub fn took(mut self, duration: Duration) -> Self {
        self.duration_us = Some(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX));
        self
    }

    /// Anything else to keep with it.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: Value) -> Self {
        self.metadata.insert(name.into(), value);
        self
    }
}

impl From<&str> for Step {
    fn from(step: &str) -> Self {
        Self::new(step)
    }
}

/// Something a step did: a tool call, a file read or written, a call of a model, a person's input.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Action {
    /// The type, such as `TOOL_CALL`, `FILE_READ`, `FILE_WRITE`, `LLM_CALL` or `USER_INPUT`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The step that did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The node of that step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When; the commit's time if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The particulars.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Value>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Action {
    /// An action of a type.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }

    /// The step that did it.
    #[must_use]
    pub fn step(mut self, step: impl Into<String>) -> Self {
        self.step = Some(step.into());
        self
    }

    /// The node of that step.
    #[must_use]
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Adds a particular.
    #[must_use]
    pub fn detail(mut self, name: impl Into<String>, value: Value) -> Self {
        self.details.insert(name.into(), value);
        self
    }
}

/// What happened, with the event it becomes and the counters it moves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Happening<'a> {
    Started(&'a Step),
    Completed(&'a Step),
    Failed(&'a Step),
    Acted(&'a Action),
}

impl Happening<'_> {
    pub(super) fn event(self) -> Result<NewEvent> {
        match self {
            Self::Started(step) => NewEvent::of(kinds::STEP_STARTED, step),
            Self::Completed(step) => NewEvent::of(kinds::STEP_COMPLETED, step),
            Self::Failed(step) => NewEvent::of(kinds::STEP_FAILED, step),
            Self::Acted(action) => {
                let mut event = NewEvent::of(kinds::ACTION, action)?;
                event.time = action.time;
                Ok(event)
            }
        }
    }

    pub(super) fn merges(self) -> Vec<MergeOp> {
        let add = |counter: &str, n: usize| MergeOp::Add(format!("/counters/{counter}"), i64::try_from(n).unwrap_or(i64::MAX));
        let (counter, actions) = match self {
            Self::Started(step) => ("steps_started", step.actions.len()),
            Self::Completed(step) => ("steps_completed", step.actions.len()),
            Self::Failed(step) => ("steps_failed", step.actions.len()),
            Self::Acted(_) => return vec![add("actions", 1)],
        };
        let mut ops = vec![add(counter, 1)];
        if actions > 0 {
            ops.push(add("actions", actions));
        }
        ops
    }
}
