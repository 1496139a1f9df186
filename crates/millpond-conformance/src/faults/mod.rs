//! Faults between a caller and an engine, over every call: {it happened or not} × {the caller was told or not}.
//!
//! ```text
//!   clause ──► RetryingEngine ──► FaultyEngine ──► the engine
//!              sends again         Refused          nothing happens, and that is said
//!              under the same id   RequestLost      nothing happens, and nobody is told
//!                                  AnswerLost       it happens, and nobody is told
//!                                  Late             nobody is told, and it happens afterwards
//! ```
//!
//! What a caller hears of a lost commit is `UnknownOutcome`, of a lost read `Unavailable`, as from a real engine. With
//! [`Suite::under`](crate::Suite::under) every clause is run through these layers: a store that is asked again under the
//! same commit id has to keep every promise all the same.

mod engine;
mod place;
mod retry;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use engine::FaultyEngine;
pub use place::FaultyPlace;
pub(crate) use place::{asked_for, of_process};
pub use retry::{Retry, RetryingEngine};

use crate::random::Random;

/// What every injected error says, so that a refusal of the engine's own is never taken for one.
const INJECTED: &str = "a fault was injected";

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It does not happen, and the caller is told so.
    Refused,
    /// It does not happen, and the caller is not told.
    RequestLost,
    /// It happens, and the caller is not told.
    AnswerLost,
    /// The caller is not told, and it happens a moment later, whatever the caller does meanwhile.
    Late,
}

/// The faults of one seed: which calls they meet, and which they have met.
#[derive(Debug, Clone)]
pub struct Faults {
    kinds: Vec<Fault>,
    one_in: u64,
    seed: u64,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    random: Random,
    met: BTreeMap<(&'static str, Fault), u64>,
}

impl Faults {
    /// One call in eight is refused, or its request or its answer is lost.
    pub fn seeded(seed: u64) -> Self {
        let shared = Shared { random: Random::new(seed), met: BTreeMap::new() };
        let kinds = vec![Fault::Refused, Fault::RequestLost, Fault::AnswerLost];
        Self { kinds, one_in: 8, seed, shared: Arc::new(Mutex::new(shared)) }
    }

    /// Only faults of these kinds.
    #[must_use]
    pub fn of_kinds(mut self, kinds: &[Fault]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// One call in so many, which is not 0, meets a fault.
    #[must_use]
    pub fn one_in(mut self, calls: u64) -> Self {
        self.one_in = calls.max(1);
        self
    }

    /// Whether faults of this kind can happen.
    pub fn has(&self, kind: Fault) -> bool {
        self.kinds.contains(&kind)
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How often which call met which fault so far.
    pub fn met(&self) -> BTreeMap<(&'static str, Fault), u64> {
        self.lock().met.clone()
    }

    /// What goes wrong with the next call, out of the kinds that this call can meet.
    pub(crate) fn next(&self, call: &'static str, possible: &[Fault]) -> Option<Fault> {
        let mut shared = self.lock();
        if shared.random.below(self.one_in) != 0 {
            return None;
        }
        let kinds: Vec<Fault> = self.kinds.iter().copied().filter(|k| possible.contains(k)).collect();
        if kinds.is_empty() {
            return None;
        }
        let fault = kinds[shared.random.below(kinds.len() as u64) as usize];
        *shared.met.entry((call, fault)).or_default() += 1;
        Some(fault)
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&self, n: usize) -> usize {
        self.lock().random.below(n as u64) as usize
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clauses that ask for what nobody can know after a lost answer, and the faults that are left to them. Refusals are not
/// remembered: sent again with the rest of its batch, a commit that was refused may find its expectation fulfilled by
/// what came after it in that batch. And of two who send one commit at once and hear nothing, neither can know who was first.
const NARROWER: [(&str, &[Fault]); 4] = [
    ("random::in_batches", &[Fault::Refused, Fault::RequestLost]),
    ("random::over_two_handles", &[Fault::Refused, Fault::RequestLost]),
    ("idempotency::duplicates_at_once", &[Fault::Refused]),
    ("processes::an_id_is_applied_once", &[Fault::Refused]),
];

/// The faults that a clause is run under.
pub(crate) fn for_clause(faults: &Faults, title: &str) -> Faults {
    let narrower = NARROWER.iter().find(|(clause, _)| *clause == title);
    // Each clause begins the seed anew, so that it can be repeated alone.
    let fresh = Faults::seeded(faults.seed).one_in(faults.one_in).of_kinds(&faults.kinds);
    match narrower {
        None => fresh,
        Some((_, kinds)) => {
            let kinds: Vec<Fault> = faults.kinds.iter().copied().filter(|k| kinds.contains(k)).collect();
            fresh.of_kinds(&kinds)
        }
    }
}
