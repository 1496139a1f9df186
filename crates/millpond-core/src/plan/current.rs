//! What a batch has made so far of one record or one stream.

use serde_json::Value;

use crate::collection::FieldValue;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::outcome::Found;
use crate::plan::state::RecordState;
use crate::position::Position;
use crate::time::Timestamp;

/// A document on its way through a batch. Merges keep the parsed value, so that a hot one is parsed once a batch.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Stored(Option<Json>),
    Text(Json, Option<Vec<FieldValue>>),
    Merged { value: Value, size_bound: usize, fields: Vec<FieldValue> },
}

/// A record's present state while a batch is being decided.
#[derive(Debug, Clone)]
pub(super) enum Current {
    Never,
    Live { revision: u64, position: Position, time: Timestamp, by: Option<String>, document: Document },
    Gone { revision: u64, position: Position, time: Timestamp, by: Option<String> },
}

impl Current {
    pub(super) fn of(state: Option<&RecordState>) -> Self {
        match state {
            None | Some(RecordState::Never) => Self::Never,
            Some(RecordState::Live { revision, time, by, document, .. }) => Self::Live {
                revision: *revision,
                position: Position::ZERO,
                time: *time,
                by: by.clone(),
                document: Document::Stored(document.clone()),
            },
            Some(RecordState::Gone { revision, .. }) => {
                Self::Gone { revision: *revision, position: Position::ZERO, time: Timestamp::default(), by: None }
            }
        }
    }

    /// The last revision, if there ever was one that is remembered.
    pub(super) fn last_revision(&self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::Live { revision, .. } | Self::Gone { revision, .. } => Some(*revision),
        }
    }

    pub(super) fn found(&self) -> Found {
        match self {
            Self::Never => Found::Absent { revision: 0 },
            Self::Gone { revision, .. } => Found::Absent { revision: *revision },
            Self::Live { revision, time, by, .. } => Found::Record { revision: *revision, time: *time, by: by.clone() },
        }
    }

    pub(super) fn value(&self) -> Result<Option<Value>> {
        match self {
            Self::Live { document: Document::Stored(Some(json)) | Document::Text(json, _), .. } => json.value().map(Some),
            Self::Live { document: Document::Merged { value, .. }, .. } => Ok(Some(value.clone())),
            Self::Live { document: Document::Stored(None), .. } => {
                Err(Error::corrupt("the engine did not load a document that the plan needs"))
            }
            _ => Ok(None),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct CurrentStream {
    pub(super) head: u64,
    pub(super) oldest: u64,
    pub(super) sealed: bool,
}
