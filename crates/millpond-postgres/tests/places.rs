//! Databases, roles, versions, poolers: where a store can live, and what it says where it cannot.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use millpond_core::{Collection, Durability, Engine as _, ErrorKind, FieldKind, Query};
use millpond_postgres::{PostgresEngine, PostgresOptions, migrate};
use millpond_testservers::{PostgresServer, wait_until};
use support::{Bouncer, Held, applied, is_sound, new_id, open, run, server, step, store};

const JOBS: Collection = Collection::new("jobs").index("state", FieldKind::Text).index("tags", FieldKind::TextSet);

async fn refused(url: &str, options: PostgresOptions) -> millpond_core::Error {
    PostgresEngine::open(url, options).await.expect_err("refused")
}

/// Eight programs that start at once on an empty database make its tables once.
#[test]
fn many_migrate_at_once() {
    let Some(server) = server() else { return };
    let url = server.create("many").unwrap() + "?pool=2";
    run(async {
        let mut opening = Vec::new();
        for _ in 0..8 {
            let url = url.clone();
            opening.push(tokio::spawn(async move {
                let engine = open(&url).await;
                let store = store(&engine).await;
                store.declare(&[JOBS.spec().unwrap()]).await.unwrap();
                store.commit(step(new_id(&engine), "a")).await.unwrap();
                engine
            }));
        }
        let mut last = None;
        for opened in opening {
            last = Some(opened.await.unwrap());
        }
        let engine = last.unwrap();
        assert_eq!(applied(&store(&engine).await, "a").await, (8, 8));
        is_sound(&engine).await;
    });
    assert_eq!(
        server.psql("many", "SELECT string_agg(version::text, ' ' ORDER BY version) FROM millpond.format").unwrap(),
        "1 2"
    );
}

/// After a migration by another role, one without any right to change tables opens the store, declares what was
/// declared, writes and reads; a declaration that needs a new table is refused in so many words.
#[test]
fn a_role_without_the_right_to_change_tables_is_enough() {
    let Some(server) = server() else { return };
    let url = server.create("roles").unwrap();
    run(async {
        migrate(&url, &[JOBS.spec().unwrap()]).await.unwrap();
        let grants = "CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA millpond TO app; \
                      GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA millpond TO app";
        server.psql("roles", grants).unwrap();
        let engine = open(&url.replace("postgres@", "app@")).await;
        let store = store(&engine).await;
        store.declare(&[JOBS.spec().unwrap()]).await.unwrap();
        let job = serde_json::json!({"state": "new", "tags": ["a"]});
        store.commit(step(new_id(&engine), "a").put("jobs", "j", &job).unwrap()).await.unwrap();
        assert_eq!(store.query(Query::new("jobs").unwrap().has("tags", "a")).await.unwrap().items.len(), 1);
        let other = Collection::new("others").index("state", FieldKind::Text).spec().unwrap();
        let error = store.declare(&[other]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("migrate"), "{error}");
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        engine.purge(store.namespace(), store.now()).await.unwrap();
        is_sound(&engine).await;
    });
}

/// A store of a newer program is not touched; a database without tables is not filled unasked.
#[test]
fn what_cannot_be_opened_is_left_alone() {
    let Some(server) = server() else { return };
    let url = server.create("versions").unwrap();
    run(async {
        let unasked = PostgresOptions { create: false, ..PostgresOptions::default() };
        assert_eq!(refused(&url, unasked).await.kind(), ErrorKind::NotFound);
        assert_eq!(server.psql("versions", "SELECT to_regnamespace('millpond') IS NULL").unwrap(), "t");
        drop(open(&url).await);
        server.psql("versions", "INSERT INTO millpond.format (version) VALUES (99)").unwrap();
        let error = refused(&url, PostgresOptions::default()).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        server.create_with("latin", &["-T", "template0", "-E", "LATIN1", "--locale=C"]).unwrap();
        let error = refused(&server.url("latin"), PostgresOptions::default()).await;
        assert!(error.to_string().contains("LATIN1"), "{error}");
        let error = refused(&server.url("nowhere"), PostgresOptions::default()).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    });
}

/// A store of the format before, with a collection and records, is brought to this one by the first program that opens
/// it, in the middle of what others commit.
#[test]
fn a_store_of_the_format_before_is_brought_up() {
    let Some(server) = server() else { return };
    let url = server.create("older").unwrap();
    run(async {
        let engine = open(&url).await;
        let opened = store(&engine).await;
        opened.declare(&[JOBS.spec().unwrap()]).await.unwrap();
        opened.commit(step(new_id(&engine), "a")).await.unwrap();
        drop((opened, engine));
        let back = "ALTER TABLE millpond.collections DROP COLUMN filling; DELETE FROM millpond.format WHERE version = 2";
        server.psql("older", back).unwrap();
        let engine = open(&url).await;
        let store = store(&engine).await;
        assert!(store.catalog().get("jobs").is_some());
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        assert_eq!(applied(&store, "a").await, (2, 2));
        is_sound(&engine).await;
    });
    assert_eq!(server.psql("older", "SELECT max(version) FROM millpond.format").unwrap(), "2");
}

/// Two programs migrate at once, this one and a newer one: the newer one has the lock and goes further than this one
/// knows. This one, which saw the old format before it waited, must not take the store for its own.
#[test]
fn a_migration_beside_a_newer_program_is_refused() {
    let Some(server) = server() else { return };
    let url = server.create("beside").unwrap() + "?timeout=20";
    run(async {
        drop(open(&url).await);
        let back = "ALTER TABLE millpond.collections DROP COLUMN filling; DELETE FROM millpond.format WHERE version = 2";
        server.psql("beside", back).unwrap();
        let lock = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('millpond schema millpond', 0));\n";
        let newer = Held::open(&server, "beside", lock);
        let older = tokio::spawn({
            let url = url.clone();
            async move { PostgresEngine::open(&url, PostgresOptions::default()).await }
        });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'millpond'";
        wait_until("it waits", || server.psql("beside", waiting).is_ok_and(|n| n == "1")).unwrap();
        server.psql("beside", "INSERT INTO millpond.format (version) VALUES (2), (99)").unwrap();
        drop(newer);
        let error = older.await.unwrap().expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("format 99"), "{error}");
    });
}

/// What an acknowledgement survives comes from the live settings, and a server without fsync is refused unless the
/// URL accepts it.
#[test]
fn durability_is_what_the_server_says() {
    let Some(safe) = server() else { return };
    let url = safe.create("safe").unwrap();
    let Some(unsafe_server) = PostgresServer::start_with(&[("fsync", "off")]).unwrap() else { return };
    let bare = unsafe_server.create("bare").unwrap();
    run(async {
        assert_eq!(open(&url).await.info().durability, Durability::PowerLoss);
        let engine = open(&(url.clone() + "?synchronous_commit=off")).await;
        assert_eq!(engine.info().durability, Durability::ProcessCrash);
        let facts = engine.info().facts;
        assert!(facts.contains(&("synchronous_commit", "off".to_owned())), "{facts:?}");
        let error = refused(&bare, PostgresOptions::default()).await;
        assert!(error.to_string().contains("fsync"), "{error}");
        let engine = open(&(bare.clone() + "?fsync=off")).await;
        assert_eq!(engine.info().durability, Durability::ProcessCrash);
    });
}

/// A server that promises less than before is found out by the next connection: an acknowledgement never means less
/// than when the store was opened.
#[test]
fn a_new_connection_is_asked_again_what_it_keeps() {
    let Some(server) = server() else { return };
    let url = server.create("changed").unwrap() + "?pool=2&timeout=10";
    run(async {
        let engine = open(&url).await;
        let store = store(&engine).await;
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        for (setting, refused) in [("off", true), ("on", false)] {
            server.psql("changed", &format!("ALTER SYSTEM SET fsync = {setting}")).unwrap();
            server.psql("changed", "SELECT pg_reload_conf()").unwrap();
            let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'millpond'";
            server.psql("changed", ended).unwrap();
            match store.commit(step(new_id(&engine), "a")).await {
                Err(error) if refused => assert!(error.to_string().contains("fsync"), "{error}"),
                other => assert_eq!(other.is_err(), refused, "fsync={setting}: {other:?}"),
            }
        }
        assert_eq!(applied(&store, "a").await, (2, 2));
        is_sound(&engine).await;
    });
}

/// A database that sorts by the rules of a language answers by bytes all the same.
#[test]
fn a_database_with_another_collation_answers_by_bytes() {
    let Some(server) = server() else { return };
    let icu = ["-T", "template0", "--locale-provider=icu", "--icu-locale=en-US"];
    let url = server.create_with("icu", &icu).unwrap();
    run(async {
        let engine = open(&url).await;
        let store = store(&engine).await;
        store.declare(&[JOBS.spec().unwrap()]).await.unwrap();
        let keys = ["B", "a", "A", "b", "é", "e", "Z"];
        let mut commit = millpond_core::Commit::new();
        for key in keys {
            commit = commit.put("jobs", key, &serde_json::json!({"state": key})).unwrap();
        }
        store.commit(commit).await.unwrap();
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        for query in [Query::new("jobs").unwrap(), Query::new("jobs").unwrap().order_asc("state")] {
            let page = store.query(query).await.unwrap();
            assert_eq!(page.items.iter().map(|r| r.key.as_str()).collect::<Vec<_>>(), sorted);
        }
    });
}

/// Behind PgBouncer in transaction mode everything works without prepared statements and without session settings.
#[test]
fn a_transaction_pooler_in_between() {
    let Some(server) = server() else { return };
    server.create("pooled").unwrap();
    let Some(pooler) = Bouncer::start(&server, "pooled", "postgres") else { return };
    let url = pooler.url("pooled") + "&pool=4";
    run(async {
        let (writer, reader) = (open(&url).await, open(&url).await);
        let (store, other) = (store(&writer).await, store(&reader).await);
        store.declare(&[JOBS.spec().unwrap()]).await.unwrap();
        let waiting = tokio::spawn(async move {
            let head = other.head().await.unwrap();
            other.changed(head).await;
            other
        });
        let mut callers = Vec::new();
        for n in 0..50 {
            let (store, id) = (store.clone(), new_id(&writer));
            let job = serde_json::json!({"state": "new", "tags": ["a"]});
            let commit = step(id, "pooled").put("jobs", &format!("j{n}"), &job).unwrap();
            callers.push(tokio::spawn(async move { store.commit(commit).await.unwrap() }));
        }
        for caller in callers {
            caller.await.unwrap();
        }
        let other = waiting.await.unwrap();
        assert_eq!(applied(&other, "pooled").await, (50, 50));
        assert_eq!(other.query(Query::new("jobs").unwrap().has("tags", "a")).await.unwrap().items.len(), 50);
        is_sound(&reader).await;
    });
    let prepared = server.log().contains("prepared statement");
    assert!(!prepared, "the server met a prepared statement of another session:\n{}", server.log());
}
