//! An engine that counts what its reads hand over.

mod around;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use around::engine_around;
use millpond::{Answer, Engine, FeedPage, FeedRequest, Namespace, Outcome, PreparedCommit, Query, Read, Result};

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

engine_around! {
    CountingEngine {
        async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
            self.inner.commit(namespace, batch).await
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
    }
}
