//! A unit whose id its caller gave, who may have been here before: after an outcome that nobody heard, or a crash.
//!
//! ```text
//!   committed before          nothing is done again: operations are answered as if they were, the commit with the receipt
//!   pending, or being undone  refused, naming it: its id is taken
//!   nothing there             a unit as any other
//! ```

use std::sync::atomic::Ordering;

use millpond_core::{CommitId, Error, Receipt, Records, Result, Store};

use super::model::{UnitInfo, UnitState};
use super::work::Working;
use super::{Units, steps};

impl Working {
    /// Whether a unit of this id is known to have been committed before: then nothing of this one reaches the store.
    pub(crate) fn is_repeated(&self) -> bool {
        self.before().load(Ordering::Acquire)
    }

    /// The same, asking the store if that has to be. To be asked before anything that the first one may have changed.
    ///
    /// # Errors
    /// `Conflict`, naming the unit, when there is one of this id that is not committed.
    pub(crate) async fn repeats(&self) -> Result<bool> {
        if self.is_repeated() {
            return Ok(true);
        }
        if !self.may_repeat() {
            return Ok(false);
        }
        self.was_decided().await
    }

    /// Looks at the store.
    ///
    /// # Errors
    /// As [`Working::repeats`].
    pub(super) async fn was_decided(&self) -> Result<bool> {
        let store = &self.undoing().store;
        // A short put that was aborted has a receipt, too, and a record that says so.
        let has_receipt = store.outcome(steps::commit_id(self.id())?).await?.is_some();
        let decided = match Records::<UnitInfo>::new(store.clone()).get(self.id()).await? {
            None => has_receipt,
            Some(found) if found.value.state == UnitState::Committed => true,
            Some(found) => return Err(taken(&found.value)),
        };
        if decided {
            self.before().store(true, Ordering::Release);
        }
        Ok(decided)
    }

    /// The receipt of the one that was committed before.
    ///
    /// # Errors
    /// `Conflict` when it is not kept any more.
    pub(super) async fn receipt(&self) -> Result<Receipt> {
        match self.undoing().store.outcome(steps::commit_id(self.id())?).await? {
            Some(receipt) => Ok(Receipt { replayed: true, ..receipt }),
            None => Err(self.no_receipt()),
        }
    }

    /// What a unit is told whose first commit is so long ago that its receipt is forgotten.
    pub(crate) fn no_receipt(&self) -> Error {
        Error::conflict(format!("unit {} was committed so long ago that its receipt is not kept any more", self.id()))
            .with("unit", self.id())
            .with_next("all of it happened: begin what is new with a new id")
    }
}

impl Units {
    /// That the receipt of an id is not that of a short put that was aborted.
    ///
    /// # Errors
    /// `Conflict`, naming the unit, when it is.
    pub(crate) async fn not_aborted(&self, store: &Store, id: CommitId) -> Result<()> {
        let own = &self.undoing().store;
        if (store.store_id(), store.namespace()) != (own.store_id(), own.namespace()) {
            return Ok(());
        }
        match Records::<UnitInfo>::new(own.clone()).get(&id.to_string()).await? {
            Some(found) if found.value.state != UnitState::Committed => Err(taken(&found.value)),
            _ => Ok(()),
        }
    }
}

/// What somebody is told who begins a unit whose id is taken.
fn taken(info: &UnitInfo) -> Error {
    let (id, worker, began) = (&info.id, &info.worker, info.began);
    let because = info.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let (stands, next) = match info.state {
        UnitState::Pending => (
            "is not decided yet".to_owned(),
            format!("wait for it, or end it: millpond units abort {id} --reason TEXT; then begin with a new id"),
        ),
        UnitState::Aborted => (format!("was aborted{because}"), "nothing of it happened: begin again with a new id".to_owned()),
        state => (
            format!("is {state}{because}"),
            format!("see what is left of it: millpond units show {id}; begin again with a new id"),
        ),
    };
    Error::conflict(format!("there is a unit {id} already, begun by {worker} at {began}, which {stands}"))
        .with("unit", id)
        .with_next(next)
}
