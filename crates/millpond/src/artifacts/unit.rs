//! Artifacts as a unit of work sees them: its own writes, and for the rest what is committed.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use millpond_core::{Error, Result};

use super::work::ArtifactWork;
use super::{Artifact, ArtifactFilter, Artifacts, Body, NewArtifact, Provenance, sums};

/// The artifacts of a unit that is being worked on. See [`crate::Unit::artifacts`]. Cheap to clone: several operations
/// may be under way at once, and are registered together.
///
/// Nobody else sees what is done here before the unit is committed.
#[derive(Debug, Clone)]
pub struct UnitArtifacts {
    pub(crate) work: std::result::Result<Arc<ArtifactWork>, Arc<Error>>,
    pub(crate) committed: Artifacts,
}

impl UnitArtifacts {
    fn work(&self) -> Result<&Arc<ArtifactWork>> {
        self.work.as_ref().map_err(|error| error.duplicate())
    }

    /// Writes an artifact: `.await` stages its bytes; the unit's commit makes it one.
    ///
    /// # Errors
    /// `Conflict`, naming who, when somebody else's unit has the key (see [`crate::Unit::wait`]), or its condition does
    /// not hold; `Unsupported` when artifacts are in another store than the rest of the unit; what the place fails with.
    /// The unit can still be committed after an error; the artifact is then not part of it.
    pub fn put(&self, key: impl Into<String>, body: impl Into<Body>) -> PutArtifact {
        PutArtifact { unit: self.clone(), key: key.into(), body: body.into(), new: NewArtifact::default() }
    }

    /// Deletes an artifact. False when the unit sees none.
    ///
    /// # Errors
    /// As [`UnitArtifacts::put`].
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let deleting = async { self.work()?.delete(key).await };
        deleting.await.map_err(|e: Error| e.during("unit.artifacts.delete"))
    }

    /// Names the bytes of an artifact under a further key.
    ///
    /// # Errors
    /// As [`UnitArtifacts::put`]; `NotFound` when the unit sees no source.
    pub async fn copy(&self, from: &str, to: &str) -> Result<Artifact> {
        let copying = async { self.work()?.copy(from, to).await };
        copying.await.map_err(|e: Error| e.during("unit.artifacts.copy"))
    }

    /// The bytes of an artifact as the unit sees it.
    ///
    /// # Errors
    /// As [`Artifacts::read`].
    pub async fn read(&self, key: &str) -> Result<Bytes> {
        let reading = async {
            match self.work()?.own(key) {
                None => self.committed.read(key).await,
                Some(None) => Err(Error::not_found(format!("this unit deleted artifact {key:?}"))),
                Some(Some((artifact, blocks))) => {
                    let known = sums::read(&artifact, blocks.as_ref())?;
                    self.committed.verified(&artifact, known).await?.whole().await
                }
            }
        };
        reading.await.map_err(|e: Error| e.with("key", key).during("unit.artifacts.read"))
    }

    /// What is known of an artifact as the unit sees it.
    ///
    /// # Errors
    /// As [`Artifacts::info`].
    pub async fn info(&self, key: &str) -> Result<Option<Artifact>> {
        match self.work()?.own(key) {
            Some(own) => Ok(own.map(|(artifact, _)| artifact)),
            None => Ok(self.committed.info(key).await?.map(|found| found.value)),
        }
    }

    /// Artifacts whose keys begin so, as the unit sees them, at most `limit` of them after a key.
    ///
    /// # Errors
    /// As [`Artifacts::list`].
    pub async fn list(&self, prefix: &str, limit: usize, after: Option<&str>) -> Result<Vec<Artifact>> {
        let listing = async {
            let own = self.work()?.own_below(prefix);
            let past = |key: &str| after.is_none_or(|after| key > after);
            let mut own = own.into_iter().filter(|(key, _)| past(key)).peekable();
            let mut committed = self.committed.list_all(ArtifactFilter::prefix(prefix).limit(limit.clamp(1, 1_000)));
            committed.seek(after)?;
            let mut next = committed.next().await?.map(|found| found.value);
            let mut found = Vec::new();
            while found.len() < limit {
                // Both are in the order of the keys; what the unit made of a key counts.
                let ours = match (own.peek(), &next) {
                    (None, None) => break,
                    (Some((key, _)), Some(theirs)) if *key > theirs.key => None,
                    (None, Some(_)) => None,
                    (Some(_), _) => own.next(),
                };
                match ours {
                    Some((key, artifact)) => {
                        if next.as_ref().is_some_and(|theirs| theirs.key == key) {
                            next = committed.next().await?.map(|found| found.value);
                        }
                        found.extend(artifact);
                    }
                    None => {
                        found.extend(next.take());
                        next = committed.next().await?.map(|found| found.value);
                    }
                }
            }
            Ok(found)
        };
        listing.await.map_err(|e: Error| e.during("unit.artifacts.list"))
    }
}

/// An artifact that a unit is to write; `.await` it.
#[derive(Debug)]
#[must_use = "nothing is written until it is awaited"]
pub struct PutArtifact {
    unit: UnitArtifacts,
    key: String,
    body: Body,
    new: NewArtifact,
}

impl PutArtifact {
    /// Everything that can be said of it, at once.
    pub fn with(mut self, new: NewArtifact) -> Self {
        self.new = new;
        self
    }

    /// Only where there is none.
    pub fn create(mut self) -> Self {
        self.new = self.new.create();
        self
    }

    /// Its MIME type.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.new = self.new.content_type(content_type);
        self
    }

    /// The run it comes from, and the stage of it.
    pub fn provenance(mut self, run: &crate::Run, stage: impl Into<String>) -> Self {
        let stage = Some(stage.into());
        self.new.provenance = Provenance { execution: Some(run.id().to_owned()), stage, ..self.new.provenance };
        self
    }

    /// The row of its lineage.
    pub fn lineage(mut self, row: impl Into<String>) -> Self {
        self.new.lineage = Some(row.into());
        self
    }

    /// A field of one's own.
    pub fn custom(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.new = self.new.custom(name, value);
        self
    }
}

impl IntoFuture for PutArtifact {
    type Output = Result<Artifact>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Artifact>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { unit, key, body, new } = self;
            let writing = async { unit.work()?.put(&key, body, new).await };
            writing.await.map_err(|e: Error| e.during("unit.artifacts.put"))
        })
    }
}
