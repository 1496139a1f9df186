//! What the tests of this crate have in common.
#![allow(dead_code)] // Each test program uses a part of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use millpond_core::{
    Commit, CommitId, Engine, EventFilter, EventQuery, Front, MergeOp, Namespace, NewEvent, PreparedCommit, Store,
};
use millpond_postgres::{PostgresEngine, PostgresOptions};
use millpond_testservers::{PostgresServer, Proxy, wait_until};

/// A server, or `None` where PostgreSQL is not installed and the test is skipped.
pub fn server() -> Option<PostgresServer> {
    PostgresServer::start().expect("a server")
}

/// A number from the environment that asks for more than a usual run does.
pub fn asked(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |n| n.parse().expect("a number"))
}

/// Runs a test, and fails it when it hangs. What was asked for by [`asked`] may take an hour.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let limit = if ["MILLPOND_ROWS", "MILLPOND_KILLS"].iter().any(|n| std::env::var_os(n).is_some()) { 3_600 } else { 120 };
    let answer = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(limit), test).await });
    runtime.shutdown_background();
    answer.expect("the test did not hang")
}

/// The same address with another port: a proxy's.
pub fn through(url: &str, server: &PostgresServer, port: u16) -> String {
    url.replace(&format!(":{}/", server.port()), &format!(":{port}/"))
}

pub async fn open(url: &str) -> PostgresEngine {
    PostgresEngine::open(url, PostgresOptions::default()).await.expect("opens")
}

pub async fn store(engine: &PostgresEngine) -> Store {
    Store::open(Arc::new(Front::new(Arc::new(engine.clone()))), Namespace::default()).await.expect("the default namespace")
}

/// One step under an id of its own: sent twice, it is known again.
pub fn step(id: CommitId, name: &str) -> Commit {
    fresh_step(name).id(id)
}

/// One step: adds one to a record and appends an event. The store gives it an id, which it does not look for.
pub fn fresh_step(name: &str) -> Commit {
    let event = NewEvent::of("stepped", &serde_json::json!({"name": name})).expect("an event");
    let add = vec![MergeOp::Add("/n".to_owned(), 1)];
    Commit::new().merge("totals", name, add).expect("a merge").append(name, event).expect("an append")
}

pub fn new_id(engine: &PostgresEngine) -> CommitId {
    CommitId::generate(&*engine.host())
}

/// A commit as an engine takes it.
pub fn prepared(store: &Store, commit: Commit) -> PreparedCommit {
    commit.prepare(store.host(), &store.catalog()).expect("a commit")
}

/// How often a step was applied: by the record, and by the stream.
pub async fn applied(store: &Store, name: &str) -> (u64, u64) {
    let record = store
        .get("totals", name)
        .await
        .expect("a read")
        .map_or(0, |r| r.value.value().expect("a document")["n"].as_u64().expect("a number"));
    let stream = store.stream(name).await.expect("a read").map_or(0, |s| s.head);
    (record, stream)
}

/// The positions of all events.
pub async fn positions(store: &Store) -> Vec<u64> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.events(EventQuery::new(EventFilter::all()).after(after).limit(10_000)).await.expect("events");
        all.extend(page.items.iter().map(|e| e.position.0));
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// Nothing is wrong with what is stored.
pub async fn is_sound(engine: &PostgresEngine) {
    assert_eq!(engine.check(&Namespace::default()).await.expect("a check"), Vec::<String>::new());
}

/// Waits until nothing has been sent for a while: notifications of earlier commits are through.
pub fn quiet(proxy: &Proxy) {
    let mut last = (proxy.flights(), std::time::Instant::now());
    wait_until("silence", || {
        if proxy.flights() != last.0 {
            last = (proxy.flights(), std::time::Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(300)
    })
    .expect("silence");
}
