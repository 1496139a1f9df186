//! Servers that are killed as by a switch, under load.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use millpond_core::{ErrorKind, Store};
use millpond_testservers::{RedisCluster, RedisFsync, RedisServer};

use crate::world::{digest, numbers, server, step, steps, store, until};

/// Callers at once.
const CALLERS: u64 = 16;
/// How often the server is killed.
const KILLS: usize = 3;
/// Commits that are acknowledged between two kills.
const BETWEEN: usize = 100;

/// Commits from many callers until told to stop; what was acknowledged.
struct Load {
    told: Arc<Mutex<Vec<u64>>>,
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(store: &Store) -> Self {
        let (told, stop) = (Arc::<Mutex<Vec<u64>>>::default(), Arc::<AtomicBool>::default());
        let callers = (0..CALLERS).map(|caller| {
            let (store, told, stop) = (store.clone(), Arc::clone(&told), Arc::clone(&stop));
            tokio::spawn(async move {
                for n in (0..).map(|n| n * CALLERS + caller) {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    store.commit(step(n)).await.unwrap();
                    told.lock().unwrap().push(n);
                }
            })
        });
        Self { callers: callers.collect(), told, stop }
    }

    async fn acknowledged(&self, more: usize) {
        let before = self.told.lock().unwrap().len();
        until("commits are acknowledged", async || self.told.lock().unwrap().len() >= before + more).await;
    }

    /// All that was acknowledged, in order of the numbers.
    async fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::SeqCst);
        for caller in self.callers {
            caller.await.unwrap();
        }
        let mut told = std::mem::take(&mut *self.told.lock().unwrap());
        told.sort_unstable();
        told
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_under_load_loses_nothing_that_was_acknowledged() {
    let Some(mut server) = server() else { return };
    let (cache, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("{}?appendfsync=always&timeout=20", server.url());
    let store_one = store(&url, cache.path()).await.unwrap();
    let load = Load::start(&store_one);
    for _ in 0..KILLS {
        load.acknowledged(BETWEEN).await;
        server.kill();
        server.restart().unwrap();
    }
    load.acknowledged(BETWEEN).await;
    let told = load.end().await;
    println!("{} commits were acknowledged while the server was killed {KILLS} times", told.len());
    let mut found = numbers(&store_one).await;
    let dense = store_one.stream("log").await.unwrap().unwrap().head == found.len() as u64;
    found.sort_unstable();
    assert!(dense && found == told, "each once: {} acknowledged, {} there", told.len(), found.len());
    let other = store(&url, fresh.path()).await.unwrap();
    assert_eq!(digest(&other).await, digest(&store_one).await, "a replica that was there against a new one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_nothing_on_disk_shows_loss_and_the_loss_is_named() {
    let Some(mut server) = RedisServer::start(RedisFsync::NoFile).unwrap() else { return };
    let (cache, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("{}?appendonly=no", server.url());
    let store_one = store(&url, cache.path()).await.unwrap();
    steps(&store_one, 0..20).await;
    server.kill();
    server.restart().unwrap();
    // Who had seen it says so, and neither writes nor reads on.
    for error in [store_one.get("work", "key-1").await.unwrap_err(), store_one.commit(step(20)).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("lost history"), "{error}");
    }
    let other = store(&url, fresh.path()).await.unwrap();
    assert_eq!(numbers(&other).await, Vec::<u64>::new(), "what this test is able to notice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_killed_under_load_comes_back() {
    let Some(mut cluster) = RedisCluster::start().unwrap() else { return };
    let cache = tempfile::tempdir().unwrap();
    let hosts: Vec<String> = cluster.urls().iter().map(|url| url.trim_start_matches("redis://").to_owned()).collect();
    let url = format!("redis://{}?cluster=true&timeout=20", hosts.join(","));
    let store = store(&url, cache.path()).await.unwrap();
    let load = Load::start(&store);
    load.acknowledged(BETWEEN).await;
    for node in cluster.nodes() {
        node.kill();
        node.restart().unwrap();
        load.acknowledged(BETWEEN).await;
    }
    let told = load.end().await;
    let mut found = numbers(&store).await;
    found.sort_unstable();
    assert_eq!(found, told, "each once");
}
