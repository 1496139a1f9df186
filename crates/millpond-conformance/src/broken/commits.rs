//! Engines that decide or apply commits wrongly.

use std::time::Duration;

use async_trait::async_trait;
use millpond_core::plan::{Plan, RecordState, State, StoredReceipt};
use millpond_core::{Catalog, Commit, Expectation, Host, Json, NamespaceStatus, Outcome, Position, PreparedCommit, Write};

use super::BrokenEngine;
use crate::reference::{NamespaceData, Steps, StoredRecord};

pub(super) fn all() -> Vec<BrokenEngine> {
    vec![
        BrokenEngine::new("lost-update", "an expected revision is not checked", LostUpdate),
        BrokenEngine::new("unchecked-fence", "an expected lease token is not checked", UncheckedFence),
        BrokenEngine::new("blind-to-absence", "an expected absence is not checked", BlindToAbsence),
        BrokenEngine::new("blind-to-existence", "an expected existence is not checked", BlindToExistence),
        BrokenEngine::new("unchecked-quota", "an expected quota is not checked", UncheckedQuota),
        BrokenEngine::new("reused-revision", "a tombstone is not looked at when a key is created again", ReusedRevision),
        BrokenEngine::new("leaky-refusal", "a refused commit leaves its first record behind", LeakyRefusal),
        BrokenEngine::new("stream-gap", "a refused append has used a sequence up", StreamGap),
        BrokenEngine::new("twice-told-event", "event ids are not looked up", TwiceToldEvent),
        BrokenEngine::new("forgotten-receipt", "receipts are not kept", ForgottenReceipt),
        BrokenEngine::new("own-ids", "commits are kept under ids of the engine's own", OwnIds),
        BrokenEngine::new("lost-merge", "merges are worked out before the lock is taken", LostMerge),
        BrokenEngine::new("anonymous", "who changed a record is not kept", Anonymous),
        BrokenEngine::new("undeclared", "declarations are not looked at when a commit is decided", Undeclared),
        BrokenEngine::new("thawed", "a frozen namespace takes commits", Thawed),
        BrokenEngine::new("unsealed", "a seal is not looked at", Unsealed),
        BrokenEngine::new("small-documents", "documents beyond 64 KiB are cut off", SmallDocuments),
    ]
}

/// The batch without some of its expectations.
fn without(
    batch: Vec<PreparedCommit>,
    catalog: &Catalog,
    host: &dyn Host,
    drop: fn(&Expectation) -> bool,
) -> Vec<PreparedCommit> {
    let strip = |prepared: PreparedCommit| {
        let mut commit: Commit = prepared.commit().clone().id(prepared.id());
        commit.expect.retain(|e| !drop(e));
        commit.prepare(host, catalog).unwrap_or(prepared)
    };
    batch.into_iter().map(strip).collect()
}

#[derive(Debug, Default)]
struct LostUpdate;

impl Steps for LostUpdate {
    fn batch(&self, batch: Vec<PreparedCommit>, catalog: &Catalog, host: &dyn Host) -> Vec<PreparedCommit> {
        without(batch, catalog, host, |e| matches!(e, Expectation::Revision(..)))
    }
}

#[derive(Debug, Default)]
struct UncheckedFence;

impl Steps for UncheckedFence {
    fn batch(&self, batch: Vec<PreparedCommit>, catalog: &Catalog, host: &dyn Host) -> Vec<PreparedCommit> {
        without(batch, catalog, host, |e| matches!(e, Expectation::Lease(..)))
    }
}

#[derive(Debug, Default)]
struct BlindToAbsence;

impl Steps for BlindToAbsence {
    fn batch(&self, batch: Vec<PreparedCommit>, catalog: &Catalog, host: &dyn Host) -> Vec<PreparedCommit> {
        without(batch, catalog, host, |e| matches!(e, Expectation::Absent(..)))
    }
}

#[derive(Debug, Default)]
struct BlindToExistence;

impl Steps for BlindToExistence {
    fn batch(&self, batch: Vec<PreparedCommit>, catalog: &Catalog, host: &dyn Host) -> Vec<PreparedCommit> {
        without(batch, catalog, host, |e| matches!(e, Expectation::Exists(..)))
    }
}

#[derive(Debug, Default)]
struct UncheckedQuota;

impl Steps for UncheckedQuota {
    fn batch(&self, batch: Vec<PreparedCommit>, catalog: &Catalog, host: &dyn Host) -> Vec<PreparedCommit> {
        without(batch, catalog, host, |e| matches!(e, Expectation::AtMost(..)))
    }
}

#[derive(Debug, Default)]
struct ReusedRevision;

impl Steps for ReusedRevision {
    fn loaded(&self, state: &mut State, _: Option<Position>) {
        state.records.retain(|_, record| !matches!(record, RecordState::Gone { .. }));
    }
}

#[derive(Debug, Default)]
struct LeakyRefusal;

impl Steps for LeakyRefusal {
    fn planned(&self, batch: &[PreparedCommit], plan: &mut Plan, data: &mut NamespaceData) {
        for (prepared, outcome) in batch.iter().zip(&plan.outcomes) {
            let (Ok(Outcome::Conflict(_)), Some(Write::Put(id, json))) = (outcome, prepared.commit().writes.first()) else {
                continue;
            };
            let position = Position(data.head.position.0 + 1);
            let revision = data.records.get(id).map_or(0, |r| r.revision) + 1;
            let (time, by) = (data.head.time, prepared.commit().by.clone());
            data.records
                .insert(id.clone(), StoredRecord { revision, position, time, by, document: Some(json.clone()), first: None });
            data.head.position = position;
        }
    }
}

#[derive(Debug, Default)]
struct StreamGap;

impl Steps for StreamGap {
    fn planned(&self, batch: &[PreparedCommit], plan: &mut Plan, data: &mut NamespaceData) {
        for (prepared, outcome) in batch.iter().zip(&plan.outcomes) {
            if let Ok(Outcome::Conflict(_)) = outcome {
                for append in &prepared.commit().appends {
                    // Where the batch changes the stream as well, its change is what stays.
                    let changed = plan.mutations.streams.iter_mut().find(|change| change.stream == append.stream);
                    if let Some(change) = changed {
                        change.head += 1;
                    } else if let Some(stream) = data.streams.get_mut(&append.stream) {
                        stream.head += 1;
                    }
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct TwiceToldEvent;

impl Steps for TwiceToldEvent {
    fn loaded(&self, state: &mut State, _: Option<Position>) {
        state.event_ids.clear();
    }
}

#[derive(Debug, Default)]
struct ForgottenReceipt;

impl Steps for ForgottenReceipt {
    fn remembers(&self, _: &StoredReceipt) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct OwnIds;

impl Steps for OwnIds {
    fn batch(&self, batch: Vec<PreparedCommit>, catalog: &Catalog, host: &dyn Host) -> Vec<PreparedCommit> {
        let renamed = |prepared: PreparedCommit| {
            let mut commit = prepared.commit().clone();
            commit.id = None;
            commit.prepare(host, catalog).unwrap_or(prepared)
        };
        batch.into_iter().map(renamed).collect()
    }
}

#[derive(Debug, Default)]
struct LostMerge;

fn merges(batch: &[PreparedCommit]) -> bool {
    let mut writes = batch.iter().flat_map(|c| &c.commit().writes);
    writes.any(|w| matches!(w, Write::Merge(..)))
}

#[async_trait]
impl Steps for LostMerge {
    fn loads_early(&self, batch: &[PreparedCommit]) -> bool {
        merges(batch)
    }

    async fn pause(&self, batch: &[PreparedCommit]) {
        if merges(batch) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[derive(Debug, Default)]
struct Anonymous;

impl Steps for Anonymous {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        for record in &mut plan.mutations.records {
            record.by = None;
        }
    }
}

#[derive(Debug, Default)]
struct Undeclared;

impl Steps for Undeclared {
    fn loaded(&self, state: &mut State, _: Option<Position>) {
        state.catalog = std::sync::Arc::default();
    }
}

#[derive(Debug, Default)]
struct Thawed;

impl Steps for Thawed {
    fn loaded(&self, state: &mut State, _: Option<Position>) {
        state.namespace.status = NamespaceStatus::Open;
    }
}

#[derive(Debug, Default)]
struct Unsealed;

impl Steps for Unsealed {
    fn loaded(&self, state: &mut State, _: Option<Position>) {
        for stream in state.streams.values_mut() {
            stream.sealed = false;
        }
    }
}

#[derive(Debug, Default)]
struct SmallDocuments;

impl Steps for SmallDocuments {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        for record in &mut plan.mutations.records {
            if let Some((json, _)) = record.after.as_mut().filter(|(json, _)| json.len() > 64 << 10) {
                *json = Json::from_store("null");
            }
        }
    }
}
