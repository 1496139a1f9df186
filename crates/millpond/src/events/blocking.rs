//! Events for synchronous callers.

use std::time::Duration;

use millpond_core::{
    Appended, Cursor, Damaged, Error, ErrorKind, Event, EventFilter, EventGroup, EventGroupBy, EventPage, EventQuery, NewEvent,
    Position, Receipt, Result, Selector, StartAt, StreamInfo,
};

use super::{EventStats, FedEvent};
use crate::bridge::Bridge;

blocking_api! {
    /// The events, for synchronous callers.
    Events of super::Events {
        fn append(stream: &str, batch: Vec<NewEvent>) -> Result<Appended>;
        fn page(query: EventQuery) -> Result<EventPage>;
        fn aggregate(filter: EventFilter) -> Result<EventStats>;
        fn groups(filter: EventFilter, by: EventGroupBy, limit: usize) -> Result<Vec<EventGroup>>;
        fn streams(prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<StreamInfo>>;
        fn stream(stream: &str) -> Result<Option<StreamInfo>>;
        fn trim(stream: &str, before: u64) -> Result<Receipt>;
    }
}

impl Events {
    /// Reads events, oldest first unless told otherwise. See [`super::Events::query`].
    pub fn query(&self, filter: EventFilter) -> EventReader {
        EventReader { reader: self.domain.query(filter), bridge: self.bridge.clone() }
    }

    /// Follows events as they are committed. See [`super::Events::subscribe`].
    ///
    /// # Errors
    /// `Invalid` when the selector is about records.
    pub fn subscribe(&self, selector: Selector, start: StartAt) -> Result<EventFeed> {
        Ok(EventFeed { feed: self.domain.subscribe(selector, start)?, bridge: self.bridge.clone() })
    }
}

/// Events of a filter, as an iterator. See [`crate::EventReader`].
#[derive(Debug)]
pub struct EventReader {
    reader: super::EventReader,
    bridge: Bridge,
}

impl EventReader {
    /// Newest first.
    #[must_use]
    pub fn newest_first(mut self) -> Self {
        self.reader = self.reader.newest_first();
        self
    }

    /// Begins beyond a position, in the order of reading.
    #[must_use]
    pub fn after(mut self, position: Option<Position>) -> Self {
        self.reader = self.reader.after(position);
        self
    }

    /// Ends after so many events.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.reader = self.reader.limit(limit);
        self
    }

    /// Events that did not read back and were passed over since this was asked last.
    pub fn take_damaged(&mut self) -> Vec<Damaged> {
        self.reader.take_damaged()
    }
}

impl Iterator for EventReader {
    type Item = Result<Event>;
    fn next(&mut self) -> Option<Self::Item> {
        self.bridge.run(self.reader.next()).transpose()
    }
}

/// A live feed of events, for synchronous callers. See [`crate::EventFeed`].
#[derive(Debug)]
pub struct EventFeed {
    feed: super::EventFeed,
    bridge: Bridge,
}

impl EventFeed {
    /// The next event; waits until there is one, at most so long: `None` when the time is up.
    ///
    /// # Errors
    /// As [`crate::EventFeed::next`]; `Invalid` when called inside an async runtime.
    pub fn next_within(&mut self, wait: Duration) -> Result<Option<FedEvent>> {
        let feed = &mut self.feed;
        self.bridge.run(async {
            match tokio::time::timeout(wait, feed.next()).await {
                Err(_) => Ok(None),
                Ok(Some(next)) => next.map(Some),
                Ok(None) => Err(Error::new(ErrorKind::Unavailable, "the feed ended")),
            }
        })
    }

    /// The cursor after everything shown so far.
    pub fn cursor(&self) -> Option<Cursor> {
        self.feed.cursor()
    }
}
