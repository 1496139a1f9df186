//! What a commit answers: a receipt, or which expectation failed and what was found.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::commit::Expectation;
use crate::error::{Error, Result};
use crate::id::CommitId;
use crate::position::Position;
use crate::time::Timestamp;

/// The answer to a commit that reached the store's rules. Both are values; errors are for everything else.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Applied, durable.
    Committed(Receipt),
    /// Not applied: an expectation did not hold.
    Conflict(Conflict),
}

impl Outcome {
    /// The receipt, or the conflict as an error.
    ///
    /// # Errors
    /// `Fenced` when a lease was lost, else `Conflict`.
    pub fn committed(self) -> Result<Receipt> {
        match self {
            Self::Committed(receipt) => Ok(receipt),
            Self::Conflict(conflict) => Err(Error::from_conflict(conflict)),
        }
    }
}

/// Proof of an applied commit. The same commit sent again returns an equal one, marked as replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The commit's id.
    pub id: CommitId,
    /// The position of its last change.
    pub position: Position,
    /// When, by the store's clock.
    pub time: Timestamp,
    /// The revision each write left behind, in the order of the writes; 0 where a delete found nothing.
    pub revisions: Vec<u64>,
    /// For each append, in order, where its events went.
    pub sequences: Vec<Appended>,
    /// True when this commit had been applied before and this is the first receipt again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
}

/// Where the events of one append went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// The sequence of the first new event; the stream's head when there was none.
    pub first: u64,
    /// How many new events there were.
    pub count: u64,
    /// Events whose id was already in the stream: index in the append, and their sequence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub existing: Vec<(usize, u64)>,
}

impl Appended {
    /// The sequence of the event at this index of the append.
    pub fn sequence(&self, index: usize) -> u64 {
        match self.existing.binary_search_by_key(&index, |(i, _)| *i) {
            Ok(at) => self.existing[at].1,
            Err(before) => self.first + (index - before) as u64,
        }
    }
}

/// An expectation that did not hold, and what was found instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The expectation's place in the commit; `None` for one that a rule implies (a create-only collection, a
    /// sealed stream, a held lease).
    pub index: Option<usize>,
    /// What was expected.
    pub expected: Expected,
    /// What was found.
    pub found: Found,
}

/// What was expected: by the commit, or by a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// One of the commit's own expectations.
    Stated(Expectation),
    /// A create-only record must not exist yet.
    CreateOnly(crate::RecordId),
    /// A stream must not be sealed.
    Open(crate::StreamName),
    /// A lease must be free, past its deadline, or its holder dead.
    LeaseFree(crate::Key),
}

/// What the store found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No record; the revision a deleted one left behind, or 0.
    Absent {
        /// The last revision, 0 if there never was one.
        revision: u64,
    },
    /// A record.
    Record {
        /// Its revision.
        revision: u64,
        /// When it was last changed.
        time: Timestamp,
        /// By whom.
        by: Option<String>,
    },
    /// A stream.
    Stream {
        /// Its last sequence.
        head: u64,
        /// Whether it is sealed.
        sealed: bool,
    },
    /// A held lease.
    Lease {
        /// Who holds it.
        holder: String,
        /// Under which token.
        token: u64,
        /// Until when.
        deadline: Timestamp,
    },
    /// A lease that nobody holds.
    NoLease,
}

impl Found {
    /// The revision, where a record was found.
    pub fn revision(&self) -> Option<u64> {
        match self {
            Self::Record { revision, .. } | Self::Absent { revision } => Some(*revision),
            _ => None,
        }
    }
}

impl Conflict {
    /// True when a lease was lost: the caller must stop, not retry.
    pub fn is_fence(&self) -> bool {
        matches!(self.expected, Expected::Stated(Expectation::Lease(..)))
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expected {
            Expected::Stated(Expectation::Absent(r)) | Expected::CreateOnly(r) => write!(f, "{r} was expected not to exist")?,
            Expected::Stated(Expectation::Exists(r)) => write!(f, "{r} was expected to exist")?,
            Expected::Stated(Expectation::Revision(r, n)) => write!(f, "{r} was expected at revision {n}")?,
            Expected::Stated(Expectation::AtMost(r, pointer, n)) => {
                write!(f, "{r} was expected to hold at most {n} at {pointer}")?
            }
            Expected::Stated(Expectation::StreamAt(s, n)) => write!(f, "stream {s} was expected at sequence {n}")?,
            Expected::Stated(Expectation::Lease(k, n)) => write!(f, "lease {k} was expected to carry token {n}")?,
            Expected::Open(s) => write!(f, "stream {s} was expected to be open")?,
            Expected::LeaseFree(k) => write!(f, "lease {k} was expected to be free")?,
        }
        match &self.found {
            Found::Absent { revision: 0 } => f.write_str(", but it does not exist"),
            Found::Absent { revision } => write!(f, ", but it was deleted at revision {revision}"),
            Found::Record { revision, time, by } => {
                write!(f, ", but the store holds revision {revision} ({time}")?;
                if let Some(by) = by {
                    write!(f, ", by {by:?}")?;
                }
                f.write_str(")")
            }
            Found::Stream { head, sealed } => write!(f, ", but it is at {head}{}", if *sealed { " and sealed" } else { "" }),
            Found::Lease { holder, token, deadline } => {
                write!(f, ", but {holder:?} holds it with token {token} until {deadline}")
            }
            Found::NoLease => f.write_str(", but nobody holds it"),
        }
    }
}
