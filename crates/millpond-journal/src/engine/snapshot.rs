//! Snapshots: a copy of the replica, so that a journal need not be kept from its beginning.
//!
//! One process at a time makes one, under a lease that is an entry of the journal itself. The copy is made and sent on
//! a thread of its own, beside the commits that go on. Afterwards the journal is trimmed to a little before it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millpond_core::{Error, Host, Namespace, Result, Timestamp};
use millpond_sqlite::{Replica, ReplicaWrite};
use tokio::runtime::Handle;

use super::cache::Slot;
use super::stats::Counters;
use super::writer::{Operation, Planned};
use crate::entry::{Micros, Other};
use crate::journal::Journal;

/// Bytes of entries after which there is a snapshot, at least.
pub(crate) const LEAST: u64 = 64 << 20;
/// Entries before a snapshot that are kept, for replicas that are a little behind.
const KEPT: u64 = 256;
/// How long the maker of a snapshot has before another may try.
const LEASE: Duration = Duration::from_secs(600);

/// Who is making a snapshot, as the journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) by: String,
    pub(crate) until: Timestamp,
}

/// The lease that was last seen, shared between the writer and what it is planning.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Option<Lease>>>);

impl Seen {
    fn set(&self, lease: Lease) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
    }

    /// Gives back the lease that is one's own: what it was for is done. Others see it run out, and by then count anew.
    fn release(&self, by: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_some_and(|lease| lease.by == by) {
            *seen = None;
        }
    }

    fn is_held(&self, now: Timestamp) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|l| l.until > now)
    }
}

/// When the next snapshot is due.
#[derive(Debug)]
pub(crate) struct Growth {
    /// At least this much between two.
    least: u64,
    /// Bytes of entries seen since the last snapshot.
    since: u64,
    /// Bytes of the last snapshot, told by the thread that made it.
    last: Arc<AtomicU64>,
    /// The lease that was last seen in the journal.
    lease: Seen,
}

impl Growth {
    /// `last` is about the size that a snapshot had which was made before.
    pub(crate) fn new(least: u64, last: u64) -> Self {
        Self { least, since: 0, last: Arc::new(AtomicU64::new(last)), lease: Seen::default() }
    }

    /// The lease, as this writer comes to see it.
    pub(crate) fn lease(&self) -> Seen {
        self.lease.clone()
    }

    /// An entry of this size was seen.
    pub(crate) fn grew(&mut self, bytes: usize) {
        self.since += bytes as u64;
    }

    /// Somebody begins a snapshot.
    pub(crate) fn leased(&mut self, lease: Lease) {
        self.lease.set(lease);
        self.since = 0;
    }

    /// Whether to make one now.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        !self.lease.is_held(now) && self.since >= self.least.max(self.last.load(Ordering::Relaxed) / 2)
    }
}

/// Takes the lease, unless another has it.
pub(crate) struct Take {
    pub(crate) by: String,
    pub(crate) now: Timestamp,
    pub(crate) lease: Seen,
}

impl Operation for Take {
    type Output = Option<Lease>;

    fn plan(&mut self, _: &mut ReplicaWrite<'_>, _: &Namespace) -> Result<Planned<Self::Output>> {
        if self.lease.is_held(self.now) {
            return Ok(Planned { output: None, change: None });
        }
        let lease = Lease { by: self.by.clone(), until: self.now.plus(LEASE) };
        let change = Other::Snapshot { by: lease.by.clone(), until: Micros(lease.until) };
        Ok(Planned { output: Some(lease), change: Some(change.text()?) })
    }

    fn apply(&mut self, _: &mut ReplicaWrite<'_>, _: &Namespace) -> Result<()> {
        Ok(())
    }
}

/// What a snapshot is made from.
pub(crate) struct Making {
    pub(crate) replica: Replica,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) io: Handle,
    pub(crate) slot: Arc<Slot>,
    pub(crate) host: Arc<dyn Host>,
    /// Whose lease this is made under.
    pub(crate) by: String,
    pub(crate) counters: Arc<Counters>,
}

impl Making {
    /// Makes a snapshot on a thread of its own.
    pub(crate) fn start(self, growth: &Growth) -> Result<()> {
        let (size, lease) = (Arc::clone(&growth.last), growth.lease());
        let make = move || match self.make() {
            Ok(bytes) => {
                size.store(bytes, Ordering::Relaxed);
                lease.release(&self.by);
            }
            // The journal stays as long as it is. The next try is when the lease has run out.
            Err(error) => tracing::warn!(%error, "a snapshot could not be made"),
        };
        let thread = std::thread::Builder::new().name("millpond-snapshot".into()).spawn(make);
        thread.map(drop).map_err(|e| Error::unavailable("cannot start the snapshot's thread").with_source(e))
    }

    fn make(&self) -> Result<u64> {
        let file = Temporary(self.slot.beside(&format!("snapshot-{:016x}.db", self.host.random() as u64)));
        let tail = self.replica.copy_to(&file.0)?;
        let size = std::fs::metadata(&file.0).map(|m| m.len()).unwrap_or(0);
        self.io.block_on(self.journal.put_snapshot(tail.number, &file.0))?;
        self.counters.snapshot();
        if let Some(upto) = tail.number.checked_sub(KEPT) {
            self.io.block_on(self.journal.trim(upto))?;
        }
        Ok(size)
    }
}

/// A file that goes with this value.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Brings a replica to the journal's newest snapshot. False when there is none.
pub(crate) fn load(replica: &Replica, journal: &dyn Journal, io: &Handle, slot: &Slot) -> Result<bool> {
    let file = Temporary(slot.beside("snapshot-loading.db"));
    // What a process left that ended here.
    let _ = std::fs::remove_file(&file.0);
    let Some(upto) = io.block_on(journal.get_snapshot(&file.0))? else { return Ok(false) };
    let tail = replica.load_from(&file.0)?;
    if tail.number != upto {
        return Err(Error::corrupt(format!("the snapshot up to entry {upto} holds entries up to {}", tail.number))
            .with_next("restore the snapshot from a copy"));
    }
    Ok(true)
}
