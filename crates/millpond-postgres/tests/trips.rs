//! Counted, not timed: round trips, connections, and how tables are read when they have grown.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::time::Duration;

use millpond_core::{
    Collection, Commit, Engine as _, EventFilter, EventQuery, FeedRequest, FieldKind, Namespace, NewEvent, Query, Selector,
};
use millpond_postgres::PostgresEngine;
use millpond_testservers::{PostgresServer, Proxy, wait_until};
use support::{asked, fresh_step, new_id, open, prepared, quiet, run, server, step, store, through};

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
        fill(&server, info.position.0, rows());
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

/// The statements that are prepared once settle on a plan without values, and keep it when tables have grown. Made on
/// empty tables, and on small ones that were analysed, none of these plans reads a table or a namespace whole.
///
/// Two things see to that, and each is tried by itself. Reads are written so (`CROSS JOIN LATERAL … OFFSET 0`): asked
/// with `= ANY`, the plan made on a small table reads every row of the namespace, `enable_seqscan=off` or not. And
/// `enable_seqscan=off`: without it any plan made on a small analysed table is a sequential scan, however it is written.
#[test]
fn generic_plans_of_empty_and_small_tables_use_indexes() {
    let log_all = [("log_statement", "all"), ("log_min_duration_statement", "-1")];
    let Some(server) = PostgresServer::start_with(&log_all).unwrap() else { return };
    let url = server.create("grown").unwrap() + "?pool=1";
    run(async {
        let engine = open(&url).await;
        let store = store(&engine).await;
        store.declare(&[JOBS.spec().unwrap()]).await.unwrap();
        let job = serde_json::json!({"state": "new", "at": 1, "tags": ["a", "b"]});
        let began = server.log().len();
        for _ in 0..2 {
            // Both kinds of tables: written, changed, deleted, made again; a receipt and an event known again.
            let told = store.commit(named(new_id(&engine), "first").put("jobs", "j", &job).unwrap()).await.unwrap().id;
            store.commit(step(new_id(&engine), "first").put("jobs", "j", &job).unwrap()).await.unwrap();
            engine.outcome(&Namespace::default(), told).await.unwrap();
            store.get("jobs", "j").await.unwrap();
            store.get("totals", "first").await.unwrap();
            store.stream("first").await.unwrap();
            let gone = Commit::new().delete("jobs", "j").unwrap().delete("totals", "first").unwrap();
            store.commit(gone.trim("first", 2).unwrap()).await.unwrap();
        }
        // A step of one record and one event that are not new: what the server was asked for it, in its own log.
        let began_step = server.log().len();
        store.commit(fresh_step("first")).await.unwrap();
        store.commit(fresh_step("first")).await.unwrap();
        let log = server.log()[began_step..].to_owned();
        let begins: Vec<usize> = log.match_indices("statement: BEGIN").map(|(at, _)| at).collect();
        let is_asked = |line: &&str| line.contains("statement: ") || line.contains("execute ");
        let asked: Vec<&str> = log[begins[begins.len() - 1]..].lines().filter(is_asked).collect();
        let asked: Vec<&&str> = asked.iter().filter(|line| !line.contains("pg_notify")).collect();
        assert_eq!(asked.len(), 5, "BEGIN, lock, read, write, COMMIT: {asked:#?}");
        let statements = prepared_statements(&server.log()[began..]);
        for part in [
            "FOR UPDATE",
            "FROM streams s",
            "FROM tombstones t",
            "FROM commits c",
            "FROM events e",
            "FROM \"jobs\" t",
            "FROM records t",
            "INSERT INTO \"jobs\"",
            "DELETE FROM \"jobs\"",
            "DELETE FROM \"jobs.tags.set\"",
            "DELETE FROM records",
            "DELETE FROM tombstones",
            "WITH gone AS",
            "UPDATE namespaces SET position",
        ] {
            assert!(statements.iter().any(|s| s.contains(part)), "{part:?} was not among {statements:#?}");
        }
        // As on the day the store was made: no row, no statistics.
        let tables =
            "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables WHERE schemaname = 'millpond'";
        let tables = server.psql("grown", tables).unwrap();
        server.psql("grown", &format!("TRUNCATE {tables}")).unwrap();
        let any = "SELECT t.key, t.revision FROM millpond.jobs t WHERE t.ns = $1 AND t.key = ANY ($2::text[])";
        // Without the setting: what reads find, they find by how they are written. (What is deleted is found so, too, and
        // then taken by its place, which no DELETE can be written to do without the setting.)
        let written = whole(&server, "on", &statements);
        let written: Vec<_> = written.iter().filter(|(scan, text)| !(scan.contains("Seq Scan") && by_place(text))).collect();
        assert!(written.is_empty(), "on empty tables: {written:#?}");
        fill(&server, 0, 12);
        let records =
            "INSERT INTO millpond.records SELECT 1, 'c', 'k' || n, n, 1, n, 1, NULL, '1' FROM generate_series(1, 12) n; ANALYZE";
        server.psql("grown", records).unwrap();
        let small = whole(&server, "off", &statements);
        assert!(small.is_empty(), "on small tables: {small:#?}");
        println!("{} statements with generic plans, none reads a table or a namespace whole", statements.len());
        // The test knows what it looks for.
        assert!(!whole(&server, "off", &[any.to_owned()]).is_empty(), "= ANY");
        assert!(whole(&server, "on", &statements).len() > 10, "enable_seqscan=on");
    });
}

/// Plans that read a table or a namespace from end to end, and the statements they are of.
fn whole(server: &PostgresServer, seqscan: &str, statements: &[String]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for statement in statements {
        let plan = generic_plan(server, seqscan, statement);
        let reads_all = |line: &&str| line.contains("Seq Scan on") || line.ends_with("Index Cond: (ns = $1)");
        found.extend(plan.lines().filter(reads_all).map(|line| (line.trim().to_owned(), statement.clone())));
    }
    found
}

fn by_place(statement: &str) -> bool {
    statement.starts_with("DELETE FROM") && statement.contains("WHERE ctid = ANY (ARRAY(")
}

/// The statements that were sent under a name, each once: those have plans that stay.
fn prepared_statements(log: &str) -> Vec<String> {
    let mut found = std::collections::BTreeSet::new();
    for line in log.lines() {
        if let Some((_, named)) = line.split_once("execute s")
            && let Some((_, text)) = named.split_once(": ")
            && ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].iter().any(|verb| text.starts_with(verb))
        {
            found.insert(text.to_owned());
        }
    }
    found.into_iter().collect()
}

/// The plan a session settles on that knows no values, with `enable_seqscan` as given.
fn generic_plan(server: &PostgresServer, seqscan: &str, statement: &str) -> String {
    let places = (1..100).take_while(|n| statement.contains(&format!("${n}"))).count();
    let values = vec!["NULL"; places].join(", ");
    server
        .psql(
            "grown",
            &format!(
                "SET search_path = millpond; SET enable_seqscan = {seqscan}; SET jit = off; SET plan_cache_mode = force_generic_plan; \
                 PREPARE asked AS {statement}; EXPLAIN EXECUTE asked({values})"
            ),
        )
        .unwrap()
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
fn fill(server: &PostgresServer, position: u64, all: u64) {
    let last = all - 1;
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
