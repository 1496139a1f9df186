//! Nothing the engine does holds up the runtime's thread: with a single thread, whoever has to let go of the file's lock
//! still gets its turn. No clock is read: if a call waited on that thread, the lock would never be let go, and the call
//! would end with "busy".

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millpond_core::{Commit, Engine, Front, Namespace, Selector, StartAt, Store};
use millpond_sqlite::{SqliteEngine, SqliteOptions};

/// Somebody else who has the file's lock.
struct Other(rusqlite::Connection);

impl Other {
    /// Keeps readers and writers out, from the first statement on.
    fn alone(path: &Path) -> Self {
        let connection = rusqlite::Connection::open(path).expect("opens");
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").expect("locked");
        Self(connection)
    }

    /// Keeps other writers out.
    fn writing(path: &Path) -> Self {
        let connection = rusqlite::Connection::open(path).expect("opens");
        connection.execute_batch("BEGIN IMMEDIATE").expect("locked");
        Self(connection)
    }

    /// Lets go after the other futures of this thread had many turns.
    async fn lets_go(self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.0.close().expect("closes");
    }
}

async fn open(path: &Path) -> millpond_core::Result<(SqliteEngine, Store)> {
    let engine = SqliteEngine::open(path, SqliteOptions::default()).await?;
    let shared: Arc<dyn Engine> = Arc::new(engine.clone());
    let store = Store::open(Arc::new(Front::new(shared)), Namespace::default()).await?;
    Ok((engine, store))
}

fn put(key: &str) -> Commit {
    Commit::new().put("work", key, &1).expect("valid")
}

/// A store that holds one commit and that nobody has open.
async fn stored() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let (engine, store) = open(&path).await.expect("opens");
    store.commit(put("a")).await.expect("commits");
    drop(store);
    engine.close().await.expect("closes");
    (folder, path)
}

#[tokio::test(flavor = "current_thread")]
async fn a_store_that_is_locked_is_opened_while_the_thread_goes_on() {
    let (_folder, path) = stored().await;
    let other = Other::alone(&path);
    let (opened, ()) = tokio::join!(open(&path), other.lets_go());
    let (engine, store) = opened.expect("opens once the lock is let go");
    assert!(store.get("work", "a").await.expect("reads").is_some());
    engine.close().await.expect("closes");
}

#[tokio::test(flavor = "current_thread")]
async fn a_commit_waits_for_the_lock_while_the_thread_goes_on() {
    let (_folder, path) = stored().await;
    let (engine, store) = open(&path).await.expect("opens");
    let other = Other::writing(&path);
    let (committed, ()) = tokio::join!(store.commit(put("b")), other.lets_go());
    assert_eq!(committed.expect("commits once the lock is let go").revisions, [1]);
    engine.close().await.expect("closes");
}

#[tokio::test(flavor = "current_thread")]
async fn a_watch_begins_and_waits_while_the_thread_goes_on() {
    let (_folder, path) = stored().await;
    let (engine, store) = open(&path).await.expect("opens");
    // From a moment that is settled before anything runs side by side: where `Now` is, its first read would decide, off
    // this thread, perhaps after the commit it is to wait for.
    let before = StartAt::After(store.cursor(store.head().await.expect("reads")));
    let mut feed = store.subscribe(Selector::Events(millpond_core::EventFilter::all()), before);
    // Another handle commits what the watch waits for; both have only this thread.
    let (other_engine, other) = open(&path).await.expect("opens");
    let event = millpond_core::NewEvent::of("made", &1).expect("valid");
    let writes = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        other.commit(Commit::new().append("log", event).expect("valid")).await.expect("commits")
    };
    let watched = tokio::time::timeout(Duration::from_secs(60), feed.next());
    let (delivery, receipt) = tokio::join!(watched, writes);
    let delivery = delivery.expect("the watch ends").expect("goes on").expect("delivered");
    assert!(format!("{delivery:?}").contains("made"), "{delivery:?} after {receipt:?}");
    drop(feed);
    other_engine.close().await.expect("closes");
    engine.close().await.expect("closes");
}
