//! An engine whose calls meet faults.

use std::sync::Arc;

use async_trait::async_trait;
use millpond_core::{
    Answer, Catalog, CollectionSpec, CommitId, Engine, EngineInfo, Error, ErrorKind, Examination, FeedPage, FeedRequest, Host,
    LocalEngine, Namespace, NamespaceInfo, NamespaceStatus, Outcome, Position, PreparedCommit, Probing, Purged, Read, Receipt,
    Result, Timestamp,
};

use super::{Fault, Faults, INJECTED};

/// What a call can meet that is as good asked twice.
const ANY: &[Fault] = &[Fault::Refused, Fault::RequestLost, Fault::AnswerLost];
/// What a call can meet whose answer says what it removed: lost with the answer, nobody could say it again.
const UNDONE: &[Fault] = &[Fault::Refused, Fault::RequestLost];

/// An engine behind a connection that loses requests and answers.
#[derive(Debug, Clone)]
pub struct FaultyEngine {
    inner: Arc<dyn Engine>,
    faults: Faults,
}

fn refused() -> Error {
    Error::unavailable(format!("{INJECTED}: nothing was applied"))
}

fn lost() -> Error {
    Error::new(ErrorKind::UnknownOutcome, format!("{INJECTED}: nobody was told what happened"))
}

impl FaultyEngine {
    /// An engine with faults before it.
    pub fn new(inner: Arc<dyn Engine>, faults: Faults) -> Self {
        Self { inner, faults }
    }

    /// A call that changes nothing: without an answer it did not happen.
    async fn asked<T>(&self, call: &'static str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.faults.way().await;
        let told = self.heard(call, work).await;
        self.faults.way().await;
        told
    }

    async fn heard<T>(&self, call: &'static str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match self.faults.next(call, ANY) {
            None => work.await,
            Some(Fault::AnswerLost) => {
                // The engine did its part, which may show in the next call.
                let _ = work.await;
                Err(refused())
            }
            Some(_) => Err(refused()),
        }
    }

    /// A call that changes something.
    async fn changed<T>(
        &self,
        call: &'static str,
        possible: &[Fault],
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match self.faults.next(call, possible) {
            None => work.await,
            Some(Fault::Refused) => Err(refused()),
            Some(Fault::RequestLost | Fault::Late) => Err(lost()),
            Some(Fault::AnswerLost) => {
                let _ = work.await;
                Err(lost())
            }
        }
    }

    /// A batch, with what it meets.
    async fn decided(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        match self.faults.next("commit", &[Fault::Refused, Fault::RequestLost, Fault::AnswerLost, Fault::Late]) {
            None => self.inner.commit(namespace, batch).await,
            Some(Fault::Refused) => Err(refused()),
            Some(Fault::RequestLost) => Err(lost()),
            Some(Fault::AnswerLost) => {
                let mut told = self.inner.commit(namespace, batch).await?;
                // All answers of a batch, or one.
                if told.len() > 1 && self.faults.below(2) == 0 {
                    let one = self.faults.below(told.len());
                    told[one] = Err(lost());
                    return Ok(told);
                }
                Err(lost())
            }
            Some(Fault::Late) => {
                let (inner, namespace, late) = (Arc::clone(&self.inner), namespace.clone(), self.faults.lateness());
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    // Whatever it answers, nobody hears it.
                    let _ = inner.commit(&namespace, batch).await;
                });
                Err(lost())
            }
        }
    }
}

#[async_trait]
impl Engine for FaultyEngine {
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
        self.asked("namespaces", self.inner.namespaces()).await
    }

    async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceInfo>> {
        self.asked("namespace", self.inner.namespace(namespace)).await
    }

    async fn create_namespace(&self, namespace: &Namespace) -> Result<NamespaceInfo> {
        self.changed("create_namespace", ANY, self.inner.create_namespace(namespace)).await
    }

    async fn set_status(&self, namespace: &Namespace, status: NamespaceStatus) -> Result<NamespaceInfo> {
        self.changed("set_status", ANY, self.inner.set_status(namespace, status)).await
    }

    async fn delete_namespace(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        self.changed("delete_namespace", ANY, self.inner.delete_namespace(namespace, store_id)).await
    }

    async fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        self.changed("declare", ANY, self.inner.declare(namespace, specs)).await
    }

    async fn catalog(&self, namespace: &Namespace) -> Result<Arc<Catalog>> {
        self.asked("catalog", self.inner.catalog(namespace)).await
    }

    async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        self.faults.way().await;
        let told = self.decided(namespace, batch).await;
        self.faults.way().await;
        told
    }

    async fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>> {
        self.asked("outcome", self.inner.outcome(namespace, id)).await
    }

    async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
        self.asked("read", self.inner.read(namespace, reads)).await
    }

    async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
        self.asked("feed", self.inner.feed(namespace, request)).await
    }

    async fn changed(&self, namespace: &Namespace, after: Position) {
        // A hint that comes too early. One that never comes is what a poll interval is for, not a fault.
        if self.faults.next("changed", &[Fault::Refused]).is_none() {
            self.inner.changed(namespace, after).await;
        }
    }

    async fn purge(&self, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
        self.changed("purge", UNDONE, self.inner.purge(namespace, before)).await
    }

    async fn check(&self, namespace: &Namespace) -> Result<Vec<String>> {
        self.asked("check", self.inner.check(namespace)).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    fn local(&self) -> Option<&dyn LocalEngine> {
        // Calls on the caller's own thread would go past the faults.
        None
    }
}
