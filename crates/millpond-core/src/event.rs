//! Events: what happened, in a stream, at a dense sequence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::json::Json;
use crate::limits;
use crate::name::StreamName;
use crate::position::Position;
use crate::time::Timestamp;

/// An event that is to be appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    /// With an id, an event is appended to its stream once, however often it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What happened, such as `step.completed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened; the commit's time if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// What it belongs together with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// The agent or worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The program or plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The body.
    #[serde(default = "null")]
    pub data: Json,
}

fn null() -> Json {
    Json::from_store("null")
}

impl NewEvent {
    /// An event of a type, with a body.
    pub fn new(kind: impl Into<String>, data: Json) -> Self {
        Self {
            id: None,
            kind: kind.into(),
            time: None,
            correlation: None,
            agent: None,
            source: None,
            labels: BTreeMap::new(),
            data,
        }
    }

    /// An event of a type whose body is anything serialisable.
    ///
    /// # Errors
    /// `Invalid` when the body cannot be kept as JSON.
    pub fn of<T: Serialize + ?Sized>(kind: impl Into<String>, data: &T) -> Result<Self> {
        Ok(Self::new(kind, Json::of(data)?))
    }

    /// Bytes that count against the limits.
    pub fn size(&self) -> usize {
        let texts = [&self.id, &self.correlation, &self.agent, &self.source];
        self.kind.len()
            + self.data.len()
            + texts.into_iter().flatten().map(String::len).sum::<usize>()
            + self.labels.iter().map(|(k, v)| k.len() + v.len() + 6).sum::<usize>()
    }

    /// Checks names and sizes.
    ///
    /// # Errors
    /// `Invalid`, naming the limit and what was found.
    pub fn check(&self) -> Result<()> {
        if self.kind.is_empty() {
            return Err(Error::invalid("an event has an empty type").with_next("name what happened, such as step.completed"));
        }
        let named = [
            ("type", Some(&self.kind)),
            ("id", self.id.as_ref()),
            ("correlation", self.correlation.as_ref()),
            ("agent", self.agent.as_ref()),
            ("source", self.source.as_ref()),
        ];
        let labels = self.labels.iter().flat_map(|(k, v)| [("label", Some(k)), ("label", Some(v))]);
        for (name, text) in named.into_iter().chain(labels) {
            let Some(text) = text else { continue };
            if text.len() > limits::INDEXED_TEXT_BYTES {
                return Err(Error::invalid(format!(
                    "an event's {name} has {} bytes; the limit is {}",
                    text.len(),
                    limits::INDEXED_TEXT_BYTES
                )));
            }
            if text.chars().any(char::is_control) {
                return Err(Error::invalid(format!("an event's {name} {text:?} holds a control character")));
            }
        }
        if self.size() > limits::EVENT_BYTES {
            return Err(Error::invalid(format!(
                "an event of type {:?} has {} bytes; the limit is {}",
                self.kind,
                self.size(),
                limits::EVENT_BYTES
            ))
            .with_next("keep the body as a record or an artifact and name it in the event"));
        }
        Ok(())
    }
}

/// An event as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The stream.
    pub stream: StreamName,
    /// 1, 2, 3 … in its stream.
    pub sequence: u64,
    /// Where in the namespace's history.
    pub position: Position,
    /// The event's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened.
    pub time: Timestamp,
    /// What it belongs together with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// The agent or worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The program or plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The body.
    pub data: Json,
}

/// What is known about a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// The name.
    pub stream: StreamName,
    /// The last sequence given out; 0 before the first event. Never falls.
    pub head: u64,
    /// The oldest sequence kept; `head + 1` when all were trimmed.
    pub oldest: u64,
    /// No event can be appended any more.
    pub sealed: bool,
    /// The position of the last append, seal or trim.
    pub position: Position,
    /// When the stream was last changed.
    pub time: Timestamp,
}
