//! Engines whose feeds or hints are wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use millpond_core::plan::Plan;
use millpond_core::{Change, Position, PreparedCommit};

use super::BrokenEngine;
use crate::reference::{NamespaceData, Steps};

pub(super) fn all() -> Vec<BrokenEngine> {
    vec![
        BrokenEngine::new("late-commit", "of commits under way at once, one is seen after a later one", LateCommit::default()),
        BrokenEngine::new("silent-skip", "a cursor before something forgotten skips it in silence", SilentSkip),
        BrokenEngine::new("missing-deletes", "a feed of records leaves deletes out", MissingDeletes),
        BrokenEngine::new("endless-page", "a page of a feed holds everything there is", EndlessPage),
        BrokenEngine::new("repeating-feed", "a feed shows the change at its cursor again", RepeatingFeed),
        BrokenEngine::new("feed-by-key", "a feed of records is in the order of keys", FeedByKey),
        BrokenEngine::new("deaf", "no hint ever comes", Deaf),
    ]
}

/// What a sequence taken early and committed late looks like to a reader: the head has passed it, and it is not there.
#[derive(Debug, Default)]
struct LateCommit {
    under_way: AtomicUsize,
    unseen: Mutex<Vec<(Position, Instant)>>,
}

impl LateCommit {
    fn unseen(&self) -> MutexGuard<'_, Vec<(Position, Instant)>> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Steps for LateCommit {
    fn reserve(&self, _: &mut NamespaceData, _: &[PreparedCommit]) -> Option<Position> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        None
    }

    async fn pause(&self, _: &[PreparedCommit]) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn planned(&self, _: &[PreparedCommit], plan: &mut Plan, _: &mut NamespaceData) {
        if self.under_way.fetch_sub(1, Ordering::SeqCst) > 1 {
            let until = Instant::now() + Duration::from_millis(5);
            self.unseen().extend(plan.mutations.events.iter().map(|e| (e.event.position, until)));
        }
    }

    fn feed(&self, changes: &mut Vec<Change>) {
        let mut unseen = self.unseen();
        unseen.retain(|(_, until)| *until > Instant::now());
        changes.retain(|c| unseen.iter().all(|(position, _)| *position != c.position()));
    }
}

#[derive(Debug, Default)]
struct SilentSkip;

impl Steps for SilentSkip {
    fn expires_cursors(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct MissingDeletes;

impl Steps for MissingDeletes {
    fn feed(&self, changes: &mut Vec<Change>) {
        changes.retain(|c| !matches!(c, Change::Deleted(_)));
    }
}

#[derive(Debug, Default)]
struct Deaf;

impl Steps for Deaf {
    fn hints(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct EndlessPage;

impl Steps for EndlessPage {
    fn feed_limit(&self, _: usize) -> usize {
        usize::MAX
    }
}

#[derive(Debug, Default)]
struct RepeatingFeed;

impl Steps for RepeatingFeed {
    fn change_beyond(&self, change: Position, after: Position) -> bool {
        change >= after
    }
}

#[derive(Debug, Default)]
struct FeedByKey;

impl Steps for FeedByKey {
    fn feed(&self, changes: &mut Vec<Change>) {
        let key = |c: &Change| match c {
            Change::Record(r) => r.key.to_string(),
            Change::Deleted(d) => d.key.to_string(),
            // Events stay where they are: the sort is stable, and they come without records.
            Change::Event(_) => String::new(),
        };
        changes.sort_by_key(key);
    }
}
