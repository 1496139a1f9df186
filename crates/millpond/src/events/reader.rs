//! Reading many events: a first page that is small, so that the first event comes at once, then larger ones.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use millpond_core::{Damaged, Direction, Error, Event, EventFilter, EventQuery, Position, Result, Store};

/// Events in the first page.
const FIRST_PAGE: usize = 32;
/// Events in the largest page; an engine also closes a page at 16 MiB.
const LARGEST_PAGE: usize = 2_048;
/// Each page is so many times as large as the one before.
const GROWTH: usize = 8;

/// Events of a filter, one after the other. See [`crate::Events::query`].
#[derive(Debug)]
pub struct EventReader {
    /// Or why there is none to read.
    store: Result<Store>,
    query: EventQuery,
    page: usize,
    left: Option<usize>,
    ready: VecDeque<Event>,
    damaged: Vec<Damaged>,
    done: bool,
}

impl EventReader {
    pub(super) fn new(store: Result<Store>, filter: EventFilter) -> Self {
        Self {
            store,
            query: EventQuery::new(filter),
            page: FIRST_PAGE,
            left: None,
            ready: VecDeque::new(),
            damaged: Vec::new(),
            done: false,
        }
    }

    /// Newest first.
    #[must_use]
    pub fn newest_first(mut self) -> Self {
        self.query.direction = Direction::Descending;
        self
    }

    /// Begins beyond a position, in the order of reading.
    #[must_use]
    pub fn after(mut self, position: Option<Position>) -> Self {
        self.query.after = position;
        self
    }

    /// Ends after so many events.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.left = Some(limit);
        self
    }

    /// The next event; `None` at the end. After an error the same page is read again. Cancel-safe.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        while self.ready.is_empty() && !self.done {
            self.fill().await.map_err(|e| e.during("events.query"))?;
        }
        Ok(self.ready.pop_front())
    }

    /// Up to `limit` more events at once.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn take(&mut self, limit: usize) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while events.len() < limit {
            match self.next().await? {
                Some(event) => events.push(event),
                None => break,
            }
        }
        Ok(events)
    }

    /// Events that did not read back and were passed over since this was asked last.
    pub fn take_damaged(&mut self) -> Vec<Damaged> {
        std::mem::take(&mut self.damaged)
    }

    /// The same as a `futures` stream.
    pub fn into_stream(self) -> EventStream {
        EventStream { state: State::Ready(Box::new(self)) }
    }

    async fn fill(&mut self) -> Result<()> {
        let limit = self.left.map_or(self.page, |left| left.min(self.page));
        if limit == 0 {
            self.done = true;
            return Ok(());
        }
        let store = self.store.as_ref().map_err(Error::duplicate)?;
        let page = store.events(self.query.clone().limit(limit)).await?;
        // Nothing below awaits: either the whole page is taken, or none of it.
        self.left = self.left.map(|left| left.saturating_sub(page.items.len()));
        self.query.after = page.next;
        self.done = page.next.is_none();
        self.page = (self.page * GROWTH).min(LARGEST_PAGE);
        self.ready.extend(page.items);
        self.damaged.extend(page.damaged);
        Ok(())
    }
}

type Reading = Pin<Box<dyn Future<Output = (Box<EventReader>, Result<Option<Event>>)> + Send>>;

enum State {
    Ready(Box<EventReader>),
    Reading(Reading),
    Ended,
}

/// Events of a filter as a `futures` stream. It ends after the first error.
pub struct EventStream {
    state: State,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl futures_core::Stream for EventStream {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Ready(mut reader) => {
                    if let Some(event) = reader.ready.pop_front() {
                        self.state = State::Ready(reader);
                        return Poll::Ready(Some(Ok(event)));
                    }
                    self.state = State::Reading(Box::pin(async move {
                        let next = reader.next().await;
                        (reader, next)
                    }));
                }
                State::Reading(mut reading) => match reading.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready((reader, Ok(Some(event)))) => {
                        self.state = State::Ready(reader);
                        return Poll::Ready(Some(Ok(event)));
                    }
                    Poll::Ready((_, Ok(None))) => return Poll::Ready(None),
                    Poll::Ready((_, Err(error))) => return Poll::Ready(Some(Err(error))),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::{Json, NewEvent};

    #[tokio::test]
    async fn pages_begin_small_and_grow() {
        let pond = crate::open("memory:").await.expect("opens");
        let batch = (0..4_000).map(|_| NewEvent::new("n", Json::from_store("1"))).collect();
        pond.events().append("s", batch).await.expect("appends");
        let mut reader = pond.events().query(EventFilter::all());
        let mut pages = Vec::new();
        while reader.next().await.expect("reads").is_some() {
            pages.push(reader.ready.len() + 1);
            reader.ready.clear();
        }
        assert_eq!(pages, [32, 256, 2_048, 4_000 - 2_336], "the first event waits for 32, and no page is unbounded");
    }
}
