//! The rules that refuse a commit before it changes anything.

use std::time::Duration;

use crate::collection::CollectionSpec;
use crate::commit::{Commit, Expectation, PreparedCommit};
use crate::engine::NamespaceStatus;
use crate::error::{Error, Result};
use crate::lease::LEASES;
use crate::limits;
use crate::name::RecordId;
use crate::outcome::{Conflict, Expected, Found, Outcome};
use crate::plan::apply::Refusal;
use crate::plan::current::Current;
use crate::plan::lease::held;
use crate::plan::state::{NamespaceHead, StoredReceipt};
use crate::plan::touched::lease_record;
use crate::plan::work::Work;
use crate::time::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);

/// The same id again: the first receipt, if the body is the same.
pub(super) fn replay(prepared: &PreparedCommit, stored: &StoredReceipt) -> Result<Outcome> {
    if stored.digest != *prepared.digest() {
        return Err(Error::invalid(format!("commit id {} was used before for a commit with another body", prepared.id()))
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
///
/// An id that was made for this submission has no receipt anywhere, whatever the clocks say.
pub(super) fn id_age(prepared: &PreparedCommit, head: &NamespaceHead, now: Timestamp) -> Result<()> {
    let id = prepared.id();
    if prepared.is_fresh() {
        return Ok(());
    }
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
pub(super) fn expectation(work: &Work, index: usize, expectation: &Expectation) -> Result<(), Refusal> {
    let found = match expectation {
        Expectation::Absent(id) => match work.record(id) {
            current @ Current::Live { .. } => current.found(),
            _ => return Ok(()),
        },
        Expectation::Exists(id) => match work.record(id) {
            Current::Live { .. } => return Ok(()),
            current => current.found(),
        },
        Expectation::Revision(id, expected) => match work.record(id) {
            Current::Live { revision, .. } if revision == *expected => return Ok(()),
            current => current.found(),
        },
        Expectation::AtMost(id, pointer, most) => {
            let current = work.record(id);
            if quota_used(id, pointer, current.value()?.as_ref())? <= *most {
                return Ok(());
            }
            current.found()
        }
        Expectation::StreamAt(name, expected) => {
            let stream = work.stream(name);
            if stream.head == *expected {
                return Ok(());
            }
            Found::Stream { head: stream.head, sealed: stream.sealed }
        }
        Expectation::Lease(lease, token) => match held(&work.record(&lease_record(lease)))? {
            Some(state) if state.token == *token => return Ok(()),
            Some(state) => Found::Lease { holder: state.holder.name, token: state.token, deadline: state.deadline },
            None => Found::NoLease,
        },
    };
    Err(Conflict { index: Some(index), expected: Expected::Stated(expectation.clone()), found }.into())
}

/// The integer a quota is about; nothing there counts as 0.
fn quota_used(id: &RecordId, pointer: &str, document: Option<&serde_json::Value>) -> Result<i64> {
    match document.and_then(|d| d.pointer(pointer)) {
        None | Some(serde_json::Value::Null) => Ok(0),
        Some(value) => value.as_i64().ok_or_else(|| {
            let shown: String = value.to_string().chars().take(40).collect();
            Error::invalid(format!("the value of {id} at {pointer:?} is {shown}, not an integer: it cannot be a quota"))
        }),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_quota_counts_what_is_absent_as_zero_and_refuses_what_is_no_integer() {
        let id = RecordId::new("jobs", "a").expect("names");
        let used = |doc: Option<serde_json::Value>| quota_used(&id, "/open", doc.as_ref());
        assert_eq!(used(None).expect("absent record"), 0);
        assert_eq!(used(Some(json!({}))).expect("absent value"), 0);
        assert_eq!(used(Some(json!({"open": 7}))).expect("integer"), 7);
        assert_eq!(used(Some(json!({"open": "7"}))).expect_err("text").kind(), crate::ErrorKind::Invalid);
    }
}
