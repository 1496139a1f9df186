//! Subscriptions, written once: a read loop over a feed, and hints that only save waiting.
//!
//! Delivery is at least once, in position order, resumable from any delivery's cursor. Nothing is buffered beyond
//! one page, and a page is read only when the last one was taken: that is the back-pressure. A hint that never
//! comes degrades a subscription to polling, never to loss.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::Result;
use crate::feed::{Change, FeedRequest, Selector};
use crate::position::{Cursor, Position};
use crate::query::Damaged;
use crate::store::Store;

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StartAt {
    /// At the oldest that is kept.
    #[default]
    Oldest,
    /// With what is committed from now on.
    Now,
    /// After everything a cursor has seen.
    After(Cursor),
}

/// One delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// A change, and the cursor that resumes after it.
    Change(Change, Cursor),
    /// A watch of records that began at the oldest has now shown every record that existed when it began, in its
    /// latest state; changes made meanwhile may have come before this mark.
    SnapshotEnd(Cursor),
    /// Something that does not read back was passed over.
    Damaged(Damaged, Cursor),
}

impl Delivery {
    /// Resumes after this delivery.
    pub fn cursor(&self) -> &Cursor {
        match self {
            Self::Change(_, c) | Self::SnapshotEnd(c) | Self::Damaged(_, c) => c,
        }
    }
}

/// How a subscription reads.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Changes in a page.
    pub page: usize,
    /// How long it waits for a hint before it looks by itself.
    pub poll: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { page: 256, poll: Duration::from_millis(500) }
    }
}

/// A live feed. Dropping it ends it; there is nothing to clean up.
#[derive(Debug)]
pub struct Subscription {
    store: Store,
    selector: Selector,
    pace: Pace,
    /// Everything up to here was delivered or is in `ready`; `None` before the first page.
    after: Option<Position>,
    ready: VecDeque<Delivery>,
    /// The head when a snapshot began; deletes up to there are no news.
    snapshot: Option<Position>,
    start: StartAt,
    started: bool,
}

impl Subscription {
    pub(crate) fn new(store: Store, selector: Selector, start: StartAt, pace: Pace) -> Self {
        Self { store, selector, pace, after: None, ready: VecDeque::new(), snapshot: None, start, started: false }
    }

    /// The next delivery; waits until there is one. Cancel-safe: a dropped call loses nothing.
    ///
    /// Ends (`None`) never by itself; errors other than `Unavailable` repeat until the subscription is made anew.
    ///
    /// # Errors
    /// `CursorExpired` when something after the cursor was forgotten: begin again at the oldest. `Unavailable` and
    /// the like pass through; call again.
    pub async fn next(&mut self) -> Option<Result<Delivery>> {
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                return Some(Ok(delivery));
            }
            match self.read_page().await {
                Err(error) => return Some(Err(error)),
                Ok(true) => {}
                Ok(false) => self.wait().await,
            }
        }
    }

    /// What is there now, without waiting: `None` when everything committed so far was delivered.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub async fn try_next(&mut self) -> Result<Option<Delivery>> {
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                return Ok(Some(delivery));
            }
            if !self.read_page().await? {
                return Ok(None);
            }
        }
    }

    /// The cursor after everything delivered so far, if anything was read yet. Moves on past changes the selector
    /// does not take, so a quiet subscription's saved cursor does not fall behind retention.
    pub fn cursor(&self) -> Option<Cursor> {
        match self.ready.front() {
            None => self.after.map(|p| self.store.cursor(p)),
            Some(first) => Some(self.store.cursor(Position(first.cursor().position().0.saturating_sub(1)))),
        }
    }

    async fn start(&mut self) -> Result<()> {
        if self.started {
            return Ok(());
        }
        match &self.start {
            StartAt::Oldest => {
                if matches!(self.selector, Selector::Records { .. }) {
                    self.snapshot = Some(self.store.head().await?);
                }
            }
            StartAt::Now => self.after = Some(self.store.head().await?),
            StartAt::After(cursor) => self.after = Some(self.store.resume(cursor)?),
        }
        self.started = true;
        Ok(())
    }

    /// Reads one page into `ready`. False when there was nothing new and the caller should wait.
    async fn read_page(&mut self) -> Result<bool> {
        self.start().await?;
        let request = FeedRequest { selector: self.selector.clone(), after: self.after, limit: self.pace.page };
        let page = self.store.feed(request).await?;
        // Nothing below awaits: either the whole page is taken, or none of it.
        let before = self.after;
        for change in page.changes {
            let position = change.position();
            // A delete from before the snapshot is no news to somebody who has seen nothing yet.
            if matches!(change, Change::Deleted(_)) && self.snapshot.is_some_and(|head| position <= head) {
                continue;
            }
            let cursor = self.store.cursor(position);
            self.ready.push_back(Delivery::Change(change, cursor));
        }
        let end = self.store.cursor(page.next);
        self.ready.extend(page.damaged.into_iter().map(|d| Delivery::Damaged(d, end.clone())));
        // The mark waits until a page reached the head of its own moment: a record that changed while the snapshot
        // was shown moved behind it, and existed all the same.
        if self.snapshot.is_some() && page.next >= page.head {
            self.snapshot = None;
            self.ready.push_back(Delivery::SnapshotEnd(end));
        }
        self.after = Some(page.next);
        Ok(!self.ready.is_empty() || (before != self.after && page.next < page.head))
    }

    async fn wait(&self) {
        let after = self.after.unwrap_or_default();
        let _ = tokio::time::timeout(self.pace.poll, self.store.changed(after)).await;
    }
}
