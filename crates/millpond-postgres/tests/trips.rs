//! Counted, not timed: round trips, connections, and how tables are read when they have grown.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::time::Duration;

use millpond_core::{
    Collection, Commit, Engine as _, EventFilter, EventQuery, FeedRequest, FieldKind, Namespace, NewEvent, Query, Selector,
};
use millpond_postgres::PostgresEngine;
use millpond_testservers::{PostgresServer, Proxy, wait_until};
use support::{asked, new_id, open, prepared, quiet, run, server, step, store, through};

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

/// Rows of each table; `MILLPOND_ROWS` for more.
fn rows() -> u64 {
    asked("MILLPOND_ROWS", 200_000)
}

/// Statements prepared while every table was empty do not read a table whole once it holds many rows, and neither do
/// the questions that domains ask: a page reads about as many rows as it shows. The server explains every statement
/// as it runs it (`auto_explain`), with the plan it then has, and counts besides.
#[test]
fn grown_tables_are_never_read_whole() {
    // Each session loads what explains; nothing is explained until it is asked for.
    let Some(server) = PostgresServer::start_with(&[("session_preload_libraries", "auto_explain")]).unwrap() else { return };
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
        let told = store.commit(named(new_id(&engine), "first")).await.unwrap().id;
        let info = engine.namespace(&Namespace::default()).await.unwrap().unwrap();
        fill(&server, info.position.0);
        let before = counts(&server, &engine).await;
        explain(&server).await;
        let explained = server.log().len();
        for n in 0..50_u64 {
            let key = format!("k{}", n * 1_999);
            let commit = step(new_id(&engine), &format!("stream-{n}"));
            store
                .commit(commit.put("jobs", &key, &job(n)).unwrap().delete("jobs", &format!("k{}", n * 1_999 + 1)).unwrap())
                .await
                .unwrap();
        }
        let again = store.commit(named(told, "first")).await.unwrap();
        assert!(again.replayed);
        assert!(engine.outcome(&Namespace::default(), told).await.unwrap().is_some());
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
        let events = EventQuery::new(EventFilter::stream("stream-7".parse().unwrap())).limit(50);
        assert_eq!(store.events(events).await.unwrap().items.len(), 1);
        let request = FeedRequest { selector: Selector::Events(EventFilter::all()), after: Some(info.position), limit: 50 };
        assert_eq!(engine.feed(&Namespace::default(), request).await.unwrap().changes.len(), 50);
        plans(&server.log()[explained..]);
    });
}

/// A step whose event has an id of its own.
fn named(id: millpond_core::CommitId, name: &str) -> Commit {
    let mut event = NewEvent::of("stepped", &1).unwrap();
    event.id = Some("named".to_owned());
    Commit::new().id(id).append(name, event).unwrap()
}

/// Has the server write down the plan of every statement that ends from here on, also of sessions that are open.
async fn explain(server: &PostgresServer) {
    server.psql("grown", "ALTER SYSTEM SET auto_explain.log_min_duration = 0").unwrap();
    server.psql("grown", "SELECT pg_reload_conf()").unwrap();
    wait_until("statements are explained", || server.psql("grown", "SELECT 1").is_ok() && server.log().contains("plan:"))
        .unwrap();
}

/// No plan reads a table from end to end, and the statements of a commit are among what was explained.
fn plans(log: &str) {
    let mut statement = "";
    for line in log.lines() {
        let line = line.trim();
        statement = line.strip_prefix("Query Text: ").unwrap_or(statement);
        let allowed = statement.contains("pg_stat_user_tables");
        assert!(allowed || !line.contains("Seq Scan on"), "{line}\n  in: {statement}");
    }
    for part in
        ["FOR UPDATE", "FROM streams s", "FROM tombstones t", "FROM commits c", "FROM events e", "INSERT INTO events", "jobs"]
    {
        assert!(log.lines().any(|line| line.contains("Query Text") && line.contains(part)), "{part:?} was not explained");
    }
}

/// So many jobs, events and more, written past the engine because only their number matters here.
fn fill(server: &PostgresServer, position: u64) {
    let (last, all) = (rows() - 1, rows());
    let sql = format!(
        "SET search_path = millpond;
         INSERT INTO jobs (ns, key, \"row\", revision, position, time, doc, state, at)
           SELECT 1, 'k' || n, {position} + n, 1, {position} + n, 1,
             json_build_object('state', 's' || n % 7, 'at', n, 'tags', json_build_array('t' || n % 50)), 's' || n % 7, n
           FROM generate_series(0, {last}) n;
         INSERT INTO \"jobs.tags.set\" (ns, \"row\", value) SELECT 1, {position} + n, 't' || n % 50 FROM generate_series(0, {last}) n;
         INSERT INTO streams (ns, id, name, head, oldest, sealed, position, time)
           SELECT 1, 100 + n, 'filled-' || n, 1, 1, false, {position} + {all} + n, 1 FROM generate_series(0, {last}) n;
         INSERT INTO events (ns, position, stream, sequence, type, time, data)
           SELECT 1, {position} + {all} + n, 100 + n, 1, 't', 1, '1' FROM generate_series(0, {last}) n;
         INSERT INTO commits SELECT 1, gen_random_uuid(), n, 1, '', '[]', '[]' FROM generate_series(0, {last}) n;
         INSERT INTO tombstones SELECT 1, 'old', 'k' || n, 1, 1, 1 FROM generate_series(0, {last}) n;
         UPDATE namespaces SET position = {position} + 3 * {all}, streams = {all} + 100100 WHERE id = 1"
    );
    server.psql("grown", &sql).unwrap();
}

/// Tables read from end to end so far, and rows read altogether, as the server counted.
async fn counts(server: &PostgresServer, engine: &PostgresEngine) -> (String, i64) {
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
