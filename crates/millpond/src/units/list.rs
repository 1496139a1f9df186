//! How units stand, for people and programs that look on.

use millpond_core::{Document, Page, PageCursor, Query, Records, Result, Timestamp, Versioned};
use serde::Serialize;

use super::{UnitInfo, UnitOperation, UnitState, Units};
use crate::conditions::Conditions as _;

/// Which units.
#[derive(Debug, Clone)]
pub struct UnitFilter {
    /// How they stand; any if there is none.
    pub states: Vec<UnitState>,
    /// Who works or worked on them.
    pub worker: Option<String>,
    /// Begun at or after.
    pub began_from: Option<Timestamp>,
    /// Begun before.
    pub began_before: Option<Timestamp>,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
    /// Continue after a page of the same filter.
    pub after: Option<PageCursor>,
}

impl Default for UnitFilter {
    fn default() -> Self {
        Self { states: Vec::new(), worker: None, began_from: None, began_before: None, limit: 100, after: None }
    }
}

/// A unit with its operations.
#[derive(Debug, Clone, Serialize)]
pub struct UnitDetail {
    /// The unit.
    #[serde(flatten)]
    pub unit: UnitInfo,
    /// Until when it belongs to whoever works on it; `None` when nobody does.
    pub deadline: Option<Timestamp>,
    /// Its operations in their order, each as it stands now.
    pub operations: Vec<UnitOperation>,
}

impl Units {
    /// Units, those that began last first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn list(&self, filter: &UnitFilter) -> Result<Page<Versioned<UnitInfo>>> {
        self.page(filter).await.map_err(|e| e.during("units.list"))
    }

    async fn page(&self, filter: &UnitFilter) -> Result<Page<Versioned<UnitInfo>>> {
        let query = Query::new(UnitInfo::COLLECTION.name())?
            .any_of("state", filter.states.iter().map(|s| s.as_str()))
            .given("worker", filter.worker.clone())
            .between("began", filter.began_from, filter.began_before)
            .order_desc("began")
            .limit(filter.limit)
            .after(filter.after.clone());
        Records::<UnitInfo>::new(self.undoing().store.clone()).page(query).await
    }

    /// A unit with its operations, or `None`.
    ///
    /// # Errors
    /// `Corrupt` when something of it does not read back.
    pub async fn get(&self, unit: &str) -> Result<Option<UnitDetail>> {
        self.detail(unit).await.map_err(|e| e.during("units.get"))
    }

    async fn detail(&self, unit: &str) -> Result<Option<UnitDetail>> {
        let undoing = self.undoing();
        let Some(info) = Records::<UnitInfo>::new(undoing.store.clone()).get(unit).await? else { return Ok(None) };
        let mut operations = undoing.operations(unit).await?;
        for operation in &mut operations {
            operation.status = operation.status_in(info.value.state);
        }
        let lease = undoing.locks.info(super::steps::lease(unit)?.as_str()).await?;
        Ok(Some(UnitDetail { unit: info.value, deadline: lease.map(|l| l.lease.deadline), operations }))
    }
}
