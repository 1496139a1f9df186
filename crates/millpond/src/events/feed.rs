//! Following events as they are committed.

use millpond_core::{Change, Cursor, Delivery, Error, Event, Pace, Result, Selector, StartAt, Store, Subscription};

/// An event of a feed, and the cursor that resumes after it.
#[derive(Debug, Clone, PartialEq)]
pub struct FedEvent {
    event: Event,
    cursor: Cursor,
}

impl FedEvent {
    /// Resumes after this event.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The event alone.
    pub fn into_event(self) -> Event {
        self.event
    }
}

impl std::ops::Deref for FedEvent {
    type Target = Event;
    fn deref(&self) -> &Event {
        &self.event
    }
}

/// A live feed of events. Dropping it ends it; there is nothing to clean up.
#[derive(Debug)]
pub struct EventFeed {
    subscription: Subscription,
}

impl EventFeed {
    pub(super) fn new(store: &Store, selector: Selector, start: StartAt) -> Result<Self> {
        if matches!(selector, Selector::Records { .. }) {
            return Err(Error::invalid("the selector is about records, not events").with_next("use Pond::subscribe"));
        }
        Ok(Self { subscription: store.subscribe_with(selector, start, Pace::default()) })
    }

    /// The next event; waits until there is one, and never ends by itself. Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// `CursorExpired` when something after the cursor was forgotten: begin again at the oldest. `Corrupt` for one
    /// event that does not read back, `Unavailable` while the store cannot be reached: call again to go on.
    pub async fn next(&mut self) -> Option<Result<FedEvent>> {
        loop {
            match self.subscription.next().await? {
                Ok(delivery) => {
                    if let Some(next) = fed(delivery) {
                        return Some(next);
                    }
                }
                Err(error) => return Some(Err(error.during("events.subscribe"))),
            }
        }
    }

    /// The next event that is there already; `None` when all that was committed so far was shown.
    ///
    /// # Errors
    /// As [`EventFeed::next`].
    pub async fn try_next(&mut self) -> Result<Option<FedEvent>> {
        while let Some(delivery) = self.subscription.try_next().await.map_err(|e| e.during("events.subscribe"))? {
            if let Some(next) = fed(delivery) {
                return next.map(Some);
            }
        }
        Ok(None)
    }

    /// The cursor after everything shown so far; it moves on past events that the selector does not take.
    pub fn cursor(&self) -> Option<Cursor> {
        self.subscription.cursor()
    }
}

fn fed(delivery: Delivery) -> Option<Result<FedEvent>> {
    match delivery {
        Delivery::Change(Change::Event(event), cursor) => Some(Ok(FedEvent { event, cursor })),
        Delivery::Damaged(damaged, cursor) => Some(Err(Error::corrupt(format!("{}: {}", damaged.what, damaged.why))
            .with("cursor", cursor)
            .during("events.subscribe"))),
        Delivery::Change(..) | Delivery::SnapshotEnd(_) => None,
    }
}
