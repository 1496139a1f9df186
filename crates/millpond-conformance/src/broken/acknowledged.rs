//! Engines that acknowledge a change and do not keep it.

use std::collections::HashSet;

use millpond_core::plan::Plan;
use millpond_core::{LEASES, PreparedCommit, RecordId, Write};

use super::BrokenEngine;
use crate::reference::{NamespaceData, Steps};

pub(super) fn all() -> Vec<BrokenEngine> {
    vec![
        BrokenEngine::new("first-put-only", "of the puts of one commit only the first is kept", FirstPutOnly),
        BrokenEngine::new("ignored-overwrites", "a put over a record that exists is not kept", IgnoredOverwrites),
        BrokenEngine::new("ignored-merges", "a merge is not kept", IgnoredMerges),
        BrokenEngine::new("ignored-deletes", "a deleted record stays", IgnoredDeletes),
        BrokenEngine::new("ignored-releases", "a lease that was given back stays with its holder", IgnoredReleases),
        BrokenEngine::new("ignored-appends", "events are numbered and not kept", IgnoredAppends),
        BrokenEngine::new("ignored-trims", "a trimmed stream keeps its events", IgnoredTrims),
    ]
}

fn put(write: &Write) -> Option<&RecordId> {
    match write {
        Write::Put(id, _) => Some(id),
        _ => None,
    }
}

fn merged(write: &Write) -> Option<&RecordId> {
    match write {
        Write::Merge(id, _) => Some(id),
        _ => None,
    }
}

/// Of each commit the records that its writes of one kind name, without the first few.
fn named(batch: &[PreparedCommit], kind: fn(&Write) -> Option<&RecordId>, skipped: usize) -> HashSet<&RecordId> {
    batch.iter().flat_map(|c| c.commit().writes.iter().filter_map(kind).skip(skipped)).collect()
}

fn is_lease(id: &RecordId) -> bool {
    id.collection.as_str() == LEASES.name()
}

#[derive(Debug, Default)]
struct FirstPutOnly;

impl Steps for FirstPutOnly {
    fn planned(&self, batch: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        let others = named(batch, put, 1);
        plan.mutations.records.retain(|r| !others.contains(&r.record));
    }
}

#[derive(Debug, Default)]
struct IgnoredOverwrites;

impl Steps for IgnoredOverwrites {
    fn planned(&self, batch: &[PreparedCommit], plan: &mut Plan, data: &mut NamespaceData) {
        let puts = named(batch, put, 0);
        let exists = |id: &RecordId| data.records.get(id).is_some_and(|r| r.document.is_some());
        plan.mutations.records.retain(|r| !(puts.contains(&r.record) && exists(&r.record)));
    }
}

#[derive(Debug, Default)]
struct IgnoredMerges;

impl Steps for IgnoredMerges {
    fn planned(&self, batch: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        let merges = named(batch, merged, 0);
        plan.mutations.records.retain(|r| !merges.contains(&r.record));
    }
}

#[derive(Debug, Default)]
struct IgnoredDeletes;

impl Steps for IgnoredDeletes {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        plan.mutations.records.retain(|r| r.after.is_some() || is_lease(&r.record));
    }
}

#[derive(Debug, Default)]
struct IgnoredReleases;

impl Steps for IgnoredReleases {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        plan.mutations.records.retain(|r| r.after.is_some() || !is_lease(&r.record));
    }
}

#[derive(Debug, Default)]
struct IgnoredAppends;

impl Steps for IgnoredAppends {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        plan.mutations.events.clear();
    }
}

#[derive(Debug, Default)]
struct IgnoredTrims;

impl Steps for IgnoredTrims {
    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, data: &mut NamespaceData) {
        for stream in &mut plan.mutations.streams {
            if let Some(kept) = data.streams.get(&stream.stream) {
                stream.oldest = kept.oldest;
            }
        }
    }
}
