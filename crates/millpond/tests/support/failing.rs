//! What goes wrong on purpose: a store whose commits fail, and a place for bytes whose writes do.

mod around;

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use around::engine_around;
use async_trait::async_trait;
use bytes::Bytes;
use millpond::{Answer, Engine, Error, ErrorKind, FeedPage, FeedRequest, Namespace, Outcome, PreparedCommit, Read, Result};
use millpond_objects::{Folder, Listed, Location, Note, Objects, Writing};

/// What happens to commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// They are applied.
    Work,
    /// They are refused, all of them.
    Fail,
    /// The next one is refused.
    FailOnce,
    /// The next one is applied, and nobody is told.
    AnswerLostOnce,
}

/// A store whose commits meet what is asked for.
#[derive(Debug)]
pub struct FailingEngine {
    inner: Arc<dyn Engine>,
    next: Mutex<Commits>,
}

impl FailingEngine {
    /// Before this engine.
    pub fn on(inner: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self { inner, next: Mutex::new(Commits::Work) })
    }

    /// What commits meet from here on.
    pub fn next(&self, commits: Commits) {
        *self.next.lock().unwrap() = commits;
    }
}

engine_around! {
    FailingEngine {
        async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
            let met = {
                let mut next = self.next.lock().unwrap();
                let met = *next;
                if met != Commits::Fail {
                    *next = Commits::Work;
                }
                met
            };
            match met {
                Commits::Work => self.inner.commit(namespace, batch).await,
                Commits::Fail | Commits::FailOnce => Err(Error::unavailable("the store is down")),
                Commits::AnswerLostOnce => {
                    self.inner.commit(namespace, batch).await?;
                    Err(Error::new(ErrorKind::UnknownOutcome, "the connection is gone"))
                }
            }
        }
        async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
            self.inner.read(namespace, reads).await
        }
        async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
            self.inner.feed(namespace, request).await
        }
    }
}

/// What happens to bytes that begin like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// They are refused at once.
    Fail,
    /// They are written, and the caller hears that it took too long.
    TimeOut,
    /// They are written when somebody opens the gate.
    Wait,
}

/// A folder whose writes meet what is asked for.
#[derive(Debug)]
pub struct FailingFolder {
    folder: Folder,
    met: Mutex<Vec<(&'static str, Writes)>>,
    gate: tokio::sync::Semaphore,
}

impl FailingFolder {
    /// Before this folder.
    pub fn on(folder: Folder) -> Arc<Self> {
        Arc::new(Self { folder, met: Mutex::default(), gate: tokio::sync::Semaphore::new(0) })
    }

    /// What bytes meet that begin so, from here on.
    pub fn meet(&self, begins: &'static str, writes: Writes) {
        self.met.lock().unwrap().push((begins, writes));
    }

    /// Everything works again; what waits goes on.
    pub fn work(&self) {
        self.met.lock().unwrap().clear();
        self.gate.add_permits(1_000);
    }
}

#[async_trait]
impl Objects for FailingFolder {
    fn place(&self) -> &str {
        self.folder.place()
    }
    async fn put(&self, at: &Location, bytes: Bytes, note: Option<&Note>) -> Result<()> {
        let met = self.met.lock().unwrap().iter().find(|(begins, _)| bytes.starts_with(begins.as_bytes())).map(|(_, met)| *met);
        match met {
            None => self.folder.put(at, bytes, note).await,
            Some(Writes::Fail) => Err(Error::unavailable("the disk is full")),
            Some(Writes::TimeOut) => {
                self.folder.put(at, bytes, note).await?;
                Err(Error::unavailable("it took too long"))
            }
            Some(Writes::Wait) => {
                drop(self.gate.acquire().await);
                self.folder.put(at, bytes, note).await
            }
        }
    }
    async fn begin(&self, at: &Location, note: Option<&Note>) -> Result<Box<dyn Writing>> {
        self.folder.begin(at, note).await
    }
    async fn read(&self, at: &Location, range: Range<u64>) -> Result<Option<Bytes>> {
        self.folder.read(at, range).await
    }
    async fn length(&self, at: &Location) -> Result<Option<u64>> {
        self.folder.length(at).await
    }
    async fn remove(&self, at: &Location) -> Result<()> {
        self.folder.remove(at).await
    }
    async fn list(&self, after: Option<&Location>, most: usize) -> Result<Vec<Listed>> {
        self.folder.list(after, most).await
    }
    async fn address(&self, at: &Location, lasting: Duration) -> Result<String> {
        self.folder.address(at, lasting).await
    }
}
