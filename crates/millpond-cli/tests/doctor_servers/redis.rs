//! Redis: what it keeps on disk, what it throws away, its clock, its format.

use std::sync::Arc;

use millpond::{Durability, Finding, HealthRequest, OpenOptions};
use millpond_testservers::{Backend, Proxy, RedisFsync, RedisServer};

use crate::support::{Ahead, check, doctor, fired, health, make, promises_nothing, run, until};

struct Scene {
    server: RedisServer,
    cache: tempfile::TempDir,
}

impl Scene {
    fn start() -> Option<Self> {
        let server = RedisServer::start(RedisFsync::Always).unwrap()?;
        Some(Self { server, cache: tempfile::tempdir().unwrap() })
    }

    fn set(&self, name: &str, value: &str) {
        self.server.cli(&["CONFIG", "SET", name, value]).unwrap();
    }

    fn url(&self) -> String {
        self.url_at(self.server.port())
    }

    fn url_at(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}?timeout=5&cache={}", self.cache.path().display())
    }
}

#[test]
fn settings_that_change_under_an_open_store_are_found_and_the_old_class_is_not_believed() {
    let Some(scene) = Scene::start() else { return };
    run(async {
        let pond = millpond::open(&scene.url()).await.unwrap();
        let well = health(&pond).await;
        assert_eq!((fired(&well), well.survives), (vec![], Durability::PowerLoss), "{well:#?}");
        assert!(well.versions.iter().any(|(name, version)| *name == "redis" && version.contains('.')), "{well:#?}");
        for silent in ["connect", "appendonly", "eviction", "schema", "server_clock", "write"] {
            assert_eq!(check(&well, silent).finding, Finding::Ok, "{well:#?}");
        }

        scene.set("appendfsync", "everysec");
        let found = health(&pond).await;
        assert_eq!((fired(&found), found.survives), (vec!["appendonly"], Durability::ProcessCrash), "{found:#?}");
        promises_nothing(&found);
        scene.set("appendfsync", "always");

        scene.set("maxmemory-policy", "allkeys-lru");
        let found = pond.health(HealthRequest::new().read_only().require(Durability::PowerLoss)).await;
        assert_eq!(check(&found, "eviction").finding, Finding::Problem, "{found:#?}");
        promises_nothing(&found);
        scene.set("maxmemory-policy", "noeviction");
        assert_eq!(fired(&health(&pond).await), Vec::<&str>::new());

        scene.set("appendonly", "no");
        let found = pond.health(HealthRequest::new().read_only().require(Durability::PowerLoss)).await;
        assert_eq!(check(&found, "appendonly").finding, Finding::Problem, "{found:#?}");
        assert_eq!(found.survives, Durability::Memory);
        promises_nothing(&found);
    });
}

#[test]
fn a_server_that_is_gone_is_a_finding_and_promises_nothing() {
    let Some(mut scene) = Scene::start() else { return };
    run(async {
        let pond = millpond::open(&scene.url()).await.unwrap();
        scene.server.kill();
        let found = health(&pond).await;
        assert_eq!(check(&found, "connect").finding, Finding::Problem, "{found:#?}");
        assert!(found.sentence.contains("not known"), "{found:#?}");
        promises_nothing(&found);
    });
    doctor(&scene.url(), &[]).is_problem("connect", "refused");
}

#[test]
fn a_store_that_does_not_open_is_diagnosed_by_the_check_that_refuses_it() {
    let Some(scene) = Scene::start() else { return };
    make(&scene.url(), &[]);
    let well = doctor(&scene.url(), &[]);
    assert_eq!((well.code, well.check("connect").0, well.check("schema").0), (Some(0), "ok", "ok"), "{well:#?}");
    assert!(well.text.contains("redis ") && well.text.contains("format 1"), "{}", well.text);

    scene.set("maxmemory-policy", "allkeys-lru");
    doctor(&scene.url(), &[]).is_problem("eviction", "allkeys-lru");
    scene.set("maxmemory-policy", "noeviction");
    scene.set("appendonly", "no");
    doctor(&scene.url(), &[]).is_problem("appendonly", "keeps nothing");
    scene.set("appendonly", "yes");
    scene.server.cli(&["SET", "millpond:store", "millpond 2"]).unwrap();
    doctor(&scene.url(), &[]).is_problem("schema", "format 2");
}

#[test]
fn a_newer_format_is_found_under_an_open_store() {
    let Some(scene) = Scene::start() else { return };
    run(async {
        let pond = millpond::open(&scene.url()).await.unwrap();
        scene.server.cli(&["SET", "millpond:store", "millpond 2"]).unwrap();
        assert_eq!(check(&health(&pond).await, "schema").finding, Finding::Problem);
    });
}

#[test]
fn a_host_whose_clock_is_wrong_is_found_by_the_server_s() {
    let Some(scene) = Scene::start() else { return };
    run(async {
        let pond = OpenOptions::new().host(Arc::new(Ahead(10))).open(&scene.url()).await.unwrap();
        assert_eq!(fired(&health(&pond).await), ["server_clock"]);
    });
}

#[test]
fn a_slow_way_to_the_server_is_found() {
    let Some(scene) = Scene::start() else { return };
    // It passes everything on after a silence, which makes every question slow.
    let proxy = Proxy::start(scene.server.port()).unwrap();
    run(async {
        let near = millpond::open(&scene.url()).await.unwrap();
        let silent = |found: &millpond::Health| check(found, "latency").finding == Finding::Ok;
        until("a server on this machine is fast", &near, HealthRequest::new(), silent).await;
        let far = millpond::open(&scene.url_at(proxy.port())).await.unwrap();
        let found = health(&far).await;
        assert_eq!(check(&found, "latency").finding, Finding::Warning, "{found:#?}");
    });
}

#[test]
fn every_master_of_a_cluster_is_asked() {
    let Some(cluster) = Backend::RedisCluster.start().unwrap() else { return };
    run(async {
        let pond = millpond::open(&cluster.store("doctor").unwrap()).await.unwrap();
        let well = health(&pond).await;
        assert_eq!((fired(&well), well.survives), (vec![], Durability::PowerLoss), "{well:#?}");
        assert_eq!(check(&well, "server_clock").finding, Finding::Ok);
    });
}
