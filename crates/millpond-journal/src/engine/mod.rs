//! The journal engine: once for all drivers.
//!
//! * `space.rs`: one namespace in this process; `writer.rs`: the commit loop; `operations.rs`: what is written;
//! * `append.rs`: an append until its outcome is known; `pacing.rs`: how writers take turns;
//! * `guarded.rs`: the circuit breaker in front of a place;
//! * `register.rs`: which namespaces there are; `remembered.rs`: what the machine saw of it; `cache.rs`: where replicas are;
//! * `snapshot.rs`: how a snapshot is made and loaded; `packed.rs`: what travels of it; `growth.rs`: when.

mod append;
mod cache;
mod freshness;
mod growth;
mod guarded;
pub(crate) mod io;
mod operations;
mod pacing;
mod packed;
mod register;
mod remembered;
mod snapshot;
mod space;
mod spaces;
mod stats;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millpond_core::{
    Answer, CallPolicy, Catalog, CollectionSpec, CommitId, Engine, EngineInfo, Error, Examination, FeedPage, FeedRequest, Host,
    LocalEngine, Namespace, NamespaceInfo, NamespaceStatus, Outcome, Position, PreparedCommit, Probing, Purged, Read, Receipt,
    Result, StaleReads, SystemHost, Timestamp, uuid_v7,
};

use self::spaces::Spaces;
pub use self::stats::JournalStats;
use crate::entry::Named;
use crate::journal::Journals;

/// How to open a store on a journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Clock and randomness.
    pub host: Arc<dyn Host>,
    /// Where replicas are kept. `None`: where the place wants them, otherwise in the user's cache folder.
    pub cache: Option<PathBuf>,
    /// How long the outcome of an append is worked on before the caller hears that it is unknown.
    pub patience: Duration,
    /// The pauses while it is worked on, and the circuit breaker in front of the place. How long and how often one
    /// request is tried is the driver's.
    pub calls: CallPolicy,
    /// Bytes of journal after which a snapshot is made, at least; also at least half of what the last snapshot holds,
    /// unpacked.
    pub snapshot_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            host: Arc::new(SystemHost),
            cache: None,
            patience: append::PATIENCE,
            calls: append::CALLS,
            snapshot_bytes: growth::LEAST,
        }
    }
}

/// A store whose truth is a journal. Every namespace has a journal of its own, and a replica in this process.
#[derive(Debug)]
pub struct JournalEngine {
    spaces: Spaces,
}

impl JournalEngine {
    /// Opens a store on a place that keeps journals.
    ///
    /// # Errors
    /// What the driver fails with; `Unavailable` when the cache folder cannot be used.
    pub async fn open(place: Arc<dyn Journals>, options: JournalOptions) -> Result<Self> {
        Self::connect(async { Ok(place) }, options).await
    }

    /// Opens a place and the store on it. The place is opened on the engine's own thread, because connections belong to
    /// the runtime they were made on, and the caller's may end before the store is closed.
    ///
    /// # Errors
    /// As [`JournalEngine::open`].
    pub async fn connect(
        place: impl Future<Output = Result<Arc<dyn Journals>>> + Send + 'static,
        options: JournalOptions,
    ) -> Result<Self> {
        Ok(Self { spaces: Spaces::open(place, options).await? })
    }

    /// Counts of what was done.
    pub fn stats(&self) -> JournalStats {
        self.spaces.stats()
    }

    /// Makes the journal of a namespace, then registers it.
    async fn create(&self, namespace: &Namespace) -> Result<NamespaceInfo> {
        let host = self.host();
        let taken = || Error::conflict(format!("namespace {:?} exists already", namespace.as_str()));
        if self.spaces.find(namespace).await?.is_some() {
            return Err(taken());
        }
        let store_id = uuid_v7(&*host).to_string();
        let named = Named { name: namespace.as_str().to_owned(), store_id, created_at: host.now() };
        let space = self.spaces.space(&named).await?;
        let info = space.write(operations::create(named.clone())).await?;
        if self.spaces.register().add(&named).await? {
            return Ok(info);
        }
        // Somebody else took the name meanwhile; nobody will ever look at this journal.
        self.spaces.forget(&named).await?;
        Err(taken())
    }
}

#[async_trait]
impl Engine for JournalEngine {
    fn info(&self) -> EngineInfo {
        let place = self.spaces.place();
        EngineInfo { kind: place.kind, location: place.location, durability: place.durability, facts: place.facts }
    }

    async fn examine(&self, probing: Probing) -> Result<Examination> {
        self.spaces.examine(probing).await
    }

    fn host(&self) -> Arc<dyn Host> {
        self.spaces.host()
    }

    async fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        let mut found = Vec::new();
        for named in self.spaces.register().list().await? {
            // One after another, and none stays open for this: there may be thousands.
            let info = self.spaces.info(&named).await;
            self.spaces.close_if_unused(&named).await?;
            found.extend(info?);
        }
        Ok(found)
    }

    async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceInfo>> {
        match self.spaces.find(namespace).await? {
            Some((_, info)) => Ok(Some(info)),
            None => Ok(None),
        }
    }

    async fn create_namespace(&self, namespace: &Namespace) -> Result<NamespaceInfo> {
        self.create(namespace).await
    }

    async fn set_status(&self, namespace: &Namespace, status: NamespaceStatus) -> Result<NamespaceInfo> {
        self.spaces.write(namespace, operations::set_status(status)).await
    }

    async fn delete_namespace(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        // The commit point: from here on nobody's commit, nor read, finds the namespace.
        self.spaces.write(namespace, operations::delete(store_id.to_owned())).await?;
        self.spaces.finish_deletion(namespace, store_id).await
    }

    async fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        self.spaces.write(namespace, operations::declare(specs.to_vec())).await?;
        let space = self.spaces.of(namespace).await?;
        space.rows().catalog(space.namespace()).await
    }

    async fn catalog(&self, namespace: &Namespace) -> Result<Arc<Catalog>> {
        let space = self.spaces.fresh(namespace).await?;
        space.rows().catalog(space.namespace()).await
    }

    async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        self.spaces.write(namespace, operations::Batch::new(batch, self.host())).await
    }

    async fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>> {
        let space = self.spaces.fresh(namespace).await?;
        space.rows().outcome(space.namespace(), id).await
    }

    async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
        let space = self.spaces.fresh(namespace).await?;
        space.rows().read(space.namespace(), reads).await
    }

    async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
        let space = self.spaces.fresh(namespace).await?;
        space.rows().feed(space.namespace(), request).await
    }

    async fn changed(&self, namespace: &Namespace, after: Position) {
        if let Ok(space) = self.spaces.of(namespace).await {
            space.changed(after).await;
        }
    }

    async fn purge(&self, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
        self.spaces.write(namespace, operations::purge(before)).await
    }

    async fn check(&self, namespace: &Namespace) -> Result<Vec<String>> {
        self.spaces.check(namespace).await
    }

    async fn close(&self) -> Result<()> {
        self.spaces.close().await
    }

    fn local(&self) -> Option<&dyn LocalEngine> {
        None
    }

    fn stale(&self) -> Option<&dyn StaleReads> {
        Some(self)
    }
}

#[async_trait]
impl StaleReads for JournalEngine {
    async fn read_stale(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
        let space = self.spaces.of(namespace).await?;
        space.rows().read(space.namespace(), reads).await
    }
}
