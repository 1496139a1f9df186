//! Steps outside of the store, and what undoes them.
//!
//! ```text
//!   registered PENDING ──► the step is done ──► the unit commits: DONE
//!        └── the unit is aborted ──► compensation ──► COMPENSATED
//!                                        └─ fails, pause, again … ──► FAILED, with a dead letter
//! ```
//!
//! A compensation may run more than once: whoever ran it can end before that is noted. It has to bear that.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use millpond_core::{Error, Result};
use serde_json::Value;

use super::model::{OperationStatus, UnitOperation};
use super::steps;
use super::undo::Undoing;
use crate::locks::Lease;
use crate::{DeadLetteredItem, FailureDetail, text};

/// How long one try of a compensation may take. What takes longer has failed, so that one that hangs holds nothing for ever.
pub const COMPENSATION_TIME: Duration = Duration::from_secs(60 * 60);
/// How often a compensation is tried before a person is asked.
pub const COMPENSATION_TRIES: u32 = 5;
/// The pause after the first failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The job under which steps that could not be undone are found among the dead letters.
pub const UNITS_JOB: &str = "units";

/// A step that has to be undone.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StepToUndo {
    /// The unit.
    pub unit: String,
    /// The step's number within the unit.
    pub number: u32,
    /// What the step is called.
    pub step: String,
    /// What the compensation is told.
    pub args: Value,
    /// How often it failed before.
    pub attempts: u32,
}

type Handler = Arc<dyn Fn(StepToUndo) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// The compensations that this program knows, by name. Clones share them.
#[derive(Clone, Default)]
pub struct Compensations {
    known: Arc<RwLock<BTreeMap<String, Handler>>>,
}

impl fmt::Debug for Compensations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Compensations {
    /// Says what undoes steps whose compensation has this name, in this process. A later one of the same name counts.
    ///
    /// It may be called for a step that did not happen, and more than once for one that did: it has to look first.
    pub fn register<F, R>(&self, name: impl Into<String>, compensation: F)
    where
        F: Fn(StepToUndo) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |step| Box::pin(compensation(step)));
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), handler);
    }

    /// The names that are known.
    pub fn names(&self) -> Vec<String> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn get(&self, name: &str) -> Option<Handler> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// What became of undoing a step.
pub(super) enum StepUndone {
    Undone,
    Failed,
    /// This program does not know the compensation.
    Unknown(String),
}

/// Undoes one step, with pauses between failures. Each try is noted before the next. Whoever calls it renews the lease
/// meanwhile, and drops it once that is lost.
///
/// # Errors
/// `Fenced` when the unit's lease is another's by now; what the store fails with.
pub(super) fn undo_step<'a>(
    undoing: &'a Undoing,
    lease: &'a Lease,
    step: &'a mut UnitOperation,
) -> BoxFuture<'a, Result<StepUndone>> {
    // In a box: adding a dead letter may itself be a unit, whose futures would lie inside this one's.
    Box::pin(undone(undoing, lease, step))
}

async fn undone(undoing: &Undoing, lease: &Lease, step: &mut UnitOperation) -> Result<StepUndone> {
    let name = step.compensation.clone().unwrap_or_default();
    let Some(handler) = undoing.compensations.get(&name) else { return Ok(StepUndone::Unknown(name)) };
    loop {
        let told = StepToUndo {
            unit: step.unit.clone(),
            number: step.number,
            step: step.path.clone(),
            args: step.args.clone().unwrap_or_default(),
            attempts: step.attempts,
        };
        let began = undoing.store.now();
        let tried = tokio::time::timeout(COMPENSATION_TIME, handler(told)).await;
        match tried.unwrap_or_else(|_| Err(Error::unavailable(format!("it took longer than {COMPENSATION_TIME:?}")))) {
            Ok(()) => {
                step.status = OperationStatus::Compensated;
                step.error = None;
                undoing.commit(steps::step(lease.token, step)?).await?;
                return Ok(StepUndone::Undone);
            }
            Err(error) => {
                step.attempts += 1;
                step.error = Some(text::cut(&error.to_string(), steps::REASON_BYTES).to_owned());
                if step.attempts >= COMPENSATION_TRIES {
                    // The letter first: a step that says FAILED has one. Adding it again changes nothing.
                    let letter = letter(step, &error, began, undoing.store.now());
                    undoing.letters.add(UNITS_JOB, letter).await?;
                    step.status = OperationStatus::Failed;
                }
                undoing.commit(steps::step(lease.token, step)?).await?;
                if step.status == OperationStatus::Failed {
                    return Ok(StepUndone::Failed);
                }
                pause(undoing, lease, step.attempts).await?;
            }
        }
    }
}

async fn pause(undoing: &Undoing, lease: &Lease, attempts: u32) -> Result<()> {
    let longest = FIRST_PAUSE * 2u32.saturating_pow(attempts.saturating_sub(1)).min(64);
    let thousandths = u32::try_from(undoing.store.host().random() % 501).unwrap_or(0);
    tokio::time::sleep(longest * (500 + thousandths) / 1_000).await;
    undoing.locks.renew(lease, lease.ttl).await.map(drop)
}

/// What a person is shown of a step that could not be undone.
fn letter(
    step: &UnitOperation,
    error: &Error,
    began: millpond_core::Timestamp,
    now: millpond_core::Timestamp,
) -> DeadLetteredItem {
    let said = error.to_string();
    let mut failure = FailureDetail::of(now, crate::ErrorType::Unknown, text::cut(&said, steps::REASON_BYTES));
    failure.attempt_number = step.attempts;
    failure.step_failed.clone_from(&step.path);
    failure.duration_us = u64::try_from(now.since(began).as_micros()).unwrap_or(u64::MAX);
    let data = serde_json::json!({
        "unit": step.unit, "number": step.number, "step": step.path,
        "compensation": step.compensation, "args": step.args,
        "next": format!("millpond units resume {}", step.unit),
    });
    let mut item = DeadLetteredItem::of(Undoing::letter_of(step), data, failure);
    // It is tried again with its unit, under the unit's lease, and by nobody who drains dead letters.
    item.reprocess_eligible = false;
    item.manual_review_required = true;
    item.failure_count = step.attempts;
    item
}
