//! What a batch of commits reads: the keys an engine has to load before it can plan.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::commit::{Expectation, PreparedCommit, Write};
use crate::id::CommitId;
use crate::lease::LEASES;
use crate::name::{CollectionName, Key, RecordId, StreamName};

/// Everything a batch touches, each thing once, in one order for all engines (so that row locks cannot deadlock).
#[derive(Debug, Default)]
pub struct Touched {
    /// Records; `true` where the document itself is needed (merges, leases, quotas).
    pub records: BTreeMap<RecordId, bool>,
    /// Streams.
    pub streams: BTreeSet<StreamName>,
    /// Event ids that may already be in their stream.
    pub event_ids: BTreeSet<(StreamName, String)>,
    /// Commit ids that may have a receipt.
    pub receipts: BTreeSet<CommitId>,
}

/// The record that keeps a lease.
pub(super) fn lease_record(lease: &Key) -> RecordId {
    RecordId { collection: CollectionName::from_store(LEASES.name()), key: lease.clone() }
}

impl Touched {
    /// What these commits touch.
    pub fn of(batch: &[PreparedCommit]) -> Self {
        let mut touched = Self::default();
        for prepared in batch {
            touched.add(prepared);
        }
        touched
    }

    /// The collections of the touched records: what an engine loads revision floors for.
    pub fn collections(&self) -> HashSet<&str> {
        self.records.keys().map(|r| r.collection.as_str()).collect()
    }

    fn add(&mut self, prepared: &PreparedCommit) {
        let commit = prepared.commit();
        if !prepared.is_fresh() {
            self.receipts.insert(prepared.id());
        }
        for expectation in &commit.expect {
            match expectation {
                Expectation::Absent(r) | Expectation::Exists(r) | Expectation::Revision(r, _) => self.record(r.clone(), false),
                Expectation::AtMost(r, ..) => self.record(r.clone(), true),
                Expectation::StreamAt(s, _) => {
                    self.streams.insert(s.clone());
                }
                Expectation::Lease(k, _) => self.record(lease_record(k), true),
            }
        }
        for write in &commit.writes {
            match write {
                Write::Put(r, _) | Write::Delete(r) => self.record(r.clone(), false),
                Write::Merge(r, _) => self.record(r.clone(), true),
                Write::Acquire(a) => self.record(lease_record(&a.lease), true),
                Write::Renew { lease, .. } | Write::Release { lease, .. } | Write::Break { lease } => {
                    self.record(lease_record(lease), true);
                }
            }
        }
        for append in &commit.appends {
            self.streams.insert(append.stream.clone());
            for id in append.events.iter().filter_map(|e| e.id.as_ref()) {
                self.event_ids.insert((append.stream.clone(), id.clone()));
            }
        }
        self.streams.extend(commit.trims.iter().map(|t| t.stream.clone()));
        self.streams.extend(commit.seals.iter().cloned());
    }

    fn record(&mut self, record: RecordId, document: bool) {
        *self.records.entry(record).or_insert(false) |= document;
    }
}
