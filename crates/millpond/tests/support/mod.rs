//! An engine that counts what its reads hand over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use millpond::{
    Answer, Catalog, CollectionSpec, CommitId, Engine, EngineInfo, Examination, FeedPage, FeedRequest, Host, LocalEngine,
    Namespace, NamespaceInfo, NamespaceStatus, Outcome, Position, PreparedCommit, Probing, Purged, Query, Read, Receipt, Result,
    Timestamp,
};

/// Passes everything on, and counts the rows that reads hand over: records, groups, events, streams.
#[derive(Debug)]
pub struct CountingEngine {
    inner: Arc<dyn Engine>,
    rows: AtomicU64,
    query: Mutex<Option<Query>>,
}

impl CountingEngine {
    /// Counts what this engine hands over.
    pub fn on(inner: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self { inner, rows: AtomicU64::new(0), query: Mutex::default() })
    }

    /// Rows since the last time this was asked.
    pub fn take_rows(&self) -> u64 {
        self.rows.swap(0, Ordering::SeqCst)
    }

    /// The last query it was asked.
    #[allow(dead_code)] // One test asks.
    pub fn last_query(&self) -> Option<Query> {
        self.query.lock().expect("nobody panics with it").clone()
    }
}

fn rows(answer: &Answer) -> usize {
    match answer {
        Answer::Record(record) => usize::from(record.is_some()),
        Answer::Page(page) => page.items.len() + page.damaged.len(),
        Answer::Count(_) | Answer::Stream(_) => 1,
        Answer::Groups(groups) => groups.len(),
        Answer::Streams(streams) => streams.len(),
        Answer::Events(page) => page.items.len() + page.damaged.len(),
        Answer::EventGroups(groups) => groups.len(),
        Answer::Collections(collections) => collections.len(),
    }
}

#[async_trait]
impl Engine for CountingEngine {
    fn info(&self) -> EngineInfo {
        self.inner.info()
    }
    async fn examine(&self, probing: Probing) -> Result<Examination> {
        self.inner.examine(probing).await
    }
    fn host(&self) -> Arc<dyn Host> {
        self.inner.host()
    }
    async fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        self.inner.namespaces().await
    }
    async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceInfo>> {
        self.inner.namespace(namespace).await
    }
    async fn create_namespace(&self, namespace: &Namespace) -> Result<NamespaceInfo> {
        self.inner.create_namespace(namespace).await
    }
    async fn set_status(&self, namespace: &Namespace, status: NamespaceStatus) -> Result<NamespaceInfo> {
        self.inner.set_status(namespace, status).await
    }
    async fn delete_namespace(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        self.inner.delete_namespace(namespace, store_id).await
    }
    async fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        self.inner.declare(namespace, specs).await
    }
    async fn catalog(&self, namespace: &Namespace) -> Result<Arc<Catalog>> {
        self.inner.catalog(namespace).await
    }
    async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        self.inner.commit(namespace, batch).await
    }
    async fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>> {
        self.inner.outcome(namespace, id).await
    }
    async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
        if let Some(Read::Query(query)) = reads.last() {
            *self.query.lock().expect("nobody panics with it") = Some(query.clone());
        }
        let answers = self.inner.read(namespace, reads).await?;
        self.rows.fetch_add(answers.iter().map(rows).sum::<usize>() as u64, Ordering::SeqCst);
        Ok(answers)
    }
    async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
        let page = self.inner.feed(namespace, request).await?;
        self.rows.fetch_add(page.changes.len() as u64, Ordering::SeqCst);
        Ok(page)
    }
    async fn changed(&self, namespace: &Namespace, after: Position) {
        self.inner.changed(namespace, after).await;
    }
    async fn purge(&self, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
        self.inner.purge(namespace, before).await
    }
    async fn check(&self, namespace: &Namespace) -> Result<Vec<String>> {
        self.inner.check(namespace).await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
    fn local(&self) -> Option<&dyn LocalEngine> {
        // Everything has to go through `read`, where it is counted.
        None
    }
}
