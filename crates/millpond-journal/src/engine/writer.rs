//! The one writer of a replica: it catches up, plans, appends, and applies while the append travels.
//!
//! ```text
//!   lock, where the driver can ─► catch up
//!     ┌► plan in an open transaction ─► append n + 1 ─┬─ Written   ─► COMMIT, answer
//!     │                    └─ apply meanwhile ────────┴─ Overtaken ─► ROLLBACK ─┐
//!     └──────────────────────────── read after n, replay ◄──────────────────────┘
//! ```

use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millpond_core::{Error, ErrorKind, Host, Namespace, Result};
use millpond_sqlite::{Replica, ReplicaWrite, Tail, Verdict};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::append::{Patience, append_all};
use super::cache::Slot;
use super::growth::Growth;
use super::io::Io;
use super::pacing::Pacing;
use super::snapshot::{self, Begin, End, Making, forked};
use super::stats::Counters;
use crate::entry::{Change, Entry, Other, Parts, Signature, encode};
use crate::journal::{After, Append, Journal, Limit, Stored, lost};

/// How long a snapshot of another history is not fetched again: it may be large, and readers may be many.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// A change that is decided on the replica and then appended.
pub(crate) trait Operation {
    /// What the caller hears.
    type Output;

    /// Decides. Called again after this writer was overtaken; what it changed in the replica was taken back then.
    fn plan(&mut self, replica: &mut ReplicaWrite<'_>, namespace: &Namespace) -> Result<Planned<Self::Output>>;

    /// Applies what was decided last, while the entry travels.
    fn apply(&mut self, replica: &mut ReplicaWrite<'_>, namespace: &Namespace) -> Result<()>;

    /// What it says about snapshots, if anything: counted as it would be when it is read.
    fn heard(&self) -> Option<Other>;
}

/// What was decided.
pub(crate) struct Planned<T> {
    pub(crate) output: T,
    /// The text of the change; `None` when there is nothing to append, as for a batch of refusals.
    pub(crate) change: Option<String>,
}

/// What one try of an operation came to.
enum Attempt<T> {
    Done(T),
    /// The plan was made on an old state, or may have been.
    Behind,
}

/// See the module. It lives on one thread.
pub(crate) struct Writer {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) replica: Replica,
    pub(crate) namespace: Namespace,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) io: Handle,
    pub(crate) patience: Patience,
    pub(crate) counters: Arc<Counters>,
    /// The last entry read. The replica may stand before it, when parts of an unfinished change follow.
    pub(crate) tail: Tail,
    pub(crate) parts: Parts,
    pub(crate) pacing: Pacing,
    /// This writer's name in its entries.
    pub(crate) me: String,
    /// Told the number of the last entry read.
    pub(crate) seen: Arc<watch::Sender<u64>>,
    /// Where the replica is; nobody else takes it before this thread is done.
    pub(crate) slot: Arc<Slot>,
    /// When the next snapshot is due, by what was read up to the tail.
    pub(crate) growth: Growth,
    /// Bytes of entries between two snapshots, at least.
    pub(crate) snapshot_bytes: u64,
    /// The snapshot that is being made here.
    pub(crate) making: Option<JoinHandle<Result<u64>>>,
    /// Entries read whose digests the replica does not keep yet: parts of an unfinished change.
    pub(crate) passed: Vec<Tail>,
    /// Why the newest snapshot was refused, and when.
    pub(crate) refused: Option<(Instant, Error)>,
    /// The runtime behind `io`, which has to last as long as this thread.
    pub(crate) _alive: Arc<Io>,
}

impl Writer {
    /// Runs an operation to its end.
    pub(crate) fn write<O: Operation>(&mut self, operation: &mut O) -> Result<O::Output> {
        let exclusive = self.io.block_on(self.journal.exclusive())?;
        // Whether the tail was read since this operation began.
        let mut current = false;
        if exclusive.is_some() {
            self.catch_up(None)?;
            current = true;
        } else {
            let (pause, look) = self.pacing.turn(Instant::now(), self.host.random());
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
            if look {
                self.verify()?;
                self.catch_up(None)?;
                current = true;
            }
        }
        loop {
            match self.attempt(operation, current)? {
                Attempt::Done(output) => return Ok(output),
                Attempt::Behind => {
                    self.counters.overtaken();
                    self.catch_up(None)?;
                    current = true;
                }
            }
        }
    }

    fn attempt<O: Operation>(&mut self, operation: &mut O, current: bool) -> Result<Attempt<O::Output>> {
        let signature = Signature { by: self.me.clone(), id: format!("{:016x}", self.host.random() as u64) };
        let began = Instant::now();
        // What was appended is answered, whatever becomes of the replica afterwards.
        let mut appended = None;
        let outcome = self.replica.write(|replica| {
            let planned = match operation.plan(replica, &self.namespace) {
                Ok(planned) => planned,
                Err(error) if current => return Err(error),
                Err(_) => return Ok(Verdict::TakeBack(Attempt::Behind)),
            };
            let Some(change) = planned.change else {
                return Ok(Verdict::TakeBack(if current { Attempt::Done(planned.output) } else { Attempt::Behind }));
            };
            let (entries, tails) = encode(&self.tail, &signature, &change, self.journal.max_entry_bytes())?;
            let size: usize = entries.iter().map(Bytes::len).sum();
            let tail = tails.last().cloned().unwrap_or_default();
            let mut growth = self.growth.clone();
            growth.grew(size as u64);
            operation.heard().iter().for_each(|change| growth.heard(change));
            let (answer, answered) = sync_channel(1);
            let sent = append_all(Arc::clone(&self.journal), self.tail.number, entries, signature, self.patience.clone());
            self.io.spawn(async move { answer.send(sent.await) });
            let applied = operation
                .apply(replica, &self.namespace)
                .and_then(|()| replica.keep_digests(self.passed.iter().chain(&tails)))
                .and_then(|()| replica.set_tail(&tail, &growth.note()));
            let answer = match answered.try_recv() {
                Ok(answer) => answer,
                Err(TryRecvError::Disconnected) => Err(went_away()),
                Err(TryRecvError::Empty) => {
                    self.counters.applied_ahead();
                    answered.recv().unwrap_or_else(|_| Err(went_away()))
                }
            };
            match answer? {
                Append::Overtaken => Ok(Verdict::TakeBack(Attempt::Behind)),
                Append::Written => {
                    appended = Some((planned.output, tail, size, growth));
                    applied.map(|()| Verdict::Keep(Attempt::Behind))
                }
            }
        });
        let Some((output, tail, size, growth)) = appended else { return outcome };
        self.pacing.won(began.elapsed());
        self.counters.appended(size);
        match outcome {
            Ok(_) => {
                self.parts.clear();
                self.passed.clear();
                self.growth = growth;
                self.stand_at(tail);
            }
            // The journal has it. The replica takes it in with the next read, or says then what is wrong with it.
            Err(error) => tracing::warn!(%error, "the replica could not take in an entry that was appended"),
        }
        Ok(Attempt::Done(output))
    }

    /// Reads what follows, until there is nothing more, and applies it. `brought` was read already after the entry
    /// that this writer stands at, or before.
    pub(crate) fn catch_up(&mut self, brought: Option<Vec<Stored>>) -> Result<()> {
        if let Some(entries) = brought {
            return self.replay(&entries);
        }
        loop {
            match self.io.block_on(self.journal.read(self.tail.number, Limit::default()))? {
                After::Entries(entries) if entries.is_empty() => {
                    self.pacing.looked();
                    return Ok(());
                }
                After::Entries(entries) => self.replay(&entries)?,
                After::Trimmed => self.restart_from_snapshot()?,
            }
        }
    }

    /// Begins a snapshot when the journal has grown enough and nobody else makes one; ends the one made here.
    pub(crate) fn snapshot_if_due(&mut self) {
        if self.making.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end_snapshot();
        }
        let now = self.host.now();
        if self.making.is_some() || !self.growth.is_due(self.snapshot_bytes, now) {
            return;
        }
        let begun = self.write(&mut Begin { by: self.me.clone(), now }).and_then(|taken| {
            if taken {
                let making = Making {
                    replica: self.replica.clone(),
                    journal: Arc::clone(&self.journal),
                    io: self.io.clone(),
                    slot: Arc::clone(&self.slot),
                    host: Arc::clone(&self.host),
                    counters: Arc::clone(&self.counters),
                };
                self.making = Some(making.start()?);
            }
            Ok(())
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "a snapshot could not be begun");
        }
    }

    /// Whether a snapshot is being made here, whose end has to be looked for.
    pub(crate) fn is_making(&self) -> bool {
        self.making.is_some()
    }

    /// Waits for the snapshot that is being made here, if there is one, and says that it is made. If it failed, the
    /// next is made when its lease has run out.
    pub(crate) fn end_snapshot(&mut self) {
        let Some(making) = self.making.take() else { return };
        let made = making.join().unwrap_or_else(|_| Err(Error::unavailable("the snapshot's thread panicked")));
        let ended = made.and_then(|bytes| self.write(&mut End { by: self.me.clone(), now: self.host.now(), bytes }));
        if let Err(error) = ended {
            tracing::warn!(%error, "a snapshot could not be made");
        }
    }

    /// Brings the replica to the newest snapshot, because the entries that would follow were trimmed.
    fn restart_from_snapshot(&mut self) -> Result<()> {
        if let Some((at, error)) = &self.refused
            && at.elapsed() < REFUSED_FOR
        {
            return Err(error.duplicate());
        }
        self.refused = None;
        match snapshot::load(&self.replica, &self.tail, &*self.journal, &self.io, &self.slot) {
            Ok(true) => {}
            Ok(false) => return Err(trimmed(self.tail.number)),
            Err(error) => {
                if error.kind() == ErrorKind::Corrupt {
                    self.refused = Some((Instant::now(), error.duplicate()));
                }
                return Err(error);
            }
        }
        self.stand_as_replica()
    }

    /// Compares the entry this replica stands at with the journal's: one that lost or forked what was seen is refused.
    pub(crate) fn verify(&mut self) -> Result<()> {
        let seen = &self.tail;
        let Some(before) = seen.number.checked_sub(1) else { return Ok(()) };
        match self.io.block_on(self.journal.read(before, Limit { entries: 1, bytes: 1 }))? {
            // Too far back to compare: the chain of what follows tells, or the snapshot does that takes its place.
            After::Trimmed => Ok(()),
            After::Entries(entries) => match entries.first() {
                None => Err(lost(seen.number, before)),
                Some(stored) => {
                    let found = Entry::read(stored.number, &stored.bytes)?;
                    found.follow(&Tail { number: before, digest: found.previous.clone() })?;
                    if found.digest == seen.digest { Ok(()) } else { Err(forked(found.number, seen, &found.digest)) }
                }
            },
        }
    }

    fn replay(&mut self, entries: &[Stored]) -> Result<()> {
        let mut tail = self.tail.clone();
        let (parts, pacing, me, namespace) = (&mut self.parts, &mut self.pacing, &self.me, &self.namespace);
        let (mut growth, mut passed) = (self.growth.clone(), std::mem::take(&mut self.passed));
        let now = Instant::now();
        let replayed = self.replica.write(|replica| {
            let mut kept = None;
            for stored in entries {
                if stored.number <= tail.number {
                    continue;
                }
                let entry = Entry::read(stored.number, &stored.bytes)?;
                entry.follow(&tail)?;
                tail = entry.tail();
                passed.push(tail.clone());
                growth.grew(stored.bytes.len() as u64);
                if let Some(whole) = parts.take(entry) {
                    let change = Change::read(&whole.text).map_err(|e| e.with("entry", whole.tail.number))?;
                    if let Change::Other(other) = &change {
                        growth.heard(other);
                    }
                    apply(replica, namespace, change).map_err(|e| e.with("entry", whole.tail.number))?;
                    if whole.signature.by != *me {
                        pacing.rival(&whole.signature.by, now);
                    }
                    kept = Some((whole.tail, growth.note()));
                }
            }
            let Some((kept, note)) = kept else { return Ok(Verdict::TakeBack(false)) };
            let upto = passed.partition_point(|entry| entry.number <= kept.number);
            replica.keep_digests(&passed[..upto])?;
            passed.drain(..upto);
            replica.set_tail(&kept, &note)?;
            Ok(Verdict::Keep(true))
        });
        match replayed {
            Ok(_) => {
                (self.growth, self.passed) = (growth, passed);
                self.stand_at(tail);
                Ok(())
            }
            Err(error) => {
                // Read again from where the replica stands.
                self.stand_as_replica()?;
                Err(error)
            }
        }
    }

    fn stand_as_replica(&mut self) -> Result<()> {
        self.parts.clear();
        self.passed.clear();
        self.growth = Growth::read(&self.replica.note()?);
        let tail = self.replica.tail()?;
        self.stand_at(tail);
        Ok(())
    }

    fn stand_at(&mut self, tail: Tail) {
        if tail.number != self.tail.number {
            self.tail = tail;
            self.seen.send_replace(self.tail.number);
        }
    }
}

/// Applies an entry's change to the replica.
fn apply(replica: &mut ReplicaWrite<'_>, namespace: &Namespace, change: Change) -> Result<()> {
    let other = match change {
        Change::Commit(mutations) => return replica.replay(namespace, mutations),
        Change::Other(other) => other,
    };
    match other {
        Other::Create(named) => {
            let name = Namespace::from_store(named.name.as_str());
            replica.create_namespace(&name, &named.store_id, named.created_at).map(drop)
        }
        Other::Declare(specs) => replica.declare(namespace, &specs).map(drop),
        Other::Status(status) => replica.set_status(namespace, &status).map(drop),
        Other::PurgeBefore(moment) => replica.purge(namespace, moment.0).map(drop),
        Other::Snapshot { .. } => Ok(()),
        Other::Delete { store_id } => replica.delete_namespace(namespace, &store_id),
        Other::Register(_) | Other::Unregister { .. } => {
            Err(Error::corrupt("an entry of the register of namespaces is in the journal of one"))
        }
    }
}

fn trimmed(after: u64) -> Error {
    Error::corrupt(format!("the entries after {after} were trimmed, and no snapshot holds them"))
        .with("entry", after + 1)
        .with_next("restore the journal's newest snapshot from a copy")
}

fn went_away() -> Error {
    Error::new(ErrorKind::UnknownOutcome, "the journal's thread went away before it answered")
        .with_next("open the store again and send the same commit again")
}
