//! Running clauses: each on a namespace of its own, each with a deadline, and a report at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond::Namespace;

use crate::faults::{self, Faults, FaultyPlace, Retry};
use crate::report::{ClauseReport, Report};
use crate::{Clause, Failure, Ground, Place, Verdict, clauses};

/// How long a clause may take before it counts as failed.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long removing a clause's namespace may take.
const CLEAN_UP: Duration = Duration::from_secs(20);

/// A choice of clauses.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use millpond_conformance::{ReferencePlace, Suite};
/// let report = Suite::new().matching("records").run(std::sync::Arc::new(ReferencePlace::new())).await;
/// assert!(report.passed(), "{report}");
/// # });
/// ```
#[derive(Clone)]
pub struct Suite {
    clauses: Vec<Clause>,
    deadline: Duration,
    faults: Option<(Faults, Retry)>,
}

impl Default for Suite {
    fn default() -> Self {
        Self::new()
    }
}

impl Suite {
    fn of(clauses: Vec<Clause>) -> Self {
        Self { clauses, deadline: DEADLINE, faults: None }
    }

    /// Every clause, one minute for each.
    pub fn new() -> Self {
        Self::of(clauses::all())
    }

    /// Only what an engine promises by itself, without the domains.
    pub fn of_engine() -> Self {
        Self::of(clauses::engine())
    }

    /// Only what the domains promise on top of an engine.
    pub fn of_domains() -> Self {
        Self::of(clauses::domains())
    }

    /// Only clauses whose `group::name` holds this text.
    #[must_use]
    pub fn matching(mut self, text: &str) -> Self {
        self.clauses.retain(|c| c.title().contains(text));
        self
    }

    /// Another deadline for each clause.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// With faults before every handle that a clause opens, and a caller that asks again. See [`crate::faults`].
    #[must_use]
    pub fn under(mut self, faults: Faults, retry: Retry) -> Self {
        self.faults = Some((faults, retry));
        self
    }

    /// The chosen clauses.
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// Only clauses that this place has what they need for, and the titles of the others: those about processes
    /// need a place that another process can open, see [`Place::process`].
    #[must_use]
    pub fn fitting(mut self, place: &dyn Place) -> (Self, Vec<String>) {
        let mut left_out = Vec::new();
        if place.process().is_none() {
            let processes = clauses::processes();
            self.clauses.retain(|clause| {
                let fits = processes.iter().all(|p| p.title() != clause.title());
                left_out.extend((!fits).then(|| clause.title()));
                fits
            });
        }
        (self, left_out)
    }

    /// Runs the clauses that fit the place one after another. The report names those that were left out.
    pub async fn run(&self, place: Arc<dyn Place>) -> Report {
        let (suite, left_out) = self.clone().fitting(&*place);
        let mut results = Vec::with_capacity(suite.clauses.len());
        for clause in &suite.clauses {
            results.push(self.run_one(clause, Arc::clone(&place)).await);
        }
        Report { results, left_out }
    }

    /// Runs one clause.
    pub async fn run_one(&self, clause: &Clause, place: Arc<dyn Place>) -> ClauseReport {
        let began = Instant::now();
        let place = match &self.faults {
            None => place,
            Some((faults, retry)) => {
                Arc::new(FaultyPlace::new(place, faults::for_clause(faults, &clause.title()), *retry)) as Arc<dyn Place>
            }
        };
        let verdict = run(clause, place, self.deadline).await;
        ClauseReport {
            group: clause.group,
            name: clause.name,
            promise: clause.promise,
            failure: verdict.err().map(|f| f.0),
            took: began.elapsed(),
        }
    }
}

async fn run(clause: &Clause, place: Arc<dyn Place>, deadline: Duration) -> Verdict {
    let random = place.open().await?.host().random();
    let name: String = clause.name.chars().take(32).collect();
    let namespace = Namespace::new(format!("suite-{:08x}-{name}", random as u32))?;
    let ground = Arc::new(Ground::new(place, namespace).await?);
    // On a task of its own, so that a panic is a failure of this clause and a hang can be left behind.
    let mut task = tokio::spawn((clause.run)(Arc::clone(&ground)));
    let verdict = match tokio::time::timeout(deadline, &mut task).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(panic)) => Err(Failure(format!("the clause panicked: {panic}"))),
        Err(_) => {
            task.abort();
            Err(Failure(format!("the clause did not end within {deadline:?}")))
        }
    };
    let removed = match tokio::time::timeout(CLEAN_UP, ground.remove()).await {
        Ok(removed) => removed.map_err(|e| Failure(format!("the clause's namespace could not be removed: {e}"))),
        Err(_) => Err(Failure(format!("the clause's namespace could not be removed within {CLEAN_UP:?}"))),
    };
    verdict.and(removed)
}
