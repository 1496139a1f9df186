//! What this machine last saw of a place's register: `CACHE/registers/<place>.json`, a few bytes.
//!
//! The register is read from its beginning whenever a store is opened, so an empty one would look like a new place. A
//! replica cannot say otherwise, because it is found through the register. As with replicas, what was seen before the
//! machine was started last does not count, and all of it may be deleted at any time that no process runs.

use std::path::{Path, PathBuf};

use millpond_core::{Error, Result};
use millpond_sqlite::Tail;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cache::boot_id;
use crate::journal::PlaceInfo;

/// See the module.
#[derive(Debug)]
pub(crate) struct Remembered {
    path: PathBuf,
    place: String,
}

#[derive(Serialize, Deserialize)]
struct Note {
    place: String,
    boot: String,
    number: u64,
    digest: String,
}

impl Remembered {
    pub(crate) fn new(cache: &Path, place: &PlaceInfo) -> Self {
        let place = format!("{} {}", place.kind, place.location);
        let name: String = Sha256::digest(&place)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { path: cache.join("registers").join(format!("{name}.json")), place }
    }

    /// The file, for whoever emptied the place on purpose.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The entry that was seen last, if one is known.
    pub(crate) fn tail(&self) -> Option<Tail> {
        let note: Note = serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()?;
        let valid = note.place == self.place && boot_id().is_some_and(|boot| boot == note.boot) && note.number > 0;
        valid.then_some(Tail { number: note.number, digest: note.digest })
    }

    /// Remembers an entry. That it cannot be remembered is no reason not to go on.
    pub(crate) fn keep(&self, tail: &Tail) {
        if let Err(error) = self.try_keep(tail) {
            tracing::warn!(%error, "what was seen of the register of namespaces could not be kept");
        }
    }

    fn try_keep(&self, tail: &Tail) -> Result<()> {
        let Some(boot) = boot_id() else { return Ok(()) };
        let note = Note { place: self.place.clone(), boot, number: tail.number, digest: tail.digest.clone() };
        let failed = |e: std::io::Error| Error::unavailable(format!("cannot write {}", self.path.display())).with_source(e);
        let text = serde_json::to_string(&note).map_err(|e| Error::invalid("a note cannot be written").with_source(e))?;
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        // Another process may write its own at the same time; either is right.
        let temporary = self.path.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &self.path)).map_err(failed)
    }
}
