//! When the next snapshot is due.
//!
//! ```text
//!   entries ─► since grows ─► due: a lease ─► … ─► made: since is what came after the lease
//!                                      └► the lease runs out, nothing was made: due at once
//! ```
//!
//! All of it follows from the journal, and is kept in the replica with the entry it stands at. So every process counts
//! the same, and one that lives for a few commits goes on where the one before it stopped.

use std::time::Duration;

use millpond_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::entry::{Micros, Other};

/// Bytes of entries after which there is a snapshot, at least.
pub(crate) const LEAST: u64 = 64 << 20;
/// How long the maker of a snapshot has before another may try.
const LEASE: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Growth {
    /// Bytes of entries that are in no snapshot.
    since: u64,
    /// Bytes that the last snapshot holds, unpacked.
    #[serde(default)]
    last: u64,
    /// The lease that was taken last, unless its snapshot is made.
    #[serde(default)]
    lease: Option<Lease>,
}

/// Who makes a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    by: String,
    until: Micros,
    /// Bytes up to the lease's own entry: the snapshot holds these, and perhaps more.
    upto: u64,
}

impl Growth {
    /// As it was noted. What cannot be read is counted from now on.
    pub(crate) fn read(note: &str) -> Self {
        serde_json::from_str(note).unwrap_or_default()
    }

    /// The note to be kept.
    pub(crate) fn note(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Entries of this size were appended.
    pub(crate) fn grew(&mut self, bytes: u64) {
        self.since += bytes;
    }

    /// What an entry says about snapshots; it was counted before.
    pub(crate) fn heard(&mut self, change: &Other) {
        let Other::Snapshot { by, until, made_bytes } = change else { return };
        let Some(bytes) = *made_bytes else {
            self.lease = Some(Lease { by: by.clone(), until: *until, upto: self.since });
            return;
        };
        self.last = bytes;
        // One whose lease ran out before it was done: what its snapshot holds is not known here, so the next one is
        // made a little early.
        if let Some(lease) = self.lease.take_if(|lease| lease.by == *by) {
            self.since = self.since.saturating_sub(lease.upto);
        }
    }

    /// Everything so far came out of a snapshot of this size.
    pub(crate) fn loaded(&mut self, bytes: u64) {
        (self.since, self.last) = (0, bytes);
        if let Some(lease) = &mut self.lease {
            lease.upto = 0;
        }
    }

    /// Whether to make one now. `least` is how much there is between two, at least.
    pub(crate) fn is_due(&self, least: u64, now: Timestamp) -> bool {
        !self.is_leased(now) && self.since >= least.max(self.last / 2)
    }

    /// Whether somebody makes one.
    pub(crate) fn is_leased(&self, now: Timestamp) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.until.0 > now)
    }

    /// The entry of somebody who begins.
    pub(crate) fn begin(by: &str, now: Timestamp) -> Other {
        Other::Snapshot { by: by.to_owned(), until: Micros(now.plus(LEASE)), made_bytes: None }
    }

    /// The entry of somebody whose snapshot is made.
    pub(crate) fn end(by: &str, now: Timestamp, bytes: u64) -> Other {
        Other::Snapshot { by: by.to_owned(), until: Micros(now), made_bytes: Some(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    #[test]
    fn a_snapshot_is_due_by_what_it_does_not_hold() {
        let mut growth = Growth::default();
        growth.grew(99);
        assert!(!growth.is_due(100, NOW));
        growth.grew(1);
        assert!(growth.is_due(100, NOW));
        growth.heard(&Growth::begin("a", NOW));
        growth.grew(30);
        assert!(!growth.is_due(100, NOW), "somebody makes one");
        assert!(growth.is_due(100, NOW.plus(LEASE)), "and did not finish");
        growth.heard(&Growth::end("a", NOW, 300));
        assert!(!growth.is_due(100, NOW.plus(LEASE)));
        growth.grew(119);
        assert!(!growth.is_due(100, NOW), "half of the last snapshot");
        growth.grew(1);
        assert!(growth.is_due(100, NOW));
        assert_eq!(Growth::read(&growth.note()), growth);
    }

    #[test]
    fn what_was_loaded_is_in_a_snapshot() {
        let mut growth = Growth::default();
        growth.grew(1_000);
        growth.heard(&Growth::begin("a", NOW));
        // The copy was made in the middle, and its end comes with the entries that follow.
        growth.loaded(40);
        growth.grew(60);
        growth.heard(&Growth::end("a", NOW, 40));
        assert!(growth.is_due(60, NOW) && !growth.is_due(61, NOW));
    }

    #[test]
    fn a_maker_whose_lease_went_to_another_ends_nothing_of_it() {
        let mut growth = Growth::default();
        growth.grew(100);
        growth.heard(&Growth::begin("a", NOW));
        growth.heard(&Growth::begin("b", NOW.plus(LEASE)));
        growth.heard(&Growth::end("a", NOW.plus(LEASE), 10));
        assert!(growth.is_leased(NOW.plus(LEASE)) && growth.since == 100);
        growth.heard(&Growth::end("b", NOW.plus(LEASE), 10));
        assert_eq!((growth.since, growth.lease), (0, None));
    }
}
