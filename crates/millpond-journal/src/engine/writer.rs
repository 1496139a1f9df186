//! The one writer of a replica: it catches up, plans, appends, and applies while the append travels.
//!
//! ```text
//!   lock, where the driver can ─► catch up
//!     ┌► plan in an open transaction ─► append n + 1 ─┬─ Written   ─► COMMIT, answer
//!     │                    └─ apply meanwhile ────────┴─ Overtaken ─► ROLLBACK ─┐
//!     └──────────────────────────── read after n, replay ◄──────────────────────┘
//! ```

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use bytes::Bytes;
use millpond_core::{Error, ErrorKind, Host, Namespace, Result};
use millpond_sqlite::{Replica, ReplicaWrite, Tail, Verdict};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::append::{Patience, append_all};
use super::cache::Slot;
use super::pacing::Pacing;
use super::snapshot::{self, Growth, Lease, Making, Take};
use super::stats::Counters;
use crate::entry::{Change, Entry, Other, Parts, Signature, encode};
use crate::journal::{After, Append, Journal, Limit, Stored, lost};

/// A change that is decided on the replica and then appended.
pub(crate) trait Operation {
    /// What the caller hears.
    type Output;

    /// Decides. Called again after this writer was overtaken; what it changed in the replica was taken back then.
    fn plan(&mut self, replica: &mut ReplicaWrite<'_>, namespace: &Namespace) -> Result<Planned<Self::Output>>;

    /// Applies what was decided last, while the entry travels.
    fn apply(&mut self, replica: &mut ReplicaWrite<'_>, namespace: &Namespace) -> Result<()>;
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
    /// When the next snapshot is due.
    pub(crate) growth: Growth,
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
            let (entries, tail) = encode(&self.tail, &signature, &change, self.journal.max_entry_bytes())?;
            let size: usize = entries.iter().map(Bytes::len).sum();
            let (answer, answered) = sync_channel(1);
            let sent = append_all(Arc::clone(&self.journal), self.tail.number, entries, signature, self.patience.clone());
            self.io.spawn(async move { answer.send(sent.await) });
            let applied = operation.apply(replica, &self.namespace).and_then(|()| replica.set_tail(&tail));
            match answered.recv().unwrap_or_else(|_| Err(went_away()))? {
                Append::Overtaken => Ok(Verdict::TakeBack(Attempt::Behind)),
                Append::Written => {
                    appended = Some((planned.output, tail, size));
                    applied.map(|()| Verdict::Keep(Attempt::Behind))
                }
            }
        });
        let Some((output, tail, size)) = appended else { return outcome };
        self.pacing.won(began.elapsed());
        self.counters.appended(size);
        self.growth.grew(size);
        match outcome {
            Ok(_) => {
                self.parts.clear();
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

    /// Begins a snapshot when the journal has grown enough and nobody else makes one.
    pub(crate) fn snapshot_if_due(&mut self) {
        let now = self.host.now();
        if !self.growth.is_due(now) {
            return;
        }
        let mut take = Take { by: self.me.clone(), now, lease: self.growth.lease() };
        let begun = self.write(&mut take).and_then(|lease| {
            let Some(lease) = lease else { return Ok(()) };
            self.growth.leased(lease);
            let making = Making {
                replica: self.replica.clone(),
                journal: Arc::clone(&self.journal),
                io: self.io.clone(),
                slot: Arc::clone(&self.slot),
                host: Arc::clone(&self.host),
                by: self.me.clone(),
                counters: Arc::clone(&self.counters),
            };
            making.start(&self.growth)
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "a snapshot could not be begun");
        }
    }

    /// Brings the replica to the newest snapshot, because the entries that would follow were trimmed.
    fn restart_from_snapshot(&mut self) -> Result<()> {
        let behind = self.tail.number;
        if !snapshot::load(&self.replica, &*self.journal, &self.io, &self.slot)? {
            return Err(trimmed(behind));
        }
        self.parts.clear();
        let tail = self.replica.tail()?;
        if tail.number <= behind {
            return Err(trimmed(behind));
        }
        self.stand_at(tail);
        Ok(())
    }

    /// Compares the entry this replica stands at with the journal's: one that lost or forked what was seen is refused.
    pub(crate) fn verify(&mut self) -> Result<()> {
        let seen = &self.tail;
        let Some(before) = seen.number.checked_sub(1) else { return Ok(()) };
        match self.io.block_on(self.journal.read(before, Limit { entries: 1, bytes: 1 }))? {
            // Too far back to compare; the chain of what follows tells.
            After::Trimmed => Ok(()),
            After::Entries(entries) => match entries.first() {
                None => Err(lost(seen.number, before)),
                Some(stored) => {
                    let found = Entry::read(stored.number, &stored.bytes)?;
                    found.follow(&Tail { number: before, digest: found.previous.clone() })?;
                    if found.digest == seen.digest { Ok(()) } else { Err(forked(&found, seen)) }
                }
            },
        }
    }

    fn replay(&mut self, entries: &[Stored]) -> Result<()> {
        let mut tail = self.tail.clone();
        let (parts, pacing, me, namespace) = (&mut self.parts, &mut self.pacing, &self.me, &self.namespace);
        let mut leases = Vec::new();
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
                if let Some(whole) = parts.take(entry) {
                    let change = Change::read(&whole.text).map_err(|e| e.with("entry", whole.tail.number))?;
                    if let Change::Other(Other::Snapshot { by, until }) = &change {
                        leases.push(Lease { by: by.clone(), until: until.0 });
                    }
                    apply(replica, namespace, change).map_err(|e| e.with("entry", whole.tail.number))?;
                    if whole.signature.by != *me {
                        pacing.rival(&whole.signature.by, now);
                    }
                    kept = Some(whole.tail);
                }
            }
            let Some(kept) = kept else { return Ok(Verdict::TakeBack(())) };
            replica.set_tail(&kept)?;
            Ok(Verdict::Keep(()))
        });
        match replayed {
            Ok(()) => {
                let fresh = entries.iter().filter(|e| e.number > self.tail.number);
                fresh.for_each(|e| self.growth.grew(e.bytes.len()));
                leases.into_iter().for_each(|lease| self.growth.leased(lease));
                self.stand_at(tail);
                Ok(())
            }
            Err(error) => {
                // Read again from where the replica stands.
                self.parts.clear();
                self.tail = self.replica.tail()?;
                Err(error)
            }
        }
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

fn forked(found: &Entry, seen: &Tail) -> Error {
    Error::corrupt(format!("the journal forked: its entry {} is not the one that was seen and acknowledged before", found.number))
        .with("entry", found.number)
        .with("seen", &seen.digest)
        .with("found", &found.digest)
        .with_next("restore the journal from a copy that holds the entry seen; until then nothing is written")
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
