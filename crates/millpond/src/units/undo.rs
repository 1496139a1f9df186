//! Undoing a unit: what anybody may do once its lease can be taken.
//!
//! Every step can be done again, by the same process or another: who ends in the middle leaves a unit that the next one
//! undoes from where it stands. The lease is renewed until nothing is left to do, however much there is.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use millpond_core::{Document, Error, ErrorKind, Outcome, Query, Records, Result, Store, Versioned};
use millpond_objects::Location;

use super::compensate::{Compensations, StepUndone, undo_step};
use super::model::{OperationKind, OperationStatus, PathClaim, UnitInfo, UnitOperation, UnitState};
use super::steps;
use crate::locks::{Attempt, Lease, LockRequest, Locks};
use crate::objects::ObjectsHome;
use crate::{DeadLetters, text};

/// Operations that are read at once.
const PAGE: usize = 500;
/// Objects that are removed at once.
const REMOVED_AT_ONCE: usize = 16;

/// What undoing needs.
#[derive(Debug, Clone)]
pub(crate) struct Undoing {
    pub(crate) store: Store,
    pub(crate) locks: Locks,
    pub(crate) objects: ObjectsHome,
    pub(crate) letters: DeadLetters,
    pub(crate) compensations: Compensations,
}

/// How a unit stands after somebody tried to undo it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undone {
    pub(crate) state: UnitState,
    /// A compensation that this program does not know: another one has to go on.
    pub(crate) needs: Option<String>,
}

impl Undone {
    fn in_state(state: UnitState) -> Self {
        Self { state, needs: None }
    }

    /// How the unit stands, if this program knows what it takes to go on.
    ///
    /// # Errors
    /// `Unsupported`, naming the compensation that it does not know.
    pub(super) fn known(self, unit: &str) -> Result<UnitState> {
        match self.needs {
            None => Ok(self.state),
            Some(name) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("unit {unit} has a step that is undone by {name:?}, which this program does not know"),
            )
            .with("unit", unit)
            .with_next("register it, or name a program for it: millpond units resume --compensation NAME=PROGRAM")),
        }
    }

    /// Nothing, if nothing of the unit is left.
    ///
    /// # Errors
    /// As [`Undone::known`]; `Unavailable` when a step could not be undone.
    pub(super) fn whole(self, unit: &str) -> Result<()> {
        match self.known(unit)? {
            UnitState::Failed => Err(Error::unavailable(format!("a step of unit {unit} could not be undone"))
                .with("unit", unit)
                .with_next(format!("see why, and try again: millpond units show {unit}, millpond units resume {unit}"))),
            _ => Ok(()),
        }
    }
}

impl Undoing {
    /// Undoes a unit whose lease is free, has run out, or whose holder is dead, and answers how it stands then.
    ///
    /// # Errors
    /// `NotFound` when there is no such unit; `Conflict`, naming who works on it, when somebody does.
    pub(crate) async fn undo(&self, unit: &str, reason: &str) -> Result<Undone> {
        let info = self.info(unit).await?;
        if info.value.state.is_over() {
            return Ok(Undone::in_state(info.value.state));
        }
        let lease = self.take(unit).await?;
        self.finish(unit, &lease, reason).await
    }

    /// Undoes the unit that has a path, if there is one and that may be done. `unit` is who wants it.
    ///
    /// # Errors
    /// `Conflict`, naming who has it.
    pub(super) async fn free(&self, path: &str, unit: &str) -> Result<()> {
        let Some(claim) = Records::<PathClaim>::new(self.store.clone()).get(path).await? else { return Ok(()) };
        let reason = format!("its time had run out, and unit {unit} wanted {path}");
        self.undo(&claim.value.unit, &reason).await.map(drop).map_err(|error| error.with("path", path))
    }

    /// Takes a unit's lease, if that may be done.
    ///
    /// # Errors
    /// `Conflict`, naming who works on it.
    pub(super) async fn take(&self, unit: &str) -> Result<Lease> {
        let request = LockRequest::of(steps::lease(unit)?.as_str(), steps::TTL).purpose("undoing a unit of work");
        match self.locks.try_acquire(&request).await? {
            Attempt::Acquired(lease) => Ok(lease),
            Attempt::Held(info) => {
                let holder = &info.lease.holder.name;
                Err(Error::conflict(format!("unit {unit} is being worked on by {holder} until {}", info.lease.deadline))
                    .with("unit", unit)
                    .with("holder", holder)
                    .with_next("wait for it, or until its time has run out"))
            }
        }
    }

    /// Undoes a unit of this process. Its lease is taken anew first, as by anybody else: what this process sent under the
    /// old token and did not hear of, a registration or the decision itself, is refused from then on, however late it is.
    ///
    /// # Errors
    /// `Fenced` when the lease is another's by now.
    pub(crate) async fn undo_own(&self, unit: &str, lease: &Lease, reason: &str) -> Result<Undone> {
        let anew = steps::retake(unit, lease.token, self.locks.this_process())?;
        let lease = match self.store.try_commit(anew).await? {
            Outcome::Committed(receipt) => Lease {
                token: receipt.revisions.first().copied().unwrap_or_default(),
                deadline: receipt.time.plus(steps::TTL),
                ttl: steps::TTL,
                ..lease.clone()
            },
            Outcome::Conflict(_) => {
                return Err(Error::new(ErrorKind::Fenced, format!("unit {unit} was taken over")).with("unit", unit));
            }
        };
        self.finish(unit, &lease, reason).await
    }

    /// Undoes a unit whose lease is ours.
    ///
    /// # Errors
    /// `Fenced` when the lease is another's by now.
    pub(super) async fn finish(&self, unit: &str, lease: &Lease, reason: &str) -> Result<Undone> {
        // Read under the lease: who had it before may have decided in the meantime.
        let mut info = self.info(unit).await?.value;
        if info.state.is_over() {
            self.store.try_commit(steps::released(unit, lease.token)?).await?;
            return Ok(Undone::in_state(info.state));
        }
        let mut operations = self.operations(unit).await?;
        if info.state == UnitState::Pending {
            self.commit(steps::abort(&info, lease.token, reason, &operations)?).await?;
            info = self.info(unit).await?.value;
        }
        // Nothing is undone any more once the lease is lost: who has it then does the rest.
        let undone = tokio::select! {
            undone = self.undo_operations(lease, &mut operations) => undone?,
            lost = self.locks.keep(lease) => return Err(lost.err().unwrap_or_else(|| Error::unavailable("the lease was lost"))),
        };
        match undone.needs {
            Some(_) => drop(self.store.try_commit(steps::released(unit, lease.token)?).await?),
            None => self.commit(steps::undone(&info, lease.token, self.store.now(), undone.state)?).await?,
        }
        Ok(undone)
    }

    /// Undoes the steps of a unit, the last one first, and then removes its bytes, unless it needs another program.
    async fn undo_operations(&self, lease: &Lease, operations: &mut [UnitOperation]) -> Result<Undone> {
        let mut state = UnitState::Aborted;
        for step in operations.iter_mut().rev() {
            match step.status {
                _ if step.kind != OperationKind::Step => continue,
                OperationStatus::Pending => {}
                OperationStatus::Failed => {
                    state = UnitState::Failed;
                    break;
                }
                OperationStatus::Done | OperationStatus::Compensated => continue,
            }
            match undo_step(self, lease, step).await? {
                StepUndone::Undone => {}
                StepUndone::Failed => {
                    // What was done before it stays: its undoing may lean on what could not be undone.
                    state = UnitState::Failed;
                    break;
                }
                StepUndone::Unknown(needs) => return Ok(Undone { state: UnitState::Aborting, needs: Some(needs) }),
            }
        }
        self.remove_bytes(operations).await?;
        Ok(Undone::in_state(state))
    }

    pub(super) async fn remove_bytes(&self, operations: &[UnitOperation]) -> Result<()> {
        let locations = operations.iter().filter(|o| o.kind.has_bytes()).filter_map(|o| o.location.as_deref());
        let locations = locations.map(str::parse).collect::<Result<Vec<Location>>>()?;
        if locations.is_empty() {
            return Ok(());
        }
        let objects = self.objects.get(&self.store).await?;
        let removals = locations.into_iter().map(|location| {
            let objects = Arc::clone(&objects);
            async move { objects.remove(&location).await }
        });
        stream::iter(removals).buffer_unordered(REMOVED_AT_ONCE).try_collect().await
    }

    pub(super) async fn commit(&self, commit: millpond_core::Commit) -> Result<()> {
        match self.store.try_commit(commit).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Conflict(conflict) => Err(Error::from_conflict(conflict)),
        }
    }

    pub(crate) async fn info(&self, unit: &str) -> Result<Versioned<UnitInfo>> {
        let found = Records::<UnitInfo>::new(self.store.clone()).get(unit).await?;
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no unit {unit}"))
                .with_next("see which there are: millpond units list")
        })
    }

    pub(crate) async fn operations(&self, unit: &str) -> Result<Vec<UnitOperation>> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let query = Query::new(UnitOperation::COLLECTION.name())?.eq("unit", unit).limit(PAGE).after(after);
            let page = self.store.query(query).await?;
            if let Some(damaged) = page.damaged.into_iter().next() {
                return Err(
                    Error::corrupt(format!("an operation of unit {unit} does not read back")).with("record", damaged.what)
                );
            }
            for record in page.items {
                found.push(record.value.decode::<UnitOperation>()?);
            }
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// The id under which a step's dead letter is kept, in the job `units`.
    pub(super) fn letter_of(step: &UnitOperation) -> String {
        text::key_segment(&format!("{}.{}", step.unit, step.number))
    }
}
