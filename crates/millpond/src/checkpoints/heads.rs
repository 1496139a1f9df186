//! Which version comes next in a scope, without a read where that is possible.
//!
//! The live versions of a scope are always one unbroken range, because only the oldest are ever deleted and never the
//! newest alone. So when version n exists and n + 1 does not, n is the newest: a save that follows n states both,
//! and the store refuses it if that is no longer so. A handle remembers the n it saw last and needs no read.
//!
//! A scope without checkpoints has no n to count from. Its record in `checkpoint_scopes` stands in: absent for a scope
//! that never had one, or holding the number that comes next after all were deleted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use millpond_core::{Commit, Document, Expectation, Expected, Query, Read, RecordId, Records, Result, Store, Timestamp, Write};

use super::model::{CheckpointRecord, CheckpointScope, key_of};
use crate::payloads::PayloadObject;

/// Scopes remembered; past this all are forgotten and read again when needed.
const REMEMBERED: usize = 10_000;

/// The newest version this handle saw in each scope. A hint: the store checks it in every commit.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    newest: Mutex<HashMap<String, i64>>,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Whose turn it is to save into a scope, among those of this process that met a conflict. Holding it is no promise:
/// others may still save first, but not all of them at once, time and again.
pub(crate) type Turn = tokio::sync::OwnedMutexGuard<()>;

impl Heads {
    /// Waits for a turn. A saver that meets no conflict needs none. Take one at a time.
    pub(super) async fn turn(&self, scope: &str) -> Turn {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.len() >= REMEMBERED {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            Arc::clone(turns.entry(scope.to_owned()).or_default())
        };
        turn.lock_owned().await
    }

    fn get(&self, scope: &str) -> Option<i64> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).get(scope).copied()
    }

    /// Remembers a version that was seen to exist. An older one never replaces a newer one.
    pub(super) fn saw(&self, scope: &str, version: i64) {
        let mut heads = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() >= REMEMBERED && !heads.contains_key(scope) {
            heads.clear();
        }
        let newest = heads.entry(scope.to_owned()).or_insert(version);
        *newest = version.max(*newest);
    }

    pub(super) fn forget(&self, scope: &str) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).remove(scope);
    }
}

/// What a new checkpoint of a scope follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// The scope never had a checkpoint.
    Nothing,
    /// All were deleted; this number comes next, as the scope's record at this revision says.
    Deleted { next: i64, revision: u64 },
    /// This is the newest version.
    Newest(i64),
    /// This version is saved earlier in the same commit.
    SameCommit(i64),
}

impl Follows {
    /// The version that comes next.
    pub(super) fn version(self) -> i64 {
        match self {
            Self::Nothing => 1,
            Self::Deleted { next, .. } => next,
            Self::Newest(newest) | Self::SameCommit(newest) => newest + 1,
        }
    }

    /// The version before it, as far as there is one.
    pub(super) fn before(self) -> Option<i64> {
        match self {
            Self::Nothing | Self::Deleted { .. } => None,
            Self::Newest(newest) | Self::SameCommit(newest) => Some(newest),
        }
    }

    /// What must be true for that version to be the next one, and the scope's record when this is its first.
    pub(super) fn expectations(self, scope: &str, now: Timestamp) -> Result<Commit> {
        let next = Expectation::Absent(checkpoint_id(scope, self.version())?);
        let scope_id = RecordId::new(CheckpointScope::COLLECTION.name(), scope)?;
        let part = Commit::new().trusted();
        Ok(match self {
            Self::SameCommit(_) => part,
            Self::Newest(newest) => part.expect(Expectation::Exists(checkpoint_id(scope, newest)?)).expect(next),
            Self::Deleted { revision, .. } => part.expect(Expectation::Revision(scope_id, revision)).expect(next),
            Self::Nothing => {
                let record =
                    CheckpointScope { scope: scope.to_owned(), next_version: 1, created_at: now, extra: Default::default() };
                part.expect(Expectation::Absent(scope_id)).write(Records::put(&record)?)
            }
        })
    }
}

/// The identity of a checkpoint's record.
pub(super) fn checkpoint_id(scope: &str, version: i64) -> Result<RecordId> {
    RecordId::new(CheckpointRecord::COLLECTION.name(), &key_of(scope, version))
}

/// The query for a scope's newest checkpoint.
pub(super) fn newest_query(scope: &str) -> Result<Query> {
    Ok(Query::new(CheckpointRecord::COLLECTION.name())?.eq("scope", scope).order_desc("version").limit(1))
}

/// What a new checkpoint of this scope follows: from memory if this handle saw the newest, else by one read.
pub(super) async fn follows(store: &Store, heads: &Heads, scope: &str) -> Result<Follows> {
    if let Some(newest) = heads.get(scope) {
        return Ok(Follows::Newest(newest));
    }
    let scope_id = RecordId::new(CheckpointScope::COLLECTION.name(), scope)?;
    let mut answers = store.read(vec![Read::Get(scope_id), Read::Query(newest_query(scope)?)]).await?.into_iter();
    let (Some(record), Some(page)) = (answers.next(), answers.next()) else {
        return Err(millpond_core::Error::corrupt("the engine answered fewer reads than it was asked"));
    };
    if let Some(newest) = page.into_page()?.items.first() {
        return newest.decode::<CheckpointRecord>().map(|r| Follows::Newest(r.info.version));
    }
    Ok(match record.into_record()? {
        None => Follows::Nothing,
        Some(found) => {
            let scope = found.decode::<CheckpointScope>()?;
            Follows::Deleted { next: scope.next_version, revision: scope.revision }
        }
    })
}

/// The scope whose next version a commit was refused over, because this handle's memory was out of date.
pub(crate) fn outdated(error: &millpond_core::Error) -> Option<String> {
    let id = match &error.as_conflict()?.expected {
        Expected::CreateOnly(id)
        | Expected::Stated(Expectation::Absent(id) | Expectation::Exists(id) | Expectation::Revision(id, _)) => id,
        _ => return None,
    };
    let key = id.key.as_str();
    match id.collection.as_str() {
        c if c == CheckpointScope::COLLECTION.name() => Some(key.to_owned()),
        c if c == CheckpointRecord::COLLECTION.name() => key.rsplit_once('/').map(|(scope, _)| scope.to_owned()),
        _ => None,
    }
}

/// Deletes of a checkpoint and its chunks.
pub(super) fn deletes(key: &str, chunks: u32, object: Option<&str>) -> Result<Vec<Write>> {
    let mut writes = vec![Write::Delete(RecordId::new(CheckpointRecord::COLLECTION.name(), key)?)];
    for index in 0..chunks {
        let chunk = super::model::chunk_key(key, index);
        writes.push(Write::Delete(RecordId::new(super::model::CheckpointChunk::COLLECTION.name(), &chunk)?));
    }
    if let Some(location) = object {
        writes.push(PayloadObject::removal(location)?);
    }
    Ok(writes)
}
