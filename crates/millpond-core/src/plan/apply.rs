//! `plan` itself: each commit is worked out on a scratch copy and kept only when it holds as a whole.

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
    let mut work = Work::new(state, now);
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

/// The state as the commits before this one left it.
pub(super) struct Work {
    pub(super) state: State,
    pub(super) now: Timestamp,
    position: Position,
    records: HashMap<RecordId, Current>,
    record_order: Vec<RecordId>,
    streams: HashMap<StreamName, (CurrentStream, Position)>,
    stream_order: Vec<StreamName>,
    events: Vec<Event>,
    receipts: Vec<StoredReceipt>,
}

/// What one commit would change.
pub(super) struct Scratch<'w> {
    pub(super) work: &'w Work,
    records: HashMap<RecordId, Current>,
    record_order: Vec<RecordId>,
    streams: HashMap<StreamName, CurrentStream>,
    stream_order: Vec<StreamName>,
    events: Vec<Event>,
    event_ids: HashMap<(StreamName, String), u64>,
    position: Position,
    by: Option<String>,
}

struct Effects {
    records: HashMap<RecordId, Current>,
    record_order: Vec<RecordId>,
    streams: HashMap<StreamName, CurrentStream>,
    stream_order: Vec<StreamName>,
    events: Vec<Event>,
    event_ids: HashMap<(StreamName, String), u64>,
    position: Position,
    revisions: Vec<u64>,
    sequences: Vec<Appended>,
}

impl Work {
    fn new(state: State, now: Timestamp) -> Self {
        let now = now.max(state.namespace.time);
        let position = state.namespace.position;
        Self {
            state,
            now,
            position,
            records: HashMap::new(),
            record_order: Vec::new(),
            streams: HashMap::new(),
            stream_order: Vec::new(),
            events: Vec::new(),
            receipts: Vec::new(),
        }
    }

    fn decide(&mut self, prepared: &PreparedCommit) -> Result<Outcome> {
        if let Some(stored) = self.state.receipts.get(&prepared.id()) {
            return check::replay(prepared, stored);
        }
        check::namespace(&self.state.namespace)?;
        check::id_age(prepared.id(), &self.state.namespace, self.now)?;
        let effects = match self.work_out(prepared) {
            Ok(effects) => effects,
            Err(Refusal::Conflict(conflict)) => return Ok(Outcome::Conflict(*conflict)),
            Err(Refusal::Error(error)) => return Err(error),
        };
        Ok(Outcome::Committed(self.keep(prepared, effects)))
    }

    fn work_out(&self, prepared: &PreparedCommit) -> Result<Effects, Refusal> {
        let commit = prepared.commit();
        let mut scratch = Scratch {
            work: self,
            records: HashMap::new(),
            record_order: Vec::new(),
            streams: HashMap::new(),
            stream_order: Vec::new(),
            events: Vec::new(),
            event_ids: HashMap::new(),
            position: self.position,
            by: commit.by.clone(),
        };
        for (index, expectation) in commit.expect.iter().enumerate() {
            check::expectation(&scratch, index, expectation)?;
        }
        let mut revisions = Vec::with_capacity(commit.writes.len());
        for (write, fields) in commit.writes.iter().zip(prepared.fields()) {
            revisions.push(scratch.write(commit, write, fields.as_ref())?);
        }
        let sequences = commit.appends.iter().map(|a| scratch.append(a)).collect::<Result<Vec<_>, Refusal>>()?;
        for trim in &commit.trims {
            scratch.trim(commit, &trim.stream, trim.before)?;
        }
        for stream in &commit.seals {
            scratch.change_stream(stream, |s| s.sealed = true);
        }
        let Scratch { records, record_order, streams, stream_order, events, event_ids, position, .. } = scratch;
        Ok(Effects { records, record_order, streams, stream_order, events, event_ids, position, revisions, sequences })
    }

    fn keep(&mut self, prepared: &PreparedCommit, effects: Effects) -> Receipt {
        self.position = effects.position;
        for id in effects.record_order {
            if !self.records.contains_key(&id) {
                self.record_order.push(id);
            }
        }
        self.records.extend(effects.records);
        for name in effects.stream_order {
            if !self.streams.contains_key(&name) {
                self.stream_order.push(name);
            }
        }
        let position = self.position;
        self.streams.extend(effects.streams.into_iter().map(|(n, s)| (n, (s, position))));
        if self.events.is_empty() {
            self.events = effects.events;
        } else {
            self.events.extend(effects.events);
        }
        self.state.event_ids.extend(effects.event_ids);
        let receipt = Receipt {
            id: prepared.id(),
            position,
            time: self.now,
            revisions: effects.revisions,
            sequences: effects.sequences,
            replayed: false,
        };
        let stored = StoredReceipt { digest: *prepared.digest(), receipt: receipt.clone() };
        if !prepared.is_fresh() {
            self.state.receipts.insert(prepared.id(), stored.clone());
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

impl Scratch<'_> {
    /// The record as the writes so far left it.
    pub(super) fn record(&self, id: &RecordId) -> Current {
        let known = self.records.get(id).or_else(|| self.work.records.get(id));
        known.cloned().unwrap_or_else(|| Current::of(self.work.state.records.get(id)))
    }

    /// The stream as the appends so far left it.
    pub(super) fn stream(&self, name: &StreamName) -> CurrentStream {
        let known = self.streams.get(name).or_else(|| self.work.streams.get(name).map(|(s, _)| s));
        known.cloned().unwrap_or_else(|| match self.work.state.streams.get(name) {
            Some(s) => CurrentStream { head: s.head, oldest: s.oldest, sealed: s.sealed },
            None => CurrentStream { head: 0, oldest: 1, sealed: false },
        })
    }

    fn next_position(&mut self) -> Position {
        self.position = Position(self.position.0 + 1);
        self.position
    }

    /// Gives a record its next revision and position. `None` deletes it.
    pub(super) fn set(&mut self, id: &RecordId, before: &Current, document: Option<Document>) -> u64 {
        let floor = || self.work.state.revision_floors.get(&id.collection).copied().unwrap_or(0);
        let revision = 1 + match before {
            Current::Never => floor(),
            Current::Live { revision, .. } | Current::Gone { revision, .. } => *revision,
        };
        let position = self.next_position();
        let (time, by) = (self.work.now, self.by.clone());
        let after = match document {
            Some(document) => Current::Live { revision, position, time, by, document },
            None => Current::Gone { revision, position, time, by },
        };
        if self.records.insert(id.clone(), after).is_none() {
            self.record_order.push(id.clone());
        }
        revision
    }

    fn write(&mut self, commit: &Commit, write: &Write, prepared: Option<&PreparedFields>) -> Result<u64, Refusal> {
        match write {
            Write::Put(id, json) => {
                check::may_write(commit, id, self.spec(id))?;
                let before = self.record(id);
                self.check_create_only(id, &before)?;
                let fields = self.put_fields(id, json, prepared)?;
                Ok(self.set(id, &before, Some(Document::Text(json.clone(), fields))))
            }
            Write::Delete(id) => {
                check::may_write(commit, id, self.spec(id))?;
                match self.record(id) {
                    before @ Current::Live { .. } => Ok(self.set(id, &before, None)),
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
        self.work.state.catalog.get(id.collection.as_str()).map(|s| &**s)
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
        let Some(spec) = self.work.state.catalog.get(id.collection.as_str()) else { return Ok(None) };
        match prepared {
            Some(p) if std::sync::Arc::ptr_eq(&p.spec, spec) || p.spec.fields == spec.fields => Ok(Some(p.values.clone())),
            _ => spec.extract(&json.value()?).map(Some),
        }
    }

    fn merge(&mut self, id: &RecordId, ops: &[MergeOp]) -> Result<u64, Refusal> {
        let before = self.record(id);
        self.check_create_only(id, &before)?;
        let added: usize = ops.iter().map(MergeOp::size).sum();
        let (mut value, old_bound) = match &before {
            Current::Live { document: Document::Merged { value, size_bound, .. }, .. } => (value.clone(), *size_bound),
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
        Ok(self.set(id, &before, Some(Document::Merged { value, size_bound, fields })))
    }

    pub(super) fn lease_fields(&self, id: &RecordId, json: &Json) -> Result<Option<Vec<FieldValue>>> {
        self.put_fields(id, json, None)
    }

    fn change_stream(&mut self, name: &StreamName, change: impl FnOnce(&mut CurrentStream)) {
        let mut stream = self.stream(name);
        change(&mut stream);
        if self.streams.insert(name.clone(), stream).is_none() {
            self.stream_order.push(name.clone());
        }
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
                self.event_ids.insert((name.clone(), id.clone()), stream.head);
            }
            let position = self.next_position();
            self.events.push(Event {
                stream: name.clone(),
                sequence: stream.head,
                position,
                id: event.id.clone(),
                kind: event.kind.clone(),
                time: event.time.unwrap_or(self.work.now),
                correlation: event.correlation.clone(),
                agent: event.agent.clone(),
                source: event.source.clone(),
                labels: event.labels.clone(),
                data: event.data.clone(),
            });
        }
        let first = if count == 0 { stream.head } else { first };
        if count > 0 {
            self.change_stream(name, |s| *s = stream);
        }
        Ok(Appended { first, count, existing })
    }

    /// Where an event id is in its stream. One that was trimmed is gone, also when that was earlier in this batch.
    fn event_sequence(&self, stream: &StreamName, id: &str, oldest: u64) -> Option<u64> {
        let key = (stream.clone(), id.to_owned());
        let found = self.event_ids.get(&key).or_else(|| self.work.state.event_ids.get(&key)).copied();
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
            self.change_stream(name, |s| s.oldest = before);
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
