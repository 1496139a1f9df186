//! A primary and a synchronous standby: what was acknowledged is on both, and the same handle goes on with whichever
//! takes writes.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millpond_core::{CommitId, Durability, Engine as _, ErrorKind, Namespace};
use millpond_postgres::PostgresEngine;
use millpond_testservers::{PostgresServer, wait_until};
use support::{Bouncer, applied, is_sound, new_id, open, positions, run, server, step, store};

/// A database on a primary and its standby, and the address that names both.
fn pair(database: &str, parameters: &str) -> Option<(PostgresServer, PostgresServer, String)> {
    let primary = server()?;
    primary.create(database).unwrap();
    let standby = primary.standby().unwrap();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
    Some((primary, standby, format!("postgres://postgres@{hosts}/{database}?{parameters}")))
}

/// What a caller heard of each of its commits; `None` where it was told that nobody knows.
type Told = Vec<(CommitId, Option<bool>)>;

/// Callers that commit until they are told to stop.
fn callers(
    engine: &PostgresEngine,
    store: &millpond_core::Store,
    stop: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<(String, Told)>> {
    let caller = |n: usize| {
        let (engine, store, stop) = (engine.clone(), store.clone(), Arc::clone(stop));
        async move {
            let (name, mut told) = (format!("caller-{n}"), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let id = new_id(&engine);
                let applied = match store.commit(step(id, &name)).await {
                    Ok(_) => Some(true),
                    Err(error) if error.kind() == ErrorKind::UnknownOutcome => None,
                    Err(_) => Some(false),
                };
                told.push((id, applied));
            }
            (name, told)
        }
    };
    (0..16).map(|n| tokio::spawn(caller(n))).collect()
}

/// kill -9 of the primary under load, and its standby becomes the primary: everything acknowledged is there once,
/// what was refused is not, and the callers go on with the handle they have.
#[test]
fn a_standby_takes_over_with_everything_acknowledged() {
    let Some((mut primary, standby, url)) = pair("takeover", "pool=8&timeout=30") else { return };
    run(async {
        let engine = open(&url).await;
        assert_eq!(engine.info().durability, Durability::Replicated);
        let opened = store(&engine).await;
        let stop = Arc::new(AtomicBool::new(false));
        let callers = callers(&engine, &opened, &stop);
        while positions(&opened).await.len() < 100 {
            tokio::task::yield_now().await;
        }
        primary.kill();
        standby.promote().unwrap();
        let before = positions(&opened).await.len();
        while positions(&opened).await.len() < before + 100 {
            tokio::task::yield_now().await;
        }
        stop.store(true, Ordering::Relaxed);
        let mut acknowledged = 0;
        for caller in callers {
            let (name, told) = caller.await.unwrap();
            let mut expected = 0;
            for (id, was_applied) in told {
                let found = engine.outcome(&Namespace::default(), id).await.unwrap().is_some();
                if let Some(was_applied) = was_applied {
                    assert_eq!(found, was_applied, "{name}: {id}");
                    acknowledged += u64::from(was_applied);
                }
                expected += u64::from(found);
            }
            assert_eq!(applied(&opened, &name).await, (expected, expected), "{name}");
        }
        assert!(acknowledged > 150, "{acknowledged}");
        assert_eq!(engine.info().durability, Durability::PowerLoss, "the new primary has no standby");
        is_sound(&engine).await;
    });
}

/// The primary hangs without a word, its connections stay open, and a connection to it is still taken by the kernel:
/// the call that is under way finds the new primary, and so do the ones after it.
#[test]
fn a_primary_that_hangs_is_left() {
    let Some((primary, standby, url)) = pair("hangs", "pool=4&timeout=16") else { return };
    run(async {
        let engine = open(&url).await;
        let store = store(&engine).await;
        // Every connection of the pool is open and idle when it happens.
        while engine.stats().connections < 4 {
            let reads: Vec<_> = (0..4)
                .map(|_| {
                    tokio::spawn({
                        let store = store.clone();
                        async move { store.get("totals", "a").await }
                    })
                })
                .collect();
            for read in reads {
                read.await.unwrap().unwrap();
            }
        }
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        primary.signal_all("STOP");
        standby.promote().unwrap();
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        let began = Instant::now();
        for _ in 0..8 {
            store.commit(step(new_id(&engine), "a")).await.unwrap();
        }
        assert!(began.elapsed().as_secs() < 8, "later calls met the old primary again: {:?}", began.elapsed());
        assert_eq!(applied(&store, "a").await, (10, 10));
        is_sound(&engine).await;
    });
    drop(primary);
}

/// Who waits for the standby, and since when.
const WAITS: &str = "SELECT pid || '/' || query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

fn waiting(primary: &PostgresServer, database: &str, other_than: &str) -> String {
    let mut found = String::new();
    wait_until("a commit waits for the standby", || {
        found = primary.psql(database, WAITS).unwrap_or_default();
        !found.is_empty() && found != other_than
    })
    .unwrap();
    found
}

/// A primary that crashes while a commit waits for the standby shows that commit when it is up again. Nobody may be
/// told that it is kept: the standby, which never had it, can still become the primary.
#[test]
fn what_the_standby_has_not_is_not_acknowledged() {
    let Some((mut primary, mut standby, url)) = pair("alone", "pool=4&timeout=6") else { return };
    run(async {
        let engine = open(&url).await;
        let store = store(&engine).await;
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        standby.kill();
        let id = new_id(&engine);
        let late = {
            let store = store.clone();
            tokio::spawn(async move { store.commit(step(id, "a")).await })
        };
        waiting(&primary, "alone", "");
        primary.kill();
        primary.restart().unwrap();
        let seen = format!("SELECT count(*) FROM millpond.commits WHERE id = '{id}'");
        assert_eq!(primary.psql("alone", &seen).unwrap(), "1", "the restarted server shows it");
        let error = late.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownOutcome, "{error}");
        let error = engine.outcome(&Namespace::default(), id).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnknownOutcome | ErrorKind::Unavailable), "{error}");
        let error = store.commit(step(id, "a")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnknownOutcome | ErrorKind::Unavailable), "{error}");
        primary.kill();
        standby.restart().unwrap();
        standby.promote().unwrap();
        assert_eq!(engine.outcome(&Namespace::default(), id).await.unwrap(), None);
        store.commit(step(id, "a")).await.unwrap();
        assert_eq!(applied(&store, "a").await, (2, 2));
        is_sound(&engine).await;
    });
}

/// A server whose wait for the standby is cancelled answers COMMIT as if all were well. The commit is acknowledged
/// only when the standby has it after all.
#[test]
fn a_cancelled_wait_for_the_standby_is_no_acknowledgement() {
    let Some((primary, standby, url)) = pair("cancelled", "pool=4&timeout=30") else { return };
    cancelled(&primary, standby, &url, "cancelled");
}

/// The server says so by a warning, which this role does not want to hear.
#[test]
fn a_cancelled_wait_is_noticed_whatever_the_role_wants_to_hear() {
    let Some((primary, standby, url)) = pair("quiet", "pool=4&timeout=30") else { return };
    primary.psql("quiet", "ALTER ROLE postgres SET client_min_messages = error").unwrap();
    cancelled(&primary, standby, &url, "quiet");
}

#[test]
fn a_cancelled_wait_is_noticed_behind_a_pooler() {
    let Some((primary, standby, _)) = pair("pooled", "") else { return };
    primary.psql("pooled", "ALTER ROLE postgres SET client_min_messages = error").unwrap();
    let Some(pooler) = Bouncer::start(&primary, "pooled", "postgres") else { return };
    cancelled(&primary, standby, &(pooler.url("pooled") + "&pool=4&timeout=30"), "pooled");
}

fn cancelled(primary: &PostgresServer, mut standby: PostgresServer, url: &str, database: &str) {
    run(async {
        let engine = open(url).await;
        let store = store(&engine).await;
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        standby.kill();
        let late = {
            let (store, id) = (store.clone(), new_id(&engine));
            tokio::spawn(async move { store.commit(step(id, "a")).await })
        };
        let first = waiting(primary, database, "");
        primary.psql(database, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").unwrap();
        wait_until("the cancelled wait is over", || primary.psql(database, WAITS).is_ok_and(|now| now != first)).unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!late.is_finished(), "acknowledged without the standby");
        standby.restart().unwrap();
        late.await.unwrap().unwrap();
        assert_eq!(applied(&store, "a").await, (2, 2));
        is_sound(&engine).await;
    });
}

/// A pooler turns to the standby before the standby has become the primary: a server in recovery refuses a transaction
/// that wants to write in words of its own. The commit waits for the fail-over to be over.
#[test]
fn a_pooler_that_turns_to_a_standby_is_a_pause() {
    let Some((mut primary, standby, _)) = pair("turned", "") else { return };
    let Some(pooler) = Bouncer::start(&primary, "turned", "postgres") else { return };
    run(async {
        let engine = open(&(pooler.url("turned") + "&pool=2&timeout=40")).await;
        let store = store(&engine).await;
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        primary.kill();
        pooler.turn_to(&standby, "turned", "postgres");
        // Several at once, on connections to the pooler that are open already.
        let late: Vec<_> = (0..4)
            .map(|_| {
                let (engine, store) = (engine.clone(), store.clone());
                tokio::spawn(async move { store.commit(step(new_id(&engine), "a")).await })
            })
            .collect();
        let refused = "cannot set transaction read-write mode during recovery";
        wait_until("the standby refuses to write", || standby.log().contains(refused)).unwrap();
        standby.promote().unwrap();
        for late in late {
            late.await.unwrap().unwrap();
        }
        assert_eq!(applied(&store, "a").await, (5, 5));
        is_sound(&engine).await;
    });
}
