//! Linearizability: is there one order of all operations that explains every answer, and that keeps to the clock?
//!
//! ```text
//!   Recorder ──► Store, Store …   each operation: when it was called, when it returned, what it answered
//!      └──► History ──check──► Linearizable | Not(how far it could be explained) | Undecided
//! ```
//!
//! An operation whose answer was lost is kept open: it may take effect at any moment after its call, or never. Whoever
//! takes an unknown outcome for a failure, or for a success, is found out.
//!
//! The order is looked for as Wing and Gong did, with the memory of places already visited that Lowe added: an operation
//! may come next if it was called before every operation that is still to come has returned, and if the model then answers
//! what was answered.

mod model;
mod record;
mod search;

pub use model::{Answer, Change, Expect, Operation, Seen, State};
pub use record::{Recorder, Workload, run};
pub use search::{Verdict, check};

use serde::{Deserialize, Serialize};

/// One operation as its caller saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Who called; for people.
    pub caller: u32,
    /// What was asked.
    pub operation: Operation,
    /// When it was called. Any clock that all callers share.
    pub called: u64,
    /// When the answer came; `None` when it never did.
    pub returned: Option<u64>,
    /// The answer; `None` when the outcome is unknown. Such an operation may still happen at any later moment.
    pub answer: Option<Answer>,
}

/// Everything that was asked of one namespace, from its beginning, in any order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The operations.
    pub calls: Vec<Call>,
}

impl History {
    /// Operations of unknown outcome.
    pub fn unknown(&self) -> usize {
        self.calls.iter().filter(|c| c.answer.is_none()).count()
    }
}
