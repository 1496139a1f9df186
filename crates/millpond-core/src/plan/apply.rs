//! `plan` itself: each commit is worked out in place, and taken back unless it holds as a whole.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::collection::{CollectionSpec, FieldValue};
use crate::commit::{Append, Commit, PreparedCommit, PreparedFields, Write};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::json::{self, Json};
use crate::limits;
use crate::merge::MergeOp;
use crate::name::{RecordId, StreamName};
use crate::outcome::{Appended, Conflict, Expected, Found, Outcome, Receipt};
use crate::plan::check;
use crate::plan::mutations::{EventMutation, Mutations, Plan, RecordMutation, StreamMutation};
use crate::plan::state::{NamespaceHead, RecordState, State, StoredReceipt, StreamState};
use crate::position::Position;
use crate::time::Timestamp;

/// Decides a batch: pure and deterministic. `now` is the store's clock; it never falls below the last commit's time.
///
/// Each commit sees what the ones before it in the batch did. A commit that is refused leaves no trace.
pub fn plan(batch: &[PreparedCommit], state: State, now: Timestamp) -> Plan {
    let mut work = Work::new(batch.len(), state, now);
    let outcomes = batch.iter().map(|commit| work.decide(commit)).collect();
    Plan { outcomes, mutations: work.finish() }
}

/// Why a commit was not applied: a failed expectation is an outcome, anything else an error.
pub(super) enum Refusal {
    Conflict(Box<Conflict>),
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(Box::new(conflict))
    }
}

/// A document on its way through a batch. Merges keep the parsed value, so that a hot one is parsed once a batch.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Stored(Option<Json>),
    Text(Json, Option<Vec<FieldValue>>),
    Merged { value: Value, size_bound: usize, fields: Vec<FieldValue> },
}

/// A record's present state while a batch is being decided.
#[derive(Debug, Clone)]
pub(super) enum Current {
    Never,
    Live { revision: u64, position: Position, time: Timestamp, by: Option<String>, document: Document },
    Gone { revision: u64, position: Position, time: Timestamp, by: Option<String> },
}

impl Current {
    fn of(state: Option<&RecordState>) -> Self {
        match state {
            None | Some(RecordState::Never) => Self::Never,
            Some(RecordState::Live { revision, time, by, document, .. }) => Self::Live {
                revision: *revision,
                position: Position::ZERO,
                time: *time,
                by: by.clone(),
                document: Document::Stored(document.clone()),
            },
            Some(RecordState::Gone { revision, .. }) => {
                Self::Gone { revision: *revision, position: Position::ZERO, time: Timestamp::default(), by: None }
            }
        }
    }

    /// The last revision, if there ever was one that is remembered.
    pub(super) fn last_revision(&self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::Live { revision, .. } | Self::Gone { revision, .. } => Some(*revision),
        }
    }

    pub(super) fn found(&self) -> Found {
        match self {
            Self::Never => Found::Absent { revision: 0 },
            Self::Gone { revision, .. } => Found::Absent { revision: *revision },
            Self::Live { revision, time, by, .. } => Found::Record { revision: *revision, time: *time, by: by.clone() },
        }
    }

    pub(super) fn value(&self) -> Result<Option<Value>> {
        match self {
            Self::Live { document: Document::Stored(Some(json)) | Document::Text(json, _), .. } => json.value().map(Some),
            Self::Live { document: Document::Merged { value, .. }, .. } => Ok(Some(value.clone())),
            Self::Live { document: Document::Stored(None), .. } => {
                Err(Error::corrupt("the engine did not load a document that the plan needs"))
            }
            _ => Ok(None),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct CurrentStream {
    pub(super) head: u64,
    pub(super) oldest: u64,
    pub(super) sealed: bool,
}

/// The state as the commits so far left it, and as the one being worked out has changed it so far.
pub(super) struct Work {
    pub(super) state: State,
    pub(super) now: Timestamp,
    position: Position,
    records: HashMap<RecordId, Current>,
    record_order: Vec<RecordId>,
    streams: HashMap<StreamName, (CurrentStream, Position)>,
    stream_order: Vec<StreamName>,
    events: Vec<Event>,
    event_ids: HashMap<(StreamName, String), u64>,
    receipts: Vec<StoredReceipt>,
    /// Who makes the commit being worked out.
    by: Option<String>,
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
    fn new(batch: usize, state: State, now: Timestamp) -> Self {
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

    fn decide(&mut self, prepared: &PreparedCommit) -> Result<Outcome> {
        if let Some(stored) = self.state.receipts.get(&prepared.id()) {
            return check::replay(prepared, stored);
        }
        check::namespace(&self.state.namespace)?;
        check::id_age(prepared, &self.state.namespace, self.now)?;
        self.undo.position = self.position;
        self.undo.events = self.events.len();
        match self.work_out(prepared) {
            Ok((revisions, sequences)) => {
                self.forget_undo();
                Ok(Outcome::Committed(self.remember(prepared, revisions, sequences)))
            }
            Err(refusal) => {
                self.take_back();
                match refusal {
                    Refusal::Conflict(conflict) => Ok(Outcome::Conflict(*conflict)),
                    Refusal::Error(error) => Err(error),
                }
            }
        }
    }

    fn work_out(&mut self, prepared: &PreparedCommit) -> Result<(Vec<u64>, Vec<Appended>), Refusal> {
        let commit = prepared.commit();
        self.by.clone_from(&commit.by);
        for (index, expectation) in commit.expect.iter().enumerate() {
            check::expectation(self, index, expectation)?;
        }
        let mut revisions = Vec::with_capacity(commit.writes.len());
        for (write, fields) in commit.writes.iter().zip(prepared.fields()) {
            revisions.push(self.write(commit, write, fields.as_ref())?);
        }
        let sequences = commit.appends.iter().map(|a| self.append(a)).collect::<Result<Vec<_>, Refusal>>()?;
        for trim in &commit.trims {
            self.trim(commit, &trim.stream, trim.before)?;
        }
        for stream in &commit.seals {
            let sealed = CurrentStream { sealed: true, ..self.stream(stream) };
            self.set_stream(stream, sealed);
        }
        Ok((revisions, sequences))
    }

    fn forget_undo(&mut self) {
        self.undo.records.clear();
        self.undo.streams.clear();
        self.undo.event_ids.clear();
    }

    /// Takes back what the refused commit has changed, latest first.
    fn take_back(&mut self) {
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

    fn remember(&mut self, prepared: &PreparedCommit, revisions: Vec<u64>, sequences: Vec<Appended>) -> Receipt {
        let (id, position, time) = (prepared.id(), self.position, self.now);
        let receipt = Receipt { id, position, time, revisions, sequences, replayed: false };
        let stored = StoredReceipt { digest: *prepared.digest(), receipt: receipt.clone() };
        if !prepared.is_fresh() {
            self.state.receipts.insert(id, stored.clone());
        }
        self.receipts.push(stored);
        receipt
    }

    fn finish(mut self) -> Mutations {
        let mut records = Vec::with_capacity(self.record_order.len());
        for id in std::mem::take(&mut self.record_order) {
            if let Some(current) = self.records.remove(&id) {
                let before = self.state.records.remove(&id).unwrap_or(RecordState::Never);
                let spec = self.state.catalog.get(id.collection.as_str());
                records.extend(record_mutation(id, before, current, spec.map(|s| &**s)));
            }
        }
        let mut index = HashMap::with_capacity(self.stream_order.len());
        let mut streams = Vec::with_capacity(self.stream_order.len());
        for name in std::mem::take(&mut self.stream_order) {
            if let Some((current, position)) = self.streams.remove(&name) {
                index.insert(name.clone(), streams.len());
                let before = self.state.streams.remove(&name);
                streams.push(stream_mutation(name, before, &current, position, self.now));
            }
        }
        // Events of one stream mostly follow each other: look its place up once.
        let mut last: Option<(StreamName, usize)> = None;
        let mut events = Vec::with_capacity(self.events.len());
        for event in self.events {
            let stream = match &last {
                Some((name, at)) if *name == event.stream => *at,
                _ => {
                    let Some(at) = index.get(&event.stream).copied() else { continue };
                    last = Some((event.stream.clone(), at));
                    at
                }
            };
            events.push(EventMutation { stream, event });
        }
        let changed = !self.receipts.is_empty();
        Mutations {
            records,
            events,
            streams,
            receipts: self.receipts,
            namespace: NamespaceHead {
                position: self.position,
                time: if changed { self.now } else { self.state.namespace.time },
                ..self.state.namespace
            },
        }
    }
}

fn record_mutation(
    record: RecordId,
    before: RecordState,
    current: Current,
    spec: Option<&CollectionSpec>,
) -> Option<RecordMutation> {
    match current {
        Current::Never => None,
        // Created and deleted inside one batch leaves a tombstone too: its revision must not come again.
        Current::Gone { revision, position, time, by } => {
            Some(RecordMutation { record, before, revision, position, time, by, after: None })
        }
        Current::Live { revision, position, time, by, document } => {
            let after = match document {
                Document::Text(json, fields) => (json, fields.unwrap_or_default()),
                Document::Merged { value, fields, .. } => (Json::from_checked(&value), fields),
                Document::Stored(_) => return None,
            };
            debug_assert!(spec.is_none_or(|s| s.fields.len() == after.1.len()));
            Some(RecordMutation { record, before, revision, position, time, by, after: Some(after) })
        }
    }
}

fn stream_mutation(
    stream: StreamName,
    before: Option<StreamState>,
    current: &CurrentStream,
    position: Position,
    time: Timestamp,
) -> StreamMutation {
    StreamMutation { stream, before, head: current.head, oldest: current.oldest, sealed: current.sealed, position, time }
}

impl Work {
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

    fn next_position(&mut self) -> Position {
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

    fn write(&mut self, commit: &Commit, write: &Write, prepared: Option<&PreparedFields>) -> Result<u64, Refusal> {
        match write {
            Write::Put(id, json) => {
                check::may_write(commit, id, self.spec(id))?;
                let before = self.record(id);
                self.check_create_only(id, &before)?;
                let fields = self.put_fields(id, json, prepared)?;
                Ok(self.set(id, before.last_revision(), Some(Document::Text(json.clone(), fields))))
            }
            Write::Delete(id) => {
                check::may_write(commit, id, self.spec(id))?;
                match self.record(id) {
                    before @ Current::Live { .. } => Ok(self.set(id, before.last_revision(), None)),
                    _ => Ok(0),
                }
            }
            Write::Merge(id, ops) => {
                check::may_write(commit, id, self.spec(id))?;
                self.merge(id, ops)
            }
            Write::Acquire(_) | Write::Renew { .. } | Write::Release { .. } | Write::Break { .. } => self.lease_write(write),
        }
    }

    fn spec(&self, id: &RecordId) -> Option<&CollectionSpec> {
        self.state.catalog.get(id.collection.as_str()).map(|s| &**s)
    }

    fn check_create_only(&self, id: &RecordId, before: &Current) -> Result<(), Refusal> {
        let exists = matches!(before, Current::Live { .. });
        if exists && self.spec(id).is_some_and(|s| s.create_only) {
            return Err(Conflict { index: None, expected: Expected::CreateOnly(id.clone()), found: before.found() }.into());
        }
        Ok(())
    }

    /// The fields as the caller took them out, or taken out again when the declaration changed in between.
    fn put_fields(&self, id: &RecordId, json: &Json, prepared: Option<&PreparedFields>) -> Result<Option<Vec<FieldValue>>> {
        let Some(spec) = self.state.catalog.get(id.collection.as_str()) else { return Ok(None) };
        match prepared {
            Some(p) if std::sync::Arc::ptr_eq(&p.spec, spec) || p.spec.fields == spec.fields => Ok(Some(p.values.clone())),
            _ => spec.extract(&json.value()?).map(Some),
        }
    }

    fn merge(&mut self, id: &RecordId, ops: &[MergeOp]) -> Result<u64, Refusal> {
        let before = self.record(id);
        self.check_create_only(id, &before)?;
        let added: usize = ops.iter().map(MergeOp::size).sum();
        let last = before.last_revision();
        let (mut value, old_bound) = match before {
            Current::Live { document: Document::Merged { value, size_bound, .. }, .. } => (value, size_bound),
            Current::Live { document: Document::Stored(Some(json)) | Document::Text(json, _), .. } => (json.value()?, json.len()),
            Current::Live { .. } => return Err(Error::corrupt(format!("the engine did not load {id} for a merge")).into()),
            _ => (Value::Object(serde_json::Map::new()), 2),
        };
        for op in ops {
            op.apply(&mut value).map_err(|e| e.with("record", id))?;
        }
        json::check(&value, 0).map_err(|e| e.with("record", id))?;
        let mut size_bound = old_bound + added;
        if size_bound > limits::DOCUMENT_BYTES {
            size_bound = Json::from_checked(&value).len();
            if size_bound > limits::DOCUMENT_BYTES {
                let message = format!("document {id} would grow to {size_bound} bytes; the limit is {}", limits::DOCUMENT_BYTES);
                return Err(Error::invalid(message).into());
            }
        }
        let fields = self.spec(id).map_or(Ok(Vec::new()), |s| s.extract(&value))?;
        Ok(self.set(id, last, Some(Document::Merged { value, size_bound, fields })))
    }

    pub(super) fn lease_fields(&self, id: &RecordId, json: &Json) -> Result<Option<Vec<FieldValue>>> {
        self.put_fields(id, json, None)
    }

    fn set_stream(&mut self, name: &StreamName, stream: CurrentStream) {
        let replaced = self.streams.insert(name.clone(), (stream, self.position));
        if replaced.is_none() {
            self.stream_order.push(name.clone());
        }
        self.undo.streams.push((name.clone(), replaced));
    }

    fn append(&mut self, append: &Append) -> Result<Appended, Refusal> {
        let name = &append.stream;
        let mut stream = self.stream(name);
        let first = stream.head + 1;
        let mut existing = Vec::new();
        let mut count = 0;
        self.events.reserve(append.events.len());
        for (index, event) in append.events.iter().enumerate() {
            if let Some(sequence) = event.id.as_ref().and_then(|id| self.event_sequence(name, id, stream.oldest)) {
                existing.push((index, sequence));
                continue;
            }
            if stream.sealed {
                let found = Found::Stream { head: stream.head, sealed: true };
                return Err(Conflict { index: None, expected: Expected::Open(name.clone()), found }.into());
            }
            stream.head += 1;
            count += 1;
            if let Some(id) = &event.id {
                let key = (name.clone(), id.clone());
                let replaced = self.event_ids.insert(key.clone(), stream.head);
                self.undo.event_ids.push((key, replaced));
            }
            let position = self.next_position();
            self.events.push(Event {
                stream: name.clone(),
                sequence: stream.head,
                position,
                id: event.id.clone(),
                kind: event.kind.clone(),
                time: event.time.unwrap_or(self.now),
                correlation: event.correlation.clone(),
                agent: event.agent.clone(),
                source: event.source.clone(),
                labels: event.labels.clone(),
                data: event.data.clone(),
            });
        }
        let first = if count == 0 { stream.head } else { first };
        if count > 0 {
            self.set_stream(name, stream);
        }
        Ok(Appended { first, count, existing })
    }

    /// Where an event id is in its stream. One that was trimmed is gone, also when that was earlier in this batch.
    fn event_sequence(&self, stream: &StreamName, id: &str, oldest: u64) -> Option<u64> {
        let key = (stream.clone(), id.to_owned());
        let found = self.event_ids.get(&key).or_else(|| self.state.event_ids.get(&key)).copied();
        found.filter(|sequence| *sequence >= oldest)
    }

    fn trim(&mut self, commit: &Commit, name: &StreamName, before: u64) -> Result<(), Refusal> {
        let stream = self.stream(name);
        if stream.sealed && !commit.trusted {
            return Err(Error::invalid(format!("stream {name} is sealed; it can only go as a whole, with what owns it")).into());
        }
        if before > stream.head + 1 {
            let message = format!("cannot trim stream {name} before {before}: its last sequence is {}", stream.head);
            return Err(Error::invalid(message).with_next(format!("trim before at most {}", stream.head + 1)).into());
        }
        if before > stream.oldest {
            self.set_stream(name, CurrentStream { oldest: before, ..stream });
        }
        Ok(())
    }
}

/// Collections whose names a batch touches: what an engine loads revision floors for.
impl crate::plan::Touched {
    /// The collections of the touched records.
    pub fn collections(&self) -> HashSet<&str> {
        self.records.keys().map(|r| r.collection.as_str()).collect()
    }
}
