//! What these tests share: stores on a server, and what is in them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millpond_core::{
    Commit, DigestOptions, Engine, EventFilter, EventQuery, Front, Namespace, NewEvent, Result, Store, StreamName,
};
use millpond_journal::drivers::redis::{RedisJournals, RedisOptions};
use millpond_journal::{Journal, JournalEngine, JournalOptions, Journals as _};
use millpond_testservers::{RedisFsync, RedisServer};

/// The parameters that make a call give up soon.
pub const SHORT: &str = "?timeout=1&connect_timeout=1";

/// A server that flushes each write.
pub fn server() -> Option<RedisServer> {
    RedisServer::start(RedisFsync::Always).unwrap()
}

/// An engine with its replicas in a folder.
pub async fn engine(url: &str, cache: &Path, options: JournalOptions) -> Result<Arc<JournalEngine>> {
    let journals = RedisJournals::open(url, RedisOptions::default()).await?;
    let options = JournalOptions { cache: Some(cache.to_owned()), ..options };
    JournalEngine::open(Arc::new(journals), options).await.map(Arc::new)
}

/// The default namespace through an engine.
pub async fn on(engine: Arc<dyn Engine>) -> Result<Store> {
    Store::open(Arc::new(Front::new(engine)), Namespace::default()).await
}

/// The default namespace on a server.
pub async fn store(url: &str, cache: &Path) -> Result<Store> {
    on(engine(url, cache, JournalOptions::default()).await?).await
}

/// A journal without an engine.
pub async fn journal(url: &str, name: &str) -> Arc<dyn Journal> {
    RedisJournals::open(url, RedisOptions::default()).await.unwrap().open(name).await.unwrap()
}

/// A record and an event that say a number.
pub fn step(n: u64) -> Commit {
    let event = NewEvent::of("step", &serde_json::json!({"n": n, "text": "x".repeat(100)})).unwrap();
    Commit::new().put("work", &format!("key-{n}"), &n).unwrap().append("log", event).unwrap()
}

/// Commits steps, one after another.
pub async fn steps(store: &Store, numbers: std::ops::Range<u64>) {
    for n in numbers {
        store.commit(step(n)).await.unwrap();
    }
}

/// The numbers in the stream, in its order.
pub async fn numbers(store: &Store) -> Vec<u64> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let query = EventQuery::new(EventFilter::stream(StreamName::new("log").unwrap())).limit(1_000).after(after);
        let page = store.events(query).await.unwrap().items;
        let Some(last) = page.last() else { return found };
        after = Some(last.position);
        found.extend(page.iter().map(|e| e.data.decode::<serde_json::Value>().unwrap()["n"].as_u64().unwrap()));
    }
}

/// Everything in the namespace, as one digest.
pub async fn digest(store: &Store) -> String {
    store.digest(DigestOptions::default()).await.unwrap().digest
}

/// The stream that holds the default namespace's journal.
pub fn log_of(server: &RedisServer) -> String {
    let found = server.cli(&["KEYS", "millpond:{default.*:log"]).unwrap();
    found.trim().to_owned()
}

/// Waits until a condition holds, which ought to be soon.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
