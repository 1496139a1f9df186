//! Engines that understand or keep what is written wrongly.

use millpond_core::plan::{Plan, RecordState, State};
use millpond_core::{Catalog, Commit, Expectation, Host, Json, LEASES, Position, PreparedCommit, RecordId, Timestamp, Write};
use serde_json::Value;

use super::BrokenEngine;
use crate::reference::{NamespaceData, Steps, StreamData};

pub(super) fn all() -> Vec<BrokenEngine> {
    vec![
        BrokenEngine::new("folded-keys", "keys that differ in case only are one", FoldedKeys),
        BrokenEngine::new("short-keys", "keys are told apart by their first 255 bytes", ShortKeys),
        BrokenEngine::new("float-documents", "numbers of documents pass through floats", FloatDocuments),
        BrokenEngine::new(
            "last-write-only",
            "of several writes of one record in one commit only the last is seen",
            LastWriteOnly,
        ),
        BrokenEngine::new("merge-from-nothing", "a merge begins with an empty document", MergeFromNothing),
        BrokenEngine::new("position-gaps", "each batch leaves a position unused", PositionGaps),
        BrokenEngine::new("lossy-events", "labels of events are not kept", LossyEvents),
        BrokenEngine::new("small-events", "bodies of events beyond 64 KiB are cut off", SmallEvents),
        BrokenEngine::new("small-batches", "of more than a thousand records in a batch the rest is dropped", SmallBatches),
        BrokenEngine::new("falling-head", "the head of a stream is the last event that is kept", FallingHead),
        BrokenEngine::new("lease-for-all", "a held lease is given to whoever asks", LeaseForAll),
        BrokenEngine::new("clock-fence", "a lease past its deadline is dropped by whatever looks at it", ClockFence),
        BrokenEngine::new("anybody-releases", "a release asks for no token", AnybodyReleases),
        BrokenEngine::new("ignored-renewal", "a renewal is acknowledged and not made", IgnoredRenewal),
        BrokenEngine::new("nameless-leases", "who holds a lease is not kept", NamelessLeases),
    ]
}

#[derive(Debug, Default)]
struct FoldedKeys;

impl Steps for FoldedKeys {
    fn place_of(&self, id: &RecordId) -> RecordId {
        RecordId { key: millpond_core::Key::from_store(id.key.as_str().to_lowercase()), ..id.clone() }
    }
}

#[derive(Debug, Default)]
struct ShortKeys;

impl Steps for ShortKeys {
    fn place_of(&self, id: &RecordId) -> RecordId {
        let mut short = id.key.as_str().to_owned();
        short.truncate((0..=255).rev().find(|at| short.is_char_boundary(*at)).unwrap_or(0));
        RecordId { key: millpond_core::Key::from_store(short), ..id.clone() }
    }
}

#[derive(Debug, Default)]
struct FloatDocuments;

fn through_floats(value: &mut Value) {
    match value {
        // Small integers come back as integers, as from a parser that has floats only.
        Value::Number(n) => {
            let float = n.as_f64().unwrap_or(0.0);
            #[allow(clippy::cast_possible_truncation)]
            let rounded = float as i64;
            *value = if n.is_f64() { Value::from(float) } else { Value::from(rounded) };
        }
        Value::Array(items) => items.iter_mut().for_each(through_floats),
        Value::Object(map) => map.values_mut().for_each(through_floats),
        _ => {}
    }
}

impl Steps for FloatDocuments {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        for record in &mut plan.mutations.records {
            if let Some((json, _)) = &mut record.after {
                let mut value = json.value().unwrap_or_default();
                through_floats(&mut value);
                *json = Json::from_store(value.to_string());
            }
        }
    }
}

/// The batch with every commit changed.
fn changed(batch: Vec<PreparedCommit>, catalog: &Catalog, host: &dyn Host, change: fn(&mut Commit)) -> Vec<PreparedCommit> {
    let change = |prepared: PreparedCommit| {
        let mut commit = prepared.commit().clone().id(prepared.id());
        change(&mut commit);
        commit.prepare(host, catalog).unwrap_or(prepared)
    };
    batch.into_iter().map(change).collect()
}

#[derive(Debug, Default)]
struct LastWriteOnly;

fn record_of(write: &Write) -> Option<&RecordId> {
    match write {
        Write::Put(id, _) | Write::Delete(id) | Write::Merge(id, _) => Some(id),
        _ => None,
    }
}

impl Steps for LastWriteOnly {
    fn batch(&self, batch: Vec<PreparedCommit>, catalog: &Catalog, host: &dyn Host) -> Vec<PreparedCommit> {
        changed(batch, catalog, host, |commit| {
            let writes = std::mem::take(&mut commit.writes);
            let again = |n: usize, id: &RecordId| writes[n + 1..].iter().any(|w| record_of(w) == Some(id));
            let last = writes.iter().enumerate().filter(|(n, w)| record_of(w).is_none_or(|id| !again(*n, id)));
            commit.writes = last.map(|(_, w)| w.clone()).collect();
        })
    }
}

#[derive(Debug, Default)]
struct MergeFromNothing;

impl Steps for MergeFromNothing {
    fn loaded(&self, state: &mut State, _: Option<Position>) {
        for (id, record) in &mut state.records {
            if let (RecordState::Live { document, .. }, false) = (record, id.collection.as_str() == LEASES.name()) {
                *document = Some(Json::from_store("{}"));
            }
        }
    }
}

#[derive(Debug, Default)]
struct PositionGaps;

impl Steps for PositionGaps {
    fn position_after(&self, before: Position, after: Position) -> Position {
        if before == after { after } else { Position(after.0 + 1) }
    }
}

#[derive(Debug, Default)]
struct LossyEvents;

impl Steps for LossyEvents {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        for change in &mut plan.mutations.events {
            change.event.labels.clear();
        }
    }
}

#[derive(Debug, Default)]
struct SmallEvents;

impl Steps for SmallEvents {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        for change in plan.mutations.events.iter_mut().filter(|c| c.event.data.len() > 64 << 10) {
            change.event.data = Json::from_store("null");
        }
    }
}

#[derive(Debug, Default)]
struct SmallBatches;

impl Steps for SmallBatches {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        plan.mutations.records.truncate(1_000);
    }
}

#[derive(Debug, Default)]
struct FallingHead;

impl Steps for FallingHead {
    fn head_of(&self, stream: &StreamData) -> u64 {
        stream.events.keys().last().copied().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct LeaseForAll;

impl Steps for LeaseForAll {
    fn loaded(&self, state: &mut State, _: Option<Position>) {
        for (id, record) in &mut state.records {
            if let (RecordState::Live { document: Some(json), .. }, true) = (record, id.collection.as_str() == LEASES.name()) {
                let mut lease = json.value().unwrap_or_default();
                lease["deadline"] = Value::from(Timestamp::default().to_string());
                *json = Json::from_store(lease.to_string());
            }
        }
    }
}

#[derive(Debug, Default)]
struct ClockFence;

impl Steps for ClockFence {
    fn loaded(&self, state: &mut State, _: Option<Position>) {
        let now = millpond_core::Host::now(&millpond_core::SystemHost);
        for (id, record) in &mut state.records {
            let (RecordState::Live { document: Some(json), revision, handle, .. }, true) =
                (&*record, id.collection.as_str() == LEASES.name())
            else {
                continue;
            };
            let deadline = json.value().ok().and_then(|v| Timestamp::parse(v["deadline"].as_str()?).ok());
            if deadline.is_some_and(|d| d < now) {
                *record = RecordState::Gone { revision: *revision, handle: *handle };
            }
        }
    }
}

#[derive(Debug, Default)]
struct AnybodyReleases;

impl Steps for AnybodyReleases {
    fn batch(&self, batch: Vec<PreparedCommit>, catalog: &Catalog, host: &dyn Host) -> Vec<PreparedCommit> {
        changed(batch, catalog, host, |commit| {
            for write in &mut commit.writes {
                if let Write::Release { lease, .. } = write {
                    *write = Write::Break { lease: lease.clone() };
                }
            }
        })
    }
}

#[derive(Debug, Default)]
struct IgnoredRenewal;

impl Steps for IgnoredRenewal {
    fn batch(&self, batch: Vec<PreparedCommit>, catalog: &Catalog, host: &dyn Host) -> Vec<PreparedCommit> {
        changed(batch, catalog, host, |commit| {
            for write in std::mem::take(&mut commit.writes) {
                match write {
                    Write::Renew { lease, token, .. } => commit.expect.push(Expectation::Lease(lease, token)),
                    other => commit.writes.push(other),
                }
            }
        })
    }
}

#[derive(Debug, Default)]
struct NamelessLeases;

impl Steps for NamelessLeases {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        for record in plan.mutations.records.iter_mut().filter(|r| r.record.collection.as_str() == LEASES.name()) {
            if let Some((json, _)) = &mut record.after {
                let mut value = json.value().unwrap_or_default();
                value["holder"]["name"] = Value::from("");
                *json = Json::from_store(value.to_string());
            }
        }
    }
}
