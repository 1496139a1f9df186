//! Events: what happened, appended to streams, read back as a stream, counted by the engine, followed as it happens.
//!
//! In a pond over several stores, what would span two of them is refused.
//!
//! An event is never changed and has a dense sequence in its stream. One with an id is appended once, however often
//! it is sent, so a batch can be sent again after a crash.

pub(crate) mod blocking;
mod feed;
mod reader;
mod stats;

use millpond_core::{
    Appended, Commit, Error, EventFilter, EventGroup, EventGroupBy, EventPage, EventQuery, NewEvent, Receipt, Result, Selector,
    StartAt, StreamInfo, StreamName,
};

use crate::homes::Homes;

pub use feed::{EventFeed, FedEvent};
pub use reader::{EventReader, EventStream};
pub use stats::{EventStats, Verdict, verdict};

/// The events of a pond.
#[derive(Debug, Clone)]
pub struct Events {
    homes: Homes,
}

impl Events {
    pub(crate) fn new(homes: Homes) -> Self {
        Self { homes }
    }

    /// The stream of a job's events.
    pub fn job_stream(job: &str) -> String {
        format!("jobs/{job}")
    }

    /// Takes the events of a job.
    ///
    /// # Errors
    /// `Invalid` when the id cannot be part of a stream's name.
    pub fn of_job(job: &str) -> Result<EventFilter> {
        Ok(EventFilter::stream(StreamName::new(Self::job_stream(job))?))
    }

    /// Appends a batch to a stream, in order, and says where it went. Events whose id the stream holds already are not
    /// appended again; the answer says where they are.
    ///
    /// One commit point: the whole batch, of up to 4,096 events and 8 MiB.
    ///
    /// # Errors
    /// `Invalid` when the batch is empty or beyond a limit; `Conflict` when the stream is sealed.
    pub async fn append(&self, stream: &str, batch: Vec<NewEvent>) -> Result<Appended> {
        let part = Self::append_part(stream, batch).map_err(|e| e.during("events.append"))?;
        let receipt =
            self.homes.of_stream(stream).commit(part).await.map_err(|e| crate::runs::explain(e).during("events.append"))?;
        let sequences = receipt.sequences.into_iter().next();
        sequences.ok_or_else(|| Error::corrupt("the store answered no sequence to an append").during("events.append"))
    }

    /// The part of a commit that [`Events::append`] makes.
    ///
    /// # Errors
    /// `Invalid` when the batch is empty, or a name or an event breaks a rule.
    pub fn append_part(stream: &str, batch: Vec<NewEvent>) -> Result<Commit> {
        if batch.is_empty() {
            return Err(Error::invalid("there is no event to append"));
        }
        batch.iter().try_for_each(NewEvent::check)?;
        Commit::new().append_all(stream, batch)
    }

    /// Reads events, oldest first unless told otherwise, page by page: nothing is read before the first
    /// [`EventReader::next`], and never more than one page ahead.
    pub fn query(&self, filter: EventFilter) -> EventReader {
        EventReader::new(self.homes.of_events(&filter).cloned(), filter)
    }

    /// One page of events.
    ///
    /// # Errors
    /// `Invalid` when the filter or the limit is.
    pub async fn page(&self, query: EventQuery) -> Result<EventPage> {
        let page = async { self.homes.of_events(&query.filter)?.events(query).await };
        page.await.map_err(|e| e.during("events.page"))
    }

    /// What the events of a filter add up to: counted by the engine, which moves as many rows as there are types.
    ///
    /// # Errors
    /// `Invalid` when there are more than 10,000 types.
    pub async fn aggregate(&self, filter: EventFilter) -> Result<EventStats> {
        let counted = async { stats::aggregate(self.homes.of_events(&filter)?, filter).await };
        counted.await.map_err(|e| e.during("events.aggregate"))
    }

    /// Counts of events by type, stream or agent: up to `limit` groups, in the order of what they share.
    ///
    /// # Errors
    /// `Invalid` when the filter or the limit is.
    pub async fn groups(&self, filter: EventFilter, by: EventGroupBy, limit: usize) -> Result<Vec<EventGroup>> {
        let groups = async { self.homes.of_events(&filter)?.event_groups(filter, by, limit).await };
        groups.await.map_err(|e| e.during("events.groups"))
    }

    /// Follows events as they are committed, from the oldest kept, from now on, or after a cursor.
    ///
    /// # Errors
    /// `Invalid` when the selector is about records.
    pub fn subscribe(&self, selector: Selector, start: StartAt) -> Result<EventFeed> {
        let store = self.homes.of_selector(&selector);
        store.and_then(|store| EventFeed::new(store, selector, start)).map_err(|e| e.during("events.subscribe"))
    }

    /// A page of the streams that hold events, by name: those that begin with `prefix`, after the name `after`.
    ///
    /// # Errors
    /// `Invalid` when the limit or a name is.
    pub async fn streams(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<StreamInfo>> {
        let after = after.map(StreamName::new).transpose()?;
        self.homes.of_streams(prefix)?.streams(prefix, after, limit).await.map_err(|e| e.during("events.streams"))
    }

    /// What is known about a stream; `None` before its first event.
    ///
    /// # Errors
    /// `Invalid` when the name breaks a rule.
    pub async fn stream(&self, stream: &str) -> Result<Option<StreamInfo>> {
        self.homes.of_stream(stream).stream(stream).await.map_err(|e| e.during("events.stream"))
    }

    /// Forgets the events of a stream before a sequence. Sequences go on where they were. A feed whose cursor is older
    /// answers `CursorExpired`.
    ///
    /// One commit point: the stream's floor and the events below it.
    ///
    /// # Errors
    /// `Invalid` when the sequence is beyond the stream's end, or the stream is the sealed log of a run.
    pub async fn trim(&self, stream: &str, before: u64) -> Result<Receipt> {
        let part = Commit::new().trim(stream, before).map_err(|e| e.during("events.trim"))?;
        self.homes.of_stream(stream).commit(part).await.map_err(|e| e.during("events.trim"))
    }
}
