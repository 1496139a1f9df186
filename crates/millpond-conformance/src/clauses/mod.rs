//! The clauses, a file for each group. To add a group: a file, a `mod` line, a line in [`all`].

use crate::Clause;

mod artifact_lists;
mod artifacts;
mod checkpoints;
mod commits;
mod dead_letter_reports;
mod dead_letters;
mod declarations;
mod events;
mod feed;
mod flow_lifecycle;
mod flows;
mod idempotency;
mod leases;
mod limits;
mod lineage;
mod locks;
mod metrics;
mod namespaces;
mod parts;
mod pins;
mod processes;
mod prune;
mod purge;
mod queries;
pub mod random;
mod records;
mod replay;
mod retention;
mod rewrites;
mod runs;
mod sessions;
mod storage_watch;
mod streams;
pub mod tools;
mod unit_artifacts;
mod unit_recovery;
mod units;
mod workflows;

/// What an engine promises, in the order of the report.
pub fn engine() -> Vec<Clause> {
    let mut all = Vec::new();
    all.extend_from_slice(records::CLAUSES);
    all.extend_from_slice(commits::CLAUSES);
    all.extend_from_slice(idempotency::CLAUSES);
    all.extend_from_slice(streams::CLAUSES);
    all.extend_from_slice(feed::CLAUSES);
    all.extend_from_slice(queries::CLAUSES);
    all.extend_from_slice(declarations::CLAUSES);
    all.extend_from_slice(limits::CLAUSES);
    all.extend_from_slice(leases::CLAUSES);
    all.extend_from_slice(namespaces::CLAUSES);
    all.extend_from_slice(purge::CLAUSES);
    all.extend_from_slice(random::CLAUSES);
    all
}

/// Every clause of the suite: the engine's, those between processes, then each domain's.
pub fn all() -> Vec<Clause> {
    [engine(), processes(), domains()].concat()
}

/// What an engine promises between processes, where its place is more than one process's memory.
pub fn processes() -> Vec<Clause> {
    processes::CLAUSES.to_vec()
}

/// What each domain promises on any engine.
pub fn domains() -> Vec<Clause> {
    let mut all = Vec::new();
    all.extend_from_slice(runs::CLAUSES);
    all.extend_from_slice(checkpoints::CLAUSES);
    all.extend_from_slice(events::CLAUSES);
    all.extend_from_slice(metrics::CLAUSES);
    all.extend_from_slice(units::CLAUSES);
    all.extend_from_slice(unit_artifacts::CLAUSES);
    all.extend_from_slice(unit_recovery::CLAUSES);
    all.extend_from_slice(artifacts::CLAUSES);
    all.extend_from_slice(artifact_lists::CLAUSES);
    all.extend_from_slice(workflows::CLAUSES);
    all.extend_from_slice(flows::CLAUSES);
    all.extend_from_slice(flow_lifecycle::CLAUSES);
    all.extend_from_slice(locks::CLAUSES);
    all.extend_from_slice(sessions::CLAUSES);
    all.extend_from_slice(dead_letters::CLAUSES);
    all.extend_from_slice(dead_letter_reports::CLAUSES);
    all.extend_from_slice(lineage::CLAUSES);
    all.extend_from_slice(storage_watch::CLAUSES);
    all.extend_from_slice(pins::CLAUSES);
    all.extend_from_slice(replay::CLAUSES);
    all.extend_from_slice(prune::CLAUSES);
    all.extend_from_slice(retention::CLAUSES);
    all.extend_from_slice(parts::CLAUSES);
    all.extend_from_slice(rewrites::CLAUSES);
    all
}
