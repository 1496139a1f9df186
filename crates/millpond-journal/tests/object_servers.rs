//! What servers do to a journal in objects: those that cannot keep one are refused, and what goes wrong on the way to
//! one that can loses and doubles nothing.
#![cfg(feature = "object")]
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millpond_core::{Durability, ErrorKind, Finding, Host as _, Probing, Store, SystemHost};
use millpond_journal::drivers::object::{ObjectJournals, ObjectOptions};
use millpond_journal::{After, Append, Journals as _, Limit};
use support::fake_s3::{FakeS3, Manners, Mishap};
use support::{digest, engine_on, step, steps, store};

fn options() -> ObjectOptions {
    ObjectOptions { grace: Duration::from_millis(200), poll: Duration::from_millis(10), ..ObjectOptions::default() }
}

async fn opened(server: &FakeS3, cache: &Path) -> Store {
    let place = ObjectJournals::open(server.place(), options()).await.unwrap();
    store(engine_on(Arc::new(place), cache).await).await.unwrap()
}

async fn refusal(manners: Manners) -> String {
    let error = ObjectJournals::open(FakeS3::start(manners).place(), options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.next().is_some_and(|next| next.contains("conditional writes")), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_the_condition_is_refused_and_told_why() {
    let error = refusal(Manners::Ignores).await;
    assert!(error.contains("ignores If-None-Match"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_looks_and_then_writes_is_refused_by_the_race() {
    let error = refusal(Manners::LooksThenWrites).await;
    assert!(error.contains("of 16 writers that created one object at once"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_obeys_is_taken_and_probed_only_once() {
    let server = FakeS3::start(Manners::Obeys);
    ObjectJournals::open(server.place(), options()).await.unwrap();
    let (puts, _) = server.requests();
    ObjectJournals::open(server.place(), options()).await.unwrap();
    assert_eq!(server.requests().0, puts, "the second open writes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_not_to_be_made_is_not_written() {
    let server = FakeS3::start(Manners::Obeys);
    let error = ObjectJournals::open(server.place(), ObjectOptions { create: false, ..options() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(server.requests().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_with_a_creation_loses_and_doubles_nothing() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = FakeS3::start(Manners::Obeys);
    let writer = opened(&server, one.path()).await;
    steps(&writer, 0..2).await;
    let mishaps = [
        vec![Mishap::AnswerLost],
        vec![Mishap::RequestLost],
        vec![Mishap::Met],
        vec![Mishap::Met, Mishap::AnswerLost],
        vec![Mishap::RequestLost, Mishap::Met, Mishap::RequestLost, Mishap::AnswerLost],
    ];
    for (n, mishaps) in mishaps.into_iter().enumerate() {
        let before = events(&writer).await;
        server.fail(mishaps.clone());
        writer.commit(step(2 + n as u64)).await.unwrap();
        assert_eq!(server.mishaps_left(), 0, "{mishaps:?} happened");
        assert_eq!(events(&writer).await, before + 1, "{mishaps:?}");
    }
    let reader = opened(&server, two.path()).await;
    assert_eq!(digest(&reader).await, digest(&writer).await);
}

async fn events(store: &Store) -> u64 {
    store.stream("log").await.unwrap().map_or(0, |stream| stream.head)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_slept_across_a_trim_cannot_create_a_forgotten_entry() {
    let place = ObjectJournals::open(FakeS3::start(Manners::Obeys).place(), options()).await.unwrap();
    let journal = place.open("one").await.unwrap();
    for n in 0..8_u64 {
        assert_eq!(journal.append(n, Bytes::from(format!("entry {n}"))).await.unwrap(), Append::Written);
    }
    journal.trim(5).await.unwrap();
    // The number is free again, so the server creates it. Whoever wrote it has to hear that it does not count.
    let ghost = journal.append(2, Bytes::from_static(b"ghost")).await.unwrap();
    assert_eq!(ghost, Append::Overtaken, "entry 3 was trimmed away");
    assert_eq!(journal.read(2, Limit::default()).await.unwrap(), After::Trimmed, "nobody reads it");
    assert_eq!(journal.append(8, Bytes::from_static(b"entry 8")).await.unwrap(), Append::Written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_journal_takes_nothing_more() {
    let place = ObjectJournals::open(FakeS3::start(Manners::Obeys).place(), options()).await.unwrap();
    let journal = place.open("one").await.unwrap();
    journal.append(0, Bytes::from_static(b"first")).await.unwrap();
    place.remove("one").await.unwrap();
    let error = journal.append(1, Bytes::from_static(b"second")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = journal.read(0, Limit::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_share_a_few_entries() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeS3::start(Manners::Obeys);
    let store = opened(&server, cache.path()).await;
    steps(&store, 0..1).await;
    let (puts, _) = server.requests();
    let callers: Vec<_> = (0..1_000).map(|n| (store.clone(), n)).collect();
    let callers: Vec<_> =
        callers.into_iter().map(|(store, n)| tokio::spawn(async move { store.commit(step(n)).await })).collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let puts = server.requests().0 - puts;
    println!("1,000 concurrent commits: {puts} puts");
    assert!(puts < 5, "{puts} puts for 1,000 concurrent commits");
}

/// The check of a server's conditional writes, and how far its clock is from this machine's.
async fn examined(manners: Manners) -> (Finding, Option<Duration>, Durability) {
    let place = ObjectJournals::open(FakeS3::start(manners).place(), ObjectOptions { probe: false, ..options() }).await.unwrap();
    let found = place.examine(Probing::Writing).await.unwrap();
    let check = found.checks.iter().find(|check| check.name == "conditional_writes").unwrap();
    (check.finding, found.clock.map(|clock| clock.apart(SystemHost.now())), found.durability)
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_what_a_server_does_to_conditions_and_what_its_clock_shows() {
    let (finding, apart, durability) = examined(Manners::Obeys).await;
    assert_eq!((finding, durability), (Finding::Ok, Durability::ProcessCrash), "its address is no cloud's own");
    // Its clock always shows the first of January.
    assert!(apart.is_some_and(|apart| apart > Duration::from_secs(3_600)), "{apart:?}");
    for broken in [Manners::Ignores, Manners::LooksThenWrites] {
        let (finding, _, durability) = examined(broken).await;
        assert_eq!((finding, durability), (Finding::Problem, Durability::Memory), "{broken:?}");
    }
}
