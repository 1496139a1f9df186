//! The state a batch works on: what its commits so far have left, and how a refused one is taken back.

use std::collections::HashMap;

use crate::collection::CollectionSpec;
use crate::event::Event;
use crate::name::{RecordId, StreamName};
use crate::plan::current::{Current, CurrentStream, Document};
use crate::plan::state::{State, StoredReceipt};
use crate::position::Position;
use crate::time::Timestamp;

/// The state as the commits so far left it, and as the one being worked out has changed it so far.
pub(super) struct Work {
    pub(super) state: State,
    pub(super) now: Timestamp,
    pub(super) position: Position,
    pub(super) records: HashMap<RecordId, Current>,
    pub(super) record_order: Vec<RecordId>,
    pub(super) streams: HashMap<StreamName, (CurrentStream, Position)>,
    pub(super) stream_order: Vec<StreamName>,
    pub(super) events: Vec<Event>,
    pub(super) event_ids: HashMap<(StreamName, String), u64>,
    pub(super) receipts: Vec<StoredReceipt>,
    /// Who makes the commit being worked out.
    pub(super) by: Option<String>,
    undo: Undo,
}

/// What the commit being worked out has replaced, so that a refusal leaves no trace.
#[derive(Default)]
struct Undo {
    position: Position,
    events: usize,
    records: Vec<(RecordId, Option<Current>)>,
    streams: Vec<(StreamName, Option<(CurrentStream, Position)>)>,
    event_ids: Vec<((StreamName, String), Option<u64>)>,
}

impl Work {
    pub(super) fn new(batch: usize, state: State, now: Timestamp) -> Self {
        let now = now.max(state.namespace.time);
        let position = state.namespace.position;
        Self {
            state,
            now,
            position,
            records: HashMap::with_capacity(batch),
            record_order: Vec::with_capacity(batch),
            streams: HashMap::new(),
            stream_order: Vec::new(),
            events: Vec::with_capacity(batch),
            event_ids: HashMap::new(),
            receipts: Vec::with_capacity(batch),
            by: None,
            undo: Undo::default(),
        }
    }

    /// Begins a commit: what it replaces from here on can be taken back.
    pub(super) fn begin(&mut self) {
        self.undo.position = self.position;
        self.undo.events = self.events.len();
    }

    /// Keeps what the commit has changed.
    pub(super) fn forget_undo(&mut self) {
        self.undo.records.clear();
        self.undo.streams.clear();
        self.undo.event_ids.clear();
    }

    /// Takes back what the refused commit has changed, latest first.
    pub(super) fn take_back(&mut self) {
        self.position = self.undo.position;
        self.events.truncate(self.undo.events);
        while let Some((id, before)) = self.undo.records.pop() {
            match before {
                Some(before) => drop(self.records.insert(id, before)),
                None => {
                    self.records.remove(&id);
                    self.record_order.pop();
                }
            }
        }
        while let Some((name, before)) = self.undo.streams.pop() {
            match before {
                Some(before) => drop(self.streams.insert(name, before)),
                None => {
                    self.streams.remove(&name);
                    self.stream_order.pop();
                }
            }
        }
        while let Some((key, before)) = self.undo.event_ids.pop() {
            match before {
                Some(before) => drop(self.event_ids.insert(key, before)),
                None => drop(self.event_ids.remove(&key)),
            }
        }
    }

    /// The record as the writes so far left it.
    pub(super) fn record(&self, id: &RecordId) -> Current {
        self.records.get(id).cloned().unwrap_or_else(|| Current::of(self.state.records.get(id)))
    }

    /// The stream as the appends so far left it.
    pub(super) fn stream(&self, name: &StreamName) -> CurrentStream {
        if let Some((stream, _)) = self.streams.get(name) {
            return stream.clone();
        }
        match self.state.streams.get(name) {
            Some(s) => CurrentStream { head: s.head, oldest: s.oldest, sealed: s.sealed },
            None => CurrentStream { head: 0, oldest: 1, sealed: false },
        }
    }

    /// Every change takes the next position of the namespace.
    pub(super) fn next_position(&mut self) -> Position {
        self.position = Position(self.position.0 + 1);
        self.position
    }

    /// The revision a record gets next: above its last one, or above what purged tombstones left behind.
    pub(super) fn next_revision(&self, id: &RecordId, last: Option<u64>) -> u64 {
        1 + last.unwrap_or_else(|| self.state.revision_floors.get(&id.collection).copied().unwrap_or(0))
    }

    /// Gives a record its next revision and position. `None` deletes it.
    pub(super) fn set(&mut self, id: &RecordId, last: Option<u64>, document: Option<Document>) -> u64 {
        let revision = self.next_revision(id, last);
        let position = self.next_position();
        let (time, by) = (self.now, self.by.clone());
        let after = match document {
            Some(document) => Current::Live { revision, position, time, by, document },
            None => Current::Gone { revision, position, time, by },
        };
        let replaced = self.records.insert(id.clone(), after);
        if replaced.is_none() {
            self.record_order.push(id.clone());
        }
        self.undo.records.push((id.clone(), replaced));
        revision
    }

    pub(super) fn spec(&self, id: &RecordId) -> Option<&CollectionSpec> {
        self.state.catalog.get(id.collection.as_str()).map(|s| &**s)
    }

    pub(super) fn set_stream(&mut self, name: &StreamName, stream: CurrentStream) {
        let replaced = self.streams.insert(name.clone(), (stream, self.position));
        if replaced.is_none() {
            self.stream_order.push(name.clone());
        }
        self.undo.streams.push((name.clone(), replaced));
    }

    pub(super) fn set_event_id(&mut self, name: &StreamName, id: &str, sequence: u64) {
        let key = (name.clone(), id.to_owned());
        let replaced = self.event_ids.insert(key.clone(), sequence);
        self.undo.event_ids.push((key, replaced));
    }
}
