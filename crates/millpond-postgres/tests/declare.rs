//! Declaring while others commit, and work on a whole store in pieces.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millpond_core::{
    Collection, CollectionSpec, Commit, Engine as _, ErrorKind, Field, FieldKind, Namespace, Query, Store, Timestamp,
};
use millpond_postgres::PostgresEngine;
use millpond_testservers::{Fault, Proxy, wait_until};
use support::{is_sound, new_id, open, run, server, step, store, through};

const JOBS: Collection = Collection::new("jobs").index("state", FieldKind::Text);
const MORE: Collection =
    Collection::new("jobs").index("state", FieldKind::Text).index("at", FieldKind::Integer).index("tags", FieldKind::TextSet);

/// Callers commit to a collection, and to others before and after it, while a set, a scalar and an index over both are
/// declared for it again and again: the server never has to end one because two wait for each other.
#[test]
fn declaring_and_commits_never_wait_for_each_other() {
    let Some(server) = server() else { return };
    let url = server.create("busy").unwrap() + "?pool=8";
    run(async {
        let engine = open(&url).await;
        let opened = store(&engine).await;
        let mut spec = JOBS.spec().unwrap();
        opened.declare(&[spec.clone()]).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = Vec::new();
        for n in 0..2 {
            let other = open(&url).await;
            for m in 0..4 {
                // Namespaces of their own, too: then their commits do not take turns.
                let name: Namespace = if m < 2 { Namespace::default() } else { format!("n{n}-{m}").parse().unwrap() };
                let front = Arc::new(millpond_core::Front::new(Arc::new(other.clone())));
                if other.namespace(&name).await.unwrap().is_none() {
                    other.create_namespace(&name).await.unwrap();
                }
                let store = Store::open(front, name).await.unwrap();
                store.declare(&[JOBS.spec().unwrap()]).await.unwrap();
                let stop = Arc::clone(&stop);
                callers.push(tokio::spawn(async move {
                    let mut made = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        let job = serde_json::json!({"state": "new", "f0": made, "s0": ["a", "b"]});
                        let commit = Commit::new().put("jobs", &format!("{n}-{m}-{}", made % 20), &job).unwrap();
                        store.commit(commit.put("others", "one", &job).unwrap()).await.unwrap();
                        made += 1;
                    }
                    made
                }));
            }
        }
        for n in 0..6 {
            for (name, kind) in [(format!("s{n}"), FieldKind::TextSet), (format!("f{n}"), FieldKind::Integer)] {
                spec.fields.push(Field { path: format!("/{name}"), name, kind });
            }
            spec.indexes.push(vec!["state".to_owned(), format!("f{n}")]);
            let declared = tokio::time::timeout(Duration::from_secs(20), opened.declare(&[spec.clone()])).await;
            let log = server.log();
            let ended: Vec<&str> = log.lines().filter(|line| line.contains("deadlock") || line.contains("waits for")).collect();
            assert!(ended.is_empty(), "{ended:#?}");
            declared.unwrap().unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        stop.store(true, Ordering::Relaxed);
        let mut made = 0;
        for caller in callers {
            made += caller.await.unwrap();
        }
        assert!(made > 100, "{made}");
        is_sound(&engine).await;
    });
    assert!(!server.log().contains("deadlock detected"), "{}", server.log());
    // A session tells what it counted when it ends, if not before.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'millpond'";
    wait_until("all sessions have ended", || server.psql("busy", open).is_ok_and(|n| n == "0")).unwrap();
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'busy'";
    assert_eq!(server.psql("busy", deadlocks).unwrap(), "0");
}

fn job(n: u64) -> serde_json::Value {
    serde_json::json!({"state": format!("s{}", n % 7), "at": n, "tags": [format!("t{}", n % 5), "all"]})
}

/// So many jobs, from `k00000` on.
async fn fill(store: &Store, jobs: u64) {
    let mut n = 0;
    while n < jobs {
        let mut commit = Commit::new();
        for n in n..jobs.min(n + 500) {
            commit = commit.put("jobs", &format!("k{n:05}"), &job(n)).unwrap();
        }
        store.commit(commit).await.unwrap();
        n += 500;
    }
}

async fn jobs(engine: &PostgresEngine, spec: CollectionSpec, count: u64) -> Store {
    let store = store(engine).await;
    store.declare(&[spec]).await.unwrap();
    fill(&store, count).await;
    store
}

/// A new field of a collection with many records is filled in by several transactions. The program that does so is cut
/// off in the middle: nobody may ask for the field yet, commits go on and write it, and the next one that declares it
/// goes on where the first one stopped.
#[test]
fn a_new_field_is_filled_in_piece_by_piece() {
    let Some(server) = server() else { return };
    let url = server.create("pieces").unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    run(async {
        let engine = open(&url).await;
        let opened = jobs(&engine, JOBS.spec().unwrap(), 5_500).await;
        let slow = through(&url, &server, proxy.port()) + "?pool=2&sslmode=disable&timeout=8&work_timeout=30";
        let slow = PostgresEngine::open(&slow, millpond_postgres::PostgresOptions::default()).await.unwrap();
        let declaring = tokio::spawn(async move { slow.declare(&Namespace::default(), &[MORE.spec().unwrap()]).await });
        let filled = || server.psql("pieces", "SELECT filling::json ->> 'after' FROM millpond.collections").unwrap();
        wait_until("a few thousand are filled in", || filled().as_str() > "k01").unwrap();
        let lost: Vec<Fault> = (1..1_000).map(Fault::LoseRequest).collect();
        proxy.arm(&lost);
        let error = declaring.await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::UnknownOutcome), "{error}");
        let stopped = filled();
        assert!(stopped.as_str() > "k01" && stopped.as_str() < "k05", "{stopped}");

        // Half of it is there, and nobody is shown that.
        let other = open(&url).await;
        let half = store(&other).await;
        assert_eq!(half.catalog().get("jobs").unwrap().fields.len(), 1);
        for query in [Query::new("jobs").unwrap().eq("at", 17_i64), Query::new("jobs").unwrap().has("tags", "all")] {
            assert_eq!(half.query(query).await.unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert_eq!(half.query(Query::new("jobs").unwrap().eq("state", "s3").limit(10)).await.unwrap().items.len(), 10);
        is_sound(&other).await;

        // Records that were filled in, that were not, and new ones, by a process that knows and one that does not.
        for (at, store) in [(0_u64, &opened), (1, &half)] {
            let mut commit = Commit::new().put("jobs", &format!("new-{at}"), &job(100)).unwrap();
            for key in [10 + at, 5_300 + at] {
                commit = commit.put("jobs", &format!("k{key:05}"), &job(200 + at)).unwrap();
                commit = commit.delete("jobs", &format!("k{:05}", key + 50)).unwrap();
            }
            store.commit(commit).await.unwrap();
        }
        let written = |key: &str| server.psql("pieces", &format!("SELECT xmin FROM millpond.jobs WHERE key = '{key}'")).unwrap();
        let (first, late) = (written("k00000"), written("k05400"));

        half.declare(&[MORE.spec().unwrap()]).await.unwrap();
        assert_eq!(written("k00000"), first, "what was filled in before was filled in again");
        assert_ne!(written("k05400"), late);
        let transactions = "SELECT count(DISTINCT xmin::text) FROM millpond.jobs";
        assert!(server.psql("pieces", transactions).unwrap().parse::<u64>().unwrap() >= 6);
        assert_eq!(server.psql("pieces", "SELECT count(filling) FROM millpond.collections").unwrap(), "0");
        for store in [&opened, &half] {
            let at = |at: i64| store.query(Query::new("jobs").unwrap().eq("at", at));
            assert_eq!(at(17).await.unwrap().items.len(), 1);
            assert_eq!(at(5_444).await.unwrap().items.len(), 1);
            assert_eq!(at(100).await.unwrap().items.len(), 3, "two new ones and an old one");
            assert_eq!(at(200).await.unwrap().items.len(), 3, "two that were changed and an old one");
            assert_eq!(at(60).await.unwrap().items.len(), 0, "deleted");
            assert_eq!(store.count(Query::new("jobs").unwrap().has("tags", "all")).await.unwrap(), 5_500 + 2 - 4);
        }
        is_sound(&engine).await;
    });
}

/// A document that does not fit a new field ends its filling, and nothing of the field is left: not for commits, not
/// for questions, not in the side table. When the document is changed the field can be declared.
#[test]
fn a_document_that_does_not_fit_withdraws_the_field() {
    let Some(server) = server() else { return };
    let url = server.create("misfit").unwrap();
    run(async {
        let engine = open(&url).await;
        let store = jobs(&engine, JOBS.spec().unwrap(), 2_500).await;
        let misfit = serde_json::json!({"state": "s1", "at": "never", "tags": 7});
        store.commit(Commit::new().put("jobs", "k02400", &misfit).unwrap()).await.unwrap();
        let error = store.declare(&[MORE.spec().unwrap()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("k02400"), "{error}");
        assert_eq!(engine.catalog(&Namespace::default()).await.unwrap().get("jobs").unwrap().fields.len(), 1);
        assert_eq!(server.psql("misfit", "SELECT count(*) FROM millpond.\"jobs.tags.set\"").unwrap(), "0");
        store.commit(Commit::new().put("jobs", "k00001", &misfit).unwrap().delete("jobs", "k00002").unwrap()).await.unwrap();
        is_sound(&engine).await;
        let commit = Commit::new().put("jobs", "k00001", &job(1)).unwrap().put("jobs", "k02400", &job(2_400)).unwrap();
        store.commit(commit).await.unwrap();
        store.declare(&[MORE.spec().unwrap()]).await.unwrap();
        assert_eq!(store.count(Query::new("jobs").unwrap().has("tags", "all")).await.unwrap(), 2_499);
        is_sound(&engine).await;
    });
}

/// Two processes declare the same new field of a large collection while a third commits to it.
#[test]
fn two_fill_in_one_field_while_others_commit() {
    let Some(server) = server() else { return };
    let url = server.create("together").unwrap();
    run(async {
        let engine = open(&url).await;
        let opened = jobs(&engine, JOBS.spec().unwrap(), 4_500).await;
        let stop = Arc::new(AtomicBool::new(false));
        let busy = tokio::spawn({
            let (store, stop) = (opened.clone(), Arc::clone(&stop));
            async move {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let key = |n: u64| format!("k{:05}", n * 37 % 4_500);
                    let commit = Commit::new().put("jobs", &key(n), &job(n + 9_000)).unwrap();
                    store.commit(commit.put("jobs", &format!("x{n}"), &job(n)).unwrap()).await.unwrap();
                    n += 1;
                }
                n
            }
        });
        let mut declaring = Vec::new();
        for _ in 0..2 {
            let other = open(&url).await;
            declaring.push(tokio::spawn(async move {
                let catalog = other.declare(&Namespace::default(), &[MORE.spec().unwrap()]).await.unwrap();
                assert_eq!(catalog.get("jobs").unwrap().fields.len(), 3, "declared and not there yet");
                store(&other).await.count(Query::new("jobs").unwrap().has("tags", "all")).await.unwrap()
            }));
        }
        for declared in declaring {
            assert!(declared.await.unwrap() >= 4_500, "a question saw half of it");
        }
        stop.store(true, Ordering::Relaxed);
        let made = busy.await.unwrap();
        assert_eq!(opened.count(Query::new("jobs").unwrap().has("tags", "all")).await.unwrap(), 4_500 + made);
        is_sound(&engine).await;
    });
}

/// A purge of many receipts and tombstones is several transactions, each whole by itself. Cut off in the middle, it has
/// done a part, and says that it does not know; asked for again it does the rest. Commits go on meanwhile.
#[test]
fn a_purge_goes_in_pieces() {
    let Some(server) = server() else { return };
    let url = server.create("purged").unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    run(async {
        let engine = open(&url).await;
        let store = store(&engine).await;
        let told = store.commit(step(new_id(&engine), "a")).await.unwrap();
        let old = "INSERT INTO millpond.commits SELECT 1, ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 1, 1, '', '[]', '[]' \
                     FROM generate_series(1, 9000) n; \
                   INSERT INTO millpond.tombstones SELECT 1, 'c' || n % 3, 'k' || n, n, 1, n % 2 * 4000000000000000 FROM generate_series(1, 9000) n; \
                   UPDATE millpond.namespaces SET has_tombstones = true";
        server.psql("purged", old).unwrap();
        let left = |table: &str| {
            server.psql("purged", &format!("SELECT count(*) FROM millpond.{table}")).unwrap().parse::<u64>().unwrap()
        };
        let slow = through(&url, &server, proxy.port()) + "?pool=2&sslmode=disable&timeout=6";
        let slow = open(&slow).await;
        let before = Timestamp::from_micros(1_000_000_000_000_000);
        let purging = tokio::spawn(async move { slow.purge(&Namespace::default(), before).await });
        // A transaction after the other: some receipts are forgotten while others are not.
        let mut seen = std::collections::BTreeSet::new();
        wait_until("tombstones go", || {
            seen.insert(left("commits"));
            left("tombstones") < 9_000
        })
        .unwrap();
        let lost: Vec<Fault> = (1..1_000).map(Fault::LoseRequest).collect();
        proxy.arm(&lost);
        let error = purging.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownOutcome, "{error}");
        assert!(seen.iter().any(|n| (2..9_000).contains(n)), "all receipts went at once: {seen:?}");
        let rest = left("tombstones");
        assert!(rest > 4_500 && rest < 9_000, "{rest}");
        // What is gone has raised its floor: a key that comes again comes with a greater revision than any that went.
        let again = store.commit(Commit::new().put("c0", "k6", &1).unwrap()).await.unwrap();
        let floor = "SELECT max(revision_floor) FROM millpond.collections WHERE name = 'c0'";
        let floor: u64 = server.psql("purged", floor).unwrap().parse().unwrap();
        assert!(floor > 0 && again.revisions[0] > 6, "{floor}: {again:?}");
        assert_eq!(engine.outcome(&Namespace::default(), told.id).await.unwrap().map(|r| r.position), Some(told.position));

        let purged = engine.purge(&Namespace::default(), before).await.unwrap();
        assert_eq!(purged.receipts, 0);
        assert_eq!(left("tombstones"), 4_500);
        assert!(purged.tombstones > 0 && purged.tombstones <= rest - 4_500, "{purged:?} of {rest}");
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        is_sound(&engine).await;
    });
}

/// Work that is one transaction has more time than a call has otherwise, as long as the server answers others; a server
/// that hangs is left when the call's own time is up.
#[test]
fn long_work_has_its_time_and_silence_ends_it() {
    let Some(server) = server() else { return };
    let url = server.create("slow").unwrap() + "?pool=2&timeout=6&work_timeout=100";
    run(async {
        let engine = open(&url).await;
        let made = |name: &str| {
            let (engine, name) = (engine.clone(), name.parse::<Namespace>().unwrap());
            async move { (engine.create_namespace(&name).await.unwrap().store_id, name) }
        };
        let (slow, hung) = (made("slow").await, made("hung").await);
        server.psql("slow", "CREATE FUNCTION millpond.dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(10); RETURN OLD; END'; \
                     CREATE TRIGGER dawdle BEFORE DELETE ON millpond.namespaces FOR EACH ROW EXECUTE FUNCTION millpond.dawdle()").unwrap();
        let began = Instant::now();
        engine.delete_namespace(&slow.1, &slow.0).await.unwrap();
        assert!(began.elapsed().as_secs() >= 9, "it took no longer than a call may take");
        assert!(engine.namespace(&slow.1).await.unwrap().is_none());

        server.signal_all("STOP");
        let began = Instant::now();
        let error = engine.delete_namespace(&hung.1, &hung.0).await.unwrap_err();
        server.signal_all("CONT");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
        assert!(engine.namespace(&hung.1).await.unwrap().is_some());
    });
}

/// Ten collections at once, three of which have rows from before: those rows move, and where the tables are there
/// already the others cost nothing by themselves.
#[test]
fn many_collections_are_declared_in_a_few_round_trips() {
    let Some(server) = server() else { return };
    let url = server.create("many").unwrap();
    run(async {
        let engine = open(&url).await;
        let specs: Vec<CollectionSpec> =
            (0..10).map(|n| CollectionSpec { name: format!("c{n}").parse().unwrap(), ..JOBS.spec().unwrap() }).collect();
        store(&engine).await.declare(&specs).await.unwrap();
        let name: Namespace = "other".parse().unwrap();
        engine.create_namespace(&name).await.unwrap();
        let other = Store::open(Arc::new(millpond_core::Front::new(Arc::new(engine.clone()))), name).await.unwrap();
        for n in [2, 5, 9] {
            for key in ["a", "b"] {
                let job = serde_json::json!({"state": format!("of {n}")});
                other.commit(Commit::new().put(&format!("c{n}"), key, &job).unwrap()).await.unwrap();
            }
        }
        let before = engine.stats().round_trips;
        other.declare(&specs).await.unwrap();
        let trips = engine.stats().round_trips - before;
        assert!(trips <= 24, "{trips} round trips: eight, and three for each collection that has rows");
        for n in 0..10 {
            let found = other.count(Query::new(&format!("c{n}")).unwrap().eq("state", format!("of {n}"))).await.unwrap();
            assert_eq!(found, if [2, 5, 9].contains(&n) { 2 } else { 0 }, "c{n}");
        }
        assert_eq!(engine.check(other.namespace()).await.unwrap(), Vec::<String>::new());
    });
}
