//! The public conformance suite: what every Millpond engine promises, as clauses that try to break it.
//!
//! ```text
//!   Place ──open──► Engine, Engine (two handles on one place)
//!                     │
//!   Suite ──each──► Clause on a Ground (a namespace of its own) ──► Report
//! ```
//!
//! * An engine of your own: one test file with [`main!`], see [`harness`].
//! * From a program: [`Suite::run`] gives a [`Report`], printed as a table or as JSON.
//! * [`ReferencePlace`] keeps every promise in memory: the oracle of the clauses that compare.
//! * [`BrokenEngine`]s break one rule each: the defects that prove that the clauses catch something. Which clause catches
//!   which is in the golden files of this crate's tests; how to read them and add one is in `docs/contributing.md`.

mod broken;
mod clause;
pub mod clauses;
pub mod faults;
mod ground;
pub mod harness;
pub mod linearizable;
mod processes;
pub mod random;
mod reference;
mod report;
mod suite;

pub use broken::BrokenEngine;
pub use clause::{BoxFuture, Clause, Failure, Place, Verdict};
pub use ground::Ground;
pub use reference::{ReferenceEngine, ReferencePlace};
pub use report::{ClauseReport, Report};
pub use suite::Suite;
