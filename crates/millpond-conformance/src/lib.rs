//! The public conformance suite: what every Millpond engine promises, as clauses that try to break it.

pub mod clauses;
mod reference;
mod suite;

pub use reference::{ReferenceEngine, ReferencePlace};
pub use suite::{BoxFuture, Clause, Failure, Ground, Place, Verdict};
