//! One namespace of one engine, as everything above the engines sees it.

use std::sync::{Arc, PoisonError, RwLock};

use crate::collection::{Catalog, CollectionSpec};
use crate::commit::{Commit, PreparedCommit};
use crate::engine::{Answer, CollectionInfo, Engine, NamespaceInfo, Purged, Read, StaleReads};
use crate::error::{Error, ErrorKind, Result};
use crate::event::StreamInfo;
use crate::feed::{EventFilter, EventGroup, EventGroupBy, EventPage, EventQuery, FeedPage, FeedRequest, Selector};
use crate::front::Front;
use crate::id::CommitId;
use crate::name::{Namespace, RecordId, StreamName};
use crate::outcome::{Outcome, Receipt};
use crate::position::{Cursor, Position};
use crate::query::{Page, Query};
use crate::record::{Document, Record};
use crate::subscribe::{Pace, StartAt, Subscription};
use crate::time::{Host, Timestamp};
use crate::typed::Records;

/// How often a commit whose outcome is unknown is sent again before the caller hears of it.
const SETTLE_TRIES: u32 = 3;

#[derive(Debug)]
struct Shared {
    front: Arc<Front>,
    namespace: Namespace,
    store_id: String,
    host: Arc<dyn Host>,
    catalog: RwLock<Arc<Catalog>>,
}

/// A handle on one namespace. Cheap to clone; all clones share one commit queue.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
    inline: bool,
    stale: bool,
}

impl Store {
    /// Opens a namespace. `default` is made if it does not exist; any other has to be made first.
    ///
    /// # Errors
    /// `NotFound` when the namespace does not exist.
    pub async fn open(front: Arc<Front>, namespace: Namespace) -> Result<Self> {
        let engine = front.engine();
        let info = match engine.namespace(&namespace).await? {
            Some(info) => info,
            None if namespace.as_str() == Namespace::DEFAULT => match engine.create_namespace(&namespace).await {
                Err(e) if e.is_conflict() => engine.namespace(&namespace).await?.ok_or(e)?,
                other => other?,
            },
            None => {
                return Err(Error::not_found(format!("namespace {:?} does not exist", namespace.as_str()))
                    .with_next(format!("make it: millpond namespaces create {namespace}")));
            }
        };
        let namespace = namespace.bound(&info.store_id);
        let catalog = engine.catalog(&namespace).await?;
        let host = engine.host();
        let shared = Shared { front, namespace, store_id: info.store_id, host, catalog: RwLock::new(catalog) };
        Ok(Self { shared: Arc::new(shared), inline: false, stale: false })
    }

    /// The same store for a synchronous caller: its calls may run on the caller's own thread and block it.
    #[must_use]
    pub fn inline(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), inline: true, stale: self.stale }
    }

    /// The same store for a caller that takes stale answers: reads come from what this process holds already, without a
    /// round trip. They lack nothing that this process was told. Where a fresh read costs no more, as on SQL, it is one.
    /// Commits, feeds and subscriptions are as they were.
    #[must_use]
    pub fn stale(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), inline: self.inline, stale: true }
    }

    /// The engine behind.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        self.shared.front.engine()
    }

    /// The commit queue.
    pub fn front(&self) -> &Arc<Front> {
        &self.shared.front
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.shared.namespace
    }

    /// The id the namespace got when it was made.
    pub fn store_id(&self) -> &str {
        &self.shared.store_id
    }

    /// The engine's clock and randomness.
    pub fn host(&self) -> &dyn Host {
        &*self.shared.host
    }

    /// The same, to be kept by what asks other servers.
    pub fn shared_host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.shared.host)
    }

    /// The engine's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.host.now()
    }

    /// A fresh commit id.
    pub fn new_commit_id(&self) -> CommitId {
        CommitId::generate(self.host())
    }

    /// What the engine knows about the namespace now.
    ///
    /// # Errors
    /// `NotFound` when it was deleted meanwhile.
    pub async fn info(&self) -> Result<NamespaceInfo> {
        let info = self.engine().namespace(self.namespace()).await?;
        info.filter(|i| i.store_id == self.shared.store_id)
            .ok_or_else(|| Error::not_found(format!("namespace {:?} was deleted", self.namespace().as_str())))
    }

    /// The last position given out.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn head(&self) -> Result<Position> {
        Ok(self.info().await?.position)
    }

    /// The declarations as this handle knows them.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.shared.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Declares collections. Cheap when nothing changes.
    ///
    /// # Errors
    /// `Invalid` when a declaration breaks a rule or contradicts what is stored.
    pub async fn declare(&self, specs: &[CollectionSpec]) -> Result<()> {
        let known = self.catalog();
        if specs.iter().all(|s| known.get(s.name.as_str()).is_some_and(|k| s.following(k).is_ok_and(|m| m == **k))) {
            return Ok(());
        }
        let catalog = self.engine().declare(self.namespace(), specs).await?;
        *self.shared.catalog.write().unwrap_or_else(PoisonError::into_inner) = catalog;
        Ok(())
    }

    /// Commits, and answers a failed expectation as a value. One commit point: the whole commit.
    ///
    /// A commit whose outcome is unknown is sent again under its id a few times before the error is returned.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable` (not applied) or `UnknownOutcome`.
    // Prepared before the future is made, so that a waiting caller keeps a handle and not the whole commit twice:
    // ten thousand callers wait in memory.
    pub fn try_commit(&self, commit: Commit) -> impl Future<Output = Result<Outcome>> + Send + '_ {
        let prepared = commit.prepare(self.host(), &self.catalog());
        async move { self.settle(prepared?).await }
    }

    async fn settle(&self, mut prepared: PreparedCommit) -> Result<Outcome> {
        let mut unknown: Option<Error> = None;
        let mut tries = 0;
        loop {
            let answer = self.shared.front.submit(self.namespace(), prepared.clone(), self.inline).await;
            match (answer, unknown) {
                (Err(e), _) if e.kind() == ErrorKind::UnknownOutcome && tries < SETTLE_TRIES => {
                    tries += 1;
                    prepared = prepared.again();
                    unknown = Some(e);
                    Box::pin(tokio::time::sleep(std::time::Duration::from_millis(50 << tries))).await;
                }
                // Only an answer of the rules settles it. That the second try was refused for another reason says
                // nothing about the first.
                (Err(e), Some(first)) => return Err(first.with("asked again", e.message())),
                (other, _) => return other,
            }
        }
    }

    /// Commits, and answers a failed expectation as an error.
    ///
    /// # Errors
    /// As [`Store::try_commit`], and `Conflict` or `Fenced`.
    pub fn commit(&self, commit: Commit) -> impl Future<Output = Result<Receipt>> + Send + '_ {
        let outcome = self.try_commit(commit);
        async move { outcome.await?.committed() }
    }

    /// The receipt of a commit, if it was applied and is still remembered: how an unknown outcome is settled.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn outcome(&self, id: CommitId) -> Result<Option<Receipt>> {
        self.engine().outcome(self.namespace(), id).await
    }

    /// Forgets receipts and tombstones older than this, on the store's clock. Nothing does this by itself: run it now
    /// and then, say once a day.
    ///
    /// One commit point: all of it at once. Ids and revisions of what is forgotten never come again.
    ///
    /// # Errors
    /// `Invalid` for an age below seven days: receipts are promised for that long.
    pub async fn purge(&self, older_than: std::time::Duration) -> Result<Purged> {
        self.engine().purge(self.namespace(), crate::plan::purge_before(self.now(), older_than)?).await
    }

    /// Answers several reads from one snapshot.
    ///
    /// # Errors
    /// `Invalid` when a read breaks a rule; what the engine fails with.
    pub async fn read(&self, reads: Vec<Read>) -> Result<Vec<Answer>> {
        if reads.len() > crate::limits::READS {
            return Err(Error::invalid(format!("{} reads in one call; the limit is {}", reads.len(), crate::limits::READS)));
        }
        if let Some(copy) = self.copy() {
            return copy.read_stale(self.namespace(), reads).await;
        }
        match self.engine().local() {
            Some(local) if self.inline => local.read_now(self.namespace(), &reads),
            _ => self.engine().read(self.namespace(), reads).await,
        }
    }

    /// Where a stale answer comes from, if that was asked for and is of any use.
    fn copy(&self) -> Option<&dyn StaleReads> {
        if self.stale { self.engine().stale() } else { None }
    }

    async fn read_one(&self, read: Read) -> Result<Answer> {
        let mut answers = match (self.copy(), self.engine().local()) {
            (Some(copy), _) => copy.read_stale(self.namespace(), vec![read]).await?,
            (None, Some(local)) if self.inline => local.read_now(self.namespace(), std::slice::from_ref(&read))?,
            _ => self.engine().read(self.namespace(), vec![read]).await?,
        };
        answers.pop().ok_or_else(|| Error::corrupt("the engine answered nothing"))
    }

    /// A record by key.
    ///
    /// # Errors
    /// `Corrupt` when it does not read back; what the engine fails with.
    pub async fn get(&self, collection: &str, key: &str) -> Result<Option<Record>> {
        let record = self.get_unread(collection, key).await?;
        if let Some(record) = &record {
            record.check_document()?;
        }
        Ok(record)
    }

    /// A record by key for a caller that reads its document as a type at once: nobody parses it before.
    pub(crate) async fn get_unread(&self, collection: &str, key: &str) -> Result<Option<Record>> {
        self.read_one(Read::Get(RecordId::new(collection, key)?)).await?.into_record()
    }

    /// A page of records.
    ///
    /// # Errors
    /// `Invalid` when the query asks a field that is not declared.
    pub async fn query(&self, query: Query) -> Result<Page> {
        self.read_one(Read::Query(query)).await?.into_page()
    }

    /// How many records a query's filters take.
    ///
    /// # Errors
    /// As [`Store::query`].
    pub async fn count(&self, query: Query) -> Result<u64> {
        self.read_one(Read::Count(query)).await?.into_count()
    }

    /// What is known about a stream; `None` before its first event.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn stream(&self, stream: &str) -> Result<Option<StreamInfo>> {
        self.read_one(Read::Stream(StreamName::new(stream)?)).await?.into_stream()
    }

    /// Streams that hold events, by name.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn streams(&self, prefix: &str, after: Option<StreamName>, limit: usize) -> Result<Vec<StreamInfo>> {
        self.read_one(Read::Streams { prefix: prefix.to_owned(), after, limit }).await?.into_streams()
    }

    /// A page of events.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn events(&self, query: EventQuery) -> Result<EventPage> {
        self.read_one(Read::Events(query)).await?.into_events()
    }

    /// Counts of events by type, stream or agent.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn event_groups(&self, filter: EventFilter, by: EventGroupBy, limit: usize) -> Result<Vec<EventGroup>> {
        self.read_one(Read::EventGroups { filter, by, limit }).await?.into_event_groups()
    }

    /// Every collection that holds records or is declared.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn collections(&self) -> Result<Vec<CollectionInfo>> {
        self.read_one(Read::Collections).await?.into_collections()
    }

    /// One page of a feed.
    ///
    /// # Errors
    /// `CursorExpired` when something the selector takes was forgotten after the position.
    pub async fn feed(&self, request: FeedRequest) -> Result<FeedPage> {
        match self.engine().local() {
            Some(local) if self.inline => local.feed_now(self.namespace(), &request),
            _ => self.engine().feed(self.namespace(), request).await,
        }
    }

    /// A live feed. Nothing is read before the first [`Subscription::next`].
    pub fn subscribe(&self, selector: Selector, start: StartAt) -> Subscription {
        self.subscribe_with(selector, start, Pace::default())
    }

    /// A live feed that reads at a pace of one's own.
    pub fn subscribe_with(&self, selector: Selector, start: StartAt, pace: Pace) -> Subscription {
        Subscription::new(self.clone(), selector, start, pace)
    }

    /// Returns when something may have been committed after a position. A hint.
    pub async fn changed(&self, after: Position) {
        self.engine().changed(self.namespace(), after).await;
    }

    /// A cursor of this store.
    pub fn cursor(&self, position: Position) -> Cursor {
        Cursor::new(position, &self.shared.store_id)
    }

    /// The position a cursor stands for.
    ///
    /// # Errors
    /// `CursorExpired` when it belongs to another store.
    pub fn resume(&self, cursor: &Cursor) -> Result<Position> {
        cursor.for_store(&self.shared.store_id)
    }

    /// A typed view of a document's collection, declared if need be.
    ///
    /// # Errors
    /// As [`Store::declare`].
    pub async fn collection<T: Document>(&self) -> Result<Records<T>> {
        self.declare(&[T::COLLECTION.spec()?]).await?;
        Ok(Records::new(self.clone()))
    }
}
