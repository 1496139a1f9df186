//! The commits of a unit, made from what is known of it. Nothing here asks or waits.

use std::time::Duration;

use millpond_core::{Acquire, Commit, CommitId, Document, Expectation, Holder, Key, RecordId, Records, Result, Timestamp, Write};
use uuid::Uuid;

use super::model::{OperationStatus, PathClaim, UnitFloor, UnitInfo, UnitOperation, UnitState, moment_of};
use crate::text;

/// How long a unit belongs to whoever works on it without a sign of life.
pub(crate) const TTL: Duration = Duration::from_secs(30);

/// Bytes that are kept of why a unit was aborted, or why undoing a step failed.
pub(super) const REASON_BYTES: usize = 4 << 10;

/// What the lease of a unit says that is being worked on.
pub(super) const PURPOSE: &str = "unit of work";

/// The lease of a unit.
pub(super) fn lease(unit: &str) -> Result<Key> {
    Key::new(format!("units/{unit}"))
}

/// An operation that is to be registered, and whether its path is not the unit's yet.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) operation: UnitOperation,
    pub(super) claims: bool,
}

/// Begins a unit with its first operations. The token is the revision of the first write.
pub(super) fn begin(info: &UnitInfo, holder: Holder, ttl: Duration, entries: &[Entry]) -> Result<Commit> {
    let lease = lease(&info.id)?;
    let acquire = Acquire { lease, holder, ttl, purpose: Some(PURPOSE.to_owned()), dead: None };
    let commit = Commit::new()
        .trusted()
        .by(&info.worker)
        .write(Write::Acquire(acquire))
        .expect(above_floor(&info.id)?)
        .expect(Expectation::Absent(Records::<UnitInfo>::id(&info.id)?))
        .write(Records::put(info)?);
    registered(commit, entries)
}

/// Takes a unit's lease from the token that this process had.
pub(super) fn retake(unit: &str, token: u64, holder: Holder) -> Result<Commit> {
    let purpose = Some("undoing a unit of work".to_owned());
    Ok(Commit::new().write(Write::Acquire(Acquire { lease: lease(unit)?, holder, ttl: TTL, purpose, dead: Some(token) })))
}

/// Registers more operations of a unit.
pub(super) fn register(info: &UnitInfo, token: u64, entries: &[Entry]) -> Result<Commit> {
    registered(Commit::new().trusted().by(&info.worker).fenced(lease(&info.id)?, token), entries)
}

fn registered(mut commit: Commit, entries: &[Entry]) -> Result<Commit> {
    for Entry { operation, claims } in entries {
        if *claims {
            let claim = PathClaim { path: operation.path.clone(), unit: operation.unit.clone() };
            commit = commit.expect(Expectation::Absent(claim_id(&operation.path)?)).write(Records::put(&claim)?);
        }
        commit = commit.write(Records::put(operation)?);
    }
    Ok(commit)
}

/// Decides for a unit: all of it, with what its operations and its caller write. Its id is the unit's, so that whoever
/// did not hear the answer can ask for it. What was left out, because it failed or came too late, says so from then on.
pub(super) fn decide<'p>(
    info: &UnitInfo,
    token: u64,
    now: Timestamp,
    claimed: impl Iterator<Item = &'p str>,
    left_out: &[UnitOperation],
    parts: Commit,
) -> Result<Commit> {
    let lease = lease(&info.id)?;
    let decided = UnitInfo { state: UnitState::Committed, ended: Some(now), ..info.clone() };
    let mut commit = Commit::new()
        .trusted()
        .by(&info.worker)
        .fenced(lease.clone(), token)
        .expect(above_floor(&info.id)?)
        .and(parts)
        .id(commit_id(&info.id)?)
        .write(Records::put(&decided)?);
    for operation in left_out {
        commit = commit.write(Records::put(operation)?);
    }
    Ok(without_claims(commit, claimed)?.write(Write::Release { lease, token }))
}

/// Decides for a unit of one put that was not registered. Its path is nobody's, and stays so until this is decided.
pub(super) fn decide_short(info: &UnitInfo, path: &str, parts: Commit) -> Result<Commit> {
    let commit = Commit::new().trusted().by(&info.worker).expect(above_floor(&info.id)?);
    Ok(commit.expect(Expectation::Absent(claim_id(path)?)).and(parts).id(commit_id(&info.id)?))
}

/// Decides against it, under the same id: of the two only one can be applied. Its bytes are still to go.
pub(super) fn abort_short(info: &UnitInfo, put: &UnitOperation, reason: &str, now: Timestamp) -> Result<Commit> {
    let reason = Some(text::cut(reason, REASON_BYTES).to_owned());
    let aborted = UnitInfo { state: UnitState::Aborted, ended: Some(now), reason, ..info.clone() };
    let commit = Commit::new().trusted().by(&info.worker).id(commit_id(&info.id)?);
    Ok(commit.write(Records::put(&aborted)?).write(Records::put(put)?))
}

/// Decides against a unit, for whoever has its lease. From here on its own commit is refused.
pub(super) fn abort(info: &UnitInfo, token: u64, reason: &str, operations: &[UnitOperation]) -> Result<Commit> {
    let reason = text::cut(reason, REASON_BYTES).to_owned();
    let aborting = UnitInfo { state: UnitState::Aborting, reason: Some(reason), ..info.clone() };
    let commit = Commit::new().trusted().fenced(lease(&info.id)?, token).write(Records::put(&aborting)?);
    let mut paths: Vec<&str> = operations.iter().filter(|o| o.kind.claims()).map(|o| o.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    without_claims(commit, paths.into_iter())
}

/// Says how a step that was being undone stands.
pub(super) fn step(token: u64, operation: &UnitOperation) -> Result<Commit> {
    Ok(Commit::new().trusted().fenced(lease(&operation.unit)?, token).write(Records::put(operation)?))
}

/// Says that nothing is left to do for a unit that was aborted: nothing of it is left, or a person has to look.
pub(super) fn undone(info: &UnitInfo, token: u64, now: Timestamp, state: UnitState) -> Result<Commit> {
    let lease = lease(&info.id)?;
    let over = UnitInfo { state, ended: Some(now), ..info.clone() };
    let commit = Commit::new().trusted().fenced(lease.clone(), token).write(Records::put(&over)?);
    Ok(commit.write(Write::Release { lease, token }))
}

/// Takes up a unit again whose steps could not be undone.
pub(super) fn resume(info: &UnitInfo, token: u64, failed: &[UnitOperation]) -> Result<Commit> {
    let again = UnitInfo { state: UnitState::Aborting, ended: None, ..info.clone() };
    let mut commit = Commit::new().trusted().fenced(lease(&info.id)?, token).write(Records::put(&again)?);
    for operation in failed {
        let again = UnitOperation { status: OperationStatus::Pending, attempts: 0, ..operation.clone() };
        commit = commit.write(Records::put(&again)?);
    }
    Ok(commit)
}

/// Gives back the lease of a unit.
pub(super) fn released(unit: &str, token: u64) -> Result<Commit> {
    Ok(Commit::new().write(Write::Release { lease: lease(unit)?, token }))
}

fn without_claims<'p>(mut commit: Commit, paths: impl Iterator<Item = &'p str>) -> Result<Commit> {
    for path in paths {
        commit = commit.write(Write::Delete(claim_id(path)?));
    }
    Ok(commit)
}

/// No unit below the floor begins or is decided: see `collect.rs`.
fn above_floor(unit: &str) -> Result<Expectation> {
    let floor = Records::<UnitFloor>::id(UnitFloor::KEY)?;
    Ok(Expectation::AtMost(floor, UnitFloor::POINTER.to_owned(), moment_of(id_of(unit))))
}

pub(super) fn claim_id(path: &str) -> Result<RecordId> {
    RecordId::new(PathClaim::COLLECTION.name(), path)
}

/// The id of the commit that decides for a unit.
pub(super) fn commit_id(unit: &str) -> Result<CommitId> {
    CommitId::from_uuid(id_of(unit))
}

pub(crate) fn id_of(unit: &str) -> Uuid {
    Uuid::try_parse(unit).unwrap_or_default()
}
