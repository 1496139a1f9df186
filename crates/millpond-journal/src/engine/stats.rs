//! Counts of what the engine did, which do not depend on a machine's speed.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the engine did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalStats {
    /// Changes appended.
    pub appended: u64,
    /// Plans that were thrown away because another writer was first, or because they held only refusals and the tail
    /// had to be read before answering.
    pub replanned: u64,
}

/// The counters behind [`JournalStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    appended: AtomicU64,
    overtaken: AtomicU64,
}

impl Counters {
    pub(crate) fn appended(&self) {
        self.appended.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn overtaken(&self) {
        self.overtaken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> JournalStats {
        JournalStats { appended: self.appended.load(Ordering::Relaxed), replanned: self.overtaken.load(Ordering::Relaxed) }
    }
}
