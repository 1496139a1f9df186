//! What a call is told when its answers are lost: "not applied" only if it was not.
//!
//! Each case loses one flight of a call, and everything the program sends afterwards: before the server sees it, after
//! the server has answered it, or so that the connection stays open and silent until the time is up.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use futures_util::StreamExt as _;
use millpond_core::{Collection, Engine as _, Error, ErrorKind, FieldKind, Namespace, NamespaceStatus};
use millpond_postgres::migrate;
use millpond_testservers::{Fault, PostgresServer, Proxy};
use support::{new_id, open, run, server, step, store, through};

const JOBS: Collection = Collection::new("jobs").index("state", FieldKind::Text);

/// Calls other than a commit that change a store.
#[derive(Debug, Clone, Copy)]
enum What {
    Create,
    Status,
    Declare,
    Purge,
    Delete,
    Migrate,
}

/// Cases that run at once: they mostly wait.
const AT_ONCE: usize = 12;
/// Flights after the first lost one that are lost, too.
const MORE: u64 = 200;

fn made() -> Namespace {
    "made".parse().unwrap()
}

/// A call on a store of its own; which flights it made, what it was told, and whether it was applied.
async fn case(server: &PostgresServer, what: What, number: usize, lost: Option<Fault>) -> (u64, Result<(), Error>, bool) {
    let schema = format!("{what:?}{number}").to_lowercase();
    let proxy = Proxy::start(server.port()).unwrap();
    let plain = format!("{}?schema={schema}&pool=2", server.url("answers"));
    let timeout = if lost.is_some() { 3 } else { 30 };
    let proxied = through(&plain, server, proxy.port());
    let proxied = format!("{proxied}&sslmode=disable&timeout={timeout}&work_timeout={timeout}");
    let faults: Vec<Fault> = match lost {
        Some(first @ (Fault::LoseRequest(n) | Fault::LoseAnswer(n) | Fault::HoldAnswer(n) | Fault::LateRequest(n))) => {
            std::iter::once(first).chain((n + 1..n + MORE).map(Fault::LoseRequest)).collect()
        }
        None => Vec::new(),
    };
    if let What::Migrate = what {
        proxy.arm(&faults);
        let told = migrate(&proxied, &[JOBS.spec().unwrap()]).await;
        let flights = proxy.flights();
        let sql = format!("SELECT to_regclass('{schema}.format') IS NOT NULL");
        return (flights, told, server.psql("answers", &sql).unwrap() == "t");
    }
    let direct = open(&plain).await;
    let prepared = store(&direct).await;
    prepared.commit(step(new_id(&direct), "a")).await.unwrap();
    let (default, info) = (Namespace::default(), prepared.info().await.unwrap());
    let engine = open(&proxied).await;
    engine.namespaces().await.unwrap();
    proxy.arm(&faults);
    let told = match what {
        What::Create => engine.create_namespace(&made()).await.map(drop),
        What::Status => engine.set_status(&default, NamespaceStatus::Frozen).await.map(drop),
        What::Declare => engine.declare(&default, &[JOBS.spec().unwrap()]).await.map(drop),
        What::Purge => engine.purge(&default, prepared.now()).await.map(drop),
        What::Delete => engine.delete_namespace(&default, &info.store_id).await,
        What::Migrate => Ok(()),
    };
    let flights = proxy.flights();
    let applied = match what {
        What::Create => direct.namespace(&made()).await.unwrap().is_some(),
        What::Status => direct.namespace(&default).await.unwrap().unwrap().status == NamespaceStatus::Frozen,
        What::Declare => direct.catalog(&default).await.unwrap().get("jobs").is_some(),
        What::Purge => {
            let sql = format!("SELECT max(receipts_floor) > 0 FROM {schema}.namespaces");
            server.psql("answers", &sql).unwrap() == "t"
        }
        What::Delete => direct.namespace(&default).await.unwrap().is_none(),
        What::Migrate => false,
    };
    (flights, told, applied)
}

fn every_answer_lost(what: What) {
    let Some(server) = server() else { return };
    server.create("answers").unwrap();
    run(async {
        let (flights, told, applied) = case(&server, what, 0, None).await;
        told.unwrap();
        assert!(applied, "the call did what it should");
        let faults = (1..=flights).flat_map(|n| [Fault::LoseRequest(n), Fault::LoseAnswer(n), Fault::HoldAnswer(n)]);
        let cases = faults.enumerate().map(|(number, fault)| {
            let server = &server;
            async move { (fault, case(server, what, number + 1, Some(fault)).await) }
        });
        let told: Vec<_> = futures_util::stream::iter(cases).buffer_unordered(AT_ONCE).collect().await;
        let mut wrong = Vec::new();
        let (mut unknown, mut held) = (0, 0);
        for (fault, (_, told, applied)) in told {
            match told.map_err(|error| error.kind()) {
                Ok(()) if applied => {}
                Err(ErrorKind::Unavailable) if !applied => {}
                Err(ErrorKind::UnknownOutcome) => {
                    unknown += 1;
                    held += u64::from(matches!(fault, Fault::HoldAnswer(_)));
                }
                other => wrong.push(format!("{fault:?}: told {other:?}, applied: {applied}")),
            }
        }
        assert!(wrong.is_empty(), "{what:?}, {flights} flights:\n{}", wrong.join("\n"));
        assert!(held > 0 && unknown > held, "{what:?}: {unknown} unknown, {held} of them after silence");
        println!("{what:?}: {flights} flights, {unknown} of {} cases unknown", 3 * flights);
    });
}

#[test]
fn the_answers_of_making_a_namespace() {
    every_answer_lost(What::Create);
}

#[test]
fn the_answers_of_setting_a_status() {
    every_answer_lost(What::Status);
}

#[test]
fn the_answers_of_declaring() {
    every_answer_lost(What::Declare);
}

#[test]
fn the_answers_of_a_purge() {
    every_answer_lost(What::Purge);
}

#[test]
fn the_answers_of_deleting_a_namespace() {
    every_answer_lost(What::Delete);
}

#[test]
fn the_answers_of_a_migration() {
    every_answer_lost(What::Migrate);
}

/// One answer is lost and the next attempt is heard: the call succeeds, also where the first one had done its work.
#[test]
fn a_lost_answer_is_asked_for_again() {
    let Some(server) = server() else { return };
    let url = server.create("again").unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    run(async {
        let engine = open(&(through(&url, &server, proxy.port()) + "?pool=2&sslmode=disable&timeout=6&work_timeout=6")).await;
        for flight in 1..=3 {
            // Silence is not tried here for what has one attempt in all its time.
            for fault in [Fault::LoseRequest(flight), Fault::LoseAnswer(flight)] {
                support::quiet(&proxy);
                let name: Namespace = format!("n{flight}-{}", matches!(fault, Fault::LoseAnswer(_))).parse().unwrap();
                proxy.arm(&[fault]);
                let info = engine.create_namespace(&name).await.unwrap();
                proxy.arm(&[fault]);
                engine.set_status(&name, NamespaceStatus::Frozen).await.unwrap();
                proxy.arm(&[fault]);
                engine.delete_namespace(&name, &info.store_id).await.unwrap();
                assert!(engine.namespace(&name).await.unwrap().is_none());
            }
        }
    });
}
