//! What damaged rows do: they are reported one by one, and never fail what is beside them.

use std::path::PathBuf;
use std::sync::Arc;

use millpond_core::{
    Collection, Commit, Document, Engine, ErrorKind, EventFilter, EventQuery, FeedRequest, FieldKind, Front, Key, Namespace,
    NewEvent, Query, Records, Selector, Store,
};
use millpond_sqlite::{SqliteEngine, SqliteOptions};
use serde_json::json;

const TASKS: Collection = Collection::new("tasks").index("state", FieldKind::Text).index("tags", FieldKind::TextSet);

/// A task as a typed reader sees it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Task {
    state: String,
}

impl Document for Task {
    const COLLECTION: Collection = TASKS;
    fn key(&self) -> millpond_core::Result<Key> {
        Key::new("t1")
    }
}

struct Ground {
    _folder: tempfile::TempDir,
    path: PathBuf,
    engine: SqliteEngine,
    store: Store,
}

impl Ground {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("works");
        let path = folder.path().join("a.db");
        let engine = SqliteEngine::open(&path, SqliteOptions::default()).await.expect("works");
        let shared: Arc<dyn Engine> = Arc::new(engine.clone());
        let store = Store::open(Arc::new(Front::new(shared)), Namespace::default()).await.expect("works");
        store.declare(&[TASKS.spec().expect("works")]).await.expect("works");
        let event = |n: i64| {
            let mut event = NewEvent::of("made", &json!({"n": n})).expect("works");
            event.labels.insert("shade".into(), "blue".into());
            event
        };
        let commit = Commit::new()
            .put("tasks", "t1", &json!({"state": "new", "tags": ["b", "a"]}))
            .and_then(|c| c.put("tasks", "t2", &json!({"state": "new"})))
            .and_then(|c| c.put("loose", "l1", &json!({"n": 1})))
            .and_then(|c| c.append("log", event(1)))
            .and_then(|c| c.append("log", event(2)))
            .and_then(|c| c.append("log", event(3)))
            .expect("works");
        store.commit(commit).await.expect("works");
        assert_eq!(engine.check(store.namespace()).await.expect("works"), Vec::<String>::new());
        Self { _folder: folder, path, engine, store }
    }

    fn damage(&self, statement: &str) {
        rusqlite::Connection::open(&self.path).expect("works").execute_batch(statement).expect("works");
    }

    async fn findings(&self) -> String {
        self.engine.check(self.store.namespace()).await.expect("works").join("; ")
    }

    async fn feed(&self, selector: Selector) -> (usize, usize) {
        let page =
            self.engine.feed(self.store.namespace(), FeedRequest { selector, after: None, limit: 10 }).await.expect("works");
        (page.changes.len(), page.damaged.len())
    }
}

#[tokio::test]
async fn events_that_are_not_json_are_reported_beside_the_others() {
    let ground = Ground::new().await;
    ground.damage("UPDATE events SET data = '{\"n\":' WHERE sequence = 1; UPDATE events SET labels = '{' WHERE sequence = 2");
    let mut blue = EventFilter::all();
    blue.labels.insert("shade".into(), "blue".into());
    for filter in [EventFilter::all(), blue] {
        let page = ground.store.events(EventQuery::new(filter.clone())).await.unwrap();
        assert_eq!((page.items.len(), page.damaged.len()), (1, 2), "{:?}", page.damaged);
        assert_eq!(ground.feed(Selector::Events(filter)).await, (1, 2));
    }
    let found = ground.findings().await;
    assert!(found.contains("data is not JSON") && found.contains("labels are not"), "{found}");
}

#[tokio::test]
async fn a_record_that_is_not_json_is_corrupt_by_key_and_damaged_in_lists() {
    let ground = Ground::new().await;
    let middle = ["{\"state\": new}", "{\"state\":\"new\"}}", "[1 2]", "{\"state\":\"a\\u12\"}"];
    for doc in ["{\"state\":", "", "nonsense"].into_iter().chain(middle) {
        ground.damage(&format!("UPDATE tasks SET doc = '{doc}' WHERE key = 't1'"));
        assert_eq!(ground.store.get("tasks", "t1").await.unwrap_err().kind(), ErrorKind::Corrupt, "{doc}");
        let typed = Records::<Task>::new(ground.store.clone()).get("t1").await.unwrap_err();
        assert_eq!(typed.kind(), ErrorKind::Corrupt, "{doc}");
        assert!(ground.store.get("tasks", "t2").await.unwrap().is_some());
        let page = ground.store.query(Query::new("tasks").unwrap()).await.unwrap();
        assert_eq!((page.items.len(), page.damaged.len()), (1, 1));
        let selector = Selector::Records { collection: "tasks".try_into().unwrap(), key_prefix: String::new() };
        assert_eq!(ground.feed(selector).await, (1, 1));
    }
    assert!(ground.findings().await.contains("tasks/t1"));
}

/// Texts with every bracket in its place that no value can be made of.
fn without_value() -> [String; 3] {
    [
        "{\"state\":1e999}".to_owned(),
        "{\"state\":\"\\ud800\"}".to_owned(),
        format!("{{\"state\":{}1{}}}", "[".repeat(200), "]".repeat(200)),
    ]
}

#[tokio::test]
async fn what_has_no_value_is_damaged_for_every_reader_and_for_the_check() {
    let ground = Ground::new().await;
    for text in without_value() {
        ground.damage(&format!("UPDATE tasks SET doc = '{text}' WHERE key = 't1'; UPDATE records SET doc = '{text}'"));
        ground.damage(&format!("UPDATE events SET data = '{text}' WHERE sequence = 1"));
        let found = ground.findings().await;
        for (collection, key, beside) in [("tasks", "t1", 1), ("loose", "l1", 0)] {
            let error = ground.store.get(collection, key).await.unwrap_err();
            assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains(key), "{text}: {error}");
            let page = ground.store.query(Query::new(collection).unwrap()).await.unwrap();
            assert_eq!((page.items.len(), page.damaged.len()), (beside, 1), "{text} in {collection}");
            let selector = Selector::Records { collection: collection.try_into().unwrap(), key_prefix: String::new() };
            assert_eq!(ground.feed(selector).await, (beside, 1), "{text} in {collection}");
            assert!(found.contains(&format!("{collection}/{key}: ")), "{text}: {found}");
        }
        let page = ground.store.events(EventQuery::new(EventFilter::all())).await.unwrap();
        assert_eq!((page.items.len(), page.damaged.len()), (2, 1), "{text}");
        assert_eq!(ground.feed(Selector::Events(EventFilter::all())).await, (2, 1), "{text}");
        assert!(found.contains(": the data is not JSON"), "{text}: {found}");
    }
}

#[tokio::test]
async fn check_sees_side_tables_and_positions_of_undeclared_records() {
    let ground = Ground::new().await;
    ground.damage("DELETE FROM \"tasks.tags.set\" WHERE value = 'a'");
    assert_eq!(ground.findings().await, "tasks/t1: the side table of \"tags\" does not hold what the document says");
    ground.damage("INSERT INTO \"tasks.tags.set\" SELECT row, 'a', ns FROM tasks WHERE key = 't1'");
    assert_eq!(ground.findings().await, "");
    ground.damage("INSERT INTO \"tasks.tags.set\" (row, value, ns) VALUES (99, 'x', 1)");
    assert!(ground.findings().await.contains("holds 1 values of records that are not there"));
    ground.damage("DELETE FROM \"tasks.tags.set\" WHERE row = 99; UPDATE records SET position = 1000");
    assert!(ground.findings().await.contains("loose/l1: position 1000 is beyond the head"));
}
