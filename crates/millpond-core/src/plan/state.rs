//! The state a plan starts from, as the engine loaded it.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::collection::Catalog;
use crate::engine::NamespaceStatus;
use crate::id::CommitId;
use crate::json::Json;
use crate::name::{CollectionName, RecordId, StreamName};
use crate::outcome::Receipt;
use crate::position::Position;
use crate::time::Timestamp;

/// The head of a namespace's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceHead {
    /// Open, frozen, or moved.
    pub status: NamespaceStatus,
    /// The last position given out.
    pub position: Position,
    /// The time of the last commit; time never runs backwards inside a namespace.
    pub time: Timestamp,
    /// Receipts of ids made before this moment are gone, so such ids are refused.
    pub receipts_floor: Timestamp,
}

/// What is stored under a record's id. `handle` is the engine's own name for the row and is passed back to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordState {
    /// Nothing, and no memory of anything.
    Never,
    /// A record.
    Live {
        /// Its revision.
        revision: u64,
        /// When it was last changed.
        time: Timestamp,
        /// By whom.
        by: Option<String>,
        /// The document, where [`super::Touched`] asked for it.
        document: Option<Json>,
        /// The engine's own name for the row.
        handle: i64,
    },
    /// A tombstone.
    Gone {
        /// The revision of the deletion.
        revision: u64,
        /// The engine's own name for the row.
        handle: i64,
    },
}

/// A stream's head. A stream that does not exist yet is not in the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// The last sequence.
    pub head: u64,
    /// The oldest sequence kept.
    pub oldest: u64,
    /// Closed for good.
    pub sealed: bool,
    /// The engine's own name for the row.
    pub handle: i64,
}

/// A remembered commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReceipt {
    /// The digest of the commit's body.
    pub digest: [u8; 16],
    /// What it answered.
    pub receipt: Receipt,
}

/// Everything [`super::Touched`] asked for.
#[derive(Debug, Clone)]
pub struct State {
    /// The namespace's head.
    pub namespace: NamespaceHead,
    /// The declarations in force.
    pub catalog: Arc<Catalog>,
    /// Per collection, the revision that purged tombstones left behind.
    pub revision_floors: HashMap<CollectionName, u64>,
    /// The records; one that is missing here is [`RecordState::Never`].
    pub records: HashMap<RecordId, RecordState>,
    /// The streams that exist.
    pub streams: HashMap<StreamName, StreamState>,
    /// The event ids that are in their streams, with their sequence.
    pub event_ids: HashMap<(StreamName, String), u64>,
    /// The receipts that exist.
    pub receipts: HashMap<CommitId, StoredReceipt>,
}
