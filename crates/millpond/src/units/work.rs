//! A unit that is being worked on by this process.
//!
//! ```text
//!   claim ──► put bytes ──► decide      every step names what it does before it does it; leaving at any point leaves
//!     └──────────┴────► undo            a unit that `undo.rs` finds and undoes
//! ```
//!
//! What several callers want to register at once goes in one commit: one of them has the turn and takes along whatever
//! waits. An entry leaves the queue only when the commit with it was answered, so a caller that is dropped in the
//! middle costs nobody else anything: the next one with the turn finds it registered already.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use millpond_core::{
    Commit, CommitId, Conflict, Document, Error, ErrorKind, Expectation, Expected, Outcome, Records, Result, uuid_v7,
};
use millpond_objects::Location;
use serde_json::Value;

use super::model::{OperationKind, OperationStatus, PathClaim, UnitFloor, UnitInfo, UnitOperation, UnitState};
use super::queue::{Batch, OPERATIONS, Queue};
use super::short::ShortPut;
use super::steps;
use super::undo::Undoing;
use crate::locks::Lease;

/// Why a unit is undone whose owner let go of it.
const GIVEN_UP: &str = "it was given up";
/// How often a path is claimed anew after what stood in the way was undone.
pub(super) const TRIES: u32 = 64;
/// The first and the longest pause of who waits for a path.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// What somebody wants to register.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) kind: OperationKind,
    pub(crate) path: String,
    pub(crate) compensation: Option<String>,
    pub(crate) args: Option<Value>,
}

impl Wanted {
    pub(crate) fn of(kind: OperationKind, path: &str) -> Self {
        Self { kind, path: path.to_owned(), compensation: None, args: None }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Working {
    undoing: Undoing,
    info: UnitInfo,
    /// How long somebody else's path is waited for.
    wait: Duration,
    /// Once the unit is in the store.
    lease: OnceLock<Lease>,
    /// Who registers.
    turn: tokio::sync::Mutex<()>,
    queue: Mutex<Queue>,
    renewing: Mutex<Option<tokio::task::AbortHandle>>,
    decided: AtomicBool,
    /// The id was given: there may be a unit of it already.
    given: bool,
    /// There is, and it was committed: nothing is done again.
    before: AtomicBool,
    /// The only operation of a unit that is not registered: see `short.rs`.
    pub(super) short: OnceLock<ShortPut>,
}

impl Working {
    /// A unit that nobody knows of yet. Its id, if given, is the id of the commit that decides.
    pub(super) fn new(undoing: Undoing, id: Option<CommitId>, by: Option<String>, wait: Duration) -> Self {
        let store = &undoing.store;
        let given = id.is_some();
        let worker = by.unwrap_or_else(|| undoing.locks.process_name());
        let id = id.map_or_else(|| uuid_v7(store.host()).to_string(), |id| id.to_string());
        let info = UnitInfo {
            id,
            state: UnitState::Pending,
            worker,
            began: store.now(),
            ended: None,
            reason: None,
            extra: crate::extra::Extra::new(),
        };
        Self {
            undoing,
            info,
            wait,
            lease: OnceLock::new(),
            turn: tokio::sync::Mutex::default(),
            queue: Mutex::default(),
            renewing: Mutex::default(),
            decided: AtomicBool::new(false),
            given,
            before: AtomicBool::new(false),
            short: OnceLock::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.info.id
    }

    pub(super) fn info(&self) -> &UnitInfo {
        &self.info
    }

    pub(crate) fn undoing(&self) -> &Undoing {
        &self.undoing
    }

    /// Whether a unit of this id may have been there before, as far as this process knows.
    pub(super) fn may_repeat(&self) -> bool {
        self.given && self.lease.get().is_none() && !self.queue().is_unheard()
    }

    /// That a unit of this id was committed before.
    pub(super) fn before(&self) -> &AtomicBool {
        &self.before
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a path and registers what is done with it. What others want at the same time goes in the same commit. A
    /// unit in the way whose time has run out, or whose process is dead, is undone first. Whoever claims has to
    /// [`Working::finish`] as well, or the decision leaves the operation out.
    ///
    /// # Errors
    /// `Conflict`, naming who has it, when the path is another's; `Fenced` when this unit was taken over, or is decided.
    pub(crate) async fn claim(&self, wanted: Wanted) -> Result<UnitOperation> {
        let operation = self.enqueue(wanted)?;
        let _turn = self.turn.lock().await;
        loop {
            if let Some(done) = self.queue().done(operation.number)? {
                return Ok(done);
            }
            // Why something was refused hears whoever asked for it.
            let _ = self.register().await;
        }
    }

    fn enqueue(&self, wanted: Wanted) -> Result<UnitOperation> {
        let mut queue = self.queue();
        let operation = self.operation(&mut queue, wanted)?;
        queue.push(operation.clone());
        Ok(operation)
    }

    /// An operation with a number and a location of its own.
    pub(super) fn operation(&self, queue: &mut Queue, wanted: Wanted) -> Result<UnitOperation> {
        if let Some(error) = &queue.failed {
            return Err(error.duplicate());
        }
        if queue.is_closed() {
            return Err(closed(&self.info.id));
        }
        if queue.is_full() {
            return Err(Error::invalid(format!(
                "unit {} has {OPERATIONS} operations, the most that one commit decides",
                self.info.id
            ))
            .with_next("commit it, and go on with another unit"));
        }
        let number = queue.next_number();
        let location = wanted.kind.has_bytes().then(|| Location::new(steps::id_of(&self.info.id), number).to_string());
        Ok(UnitOperation {
            unit: self.info.id.clone(),
            number,
            kind: wanted.kind,
            path: wanted.path,
            location,
            status: OperationStatus::Pending,
            compensation: wanted.compensation,
            args: wanted.args,
            attempts: 0,
            error: None,
            extra: crate::extra::Extra::new(),
        })
    }

    /// Says that an operation did all that it has to do before the decision.
    ///
    /// # Errors
    /// `Fenced` when the decision began without it: it is no part of the unit.
    pub(crate) fn finish(&self, number: u32) -> Result<()> {
        if self.queue().finish(number) { Ok(()) } else { Err(closed(&self.info.id)) }
    }

    /// Says that an operation brought nothing. What it is told by is shown with it once the unit is committed.
    pub(crate) fn failed(&self, number: u32, error: &Error) {
        self.queue().fail(number, error);
    }

    /// The unit is about to be decided, or undone: what is not finished by now is no part of it.
    pub(crate) fn close(&self) {
        self.queue().close();
    }

    /// Registers what waits, or a part of it. Only who has the turn comes here.
    async fn register(&self) -> Result<()> {
        let batch = self.queue().send();
        let done = self.write(&batch).await;
        let mut queue = self.queue();
        queue.heard(&batch);
        match done {
            Ok(numbers) => {
                queue.register(batch, &numbers);
                Ok(())
            }
            Err(error) => {
                queue.refuse(&batch, &error);
                Err(error)
            }
        }
    }

    /// Writes a batch, and answers which of it is in the store then: all, or what an earlier sending brought there.
    async fn write(&self, batch: &Batch) -> Result<BTreeSet<u32>> {
        let entries = &batch.entries;
        let give_up = tokio::time::Instant::now() + self.wait;
        let mut pause = PAUSES.0;
        let mut ways = 0;
        loop {
            if self.is_repeated() {
                return Ok(entries.iter().map(|entry| entry.operation.number).collect());
            }
            self.queue().sent(batch);
            let commit = match self.lease.get() {
                None => steps::begin(&self.info, self.undoing.locks.this_process(), steps::TTL, entries)?,
                Some(lease) => steps::register(&self.info, lease.token, entries)?,
            };
            let conflict = match self.undoing.store.try_commit(commit).await? {
                Outcome::Committed(receipt) => {
                    if self.lease.get().is_none() {
                        self.keep(receipt.revisions.first().copied().unwrap_or_default(), receipt.time.plus(steps::TTL))?;
                    }
                    return Ok(entries.iter().map(|entry| entry.operation.number).collect());
                }
                Outcome::Conflict(conflict) => conflict,
            };
            let before = self.registered_before(batch).await?;
            if !before.is_empty() {
                return Ok(before);
            }
            if self.given && self.lease.get().is_none() && self.was_decided().await? {
                continue;
            }
            // This was answered: whoever is dropped while it waits leaves nothing that is not known.
            self.queue().heard(batch);
            let held = match self.make_way(conflict).await {
                Ok(()) if self.queue().is_closed() && batch.unheard.is_empty() => return Err(self.too_late()),
                Ok(()) if ways < TRIES => {
                    ways += 1;
                    continue;
                }
                Ok(()) => return Err(self.changed_hands()),
                Err(held) => held,
            };
            // A decision that waits for its turn is not kept waiting for what is no part of it.
            if !held.is_conflict() || self.queue().is_closed() || tokio::time::Instant::now() + pause > give_up {
                return Err(held);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
            if self.queue().is_closed() && batch.unheard.is_empty() {
                return Err(held);
            }
        }
    }

    fn too_late(&self) -> Error {
        Error::conflict(format!("unit {} was committed or undone while this waited for its path", self.info.id))
    }

    pub(super) fn changed_hands(&self) -> Error {
        Error::conflict(format!("the paths of unit {} changed hands {TRIES} times while they were claimed", self.info.id))
            .with_next("try again")
    }

    /// The unit is in the store under this token. It is renewed from here on.
    fn keep(&self, token: u64, deadline: millpond_core::Timestamp) -> Result<()> {
        let lease = Lease { name: steps::lease(&self.info.id)?, token, deadline, ttl: steps::TTL };
        // Outside of a runtime nobody can renew it: such a unit has the time of its lease.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (locks, kept) = (self.undoing.locks.clone(), lease.clone());
            let task = runtime.spawn(async move { locks.keep(&kept).await });
            *self.renewing.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        }
        let _ = self.lease.set(lease);
        Ok(())
    }

    /// Which of a batch are there from a commit whose caller did not stay for the answer.
    async fn registered_before(&self, batch: &Batch) -> Result<BTreeSet<u32>> {
        let records = Records::<UnitOperation>::new(self.undoing.store.clone());
        let mut there = BTreeSet::new();
        if self.given && self.lease.get().is_none() && !batch.unheard.is_empty() {
            // Another unit of the same id has operations of the same numbers.
            let found = Records::<UnitInfo>::new(self.undoing.store.clone()).get(&self.info.id).await?;
            if found.is_none_or(|found| (&found.value.worker, found.value.began) != (&self.info.worker, self.info.began)) {
                return Ok(there);
            }
        }
        for entry in batch.entries.iter().filter(|entry| batch.unheard.contains(&entry.operation.number)) {
            if records.get(entry.operation.key()?.as_str()).await?.is_some() {
                there.insert(entry.operation.number);
            }
        }
        if !there.is_empty() && self.lease.get().is_none() {
            // The unit's id is nobody else's, so whatever token its lease has is the one in the answer nobody heard.
            let held = self.undoing.locks.info(steps::lease(&self.info.id)?.as_str()).await?;
            let taken = || Error::conflict(format!("unit {} was taken over by somebody else", self.info.id));
            // Whoever undoes it has a token of his own, which is never ours to use.
            let held = held.filter(|held| held.lease.purpose.as_deref() == Some(steps::PURPOSE)).ok_or_else(taken)?;
            self.keep(held.lease.token, held.lease.deadline)?;
        }
        Ok(there)
    }

    /// Undoes the unit that has a path, if that may be done.
    async fn make_way(&self, conflict: Conflict) -> Result<()> {
        let record = match &conflict.expected {
            Expected::Stated(Expectation::Absent(record)) => record,
            Expected::Stated(Expectation::AtMost(record, _, _)) if record.collection.as_str() == UnitFloor::COLLECTION.name() => {
                return Err(below_floor(&self.info.id));
            }
            _ => return Err(Error::from_conflict(conflict)),
        };
        if record.collection.as_str() == UnitInfo::COLLECTION.name() {
            return Err(Error::conflict(format!("there is a unit {} already", self.info.id))
                .with_next("give a unit an id of its own, or see what became of this one: millpond units show"));
        }
        if record.collection.as_str() != PathClaim::COLLECTION.name() {
            return Err(Error::from_conflict(conflict));
        }
        self.undoing.free(record.key.as_str(), &self.info.id).await
    }

    /// Where an operation's bytes go.
    pub(crate) fn location(operation: &UnitOperation) -> Result<Location> {
        operation.location.as_deref().unwrap_or_default().parse()
    }

    /// Decides for the unit: everything in `parts` and every operation, at once. One commit point. A conflict leaves
    /// the unit as it is: the caller mends the parts and decides again, or undoes it.
    ///
    /// # Errors
    /// `Fenced` when it was taken over. `UnknownOutcome` when nobody can tell yet; whoever looks at the unit later will.
    pub(crate) async fn decide(&self, parts: Commit) -> Result<Outcome> {
        self.close();
        if let Some(short) = self.short.get() {
            return self.decide_short(short, parts).await;
        }
        let _turn = self.turn.lock().await;
        if self.is_repeated() {
            return self.receipt().await.map(Outcome::Committed);
        }
        self.queue().refuse_waiting(&closed(&self.info.id));
        // What nobody heard of may have claimed paths, which the decision has to give back.
        while self.queue().is_unheard() {
            self.register().await?;
        }
        // Also without a lease: a beginning that nobody can tell of may be in the store, and will be undone.
        self.can_be_committed()?;
        let Some(lease) = self.lease.get() else { return self.undoing.store.try_commit(parts.trusted()).await };
        let (paths, left_out) = {
            let queue = self.queue();
            (queue.claimed(), queue.left_out())
        };
        let paths = paths.iter().map(String::as_str);
        let commit = steps::decide(&self.info, lease.token, self.undoing.store.now(), paths, &left_out, parts)?;
        let outcome = self.undoing.store.try_commit(commit).await;
        match &outcome {
            Ok(Outcome::Committed(_)) => self.end(),
            Err(error) if error.kind() == ErrorKind::UnknownOutcome => self.end(),
            Ok(Outcome::Conflict(conflict)) if is_floor(conflict) => return Err(below_floor(&self.info.id)),
            _ => {}
        }
        outcome
    }

    fn can_be_committed(&self) -> Result<()> {
        self.queue().failed.as_ref().map_or(Ok(()), |error| Err(error.duplicate()))
    }

    /// Whether something was registered, or is about to be, that nobody has decided about.
    pub(crate) fn is_undecided(&self) -> bool {
        // The lease is there before what began the unit leaves the queue.
        !self.decided.load(Ordering::Acquire) && (self.queue().is_waited_for() || self.lease.get().is_some())
    }

    /// From here on there is nothing to undo, or others do it.
    pub(super) fn end(&self) {
        self.decided.store(true, Ordering::Release);
        self.stop_renewing();
    }

    /// The unit has the time of its lease from here on.
    pub(crate) fn stop_renewing(&self) {
        if let Some(task) = self.renewing.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    /// Decides against the unit, and undoes what it did.
    ///
    /// # Errors
    /// What the store or the place fails with: another process finishes it. `Unsupported` when it takes a compensation
    /// that this program does not know, `Unavailable` when a step could not be undone; `Invalid` when a unit of this id
    /// was committed before.
    pub(crate) async fn undo(&self, reason: &str) -> Result<()> {
        self.close();
        if self.is_repeated() {
            return Err(Error::invalid(format!("unit {} was committed before: all of it happened", self.info.id))
                .with_next("write what should be there instead"));
        }
        if self.decided.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(short) = self.short.get() {
            let undone = self.undoing.undo_short(&self.info, short, reason).await;
            self.end();
            return undone;
        }
        // The first operation may be on its way to begin the unit: whoever sends it has the turn, or left it unheard.
        let _turn = self.turn.lock().await;
        self.queue().refuse_waiting(&closed(&self.info.id));
        while self.lease.get().is_none() && self.queue().is_unheard() {
            self.register().await?;
        }
        let Some(lease) = self.lease.get() else { return self.can_be_committed() };
        let undone = self.undoing.undo_own(&self.info.id, lease, reason).await;
        self.end();
        match undone {
            // Who took it over undoes it.
            Err(error) if error.kind() == ErrorKind::Fenced => Ok(()),
            other => other?.whole(&self.info.id),
        }
    }
}

impl Drop for Working {
    /// A unit that is given up without a word is undone in the background, if there is a runtime; if not, or if that
    /// fails, by whoever looks after its time has run out, or the collector.
    fn drop(&mut self) {
        if self.decided.load(Ordering::Acquire) {
            return;
        }
        self.end();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (undoing, info) = (self.undoing.clone(), self.info.clone());
        if let Some(short) = self.short.take() {
            runtime.spawn(async move { undoing.undo_short(&info, &short, GIVEN_UP).await });
        } else if let Some(lease) = self.lease.take() {
            runtime.spawn(async move { undoing.undo_own(&info.id, &lease, GIVEN_UP).await.map(drop) });
        }
    }
}

/// What an operation is told that the decision does not wait for.
fn closed(unit: &str) -> Error {
    Error::new(ErrorKind::Fenced, format!("unit {unit} was committed or undone while this was under way: it is no part of it"))
        .with("unit", unit)
        .with_next("wait for every operation before the commit, or do this one in a unit of its own")
}

pub(super) fn is_floor(conflict: &Conflict) -> bool {
    matches!(&conflict.expected, Expected::Stated(Expectation::AtMost(record, pointer, _))
        if record.collection.as_str() == UnitFloor::COLLECTION.name() && pointer == UnitFloor::POINTER)
}

fn below_floor(unit: &str) -> Error {
    Error::conflict(format!("unit {unit} is older than what the collector of unused bytes has left open"))
        .with_next("begin a new unit with a new id; where no id was given and this happens again, set the clock of this machine")
}
