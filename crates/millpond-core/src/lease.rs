//! Leases: a lock is a record with a holder, a deadline and a token that only grows.
//!
//! Safety comes from the token inside later commits ([`crate::Expectation::Lease`]); the deadline is only about
//! liveness. The token is the record's revision at acquisition, and revisions are never reused.

use serde::{Deserialize, Serialize};

use crate::collection::{Collection, FieldKind};
use crate::time::Timestamp;

/// The collection that holds leases. Only lease writes touch it.
pub const LEASES: Collection = Collection::new("locks")
    .index_at("holder", "/holder/name", FieldKind::Text)
    .index("deadline", FieldKind::Timestamp)
    .index("acquired_at", FieldKind::Timestamp)
    .owned();

/// Who holds a lease. The host's facts let another process on the same machine see that the holder is dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Holder {
    /// A name for people: program, worker, person.
    pub name: String,
    /// The machine's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The machine's boot id: pids mean nothing across boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// The process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The process's start time in clock ticks since boot: pids are reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

/// A held lease, as its record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    /// Who holds it.
    pub holder: Holder,
    /// The fencing token. Never repeats, never goes down.
    pub token: u64,
    /// When it was acquired, by the store's clock.
    pub acquired_at: Timestamp,
    /// After this moment, by the store's clock, others may take it.
    pub deadline: Timestamp,
    /// The length it was asked for, in microseconds.
    pub ttl_us: i64,
    /// What it is held for, in the holder's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
}

/// The shortest lease.
pub const TTL_MIN_US: i64 = 1_000;
/// The longest lease: a day.
pub const TTL_MAX_US: i64 = 86_400_000_000;
