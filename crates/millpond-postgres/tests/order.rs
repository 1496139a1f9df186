//! Positions are dense and in commit order: nobody who reads along skips anything, whatever else goes on.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::sync::Arc;

use millpond_core::{Change, Engine as _, EventFilter, FeedRequest, Namespace, Position, Selector};
use millpond_testservers::wait_until;
use support::{Held, is_sound, new_id, open, positions, run, server, step, store};

async fn page(engine: &millpond_postgres::PostgresEngine, after: u64) -> Vec<u64> {
    let request = FeedRequest { selector: Selector::Events(EventFilter::all()), after: Some(Position(after)), limit: 1_000 };
    let page = engine.feed(&Namespace::default(), request).await.unwrap();
    let events = page.changes.iter().map(|c| if let Change::Event(e) = c { e.position.0 } else { 0 });
    events.collect()
}

/// A commit that comes late, because somebody else holds the lock, takes its positions late: a reader meanwhile sees
/// an end, and then everything.
#[test]
fn a_late_writer_makes_no_reader_skip() {
    let Some(server) = server() else { return };
    let url = server.create("late").unwrap();
    run(async {
        let (slow, fast) = (open(&url).await, open(&url).await);
        let (first, second) = (store(&slow).await, store(&fast).await);
        first.commit(step(new_id(&slow), "a")).await.unwrap();
        let seen = page(&fast, 0).await;
        let held = Held::open(&server, "late", "BEGIN; SELECT * FROM millpond.namespaces FOR UPDATE;\n");
        let late = {
            let (store, id) = (first.clone(), new_id(&slow));
            tokio::spawn(async move { store.commit(step(id, "late")).await.unwrap() })
        };
        let early = {
            let (store, id) = (second.clone(), new_id(&fast));
            tokio::spawn(async move { store.commit(step(id, "early")).await.unwrap() })
        };
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        wait_until("both wait", || server.psql("late", waiting).is_ok_and(|n| n == "2")).unwrap();
        let last = seen.last().copied().unwrap();
        assert_eq!(page(&fast, last).await, Vec::<u64>::new(), "something was shown before it was committed");
        drop(held);
        let (late, early) = (late.await.unwrap().position.0, early.await.unwrap().position.0);
        let mut both = page(&fast, last).await;
        both.sort_unstable();
        assert_eq!(both.last().copied(), Some(late.max(early)));
        assert_eq!(both.len(), 2, "{both:?}");
    });
}

/// Two engines fight for one stream while a third reads along page by page: it sees every event once, in order, each
/// position following the last.
#[test]
fn a_reader_of_two_writers_sees_all_in_order() {
    let Some(server) = server() else { return };
    let url = server.create("fight").unwrap();
    run(async {
        let reader = open(&url).await;
        let watched = store(&reader).await;
        let mut writers = Vec::new();
        for _ in 0..2 {
            let engine = open(&url).await;
            let store = Arc::new(store(&engine).await);
            for _ in 0..4 {
                let (engine, store) = (engine.clone(), Arc::clone(&store));
                writers.push(tokio::spawn(async move {
                    for _ in 0..50 {
                        let event = millpond_core::NewEvent::of("raced", &1).unwrap();
                        store.commit(millpond_core::Commit::new().append("race", event).unwrap()).await.unwrap();
                    }
                    drop(engine);
                }));
            }
        }
        let mut seen: Vec<(u64, u64)> = Vec::new();
        while seen.len() < 400 {
            let after = seen.last().map_or(0, |(position, _)| *position);
            let request = FeedRequest { selector: Selector::Events(EventFilter::all()), after: Some(Position(after)), limit: 7 };
            for change in reader.feed(&Namespace::default(), request).await.unwrap().changes {
                if let Change::Event(event) = change {
                    seen.push((event.position.0, event.sequence));
                }
            }
        }
        assert_eq!(seen, (1..=400).map(|n| (n, n)).collect::<Vec<_>>());
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(positions(&watched).await.len(), 400);
        is_sound(&reader).await;
    });
}
