//! The documents of checkpoints, and what a caller hands in and gets back.

use std::collections::BTreeMap;

use millpond_core::{Collection, Document, Error, FieldKind, Json, Key, Result, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payloads::PayloadObject;

/// What a series of checkpoints belongs to. A bare id stands for a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// A session.
    Session(String),
    /// A workflow.
    Workflow(String),
    /// A run.
    Run(String),
}

impl Scope {
    /// The scope as text: `session/ID`, `workflow/ID` or `run/ID`. It is the beginning of the records' keys.
    pub fn name(&self) -> String {
        match self {
            Self::Session(id) => format!("session/{id}"),
            Self::Workflow(id) => format!("workflow/{id}"),
            Self::Run(id) => format!("run/{id}"),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl std::str::FromStr for Scope {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('/') {
            Some(("session", id)) if !id.is_empty() => Ok(Self::Session(id.to_owned())),
            Some(("workflow", id)) if !id.is_empty() => Ok(Self::Workflow(id.to_owned())),
            Some(("run", id)) if !id.is_empty() => Ok(Self::Run(id.to_owned())),
            _ => Err(Error::invalid(format!("{text:?} is not the scope of checkpoints"))
                .with_next("write session/ID, workflow/ID or run/ID")),
        }
    }
}

impl From<&str> for Scope {
    fn from(run: &str) -> Self {
        Self::Run(run.to_owned())
    }
}

impl From<String> for Scope {
    fn from(run: String) -> Self {
        Self::Run(run)
    }
}

impl From<&millpond_core::Versioned<crate::Run>> for Scope {
    fn from(run: &millpond_core::Versioned<crate::Run>) -> Self {
        Self::Run(run.id.clone())
    }
}

impl From<&crate::Run> for Scope {
    fn from(run: &crate::Run) -> Self {
        Self::Run(run.id.clone())
    }
}

impl From<&Scope> for Scope {
    fn from(scope: &Scope) -> Self {
        scope.clone()
    }
}

/// What a checkpoint holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// JSON.
    Json(Value),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// How a checkpoint's payload is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadKind {
    /// JSON.
    Json,
    /// Bytes, as base64 text.
    Bytes,
}

/// A checkpoint that is to be saved.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCheckpoint {
    pub(crate) payload: Payload,
    pub(crate) note: Option<String>,
    pub(crate) metadata: BTreeMap<String, Value>,
    /// Where the payload is, if it was too large for records; then `payload` is empty.
    pub(crate) stored: Option<StoredPayload>,
}

/// A payload that is kept as an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredPayload {
    pub(crate) kind: PayloadKind,
    pub(crate) object: PayloadObject,
}

impl NewCheckpoint {
    /// One whose payload is anything serialisable.
    ///
    /// # Errors
    /// `Invalid` when it cannot be JSON.
    pub fn json<T: Serialize + ?Sized>(payload: &T) -> Result<Self> {
        let value = serde_json::to_value(payload)
            .map_err(|e| Error::invalid("the checkpoint cannot be written as JSON").with_source(e))?;
        Ok(Self { payload: Payload::Json(value), note: None, metadata: BTreeMap::new(), stored: None })
    }

    /// One whose payload is bytes.
    pub fn bytes(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: Payload::Bytes(payload.into()), note: None, metadata: BTreeMap::new(), stored: None }
    }

    /// Why it was saved, in words.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Anything else to keep with it. Shown in lists, unlike the payload.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: Value) -> Self {
        self.metadata.insert(name.into(), value);
        self
    }
}

/// What is known about a checkpoint without its payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// The scope, as [`Scope::name`] writes it.
    pub scope: String,
    /// 1, 2, 3 … in its scope; never used twice.
    pub version: i64,
    /// When it was saved, on the store's clock.
    pub created_at: Timestamp,
    /// The version it goes on from; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<i64>,
    /// The version it brought back, if it was made by a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<i64>,
    /// JSON or bytes.
    pub kind: PayloadKind,
    /// Bytes of the payload: of the canonical JSON text, or the bytes themselves.
    pub size: i64,
    /// SHA-256 of those bytes, checked on every load.
    pub sha256: String,
    /// How many chunk records hold the payload; 0 when it is in the record itself.
    #[serde(default)]
    pub chunks: u32,
    /// Where the payload is, when it is too large for records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Why it was saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Value>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A checkpoint as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// The payload: JSON as it is, bytes as base64 text, or absent when it is in chunk records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub info: CheckpointInfo,
}

impl Document for CheckpointRecord {
    const COLLECTION: Collection = Collection::new("checkpoints")
        .version(1)
        .index("scope", FieldKind::Text)
        .index("version", FieldKind::Integer)
        .index("created_at", FieldKind::Timestamp)
        .index("size", FieldKind::Integer)
        .index_on(&["scope", "version"])
        .create_only()
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(key_of(&self.info.scope, self.info.version))
    }
}

/// The key of a checkpoint. Padded, so that keys of one scope sort as its versions do.
pub(super) fn key_of(scope: &str, version: i64) -> String {
    format!("{scope}/{version:012}")
}

/// One piece of a payload that is too large for one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointChunk {
    /// The checkpoint's key.
    pub checkpoint: String,
    /// 0, 1, 2 …
    pub index: u32,
    /// The piece: of the JSON text, or of the bytes as base64 text.
    pub data: String,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Document for CheckpointChunk {
    const COLLECTION: Collection = Collection::new("checkpoint_chunks").version(1).create_only().owned();

    fn key(&self) -> Result<Key> {
        Key::new(chunk_key(&self.checkpoint, self.index))
    }
}

/// The key of a chunk.
pub(super) fn chunk_key(checkpoint: &str, index: u32) -> String {
    format!("{checkpoint}/c{index:04}")
}

/// A scope that has or had checkpoints. Written with its first one, and when all of them are deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointScope {
    /// The scope, as [`Scope::name`] writes it.
    pub scope: String,
    /// The version that comes next when there is no checkpoint left to count from.
    pub next_version: i64,
    /// When its first checkpoint was saved.
    pub created_at: Timestamp,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Document for CheckpointScope {
    const COLLECTION: Collection = Collection::new("checkpoint_scopes")
        .version(1)
        .index("scope", FieldKind::Text)
        .index("created_at", FieldKind::Timestamp)
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.scope.as_str())
    }
}

/// A checkpoint that was loaded, its payload verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// What is known about it.
    pub info: CheckpointInfo,
    /// What it holds.
    pub payload: Payload,
}

impl std::ops::Deref for Checkpoint {
    type Target = CheckpointInfo;
    fn deref(&self) -> &CheckpointInfo {
        &self.info
    }
}

impl Checkpoint {
    /// A JSON payload as `T`.
    ///
    /// # Errors
    /// `Invalid` when the payload is bytes or does not have the shape of `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        match &self.payload {
            Payload::Json(value) => T::deserialize(value).map_err(|e| {
                Error::invalid(format!("checkpoint {} of {} has another shape", self.version, self.scope)).with_source(e)
            }),
            Payload::Bytes(_) => Err(Error::invalid(format!("checkpoint {} of {} holds bytes", self.version, self.scope))
                .with_next("read it with bytes()")),
        }
    }

    /// The payload as bytes: what was saved, or the canonical JSON text.
    ///
    /// # Errors
    /// `Invalid` when the payload is not JSON that can be kept.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        match &self.payload {
            Payload::Bytes(bytes) => Ok(bytes.clone()),
            Payload::Json(value) => Ok(Json::from_value(value)?.as_str().as_bytes().to_vec()),
        }
    }
}
