//! What events add up to, and the one rule for success and failure.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{EventFilter, EventGroup, EventGroupBy, Result, Store, Timestamp, limits};
use serde::Serialize;

/// What events add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EventStats {
    /// How many.
    pub total: u64,
    /// How many of each type.
    pub by_type: BTreeMap<String, u64>,
    /// How many tell of a success; see [`verdict`].
    pub succeeded: u64,
    /// How many tell of a failure; see [`verdict`].
    pub failed: u64,
    /// The earliest time.
    pub first: Option<Timestamp>,
    /// The latest time.
    pub last: Option<Timestamp>,
}

impl EventStats {
    /// From the earliest to the latest.
    pub fn duration(&self) -> Duration {
        match (self.first, self.last) {
            (Some(first), Some(last)) => last.since(first),
            _ => Duration::ZERO,
        }
    }

    fn add(&mut self, group: EventGroup) {
        let kind = group.value.unwrap_or_default();
        // Those whose body says neither are judged by their type.
        let silent = group.count.saturating_sub(group.succeeded + group.failed);
        self.succeeded += group.succeeded;
        self.failed += group.failed;
        match verdict(None, &kind) {
            Verdict::Success => self.succeeded += silent,
            Verdict::Failure => self.failed += silent,
            Verdict::Neither => {}
        }
        self.total += group.count;
        self.first = Some(self.first.map_or(group.first, |t| t.min(group.first)));
        self.last = Some(self.last.map_or(group.last, |t| t.max(group.last)));
        *self.by_type.entry(kind).or_default() += group.count;
    }
}

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Something went well.
    Success,
    /// Something went wrong.
    Failure,
    /// Neither.
    Neither,
}

/// The rule: a boolean `success` in the event's body decides; without one, a type that ends in `completed` tells of
/// a success and one that ends in `failed` of a failure.
pub fn verdict(success: Option<bool>, kind: &str) -> Verdict {
    match success {
        Some(true) => Verdict::Success,
        Some(false) => Verdict::Failure,
        None if kind.ends_with("completed") => Verdict::Success,
        None if kind.ends_with("failed") => Verdict::Failure,
        None => Verdict::Neither,
    }
}

/// Counts the events of a filter by type and adds the counts up.
pub(super) async fn aggregate(store: &Store, filter: EventFilter) -> Result<EventStats> {
    let groups = store.event_groups(filter, EventGroupBy::Kind, limits::PAGE_ROWS).await?;
    let mut stats = EventStats::default();
    groups.into_iter().for_each(|group| stats.add(group));
    Ok(stats)
}
