//! The smallest engine there can be: it loads what a batch touches, plans, and applies.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millpond_core::plan::{NamespaceHead, RecordState, State, StoredReceipt, StreamState, Touched, plan};
use millpond_core::{
    Catalog, CollectionName, Commit, CommitId, Json, ManualHost, NamespaceStatus, Outcome, Position, RecordId, Result,
    StreamName, Timestamp,
};

use crate::model::Content;
use crate::steps::NOW;

/// What is stored.
pub struct Tables {
    head: NamespaceHead,
    floors: HashMap<CollectionName, u64>,
    records: BTreeMap<RecordId, (u64, Option<Json>)>,
    streams: BTreeMap<StreamName, StreamState>,
    events: BTreeMap<(StreamName, u64), Option<String>>,
    receipts: HashMap<CommitId, StoredReceipt>,
}

impl Tables {
    pub fn new() -> Self {
        let head = NamespaceHead {
            status: NamespaceStatus::Open,
            position: Position::ZERO,
            time: Timestamp::default(),
            receipts_floor: Timestamp::default(),
        };
        Self {
            head,
            floors: HashMap::new(),
            records: BTreeMap::new(),
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            receipts: HashMap::new(),
        }
    }

    pub fn position(&self) -> Position {
        self.head.position
    }

    fn load(&self, touched: &Touched) -> State {
        let record = |id: &RecordId, document: bool| match self.records.get(id)? {
            (revision, None) => Some(RecordState::Gone { revision: *revision, handle: 1 }),
            (revision, Some(json)) => Some(RecordState::Live {
                revision: *revision,
                time: self.head.time,
                by: None,
                // Only what was asked for, so that a plan that needs more is found out.
                document: document.then(|| json.clone()),
                handle: 1,
            }),
        };
        let records = touched.records.iter().filter_map(|(id, document)| Some((id.clone(), record(id, *document)?)));
        let streams = touched.streams.iter().filter_map(|s| Some((s.clone(), self.streams.get(s)?.clone())));
        let mut event_ids = HashMap::new();
        for ((stream, sequence), id) in &self.events {
            let named = id.as_ref().map(|id| (stream.clone(), id.clone()));
            if let Some(named) = named.filter(|n| touched.event_ids.contains(n)) {
                event_ids.insert(named, *sequence);
            }
        }
        State {
            namespace: self.head.clone(),
            catalog: Arc::new(Catalog::default()),
            revision_floors: self.floors.clone(),
            records: records.collect(),
            streams: streams.collect(),
            event_ids,
            receipts: touched.receipts.iter().filter_map(|id| Some((*id, self.receipts.get(id)?.clone()))).collect(),
        }
    }

    /// Has a batch decided and applies it.
    pub fn commit(&mut self, batch: &[Commit]) -> Vec<Result<Outcome>> {
        let (host, catalog) = (ManualHost::at(Timestamp::from_micros(NOW)), Catalog::default());
        let batch: Vec<_> = batch.iter().map(|c| c.clone().prepare(&host, &catalog).unwrap()).collect();
        let plan = plan(&batch, self.load(&Touched::of(&batch)), Timestamp::from_micros(NOW));
        let changes = plan.mutations;
        for r in changes.records {
            assert_eq!(r.before == RecordState::Never, !self.records.contains_key(&r.record), "the state before the batch");
            self.records.insert(r.record, (r.revision, r.after.map(|(json, _)| json)));
        }
        let mut last = self.head.position;
        for e in changes.events {
            assert!(e.event.position > last, "events come in position order");
            last = e.event.position;
            assert_eq!(changes.streams[e.stream].stream, e.event.stream, "an event names its stream");
            self.events.insert((e.event.stream, e.event.sequence), e.event.id);
        }
        for s in changes.streams {
            self.events.retain(|(stream, sequence), _| *stream != s.stream || *sequence >= s.oldest);
            self.streams.insert(s.stream, StreamState { head: s.head, oldest: s.oldest, sealed: s.sealed, handle: 1 });
        }
        for r in changes.receipts {
            assert!(self.receipts.insert(r.receipt.id, r).is_none(), "a receipt is written once");
        }
        self.head = changes.namespace;
        plan.outcomes
    }

    /// Forgets every tombstone, as a purge does.
    pub fn purge_tombstones(&mut self) {
        let floors = &mut self.floors;
        self.records.retain(|id, (revision, json)| {
            if json.is_none() {
                let floor = floors.entry(id.collection.clone()).or_default();
                *floor = (*floor).max(*revision);
            }
            json.is_some()
        });
    }

    /// What is stored, in the words of the model.
    pub fn content(&self) -> Content {
        let records = self
            .records
            .iter()
            .map(|(id, (revision, json))| (id.to_string(), format!("{revision} {}", json.as_ref().map_or("gone", Json::as_str))));
        let streams = self.streams.iter().map(|(name, s)| {
            let ids: Vec<_> = self.events.iter().filter(|((stream, _), _)| stream == name).map(|(_, id)| id).collect();
            (format!("stream {name}"), format!("{} {} {} {ids:?}", s.head, s.oldest, s.sealed))
        });
        records.chain(streams).collect()
    }
}
