//! An engine between a process and its store that breaks one rule, as an engine that was made for one process would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use millpond::{
    Answer, Catalog, CollectionSpec, Commit, CommitId, Engine, EngineInfo, Examination, Expectation, FeedPage, FeedRequest, Host,
    Key, LocalEngine, Namespace, NamespaceInfo, NamespaceStatus, Outcome, Position, PreparedCommit, Probing, Purged, Read,
    Receipt, Result, Timestamp, Write,
};

/// A rule that only shows between processes, broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing is broken.
    None,
    /// Each process counts the sequences of a stream by itself.
    OwnSequences,
    /// Each process keeps its leases for itself.
    OwnLeases,
    /// Each process remembers the ids of commits for itself, and forgets them.
    OwnIds,
    /// A process gets no hint of what another one commits.
    OwnHints,
}

impl Flaw {
    /// Every flaw, and none.
    pub const ALL: [Self; 5] = [Self::None, Self::OwnSequences, Self::OwnLeases, Self::OwnIds, Self::OwnHints];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no-flaw",
            Self::OwnSequences => "own-sequences",
            Self::OwnLeases => "own-leases",
            Self::OwnIds => "own-ids",
            Self::OwnHints => "own-hints",
        }
    }

    /// The clause that it makes fail.
    pub fn breaks(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::OwnSequences => Some("appends_are_dense"),
            Self::OwnLeases => Some("a_lease_is_in_one_hand"),
            Self::OwnIds => Some("an_id_is_applied_once"),
            Self::OwnHints => Some("a_follower_sees_everything"),
        }
    }
}

/// An engine with a flaw.
#[derive(Debug)]
pub struct Flawed {
    engine: Arc<dyn Engine>,
    flaw: Flaw,
    counted: AtomicU64,
}

impl Flawed {
    /// Breaks a rule of an engine.
    pub fn new(engine: Arc<dyn Engine>, flaw: Flaw) -> Self {
        Self { engine, flaw, counted: AtomicU64::new(0) }
    }

    /// A commit as the flaw lets it through, made ready again.
    fn through(&self, prepared: PreparedCommit, catalog: &Catalog) -> Result<PreparedCommit> {
        let mut commit: Commit = prepared.commit().clone().id(prepared.id());
        match self.flaw {
            Flaw::OwnIds => commit.id = None,
            Flaw::OwnLeases => own_leases(&mut commit)?,
            Flaw::None | Flaw::OwnSequences | Flaw::OwnHints => return Ok(prepared),
        }
        commit.prepare(&*self.host(), catalog)
    }

    fn count(&self, outcome: &mut Outcome) {
        if let (Flaw::OwnSequences, Outcome::Committed(receipt)) = (self.flaw, outcome) {
            for appended in &mut receipt.sequences {
                appended.first = self.counted.fetch_add(appended.count, Ordering::Relaxed) + 1;
            }
        }
    }
}

/// Gives every lease a name that no other process uses.
fn own_leases(commit: &mut Commit) -> Result<()> {
    let own = |lease: &mut Key| {
        *lease = Key::new(format!("{lease}-{}", std::process::id()))?;
        Result::Ok(())
    };
    for write in &mut commit.writes {
        match write {
            Write::Acquire(acquire) => own(&mut acquire.lease)?,
            Write::Renew { lease, .. } | Write::Release { lease, .. } | Write::Break { lease } => own(lease)?,
            Write::Put(..) | Write::Delete(_) | Write::Merge(..) => {}
        }
    }
    for expectation in &mut commit.expect {
        if let Expectation::Lease(lease, _) = expectation {
            own(lease)?;
        }
    }
    Ok(())
}

#[async_trait]
impl Engine for Flawed {
    fn info(&self) -> EngineInfo {
        self.engine.info()
    }

    async fn examine(&self, probing: Probing) -> Result<Examination> {
        self.engine.examine(probing).await
    }
    fn host(&self) -> Arc<dyn Host> {
        self.engine.host()
    }

    async fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        self.engine.namespaces().await
    }

    async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceInfo>> {
        self.engine.namespace(namespace).await
    }

    async fn create_namespace(&self, namespace: &Namespace) -> Result<NamespaceInfo> {
        self.engine.create_namespace(namespace).await
    }

    async fn set_status(&self, namespace: &Namespace, status: NamespaceStatus) -> Result<NamespaceInfo> {
        self.engine.set_status(namespace, status).await
    }

    async fn delete_namespace(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        self.engine.delete_namespace(namespace, store_id).await
    }

    async fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        self.engine.declare(namespace, specs).await
    }

    async fn catalog(&self, namespace: &Namespace) -> Result<Arc<Catalog>> {
        self.engine.catalog(namespace).await
    }

    async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        let catalog = self.engine.catalog(namespace).await?;
        let batch = batch.into_iter().map(|prepared| self.through(prepared, &catalog)).collect::<Result<_>>()?;
        let mut outcomes = self.engine.commit(namespace, batch).await?;
        outcomes.iter_mut().flatten().for_each(|outcome| self.count(outcome));
        Ok(outcomes)
    }

    async fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>> {
        self.engine.outcome(namespace, id).await
    }

    async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
        self.engine.read(namespace, reads).await
    }

    async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
        self.engine.feed(namespace, request).await
    }

    async fn changed(&self, namespace: &Namespace, after: Position) {
        match self.flaw {
            Flaw::OwnHints => std::future::pending().await,
            _ => self.engine.changed(namespace, after).await,
        }
    }

    async fn purge(&self, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
        self.engine.purge(namespace, before).await
    }

    async fn check(&self, namespace: &Namespace) -> Result<Vec<String>> {
        self.engine.check(namespace).await
    }

    async fn close(&self) -> Result<()> {
        self.engine.close().await
    }

    /// Never: every commit comes through here.
    fn local(&self) -> Option<&dyn LocalEngine> {
        None
    }
}
