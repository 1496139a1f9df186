//! A caller that asks again, as often as it takes: the right way, and two wrong ones that the clauses must catch.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use millpond_core::{
    Answer, Catalog, CollectionSpec, CommitId, Engine, EngineInfo, Error, ErrorKind, Examination, FeedPage, FeedRequest, Host,
    LocalEngine, Namespace, NamespaceInfo, NamespaceStatus, Outcome, Position, PreparedCommit, Probing, Purged, Read, Receipt,
    Result, Timestamp,
};

use super::INJECTED;

/// How often a call is made at most. Faults are not that many.
const TRIES: usize = 40;

/// What is done about a commit whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It is sent again under its id: the receipt settles it.
    UnderTheSameId,
    /// Wrong: it is sent again under another id, and may be applied twice.
    UnderAFreshId,
    /// Wrong: it is taken for a failure, and may have been applied.
    TakenForAFailure,
}

/// An engine whose every call is made again until there is an answer.
#[derive(Debug, Clone)]
pub struct RetryingEngine {
    inner: Arc<dyn Engine>,
    retry: Retry,
}

fn is_transient(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::UnknownOutcome) && error.to_string().contains(INJECTED)
}

macro_rules! again {
    ($call:expr) => {{
        let mut tries = 1;
        loop {
            match $call.await {
                Err(error) if is_transient(&error) && tries < TRIES => tries += 1,
                other => break other,
            }
        }
    }};
}

impl RetryingEngine {
    /// An engine that is asked again.
    pub fn new(inner: Arc<dyn Engine>, retry: Retry) -> Self {
        Self { inner, retry }
    }

    fn prepared_again(&self, commit: &PreparedCommit, catalog: &Catalog) -> Result<PreparedCommit> {
        match self.retry {
            Retry::UnderAFreshId => {
                let mut fresh = commit.commit().clone();
                fresh.id = None;
                fresh.prepare(&*self.host(), catalog)
            }
            _ => Ok(commit.again()),
        }
    }

    /// Ids of the batch that had been applied before it was sent.
    async fn applied(&self, namespace: &Namespace, batch: &[PreparedCommit]) -> Result<HashSet<CommitId>> {
        let mut applied = HashSet::new();
        for commit in batch.iter().filter(|c| !c.is_fresh()) {
            applied.extend(self.outcome(namespace, commit.id()).await?.map(|receipt| receipt.id));
        }
        Ok(applied)
    }

    /// Sends what has no answer yet, until everything has one.
    async fn settle(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        let applied = self.applied(namespace, &batch).await?;
        let mut answers: Vec<Option<Result<Outcome>>> = batch.iter().map(|_| None).collect();
        let mut open: Vec<(usize, PreparedCommit)> = batch.into_iter().enumerate().collect();
        let mut unknown: HashSet<CommitId> = HashSet::new();
        for _ in 0..TRIES {
            let sent = open.iter().map(|(_, commit)| commit.clone()).collect();
            let told = match self.inner.commit(namespace, sent).await {
                Ok(told) => told,
                Err(error) if is_transient(&error) => {
                    let same = || Error::new(error.kind(), format!("{INJECTED} into a whole batch"));
                    open.iter().map(|_| Err(same())).collect()
                }
                other => return other,
            };
            let catalog = again!(self.inner.catalog(namespace))?;
            let mut left = Vec::new();
            for ((place, commit), told) in open.into_iter().zip(told) {
                match told {
                    Err(error) if is_transient(&error) && error.kind() == ErrorKind::Unavailable => {
                        left.push((place, commit.again()))
                    }
                    Err(error) if is_transient(&error) && self.retry != Retry::TakenForAFailure => {
                        unknown.insert(commit.id());
                        left.push((place, self.prepared_again(&commit, &catalog)?));
                    }
                    Err(error) if is_transient(&error) => {
                        answers[place] = Some(Err(Error::invalid("the commit failed, or so it seems").with_source(error)));
                    }
                    Ok(Outcome::Committed(mut receipt)) => {
                        // The receipt of a sending whose answer was lost is the first one, unless it is older.
                        receipt.replayed &= applied.contains(&receipt.id) || !unknown.remove(&receipt.id);
                        answers[place] = Some(Ok(Outcome::Committed(receipt)));
                    }
                    other => answers[place] = Some(other),
                }
            }
            open = left;
            if open.is_empty() {
                break;
            }
        }
        let gave_up = || Err(Error::new(ErrorKind::UnknownOutcome, "there was no answer however often it was asked"));
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(gave_up)).collect())
    }
}

#[async_trait]
impl Engine for RetryingEngine {
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
        again!(self.inner.namespaces())
    }

    async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceInfo>> {
        again!(self.inner.namespace(namespace))
    }

    async fn create_namespace(&self, namespace: &Namespace) -> Result<NamespaceInfo> {
        let before = self.namespace(namespace).await?;
        let made = again!(self.inner.create_namespace(namespace));
        match (before, made) {
            // It was not there before: the creation whose answer was lost made it.
            (None, Err(error)) if error.kind() == ErrorKind::Conflict => self.namespace(namespace).await?.ok_or(error),
            (_, made) => made,
        }
    }

    async fn set_status(&self, namespace: &Namespace, status: NamespaceStatus) -> Result<NamespaceInfo> {
        again!(self.inner.set_status(namespace, status.clone()))
    }

    async fn delete_namespace(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        let before = self.namespace(namespace).await?;
        let deleted = again!(self.inner.delete_namespace(namespace, store_id));
        match (before, deleted) {
            // It was there, and a store id never comes again: it is gone by our doing.
            (Some(before), Err(error)) if before.store_id == store_id && error.kind() == ErrorKind::NotFound => Ok(()),
            (_, deleted) => deleted,
        }
    }

    async fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        again!(self.inner.declare(namespace, specs))
    }

    async fn catalog(&self, namespace: &Namespace) -> Result<Arc<Catalog>> {
        again!(self.inner.catalog(namespace))
    }

    async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        self.settle(namespace, batch).await
    }

    async fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>> {
        again!(self.inner.outcome(namespace, id))
    }

    async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
        again!(self.inner.read(namespace, reads.clone()))
    }

    async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
        again!(self.inner.feed(namespace, request.clone()))
    }

    async fn changed(&self, namespace: &Namespace, after: Position) {
        self.inner.changed(namespace, after).await;
    }

    async fn purge(&self, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
        again!(self.inner.purge(namespace, before))
    }

    async fn check(&self, namespace: &Namespace) -> Result<Vec<String>> {
        again!(self.inner.check(namespace))
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    fn local(&self) -> Option<&dyn LocalEngine> {
        None
    }
}
