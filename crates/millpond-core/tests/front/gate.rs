//! An engine behind a gate: it takes batches, remembers them, and answers when the gate is open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use millpond_core::{
    Answer, Catalog, CollectionSpec, CommitId, Durability, Engine, EngineInfo, Error, ErrorKind, Examination, FeedPage,
    FeedRequest, Host, LocalEngine, Namespace, NamespaceInfo, NamespaceStatus, Outcome, Position, PreparedCommit, Probing,
    Purged, Read, Receipt, Result, SystemHost, Timestamp,
};
use tokio::sync::Semaphore;

/// How the engine answers.
#[derive(Debug, Clone, Copy)]
pub enum Answers {
    Commit,
    Fail(ErrorKind),
    OneTooFew,
    UnknownOnce,
    PanicOnce,
}

#[derive(Debug)]
pub struct Gate {
    answers: Answers,
    open: Semaphore,
    seen: Mutex<Vec<Vec<CommitId>>>,
    answered: AtomicBool,
    local: bool,
}

impl Gate {
    pub fn closed(answers: Answers) -> Self {
        Self { answers, open: Semaphore::new(0), seen: Mutex::default(), answered: AtomicBool::new(false), local: false }
    }

    /// The same, with a path that blocks the calling thread.
    pub fn local(self) -> Self {
        Self { local: true, ..self }
    }

    pub fn open_with(answers: Answers) -> Self {
        let gate = Self::closed(answers);
        gate.open();
        gate
    }

    /// Opens the gate for good.
    pub fn open(&self) {
        self.open.add_permits(1_000);
    }

    /// The batches that came so far, those behind the closed gate included.
    pub fn seen(&self) -> Vec<Vec<CommitId>> {
        self.seen.lock().unwrap().clone()
    }

    fn answer(&self, ids: Vec<CommitId>) -> Result<Vec<Result<Outcome>>> {
        let mut outcomes: Vec<_> = ids.into_iter().map(|id| Ok(Outcome::Committed(Self::receipt(id)))).collect();
        match self.answers {
            Answers::Fail(kind) => return Err(Error::new(kind, "the engine failed")),
            Answers::UnknownOnce if !self.answered.swap(true, Ordering::SeqCst) => {
                return Err(Error::new(ErrorKind::UnknownOutcome, "the answer was lost"));
            }
            Answers::PanicOnce if !self.answered.swap(true, Ordering::SeqCst) => panic!("the engine panicked"),
            Answers::OneTooFew => drop(outcomes.pop()),
            Answers::Commit | Answers::UnknownOnce | Answers::PanicOnce => {}
        }
        Ok(outcomes)
    }

    fn receipt(id: CommitId) -> Receipt {
        Receipt {
            id,
            position: Position(1),
            time: Timestamp::default(),
            revisions: vec![1],
            sequences: Vec::new(),
            replayed: false,
        }
    }
}

fn not_asked<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "the gate only takes commits"))
}

#[async_trait]
impl Engine for Gate {
    fn info(&self) -> EngineInfo {
        EngineInfo { kind: "gate", location: String::new(), durability: Durability::Memory, facts: Vec::new() }
    }

    async fn examine(&self, _: Probing) -> Result<Examination> {
        Ok(Examination::of(Durability::Memory))
    }

    fn host(&self) -> Arc<dyn Host> {
        Arc::new(SystemHost)
    }

    async fn commit(&self, _: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        let ids: Vec<CommitId> = batch.iter().map(PreparedCommit::id).collect();
        self.seen.lock().unwrap().push(ids.clone());
        self.open.acquire().await.unwrap().forget();
        self.answer(ids)
    }

    async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceInfo>> {
        Ok(Some(NamespaceInfo {
            name: namespace.clone(),
            store_id: "gate".to_owned(),
            status: NamespaceStatus::Open,
            position: Position::ZERO,
            time: Timestamp::default(),
            created_at: Timestamp::default(),
        }))
    }

    async fn catalog(&self, _: &Namespace) -> Result<Arc<Catalog>> {
        Ok(Arc::default())
    }

    async fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        not_asked()
    }

    async fn create_namespace(&self, _: &Namespace) -> Result<NamespaceInfo> {
        not_asked()
    }

    async fn set_status(&self, _: &Namespace, _: NamespaceStatus) -> Result<NamespaceInfo> {
        not_asked()
    }

    async fn delete_namespace(&self, _: &Namespace, _: &str) -> Result<()> {
        not_asked()
    }

    async fn declare(&self, _: &Namespace, _: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        not_asked()
    }

    async fn outcome(&self, _: &Namespace, _: CommitId) -> Result<Option<Receipt>> {
        not_asked()
    }

    async fn read(&self, _: &Namespace, _: Vec<Read>) -> Result<Vec<Answer>> {
        not_asked()
    }

    async fn feed(&self, _: &Namespace, _: FeedRequest) -> Result<FeedPage> {
        not_asked()
    }

    async fn changed(&self, _: &Namespace, _: Position) {}

    async fn purge(&self, _: &Namespace, _: Timestamp) -> Result<Purged> {
        not_asked()
    }

    async fn check(&self, _: &Namespace) -> Result<Vec<String>> {
        not_asked()
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }

    fn local(&self) -> Option<&dyn LocalEngine> {
        self.local.then_some(self)
    }
}

impl LocalEngine for Gate {
    fn commit_now(&self, _: &Namespace, batch: &[PreparedCommit]) -> Result<Vec<Result<Outcome>>> {
        let ids: Vec<CommitId> = batch.iter().map(PreparedCommit::id).collect();
        self.seen.lock().unwrap().push(ids.clone());
        self.answer(ids)
    }

    fn read_now(&self, _: &Namespace, _: &[Read]) -> Result<Vec<Answer>> {
        not_asked()
    }

    fn feed_now(&self, _: &Namespace, _: &FeedRequest) -> Result<FeedPage> {
        not_asked()
    }
}
