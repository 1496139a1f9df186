//! Every clause under faults: held by an engine that is asked again under the same id, not by one that is asked in
//! another way.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::collections::BTreeSet;
use std::sync::Arc;

use millpond_conformance::faults::{Fault, Faults, FaultyPlace, Retry};
use millpond_conformance::{Place, ReferencePlace, Report, Suite};
use millpond_core::{Namespace, NamespaceStatus, Timestamp};

async fn report(seed: u64, retry: Retry, suite: Suite) -> Report {
    suite.under(Faults::seeded(seed), retry).run(Arc::new(ReferencePlace::new())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_clause_is_kept_when_calls_are_made_again_under_their_ids() {
    for seed in [1, 2] {
        let report = report(seed, Retry::UnderTheSameId, Suite::new()).await;
        let broken: Vec<String> = report.failures().map(|f| format!("{}: {:?}", f.title(), f.failure)).collect();
        assert!(report.passed(), "seed {seed}:\n{}", broken.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_sent_again_under_another_id_is_caught() {
    let report = report(1, Retry::UnderAFreshId, Suite::of_engine()).await;
    let caught: Vec<String> = report.failures().map(millpond_conformance::ClauseReport::title).collect();
    assert!(caught.len() > 10, "only {caught:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_taken_for_a_failure_is_caught() {
    let report = report(1, Retry::TakenForAFailure, Suite::of_engine()).await;
    let caught: Vec<String> = report.failures().map(millpond_conformance::ClauseReport::title).collect();
    assert!(caught.len() > 10, "only {caught:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_meets_every_fault_that_it_can_meet() {
    let faults = Faults::seeded(7).one_in(2);
    let place = Arc::new(FaultyPlace::new(Arc::new(ReferencePlace::new()), faults.clone(), Retry::UnderTheSameId));
    // What the clauses find is not of interest here.
    let _ = Suite::of_engine().run(Arc::clone(&place) as Arc<dyn Place>).await;
    // Few clauses make these calls, and how many depends on what the faults leave of them.
    let engine = place.open().await.unwrap();
    let namespace = Namespace::new("status").unwrap();
    engine.create_namespace(&namespace).await.unwrap();
    for _ in 0..50 {
        engine.namespaces().await.unwrap();
        engine.set_status(&namespace, NamespaceStatus::Open).await.unwrap();
        engine.purge(&namespace, Timestamp::from_micros(0)).await.unwrap();
        engine.check(&namespace).await.unwrap();
    }
    let met = faults.met();
    let calls: BTreeSet<&str> = met.keys().map(|(call, _)| *call).collect();
    let all = [
        "catalog",
        "changed",
        "check",
        "commit",
        "create_namespace",
        "declare",
        "delete_namespace",
        "feed",
        "namespace",
        "namespaces",
        "outcome",
        "purge",
        "read",
        "set_status",
    ];
    assert_eq!(calls.into_iter().collect::<Vec<_>>(), all);
    for fault in [Fault::Refused, Fault::RequestLost, Fault::AnswerLost] {
        assert!(met.contains_key(&("commit", fault)), "{fault:?}");
    }
}
