//! What happens when a connection, a server or a caller goes away in the middle of a commit.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use millpond_core::{CommitId, Engine as _, ErrorKind, Namespace, Outcome};
use millpond_testservers::{Fault, Proxy, wait_until};
use support::{applied, fresh_step, is_sound, new_id, open, positions, prepared, quiet, run, server, step, store, through};

/// Every flight of a commit is lost once, before the server sees it and after: the commit is applied once all the same,
/// and its caller hears so.
#[test]
fn a_connection_lost_at_any_statement_changes_nothing() {
    let Some(server) = server() else { return };
    let url = server.create("lost").unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    run(async {
        let engine = open(&(through(&url, &server, proxy.port()) + "?pool=2&sslmode=disable&timeout=20")).await;
        let store = store(&engine).await;
        store.commit(step(new_id(&engine), "warm")).await.unwrap();
        store.commit(step(new_id(&engine), "warm")).await.unwrap();
        let faults = [Fault::LoseRequest(1), Fault::LoseAnswer(1), Fault::LoseRequest(2), Fault::LoseAnswer(2)];
        for (n, fault) in faults.into_iter().enumerate() {
            let name = format!("fault-{n}");
            let commit = prepared(&store, fresh_step(&name));
            quiet(&proxy);
            proxy.arm(&[fault]);
            let outcomes = engine.commit(&Namespace::default(), vec![commit]).await.unwrap();
            let Ok(Outcome::Committed(receipt)) = &outcomes[0] else { panic!("{fault:?}: {outcomes:?}") };
            assert_eq!(proxy.met().len(), 1, "{fault:?} did not happen");
            assert_eq!(applied(&store, &name).await, (1, 1), "{fault:?}");
            let stored = engine.outcome(&Namespace::default(), receipt.id).await.unwrap().unwrap();
            assert_eq!((stored.position, stored.time), (receipt.position, receipt.time), "{fault:?}");
        }
        is_sound(&engine).await;
    });
}

/// An answer to COMMIT is lost and the server stays away: only then is the outcome unknown, and it is settled by id.
#[test]
fn an_outcome_is_unknown_only_while_nobody_can_be_asked() {
    let Some(mut server) = server() else { return };
    let url = server.create("unknown").unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    run(async {
        let engine = open(&(through(&url, &server, proxy.port()) + "?pool=2&sslmode=disable&timeout=3")).await;
        let store = store(&engine).await;
        store.commit(step(new_id(&engine), "warm")).await.unwrap();
        let id = new_id(&engine);
        let commit = prepared(&store, step(id, "lost"));
        let again = commit.again();
        quiet(&proxy);
        // The answer is lost, and no later flight reaches the server.
        let mut faults = vec![Fault::LoseAnswer(2)];
        faults.extend((3..10_000).map(Fault::LoseRequest));
        proxy.arm(&faults);
        let error = engine.commit(&Namespace::default(), vec![commit]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownOutcome, "{error}");
        proxy.arm(&[]);
        server.restart().unwrap();
        let outcomes = engine.commit(&Namespace::default(), vec![again]).await.unwrap();
        let Ok(Outcome::Committed(receipt)) = &outcomes[0] else { panic!("{outcomes:?}") };
        assert!(receipt.replayed, "it had been applied");
        assert_eq!(applied(&store, "lost").await, (1, 1));
    });
}

/// A statement that fails before COMMIT: COMMIT then succeeds as a rollback, which must not be taken for success.
#[test]
fn a_failed_statement_before_commit_is_a_failure() {
    let Some(server) = server() else { return };
    let url = server.create("poison").unwrap() + "?pool=1&timeout=5";
    run(async {
        let engine = open(&url).await;
        let store = store(&engine).await;
        store.commit(step(new_id(&engine), "sound")).await.unwrap();
        server.psql("poison", "ALTER TABLE millpond.events ADD CONSTRAINT poison CHECK (data::text <> '\"poison\"')").unwrap();
        let event = millpond_core::NewEvent::of("stepped", "poison").unwrap();
        let commit = step(new_id(&engine), "sound").append("sound", event).unwrap();
        let id = commit.id.unwrap();
        let error = store.commit(commit).await.unwrap_err();
        assert_ne!(error.kind(), ErrorKind::UnknownOutcome, "{error}");
        assert_eq!(store.outcome(id).await.unwrap(), None);
        assert_eq!(applied(&store, "sound").await, (1, 1));
        store.commit(step(new_id(&engine), "sound")).await.unwrap();
        assert_eq!(applied(&store, "sound").await, (2, 2));
        assert_eq!(engine.stats().connections, 1, "the connection was as good as before");
        is_sound(&engine).await;
    });
}

/// A request that never reached the server is not applied, and the answer says so, not "unknown".
#[test]
fn a_server_that_is_away_is_unavailable() {
    let Some(mut server) = server() else { return };
    let url = server.create("away").unwrap() + "?pool=2&timeout=2";
    run(async {
        let engine = open(&url).await;
        let store = store(&engine).await;
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        server.kill();
        let error = store.commit(step(new_id(&engine), "a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        server.restart().unwrap();
        store.commit(step(new_id(&engine), "a")).await.unwrap();
        assert_eq!(applied(&store, "a").await, (2, 2));
    });
}

/// Callers that go away at any moment leave no transaction open, and no commit half made.
#[test]
fn a_dropped_future_leaves_nothing_half_done() {
    let Some(server) = server() else { return };
    let url = server.create("dropped").unwrap();
    run(async {
        let engine = open(&(url + "?pool=2")).await;
        let store = store(&engine).await;
        store.commit(step(new_id(&engine), "warm")).await.unwrap();
        let (mut ids, mut finished) = (Vec::new(), 0);
        // Dropped after its first poll, after its second, and so on, until it is done before it can be dropped.
        for polls in 0..2_000 {
            let id = new_id(&engine);
            let commit = prepared(&store, step(id, "dropped"));
            let namespace = Namespace::default();
            let mut work = engine.commit(&namespace, vec![commit]);
            let mut left = polls;
            let done = std::future::poll_fn(|context| {
                if left == 0 {
                    return Poll::Ready(false);
                }
                left -= 1;
                work.as_mut().poll(context).map(|outcomes| outcomes.is_ok())
            });
            finished += u64::from(done.await);
            drop(work);
            ids.push(id);
            if finished == 10 {
                break;
            }
        }
        assert_eq!(finished, 10, "the last ones were not dropped");
        // Behind the lock nothing is under way any more, so each id has its answer.
        let mut found = 0;
        for id in &ids {
            found += u64::from(engine.outcome(&Namespace::default(), *id).await.unwrap().is_some());
        }
        assert_eq!(applied(&store, "dropped").await, (found, found));
        assert!(found >= finished && found < ids.len() as u64, "{found} of {} were applied", ids.len());
        is_sound(&engine).await;
    });
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    wait_until("no transaction is open", || server.psql("dropped", open).is_ok_and(|n| n == "0")).unwrap();
}

/// kill -9 of the server, again and again, while sixteen callers commit: what was acknowledged is there once, what was
/// refused is not there, what is unknown is settled by its id.
#[test]
fn a_killed_server_loses_nothing_acknowledged() {
    let Some(mut server) = server() else { return };
    let url = server.create("killed").unwrap() + "?pool=8&timeout=30";
    run(async {
        let engine = open(&url).await;
        let opened = store(&engine).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = Vec::new();
        for n in 0..16 {
            let (engine, store, stop) = (engine.clone(), opened.clone(), Arc::clone(&stop));
            callers.push(tokio::spawn(async move {
                let name = format!("caller-{n}");
                let mut told: Vec<(CommitId, Option<bool>)> = Vec::new();
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
            }));
        }
        for _ in 0..3 {
            let before = positions(&opened).await.len();
            // Killed under load: at least some commits have been made since the last time.
            while positions(&opened).await.len() < before + 50 {
                tokio::task::yield_now().await;
            }
            server.kill();
            server.restart().unwrap();
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
        is_sound(&engine).await;
    });
}

/// An administrator restarts the server while three hundred callers wait: each is answered, and applied once.
#[test]
fn a_restart_is_only_a_pause_for_those_who_wait() {
    let Some(mut server) = server() else { return };
    let url = server.create("restarted").unwrap() + "?pool=8&timeout=40";
    run(async {
        let engine = open(&url).await;
        let opened = store(&engine).await;
        opened.commit(step(new_id(&engine), "a")).await.unwrap();
        // They wait behind somebody who holds the lock, and whom the restart ends.
        let hold = "BEGIN; SELECT 1 FROM millpond.namespaces FOR UPDATE; SELECT pg_sleep(60)";
        let url = server.url("restarted");
        let mut holder = std::process::Command::new("psql")
            .args([&url, "-c", hold])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        wait_until("the lock is held", || server.psql("restarted", asleep).is_ok_and(|n| n == "1")).unwrap();
        let mut callers = Vec::new();
        for _ in 0..300 {
            let (store, id) = (opened.clone(), new_id(&engine));
            callers.push(tokio::spawn(async move { store.commit(step(id, "a")).await }));
        }
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        wait_until("a batch waits", || server.psql("restarted", waits).is_ok_and(|n| n != "0")).unwrap();
        server.stop().unwrap();
        server.restart().unwrap();
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        assert_eq!(applied(&opened, "a").await, (301, 301));
        is_sound(&engine).await;
        let _ = holder.wait();
    });
}

/// Nobody drives a connection that nobody uses: whoever takes it notices that it has ended, and takes another.
#[test]
fn idle_connections_that_ended_are_not_given_out() {
    let Some(server) = server() else { return };
    let url = server.create("idle").unwrap();
    run(async {
        let engine = open(&(url + "?pool=4&retries=0")).await;
        let store = store(&engine).await;
        store.commit(step(new_id(&engine), "warm")).await.unwrap();
        let opened = engine.stats().connections;
        let end =
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'idle' AND pid <> pg_backend_pid()";
        server.psql("idle", end).unwrap();
        let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'idle' AND pid <> pg_backend_pid()";
        wait_until("the sessions have ended", || server.psql("idle", left).is_ok_and(|n| n.trim() == "0")).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        // Without a second attempt.
        store.commit(step(new_id(&engine), "after")).await.unwrap();
        assert!(engine.stats().connections > opened);
    });
}
