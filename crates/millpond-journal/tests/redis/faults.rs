//! A network that loses requests and answers, a server that hangs, and hints.

use std::time::{Duration, Instant};

use bytes::Bytes;
use millpond_core::{CommitId, Engine as _, ErrorKind, Outcome, SystemHost};
use millpond_journal::{After, Append, JournalOptions, Limit};
use millpond_testservers::{Fault, Proxy};

use crate::world::{SHORT, engine, journal, numbers, on, server, step, store};

#[tokio::test(flavor = "multi_thread")]
async fn commits_happen_once_whatever_the_network_loses() {
    let Some(server) = server() else { return };
    let cache = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let store = store(&format!("redis://127.0.0.1:{}?timeout=5", proxy.port()), cache.path()).await.unwrap();
    let faults = (1..=3).flat_map(|flight| [Fault::LoseRequest(flight), Fault::LoseAnswer(flight)]);
    let mut n = 0;
    for fault in faults {
        proxy.arm(&[fault]);
        // Up to the flight that is lost, and what follows it.
        while proxy.met().is_empty() {
            let receipt = store.commit(step(n)).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
            n += 1;
            assert_eq!(receipt.sequences[0].first, n, "{fault:?}");
        }
    }
    assert_eq!(numbers(&store).await, (0..n).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_answer_was_lost_is_of_unknown_outcome_and_reads_back() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.port()).unwrap();
    let journal = journal(&format!("redis://127.0.0.1:{}?timeout=2", proxy.port()), "one").await;
    let entry = Bytes::from_static(b"an entry");
    proxy.arm(&[Fault::LoseAnswer(1)]);
    let error = journal.append(0, entry.clone()).await.unwrap_err();
    assert_eq!((proxy.met(), error.kind()), (vec![1], ErrorKind::UnknownOutcome), "{error}");
    let After::Entries(found) = journal.read(0, Limit::default()).await.unwrap() else { panic!("trimmed") };
    assert_eq!(found.iter().map(|e| (e.number, e.bytes.clone())).collect::<Vec<_>>(), [(1, entry.clone())]);
    assert_eq!(journal.append(0, entry).await.unwrap(), Append::Overtaken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_never_written() {
    let Some(server) = server() else { return };
    let journal = journal(&server.url(), "one").await;
    assert_eq!(journal.append(0, Bytes::from_static(b"1")).await.unwrap(), Append::Written);
    let error = journal.append(4, Bytes::from_static(b"5")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("lost history"), "{error}");
    let error = journal.read(4, Limit::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("lost history"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_given_up_in_time_and_what_it_did_is_found_later() {
    let Some(server) = server() else { return };
    let cache = tempfile::tempdir().unwrap();
    let options = JournalOptions { patience: Duration::from_secs(1), ..JournalOptions::default() };
    let engine = engine(&format!("{}{SHORT}", server.url()), cache.path(), options).await.unwrap();
    let store = on(engine.clone()).await.unwrap();
    let bound = store.namespace().clone().bound(store.store_id());
    let prepared = step(0).id(CommitId::generate(&SystemHost)).prepare(&SystemHost, &store.catalog()).unwrap();
    server.signal("STOP");
    let began = Instant::now();
    // Not through the store, which would send it again by itself.
    let error = engine.commit(&bound, vec![prepared.clone()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownOutcome, "{error}");
    assert!(store.get("work", "key-0").await.is_err(), "a read that cannot be fresh");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    server.signal("CONT");
    let mut outcome = engine.commit(&bound, vec![prepared.again()]).await.unwrap();
    assert!(matches!(outcome.remove(0).unwrap(), Outcome::Committed(_)));
    assert_eq!(numbers(&store).await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_told_of_the_next_entry() {
    let Some(server) = server() else { return };
    let (waits, writes) = (journal(&server.url(), "one").await, journal(&server.url(), "one").await);
    for after in 0..3 {
        let waiting = tokio::spawn({
            let waits = waits.clone();
            async move { waits.changed(after).await }
        });
        // Once as the first question, then in the middle of one.
        let blocked = || server.cli(&["INFO", "clients"]).unwrap().contains("blocked_clients:1");
        crate::world::until("it waits", async || blocked()).await;
        let began = Instant::now();
        writes.append(after, Bytes::from_static(b"entry")).await.unwrap();
        waiting.await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(1_000), "{:?}: at the end of a question", began.elapsed());
    }
}
