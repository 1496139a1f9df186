//! What a plan changes, folded: a record or stream that a batch touches many times appears once.

use crate::collection::FieldValue;
use crate::error::Result;
use crate::event::Event;
use crate::json::Json;
use crate::name::{RecordId, StreamName};
use crate::outcome::Outcome;
use crate::plan::state::{NamespaceHead, RecordState, StoredReceipt, StreamState};
use crate::position::Position;
use crate::time::Timestamp;

/// The outcome of each commit, in order, and the changes that make all of them true.
#[derive(Debug)]
pub struct Plan {
    /// One for each commit of the batch.
    pub outcomes: Vec<Result<Outcome>>,
    /// To be applied atomically and durably before any outcome is told.
    pub mutations: Mutations,
}

/// Changes of one namespace.
#[derive(Debug)]
pub struct Mutations {
    /// Records, each once, with its state before the batch and after it.
    pub records: Vec<RecordMutation>,
    /// New events, in position order.
    pub events: Vec<EventMutation>,
    /// Streams, each once. Events below `oldest` go, those of this batch too.
    pub streams: Vec<StreamMutation>,
    /// New receipts.
    pub receipts: Vec<StoredReceipt>,
    /// The namespace's head after the batch.
    pub namespace: NamespaceHead,
}

impl Mutations {
    /// True when there is nothing to apply: the batch held only refusals and replays.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.events.is_empty() && self.streams.is_empty() && self.receipts.is_empty()
    }
}

/// One record's change.
#[derive(Debug)]
pub struct RecordMutation {
    /// Which record.
    pub record: RecordId,
    /// What was stored before the batch.
    pub before: RecordState,
    /// Its revision after.
    pub revision: u64,
    /// Its position after.
    pub position: Position,
    /// The time of the last change.
    pub time: Timestamp,
    /// Who made the last change.
    pub by: Option<String>,
    /// The document and its index fields, or `None` for a tombstone. The fields are those of the declaration in
    /// force, in its order; empty for an undeclared collection.
    pub after: Option<(Json, Vec<FieldValue>)>,
}

/// One new event.
#[derive(Debug)]
pub struct EventMutation {
    /// Index into [`Mutations::streams`].
    pub stream: usize,
    /// The event.
    pub event: Event,
}

/// One stream's change.
#[derive(Debug)]
pub struct StreamMutation {
    /// Which stream.
    pub stream: StreamName,
    /// What was stored before the batch; `None` when it comes into being.
    pub before: Option<StreamState>,
    /// Its last sequence after.
    pub head: u64,
    /// The oldest sequence kept after.
    pub oldest: u64,
    /// Whether it is sealed after.
    pub sealed: bool,
    /// The position of the last change.
    pub position: Position,
    /// The time of the last change.
    pub time: Timestamp,
}
