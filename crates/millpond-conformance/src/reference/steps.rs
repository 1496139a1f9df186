//! The steps of the reference engine that a broken engine may take differently. Each default is the honest one.

use std::cmp::Ordering;
use std::fmt::Debug;

use async_trait::async_trait;
use millpond_core::plan::{Plan, State, StoredReceipt};
use millpond_core::{
    Answer, Catalog, Change, Direction, Event, EventFilter, EventGroup, FieldValue, Filter, Group, Host, Json, Namespace,
    Position, PreparedCommit, Query, Record, RecordId, Scalar, Timestamp,
};

use super::data::{NamespaceData, StoredRecord, StreamData};
use super::records::{self, Row};

/// Where engines go wrong, a method for each place. An engine that overrides one differs in one rule.
#[async_trait]
pub trait Steps: Debug + Send + Sync {
    /// The batch as the engine understood it.
    fn batch(&self, batch: Vec<PreparedCommit>, _catalog: &Catalog, _host: &dyn Host) -> Vec<PreparedCommit> {
        batch
    }

    /// Positions given out before the batch is decided, if the engine does such a thing.
    fn reserve(&self, _data: &mut NamespaceData, _batch: &[PreparedCommit]) -> Option<Position> {
        None
    }

    /// Whether the state is loaded before the lock that applies it is taken.
    fn loads_early(&self, _batch: &[PreparedCommit]) -> bool {
        false
    }

    /// Time lost while no lock is held.
    async fn pause(&self, _batch: &[PreparedCommit]) {}

    /// The state as the plan will see it.
    fn loaded(&self, _state: &mut State, _reserved: Option<Position>) {}

    /// The plan as it will be applied and told.
    fn planned(&self, _batch: &[PreparedCommit], _plan: &mut Plan, _data: &mut NamespaceData) {}

    /// Time lost between the first read of a call and the others.
    async fn after_first_read(&self) {}

    /// Whether reads of one call share a snapshot.
    fn one_snapshot(&self) -> bool {
        true
    }

    /// Where a record is kept: under its own name.
    fn place_of(&self, id: &RecordId) -> RecordId {
        id.clone()
    }

    /// The head a stream is left with.
    fn head_of(&self, stream: &StreamData) -> u64 {
        stream.head
    }

    /// The last position of a batch, as it is remembered.
    fn position_after(&self, _before: Position, after: Position) -> Position {
        after
    }

    /// What a get of a record that is not there answers: that it is not there.
    fn absent(&self, _id: &RecordId) -> Option<Record> {
        None
    }

    /// The answers of one call.
    fn answers(&self, _answers: &mut Vec<Answer>) {}

    /// The document that index fields are taken from.
    fn indexed<'d>(&self, stored: &'d StoredRecord) -> Option<&'d Json> {
        stored.document.as_ref()
    }

    /// The moment up to which a purge forgets.
    fn purges_before(&self, before: Timestamp) -> Timestamp {
        before
    }

    /// Whether a receipt is kept.
    fn remembers(&self, _receipt: &StoredReceipt) -> bool {
        true
    }

    /// Whether rows from before a declaration are filled in.
    fn backfills(&self) -> bool {
        true
    }

    /// Whether a purge remembers the revisions, positions and ids it forgets.
    fn raises_floors(&self) -> bool {
        true
    }

    /// Whether a declaration is held against the one before it.
    fn checks_declarations(&self) -> bool {
        true
    }

    /// How many records a count finds, given those it should and the tombstones of the collection.
    fn counted(&self, records: u64, _tombstones: u64) -> u64 {
        records
    }

    /// Whether more groups than were asked for are refused.
    fn refuses_more_groups(&self) -> bool {
        true
    }

    /// The groups of records.
    fn groups(&self, _groups: &mut Vec<Group>) {}

    /// The groups of events.
    fn event_groups(&self, _groups: &mut Vec<EventGroup>) {}

    /// Whether a filter takes an event.
    fn takes_event(&self, filter: &EventFilter, event: &Event) -> bool {
        filter.takes(event)
    }

    /// Whether an event lies beyond a position in a direction.
    fn event_beyond(&self, event: Position, after: Position, direction: Direction) -> bool {
        match direction {
            Direction::Ascending => event > after,
            Direction::Descending => event < after,
        }
    }

    /// Whether a value meets a condition.
    fn takes(&self, filter: &Filter, value: &FieldValue) -> bool {
        records::takes(filter, value)
    }

    /// The rows, before they are sorted.
    fn before_sorting(&self, _rows: &mut Vec<Row>, _query: &Query) {}

    /// The order of two values.
    fn compare(&self, a: Option<&Scalar>, b: Option<&Scalar>) -> Ordering {
        records::compare(a, b)
    }

    /// Whether a row comes after a cursor: by value and key, and by value alone where it is not ordered by key.
    fn beyond(&self, by_value_and_key: Ordering, _by_value: Option<Ordering>) -> bool {
        by_value_and_key == Ordering::Greater
    }

    /// Whether a change comes after a cursor.
    fn change_beyond(&self, change: Position, after: Position) -> bool {
        change > after
    }

    /// How many changes a page of a feed holds at most.
    fn feed_limit(&self, asked: usize) -> usize {
        asked
    }

    /// The changes after a cursor, before they are cut into a page.
    fn feed(&self, _changes: &mut Vec<Change>) {}

    /// Whether a cursor before something forgotten is refused.
    fn expires_cursors(&self) -> bool {
        true
    }

    /// Whether a hint ever comes.
    fn hints(&self) -> bool {
        true
    }

    /// Whether streams are listed.
    fn lists_streams(&self) -> bool {
        true
    }

    /// Whether collections are listed.
    fn lists_collections(&self) -> bool {
        true
    }

    /// Whether making a namespace that exists is refused.
    fn refuses_to_make_again(&self) -> bool {
        true
    }

    /// Whether a namespace that does not exist comes into being by a read or a commit.
    fn makes_by_use(&self) -> bool {
        false
    }

    /// Whether deleting a namespace asks for its store id.
    fn confirms_delete(&self) -> bool {
        true
    }

    /// The store id of a new namespace.
    fn store_id(&self, _namespace: &Namespace, fresh: String) -> String {
        fresh
    }
}

/// Takes every step as it should be taken.
#[derive(Debug, Clone, Copy)]
pub struct Honest;

impl Steps for Honest {}
