//! Artifacts for synchronous callers.

use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use millpond_core::{Page, PageCursor, Result, Versioned};

use super::new::next_piece;
pub use super::watch::blocking::ArtifactWatch;
use super::{
    Artifact, ArtifactFilter, ArtifactVersion, Body, DamagedArtifact, Downloaded, DownloadedFile, ListedPage, MovedPlace,
    NewArtifact, PurgeVersions, PurgedVersions, SavedArtifact, VerifiedArtifacts, VerifyArtifacts, VerifyProgress,
    WatchArtifacts,
};
use crate::bridge::Bridge;

blocking_api! {
    /// The artifacts, for synchronous callers.
    Artifacts of super::Artifacts {
        fn write(key: &str, body: impl Into<Body>, new: NewArtifact) -> Result<Artifact>;
        fn read(key: &str) -> Result<Bytes>;
        fn read_range(key: &str, range: Range<u64>) -> Result<Bytes>;
        fn read_many(keys: &[&str]) -> Result<Vec<(String, Result<Bytes>)>>;
        fn read_version(key: &str, version: &str) -> Result<Bytes>;
        fn info(key: &str) -> Result<Option<Versioned<Artifact>>>;
        fn exists(key: &str) -> Result<bool>;
        fn delete(key: &str) -> Result<bool>;
        fn purge_versions(request: &PurgeVersions) -> Result<PurgedVersions>;
        fn copy(from: &str, to: &str) -> Result<Artifact>;
        fn list(filter: &ArtifactFilter) -> Result<Page<Versioned<Artifact>>>;
        fn count(filter: &ArtifactFilter) -> Result<u64>;
        fn list_folder(prefix: &str, delimiter: &str, limit: usize, after: Option<&str>) -> Result<ListedPage>;
        fn history(key: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<ArtifactVersion>>>;
        fn address(key: &str, lasting: Duration) -> Result<String>;
        fn verify(artifact: &Artifact, read_data: bool) -> Result<()>;
        fn verify_all(request: &VerifyArtifacts, on: impl FnMut(&VerifyProgress, Option<&DamagedArtifact>)) -> Result<VerifiedArtifacts>;
        fn place() -> Result<Option<String>>;
        fn place_moved(to: &str) -> Result<MovedPlace>;
        fn download(execution: &str, folder: &Path, on: impl FnMut(&Downloaded, &DownloadedFile)) -> Result<Downloaded>;
        fn save(key: &str, range: Option<Range<u64>>, file: &Path) -> Result<SavedArtifact>;
        fn save_version(key: &str, version: &str, range: Option<Range<u64>>, file: &Path) -> Result<SavedArtifact>;
    }
}

impl Artifacts {
    /// Writes what a reader gives, piece by piece.
    ///
    /// # Errors
    /// As [`super::Artifacts::write`]; `Unavailable` when the reader fails.
    pub fn write_from(&self, key: &str, reader: impl Read + Send + 'static, new: NewArtifact) -> Result<Artifact> {
        self.bridge.run(self.domain.write(key, body_of(reader), new))
    }

    /// Follows what is written and deleted. See [`super::Artifacts::watch`].
    ///
    /// # Errors
    /// As [`super::Artifacts::watch`].
    pub fn watch(&self, request: WatchArtifacts) -> Result<ArtifactWatch> {
        let watch = self.bridge.run(self.domain.watch(request))?;
        Ok(ArtifactWatch::new(watch, self.bridge.clone()))
    }

    /// An artifact piece by piece.
    ///
    /// # Errors
    /// As [`super::Artifacts::reader`].
    pub fn reader(&self, key: &str, range: Option<Range<u64>>) -> Result<ArtifactReader> {
        let reader = self.bridge.run(self.domain.reader(key, range))?;
        Ok(ArtifactReader { reader, bridge: self.bridge.clone(), left: Bytes::new() })
    }

    /// A version of an artifact piece by piece.
    ///
    /// # Errors
    /// As [`super::Artifacts::version_reader`].
    pub fn version_reader(&self, key: &str, version: &str, range: Option<Range<u64>>) -> Result<ArtifactReader> {
        let reader = self.bridge.run(self.domain.version_reader(key, version, range))?;
        Ok(ArtifactReader { reader, bridge: self.bridge.clone(), left: Bytes::new() })
    }
}

/// The body that a reader gives, read by whoever takes the pieces: the caller waits in any case.
fn body_of(reader: impl Read + Send + 'static) -> Body {
    Body::stream(futures_util::stream::try_unfold(reader, |mut reader| async move {
        let piece = next_piece(&mut reader)?;
        Ok((!piece.is_empty()).then_some((piece, reader)))
    }))
}

/// An artifact that is read piece by piece, as a reader of the standard library.
#[derive(Debug)]
pub struct ArtifactReader {
    reader: super::ArtifactReader,
    bridge: Bridge,
    left: Bytes,
}

impl ArtifactReader {
    /// What is known of the artifact.
    pub fn artifact(&self) -> &Artifact {
        self.reader.artifact()
    }
}

impl Read for ArtifactReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_empty()
            && let Some(piece) = self.bridge.run(self.reader.next()).map_err(std::io::Error::other)?
        {
            self.left = piece;
        }
        let now = self.left.split_to(buffer.len().min(self.left.len()));
        buffer[..now.len()].copy_from_slice(&now);
        Ok(now.len())
    }
}

/// The artifacts of a unit, for synchronous callers. See [`crate::UnitArtifacts`].
#[derive(Debug, Clone)]
pub struct UnitArtifacts {
    unit: super::UnitArtifacts,
    bridge: Bridge,
}

impl UnitArtifacts {
    pub(crate) fn new(unit: super::UnitArtifacts, bridge: Bridge) -> Self {
        Self { unit, bridge }
    }

    /// Waits for [`crate::UnitArtifacts::put`].
    ///
    /// # Errors
    /// Those of the async operation; `Invalid` when called inside an async runtime.
    pub fn put(&self, key: &str, body: impl Into<Body>, new: NewArtifact) -> Result<Artifact> {
        self.bridge.run(self.unit.put(key, body).with(new).into_future())
    }

    /// Several at once: they are registered together, and their bytes travel side by side. The first error is answered
    /// when all have ended.
    ///
    /// # Errors
    /// Those of the async operation; `Invalid` when called inside an async runtime.
    pub fn put_all(&self, new: impl IntoIterator<Item = (String, Body, NewArtifact)>) -> Result<Vec<Artifact>> {
        let puts: Vec<_> = new.into_iter().map(|(key, body, new)| self.unit.put(key, body).with(new).into_future()).collect();
        let done = self.bridge.run(async { Ok(futures_util::future::join_all(puts).await) })?;
        done.into_iter().collect()
    }

    /// Waits for [`crate::UnitArtifacts::delete`].
    ///
    /// # Errors
    /// Those of the async operation; `Invalid` when called inside an async runtime.
    pub fn delete(&self, key: &str) -> Result<bool> {
        self.bridge.run(self.unit.delete(key))
    }

    /// Waits for [`crate::UnitArtifacts::copy`].
    ///
    /// # Errors
    /// Those of the async operation; `Invalid` when called inside an async runtime.
    pub fn copy(&self, from: &str, to: &str) -> Result<Artifact> {
        self.bridge.run(self.unit.copy(from, to))
    }

    /// Waits for [`crate::UnitArtifacts::read`].
    ///
    /// # Errors
    /// Those of the async operation; `Invalid` when called inside an async runtime.
    pub fn read(&self, key: &str) -> Result<Bytes> {
        self.bridge.run(self.unit.read(key))
    }

    /// Waits for [`crate::UnitArtifacts::info`].
    ///
    /// # Errors
    /// Those of the async operation; `Invalid` when called inside an async runtime.
    pub fn info(&self, key: &str) -> Result<Option<Artifact>> {
        self.bridge.run(self.unit.info(key))
    }

    /// Waits for [`crate::UnitArtifacts::list`].
    ///
    /// # Errors
    /// Those of the async operation; `Invalid` when called inside an async runtime.
    pub fn list(&self, prefix: &str, limit: usize, after: Option<&str>) -> Result<Vec<Artifact>> {
        self.bridge.run(self.unit.list(prefix, limit, after))
    }
}
