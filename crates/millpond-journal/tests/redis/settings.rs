//! What the server's live settings make an acknowledgement mean.

use std::time::Duration;

use bytes::Bytes;
use millpond_core::{Durability, ErrorKind};
use millpond_journal::Journals as _;
use millpond_journal::drivers::redis::{RedisJournals, RedisOptions};
use millpond_testservers::{RedisFsync, RedisServer};

use crate::world::{server, until};

async fn opened(url: &str) -> millpond_core::Result<RedisJournals> {
    RedisJournals::open(url, RedisOptions { look_again: Duration::ZERO, ..RedisOptions::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_class_is_read_from_the_live_settings() {
    let Some(server) = server() else { return };
    let set = |name: &str, value: &str| drop(server.cli(&["CONFIG", "SET", name, value]).unwrap());
    let class = async || opened(&server.url()).await.unwrap().info().durability;
    assert_eq!(class().await, Durability::PowerLoss);
    set("no-appendfsync-on-rewrite", "yes");
    assert_eq!(class().await, Durability::ProcessCrash);
    set("no-appendfsync-on-rewrite", "no");
    for weaker in ["everysec", "no"] {
        set("appendfsync", weaker);
        assert_eq!(class().await, Durability::ProcessCrash, "{weaker}");
        let error = opened(&format!("{}?appendfsync=always", server.url())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    set("appendonly", "no");
    let error = opened(&server.url()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("keeps nothing"), "{error}");
    let allowed = opened(&format!("{}?appendonly=no", server.url())).await.unwrap();
    assert_eq!(allowed.info().durability, Durability::Memory);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_change_under_an_open_store_are_noticed() {
    let Some(server) = server() else { return };
    let place = opened(&server.url()).await.unwrap();
    let journal = place.open("one").await.unwrap();
    let mut n = 0;
    let mut append = async || {
        let done = journal.append(n, Bytes::from_static(b"entry")).await.map(|_| n += 1);
        done.err().map(|e| e.to_string())
    };
    server.cli(&["CONFIG", "SET", "appendfsync", "everysec"]).unwrap();
    until("the weaker class is seen", async || {
        append().await;
        place.info().durability == Durability::ProcessCrash
    })
    .await;
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    until("a server that evicts is refused", async || append().await.is_some_and(|e| e.contains("allkeys-lru"))).await;
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    until("it is written to again", async || append().await.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_evicts_is_refused_unless_asked_for() {
    let Some(server) = RedisServer::start_with(RedisFsync::Always, &["--maxmemory-policy", "allkeys-lru"]).unwrap() else {
        return;
    };
    let error = opened(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let place = opened(&format!("{}?eviction=allow", server.url())).await.unwrap();
    assert!(place.info().facts.contains(&("eviction", "allkeys-lru".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_and_says_what_to_do() {
    let Some(server) = server() else { return };
    let journal = opened(&server.url()).await.unwrap().open("one").await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1mb"]).unwrap();
    let error = journal.append(0, Bytes::from_static(b"entry")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.next().unwrap().contains("maxmemory"), "{error}");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    journal.append(0, Bytes::from_static(b"entry")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_not_read_the_settings_promises_nothing_and_secrets_stay_secret() {
    let Some(server) = server() else { return };
    let acl = ["ACL", "SETUSER", "app", "on", ">s3cret", "~millpond:*", "+@all", "-config", "-info", "-acl"];
    server.cli(&acl).unwrap();
    let address = server.url().replace("redis://", "");
    let place = opened(&format!("redis://app:s3cret@{address}")).await.unwrap();
    assert_eq!(place.info().durability, Durability::Memory);
    assert!(!format!("{place:?} {:?}", place.info()).contains("s3cret"));
    let error = opened(&format!("redis://app:wr0ng@{address}?timeout=1")).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("wr0ng"), "{error:?}");
    assert!(error.to_string().contains("refused the user"), "{error}");
    let journal = place.open("one").await.unwrap();
    journal.append(0, Bytes::from_static(b"entry")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_a_cluster_and_one_alone_are_not_mistaken() {
    let Some(server) = server() else { return };
    let error = opened(&format!("{}?cluster=true&timeout=1", server.url())).await.unwrap_err();
    assert!(error.next().is_some(), "{error}");
    let Some(cluster) = millpond_testservers::RedisCluster::start().unwrap() else { return };
    let error = opened(&cluster.urls()[0]).await.unwrap_err();
    assert!(error.next().unwrap().contains("cluster=true"), "{error}");
}
