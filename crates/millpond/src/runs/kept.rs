//! What a run has to do with the execution of its name: one that is pinned is not deleted, one that was written off is not
//! started.
//!
//! ```text
//!   runs and artifacts in one store:   the commit expects it, there is no moment in between
//!   in two stores:                     it is looked at right before the commit
//! ```

use std::sync::Arc;

use millpond_core::{Error, Expectation, Records, Result, Store};

use super::Runs;
use crate::text::key_segment;
use crate::{ExecutionPins, Prune, pins, prune};

impl Runs {
    /// The same runs, with pins and marks of executions in this store.
    pub(crate) fn beside(self, store: Store) -> Self {
        Self { beside: Some(store), ..self }
    }

    /// Whether one commit can expect something of this store and of the runs.
    pub(crate) fn shares(&self, store: &Store) -> bool {
        Arc::ptr_eq(self.store.engine(), store.engine())
    }

    /// What the commit expects that deletes a run.
    ///
    /// # Errors
    /// `Conflict`, naming the pin, when the execution of its name is pinned.
    pub(super) async fn unpinned(&self, run: &str) -> Result<Option<Expectation>> {
        let Some(beside) = &self.beside else { return Ok(None) };
        // What cannot be the name of a record of pins has none.
        let Ok(expected) = pins::unpinned(run) else { return Ok(None) };
        if let Some(found) = Records::<ExecutionPins>::new(beside.clone()).get(&key_segment(run)).await? {
            return Err(pins::refusal(&found.value));
        }
        Ok(self.shares(beside).then_some(expected))
    }

    /// What the commit expects that starts a run.
    ///
    /// # Errors
    /// `Conflict` when the execution of its name was written off.
    pub(super) async fn not_written_off(&self, run: &str) -> Result<Option<Expectation>> {
        let Some(beside) = &self.beside else { return Ok(None) };
        let Ok(expected) = prune::open(run) else { return Ok(None) };
        if self.shares(beside) {
            return Ok(Some(expected));
        }
        match Records::<Prune>::new(beside.clone()).get(&key_segment(run)).await? {
            None => Ok(None),
            Some(_) => Err(prune::written_off(Error::conflict("it was written off"), run)),
        }
    }
}
