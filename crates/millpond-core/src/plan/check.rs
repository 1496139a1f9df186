//! The rules that refuse a commit before it changes anything.

use std::time::Duration;

use crate::collection::CollectionSpec;
use crate::commit::{Commit, Expectation, PreparedCommit};
use crate::engine::NamespaceStatus;
use crate::error::{Error, Result};
use crate::id::CommitId;
use crate::lease::LEASES;
use crate::limits;
use crate::name::RecordId;
use crate::outcome::{Conflict, Expected, Found, Outcome};
use crate::plan::apply::{Current, Refusal, Scratch};
use crate::plan::lease::held;
use crate::plan::state::{NamespaceHead, StoredReceipt};
use crate::plan::touched::lease_record;
use crate::time::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);

/// The same id again: the first receipt, if the body is the same.
pub(super) fn replay(prepared: &PreparedCommit, stored: &StoredReceipt) -> Result<Outcome> {
    if stored.digest != prepared.digest {
        return Err(Error::invalid(format!("commit id {} was used before for a commit with another body", prepared.id))
            .with_next("give each commit an id of its own; reuse one only to retry the same commit"));
    }
    let mut receipt = stored.receipt.clone();
    receipt.replayed = true;
    Ok(Outcome::Committed(receipt))
}

/// Only an open namespace takes commits.
pub(super) fn namespace(head: &NamespaceHead) -> Result<()> {
    match &head.status {
        NamespaceStatus::Open => Ok(()),
        NamespaceStatus::Frozen => Err(Error::unavailable("the namespace is frozen: it takes no commits")
            .with_next("open it again, or wait until somebody does")),
        NamespaceStatus::MovedTo(place) => {
            Err(Error::unavailable(format!("the namespace has moved to {place}")).with_next("open it there"))
        }
    }
}

/// An id whose receipt may be gone must not be applied: it might be the second time.
pub(super) fn id_age(id: CommitId, head: &NamespaceHead, now: Timestamp) -> Result<()> {
    let days = u32::try_from(limits::RECEIPT_DAYS).unwrap_or(u32::MAX);
    let oldest = head.receipts_floor.max(now.minus(DAY * days));
    // An id has millisecond resolution: give the floor the same.
    if id.time().as_micros() < oldest.as_micros() / 1_000 * 1_000 {
        return Err(Error::invalid(format!(
            "commit id {id} was made at {}, before {oldest}: its receipt may be forgotten, so it is not applied",
            id.time()
        ))
        .with_next("read whether the commit's effects are there; if not, send it under a new id"));
    }
    if id.time() > now.plus(DAY) {
        return Err(Error::invalid(format!(
            "commit id {id} was made at {}, a day or more ahead of the store's clock ({now})",
            id.time()
        ))
        .with_next("set the clock of the machine that made it"));
    }
    Ok(())
}

/// One expectation of the commit, against the state before it.
pub(super) fn expectation(scratch: &Scratch<'_>, index: usize, expectation: &Expectation) -> Result<(), Refusal> {
    let found = match expectation {
        Expectation::Absent(id) => match scratch.record(id) {
            current @ Current::Live { .. } => current.found(),
            _ => return Ok(()),
        },
        Expectation::Exists(id) => match scratch.record(id) {
            Current::Live { .. } => return Ok(()),
            current => current.found(),
        },
        Expectation::Revision(id, expected) => match scratch.record(id) {
            Current::Live { revision, .. } if revision == *expected => return Ok(()),
            current => current.found(),
        },
        Expectation::StreamAt(name, expected) => {
            let stream = scratch.stream(name);
            if stream.head == *expected {
                return Ok(());
            }
            Found::Stream { head: stream.head, sealed: stream.sealed }
        }
        Expectation::Lease(lease, token) => match held(&scratch.record(&lease_record(lease)))? {
            Some(state) if state.token == *token => return Ok(()),
            Some(state) => Found::Lease { holder: state.holder.name, token: state.token, deadline: state.deadline },
            None => Found::NoLease,
        },
    };
    Err(Conflict { index: Some(index), expected: Expected::Stated(expectation.clone()), found }.into())
}

/// Owned collections take writes only from the code that owns them; leases only lease writes.
pub(super) fn may_write(commit: &Commit, id: &RecordId, spec: Option<&CollectionSpec>) -> Result<()> {
    let name = id.collection.as_str();
    if name == LEASES.name() {
        return Err(Error::invalid(format!("collection {name:?} holds leases: a record of it cannot be written directly"))
            .with_next("acquire, renew or release the lease"));
    }
    if spec.is_some_and(|s| s.owned) && !commit.trusted {
        return Err(Error::invalid(format!(
            "collection {name:?} belongs to one of Millpond's domains; raw commits into it are refused"
        ))
        .with_next("use that domain's own operations, or a collection of your own"));
    }
    Ok(())
}
