//! Counts of what the engine did, which do not depend on a machine's speed.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the engine did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalStats {
    /// Changes appended.
    pub appended: u64,
    /// Bytes of the entries that held them.
    pub appended_bytes: u64,
    /// Plans that were thrown away because another writer was first, or because they held only refusals and the tail
    /// had to be read before answering.
    pub replanned: u64,
    /// Snapshots made and kept by the place.
    pub snapshots: u64,
    /// Changes that the replica had applied before the answer to their append was there.
    pub applied_ahead: u64,
    /// Namespaces whose replicas are open now, each with a thread.
    pub open: u64,
}

/// The counters behind [`JournalStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    appended: AtomicU64,
    appended_bytes: AtomicU64,
    overtaken: AtomicU64,
    snapshots: AtomicU64,
    applied_ahead: AtomicU64,
}

impl Counters {
    pub(crate) fn appended(&self, bytes: usize) {
        self.appended.fetch_add(1, Ordering::Relaxed);
        self.appended_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn applied_ahead(&self) {
        self.applied_ahead.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn overtaken(&self) {
        self.overtaken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, open: u64) -> JournalStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        JournalStats {
            appended: read(&self.appended),
            appended_bytes: read(&self.appended_bytes),
            replanned: read(&self.overtaken),
            snapshots: read(&self.snapshots),
            applied_ahead: read(&self.applied_ahead),
            open,
        }
    }
}
