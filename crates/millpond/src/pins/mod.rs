//! Pins: executions whose artifacts have to stay.
//!
//! ```text
//!   pin ──► execution_pins/EXECUTION {pins: [id, holder, reason, at]}     there only while there is a pin
//!                        ▲
//!   delete, prune, purge_versions, runs.delete, each in the commit that takes away: expect it absent
//! ```
//!
//! * `model.rs`: what is kept; `part.rs`: pins as parts of commits.

mod model;
mod part;

use millpond_core::{Document, Error, Page, PageCursor, Query, Records, Result, Store, Versioned, uuid_v7};

pub(crate) use model::COLLECTIONS;
pub use model::{ExecutionPins, PINS_OF_EXECUTION, Pin};
pub(crate) use part::{changed, explained, refusal, unpinned, with, without};

use crate::conditions::Conditions as _;
use crate::text::key_segment;

/// How often pins are read anew because somebody else changed them meanwhile.
const TRIES: u32 = 64;
/// What the ids of pins begin with that a replay set for itself.
pub(crate) const OF_REPLAY: &str = "replay/";

/// The pins of a namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pins {
    store: Store,
}

/// Which executions that are pinned.
#[derive(Debug, Clone)]
pub struct PinFilter {
    /// Executions that begin so, by bytes.
    pub prefix: Option<String>,
    /// With a pin of this holder.
    pub holder: Option<String>,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
    /// Continue after a page of the same filter.
    pub after: Option<PageCursor>,
}

impl Default for PinFilter {
    fn default() -> Self {
        Self { prefix: None, holder: None, limit: 100, after: None }
    }
}

impl Pins {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    fn records(&self) -> Records<ExecutionPins> {
        Records::new(self.store.clone())
    }

    /// Pins an execution: until the pin is taken out nothing of it is deleted, pruned or purged. An execution may have
    /// several pins, up to 256, of the same holder too. One commit point: the pin.
    ///
    /// # Errors
    /// `Invalid` when a text breaks a rule; `Conflict` when the execution is being pruned or was pruned.
    pub async fn pin(&self, execution: &str, holder: &str, reason: &str) -> Result<Pin> {
        let id = uuid_v7(self.store.host()).to_string();
        let pin = Pin { id, holder: holder.to_owned(), reason: reason.to_owned(), at: self.store.now() };
        self.set(execution, pin).await.map_err(|e| e.during("pins.pin"))
    }

    async fn set(&self, execution: &str, pin: Pin) -> Result<Pin> {
        named(execution)?;
        for _ in 0..TRIES {
            let found = self.read(execution).await?;
            match self.store.commit(with(execution, found.as_ref(), pin.clone())?).await {
                Ok(_) => return Ok(pin),
                Err(error) if changed(&error) => {}
                Err(error) => return Err(explained(&self.store, error).await),
            }
        }
        Err(too_busy(execution))
    }

    /// Takes a pin out, and answers it. One commit point: the pin.
    ///
    /// # Errors
    /// `NotFound` when the execution has no such pin; `Conflict` when the pin is a replay's own: the replay takes it out.
    pub async fn unpin(&self, execution: &str, id: &str) -> Result<Pin> {
        self.take_out(execution, id).await.map_err(|e| e.during("pins.unpin"))
    }

    async fn take_out(&self, execution: &str, id: &str) -> Result<Pin> {
        if let Some(replay) = id.strip_prefix(OF_REPLAY) {
            return Err(Error::conflict(format!("this pin belongs to replay {replay}, which takes it out when it ends"))
                .with_next(format!("wait for it, or end it: millpond replay cancel {replay}")));
        }
        for _ in 0..TRIES {
            let missing = || {
                Error::not_found(format!("execution {execution} has no pin {id}"))
                    .with_next(format!("see which it has: millpond pins show {execution}"))
            };
            let found = self.read(execution).await?.ok_or_else(missing)?;
            let (pin, commit) = without(&found, id)?.ok_or_else(missing)?;
            match self.store.commit(commit).await {
                Ok(_) => return Ok(pin),
                Err(error) if changed(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(too_busy(execution))
    }

    /// The pins of an execution, or `None` when it is not pinned.
    ///
    /// # Errors
    /// `Corrupt` when the record does not read back.
    pub async fn get(&self, execution: &str) -> Result<Option<Versioned<ExecutionPins>>> {
        self.read(execution).await.map_err(|e| e.during("pins.get"))
    }

    pub(crate) async fn read(&self, execution: &str) -> Result<Option<Versioned<ExecutionPins>>> {
        self.records().get(&key_segment(execution)).await
    }

    /// A page of executions that are pinned, with their pins, by execution.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn list(&self, filter: &PinFilter) -> Result<Page<Versioned<ExecutionPins>>> {
        self.page(filter).await.map_err(|e| e.during("pins.list"))
    }

    async fn page(&self, filter: &PinFilter) -> Result<Page<Versioned<ExecutionPins>>> {
        let mut query = Query::new(ExecutionPins::COLLECTION.name())?.limit(filter.limit).after(filter.after.clone());
        query = query.given_prefix("execution", filter.prefix.as_ref());
        if let Some(holder) = &filter.holder {
            query = query.has("holders", holder);
        }
        self.records().page(query).await
    }
}

fn named(execution: &str) -> Result<()> {
    if execution.is_empty() {
        return Err(Error::invalid("an execution without a name cannot be pinned").with_next("name the execution"));
    }
    Ok(())
}

pub(crate) fn too_busy(execution: &str) -> Error {
    Error::conflict(format!("others changed the pins of execution {execution} {TRIES} times meanwhile")).with_next("try again")
}

pub(crate) mod blocking {
    //! The same for synchronous callers.
    use super::{ExecutionPins, Pin, PinFilter};
    use millpond_core::{Page, Result, Versioned};

    blocking_api! {
        /// The pins, for synchronous callers.
        Pins of super::Pins {
            fn pin(execution: &str, holder: &str, reason: &str) -> Result<Pin>;
            fn unpin(execution: &str, id: &str) -> Result<Pin>;
            fn get(execution: &str) -> Result<Option<Versioned<ExecutionPins>>>;
            fn list(filter: &PinFilter) -> Result<Page<Versioned<ExecutionPins>>>;
        }
    }
}
