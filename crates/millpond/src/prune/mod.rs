//! Pruning: everything of an execution that was written off is deleted, by one job that anybody may resume.
//!
//! ```text
//!   plan: counts, and what stands against it
//!   run:  mark ── expects: no pin, the run as it was found ──► nothing is written into the execution any more
//!           │
//!           ▼  looked at once more: what came in before the mark takes it off again, and is named
//!           │
//!           ▼  under the lease prunes/EXECUTION, every commit fenced by it; what a commit deletes it also counts
//!         artifacts ─► versions ─► lineage ─► run ─► done      the mark stays, and so do storage events
//!                       └─ after each page: bytes that nobody names any more
//! ```
//!
//! * `model.rs`: the record; `mark.rs`: what it means to others; `refer.rs`: what stands against it; `names.rs`: who names
//!   bytes; `plan.rs`: the dry run; `job.rs`: the job; `phases.rs`, `lineage.rs`, `streams.rs`: what it deletes.

mod job;
mod lineage;
mod mark;
mod model;
mod names;
mod phases;
mod plan;
mod refer;
mod streams;

use millpond_core::{Commit, Document, Error, Expectation, Page, PageCursor, Query, Records, Result, Store, Versioned, Write};

pub(crate) use mark::{explain, open, written_off};
pub(crate) use model::COLLECTIONS;
pub use model::{Prune, PruneCounts, PrunePhase, PruneStatus, PrunedObject};
pub use plan::PrunePlan;
pub use refer::{PruneObstacle, PruneReason, REASONS_NAMED as PRUNE_REASONS_NAMED};

use crate::conditions::Conditions as _;
use crate::homes::Domain;
use crate::locks::Locks;
use crate::text::key_segment;
use crate::{Pond, Run};

/// Versions that are deleted together, and whose objects are looked up together.
const VERSIONS: usize = 500;

/// The prunes of a pond. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prunes {
    pond: Pond,
    locks: Locks,
}

/// Which prunes.
#[derive(Debug, Clone)]
pub struct PruneFilter {
    /// How they stand.
    pub status: Option<PruneStatus>,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
    /// Continue after a page of the same filter.
    pub after: Option<PageCursor>,
}

impl Default for PruneFilter {
    fn default() -> Self {
        Self { status: None, limit: 100, after: None }
    }
}

impl Prunes {
    pub(crate) fn new(pond: Pond) -> Self {
        let locks = Locks::new(pond.store_of(Domain::Artifacts).clone());
        Self { pond, locks }
    }

    /// The store of artifacts and lineage.
    fn store(&self) -> &Store {
        self.pond.store_of(Domain::Artifacts)
    }

    fn records(&self) -> Records<Prune> {
        Records::new(self.store().clone())
    }

    async fn read(&self, execution: &str) -> Result<Option<Versioned<Prune>>> {
        self.records().get(&key_segment(execution)).await
    }

    /// The prune of an execution, or `None`.
    ///
    /// # Errors
    /// `Corrupt` when its record does not read back.
    pub async fn get(&self, execution: &str) -> Result<Option<Versioned<Prune>>> {
        self.read(execution).await.map_err(|e| e.during("prunes.get"))
    }

    /// Prunes, those that began last first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn list(&self, filter: &PruneFilter) -> Result<Page<Versioned<Prune>>> {
        self.page(filter).await.map_err(|e| e.during("prunes.list"))
    }

    async fn page(&self, filter: &PruneFilter) -> Result<Page<Versioned<Prune>>> {
        let query = Query::new(Prune::COLLECTION.name())?
            .given("status", filter.status.map(PruneStatus::as_str))
            .order_desc("began")
            .limit(filter.limit)
            .after(filter.after.clone());
        self.records().page(query).await
    }

    /// Takes the mark off an execution whose prune is done, so that its name can be used again. One commit point: the
    /// mark.
    ///
    /// # Errors
    /// `NotFound` when it was not pruned; `Conflict` when its prune is not done.
    pub async fn forget(&self, execution: &str) -> Result<Prune> {
        self.forgotten(execution).await.map_err(|e| e.with("execution", execution).during("prunes.forget"))
    }

    async fn forgotten(&self, execution: &str) -> Result<Prune> {
        let missing = || Error::not_found(format!("execution {execution} was not pruned"));
        let found = self.read(execution).await?.ok_or_else(missing)?;
        if found.value.status != PruneStatus::Done {
            return Err(Error::conflict(format!("execution {execution} is being pruned"))
                .with_next(format!("let the prune come to its end: millpond prune {execution}")));
        }
        let id = Records::<Prune>::id(&key_segment(execution))?;
        let commit = Commit::new().trusted().expect(Expectation::Revision(id.clone(), found.revision)).write(Write::Delete(id));
        self.store().commit(commit).await?;
        Ok(found.value)
    }

    /// The run of the execution's name, if it is one.
    async fn run_of(&self, execution: &str) -> Result<Option<Versioned<Run>>> {
        // An execution may be called as no run can be.
        if millpond_core::Key::new(execution).is_err() {
            return Ok(None);
        }
        self.pond.runs().get(execution).await
    }

    /// Events of the run's log, if the execution is a run.
    async fn log_events(&self, execution: &str) -> Result<Option<u64>> {
        match self.run_of(execution).await? {
            None => Ok(None),
            Some(run) => streams::kept(self.pond.store_of(Domain::Runs), &run.value.stream()).await.map(Some),
        }
    }
}

pub(crate) mod blocking {
    //! The same for synchronous callers.
    use super::{Prune, PruneFilter, PrunePlan};
    use millpond_core::{Page, Result, Versioned};

    blocking_api! {
        /// The prunes, for synchronous callers.
        Prunes of super::Prunes {
            fn plan(execution: &str) -> Result<PrunePlan>;
            fn run(execution: &str) -> Result<Prune>;
            fn get(execution: &str) -> Result<Option<Versioned<Prune>>>;
            fn list(filter: &PruneFilter) -> Result<Page<Versioned<Prune>>>;
            fn forget(execution: &str) -> Result<Prune>;
        }
    }
}
