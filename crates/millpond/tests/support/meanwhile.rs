//! What others do in the worst moment: right before a commit that somebody has prepared.

mod around;

use std::fmt;
use std::sync::{Arc, Mutex};

use around::engine_around;
use futures_util::future::BoxFuture;
use millpond::{Answer, Commit, Engine, FeedPage, FeedRequest, Namespace, Outcome, PreparedCommit, Read, Result, Write};

type When = Box<dyn Fn(&Commit) -> bool + Send>;

/// A store in which something happens right before one commit.
pub struct MeanwhileEngine {
    inner: Arc<dyn Engine>,
    between: Mutex<Option<(When, BoxFuture<'static, ()>)>>,
    after_page: Mutex<Option<(&'static str, BoxFuture<'static, ()>)>>,
}

impl fmt::Debug for MeanwhileEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeanwhileEngine")
    }
}

impl MeanwhileEngine {
    /// Before this engine.
    pub fn on(inner: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self { inner, between: Mutex::default(), after_page: Mutex::default() })
    }

    /// Before the next commit that puts a record of this collection, or takes one away, this happens.
    #[allow(dead_code)] // Not every test commits.
    pub fn before(&self, collection: &'static str, then: impl Future<Output = ()> + Send + 'static) {
        let when = move |commit: &Commit| {
            commit.writes.iter().any(|write| match write {
                Write::Put(id, _) | Write::Delete(id) => id.collection.as_str() == collection,
                _ => false,
            })
        };
        *self.between.lock().unwrap() = Some((Box::new(when), Box::pin(then)));
    }

    /// When the next page of this collection was read, and before whoever asked for it sees it, this happens.
    #[allow(dead_code)] // Not every test reads.
    pub fn after_page(&self, collection: &'static str, then: impl Future<Output = ()> + Send + 'static) {
        *self.after_page.lock().unwrap() = Some((collection, Box::pin(then)));
    }

    /// Whether it happened.
    pub fn happened(&self) -> bool {
        self.between.lock().unwrap().is_none() && self.after_page.lock().unwrap().is_none()
    }
}

engine_around! {
    MeanwhileEngine {
        async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
            let due = {
                let mut between = self.between.lock().unwrap();
                let is_it = between.as_ref().is_some_and(|(when, _)| batch.iter().any(|prepared| when(prepared.commit())));
                if is_it { between.take() } else { None }
            };
            if let Some((_, then)) = due {
                then.await;
            }
            self.inner.commit(namespace, batch).await
        }
        async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
            let due = {
                let mut after = self.after_page.lock().unwrap();
                let is_it = |collection: &str| {
                    reads.iter().any(|read| matches!(read, Read::Query(query) if query.collection.as_str() == collection))
                };
                if after.as_ref().is_some_and(|(collection, _)| is_it(collection)) { after.take() } else { None }
            };
            let answers = self.inner.read(namespace, reads).await;
            if let Some((_, then)) = due {
                then.await;
            }
            answers
        }
        async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
            self.inner.feed(namespace, request).await
        }
    }
}
