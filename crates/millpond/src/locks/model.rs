//! What locks are asked for with, and what they answer.

use std::time::Duration;

use millpond_core::{Commit, Error, Holder, Key, LeaseState, Page, PageCursor, Record, Result, StreamName, Timestamp};
use serde::Serialize;

/// Asks for a lock.
///
/// ```
/// use std::time::Duration;
/// use millpond::LockRequest;
/// let request = LockRequest::of("reindex", Duration::from_secs(30)).wait(Duration::from_secs(10)).purpose("nightly");
/// assert_eq!(request.name, "reindex");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRequest {
    /// The lock's name: 1 to 2,042 bytes, by the rules of keys.
    pub name: String,
    /// How long it is held without a renewal, on the store's clock; 1 ms to 24 h.
    pub ttl: Duration,
    /// How long [`crate::Locks::acquire`] waits for it; not at all if not said.
    pub wait: Duration,
    /// The holder's name for people; the program and its process id if not said.
    pub holder: Option<String>,
    /// What it is held for, in words.
    pub purpose: Option<String>,
}

impl LockRequest {
    /// Asks for a lock, for a time.
    pub fn of(name: impl Into<String>, ttl: Duration) -> Self {
        Self { name: name.into(), ttl, wait: Duration::ZERO, holder: None, purpose: None }
    }

    /// How long to wait for it.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Who asks.
    #[must_use]
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = Some(holder.into());
        self
    }

    /// What for.
    #[must_use]
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = Some(purpose.into());
        self
    }
}

/// A lock that was acquired: what a commit carries as its fence.
///
/// Dropping it does nothing: release it, or let it run out. Holding it is no proof by itself that the lock is still
/// ours; the store checks that in every commit made with [`Lease::fence`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// The lock.
    pub name: Key,
    /// The fencing token. Never repeats, never goes down.
    pub token: u64,
    /// After this moment of the store's clock others may take it.
    pub deadline: Timestamp,
    /// The length it was asked for.
    #[serde(serialize_with = "as_micros", rename = "ttl_us")]
    pub ttl: Duration,
}

fn as_micros<S: serde::Serializer>(ttl: &Duration, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX))
}

impl Lease {
    /// Makes a commit depend on the lock: the store refuses it as `Fenced` once the token has moved on, whatever any
    /// clock says.
    #[must_use]
    pub fn fence(&self, commit: Commit) -> Commit {
        commit.fenced(self.name.clone(), self.token)
    }
}

/// What trying to take a lock answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    /// It is ours.
    Acquired(Lease),
    /// Somebody holds it.
    Held(Box<LockInfo>),
}

impl Attempt {
    /// The lease, if it is ours.
    pub fn lease(self) -> Option<Lease> {
        match self {
            Self::Acquired(lease) => Some(lease),
            Self::Held(_) => None,
        }
    }
}

/// Who holds a lock, and until when.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LockInfo {
    /// The lock.
    pub name: Key,
    /// The lease: holder, token, deadline, when and for how long it was acquired, and what for.
    #[serde(flatten)]
    pub lease: LeaseState,
    /// True when the deadline has passed: anybody may take it.
    pub expired: bool,
    /// True when the holder is known to be dead: anybody on its machine may take it.
    pub dead: bool,
}

impl LockInfo {
    pub(super) fn of(record: &Record, now: Timestamp, is_dead: impl Fn(&Holder) -> bool) -> Result<Self> {
        let lease: LeaseState = record.value.decode().map_err(|e| e.with("lock", &record.key))?;
        Ok(Self { name: record.key.clone(), expired: lease.deadline < now, dead: is_dead(&lease.holder), lease })
    }
}

/// Which locks to list; everything said has to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct LockFilter {
    /// Names that begin with this, by bytes.
    pub prefix: Option<String>,
    /// The holder's name.
    pub holder: Option<String>,
    /// The deadline is at or after this moment: with the present moment, locks that cannot be taken yet.
    pub deadline_from: Option<Timestamp>,
    /// The deadline is before this moment: with the present moment, locks that anybody may take.
    pub deadline_before: Option<Timestamp>,
    /// At most this many; 1 to 10,000. 100 by default.
    pub limit: usize,
    /// Continue after this page.
    pub after: Option<PageCursor>,
}

impl Default for LockFilter {
    fn default() -> Self {
        Self { prefix: None, holder: None, deadline_from: None, deadline_before: None, limit: 100, after: None }
    }
}

/// A page of locks, by name.
pub type LockPage = Page<LockInfo>;

/// A lock's name, and the stream that tells what was done to it by force.
pub(super) fn checked(name: &str) -> Result<(Key, StreamName)> {
    let key = Key::new(name).map_err(|e| e.with("lock", name))?;
    let stream = StreamName::new(format!("locks/{name}")).map_err(|_| {
        Error::invalid(format!("the lock's name has {} bytes; the limit is 2042", name.len())).with_next("use a shorter name")
    })?;
    Ok((key, stream))
}
