//! A master that another server takes the place of, at the same address.

use std::time::{Duration, Instant};

use millpond_core::{ErrorKind, Store};
use millpond_testservers::{RedisFsync, RedisServer};

use crate::world::{SHORT, log_of, numbers, server, step, steps, store, until};

/// A server that follows another.
fn replica_of(master: &RedisServer) -> RedisServer {
    let port = master.port().to_string();
    RedisServer::start_with(RedisFsync::Always, &["--replicaof", "127.0.0.1", &port]).unwrap().unwrap()
}

async fn caught_up(master: &RedisServer, replica: &RedisServer) {
    let log = log_of(master);
    let length = |server: &RedisServer| server.cli(&["XLEN", &log]).unwrap();
    until("the replica catches up", async || length(master) == length(replica)).await;
}

async fn refusal(store: &Store, n: u64) -> [millpond_core::Error; 2] {
    // The read finds out that the connection is gone, and makes another.
    [store.get("work", "key-1").await.unwrap_err(), store.commit(step(n)).await.unwrap_err()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_lost_acknowledged_history_is_named_and_not_followed() {
    let Some(mut master) = server() else { return };
    let (cache, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("{}{SHORT}", master.url());
    let old = store(&url, cache.path()).await.unwrap();
    let replica = replica_of(&master);
    steps(&old, 0..10).await;
    caught_up(&master, &replica).await;
    // It stops listening too early, and is promoted.
    replica.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    steps(&old, 10..15).await;
    master.kill();
    let port = master.port().to_string();
    until("the address is free", async || {
        let _ = replica.cli(&["CONFIG", "SET", "port", &port]);
        master.cli(&["PING"]).is_ok()
    })
    .await;
    for error in refusal(&old, 15).await {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("lost history"), "{error}");
    }
    // Somebody who had seen less goes on there: now the entries are others.
    let other = store(&url, fresh.path()).await.unwrap();
    assert_eq!(numbers(&other).await, (0..10).collect::<Vec<_>>());
    steps(&other, 100..110).await;
    for error in refusal(&old, 16).await {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    assert_eq!(numbers(&other).await.len(), 20, "nothing of the old one was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_neither_read_nor_written() {
    let Some(master) = server() else { return };
    let cache = tempfile::tempdir().unwrap();
    let store_one = store(&format!("{}{SHORT}", master.url()), cache.path()).await.unwrap();
    let replica = replica_of(&master);
    steps(&store_one, 0..5).await;
    caught_up(&master, &replica).await;
    let error = store(&format!("{}{SHORT}", replica.url()), cache.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("is a replica"), "{error}");
    // The server under an open store becomes one. It would answer reads, from a state that others have left behind.
    replica.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    master.cli(&["REPLICAOF", "127.0.0.1", &replica.port().to_string()]).unwrap();
    let began = Instant::now();
    for error in refusal(&store_one, 5).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("is a replica"), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(30), "tried for {:?}", began.elapsed());
    master.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    steps(&store_one, 5..7).await;
    assert_eq!(numbers(&store_one).await, (0..7).collect::<Vec<_>>());
}
