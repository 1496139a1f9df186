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
mod objects;
mod place;
mod retry;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use engine::FaultyEngine;
pub use objects::FaultyObjects;
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
    /// Instead of by chance: at one call.
    at: Option<At>,
    /// How long a call takes at most, on its way there and on its way back.
    slow: Duration,
    /// How late at most what comes late comes.
    late: Duration,
    shared: Arc<Mutex<Shared>>,
}

/// The one call that meets a fault.
#[derive(Debug, Clone, Copy)]
struct At {
    /// Its number, from 1.
    call: u64,
    fault: Fault,
    /// Nothing is heard of this caller afterwards, as of a process that ended in this call.
    last: bool,
}

#[derive(Debug)]
struct Shared {
    calls: u64,
    ended: bool,
    by_name: BTreeMap<&'static str, u64>,
    random: Random,
    met: BTreeMap<(&'static str, Fault), u64>,
}

impl Faults {
    /// One call in eight is refused, or its request or its answer is lost.
    pub fn seeded(seed: u64) -> Self {
        let shared = Shared { calls: 0, ended: false, by_name: BTreeMap::new(), random: Random::new(seed), met: BTreeMap::new() };
        let kinds = vec![Fault::Refused, Fault::RequestLost, Fault::AnswerLost];
        let (slow, late) = (Duration::ZERO, Duration::from_millis(3));
        Self { kinds, one_in: 8, seed, at: None, slow, late, shared: Arc::new(Mutex::new(shared)) }
    }

    /// The call of this number, from 1, meets this fault, and no other does.
    pub fn at(call: u64, fault: Fault) -> Self {
        Self { at: Some(At { call, fault, last: false }), ..Self::seeded(0) }
    }

    /// The call of this number, from 1, meets this fault, and nothing that is called afterwards happens: so does a
    /// process end in the middle of a call.
    pub fn ending_at(call: u64, fault: Fault) -> Self {
        Self { at: Some(At { call, fault, last: true }), ..Self::seeded(0) }
    }

    /// Calls so far that could have met a fault.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// The same by the name of the call, such as `commit` or `objects.put`.
    pub fn calls_by_name(&self) -> BTreeMap<&'static str, u64> {
        self.lock().by_name.clone()
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

    /// Calls take up to this long on their way there, and as long on their way back, so that others come in between.
    #[must_use]
    pub fn slow(mut self, most: Duration) -> Self {
        self.slow = most;
        self
    }

    /// What comes late comes up to this late; 3 ms if not said.
    #[must_use]
    pub fn late(mut self, most: Duration) -> Self {
        self.late = most;
        self
    }

    /// From now on nothing that is called happens, as of a process that ended.
    pub fn end(&self) {
        self.lock().ended = true;
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
        shared.calls += 1;
        if shared.ended {
            return Some(Fault::Refused);
        }
        *shared.by_name.entry(call).or_default() += 1;
        if let Some(at) = self.at {
            let fault = match shared.calls.cmp(&at.call) {
                std::cmp::Ordering::Less => return None,
                std::cmp::Ordering::Equal => at.fault,
                std::cmp::Ordering::Greater if at.last => Fault::Refused,
                std::cmp::Ordering::Greater => return None,
            };
            *shared.met.entry((call, fault)).or_default() += 1;
            return Some(fault);
        }
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

    /// How late the next late thing is.
    pub(crate) fn lateness(&self) -> Duration {
        self.part_of(self.late)
    }

    /// The way there, or back.
    pub(crate) async fn way(&self) {
        if !self.slow.is_zero() {
            tokio::time::sleep(self.part_of(self.slow)).await;
        }
    }

    /// A time up to this long, in whole milliseconds and at least one.
    fn part_of(&self, most: Duration) -> Duration {
        let millis = usize::try_from(most.as_millis()).unwrap_or(usize::MAX).max(1);
        Duration::from_millis(1 + self.below(millis) as u64)
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
