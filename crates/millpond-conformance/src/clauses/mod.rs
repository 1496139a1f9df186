//! The clauses, a file for each group. To add a group: a file, a `mod` line, a line in [`all`].

use crate::Clause;

mod commits;
mod idempotency;
mod records;
mod streams;
pub mod tools;
mod workflows;

/// Every clause of the suite, in the order of the report.
pub fn all() -> Vec<Clause> {
    let groups: &[&[Clause]] = &[records::CLAUSES, commits::CLAUSES, idempotency::CLAUSES, streams::CLAUSES, workflows::CLAUSES];
    groups.concat()
}
