//! Counts of rows, made by the engine: one group for each route, adapter and status.

use std::collections::BTreeMap;

use millpond_core::{Answer, Error, Read, Result, Scalar, limits};
use serde::{Deserialize, Serialize};

use super::found_by::of_tally;
use super::{LineageFilter, LineageRows, LineageStatus};

/// How many rows of one adapter stand how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterCounts {
    /// The route.
    pub route: String,
    /// The adapter.
    pub adapter: String,
    /// Its rows.
    pub count: u64,
    /// Those that were completed.
    pub completed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Rows of each status; a status that none has is left out.
    pub statuses: BTreeMap<LineageStatus, u64>,
}

/// What the rows that a filter takes add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageStats {
    /// All rows.
    pub count: u64,
    /// Those that were completed.
    pub completed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Each adapter of each route, by name.
    pub adapters: Vec<AdapterCounts>,
}

impl LineageRows {
    /// What the rows that a filter takes add up to; its order, limit and cursor play no part.
    ///
    /// # Errors
    /// `Invalid` when there are more than 10,000 groups of a route, an adapter and a status.
    pub async fn stats(&self, filter: &LineageFilter) -> Result<LineageStats> {
        self.grouped(filter).await.map_err(|e| e.during("lineage.stats"))
    }

    async fn grouped(&self, filter: &LineageFilter) -> Result<LineageStats> {
        let query = filter.conditions()?.limit(limits::PAGE_ROWS);
        let read = Read::GroupBy { query, field: "tally".to_owned(), bucket: None, measure: None };
        let groups = self.store.read(vec![read]).await?.into_iter().next().map(Answer::into_groups).transpose()?;
        let mut adapters: BTreeMap<(String, String), AdapterCounts> = BTreeMap::new();
        for group in groups.unwrap_or_default() {
            let (route, adapter, status) = counted_as(group.value.as_ref())?;
            let counts = adapters.entry((route.to_owned(), adapter.to_owned())).or_default();
            (counts.route, counts.adapter) = (route.to_owned(), adapter.to_owned());
            counts.add(status, group.count);
        }
        let mut all = LineageStats { adapters: adapters.into_values().collect(), ..LineageStats::default() };
        for adapter in &all.adapters {
            all.count += adapter.count;
            all.completed += adapter.completed;
            all.failed += adapter.failed;
        }
        Ok(all)
    }
}

/// What a group of rows is counted as. Rows that are not understood are an error: they would be missing from the sums.
fn counted_as(value: Option<&Scalar>) -> Result<(&str, &str, LineageStatus)> {
    let tally = if let Some(Scalar::Text(tally)) = value { tally.as_str() } else { "" };
    of_tally(tally).ok_or_else(|| {
        Error::corrupt(format!("rows of lineage are counted as {tally:?}, which is no route, adapter and status"))
            .with_next("use the newest program; a newer one may have written them")
    })
}

impl AdapterCounts {
    fn add(&mut self, status: LineageStatus, count: u64) {
        self.count += count;
        match status {
            LineageStatus::Completed => self.completed += count,
            LineageStatus::Failed => self.failed += count,
            _ => {}
        }
        *self.statuses.entry(status).or_default() += count;
    }
}
