//! Engines that keep namespaces, declarations or what was purged wrongly.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use millpond_core::plan::{State, StoredReceipt};
use millpond_core::{Answer, CommitId, Json, Namespace, Position, Timestamp};

use super::BrokenEngine;
use crate::reference::{Steps, StoredRecord};

pub(super) fn all() -> Vec<BrokenEngine> {
    vec![
        BrokenEngine::new("no-backfill", "a field declared later is empty in older records", NoBackfill),
        BrokenEngine::new("no-floors", "a purge forgets which revisions and ids were used", NoFloors),
        BrokenEngine::new("careless-delete", "a namespace is deleted whatever store id is named", CarelessDelete),
        BrokenEngine::new("same-store-id", "a namespace made again has the store id it had before", SameStoreId),
        BrokenEngine::new("made-again", "making a namespace that exists empties it", MadeAgain),
        BrokenEngine::new("made-by-use", "a namespace comes into being by being used", MadeByUse),
        BrokenEngine::new("shared-receipts", "receipts are looked up without their namespace", SharedReceipts::default()),
        BrokenEngine::new("silent-collections", "collections are listed as if there were none", SilentCollections),
        BrokenEngine::new("purge-all", "a purge forgets everything, whatever moment is named", PurgeAll),
        BrokenEngine::new("loose-declarations", "a declaration is not held against the one before it", LooseDeclarations),
        BrokenEngine::new("stale-index", "index fields are those a record was created with", StaleIndex),
        BrokenEngine::new("swapped-answers", "answers to several reads come in another order", SwappedAnswers),
        BrokenEngine::new("torn-read", "reads of one call are answered from different moments", TornRead),
    ]
}

#[derive(Debug, Default)]
struct NoBackfill;

impl Steps for NoBackfill {
    fn backfills(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct NoFloors;

impl Steps for NoFloors {
    fn raises_floors(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct CarelessDelete;

impl Steps for CarelessDelete {
    fn confirms_delete(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct SameStoreId;

impl Steps for SameStoreId {
    fn store_id(&self, namespace: &Namespace, _: String) -> String {
        format!("store-of-{namespace}")
    }
}

#[derive(Debug, Default)]
struct TornRead;

#[async_trait]
impl Steps for TornRead {
    fn one_snapshot(&self) -> bool {
        false
    }

    async fn after_first_read(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[derive(Debug, Default)]
struct MadeAgain;

impl Steps for MadeAgain {
    fn refuses_to_make_again(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct MadeByUse;

impl Steps for MadeByUse {
    fn makes_by_use(&self) -> bool {
        true
    }
}

#[derive(Debug, Default)]
struct SharedReceipts(Mutex<HashMap<CommitId, StoredReceipt>>);

impl Steps for SharedReceipts {
    fn remembers(&self, receipt: &StoredReceipt) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(receipt.receipt.id, receipt.clone());
        true
    }

    fn loaded(&self, state: &mut State, _: Option<Position>) {
        state.receipts.extend(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone());
    }
}

#[derive(Debug, Default)]
struct SilentCollections;

impl Steps for SilentCollections {
    fn lists_collections(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct PurgeAll;

impl Steps for PurgeAll {
    fn purges_before(&self, before: Timestamp) -> Timestamp {
        // As far as a clock goes that nobody set wrong by more than an hour.
        before.plus(std::time::Duration::from_secs(7_200))
    }
}

#[derive(Debug, Default)]
struct LooseDeclarations;

impl Steps for LooseDeclarations {
    fn checks_declarations(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct StaleIndex;

impl Steps for StaleIndex {
    fn indexed<'d>(&self, stored: &'d StoredRecord) -> Option<&'d Json> {
        stored.document.as_ref().and(stored.first.as_ref())
    }
}

#[derive(Debug, Default)]
struct SwappedAnswers;

impl Steps for SwappedAnswers {
    fn answers(&self, answers: &mut Vec<Answer>) {
        answers.reverse();
    }
}
