//! What doctor says of a server: each check where it is silent, and where it fires.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::time::{Duration, Instant};

use millpond_core::{Durability, Engine as _, Examination, Finding, Probing};
use millpond_postgres::PostgresEngine;
use millpond_testservers::PostgresServer;
use support::{open, run, server};

fn fired(examined: &Examination) -> Vec<&str> {
    examined.checks.iter().filter(|check| check.finding != Finding::Ok).map(|check| check.name).collect()
}

async fn examine(engine: &PostgresEngine) -> Examination {
    engine.examine(Probing::ReadOnly).await.unwrap()
}

/// Sets a setting of the running server and waits until the engine sees it.
async fn until(server: &PostgresServer, engine: &PostgresEngine, setting: &str, holds: impl Fn(&Examination) -> bool) {
    server.psql("postgres", &format!("ALTER SYSTEM SET {setting}")).unwrap();
    server.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    let begun = Instant::now();
    while !holds(&examine(engine).await) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{setting} is not seen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_server_as_it_comes_is_well_and_changes_are_seen_while_it_runs() {
    let Some(server) = server() else { return };
    let url = server.create("health").unwrap();
    run(async {
        let engine = open(&url).await;
        let well = examine(&engine).await;
        assert_eq!((fired(&well), well.durability), (vec![], Durability::PowerLoss));
        let names: Vec<_> = well.checks.iter().map(|check| check.name).collect();
        assert_eq!(names, ["fsync", "full_page_writes", "synchronous_commit", "standby", "recovery", "schema"]);

        until(&server, &engine, "full_page_writes = off", |e| fired(e) == ["full_page_writes"]).await;
        assert_eq!(examine(&engine).await.durability, Durability::ProcessCrash);
        until(&server, &engine, "full_page_writes = on", |e| fired(e).is_empty()).await;
        // From here on a commit would wait for ever: nothing is written any more.
        until(&server, &engine, "synchronous_standby_names = 'nobody'", |e| fired(e) == ["standby"]).await;
        assert_eq!(examine(&engine).await.durability, Durability::Replicated);
    });
}

#[test]
fn a_commit_that_does_not_wait_for_the_disk_is_found() {
    let Some(server) = PostgresServer::start_with(&[("fsync", "off")]).unwrap() else { return };
    let url = server.create("unsafe").unwrap();
    run(async {
        let engine = open(&format!("{url}?fsync=off")).await;
        let examined = examine(&engine).await;
        assert_eq!((fired(&examined), examined.durability), (vec!["fsync"], Durability::ProcessCrash));
        let engine = open(&format!("{url}?fsync=off&synchronous_commit=off")).await;
        assert_eq!(fired(&examine(&engine).await), ["fsync", "synchronous_commit"]);
    });
}
