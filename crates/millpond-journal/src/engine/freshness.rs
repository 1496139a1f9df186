//! When a reader compares the entry its replica stands at with the journal's.
//!
//! "Nothing follows entry n" is also what a journal says that lost entry n itself. So now and then, and first of all, a
//! reader asks for entry n again.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How often, at most, while somebody reads.
const EVERY: Duration = Duration::from_secs(1);

/// When the last comparison was.
#[derive(Debug, Default)]
pub(crate) struct Freshness(Mutex<Option<Instant>>);

impl Freshness {
    /// True for one caller each interval, and for the first.
    pub(crate) fn verification_is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|at| at.elapsed() >= EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
