//! Snapshots: a copy of the replica, so that a journal need not be kept from its beginning.
//!
//! One process at a time makes one, under a lease that is an entry of the journal itself; another entry says that it is
//! made. The copy is made and sent on a thread of its own, beside the commits that go on. Afterwards the journal is
//! trimmed to a little before it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use millpond_core::{Error, Host, Namespace, Result, Timestamp};
use millpond_sqlite::{Replica, ReplicaWrite, Tail, Verdict};
use tokio::runtime::Handle;

use super::cache::Slot;
use super::growth::Growth;
use super::packed;
use super::stats::Counters;
use super::writer::{Operation, Planned};
use crate::entry::Other;
use crate::journal::Journal;

/// Entries before a snapshot that are kept, for replicas that are a little behind.
const KEPT: u64 = 256;

/// Takes the lease, unless another has it. True when it was taken.
pub(crate) struct Begin {
    pub(crate) by: String,
    pub(crate) now: Timestamp,
}

impl Operation for Begin {
    type Output = bool;

    fn plan(&mut self, replica: &mut ReplicaWrite<'_>, _: &Namespace) -> Result<Planned<Self::Output>> {
        if Growth::read(&replica.note()?).is_leased(self.now) {
            return Ok(Planned { output: false, change: None });
        }
        Ok(Planned { output: true, change: Some(Growth::begin(&self.by, self.now).text()?) })
    }

    fn apply(&mut self, _: &mut ReplicaWrite<'_>, _: &Namespace) -> Result<()> {
        Ok(())
    }

    fn heard(&self) -> Option<Other> {
        Some(Growth::begin(&self.by, self.now))
    }
}

/// Says that a snapshot is made, and of which size.
pub(crate) struct End {
    pub(crate) by: String,
    pub(crate) now: Timestamp,
    pub(crate) bytes: u64,
}

impl Operation for End {
    type Output = ();

    fn plan(&mut self, _: &mut ReplicaWrite<'_>, _: &Namespace) -> Result<Planned<Self::Output>> {
        Ok(Planned { output: (), change: Some(Growth::end(&self.by, self.now, self.bytes).text()?) })
    }

    fn apply(&mut self, _: &mut ReplicaWrite<'_>, _: &Namespace) -> Result<()> {
        Ok(())
    }

    fn heard(&self) -> Option<Other> {
        Some(Growth::end(&self.by, self.now, self.bytes))
    }
}

/// What a snapshot is made from.
pub(crate) struct Making {
    pub(crate) replica: Replica,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) io: Handle,
    pub(crate) slot: Arc<Slot>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) counters: Arc<Counters>,
}

impl Making {
    /// Makes a snapshot on a thread of its own, which answers its size.
    pub(crate) fn start(self) -> Result<JoinHandle<Result<u64>>> {
        let thread = std::thread::Builder::new().name("millpond-snapshot".into()).spawn(move || self.make());
        thread.map_err(|e| Error::unavailable("cannot start the snapshot's thread").with_source(e))
    }

    fn make(&self) -> Result<u64> {
        let file = Temporary(self.slot.beside(&format!("snapshot-{:016x}.db", self.host.random() as u64)));
        let tail = self.replica.copy_to(&file.0)?;
        let size = std::fs::metadata(&file.0).map(|m| m.len()).unwrap_or(0);
        let packed = Temporary(file.0.with_extension("packed"));
        packed::pack(&file.0, &packed.0)?;
        drop(file);
        self.io.block_on(self.journal.put_snapshot(tail.number, &packed.0))?;
        self.counters.snapshot();
        if let Some(upto) = tail.number.checked_sub(KEPT)
            && let Err(error) = self.io.block_on(self.journal.trim(upto))
        {
            // It is made all the same; what was not trimmed goes after the next one.
            tracing::warn!(%error, "the journal could not be trimmed after a snapshot");
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

/// Brings a replica to the journal's newest snapshot, which has to hold what the replica has `seen`. False when there is
/// no snapshot that is newer.
///
/// # Errors
/// `Corrupt` when the snapshot is of another history: nothing is changed then.
pub(crate) fn load(replica: &Replica, seen: &Tail, journal: &dyn Journal, io: &Handle, slot: &Slot) -> Result<bool> {
    let (sent, plain) = (Temporary(slot.beside("snapshot-loading.packed")), Temporary(slot.beside("snapshot-loading.db")));
    // What a process left that ended here.
    let _ = (std::fs::remove_file(&sent.0), std::fs::remove_file(&plain.0));
    let Some(upto) = io.block_on(journal.get_snapshot(&sent.0))? else { return Ok(false) };
    let file = if packed::unpack(&sent.0, &plain.0)? {
        drop(sent);
        plain
    } else {
        sent
    };
    let found = Replica::inspect(&file.0, seen.number)?;
    if found.tail.number != upto {
        return Err(Error::corrupt(format!("the snapshot up to entry {upto} holds entries up to {}", found.tail.number))
            .with_next("restore the snapshot from a copy"));
    }
    match found.digest {
        Some(digest) if digest != seen.digest && seen.number > 0 => return Err(forked(seen.number, seen, &digest)),
        None if seen.number > 0 && upto > seen.number => tracing::warn!(
            seen = seen.number,
            upto,
            "a snapshot is followed that no longer says whether it holds the entry this replica stood at: \
             had the journal forked since then, it would not be noticed here"
        ),
        _ => {}
    }
    if upto <= seen.number {
        return Ok(false);
    }
    let size = std::fs::metadata(&file.0).map(|m| m.len()).unwrap_or(0);
    let tail = replica.load_from(&file.0)?;
    let mut growth = Growth::read(&replica.note()?);
    growth.loaded(size);
    replica.write(|write| write.set_tail(&tail, &growth.note()).map(Verdict::Keep))?;
    Ok(true)
}

/// The error of a journal that holds another entry than the one that was seen.
pub(crate) fn forked(number: u64, seen: &Tail, found: &str) -> Error {
    Error::corrupt(format!("the journal forked: its entry {number} is not the one that was seen and acknowledged before"))
        .with("entry", number)
        .with("seen", &seen.digest)
        .with("found", found)
        .with_next("restore the journal from a copy that holds the entry seen; until then nothing is written")
}
