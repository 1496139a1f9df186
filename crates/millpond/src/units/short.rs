//! A unit of one put whose bytes are at hand: nothing is registered, and it costs one commit.
//!
//! ```text
//!   is the path free? ─► bytes to a fresh location ─► ONE commit, above the floor, the path free: artifact, version, event
//!      refused ─► one commit under the same id: the unit was aborted. Then its bytes go
//!      crash   ─► bytes of a unit that nobody knows: the collector's, once the floor has passed it
//! ```
//!
//! A registration tells others what a unit may have left, and keeps its paths while it goes on. This one goes on for as
//! long as one upload takes, and what it may leave is told by the place: an object whose unit has no record. The floor
//! makes that safe, as it does for units that were forgotten: below it nothing is decided any more. And an id is good for
//! one commit: of a decision and an abort only one can ever be applied, however late the other arrives.

use std::sync::atomic::{AtomicBool, Ordering};

use millpond_core::{Commit, Conflict, Document, Error, ErrorKind, Expectation, Expected, Outcome, Records, Result};

use super::model::{OperationKind, PathClaim, UnitInfo, UnitOperation};
use super::steps;
use super::undo::Undoing;
use super::work::{TRIES, Wanted, Working, is_floor};

/// The put of such a unit.
#[derive(Debug)]
pub(super) struct ShortPut {
    operation: UnitOperation,
    /// A decision was sent, and nobody knows what became of it.
    sent: AtomicBool,
}

impl Working {
    /// Makes sure that nobody has a path: a unit that has it and whose time has run out is undone.
    ///
    /// # Errors
    /// `Conflict`, naming who has it.
    pub(crate) async fn free(&self, path: &str) -> Result<()> {
        self.undoing().free(path, self.id()).await
    }

    /// The put that is the only operation of this unit. From here on bytes may be at its location.
    ///
    /// # Errors
    /// `Fenced` when the unit was given up.
    pub(crate) fn short(&self, path: &str) -> Result<UnitOperation> {
        let operation = self.operation(&mut self.queue(), Wanted::of(OperationKind::Put, path))?;
        let short = self.short.get_or_init(|| ShortPut { operation, sent: AtomicBool::new(false) });
        Ok(short.operation.clone())
    }

    /// Decides for the unit: one commit point.
    ///
    /// # Errors
    /// `Conflict`, naming who, when somebody else has the path by now; otherwise as [`Working::decide`].
    pub(super) async fn decide_short(&self, short: &ShortPut, parts: Commit) -> Result<Outcome> {
        let path = &short.operation.path;
        let commit = steps::decide_short(self.info(), path, parts)?;
        let mut ways = 0;
        loop {
            short.sent.store(true, Ordering::Release);
            let refused = match self.undoing().store.try_commit(commit.clone()).await {
                Ok(Outcome::Conflict(refused)) => refused,
                // Not applied; but an earlier sending of it may have been, that a conflict was heard of.
                Err(error) if ways == 0 && error.kind() != ErrorKind::UnknownOutcome => {
                    short.sent.store(false, Ordering::Release);
                    return Err(error);
                }
                decided => {
                    self.end();
                    return decided.map_err(|error| unsure(self.id(), error));
                }
            };
            let told = match is_claimed(&refused) {
                true if ways < TRIES => self.free(path).await.err(),
                true => Some(self.changed_hands()),
                false => Some(if is_floor(&refused) { too_slow(self.id()) } else { Error::from_conflict(refused.clone()) }),
            };
            let Some(told) = told else {
                ways += 1;
                continue;
            };
            return match self.undoing().abort_short(self.info(), short, &told.to_string()).await {
                Ok(true) if is_claimed(&refused) || is_floor(&refused) => Err(told),
                Ok(true) => Ok(Outcome::Conflict(refused)),
                // What was sent first, and not heard of, was applied meanwhile.
                Ok(false) => {
                    self.end();
                    self.receipt().await.map(Outcome::Committed)
                }
                Err(failed) => {
                    self.end();
                    Err(unsure(self.id(), failed))
                }
            };
        }
    }
}

impl Undoing {
    /// Says that the unit was aborted, unless it was committed: then the answer is false.
    async fn abort_short(&self, info: &UnitInfo, short: &ShortPut, reason: &str) -> Result<bool> {
        let abort = steps::abort_short(info, &short.operation, reason, self.store.now())?;
        let is_aborted = match self.store.try_commit(abort).await {
            Ok(outcome) => matches!(outcome, Outcome::Committed(_)),
            // Its id was used for another commit: the decision, or an abort that nobody stayed to hear of.
            Err(error)
                if error.kind() == ErrorKind::Invalid && self.store.outcome(steps::commit_id(&info.id)?).await?.is_some() =>
            {
                Records::<UnitInfo>::new(self.store.clone()).get(&info.id).await?.is_some()
            }
            Err(error) => return Err(error),
        };
        if is_aborted {
            short.sent.store(false, Ordering::Release);
        }
        Ok(is_aborted)
    }

    /// Undoes a unit of one put, unless it was committed.
    ///
    /// # Errors
    /// What the store or the place fails with: what is left is the collector's.
    pub(super) async fn undo_short(&self, info: &UnitInfo, short: &ShortPut, reason: &str) -> Result<()> {
        if short.sent.load(Ordering::Acquire) && !self.abort_short(info, short, reason).await? {
            return Ok(());
        }
        self.remove_bytes(std::slice::from_ref(&short.operation)).await
    }
}

/// Whether a commit was refused because a unit has the path.
fn is_claimed(refused: &Conflict) -> bool {
    matches!(&refused.expected, Expected::Stated(Expectation::Absent(id)) if id.collection.as_str() == PathClaim::COLLECTION.name())
}

/// The collector may have taken its bytes.
fn too_slow(unit: &str) -> Error {
    Error::conflict(format!("unit {unit}, a write, is older than what the collector of unused bytes has left open"))
        .with_next("write it again; where this happens again, set the clock of this machine")
}

/// Nobody can tell whether the unit was committed.
fn unsure(unit: &str, error: Error) -> Error {
    if error.kind() == ErrorKind::UnknownOutcome {
        return error;
    }
    Error::new(ErrorKind::UnknownOutcome, format!("unit {unit} was refused, and may be committed yet"))
        .with("unit", unit)
        .with_next("read the artifact to see")
        .with_source(error)
}
