//! What a feed or an event query selects, and the pages it comes in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::name::{CollectionName, StreamName};
use crate::position::Position;
use crate::query::{Damaged, Direction};
use crate::record::{Deleted, Record};
use crate::time::Timestamp;

/// Which streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamSelect {
    /// This one.
    Exactly(StreamName),
    /// Those whose name begins with this, by bytes.
    Prefix(String),
}

/// Conditions on events; all of them hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventFilter {
    /// Which streams; all if left out.
    pub stream: Option<StreamSelect>,
    /// Type patterns, any of them: `*` stands for any run of characters, everything else for itself.
    pub types: Vec<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The correlation.
    pub correlation: Option<String>,
    /// The source.
    pub source: Option<String>,
    /// Labels the event has, with these values.
    pub labels: BTreeMap<String, String>,
    /// At or after this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

impl EventFilter {
    /// Every event.
    pub fn all() -> Self {
        Self::default()
    }

    /// Events of one stream.
    pub fn stream(stream: StreamName) -> Self {
        Self { stream: Some(StreamSelect::Exactly(stream)), ..Self::default() }
    }

    /// Events of streams whose name begins with this.
    pub fn streams(prefix: impl Into<String>) -> Self {
        Self { stream: Some(StreamSelect::Prefix(prefix.into())), ..Self::default() }
    }

    /// Adds a type pattern.
    #[must_use]
    pub fn kind(mut self, pattern: impl Into<String>) -> Self {
        self.types.push(pattern.into());
        self
    }

    /// Checks sizes.
    ///
    /// # Errors
    /// `Invalid` when a pattern is empty or there are too many.
    pub fn check(&self) -> Result<()> {
        if self.types.len() > 64 || self.types.iter().any(|t| t.is_empty() || t.len() > crate::limits::INDEXED_TEXT_BYTES) {
            return Err(Error::invalid("an event filter takes up to 64 type patterns of 1 to 1,024 bytes"));
        }
        if self.labels.len() > crate::limits::FILTERS {
            return Err(Error::invalid(format!(
                "{} labels in one event filter; the limit is {}",
                self.labels.len(),
                crate::limits::FILTERS
            )));
        }
        Ok(())
    }

    /// True when the filter takes this event. Engines may use it; SQL engines ask the same in SQL.
    pub fn takes(&self, event: &Event) -> bool {
        let stream = match &self.stream {
            None => true,
            Some(StreamSelect::Exactly(name)) => event.stream == *name,
            Some(StreamSelect::Prefix(prefix)) => event.stream.as_str().starts_with(prefix.as_str()),
        };
        let same = |want: &Option<String>, have: &Option<String>| want.is_none() || want == have;
        stream
            && (self.types.is_empty() || self.types.iter().any(|p| glob(p, &event.kind)))
            && same(&self.agent, &event.agent)
            && same(&self.correlation, &event.correlation)
            && same(&self.source, &event.source)
            && self.labels.iter().all(|(k, v)| event.labels.get(k) == Some(v))
            && self.from.is_none_or(|t| event.time >= t)
            && self.to.is_none_or(|t| event.time < t)
    }
}

/// Matches a pattern in which `*` stands for any run of characters.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What a feed shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Events. Complete: each one is shown.
    Events(EventFilter),
    /// Records: the latest state of each key, deletes included.
    Records {
        /// The collection.
        collection: CollectionName,
        /// Keys that begin with this, by bytes.
        #[serde(default)]
        key_prefix: String,
    },
}

impl Selector {
    /// Events whose type matches a pattern.
    pub fn types(pattern: impl Into<String>) -> Self {
        Self::Events(EventFilter::all().kind(pattern))
    }

    /// Events of one stream.
    pub fn stream(stream: StreamName) -> Self {
        Self::Events(EventFilter::stream(stream))
    }

    /// All records of a collection.
    pub fn collection(collection: CollectionName) -> Self {
        Self::Records { collection, key_prefix: String::new() }
    }
}

/// A request for one page of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRequest {
    /// What to show.
    pub selector: Selector,
    /// Everything after this position; `None` begins at the oldest that is kept.
    pub after: Option<Position>,
    /// At most this many changes.
    pub limit: usize,
}

/// One change of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// An event.
    Event(Event),
    /// A record's latest state.
    Record(Record),
    /// A record that was deleted.
    Deleted(Deleted),
}

impl Change {
    /// Its position.
    pub fn position(&self) -> Position {
        match self {
            Self::Event(e) => e.position,
            Self::Record(r) => r.position,
            Self::Deleted(d) => d.position,
        }
    }
}

/// A page of a feed, in position order.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedPage {
    /// The changes.
    pub changes: Vec<Change>,
    /// Everything the selector takes up to here has been shown: where to go on.
    pub next: Position,
    /// The namespace's last position when the page was read. `next == head` means there is nothing more yet.
    pub head: Position,
    /// What did not read back.
    pub damaged: Vec<Damaged>,
}

/// A query over events, in position order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Conditions.
    pub filter: EventFilter,
    /// Oldest first or newest first.
    pub direction: Direction,
    /// Continue beyond this position, in the query's direction.
    pub after: Option<Position>,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
}

impl EventQuery {
    /// Oldest first, 1,000 at a time.
    pub fn new(filter: EventFilter) -> Self {
        Self { filter, direction: Direction::Ascending, after: None, limit: 1_000 }
    }

    /// Newest first.
    #[must_use]
    pub fn newest_first(mut self) -> Self {
        self.direction = Direction::Descending;
        self
    }

    /// Continue after a position.
    #[must_use]
    pub fn after(mut self, after: Option<Position>) -> Self {
        self.after = after;
        self
    }

    /// At most this many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// One page of events.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The events.
    pub items: Vec<Event>,
    /// Where to go on; `None` on the last page.
    pub next: Option<Position>,
    /// Events that do not read back.
    pub damaged: Vec<Damaged>,
}

/// What events are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventGroupBy {
    /// The type.
    Kind,
    /// The stream.
    Stream,
    /// The agent.
    Agent,
}

/// Events that share a type, stream or agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventGroup {
    /// The shared value; `None` for events without an agent.
    pub value: Option<String>,
    /// How many.
    pub count: u64,
    /// How many have `"success": true` in their body.
    pub succeeded: u64,
    /// How many have `"success": false` in their body.
    pub failed: u64,
    /// The earliest time.
    pub first: Timestamp,
    /// The latest time.
    pub last: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("page.*", "page.fetched", true),
            ("page.*", "page", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("a*a", "a", false),
            ("[x]?", "[x]?", true),
            ("[x]?", "xy", false),
            ("*.done", "step.done", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
