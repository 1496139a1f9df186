//! One NATS server: what it is trusted with, lost answers, lost history, removed journals, settings that lose something.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use millpond_core::{Commit, CommitId, Durability, Engine, ErrorKind, Front, MergeOp, Namespace, Store, SystemHost};
use millpond_journal::{After, Append, JournalEngine, JournalOptions, Limit};
use millpond_testservers::{Fault, LATE, NatsRelease, NatsServer, NatsSync, Proxy};
use serde_json::json;
use support::nats::{api, default_stream, engine, opened, place};
use support::{digest, step, steps, store};

fn server() -> Option<NatsServer> {
    NatsServer::start(NatsRelease::Current, NatsSync::Always).unwrap()
}

/// Adds one to a number, so that a commit that is applied twice shows.
fn add() -> Commit {
    Commit::new().id(CommitId::generate(&SystemHost)).merge("totals", "n", vec![MergeOp::Add("/n".to_owned(), 1)]).unwrap()
}

async fn total(store: &Store) -> u64 {
    store.get("totals", "n").await.unwrap().map_or(0, |r| r.value.value().unwrap()["n"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_is_worth_what_the_servers_settings_say() {
    for (sync, expected) in [(NatsSync::Always, Durability::PowerLoss), (NatsSync::Default, Durability::ProcessCrash)] {
        let Some(server) = NatsServer::start(NatsRelease::Current, sync).unwrap() else { return };
        let seen = place(&format!("{}/?monitor=127.0.0.1:{}", server.url(), server.monitor())).await.unwrap().info();
        assert_eq!(seen.durability, expected, "{seen:?}");
        let unseen = place(&server.url()).await.unwrap().info();
        assert_eq!(unseen.durability, Durability::ProcessCrash, "what is not seen is not promised");
        assert!(unseen.facts.iter().any(|(name, words)| *name == "flushed" && words.contains("cannot be seen")), "{unseen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_what_it_does_not_know_is_refused() {
    let Some(server) = NatsServer::start(NatsRelease::System, NatsSync::Default).unwrap() else { return };
    match place(&server.url()).await {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().contains("2.10") && error.next().is_some(), "{error}");
        }
        // Where the system brings one that serves, it serves.
        Ok(place) => {
            let cache = tempfile::tempdir().unwrap();
            steps(&store(support::engine_on(place, cache.path()).await).await.unwrap(), 0..3).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_can_lose_something_are_refused() {
    let Some(server) = server() else { return };
    let client = async_nats::connect(server.url()).await.unwrap();
    // Made by somebody before: it acknowledges what is only in memory.
    let made = json!({"name": "early_store", "subjects": ["early.removed.*"], "storage": "memory"});
    assert!(api(&client, "STREAM.CREATE.early_store", made).await["error"].is_null());
    let error = place(&format!("{}/?prefix=early", server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("storage is \"memory\""), "{error}");
    // Changed by somebody later: it drops the oldest entries.
    let cache = tempfile::tempdir().unwrap();
    steps(&opened(&server.url(), cache.path()).await, 0..3).await;
    let stream = default_stream(&client).await;
    let mut config = api(&client, &format!("STREAM.INFO.{stream}"), json!({})).await["config"].clone();
    config["max_age"] = json!(3_600_000_000_000_u64);
    assert!(api(&client, &format!("STREAM.UPDATE.{stream}"), config).await["error"].is_null());
    let error = store(engine(&server.url(), cache.path()).await).await.unwrap_err();
    assert!(error.message().contains("max_age"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_made_only_when_asked_for_and_keeps_its_copies() {
    let Some(server) = server() else { return };
    let mut options = millpond_journal::drivers::nats::NatsOptions::parse(&server.url()).unwrap();
    options.create = false;
    let missing = millpond_journal::drivers::nats::NatsJournals::open(options.clone()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    let alone = place(&format!("{}/?replicas=3&timeout=2", server.url())).await.unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::Unsupported, "one server keeps no three copies: {alone}");
    place(&server.url()).await.unwrap();
    millpond_journal::drivers::nats::NatsJournals::open(options).await.unwrap();
    let other = place(&format!("{}/?replicas=3", server.url())).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Invalid, "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_is_next_and_equal_entries_are_not_taken_for_one() {
    let Some(server) = server() else { return };
    let (one, other) = (place(&server.url()).await.unwrap(), place(&server.url()).await.unwrap());
    let (one, other) = (one.open("a").await.unwrap(), other.open("a").await.unwrap());
    let entry = Bytes::from_static(b"the same");
    for after in 0..5 {
        assert_eq!(one.append(after, entry.clone()).await.unwrap(), Append::Written);
        assert_eq!(other.append(after, entry.clone()).await.unwrap(), Append::Overtaken, "also when it says the same");
    }
    let After::Entries(found) = other.read(2, Limit::default()).await.unwrap() else { panic!("trimmed") };
    assert_eq!(found.iter().map(|e| e.number).collect::<Vec<_>>(), [3, 4, 5]);
    assert!(found.iter().all(|e| e.bytes == entry));
    assert_eq!(one.append(9, entry).await.unwrap_err().kind(), ErrorKind::Corrupt, "a journal that ends too early");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trimmed_is_a_gap_and_nobody_appends_into_it() {
    let Some(server) = server() else { return };
    let journal = place(&server.url()).await.unwrap().open("a").await.unwrap();
    for after in 0..10 {
        journal.append(after, Bytes::from(vec![b'x'; 1_000])).await.unwrap();
    }
    let before = journal.size().await.unwrap();
    journal.trim(6).await.unwrap();
    assert!(journal.size().await.unwrap() < before / 2, "room was made");
    assert_eq!(journal.read(5, Limit::default()).await.unwrap(), After::Trimmed);
    let After::Entries(found) = journal.read(6, Limit::default()).await.unwrap() else { panic!("trimmed too far") };
    assert_eq!(found.len(), 4);
    assert_eq!(journal.append(3, Bytes::from_static(b"late")).await.unwrap(), Append::Overtaken);
    journal.trim(99).await.unwrap();
    assert_eq!(journal.read(0, Limit::default()).await.unwrap(), After::Trimmed, "a journal is never trimmed to nothing");
    assert_eq!(journal.append(10, Bytes::from_static(b"next")).await.unwrap(), Append::Written);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_next_entry() {
    let Some(server) = server() else { return };
    let (one, other) = (place(&server.url()).await.unwrap(), place(&server.url()).await.unwrap());
    let (one, other) = (one.open("a").await.unwrap(), other.open("a").await.unwrap());
    one.append(0, Bytes::from_static(b"1")).await.unwrap();
    other.changed(1).await; // Begins to listen.
    other.read(1, Limit::default()).await.unwrap(); // The server has heard so.
    assert!(other.changed(1).now_or_never().is_none(), "nothing follows yet");
    let (_, waited) =
        tokio::join!(one.append(1, Bytes::from_static(b"2")), tokio::time::timeout(Duration::from_secs(20), other.changed(1)));
    waited.expect("the server told");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_appended_to_a_journal_that_was_removed() {
    let Some(server) = server() else { return };
    let (one, other) = (place(&server.url()).await.unwrap(), place(&server.url()).await.unwrap());
    for written in [0, 3] {
        let name = format!("written-{written}");
        let journal = one.open(&name).await.unwrap();
        for after in 0..written {
            journal.append(after, Bytes::from_static(b"x")).await.unwrap();
        }
        other.remove(&name).await.unwrap();
        let late = journal.append(written, Bytes::from_static(b"late")).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::NotFound, "{late}");
        assert_eq!(journal.append(0, Bytes::from_static(b"late")).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(journal.read(written, Limit::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(other.open(&name).await.unwrap().read(0, Limit::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let client = async_nats::connect(server.url()).await.unwrap();
    assert_eq!(api(&client, "STREAM.NAMES", json!({})).await["streams"], json!(["millpond_store"]), "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_settled_by_reading_back() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.port()).unwrap();
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let through = opened(&format!("nats://127.0.0.1:{}/?timeout=30", proxy.port()), near.path()).await;
    let direct = opened(&server.url(), far.path()).await;
    let mut added = 0;
    let mut met = 0;
    for fault in [Fault::LoseAnswer(1), Fault::LoseRequest(1), Fault::LoseAnswer(2), Fault::LoseRequest(2)] {
        proxy.arm(&[fault]);
        for _ in 0..2 {
            through.commit(add()).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
            added += 1;
        }
        met += proxy.met().len();
        assert_eq!(total(&direct).await, added, "{fault:?}");
        assert_eq!(total(&through).await, added, "{fault:?}");
    }
    assert_eq!(met, 4, "every fault happened");
    assert_eq!(digest(&through).await, digest(&direct).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_is_waited_for() {
    let Some(mut server) = server() else { return };
    let cache = tempfile::tempdir().unwrap();
    let store = opened(&format!("{}/?timeout=30", server.url()), cache.path()).await;
    store.commit(add()).await.unwrap();
    server.kill();
    let (writing, reading) = (store.clone(), store.clone());
    let writing = tokio::spawn(async move { writing.commit(add()).await });
    let reading = tokio::spawn(async move { total(&reading).await });
    server.restart().unwrap();
    writing.await.unwrap().unwrap();
    assert!(reading.await.unwrap() >= 1);
    assert_eq!(total(&store).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_larger_than_a_message_goes_in_parts() {
    let Some(server) = NatsServer::start_with(NatsRelease::Current, NatsSync::Default, "max_payload: 100000").unwrap() else {
        return;
    };
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (opened(&server.url(), near.path()).await, opened(&server.url(), far.path()).await);
    let large = "ä\"\\ ".repeat(90_000);
    one.commit(Commit::new().put("work", "large", &large).unwrap()).await.unwrap();
    assert_eq!(other.get("work", "large").await.unwrap().unwrap().value.decode::<String>().unwrap(), large);
    assert_eq!(digest(&one).await, digest(&other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_data_was_put_back_is_not_followed() {
    let Some(mut server) = server() else { return };
    let (seen, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("{}/?timeout=2", server.url());
    let one = opened(&url, seen.path()).await;
    steps(&one, 0..5).await;
    let (data, copy) = (server.folder().join("data"), server.folder().join("copy"));
    server.kill();
    copy_folder(&data, &copy);
    server.restart().unwrap();
    steps(&one, 5..10).await;
    server.kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy_folder(&copy, &data);
    server.restart().unwrap();
    let error = one.commit(step(99)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("lost history"), "{error}");
    // Somebody who never saw the end goes on, past the number where the first one stands.
    steps(&opened(&url, fresh.path()).await, 20..30).await;
    let error = one.commit(step(99)).await.unwrap_err();
    assert!(error.to_string().contains("forked"), "{error}");
    one.engine().close().await.unwrap();
    let error = store(engine(&url, seen.path()).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_everything_is_not_taken_for_a_new_one() {
    let Some(mut server) = server() else { return };
    let cache = tempfile::tempdir().unwrap();
    let one = opened(&format!("{}/?timeout=2", server.url()), cache.path()).await;
    steps(&one, 0..5).await;
    server.kill();
    std::fs::remove_dir_all(server.folder().join("data")).unwrap();
    server.restart().unwrap();
    let error = one.commit(step(99)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(one.get("work", "key-1").await.unwrap_err().kind(), ErrorKind::Corrupt);
    // Nor by the next process of this machine, although the register of namespaces is gone, too.
    one.engine().close().await.unwrap();
    let error = store(engine(&server.url(), cache.path()).await).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("lost history"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_gone_is_not_taken_for_a_deleted_namespace() {
    let Some(server) = server() else { return };
    let caches = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let one = opened(&server.url(), caches[0].path()).await;
    steps(&one, 0..3).await;
    one.engine().close().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let stream = default_stream(&client).await;
    api(&client, &format!("STREAM.DELETE.{stream}"), serde_json::json!({})).await;
    for cache in caches.iter().rev() {
        let error = store(engine(&server.url(), cache.path()).await).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("lost history"), "{error}");
    }
    let names = api(&client, "STREAM.NAMES", serde_json::json!({})).await.to_string();
    assert!(!names.contains("_journal_default="), "nothing was made anew: {names}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_snapshot_comes_back_whole() {
    let Some(server) = server() else { return };
    let journal = place(&server.url()).await.unwrap().open("a").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    assert_eq!(journal.get_snapshot(&got).await.unwrap(), None);
    // More pieces than go at once, and a last one that is not full.
    let bytes: Vec<u8> = (0..3_000_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (upto, counts) in [(5, true), (9, true), (7, false)] {
        let own: Vec<u8> = bytes.iter().map(|b| b ^ upto as u8).collect();
        std::fs::write(&sent, &own).unwrap();
        journal.put_snapshot(upto, &sent).await.unwrap();
        let newest = journal.get_snapshot(&got).await.unwrap();
        assert_eq!(newest, Some(if counts { upto } else { 9 }));
        assert_eq!(std::fs::read(&got).unwrap() == own, counts, "the snapshot up to {upto}");
    }
    let client = async_nats::connect(server.url()).await.unwrap();
    let kept = api(&client, "STREAM.INFO.millpond_snapshots_a", json!({})).await["state"]["bytes"].as_u64().unwrap();
    assert!(kept < 4_000_000, "one snapshot is kept: {kept} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_stands_for_what_was_trimmed() {
    let Some(server) = server() else { return };
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let url = server.url();
    let open = |at: usize, snapshot_bytes| {
        let options = JournalOptions { cache: Some(folders[at].path().to_owned()), snapshot_bytes, ..JournalOptions::default() };
        let place = place(&url);
        async move {
            let engine: Arc<dyn Engine> = Arc::new(JournalEngine::open(place.await.unwrap(), options).await.unwrap());
            Store::open(Arc::new(Front::new(engine)), Namespace::default()).await.unwrap()
        }
    };
    let one = open(0, 500_000).await;
    let behind = open(1, u64::MAX).await;
    steps(&behind, 0..3).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let stream = default_stream(&client).await;
    let mut n = 3;
    while api(&client, &format!("STREAM.INFO.{stream}"), json!({})).await["state"]["first_seq"].as_u64().unwrap() < 100 {
        steps(&one, n..n + 50).await;
        n += 50;
        assert!(n < 6_000, "nothing was trimmed");
    }
    let fresh = open(2, u64::MAX).await;
    assert_eq!(digest(&fresh).await, digest(&one).await);
    assert_eq!(digest(&behind).await, digest(&one).await, "one that was far behind");
    steps(&behind, 0..3).await;
    steps(&fresh, 3..6).await;
    assert_eq!(digest(&fresh).await, digest(&one).await);
    fresh.engine().close().await.unwrap();
    // A piece that is not what was sent.
    let subjects = format!("millpond.snapshot.{}", stream.split_once("_journal_").unwrap().1);
    let snapshots = stream.replace("_journal_", "_snapshots_");
    let filter = json!({"subjects_filter": format!("{subjects}.*.0")});
    let info = api(&client, &format!("STREAM.INFO.{snapshots}"), filter).await;
    let pieces: Vec<String> = info["state"]["subjects"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(pieces.len(), 1, "older snapshots are gone: {pieces:?}");
    api_publish(&client, &pieces[0], "damaged").await;
    let cache = tempfile::tempdir().unwrap();
    let error = store(engine(&url, cache.path()).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("snapshot"), "{error}");
}

async fn api_publish(client: &async_nats::Client, subject: &str, text: &'static str) {
    let stored = client.request(subject.to_owned(), Bytes::from_static(text.as_bytes())).await.unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&stored.payload).unwrap();
    assert!(stored["error"].is_null(), "{stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_and_the_password_are_told_to_the_server_and_to_nobody_else() {
    let more = "authorization { users: [{user: ann, password: \"s3cret@\"}] }";
    let Some(server) = NatsServer::start_with(NatsRelease::Current, NatsSync::Default, more).unwrap() else { return };
    let address = format!("127.0.0.1:{}", server.port());
    let good = place(&format!("nats://ann:s3cret%40@{address}")).await.unwrap();
    assert!(!format!("{good:?} {:?}", good.info()).contains("s3cret"));
    for bad in [format!("nats://ann:s3cret@{address}"), format!("nats://{address}"), format!("nats://s3cret@{address}")] {
        let error = place(&bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{bad}: {error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
    let Some(server) = NatsServer::start_with(NatsRelease::Current, NatsSync::Default, "authorization { token: t0ken }").unwrap()
    else {
        return;
    };
    place(&format!("nats://t0ken@127.0.0.1:{}", server.port())).await.unwrap();
    assert!(place(&server.url()).await.is_err());
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// What a process gave up may arrive all the same, its announcement too: the snapshot that counts keeps its pieces.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_survives_a_request_that_arrives_late() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.port()).unwrap();
    let through = place(&format!("nats://127.0.0.1:{}/?timeout=30", proxy.port())).await.unwrap().open("a").await.unwrap();
    let direct = place(&server.url()).await.unwrap().open("a").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    let mut met = 0;
    for flight in 1..=6 {
        std::fs::write(&sent, format!("up to {flight}")).unwrap();
        proxy.arm(&[Fault::LateRequest(flight)]);
        let put = through.put_snapshot(flight, &sent).await;
        met += proxy.met().len();
        tokio::time::sleep(LATE * 2).await;
        let newest = direct.get_snapshot(&got).await.unwrap_or_else(|e| panic!("request {flight} came late ({put:?}): {e}"));
        if put.is_ok() {
            assert_eq!((newest, std::fs::read_to_string(&got).unwrap()), (Some(flight), format!("up to {flight}")));
        }
    }
    assert!(met > 3, "{met} requests came late");
}
