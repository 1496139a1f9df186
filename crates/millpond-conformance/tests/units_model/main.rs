//! The protocol of a unit, every interleaving of it: commit, takeover, copy, purge and collection.
//!
//! ```text
//!   scenario.rs   who takes part            worker.rs      begins, uploads, decides, does not hear, undoes
//!   state.rs      what there is             taker.rs       takes a lease, aborts, removes bytes
//!   model.rs      the steps                 collector.rs   raises the floor, asks, removes; purge
//!   defect.rs     rules left out            properties.rs  what is promised
//! ```
//!
//! A commit is one step, bytes arrive whenever they do, also after their unit was undone and also twice, an answer may be
//! lost, a decision may be decided long after it was sent, and time may have run out for anybody at any moment. A crash is
//! a process that makes no further step; in every state it is tried what one finds and leaves who comes then.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod collector;
mod defect;
mod model;
mod properties;
mod scenario;
mod state;
mod taker;
mod worker;

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model as _};

use crate::defect::{COVERED, Defect, PLANTED};
use crate::model::UnitsModel;
use crate::scenario::{COLLECTION, COLLECTORS, COPY, SHORT, SHORTS, Scenario, TAKEOVER};

const SCENARIOS: [Scenario; 6] = [TAKEOVER, COLLECTION, COPY, COLLECTORS, SHORT, SHORTS];
const THREADS: usize = 2;

fn all_states(scenario: Scenario, defect: Option<Defect>) -> impl Checker<UnitsModel> {
    // Otherwise it would stop once everything that has to be possible was seen.
    let checker = UnitsModel { scenario, defect }.checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures);
    checker.spawn_bfs().join()
}

#[test]
fn every_promise_holds_in_every_state() {
    for scenario in SCENARIOS {
        let began = std::time::Instant::now();
        let checker = all_states(scenario, None);
        checker.assert_properties();
        println!(
            "{}: {} states, {} steps, at most {} deep, {:?}",
            scenario.name,
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth(),
            began.elapsed()
        );
    }
}

#[test]
fn every_rule_left_out_breaks_a_promise() {
    for (defect, scenario, promise) in PLANTED {
        let wanted = HasDiscoveries::AnyOf(BTreeSet::from([promise.name()]));
        // One thread, so that the way that is printed is the same every time.
        let checker = UnitsModel { scenario, defect: Some(defect) }.checker().finish_when(wanted);
        let checker = checker.spawn_bfs().join();
        let found = checker.discovery(promise.name());
        let path = found.unwrap_or_else(|| panic!("{defect:?} does not break {:?} in {:?}", promise.name(), scenario.name));
        let steps = path.into_actions();
        println!("{defect:?} breaks {:?} in {} steps: {steps:?}", promise.name(), steps.len());
    }
}

#[test]
fn what_another_rule_covers_breaks_nothing_alone() {
    for (defect, scenario) in COVERED {
        let checker = all_states(scenario, Some(defect));
        checker.assert_properties();
        println!("{defect:?}: {} states, and every promise holds", checker.unique_state_count());
    }
}
