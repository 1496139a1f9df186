//! One namespace's data: loading what a batch touches, applying what a plan changes, purging, declaring.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millpond_core::plan::{Mutations, NamespaceHead, RecordState, State, StoredReceipt, StreamState, Touched};
use millpond_core::{
    Catalog, CollectionName, CollectionSpec, CommitId, Deleted, Event, FieldValue, Json, Namespace, NamespaceInfo,
    NamespaceStatus, Position, Purged, Record, RecordId, Result, StreamInfo, StreamName, Timestamp,
};

use super::steps::Steps;

/// A record, or the tombstone of one.
#[derive(Debug, Clone)]
pub struct StoredRecord {
    /// Its revision.
    pub revision: u64,
    /// The position of its last change.
    pub position: Position,
    /// When it was last changed.
    pub time: Timestamp,
    /// By whom.
    pub by: Option<String>,
    /// The document; `None` is a tombstone.
    pub document: Option<Json>,
    /// The document it was first created with; only broken engines ask.
    pub first: Option<Json>,
}

impl StoredRecord {
    /// The record as a reader sees it. A tombstone has no document and is never asked.
    pub(super) fn record(&self, id: &RecordId) -> Record {
        Record {
            collection: id.collection.clone(),
            key: id.key.clone(),
            revision: self.revision,
            position: self.position,
            time: self.time,
            by: self.by.clone(),
            value: self.document.clone().unwrap_or_else(|| Json::from_store("null")),
        }
    }

    pub(super) fn deleted(&self, id: &RecordId) -> Deleted {
        Deleted {
            collection: id.collection.clone(),
            key: id.key.clone(),
            revision: self.revision,
            position: self.position,
            time: self.time,
            by: self.by.clone(),
        }
    }
}

/// A stream and its events.
#[derive(Debug, Clone, Default)]
pub struct StreamData {
    /// The last sequence.
    pub head: u64,
    /// The oldest sequence kept.
    pub oldest: u64,
    /// Closed for good.
    pub sealed: bool,
    /// The position of its last change.
    pub position: Position,
    /// The time of its last change.
    pub time: Timestamp,
    /// Its events by sequence.
    pub events: BTreeMap<u64, Event>,
    /// The highest position among the events that were trimmed.
    pub trimmed: Position,
}

impl StreamData {
    pub(super) fn info(&self, name: &StreamName) -> StreamInfo {
        StreamInfo {
            stream: name.clone(),
            head: self.head,
            oldest: self.oldest,
            sealed: self.sealed,
            position: self.position,
            time: self.time,
        }
    }
}

/// Everything one namespace holds.
#[derive(Debug, Clone)]
pub struct NamespaceData {
    /// Made with the namespace.
    pub store_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Status, position, time, floor of the receipts.
    pub head: NamespaceHead,
    /// The declarations.
    pub catalog: Arc<Catalog>,
    /// Records and tombstones.
    pub records: BTreeMap<RecordId, StoredRecord>,
    /// Streams.
    pub streams: BTreeMap<StreamName, StreamData>,
    /// Receipts.
    pub receipts: BTreeMap<CommitId, StoredReceipt>,
    /// Per collection, the highest revision and the highest position among purged tombstones.
    pub purged: BTreeMap<CollectionName, (u64, Position)>,
    /// The position after which each collection was declared; only broken engines ask.
    pub declared_at: BTreeMap<CollectionName, Position>,
}

impl NamespaceData {
    pub(super) fn new(store_id: String, now: Timestamp) -> Self {
        Self {
            store_id,
            created_at: now,
            head: NamespaceHead {
                status: NamespaceStatus::Open,
                position: Position::ZERO,
                time: Timestamp::default(),
                receipts_floor: Timestamp::default(),
            },
            catalog: Arc::default(),
            records: BTreeMap::new(),
            streams: BTreeMap::new(),
            receipts: BTreeMap::new(),
            purged: BTreeMap::new(),
            declared_at: BTreeMap::new(),
        }
    }

    pub(super) fn info(&self, name: &Namespace) -> NamespaceInfo {
        NamespaceInfo {
            name: name.clone(),
            store_id: self.store_id.clone(),
            status: self.head.status.clone(),
            position: self.head.position,
            time: self.head.time,
            created_at: self.created_at,
        }
    }

    pub(super) fn live(&self, id: &RecordId) -> Option<&StoredRecord> {
        self.records.get(id).filter(|r| r.document.is_some())
    }

    /// The declared fields of a document, taken out anew each time.
    pub(super) fn fields(&self, id: &RecordId, stored: &StoredRecord, steps: &dyn Steps) -> Result<Vec<FieldValue>> {
        let (Some(spec), Some(document)) = (self.catalog.get(id.collection.as_str()), steps.indexed(stored)) else {
            return Ok(Vec::new());
        };
        let declared = self.declared_at.get(&id.collection).copied().unwrap_or_default();
        if stored.position <= declared && !steps.backfills() {
            return Ok(vec![FieldValue::Absent; spec.fields.len()]);
        }
        spec.extract(&document.value()?)
    }

    /// Everything a plan asks for.
    pub fn load(&self, touched: &Touched, steps: &dyn Steps) -> State {
        let mut revision_floors = HashMap::new();
        for name in touched.collections() {
            if let Some((name, (floor, _))) = self.purged.get_key_value(name) {
                revision_floors.insert(name.clone(), *floor);
            }
        }
        let stored = |id: &RecordId| self.records.get(&steps.place_of(id));
        let records = touched.records.keys().filter_map(|id| Some((id.clone(), record_state(stored(id)?))));
        let streams = touched.streams.iter().filter_map(|name| {
            let s = self.streams.get(name)?;
            Some((name.clone(), StreamState { head: s.head, oldest: s.oldest, sealed: s.sealed, handle: 0 }))
        });
        let event_ids = touched.event_ids.iter().filter_map(|(name, id)| {
            let events = &self.streams.get(name)?.events;
            let event = events.values().find(|e| e.id.as_deref() == Some(id))?;
            Some(((name.clone(), id.clone()), event.sequence))
        });
        let receipts = touched.receipts.iter().filter_map(|id| Some((*id, self.receipts.get(id)?.clone())));
        State {
            namespace: self.head.clone(),
            catalog: Arc::clone(&self.catalog),
            revision_floors,
            records: records.collect(),
            streams: streams.collect(),
            event_ids: event_ids.collect(),
            receipts: receipts.collect(),
        }
    }

    /// Applies a plan's changes. They are final: no rule is looked at any more.
    pub fn apply(&mut self, mutations: Mutations, steps: &dyn Steps) {
        for r in mutations.records {
            let place = steps.place_of(&r.record);
            let document = r.after.map(|(json, _)| json);
            let first = self.records.get(&place).and_then(|s| s.first.clone()).or_else(|| document.clone());
            let stored = StoredRecord { revision: r.revision, position: r.position, time: r.time, by: r.by, document, first };
            self.records.insert(place, stored);
        }
        for e in mutations.events {
            let stream = self.streams.entry(e.event.stream.clone()).or_default();
            stream.events.insert(e.event.sequence, e.event);
        }
        for s in mutations.streams {
            let stream = self.streams.entry(s.stream).or_default();
            (stream.head, stream.oldest, stream.sealed) = (s.head, s.oldest, s.sealed);
            (stream.position, stream.time) = (s.position, s.time);
            let kept = stream.events.split_off(&s.oldest);
            let trimmed = std::mem::replace(&mut stream.events, kept);
            stream.trimmed = trimmed.values().map(|e| e.position).fold(stream.trimmed, Position::max);
            stream.head = steps.head_of(stream);
        }
        for receipt in mutations.receipts {
            if steps.remembers(&receipt) {
                self.receipts.insert(receipt.receipt.id, receipt);
            }
        }
        let position = steps.position_after(self.head.position, mutations.namespace.position);
        self.head = NamespaceHead { position, ..mutations.namespace };
    }

    pub(super) fn declare(&mut self, specs: &[CollectionSpec], steps: &dyn Steps) -> Result<Arc<Catalog>> {
        let mut declared: BTreeMap<CollectionName, CollectionSpec> =
            self.catalog.iter().map(|s| (s.name.clone(), CollectionSpec::clone(s))).collect();
        for spec in specs {
            spec.check()?;
            let spec = match declared.get(&spec.name).filter(|_| steps.checks_declarations()) {
                Some(old) => spec.following(old)?,
                None => spec.clone(),
            };
            for (id, stored) in self.records.iter().filter(|(id, _)| id.collection == spec.name) {
                if let (Some(document), true) = (&stored.document, steps.backfills()) {
                    spec.extract(&document.value()?).map_err(|e| e.with("record", id))?;
                }
            }
            declared.insert(spec.name.clone(), spec);
        }
        for spec in specs {
            self.declared_at.insert(spec.name.clone(), self.head.position);
        }
        self.catalog = Arc::new(Catalog::new(declared.into_values()));
        Ok(Arc::clone(&self.catalog))
    }

    pub(super) fn purge(&mut self, before: Timestamp, steps: &dyn Steps) -> Purged {
        let before = steps.purges_before(before);
        let (receipts, tombstones) = (self.receipts.len(), self.records.len());
        // An id has millisecond resolution, so the floor has too: what is refused is what was forgotten.
        let floor = Timestamp::from_micros(before.as_micros().div_euclid(1_000) * 1_000);
        self.receipts.retain(|id, _| id.time() >= floor);
        let purged = &mut self.purged;
        self.records.retain(|id, stored| {
            let keep = stored.document.is_some() || stored.time >= before;
            if !keep && steps.raises_floors() {
                let (revision, position) = purged.entry(id.collection.clone()).or_default();
                *revision = (*revision).max(stored.revision);
                *position = (*position).max(stored.position);
            }
            keep
        });
        if steps.raises_floors() {
            self.head.receipts_floor = self.head.receipts_floor.max(before);
        }
        Purged { receipts: (receipts - self.receipts.len()) as u64, tombstones: (tombstones - self.records.len()) as u64 }
    }

    /// Looks for what no plan could have made.
    pub(super) fn check(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (name, stream) in &self.streams {
            let found: Vec<u64> = stream.events.keys().copied().collect();
            let expected: Vec<u64> = (stream.oldest..=stream.head).collect();
            if found != expected {
                findings.push(format!("stream {name} holds {} of {} events", found.len(), expected.len()));
            }
        }
        findings
    }
}

fn record_state(stored: &StoredRecord) -> RecordState {
    match &stored.document {
        None => RecordState::Gone { revision: stored.revision, handle: 0 },
        Some(document) => RecordState::Live {
            revision: stored.revision,
            time: stored.time,
            by: stored.by.clone(),
            document: Some(document.clone()),
            handle: 0,
        },
    }
}
