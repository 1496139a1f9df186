//! Units of work: what one step did, bytes included, happens at once or leaves nothing. `docs/units.md` draws it.
//!
//! * `model.rs`: what is kept; `steps.rs`: the commits; `work.rs`: a unit of this process, `queue.rs`: what it registers,
//!   `repeat.rs`: one whose id was there before; `short.rs`: one put, which is not registered;
//! * `undo.rs`: what anybody may do, `recover.rs`: with all that nobody works on; `compensate.rs`: steps outside;
//! * `collect.rs`, `unused.rs`: bytes that nobody names; `forget.rs`: units that are over; `list.rs`: how units stand.

mod collect;
mod compensate;
mod forget;
mod list;
mod model;
mod queue;
mod recover;
mod repeat;
mod short;
mod steps;
mod undo;
mod unused;
mod work;

use std::sync::Arc;
use std::time::Duration;

use millpond_core::{CommitId, Error, Result, Store};
use millpond_objects::Objects;

pub(crate) use collect::OWNERS;
pub use collect::{CollectRequest, Collected, MissingObject, Reconciled, UnusedObject};
pub use compensate::{COMPENSATION_TIME, COMPENSATION_TRIES, Compensations, StepToUndo, UNITS_JOB};
pub use forget::ForgottenUnits;
pub use list::{UnitDetail, UnitFilter};
pub(crate) use model::COLLECTIONS;
pub use model::{OperationKind, OperationStatus, PathClaim, UnitFloor, UnitInfo, UnitOperation, UnitState};
pub use recover::{Recovered, RecoveredCounts};
pub(crate) use undo::Undoing;
pub(crate) use work::{Wanted, Working};

use crate::DeadLetters;
use crate::locks::Locks;
use crate::objects::ObjectsHome;
use crate::payloads::Payloads;

/// The units of a namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Units {
    undoing: Undoing,
}

impl Units {
    /// The units of a store, with their bytes in a place.
    pub(crate) fn new(store: Store, letters: Store, objects: ObjectsHome, compensations: Compensations) -> Self {
        // Letters about steps are small: no unit is needed to write one.
        let letters = DeadLetters::new(letters.clone(), Payloads::new(letters, None));
        Self { undoing: Undoing { locks: Locks::new(store.clone()), store, objects, letters, compensations } }
    }

    /// The units of one store, whose bytes are in a place that is open.
    pub fn over(store: Store, objects: Arc<dyn Objects>) -> Self {
        Self::new(store.clone(), store, ObjectsHome::given(objects), Compensations::default())
    }

    pub(crate) fn begin(&self, id: Option<CommitId>, by: Option<String>, wait: Duration) -> Working {
        Working::new(self.undoing.clone(), id, by, wait)
    }

    pub(crate) fn undoing(&self) -> &Undoing {
        &self.undoing
    }

    /// What this program knows to undo. Steps whose compensation is not known here are left to a program that knows it.
    pub fn compensations(&self) -> &Compensations {
        &self.undoing.compensations
    }

    /// Decides against a unit whose process is dead or whose time has run out, and undoes it; goes on with one that is
    /// being undone. Answers how it stands then. Several commits, each of which anybody may go on from.
    ///
    /// # Errors
    /// `NotFound`; `Conflict`, naming who works on it, when somebody does; `Invalid` when it was committed;
    /// `Unsupported`, naming it, when it needs a compensation that this program does not know.
    pub async fn abort(&self, unit: &str, reason: &str) -> Result<UnitState> {
        self.end(unit, reason).await.map_err(|e| e.during("units.abort"))
    }

    async fn end(&self, unit: &str, reason: &str) -> Result<UnitState> {
        let done = self.undoing.undo(unit, reason).await?;
        if done.state == UnitState::Committed {
            return Err(Error::invalid(format!("unit {unit} was committed: all of it happened"))
                .with_next("write what should be there instead"));
        }
        done.known(unit)
    }

    /// Tries again to undo the steps of a unit that failed, and undoes one whose process is gone. Answers how it stands
    /// then. When nothing of it is left, the dead letters of its steps are discarded.
    ///
    /// # Errors
    /// As [`Units::abort`], less the `Invalid`: a unit that is over stays as it is.
    pub async fn resume(&self, unit: &str) -> Result<UnitState> {
        self.again(unit).await.map_err(|e| e.during("units.resume"))
    }

    async fn again(&self, unit: &str) -> Result<UnitState> {
        let info = self.undoing.info(unit).await?.value;
        if info.state != UnitState::Failed {
            return self.undoing.undo(unit, "whoever worked on it is gone").await?.known(unit);
        }
        let lease = self.undoing.take(unit).await?;
        let info = self.undoing.info(unit).await?.value;
        let mut failed = self.undoing.operations(unit).await?;
        failed.retain(|o| o.status == OperationStatus::Failed);
        if info.state == UnitState::Failed {
            self.undoing.commit(steps::resume(&info, lease.token, &failed)?).await?;
        }
        let done = self.undoing.finish(unit, &lease, "").await?;
        if done.state == UnitState::Aborted {
            for step in &failed {
                self.discard_letter(step, &info.worker).await?;
            }
        }
        done.known(unit)
    }

    /// The dead letter of a step that was undone at last. One that somebody else closed stays as it is.
    async fn discard_letter(&self, step: &UnitOperation, by: &str) -> Result<()> {
        let letters = &self.undoing.letters;
        let Some(letter) = letters.get(UNITS_JOB, &Undoing::letter_of(step)).await? else { return Ok(()) };
        if !letter.value.state.is_open() {
            return Ok(());
        }
        match letters.discard(&crate::LetterRef::from(&letter), "undone when it was tried again", by).await {
            Err(error) if !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Counts one, and names it while fewer than this many are named.
fn tell<T>(named: &mut Vec<T>, most: usize, count: &mut u64, one: T) {
    *count += 1;
    if named.len() < most {
        named.push(one);
    }
}

pub(crate) mod blocking {
    //! The same for synchronous callers.
    use super::{
        CollectRequest, Collected, Duration, ForgottenUnits, Reconciled, Recovered, UnitDetail, UnitFilter, UnitInfo, UnitState,
    };
    use millpond_core::{Page, Result, Versioned};

    blocking_api! {
        /// The units, for synchronous callers.
        Units of super::Units {
            fn recover() -> Result<Recovered>;
            fn abort(unit: &str, reason: &str) -> Result<UnitState>;
            fn resume(unit: &str) -> Result<UnitState>;
            fn get(unit: &str) -> Result<Option<UnitDetail>>;
            fn list(filter: &UnitFilter) -> Result<Page<Versioned<UnitInfo>>>;
            fn collect(request: &CollectRequest) -> Result<Collected>;
            fn reconcile(limit: usize) -> Result<Reconciled>;
            fn forget(older_than: Duration, limit: usize) -> Result<ForgottenUnits>;
            fn would_forget(older_than: Duration, limit: usize) -> Result<ForgottenUnits>;
        }
    }
}
