//! What is kept of units: the unit, its operations, its claims on paths, and the floor below which no unit can begin.

use millpond_core::{Collection, Document, FieldKind, Key, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::extra::{Extended, Extra};

/// Every collection of units.
pub(crate) const COLLECTIONS: [Collection; 4] =
    [UnitInfo::COLLECTION, UnitOperation::COLLECTION, PathClaim::COLLECTION, UnitFloor::COLLECTION];

/// How a unit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// It is being worked on, or whoever did is gone.
    Pending,
    /// All of it happened.
    Committed,
    /// It will not happen; what it left is being undone.
    Aborting,
    /// None of it is left.
    Aborted,
    /// It did not happen, and a step of it could not be undone: a person has to look.
    Failed,
}

impl UnitState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Committed, Self::Aborting, Self::Aborted, Self::Failed];

    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Committed => "committed",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing is done any more unless a person asks.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Committed | Self::Aborted | Self::Failed)
    }
}

impl std::fmt::Display for UnitState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A unit, as it is seen from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitInfo {
    /// Its id: the record's key, and the id of the commit that decides.
    pub id: String,
    /// How it stands.
    pub state: UnitState,
    /// Who works on it.
    pub worker: String,
    /// When its first operation was registered.
    pub began: Timestamp,
    /// When it was committed, or its last trace was undone.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// Why it was aborted.
    #[serde(default)]
    pub reason: Option<String>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Extended for UnitInfo {
    fn extras(&self) -> Vec<&Extra> {
        vec![&self.extra]
    }
}

impl Document for UnitInfo {
    const COLLECTION: Collection = Collection::new("units")
        .version(1)
        .index("state", FieldKind::Text)
        .index("worker", FieldKind::Text)
        .index("began", FieldKind::Timestamp)
        .index("ended", FieldKind::Timestamp)
        .index_on(&["state", "began"])
        .index_on(&["state", "ended"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str())
    }
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Writes an artifact.
    Put,
    /// Deletes an artifact.
    Delete,
    /// Names the bytes of an artifact under a further key.
    Copy,
    /// Writes bytes that belong to a record of another domain.
    Object,
    /// Does something outside of the store.
    Step,
}

impl OperationKind {
    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Copy => "copy",
            Self::Object => "object",
            Self::Step => "step",
        }
    }

    /// Whether it claims a path.
    pub(crate) fn claims(self) -> bool {
        matches!(self, Self::Put | Self::Delete | Self::Copy)
    }

    /// Whether it writes bytes.
    pub(crate) fn has_bytes(self) -> bool {
        matches!(self, Self::Put | Self::Object)
    }
}

/// How an operation stands. The names are FennFlow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OperationStatus {
    /// It is registered; bytes may be on their way, a step may have happened.
    Pending,
    /// It happened, with its unit.
    Done,
    /// It was undone, with its unit.
    Compensated,
    /// It could not be undone; or, in a unit that was committed, it brought nothing and is no part of it.
    Failed,
}

impl OperationStatus {
    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Done => "DONE",
            Self::Compensated => "COMPENSATED",
            Self::Failed => "FAILED",
        }
    }
}

/// One operation of a unit.
///
/// What is kept of a step says how the step stands. The others stand as their unit does, so that its decision need not
/// touch each of them, only those that it leaves out: [`UnitOperation::status_in`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitOperation {
    /// The unit.
    pub unit: String,
    /// Its number within the unit, from 1.
    pub number: u32,
    /// What it does.
    pub kind: OperationKind,
    /// The artifact, or what the step or the object is called.
    pub path: String,
    /// Where its bytes go.
    #[serde(default)]
    pub location: Option<String>,
    /// How it stands.
    pub status: OperationStatus,
    /// What undoes a step, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<String>,
    /// What that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Value>,
    /// How often undoing it failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// How it failed the last time, or why it is no part of its unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks with a reference
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl UnitOperation {
    /// How it stands in a unit that stands so.
    pub fn status_in(&self, unit: UnitState) -> OperationStatus {
        match unit {
            // What failed, or came too late, was left out.
            UnitState::Committed if self.status == OperationStatus::Failed => OperationStatus::Failed,
            UnitState::Committed => OperationStatus::Done,
            _ if self.kind == OperationKind::Step => self.status,
            UnitState::Pending | UnitState::Aborting => OperationStatus::Pending,
            UnitState::Aborted | UnitState::Failed => OperationStatus::Compensated,
        }
    }
}

impl Extended for UnitOperation {
    fn extras(&self) -> Vec<&Extra> {
        vec![&self.extra]
    }
}

impl Document for UnitOperation {
    const COLLECTION: Collection = Collection::new("unit_operations").version(1).index("unit", FieldKind::Text).owned();

    /// The operations of a unit in their order are those with its field, in the order of their keys.
    fn key(&self) -> Result<Key> {
        Key::new(format!("{}/{:010}", self.unit, self.number))
    }
}

/// That a unit writes a path. Created only where there is none, and gone when the unit is decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathClaim {
    /// The artifact: the record's key.
    pub path: String,
    /// The unit.
    pub unit: String,
}

impl Document for PathClaim {
    const COLLECTION: Collection = Collection::new("artifact_claims").version(1).owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.path.as_str())
    }
}

/// The moment before which no unit can begin or be decided any more: what the collector raises before it removes
/// bytes of units that nobody knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitFloor {
    /// The moment, in milliseconds since 1970, as the ids of units carry it.
    pub floor_ms: i64,
}

impl UnitFloor {
    /// The key of the only record.
    pub(crate) const KEY: &'static str = "floor";
    /// Where its number is.
    pub(crate) const POINTER: &'static str = "/floor_ms";
}

impl Document for UnitFloor {
    const COLLECTION: Collection = Collection::new("unit_floor").version(1).owned();

    fn key(&self) -> Result<Key> {
        Key::new(Self::KEY)
    }
}

/// The moment in a unit's id, in milliseconds since 1970.
pub(crate) fn moment_of(unit: uuid::Uuid) -> i64 {
    // The first 48 bits of a UUIDv7 (RFC 9562, section 5.7).
    i64::try_from(unit.as_u128() >> 80).unwrap_or(i64::MAX)
}
