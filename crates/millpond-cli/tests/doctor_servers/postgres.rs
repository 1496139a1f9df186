//! PostgreSQL: when a commit is flushed and where, who may write, which tables are there.

use std::sync::Arc;

use millpond::{Durability, Finding, Front, HealthRequest, Namespace, OpenOptions, QueueLimits, Store};
use millpond_testservers::{PostgresServer, Proxy};

use crate::support::{Ahead, check, doctor, fired, health, make, promises_nothing, run, until};

fn set(server: &PostgresServer, setting: &str) {
    server.psql("postgres", &format!("ALTER SYSTEM SET {setting}")).unwrap();
    server.psql("postgres", "SELECT pg_reload_conf()").unwrap();
}

#[test]
fn a_server_as_it_comes_is_well_and_what_changes_under_an_open_store_is_found() {
    let Some(mut server) = PostgresServer::start().unwrap() else { return };
    let url = format!("{}?timeout=10", server.create("doctor").unwrap());
    let strict = HealthRequest::new().require(Durability::PowerLoss);
    run(async {
        let pond = millpond::open(&url).await.unwrap();
        let well = health(&pond).await;
        assert_eq!((fired(&well), well.survives), (vec![], Durability::PowerLoss), "{well:#?}");
        for silent in ["connect", "fsync", "synchronous_commit", "standby", "schema", "collections", "clock", "write"] {
            assert_eq!(check(&well, silent).finding, Finding::Ok, "{well:#?}");
        }
        assert!(well.versions.iter().any(|(name, version)| *name == "postgresql" && !version.is_empty()), "{well:#?}");

        // The class is not what it was when the store was opened.
        set(&server, "fsync = off");
        let off = |found: &millpond::Health| found.checks.iter().any(|c| c.name == "fsync" && c.finding == Finding::Problem);
        promises_nothing(&until("fsync=off is seen", &pond, strict, off).await);
        set(&server, "fsync = on");
        until("fsync=on is seen", &pond, strict, |found| fired(found).is_empty()).await;

        server.psql("doctor", "INSERT INTO millpond.format (version) VALUES (99)").unwrap();
        assert_eq!(check(&health(&pond).await, "schema").finding, Finding::Problem);
        doctor(&url, &[]).is_problem("schema", "99");
        server.psql("doctor", "DELETE FROM millpond.format WHERE version = 99").unwrap();
        server.psql("doctor", "UPDATE millpond.format SET version = -version").unwrap();
        let outstanding = health(&pond).await;
        assert!(check(&outstanding, "schema").found.contains("migrations are outstanding"), "{outstanding:#?}");
        server.psql("doctor", "UPDATE millpond.format SET version = -version").unwrap();

        let ahead = OpenOptions::new().host(Arc::new(Ahead(10))).open(&url).await.unwrap();
        assert_eq!(fired(&health(&ahead).await), ["clock"]);

        server.kill();
        let gone = health(&pond).await;
        assert_eq!(check(&gone, "connect").finding, Finding::Problem, "{gone:#?}");
        promises_nothing(&gone);
    });
    doctor(&url, &[]).is_problem("connect", "");
}

#[test]
fn commits_that_do_not_wait_for_the_disk_are_found() {
    let Some(server) = PostgresServer::start_with(&[("fsync", "off")]).unwrap() else { return };
    let url = server.create("unsafe").unwrap();
    run(async {
        let pond = millpond::open(&format!("{url}?fsync=off&synchronous_commit=off")).await.unwrap();
        let found = health(&pond).await;
        assert_eq!(fired(&found), ["fsync", "synchronous_commit"]);
        promises_nothing(&found);
    });
    doctor(&url, &[]).is_problem("fsync", "fsync=off");
}

#[test]
fn a_standby_that_is_missing_is_a_problem_and_who_does_not_wait_for_one_is_not_said_to() {
    let Some(server) = PostgresServer::start().unwrap() else { return };
    let url = server.create("followed").unwrap();
    make(&url, &[]);
    let _standby = server.standby().unwrap();
    run(async {
        let pond = millpond::open(&url).await.unwrap();
        let look = HealthRequest::new().read_only();
        let well = pond.health(look).await;
        assert_eq!((check(&well, "standby").finding, well.survives), (Finding::Ok, Durability::Replicated), "{well:#?}");
        set(&server, "synchronous_standby_names = 'FIRST 2 (standby, nobody)'");
        let missing = |found: &millpond::Health| check(found, "standby").finding == Finding::Problem;
        let found = until("one of two standbys is missing", &pond, look, missing).await;
        assert!(check(&found, "standby").found.contains("waits for 2"), "{found:#?}");
        let alone = millpond::open(&format!("{url}?synchronous_commit=local")).await.unwrap();
        let found = alone.health(HealthRequest::new()).await;
        assert_eq!((check(&found, "standby").finding, found.survives), (Finding::Ok, Durability::PowerLoss), "{found:#?}");
        assert!(check(&found, "standby").found.contains("wait for no other server"), "{found:#?}");
    });
}

#[test]
fn a_role_that_may_only_read_is_found() {
    let Some(server) = PostgresServer::start().unwrap() else { return };
    let url = server.create("shared").unwrap();
    make(&url, &[]);
    server
        .psql(
            "shared",
            "CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA millpond TO reader; \
             GRANT SELECT ON ALL TABLES IN SCHEMA millpond TO reader",
        )
        .unwrap();
    let said = doctor(&url.replace("postgres@", "reader@"), &[]);
    assert_eq!((said.code, said.check("write").0, said.check("connect").0), (Some(5), "problem", "ok"), "{said:#?}");
    assert!(said.check("write").1.contains("may not"), "{said:#?}");
    let said = doctor(&url, &[]);
    assert_eq!((said.code, said.check("write").0), (Some(0), "ok"), "{said:#?}");
}

#[test]
fn tables_that_are_still_to_be_made_are_found() {
    let Some(server) = PostgresServer::start().unwrap() else { return };
    let url = server.create("young").unwrap();
    run(async {
        let engine = OpenOptions::new().engine(&url).await.unwrap();
        Store::open(Arc::new(Front::with_limits(engine, QueueLimits::default())), Namespace::default()).await.unwrap();
    });
    assert_eq!(doctor(&url, &[]).check("collections").0, "warning");
    make(&url, &[]);
    assert_eq!(doctor(&url, &[]).check("collections").0, "ok");
}

#[test]
fn a_slow_way_to_the_server_is_found() {
    let Some(server) = PostgresServer::start().unwrap() else { return };
    let url = server.create("far").unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    run(async {
        let near = millpond::open(&url).await.unwrap();
        let silent = |found: &millpond::Health| check(found, "latency").finding == Finding::Ok;
        until("a server on this machine is fast", &near, HealthRequest::new(), silent).await;
        let far = url.replace(&format!(":{}", server.port()), &format!(":{}", proxy.port()));
        let far = millpond::open(&format!("{far}?sslmode=disable")).await.unwrap();
        assert_eq!(check(&health(&far).await, "latency").finding, Finding::Warning);
    });
}
