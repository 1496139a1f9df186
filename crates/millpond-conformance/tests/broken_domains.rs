//! The suite of the suite, domains: every clause on a domain fails on some engine with one broken rule, and every one
//! of these engines fails exactly the clauses that its defect breaks. The table engine × clause is
//! `golden/broken-domains.txt`.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod table;

use std::sync::Arc;

use millpond_conformance::{BrokenEngine, Clause, Place, ReferencePlace, Suite};
use table::Table;

/// Clauses that no engine can break, because what they ask is decided before a commit reaches one: here the size of an
/// event, by the unit that the event was added to.
const UNTESTED: [&str; 1] = ["units::a_part_that_cannot_be_made_refuses_all"];

/// Clauses with racers, and two about time that passes. On other engines than these their outcome hangs on who is
/// first, or on how much else the machine has to do: these engines fail them in any case.
const RACES: [(&str, &[&str]); 43] = [
    ("runs::a_key_starts_one_run", &["first-put-only", "ignored-appends", "empty-events"]),
    ("runs::steps_at_once_do_not_conflict", &["ignored-merges", "ignored-appends", "empty-events"]),
    ("runs::nothing_comes_after_the_end", &["ignored-merges", "ignored-appends", "empty-events"]),
    ("runs::a_config_is_kept_once", &["first-put-only", "ghost-records", "undeclared"]),
    ("checkpoints::versions_are_dense", &["empty-pages", "ghost-records", "swapped-answers"]),
    ("checkpoints::a_number_never_comes_again", &["ignored-merges", "ignored-deletes", "unfiltered", "closed-range"]),
    ("checkpoints::restoring_can_be_repeated", &["first-put-only", "empty-pages", "ghost-records", "swapped-answers"]),
    ("events::a_batch_is_appended_once", &["ignored-appends", "empty-events", "twice-told-event"]),
    ("metrics::a_run_is_counted_once", &["ignored-merges", "empty-pages", "swapped-answers"]),
    ("metrics::runs_at_once_add_up_exactly", &["ignored-merges", "empty-pages", "position-gaps", "swapped-answers"]),
    ("metrics::a_pattern_counts_up", &["ignored-merges", "ghost-records"]),
    (
        "units::units_at_once_share_no_number",
        &["ignored-appends", "empty-pages", "empty-events", "ghost-records", "swapped-answers"],
    ),
    ("units::before_or_after_never_between", &["first-put-only", "ignored-overwrites", "ignored-deletes", "ghost-records"]),
    ("units::units_on_one_path_take_turns", &["first-put-only", "ignored-overwrites", "ignored-deletes", "ghost-records"]),
    (
        "units::writes_go_around_no_unit",
        &["first-put-only", "ignored-overwrites", "ignored-deletes", "ignored-appends", "empty-events", "ghost-records"],
    ),
    ("units::late_bytes_lie_apart", &["first-put-only", "ignored-overwrites", "ignored-deletes", "ghost-records"]),
    // Where everybody gets every lease, it hangs on whether the live unit renews its own just then.
    (
        "units::comparing_changes_nothing",
        &["first-put-only", "ignored-overwrites", "ignored-deletes", "empty-pages", "ghost-records"],
    ),
    ("units::two_recover_at_once", &["first-put-only", "ignored-overwrites", "ignored-deletes", "ghost-records"]),
    // Beside a machine that stands still its lease runs out, whoever keeps it.
    (
        "units::a_unit_of_artifacts_happens_once",
        &["first-put-only", "ignored-overwrites", "ignored-deletes", "empty-pages", "ghost-records", "blind-to-existence"],
    ),
    ("artifacts::one_of_many_creates", &["first-put-only", "ignored-deletes", "empty-pages", "ghost-records"]),
    ("artifacts::one_of_many_replaces", &["first-put-only", "ignored-deletes", "empty-pages", "ghost-records"]),
    ("artifacts::a_list_skips_nothing_that_stays", &["first-put-only", "empty-pages", "first-page-only", "ghost-records"]),
    ("workflows::racing_stores_share_no_number", &["first-put-only", "ghost-records"]),
    (
        "workflows::the_head_agrees_after_races",
        &["first-put-only", "ignored-deletes", "empty-pages", "ghost-records", "swapped-answers"],
    ),
    ("flows::racing_updates_let_one_win", &["ignored-overwrites", "ghost-records", "swapped-answers"]),
    ("flows::racing_creates_let_one_win", &["ignored-deletes", "empty-pages", "ghost-records", "swapped-answers"]),
    ("flow_lifecycle::racing_steps_agree", &["empty-pages", "ghost-records", "swapped-answers"]),
    ("lineage::one_end_of_many_wins", &["ignored-overwrites"]),
    ("locks::one_holder_at_a_time", &["lease-for-all", "nameless-leases"]),
    ("locks::a_waiter_gets_the_lock_when_it_is_given_back", &["ignored-releases", "reused-revision"]),
    ("locks::waiters_all_get_their_turn", &["ignored-releases", "reused-revision"]),
    ("locks::a_kept_lock_outlives_its_ttl", &["lease-for-all", "ignored-renewal"]),
    ("sessions::created_once", &["blind-to-absence"]),
    ("sessions::counters_never_conflict", &["ignored-merges", "ghost-records"]),
    ("sessions::metadata_of_many_survives", &["ignored-merges", "blind-to-existence"]),
    ("sessions::one_job_each", &["first-put-only", "ghost-records"]),
    (
        "dead_letters::capacity_holds_under_racing_adders",
        &["ignored-merges", "ignored-appends", "empty-pages", "empty-events", "ghost-records", "ghost-count"],
    ),
    ("dead_letters::a_letter_has_one_claim", &["empty-pages", "ghost-records"]),
    ("storage::concurrent_writers_are_all_seen", &["ignored-merges", "ignored-appends", "ghost-records", "unfiltered-events"]),
    ("pins::pins_at_once_are_all_kept", &["ignored-overwrites", "ignored-deletes", "ghost-records"]),
    // Which of the two comes first is open: that one ignores the other shows only where it comes second.
    ("pins::a_pin_or_a_deletion_comes_first", &["first-put-only", "ghost-records"]),
    ("pins::a_pin_or_a_prune_wins", &["ghost-records"]),
    (
        "replay::what_is_expected_may_come_late",
        &["first-put-only", "ignored-appends", "empty-pages", "empty-events", "ghost-records", "unfiltered-events"],
    ),
];

fn left_out(engine: &BrokenEngine, clause: &Clause) -> bool {
    let title = clause.title();
    RACES.iter().any(|(race, certain)| *race == title && !certain.contains(&engine.name))
}

#[test]
fn every_clause_on_a_domain_fails_on_a_broken_engine_and_on_no_honest_one() {
    table::silence_clauses();
    let suite = Suite::of_domains();
    let honest = || Arc::new(ReferencePlace::new()) as Arc<dyn Place>;
    let failed = table::failures(honest, suite.clauses().iter().copied());
    let failed = table::confirmed(honest, failed, |_| false);
    assert!(failed.is_empty(), "the reference engine fails {failed:?}");
    let mut table = Table::of(BrokenEngine::of_domains(), &suite, left_out);
    table.assert_golden("broken-domains.txt");
    table.assert_covers(&suite, &UNTESTED);
}

#[test]
fn a_clause_that_only_took_too_long_is_run_again_where_no_hang_is_expected() {
    let honest = || Arc::new(ReferencePlace::new()) as Arc<dyn Place>;
    let suite = Suite::of_domains().matching("feedback");
    let late = || suite.clauses().iter().map(|clause| table::too_late(*clause)).collect::<Vec<_>>();
    assert!(!late().is_empty());
    assert!(table::confirmed(honest, late(), |_| false).is_empty(), "an honest engine fails nothing when it is given time");
    assert_eq!(table::confirmed(honest, late(), |_| true).len(), late().len(), "an expected hang stands");
}
