//! The health of a store: each check in a store where it stays silent, and in one where it fires.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use millpond::{Durability, ErrorKind, Finding, HealthRequest, Host, NamespaceStatus, OpenOptions, SystemHost, Timestamp};

fn finding(health: &millpond::Health, name: &str) -> Option<Finding> {
    health.checks.iter().find(|check| check.name == name).map(|check| check.finding)
}

#[tokio::test]
async fn a_store_on_a_disk_is_well() {
    // The usual folder for temporary files may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let pond = millpond::open(folder.path().to_str().unwrap()).await.unwrap();
    let health = pond.health(HealthRequest::new().require(Durability::PowerLoss)).await;
    let names: Vec<&str> = health.checks.iter().map(|check| check.name).collect();
    assert_eq!(
        names,
        [
            "connect",
            "namespace",
            "write",
            "clock",
            "latency",
            "synchronous",
            "journal_mode",
            "file_system",
            "schema",
            "collections",
            "space",
            "durability"
        ]
    );
    assert!(health.checks.iter().all(|c| c.finding == Finding::Ok || c.name == "space" || c.name == "latency"), "{health:?}");
    let versions: Vec<&str> = health.versions.iter().map(|(name, _)| *name).collect();
    assert_eq!(versions, ["millpond", "sqlite", "format"]);
    assert!(health.facts.contains(&("synchronous", "full".to_owned())), "read from the connection: {health:?}");
    assert_eq!((health.engine, health.survives), ("sqlite", Durability::PowerLoss));
    assert!(health.sentence.contains("you lose nothing"));
}

#[tokio::test]
async fn reading_only_writes_nothing() {
    let pond = millpond::open("memory:").await.unwrap();
    let before = pond.store().info().await.unwrap().position;
    let health = pond.health(HealthRequest::new().read_only()).await;
    assert_eq!((finding(&health, "write"), finding(&health, "clock")), (None, None));
    assert_eq!(pond.store().info().await.unwrap().position, before);
    pond.health(HealthRequest::new()).await;
    assert!(pond.store().info().await.unwrap().position > before, "the write check commits");
}

#[tokio::test]
async fn memory_is_not_enough_where_more_is_required() {
    let pond = millpond::open("memory:").await.unwrap();
    let health = pond.health(HealthRequest::new()).await;
    assert_eq!(finding(&health, "durability"), Some(Finding::Warning));
    let health = pond.health(HealthRequest::new().require(Durability::PowerLoss)).await;
    assert_eq!((finding(&health, "durability"), health.worst()), (Some(Finding::Problem), Finding::Problem));
    let error = OpenOptions::new().require(Durability::ProcessCrash).open("memory:").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("process-crash was asked for"), "{error}");
}

#[tokio::test]
async fn a_frozen_namespace_is_a_finding() {
    let pond = millpond::open("memory:").await.unwrap();
    pond.store().engine().set_status(pond.store().namespace(), NamespaceStatus::Frozen).await.unwrap();
    let health = pond.health(HealthRequest::new()).await;
    assert_eq!(finding(&health, "namespace"), Some(Finding::Warning));
    assert_eq!(finding(&health, "write"), Some(Finding::Problem), "{health:?}");
}

/// A clock that is set back by some seconds after it was first read.
#[derive(Debug, Default)]
struct Wandering(AtomicI64);

impl Host for Wandering {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(SystemHost.now().as_micros() - self.0.load(Ordering::SeqCst))
    }
    fn random(&self) -> u128 {
        SystemHost.random()
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_is_a_finding() {
    let host = Arc::new(Wandering::default());
    let pond = OpenOptions::new().host(Arc::clone(&host) as Arc<dyn Host>).open("memory:").await.unwrap();
    pond.health(HealthRequest::new()).await;
    host.0.store(10_000_000, Ordering::SeqCst);
    // The store's time never runs backwards, so the two are apart now.
    let health = pond.health(HealthRequest::new()).await;
    assert_eq!(finding(&health, "clock"), Some(Finding::Warning), "{health:?}");
}
