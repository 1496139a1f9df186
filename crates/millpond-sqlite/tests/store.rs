//! The engine through a store: what one process sees of one file.

use std::sync::Arc;

use millpond_core::{
    Collection, Commit, Engine, EventFilter, EventQuery, FieldKind, Front, MergeOp, Namespace, NewEvent, Query, Store,
};
use millpond_sqlite::{SqliteEngine, SqliteOptions};
use serde_json::json;

const TASKS: Collection = Collection::new("tasks")
    .index("state", FieldKind::Text)
    .index("rank", FieldKind::Integer)
    .index("tags", FieldKind::TextSet)
    .index_on(&["state", "rank"]);

async fn open(engine: &SqliteEngine) -> Store {
    let engine: Arc<dyn Engine> = Arc::new(engine.clone());
    Store::open(Arc::new(Front::new(engine)), Namespace::default()).await.expect("opens")
}

async fn file() -> (tempfile::TempDir, SqliteEngine) {
    let folder = tempfile::tempdir().expect("opens");
    let engine = SqliteEngine::open(folder.path().join("a/b.db"), SqliteOptions::default()).await.expect("opens");
    (folder, engine)
}

#[tokio::test]
async fn a_commit_is_there_when_the_file_is_opened_again() {
    let (folder, engine) = file().await;
    let store = open(&engine).await;
    store.declare(&[TASKS.spec().unwrap()]).await.unwrap();
    let commit = Commit::new()
        .put("tasks", "t1", &json!({"state": "new", "rank": 3, "tags": ["a", "b"]}))
        .unwrap()
        .merge("totals", "all", vec![MergeOp::Add("/n".into(), 2)])
        .unwrap()
        .append("log", NewEvent::of("made", &json!({"n": 1})).unwrap())
        .unwrap();
    let receipt = store.commit(commit).await.unwrap();
    assert_eq!((receipt.position.0, receipt.revisions.as_slice()), (3, &[1, 1][..]));
    engine.close().await.unwrap();

    let engine = SqliteEngine::open(folder.path().join("a/b.db"), SqliteOptions::default()).await.unwrap();
    let store = open(&engine).await;
    let page = store.query(Query::new("tasks").unwrap().has("tags", "b").eq("state", "new").order_desc("rank")).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(store.get("totals", "all").await.unwrap().unwrap().value.as_str(), "{\"n\":2}");
    let events = store.events(EventQuery::new(EventFilter::all().kind("ma*"))).await.unwrap();
    assert_eq!(events.items[0].sequence, 1);
    assert_eq!(store.outcome(receipt.id).await.unwrap().unwrap().position, receipt.position);
    assert_eq!(engine.check(store.namespace()).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn steady_commits_open_no_connection_and_compile_no_statement() {
    let (_folder, engine) = file().await;
    let store = open(&engine).await;
    store.declare(&[TASKS.spec().unwrap()]).await.unwrap();
    let step = |i: u64| {
        Commit::new()
            .put("tasks", &format!("t{}", i % 3), &json!({"state": "new", "rank": i, "tags": ["a"]}))
            .unwrap()
            .append("log", NewEvent::of("made", &i).unwrap())
            .unwrap()
    };
    for i in 0..10 {
        store.commit(step(i)).await.unwrap();
    }
    let before = engine.stats();
    for i in 10..60 {
        store.commit(step(i)).await.unwrap();
    }
    let after = engine.stats();
    assert_eq!((before.connections, before.compiled), (after.connections, after.compiled));
    assert_eq!(after.transactions - before.transactions, 50);
}

#[test]
fn many_may_make_the_same_new_file_at_once() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        let barrier = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            let opened: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        SqliteEngine::open_now(&path, SqliteOptions::default()).map(drop)
                    })
                })
                .collect();
            for one in opened {
                one.join().unwrap().unwrap();
            }
        });
    }
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let error = SqliteEngine::open_now(&foreign, SqliteOptions::default()).unwrap_err();
    assert!(error.message().contains("not a Millpond store"), "{error}");
    let mode: String = rusqlite::Connection::open(&foreign).unwrap().query_row("PRAGMA journal_mode", [], |r| r.get(0)).unwrap();
    assert_eq!(mode, "delete", "the foreign file was switched to WAL");

    let newer = folder.path().join("newer.db");
    drop(SqliteEngine::open_now(&newer, SqliteOptions::default()).unwrap());
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteEngine::open_now(&newer, SqliteOptions::default()).unwrap_err();
    assert!(error.message().contains("format 99"), "{error}");

    let text = folder.path().join("text.db");
    std::fs::write(&text, "this is no database, but it is long enough to look like one".repeat(100)).unwrap();
    let error = SqliteEngine::open_now(&text, SqliteOptions::default()).unwrap_err();
    assert_eq!(error.kind(), millpond_core::ErrorKind::Corrupt, "{error}");

    let missing = folder.path().join("missing.db");
    let options = SqliteOptions { create: false, ..SqliteOptions::default() };
    assert_eq!(SqliteEngine::open_now(&missing, options).unwrap_err().kind(), millpond_core::ErrorKind::NotFound);
    assert!(!missing.exists());
}
