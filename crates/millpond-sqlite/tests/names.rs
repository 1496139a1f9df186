//! Collections may have any name: their tables never meet SQLite's, ours, or each other's.

use std::sync::Arc;

use millpond_core::{Collection, Commit, Engine, FieldKind, Filter, Front, Namespace, Query, Store};
use millpond_sqlite::{SqliteEngine, SqliteOptions};
use serde_json::json;

const NAMES: [&str; 14] = [
    "events",
    "events_records",
    "c",
    "s",
    "l",
    "sqlite_things",
    "records_key",
    "events_id",
    "records",
    "streams",
    "json_each",
    "pragma_application_id",
    "x-y",
    "select",
];

async fn open(engine: &SqliteEngine, namespace: &str) -> Store {
    let shared: Arc<dyn Engine> = Arc::new(engine.clone());
    let namespace = Namespace::new(namespace).expect("opens");
    if engine.namespace(&namespace).await.expect("opens").is_none() {
        engine.create_namespace(&namespace).await.expect("opens");
    }
    Store::open(Arc::new(Front::new(shared)), namespace).await.expect("opens")
}

#[tokio::test]
async fn any_name_has_a_table_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let engine = SqliteEngine::open(&path, SqliteOptions::default()).await.unwrap();
    let store = open(&engine, "default").await;
    for name in NAMES {
        // Fields named like other collections: indexes and side tables are made of both.
        let named = Collection::new(name).index("events", FieldKind::TextSet).index("value", FieldKind::Text);
        let spec = named.index("records", FieldKind::Text).index("streams", FieldKind::Text).spec().unwrap();
        store.declare(&[spec]).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        let commit = Commit::new()
            .put(name, "a", &json!({"events": [name], "value": name}))
            .and_then(|c| c.put(name, "b", &json!({"value": "none"})))
            .unwrap();
        store.commit(commit).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    for name in NAMES {
        let query = || Query::new(name).unwrap();
        assert_eq!(store.count(query()).await.unwrap(), 2, "{name}");
        assert_eq!(store.count(query().has("events", name).eq("value", name)).await.unwrap(), 1, "{name}");
        assert_eq!(store.count(query().filter(Filter::Absent("events".into()))).await.unwrap(), 1, "{name}");
    }
    assert_eq!(engine.check(store.namespace()).await.unwrap(), Vec::<String>::new());
    engine.close().await.unwrap();
    SqliteEngine::open(&path, SqliteOptions::default()).await.expect("opens again");
}

#[tokio::test]
async fn a_second_type_of_a_field_meets_no_other_field() {
    let folder = tempfile::tempdir().unwrap();
    let engine = SqliteEngine::open(folder.path().join("a.db"), SqliteOptions::default()).await.unwrap();
    let one = Collection::new("things").index("n", FieldKind::Integer).index("n__text", FieldKind::Text);
    open(&engine, "one").await.declare(&[one.spec().unwrap()]).await.unwrap();
    let other = Collection::new("things").index("n", FieldKind::Text);
    let store = open(&engine, "other").await;
    store.declare(&[other.spec().unwrap()]).await.unwrap();
    store.commit(Commit::new().put("things", "a", &json!({"n": "x"})).unwrap()).await.unwrap();
    assert_eq!(store.count(Query::new("things").unwrap().eq("n", "x")).await.unwrap(), 1);
}
