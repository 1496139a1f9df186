//! Artifacts: bytes under a key, with what is known of where they come from. Each write is a unit of work, of which
//! those of bytes at hand are not registered: `units/short.rs`.
//!
//! * `model.rs`: what is kept; `key.rs`: the convention of keys; `new.rs`, `body.rs`: what is written and its bytes on
//!   their way; `work.rs`: what a unit made and has not decided; `unit.rs`: that as callers see it; `read.rs`, `list.rs`;
//!   `watch.rs`: what is written, as it is committed; `verify.rs`: is all of it there; `place.rs`: where the bytes are;
//!   `files.rs`, `download.rs`: artifacts as files;
//!   `delete.rs`, `purge.rs`: what goes; `needed.rs`: what keeps it.

pub(crate) mod blocking;
mod body;
mod delete;
mod download;
mod files;
mod key;
mod list;
mod model;
mod needed;
mod new;
mod place;
mod purge;
mod read;
mod sums;
mod unit;
mod verify;
mod watch;
mod work;

use std::sync::Arc;
use std::time::Duration;

use millpond_core::{Commit, Error, Outcome, Result, Store};
use millpond_objects::Objects;

pub use download::{Downloaded, DownloadedFile, NotDownloaded};
pub use files::SavedArtifact;
pub use key::ArtifactKey;
pub use list::{ArtifactFilter, ArtifactList, Listed, ListedPage};
pub(crate) use model::COLLECTIONS;
pub use model::{Artifact, ArtifactVersion, BlockSums, Provenance};
pub use needed::{KeptBecause, KeptFor};
pub use new::{Body, NewArtifact, Only};
pub use place::MovedPlace;
pub use purge::{PurgeVersions, PurgedVersions};
pub use read::{ArtifactReader, KEYS_AT_ONCE};
pub use unit::{PutArtifact, UnitArtifacts};
pub use verify::{DamagedArtifact, VerifiedArtifacts, VerifyArtifacts, VerifyProgress};
pub use watch::{ArtifactWatch, StorageEvent, StorageEventKind, WatchArtifacts};
pub use work::{ARTIFACT_DELETED, ARTIFACT_WRITTEN};
pub(crate) use work::{ArtifactWork, event, stream_of_execution};

use crate::Runs;
use crate::units::Units;

/// The artifacts of a namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    units: Units,
    /// What executions are, where they are runs.
    runs: Runs,
}

impl Artifacts {
    pub(crate) fn new(units: Units, runs: Runs) -> Self {
        Self { units, runs }
    }

    /// Artifacts of one store, with their bytes in a place that is open.
    pub fn over(store: Store, objects: Arc<dyn Objects>) -> Self {
        Self::new(Units::over(store.clone(), objects), Runs::new(store))
    }

    /// The units that write them.
    pub fn units(&self) -> &Units {
        &self.units
    }

    fn runs(&self) -> &Runs {
        &self.runs
    }

    pub(crate) fn store(&self) -> &Store {
        &self.units.undoing().store
    }

    pub(crate) async fn objects(&self) -> Result<Arc<dyn Objects>> {
        self.units.undoing().objects.get(self.store()).await
    }

    /// Writes an artifact, new or in the place of what was there. One commit point: the unit's decision; until then
    /// everybody reads what was there before.
    ///
    /// A body whose bytes come piece by piece is written while it comes; memory stays flat. One that is at hand and has at
    /// most 4 MiB is written without a registration: one upload, one commit. If the process ends in between, its bytes
    /// are left to the collector.
    ///
    /// # Errors
    /// `Conflict`, naming who, when somebody else's unit has the same key, or its condition does not hold; what the store,
    /// the place of the bytes or the body fails with. After `UnknownOutcome` it may have happened; no byte that was there
    /// before is touched in any case.
    pub async fn write(&self, key: &str, body: impl Into<Body>, new: NewArtifact) -> Result<Artifact> {
        let write = async |work: &ArtifactWork| match body.into() {
            Body::Bytes(bytes) if bytes.len() <= body::AT_ONCE => work.put_short(key, bytes, new).await,
            body => work.put(key, body, new).await,
        };
        self.alone(write).await.map_err(|e| e.during("artifacts.write"))
    }

    /// Names the bytes of an artifact under a further key; what was there is replaced. No byte is moved. One commit point:
    /// the unit's decision.
    ///
    /// # Errors
    /// `NotFound` without the source; `Conflict` when somebody else writes the target.
    pub async fn copy(&self, from: &str, to: &str) -> Result<Artifact> {
        self.alone(async |work| work.copy(from, to).await).await.map_err(|e| e.during("artifacts.copy"))
    }

    /// A unit of one operation.
    async fn alone<T>(&self, operation: impl AsyncFnOnce(&ArtifactWork) -> Result<T>) -> Result<T> {
        let work = ArtifactWork::new(self.units.begin(None, None, Duration::ZERO));
        let done = match operation(&work).await {
            Ok(done) => done,
            Err(error) => return Err(given_up(&work, error).await),
        };
        decide(&work, Commit::new().trusted()).await?;
        Ok(done)
    }
}

/// Decides for a unit of artifacts and what its caller adds. A unit that is refused is undone.
pub(crate) async fn decide(work: &ArtifactWork, parts: Commit) -> Result<millpond_core::Receipt> {
    match work.decide(parts).await {
        Ok(Outcome::Committed(receipt)) => Ok(receipt),
        Ok(Outcome::Conflict(conflict)) => {
            let refused = crate::objects::explained(Error::from_conflict(conflict));
            let refused = crate::pins::explained(&work.working().undoing().store, refused).await;
            Err(given_up(work, refused).await)
        }
        Err(error) => Err(given_up(work, error).await),
    }
}

/// Undoes a unit after an error, which is what is answered. A unit that could not be undone is left to others.
pub(crate) async fn given_up(work: &ArtifactWork, error: Error) -> Error {
    match work.working().undo(&error.to_string()).await {
        Ok(()) => error,
        Err(_) => error.with("unit", work.working().id()),
    }
}
