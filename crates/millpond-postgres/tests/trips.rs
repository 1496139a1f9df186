//! Counted, not timed: round trips, connections, and how tables are read when they have grown.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::time::Duration;

use millpond_core::{Collection, Engine as _, FieldKind, Namespace, Query};
use millpond_postgres::PostgresEngine;
use millpond_testservers::Proxy;
use support::{new_id, open, prepared, quiet, run, server, step, store, through};

/// A batch is two round trips whatever its size, a read call is one, and none of them opens a connection.
#[test]
fn a_batch_is_two_round_trips_whatever_its_size() {
    let Some(server) = server() else { return };
    let url = server.create("trips").unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    run(async {
        let engine = open(&(through(&url, &server, proxy.port()) + "?pool=1&sslmode=disable")).await;
        let store = store(&engine).await;
        let connections = proxy.connections();
        let warm = prepared(&store, step(new_id(&engine), "name-0"));
        engine.commit(&Namespace::default(), vec![warm]).await.unwrap();
        for size in [1_usize, 2, 10, 300] {
            let mut least = u64::MAX;
            // A machine that stalls in the middle of a flight makes it look like two: the least of a few is the truth.
            for _ in 0..3 {
                let mut batch = Vec::new();
                for n in 0..size {
                    batch.push(prepared(&store, step(new_id(&engine), &format!("name-{n}"))));
                }
                quiet(&proxy);
                let sent = engine.stats().round_trips;
                proxy.arm(&[]);
                let outcomes = engine.commit(&Namespace::default(), batch).await.unwrap();
                least = least.min(proxy.flights());
                assert!(outcomes.iter().all(Result::is_ok));
                assert!(engine.stats().round_trips - sent <= 3, "two, and at most the notification's");
            }
            assert_eq!(least, 2, "a batch of {size}");
        }
        assert_eq!(proxy.connections(), connections, "a commit opened a connection");
        quiet(&proxy);
        let before = engine.stats().round_trips;
        store.get("totals", "name-1").await.unwrap();
        assert_eq!(engine.stats().round_trips - before, 1, "a record by key");
        assert_eq!(engine.stats().connections, 1);
    });
}

const JOBS: Collection = Collection::new("jobs")
    .index("state", FieldKind::Text)
    .index("at", FieldKind::Timestamp)
    .index("tags", FieldKind::TextSet)
    .index_on(&["state", "at"]);

/// Statements prepared while every table was empty do not read a table whole once it holds many rows, and neither do
/// the questions that domains ask: a page reads about as many rows as it shows.
#[test]
fn grown_tables_are_never_read_whole() {
    let Some(server) = server() else { return };
    let url = server.create("grown").unwrap();
    run(async {
        let engine = open(&(url + "?pool=1")).await;
        let store = store(&engine).await;
        store.declare(&[JOBS.spec().unwrap()]).await.unwrap();
        let job = |n: u64| serde_json::json!({"state": format!("s{}", n % 7), "at": n, "tags": [format!("t{}", n % 50)]});
        // Often enough that the server settles on plans made for empty tables.
        for n in 0..12_u64 {
            let commit = step(new_id(&engine), "first").put("jobs", "first", &job(n)).unwrap();
            store.commit(commit).await.unwrap();
            store.commit(millpond_core::Commit::new().delete("jobs", "first").unwrap()).await.unwrap();
        }
        let info = engine.namespace(&Namespace::default()).await.unwrap().unwrap();
        fill(&server, info.position.0);
        let before = counts(&server, &engine).await;
        for n in 0..50_u64 {
            let key = format!("k{}", n * 1_999);
            let commit = step(new_id(&engine), &format!("stream-{n}"));
            store
                .commit(commit.put("jobs", &key, &job(n)).unwrap().delete("jobs", &format!("k{}", n * 1_999 + 1)).unwrap())
                .await
                .unwrap();
        }
        let after = counts(&server, &engine).await;
        assert_eq!(after.0, before.0, "commits read a table whole");
        let rows = after.1 - before.1;
        assert!(rows < 50 * 60, "50 commits read {rows} rows");
        // Pages rely on statistics, which the server gathers by itself within a minute of such growth.
        server.psql("grown", "ANALYZE").unwrap();
        let before = counts(&server, &engine).await;
        for query in [
            Query::new("jobs").unwrap().limit(50),
            Query::new("jobs").unwrap().eq("state", "s3").order_desc("at").limit(50),
            Query::new("jobs").unwrap().one_of("state", ["s1", "s2"]).order_desc("at").limit(50),
            Query::new("jobs").unwrap().eq("state", "s4").limit(50),
            Query::new("jobs").unwrap().order_asc("at").limit(50),
            Query::new("jobs").unwrap().at_least("at", 99_000_i64).order_asc("at").limit(50),
        ] {
            assert_eq!(store.query(query).await.unwrap().items.len(), 50);
        }
        let after = counts(&server, &engine).await;
        assert_eq!(after.0, before.0, "a page read a table whole");
        let rows = after.1 - before.1;
        assert!(rows < 6 * 250, "6 pages of 50 read {rows} rows");
    });
}

/// 100,000 jobs, as many events, written past the engine because only their number matters here.
fn fill(server: &millpond_testservers::PostgresServer, position: u64) {
    let sql = format!(
        "SET search_path = millpond;
         INSERT INTO jobs (ns, key, \"row\", revision, position, time, doc, state, at)
           SELECT 1, 'k' || n, {position} + n, 1, {position} + n, 1,
             json_build_object('state', 's' || n % 7, 'at', n, 'tags', json_build_array('t' || n % 50)), 's' || n % 7, n
           FROM generate_series(0, 99999) n;
         INSERT INTO \"jobs.tags.set\" (ns, \"row\", value) SELECT 1, {position} + n, 't' || n % 50 FROM generate_series(0, 99999) n;
         INSERT INTO streams (ns, id, name, head, oldest, sealed, position, time)
           SELECT 1, 100 + n, 'filled-' || n, 1, 1, false, {position} + 100000 + n, 1 FROM generate_series(0, 99999) n;
         INSERT INTO events (ns, position, stream, sequence, type, time, data)
           SELECT 1, {position} + 100000 + n, 100 + n, 1, 't', 1, '1' FROM generate_series(0, 99999) n;
         INSERT INTO commits SELECT 1, gen_random_uuid(), n, 1, '', '[]', '[]' FROM generate_series(0, 99999) n;
         INSERT INTO tombstones SELECT 1, 'old', 'k' || n, 1, 1, 1 FROM generate_series(0, 99999) n;
         UPDATE namespaces SET position = {position} + 300000, streams = 200100 WHERE id = 1"
    );
    server.psql("grown", &sql).unwrap();
}

/// Tables read from end to end so far, and rows read altogether, as the server counted.
async fn counts(server: &millpond_testservers::PostgresServer, engine: &PostgresEngine) -> (String, i64) {
    let sql = "SELECT string_agg(relname || ':' || seq_scan, ' ' ORDER BY relname), \
                 sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables \
               WHERE schemaname = 'millpond' AND relname IN ('jobs', 'jobs.tags.set', 'streams', 'events', 'commits', 'tombstones')";
    let ask = || server.psql("grown", sql).unwrap();
    let mut last = (ask(), std::time::Instant::now());
    // A session reports what it counted with a transaction that ends a second after its last report.
    while last.1.elapsed() < Duration::from_millis(1_500) {
        engine.namespaces().await.unwrap();
        let now = ask();
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
    }
    let (scans, rows) = last.0.split_once('|').unwrap();
    (scans.to_owned(), rows.parse().unwrap())
}
