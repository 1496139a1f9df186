//! Engines that keep namespaces, declarations or what was purged wrongly.

use async_trait::async_trait;
use millpond_core::Namespace;

use super::BrokenEngine;
use crate::reference::Steps;

pub(super) fn all() -> Vec<BrokenEngine> {
    vec![
        BrokenEngine::new("no-backfill", "a field declared later is empty in older records", NoBackfill),
        BrokenEngine::new("no-floors", "a purge forgets which revisions and ids were used", NoFloors),
        BrokenEngine::new("careless-delete", "a namespace is deleted whatever store id is named", CarelessDelete),
        BrokenEngine::new("same-store-id", "a namespace made again has the store id it had before", SameStoreId),
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

    async fn between_reads(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}
