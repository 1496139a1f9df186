//! The suite of the suite, engines: every engine with one broken rule fails exactly the clauses on engines that its
//! defect breaks. The table engine × clause is `golden/broken.txt`.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod table;

use millpond_conformance::{BrokenEngine, Suite};
use table::Table;

/// Clauses that no engine can break, because what they ask is decided before a commit reaches one.
const UNTESTED: [&str; 1] = ["limits::leases"];

#[test]
fn every_broken_engine_fails_exactly_its_own_clauses() {
    table::silence_clauses();
    let suite = Suite::of_engine();
    let mut table = Table::of(BrokenEngine::of_engine(), &suite, |_, _| false);
    table.assert_golden("broken.txt");
    table.assert_covers(&suite, &UNTESTED);
}
