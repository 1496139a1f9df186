//! Folding: what a whole batch has changed, each record and stream once.

use std::collections::HashMap;

use crate::collection::CollectionSpec;
use crate::json::Json;
use crate::name::{RecordId, StreamName};
use crate::plan::current::{Current, CurrentStream, Document};
use crate::plan::mutations::{EventMutation, Mutations, RecordMutation, StreamMutation};
use crate::plan::state::{NamespaceHead, RecordState, StreamState};
use crate::plan::work::Work;
use crate::position::Position;
use crate::time::Timestamp;

impl Work {
    /// What the engine has to apply.
    pub(super) fn finish(mut self) -> Mutations {
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
