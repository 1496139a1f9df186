//! Checkpoints: numbered, immutable states of a session, a workflow or a run.
//!
//! ```text
//!  scope run/r1:   1 ── 2 ── 3 ── 4          save: the next number, parent = the newest
//!                       └──────────── 5      branch from 2: parent = 2
//!                            └─────────── 6  restore 3: the payload of 3 again, restored_from = 3
//! ```
//!
//! Versions are dense and never used twice. The newest one is the current state. Old ones go from the oldest on.
//! A payload up to 64 KiB is one record; a larger one, up to [`CHECKPOINT_JSON_BYTES`] of JSON or
//! [`CHECKPOINT_BYTES`] of bytes, is kept as chunk records in the same commit; one beyond them as an object, written by
//! a unit of work whose deciding commit holds the checkpoint.

mod heads;
mod model;
mod payload;
mod prune;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millpond_core::{
    Collection, Commit, Document, Error, Json, Outcome, Page, PageCursor, Query, Read, RecordId, Records, Result, Store,
    Timestamp, Versioned, Write,
};
use serde::Serialize;

pub(crate) use heads::{Follows, Heads, Turn, outdated};
pub use model::{
    Checkpoint, CheckpointChunk, CheckpointInfo, CheckpointRecord, CheckpointScope, NewCheckpoint, Payload, PayloadKind, Scope,
};
pub use payload::{CHECKPOINT_BYTES, CHECKPOINT_JSON_BYTES};

use crate::payloads::Payloads;
use crate::units::Working;
use model::StoredPayload;

/// What this domain declares.
pub(crate) const COLLECTIONS: [Collection; 3] =
    [CheckpointRecord::COLLECTION, CheckpointChunk::COLLECTION, CheckpointScope::COLLECTION];

/// How often a save begins again when others save into the same scope.
const TRIES: u32 = 64;

/// The checkpoints of a pond.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    store: Store,
    heads: Arc<Heads>,
    payloads: Payloads,
}

/// A checkpoint that is being saved: with a unit, once its payload is an object.
struct Saving {
    new: NewCheckpoint,
    unit: Option<Working>,
}

/// Where a new checkpoint comes from, where that is not the newest one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    parent: Option<i64>,
    restored_from: Option<i64>,
}

impl Checkpoints {
    pub(crate) fn new(store: Store, heads: Arc<Heads>, payloads: Payloads) -> Self {
        Self { store, heads, payloads }
    }

    /// Saves anything serialisable as the next version of a scope.
    ///
    /// One commit point: the checkpoint's record, which is one row; for a payload above 64 KiB also its chunks, and
    /// for a scope's first checkpoint the scope's record. Nothing is read when this pond saved or saw the newest. A payload
    /// of more than [`CHECKPOINT_JSON_BYTES`] is staged as an object first; the commit point is the same.
    ///
    /// # Errors
    /// `Conflict` when others kept saving faster; for a payload that is staged as an object, `Unsupported` when there is
    /// no place for bytes, or artifacts are in another store than checkpoints.
    pub async fn save(&self, scope: impl Into<Scope>, payload: &(impl Serialize + Sync + ?Sized)) -> Result<CheckpointInfo> {
        self.save_new(scope, NewCheckpoint::json(payload)?).await
    }

    /// Saves a checkpoint with a note or metadata, or one of bytes. One commit point: as [`Checkpoints::save`].
    ///
    /// # Errors
    /// As [`Checkpoints::save`]; bytes are staged as an object beyond [`CHECKPOINT_BYTES`].
    pub async fn save_new(&self, scope: impl Into<Scope>, new: NewCheckpoint) -> Result<CheckpointInfo> {
        self.save_from(&scope.into(), &new, Origin::default()).await.map_err(|e| e.during("checkpoints.save"))
    }

    /// The part of a commit that [`Checkpoints::save_new`] makes, and what the checkpoint will be. A commit it
    /// is part of is refused with `Conflict` when somebody else saved first; make the part again then.
    ///
    /// # Errors
    /// As [`Checkpoints::save`]; `Invalid` when the payload has more than [`CHECKPOINT_JSON_BYTES`], or
    /// [`CHECKPOINT_BYTES`] for one of bytes: a part alone cannot stage an object, a unit can.
    pub async fn save_part(&self, scope: impl Into<Scope>, new: &NewCheckpoint) -> Result<(CheckpointInfo, Commit)> {
        let scope = scope.into().name();
        let follows = heads::follows(&self.store, &self.heads, &scope).await?;
        self.draft(&scope, follows, new, Origin::default())
    }

    async fn save_from(&self, scope: &Scope, new: &NewCheckpoint, origin: Origin) -> Result<CheckpointInfo> {
        let scope = scope.name();
        let saving = self.saving(&scope, new).await?;
        let mut turn = None;
        for _ in 0..TRIES {
            let follows = heads::follows(&self.store, &self.heads, &scope).await?;
            let (info, part) = self.draft(&scope, follows, &saving.new, origin)?;
            if let Some(info) = self.commit(&saving, info, part).await? {
                return Ok(info);
            }
            if turn.is_none() {
                turn = Some(self.turn(&scope).await);
            }
        }
        Err(too_busy(&scope))
    }

    /// Gets ready to save: a payload that is too large for records becomes an object of a unit. A saving that is dropped
    /// leaves nothing.
    async fn saving(&self, scope: &str, new: &NewCheckpoint) -> Result<Saving> {
        let Some((kind, bytes)) = payload::outside(new)? else { return Ok(Saving { new: new.clone(), unit: None }) };
        let unit = self.payloads.begin()?;
        let new = stored(&unit, scope, new, kind, bytes).await?;
        Ok(Saving { new, unit: Some(unit) })
    }

    /// The same for a checkpoint that a unit saves with others.
    pub(crate) async fn stage(&self, unit: &Working, scope: &str, new: &NewCheckpoint) -> Result<Option<NewCheckpoint>> {
        match payload::outside(new)? {
            Some((kind, bytes)) => stored(unit, scope, new, kind, bytes).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether a checkpoint's payload has to be staged before it can be saved.
    pub(crate) fn is_large(new: &NewCheckpoint) -> Result<bool> {
        Ok(payload::outside(new)?.is_some())
    }

    /// Commits a draft; `None` when the version it took was taken meanwhile.
    async fn commit(&self, saving: &Saving, info: CheckpointInfo, part: Commit) -> Result<Option<CheckpointInfo>> {
        let done = match &saving.unit {
            None => self.store.commit(part).await,
            Some(unit) => match unit.decide(part).await {
                Ok(Outcome::Committed(receipt)) => Ok(receipt),
                Ok(Outcome::Conflict(conflict)) => Err(Error::from_conflict(conflict)),
                Err(error) => Err(error),
            },
        };
        match done {
            Ok(_) => {
                self.heads.saw(&info.scope, info.version);
                Ok(Some(info))
            }
            Err(error) => match outdated(&error) {
                Some(scope) => {
                    self.heads.forget(&scope);
                    Ok(None)
                }
                None => Err(error),
            },
        }
    }

    /// A checkpoint and the commit that saves it, following what the caller found.
    pub(crate) fn draft(
        &self,
        scope: &str,
        follows: Follows,
        new: &NewCheckpoint,
        origin: Origin,
    ) -> Result<(CheckpointInfo, Commit)> {
        let packed = payload::pack(new)?;
        let now = self.store.now();
        let info = CheckpointInfo {
            scope: scope.to_owned(),
            version: follows.version(),
            created_at: now,
            parent: origin.parent.or(follows.before()),
            restored_from: origin.restored_from,
            kind: packed.kind,
            size: packed.size,
            sha256: packed.sha256,
            chunks: u32::try_from(packed.chunks.len()).unwrap_or(u32::MAX),
            object: packed.object.as_ref().map(|object| object.location.clone()),
            note: new.note.clone(),
            metadata: new.metadata.clone(),
            extra: BTreeMap::new(),
        };
        let key = model::key_of(scope, info.version);
        let mut part = follows.expectations(scope, now)?;
        part = part.write(put(&info, packed.inline.as_ref())?);
        for (index, data) in (0u32..).zip(packed.chunks) {
            part = part.write(Records::put(&CheckpointChunk { checkpoint: key.clone(), index, data, extra: BTreeMap::new() })?);
        }
        if let Some(object) = &packed.object {
            part = part.write(Records::put(object)?);
        }
        Ok((info, part))
    }

    /// What the next checkpoint of a scope follows, for a commit that saves into it.
    pub(crate) async fn follows(&self, scope: &str) -> Result<Follows> {
        heads::follows(&self.store, &self.heads, scope).await
    }

    /// Remembers that a version exists, after a commit that saved it.
    pub(crate) fn saw(&self, scope: &str, version: i64) {
        self.heads.saw(scope, version);
    }

    /// Waits for a turn to save into a scope, after a conflict.
    pub(crate) async fn turn(&self, scope: &str) -> Turn {
        self.heads.turn(scope).await
    }

    /// Forgets which version is the newest, after a commit was refused over it.
    pub(crate) fn forget(&self, scope: &str) {
        self.heads.forget(scope);
    }

    /// A version with its payload, verified.
    ///
    /// # Errors
    /// `Corrupt` when the payload does not read back as what was saved.
    pub async fn load(&self, scope: impl Into<Scope>, version: i64) -> Result<Option<Checkpoint>> {
        let id = heads::checkpoint_id(&scope.into().name(), version)?;
        let records = Records::<CheckpointRecord>::new(self.store.clone());
        let found = records.get(id.key.as_str()).await.map_err(|e| e.during("checkpoints.load"))?;
        match found {
            Some(found) => self.unpack(found.value).await.map_err(|e| e.during("checkpoints.load")),
            None => Ok(None),
        }
    }

    /// The newest version with its payload, verified: the current state.
    ///
    /// # Errors
    /// `Corrupt` when the payload does not read back as what was saved; `Unavailable` when newer ones took its place faster
    /// than it could be read.
    pub async fn latest(&self, scope: impl Into<Scope>) -> Result<Option<Checkpoint>> {
        self.current(&scope.into().name()).await.map_err(|e| e.during("checkpoints.latest"))
    }

    async fn current(&self, scope: &str) -> Result<Option<Checkpoint>> {
        for _ in 0..TRIES {
            let Some(found) = self.newest(scope).await? else { return Ok(None) };
            if let Some(checkpoint) = self.unpack(found).await? {
                return Ok(Some(checkpoint));
            }
            // It went while its payload was read, so there is a newer one, or none at all.
        }
        Err(Error::unavailable(format!("the newest checkpoint of {scope} was deleted while it was read, {TRIES} times"))
            .with_next("try again; keep more than the newest version, if several workers save into the scope"))
    }

    async fn newest(&self, scope: &str) -> Result<Option<CheckpointRecord>> {
        let page = self.store.query(heads::newest_query(scope)?).await?;
        let Some(record) = page.items.first() else { return Ok(None) };
        let found: Versioned<CheckpointRecord> = record.decode()?;
        self.heads.saw(scope, found.info.version);
        Ok(Some(found.value))
    }

    /// Reads the payload, where it is. `None` when the checkpoint was deleted while that was read.
    async fn unpack(&self, record: CheckpointRecord) -> Result<Option<Checkpoint>> {
        let CheckpointRecord { info, payload } = record;
        let key = model::key_of(&info.scope, info.version);
        if let Some(location) = &info.object {
            let Some(bytes) = self.payloads.read(location).await? else {
                return self
                    .gone_or(&key, || payload::damaged(&info, "the record of its payload is missing").with("location", location))
                    .await;
            };
            let payload = payload::of_object(&info, &bytes)?;
            return Ok(Some(Checkpoint { info, payload }));
        }
        let Some(chunks) = self.chunks(&key, info.chunks).await? else {
            return self.gone_or(&key, || payload::damaged(&info, "a chunk of its payload is missing")).await;
        };
        let payload = payload::unpack(&info, payload, &chunks)?;
        Ok(Some(Checkpoint { info, payload }))
    }

    /// A payload goes in the commit that deletes its checkpoint: one that is missing while the checkpoint is there is lost.
    async fn gone_or(&self, key: &str, lost: impl FnOnce() -> Error) -> Result<Option<Checkpoint>> {
        match self.store.get(CheckpointRecord::COLLECTION.name(), key).await? {
            None => Ok(None),
            Some(_) => Err(lost()),
        }
    }

    async fn chunks(&self, key: &str, count: u32) -> Result<Option<Vec<String>>> {
        if count == 0 {
            return Ok(Some(Vec::new()));
        }
        let chunk = |i| RecordId::new(CheckpointChunk::COLLECTION.name(), &model::chunk_key(key, i)).map(Read::Get);
        let reads = (0..count).map(chunk).collect::<Result<Vec<_>>>()?;
        let mut chunks = Vec::with_capacity(reads.len());
        for answer in self.store.read(reads).await? {
            let Some(record) = answer.into_record()? else { return Ok(None) };
            chunks.push(record.decode::<CheckpointChunk>()?.value.data);
        }
        Ok(Some(chunks))
    }

    /// A page of a scope's checkpoints without their payloads, newest first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is.
    pub async fn list(&self, scope: impl Into<Scope>, limit: usize, after: Option<PageCursor>) -> Result<Page<CheckpointInfo>> {
        let scope = scope.into().name();
        let query = Query::new(CheckpointRecord::COLLECTION.name())?.eq("scope", scope).order_desc("version");
        let records = Records::<CheckpointRecord>::new(self.store.clone());
        let page = records.page(query.limit(limit).after(after)).await.map_err(|e| e.during("checkpoints.list"))?;
        page.try_map(|record| Ok(record.value.info))
    }

    /// A page of the scopes that have or had checkpoints, by name. A prefix such as `session/` shows one kind.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is.
    pub async fn scopes(
        &self,
        prefix: &str,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<Page<Versioned<CheckpointScope>>> {
        let mut query = Query::new(CheckpointScope::COLLECTION.name())?.order_asc("scope").limit(limit).after(after);
        if !prefix.is_empty() {
            query = query.prefix("scope", prefix);
        }
        Records::new(self.store.clone()).page(query).await.map_err(|e| e.during("checkpoints.scopes"))
    }

    /// Saves a new version that goes on from an old one instead of from the newest.
    ///
    /// One commit point: as [`Checkpoints::save`].
    ///
    /// # Errors
    /// `NotFound` when the old version does not exist; as [`Checkpoints::save`].
    pub async fn branch(&self, scope: impl Into<Scope>, from: i64, new: NewCheckpoint) -> Result<CheckpointInfo> {
        let scope = scope.into();
        let id = heads::checkpoint_id(&scope.name(), from)?;
        let saving = self.saving(&scope.name(), &new).await.map_err(|e| e.during("checkpoints.branch"))?;
        for _ in 0..TRIES {
            let old = self.store.get(id.collection.as_str(), id.key.as_str()).await?;
            if old.is_none() {
                return Err(no_version(&scope.name(), from).during("checkpoints.branch"));
            }
            let origin = Origin { parent: Some(from), restored_from: None };
            let follows = heads::follows(&self.store, &self.heads, &scope.name()).await?;
            let (info, part) = self.draft(&scope.name(), follows, &saving.new, origin)?;
            let part = part.expect(millpond_core::Expectation::Exists(id.clone()));
            if let Some(info) = self.commit(&saving, info, part).await.map_err(|e| e.during("checkpoints.branch"))? {
                return Ok(info);
            }
        }
        Err(too_busy(&scope.name()).during("checkpoints.branch"))
    }

    /// Makes an old version the current one: its payload is saved again as the next version, which names it in
    /// `restored_from`. Restoring what is current already changes nothing, so a restore can be repeated.
    ///
    /// One commit point: as [`Checkpoints::save`].
    ///
    /// # Errors
    /// `NotFound` when the version does not exist, `Corrupt` when it does not read back.
    pub async fn restore(&self, scope: impl Into<Scope>, version: i64) -> Result<CheckpointInfo> {
        let scope = scope.into();
        self.restore_version(&scope, version).await.map_err(|e| e.during("checkpoints.restore"))
    }

    async fn restore_version(&self, scope: &Scope, version: i64) -> Result<CheckpointInfo> {
        let name = scope.name();
        let old = self.load(scope, version).await?.ok_or_else(|| no_version(&name, version))?;
        let new = NewCheckpoint { payload: old.payload, note: old.info.note, metadata: old.info.metadata, stored: None };
        let origin = Origin { parent: Some(version), restored_from: Some(version) };
        let mut saving = None;
        for _ in 0..TRIES {
            let current = self.newest(&name).await?.ok_or_else(|| no_version(&name, version))?.info;
            if current.version == version || current.restored_from == Some(version) {
                return Ok(current);
            }
            // Only once it is known that there is something to do.
            let saving = match &saving {
                Some(saving) => saving,
                None => saving.insert(self.saving(&name, &new).await?),
            };
            let (info, part) = self.draft(&name, Follows::Newest(current.version), &saving.new, origin)?;
            if let Some(info) = self.commit(saving, info, part).await? {
                return Ok(info);
            }
        }
        Err(too_busy(&name))
    }
}

/// The checkpoint with its payload in an object of a unit.
async fn stored(unit: &Working, scope: &str, new: &NewCheckpoint, kind: PayloadKind, bytes: Bytes) -> Result<NewCheckpoint> {
    let object = Payloads::stage(unit, format!("{}/{scope}", CheckpointRecord::COLLECTION.name()), bytes).await?;
    let (note, metadata) = (new.note.clone(), new.metadata.clone());
    Ok(NewCheckpoint { payload: Payload::Bytes(Vec::new()), note, metadata, stored: Some(StoredPayload { kind, object }) })
}

/// The write of a checkpoint's record. The payload's text was written when its digest was made; it is not written again.
fn put(info: &CheckpointInfo, payload: Option<&Json>) -> Result<Write> {
    let mut document = Json::of(info)?;
    if let Some(payload) = payload {
        document = document.with_member("payload", payload)?;
    }
    Ok(Write::Put(heads::checkpoint_id(&info.scope, info.version)?, document))
}

fn no_version(scope: &str, version: i64) -> Error {
    Error::not_found(format!("checkpoint {version} of {scope} does not exist"))
        .with_next("millpond checkpoints list shows what there is")
}

fn too_busy(scope: &str) -> Error {
    Error::conflict(format!("others saved into {scope} first, {TRIES} times"))
        .with_next("let one worker save into a scope, under a lock if there are several")
}

pub(crate) mod blocking {
    //! The same for synchronous callers.
    use super::*;
    blocking_api! {
        /// The checkpoints, for synchronous callers.
        Checkpoints of super::Checkpoints {
            fn save(scope: impl Into<Scope>, payload: &(impl Serialize + Sync + ?Sized)) -> Result<CheckpointInfo>;
            fn save_new(scope: impl Into<Scope>, new: NewCheckpoint) -> Result<CheckpointInfo>;
            fn save_part(scope: impl Into<Scope>, new: &NewCheckpoint) -> Result<(CheckpointInfo, Commit)>;
            fn load(scope: impl Into<Scope>, version: i64) -> Result<Option<Checkpoint>>;
            fn latest(scope: impl Into<Scope>) -> Result<Option<Checkpoint>>;
            fn list(scope: impl Into<Scope>, limit: usize, after: Option<PageCursor>) -> Result<Page<CheckpointInfo>>;
            fn scopes(prefix: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<CheckpointScope>>>;
            fn branch(scope: impl Into<Scope>, from: i64, new: NewCheckpoint) -> Result<CheckpointInfo>;
            fn restore(scope: impl Into<Scope>, version: i64) -> Result<CheckpointInfo>;
            fn keep_newest(scope: impl Into<Scope>, count: u32) -> Result<u64>;
            fn delete_older_than(scope: impl Into<Scope>, time: Timestamp) -> Result<u64>;
            fn delete_all(scope: impl Into<Scope>) -> Result<u64>;
        }
    }
}
