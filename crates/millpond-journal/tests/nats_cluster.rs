//! Three NATS servers that keep three copies: reads through the leader, and a leader that is killed under load.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millpond_core::{Commit, Durability, EventFilter, EventQuery, NewEvent, Store, StreamName};
use millpond_testservers::{NatsCluster, NatsSync};
use serde_json::json;
use support::nats::{api, default_stream, opened, place};
use support::{digest, step, steps};

/// Writers that commit at once.
const CALLERS: usize = 8;
/// Commits that are acknowledged before the leader is killed, and after.
const EACH: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_takes_nothing_with_it() {
    let Some(mut cluster) = NatsCluster::start(NatsSync::Always).unwrap() else { return };
    let url = format!("{}/?replicas=3&timeout=60", cluster.address());
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = opened(&url, near.path()).await;
    let (acknowledged, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (store, acknowledged, stop) = (store.clone(), Arc::clone(&acknowledged), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut told = Vec::new();
                for n in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let id = format!("{caller}/{n}");
                    let receipt = store.commit(named(&id)).await.unwrap_or_else(|e| panic!("{id}: {e}"));
                    told.push((id, receipt.sequences[0].first));
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                told
            })
        })
        .collect();
    for round in 0..2 {
        wait_for(&acknowledged, EACH).await;
        let leader = leader(&mut cluster).await;
        cluster.nodes()[leader].kill();
        acknowledged.store(0, Ordering::SeqCst);
        wait_for(&acknowledged, EACH).await;
        println!("round {round}: n{leader} led and was killed");
        cluster.nodes()[leader].restart().unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let mut told = Vec::new();
    for caller in callers {
        told.extend(caller.await.unwrap());
    }
    let fresh = opened(&url, far.path()).await;
    for store in [&store, &fresh] {
        let found = events(store).await;
        assert_eq!(found.len(), told.len(), "every commit was acknowledged, and is there once");
        for (id, sequence) in &told {
            assert_eq!(found.get(id), Some(sequence), "{id} was acknowledged");
        }
    }
    assert_eq!(digest(&fresh).await, digest(&store).await);
}

fn named(id: &str) -> Commit {
    let mut event = NewEvent::of("step", &json!({"text": "x".repeat(150)})).unwrap();
    event.id = Some(id.to_owned());
    Commit::new().put("work", id, &id).unwrap().append("shared", event).unwrap()
}

async fn wait_for(counter: &AtomicUsize, least: usize) {
    let began = Instant::now();
    while counter.load(Ordering::SeqCst) < least {
        assert!(began.elapsed() < Duration::from_secs(90), "{} of {least} commits", counter.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Which node leads the default journal.
async fn leader(cluster: &mut NatsCluster) -> usize {
    let client = async_nats::connect(cluster.nodes().iter().map(|n| n.url()).collect::<Vec<_>>()).await.unwrap();
    let stream = default_stream(&client).await;
    // Between two leaders there is none, and what answers then names none.
    for _ in 0..60 {
        let info = api(&client, &format!("STREAM.INFO.{stream}"), json!({})).await;
        if let Some(name) = info["cluster"]["leader"].as_str().filter(|name| !name.is_empty()) {
            assert_eq!(info["config"]["num_replicas"], 3);
            return name.trim_start_matches('n').parse().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{stream} has no leader");
}

/// Ids and sequences of all events, which are dense.
async fn events(store: &Store) -> HashMap<String, u64> {
    let (mut found, mut next, mut after) = (HashMap::new(), 1, None);
    loop {
        let query = EventQuery::new(EventFilter::stream(StreamName::new("shared").unwrap())).limit(1_000).after(after);
        let page = store.events(query).await.unwrap().items;
        let Some(last) = page.last() else { return found };
        after = Some(last.position);
        for event in page {
            assert_eq!(event.sequence, next, "sequences are dense");
            next += 1;
            assert!(found.insert(event.id.unwrap(), event.sequence).is_none(), "twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_at_any_server_sees_what_a_writer_at_another_was_told() {
    let Some(mut cluster) = NatsCluster::start(NatsSync::Default).unwrap() else { return };
    let place_of = |at: usize, cluster: &mut NatsCluster| format!("{}/?replicas=3&timeout=30", cluster.nodes()[at].url());
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut stores = Vec::new();
    for (at, folder) in folders.iter().enumerate() {
        stores.push(opened(&place_of(at, &mut cluster), folder.path()).await);
    }
    for n in 0..60 {
        stores[0].commit(step(n)).await.unwrap();
        for reader in &stores[1..] {
            let seen = reader.get("work", &format!("key-{}", n % 7)).await.unwrap().unwrap();
            assert_eq!(seen.value.decode::<u64>().unwrap(), n, "a copy that is behind answered");
        }
    }
    let large = "x".repeat(900_000);
    stores[1].commit(Commit::new().put("work", "large", &large).unwrap()).await.unwrap();
    steps(&stores[2], 60..65).await;
    assert_eq!(digest(&stores[0]).await, digest(&stores[1]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_count_only_when_every_server_is_seen_to_flush() {
    let Some(mut cluster) = NatsCluster::start(NatsSync::Always).unwrap() else { return };
    let monitors: Vec<_> = cluster.nodes().iter().map(|n| format!("127.0.0.1:{}", n.monitor())).collect();
    let class = |monitors: &[String]| {
        let url = format!("{}/?replicas=3&timeout=30&monitor={}", cluster.address(), monitors.join(","));
        async move { place(&url).await.unwrap().info().durability }
    };
    assert_eq!(class(&monitors).await, Durability::Replicated);
    assert_eq!(class(&monitors[..2]).await, Durability::ProcessCrash);
    let five = place(&format!("{}/?prefix=five&replicas=5&timeout=2", cluster.address())).await.unwrap_err();
    assert_ne!(five.kind(), millpond_core::ErrorKind::Invalid, "three servers keep no five copies: {five}");
}
