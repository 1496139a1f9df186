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
use crate::hex::hex;
use crate::journal::PlaceInfo;

/// Places whose location does not tell them apart: the server or the account is a setting that is not shown. Two of them
/// would be taken for one that lost its history, so nothing is remembered of them.
const NOT_NAMED: [&str; 6] = ["s3", "gs", "az", "object", "object-file", "object-memory"];

/// See the module.
#[derive(Debug)]
pub(crate) struct Remembered {
    path: PathBuf,
    place: Option<String>,
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
        // A folder may be named from elsewhere.
        let absolute = std::path::absolute(&place.location).map_or_else(|_| place.location.clone(), |p| p.display().to_string());
        let location = if place.kind == "file" { &absolute } else { &place.location };
        let place = (!NOT_NAMED.contains(&place.kind)).then(|| format!("{} {location}", place.kind));
        let digest = Sha256::digest(place.as_deref().unwrap_or_default());
        let name = hex(&digest[..16]);
        Self { path: cache.join("registers").join(format!("{name}.json")), place }
    }

    /// The file, for whoever emptied the place on purpose, or put another one there.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The entry that was seen last, if one is known.
    pub(crate) fn tail(&self) -> Option<Tail> {
        let note: Note = serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()?;
        let valid = Some(note.place) == self.place && boot_id().is_some_and(|boot| boot == note.boot) && note.number > 0;
        valid.then_some(Tail { number: note.number, digest: note.digest })
    }

    /// Remembers an entry. That it cannot be remembered is no reason not to go on.
    pub(crate) fn keep(&self, tail: &Tail) {
        if let Err(error) = self.try_keep(tail) {
            tracing::warn!(%error, "what was seen of the register of namespaces could not be kept");
        }
    }

    fn try_keep(&self, tail: &Tail) -> Result<()> {
        let (Some(place), Some(boot)) = (self.place.clone(), boot_id()) else { return Ok(()) };
        let note = Note { place, boot, number: tail.number, digest: tail.digest.clone() };
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

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::Durability;

    fn remembered(cache: &Path, kind: &'static str, location: &str) -> Remembered {
        let place = PlaceInfo { kind, location: location.to_owned(), durability: Durability::Memory, facts: Vec::new() };
        Remembered::new(cache, &place)
    }

    #[test]
    fn each_place_has_a_note_of_its_own_if_its_location_names_it() {
        let cache = tempfile::tempdir().unwrap();
        let tail = Tail { number: 7, digest: "d".to_owned() };
        remembered(cache.path(), "nats", "nats://a:4222/?prefix=p").keep(&tail);
        assert_eq!(remembered(cache.path(), "nats", "nats://a:4222/?prefix=p").tail(), Some(tail.clone()));
        assert_eq!(remembered(cache.path(), "nats", "nats://a:4222/?prefix=q").tail(), None);
        let here = std::env::current_dir().unwrap();
        remembered(cache.path(), "file", "store").keep(&tail);
        assert_eq!(remembered(cache.path(), "file", &here.join("store").display().to_string()).tail(), Some(tail.clone()));
        // Which server that is depends on the environment.
        remembered(cache.path(), "s3", "s3://bucket/p").keep(&tail);
        assert_eq!(remembered(cache.path(), "s3", "s3://bucket/p").tail(), None);
    }

    #[test]
    fn a_note_from_before_the_machine_was_started_does_not_count() {
        let cache = tempfile::tempdir().unwrap();
        let note = remembered(cache.path(), "nats", "n");
        note.keep(&Tail { number: 7, digest: "d".to_owned() });
        let text = std::fs::read_to_string(note.path()).unwrap().replace(&boot_id().unwrap(), "another boot");
        std::fs::write(note.path(), text).unwrap();
        assert_eq!(note.tail(), None);
        std::fs::write(note.path(), "torn").unwrap();
        assert_eq!(note.tail(), None);
    }
}
