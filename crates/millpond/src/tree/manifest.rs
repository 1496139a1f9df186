//! What was last written: the digest and the revision of each file, and up to which position all of them are.
//!
//! The manifest is written last, after the files it tells of, and replaced as a whole. After a crash it therefore knows
//! too little, never too much: a file that it does not know and that says what the store says is not an edit.

use std::collections::BTreeMap;

use millpond_core::{Position, Result};
use serde::{Deserialize, Serialize};

use super::files::Folder;

const FORMAT: u32 = 1;
const NAME: &str = "manifest.json";

/// One file as it was last written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// SHA-256 of the bytes; of a stream's file, a chain over its lines.
    pub(super) digest: String,
    /// The record's revision; of a stream, the last sequence.
    pub(super) revision: u64,
    /// Of a stream's file, its bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) bytes: u64,
    /// The file says what the store says, but in a person's words: they are kept aside before they are replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) by_hand: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // The signature is serde's.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// Whose files these are.
    pub(super) store_id: String,
    /// Whether all records and streams are shown, or only definitions.
    pub(super) everything: bool,
    /// Every file is as the store was here, or newer. `None`: not yet.
    pub(super) position: Option<Position>,
    /// By path.
    pub(super) files: BTreeMap<String, Entry>,
}

impl Manifest {
    pub(super) fn new(store_id: &str, everything: bool) -> Self {
        Self { format: FORMAT, store_id: store_id.to_owned(), everything, ..Self::default() }
    }

    /// Reads it; `None` when there is none. One that does not read back is as good as none: every file is then compared
    /// with what the store says.
    pub(super) fn load(folder: &Folder) -> Result<Option<Self>> {
        let Some(bytes) = folder.read_own(NAME)? else { return Ok(None) };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(found) if found.format == FORMAT => Ok(Some(found)),
            Ok(found) => {
                tracing::warn!(format = found.format, "the tree's manifest has another format and is made anew");
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%error, "the tree's manifest does not read back and is made anew");
                Ok(None)
            }
        }
    }

    /// Writes it, at once and durably.
    pub(super) fn save(&self, folder: &Folder) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| millpond_core::Error::invalid("the manifest cannot be written").with_source(e))?;
        folder.write_own(NAME, &text)
    }
}
