//! Deliberately broken engines: each is the reference engine with one step taken wrong, as real engines have.
//!
//! A clause is worth something only if some engine here fails it, and an engine here is worth something only if the
//! suite catches it. Which catches which stands in two tables, `tests/golden/broken.txt` for the clauses on engines and
//! `tests/golden/broken-domains.txt` for those on domains.

mod acknowledged;
mod answers;
mod commits;
mod feeds;
mod queries;
mod stores;
mod writes;

use std::sync::Arc;

use crate::Place;
use crate::reference::{ReferencePlace, Steps};

/// Engines made for the clauses on engines that also fail clauses on domains, whatever the timing. Left out are those
/// whose failures depend on which of two racers is first, those on which a reader goes round for ever, and a few that
/// show nothing that the others do not.
const LEANED_ON: [&str; 33] = [
    "lost-update",
    "unchecked-fence",
    "blind-to-absence",
    "blind-to-existence",
    "unchecked-quota",
    "reused-revision",
    "leaky-refusal",
    "twice-told-event",
    "forgotten-receipt",
    "anonymous",
    "undeclared",
    "thawed",
    "unsealed",
    "small-documents",
    "position-gaps",
    "lossy-events",
    "lease-for-all",
    "clock-fence",
    "anybody-releases",
    "ignored-renewal",
    "nameless-leases",
    "stale-index",
    "swapped-answers",
    "closed-range",
    "ghost-count",
    "like-patterns",
    "absent-last",
    "null-agents",
    "overlapping-events",
    "silent-list",
    "silent-skip",
    "missing-deletes",
    "feed-by-key",
];

/// An engine with one rule broken.
#[derive(Debug, Clone)]
pub struct BrokenEngine {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it.
    pub defect: &'static str,
    steps: fn() -> Arc<dyn Steps>,
}

impl BrokenEngine {
    fn new<S: Steps + Default + 'static>(name: &'static str, defect: &'static str, _: S) -> Self {
        Self { name, defect, steps: || Arc::new(S::default()) }
    }

    /// An empty place with this engine on it.
    pub fn place(&self) -> Arc<dyn Place> {
        Arc::new(ReferencePlace::with_steps((self.steps)()))
    }

    /// Every broken engine.
    pub fn all() -> Vec<Self> {
        [Self::of_engine(), acknowledged::all(), answers::all()].concat()
    }

    /// Those that the clauses on engines are tried with, see [`Suite::of_engine`](crate::Suite::of_engine).
    pub fn of_engine() -> Vec<Self> {
        [commits::all(), writes::all(), stores::all(), queries::all(), feeds::all()].concat()
    }

    /// Those that the clauses on domains are tried with, see [`Suite::of_domains`](crate::Suite::of_domains): engines
    /// with a defect as plain as can be, which few clauses on engines would miss, and those of the others that show in
    /// a domain, too.
    pub fn of_domains() -> Vec<Self> {
        let leaned_on = Self::of_engine().into_iter().filter(|engine| LEANED_ON.contains(&engine.name)).collect();
        [acknowledged::all(), answers::all(), leaned_on].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_engine_has_a_name_of_its_own_and_every_chosen_name_an_engine() {
        let names: BTreeSet<&str> = BrokenEngine::all().iter().map(|engine| engine.name).collect();
        assert_eq!(names.len(), BrokenEngine::all().len());
        for name in LEANED_ON {
            assert!(names.contains(name), "no engine is named {name:?}");
        }
    }
}
