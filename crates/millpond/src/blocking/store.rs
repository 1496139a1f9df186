//! Raw commits, reads and feeds for synchronous callers.

use millpond_core::{
    Answer, CollectionInfo, CollectionSpec, Commit, CommitId, ContentDigest, Delivery, DigestOptions, EventFilter, EventGroup,
    EventGroupBy, EventPage, EventQuery, NamespaceInfo, Outcome, Page, Purged, Query, Read, Receipt, Record, Result, Selector,
    StartAt, StreamInfo, StreamName,
};

use crate::bridge::Bridge;

blocking_api! {
    /// One namespace of one engine, for synchronous callers.
    Store of millpond_core::Store {
        fn info() -> Result<NamespaceInfo>;
        fn declare(specs: &[CollectionSpec]) -> Result<()>;
        fn commit(commit: Commit) -> Result<Receipt>;
        fn try_commit(commit: Commit) -> Result<Outcome>;
        fn outcome(id: CommitId) -> Result<Option<Receipt>>;
        fn purge(older_than: std::time::Duration) -> Result<Purged>;
        fn read(reads: Vec<Read>) -> Result<Vec<Answer>>;
        fn get(collection: &str, key: &str) -> Result<Option<Record>>;
        fn query(query: Query) -> Result<Page>;
        fn count(query: Query) -> Result<u64>;
        fn stream(stream: &str) -> Result<Option<StreamInfo>>;
        fn streams(prefix: &str, after: Option<StreamName>, limit: usize) -> Result<Vec<StreamInfo>>;
        fn events(query: EventQuery) -> Result<EventPage>;
        fn event_groups(filter: EventFilter, by: EventGroupBy, limit: usize) -> Result<Vec<EventGroup>>;
        fn collections() -> Result<Vec<CollectionInfo>>;
        fn digest(options: DigestOptions) -> Result<ContentDigest>;
    }
}

impl Store {
    /// A live feed; see [`millpond_core::Store::subscribe`].
    pub fn subscribe(&self, selector: Selector, start: StartAt) -> Subscription {
        Subscription { subscription: self.domain.subscribe(selector, start), bridge: self.bridge.clone() }
    }
}

/// A live feed for synchronous callers.
#[derive(Debug)]
pub struct Subscription {
    subscription: millpond_core::Subscription,
    bridge: Bridge,
}

impl Subscription {
    /// The next delivery; waits until there is one.
    ///
    /// # Errors
    /// As [`millpond_core::Subscription::next`]; `Invalid` when called inside an async runtime.
    pub fn next_delivery(&mut self) -> Result<Delivery> {
        let subscription = &mut self.subscription;
        self.bridge.run(async {
            match subscription.next().await {
                Some(delivery) => delivery,
                None => Err(millpond_core::Error::unavailable("the subscription has ended")),
            }
        })
    }

    /// What is there now, without waiting.
    ///
    /// # Errors
    /// As [`millpond_core::Subscription::try_next`]; `Invalid` when called inside an async runtime.
    pub fn try_next(&mut self) -> Result<Option<Delivery>> {
        self.bridge.run(self.subscription.try_next())
    }
}
