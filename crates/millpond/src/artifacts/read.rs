//! Reading artifacts: whole, in ranges, piece by piece; nothing is handed out that was not compared with its sums.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millpond_core::{Document, Error, ErrorKind, Page, PageCursor, Query, Records, Result, Versioned};
use millpond_objects::{BLOCK, Location, Sums, Verified};

use super::model::{Artifact, ArtifactVersion};
use super::{Artifacts, sums};

/// Blocks that a stream reads at once.
const BLOCKS: u64 = 4;
/// Keys that are read at once at most.
pub const KEYS_AT_ONCE: usize = 1_000;
/// How often a record is read anew because its bytes were gone.
const TRIES: u32 = 3;

/// An artifact that is being read piece by piece.
#[derive(Debug)]
pub struct ArtifactReader {
    artifact: Artifact,
    bytes: Verified,
    at: u64,
    end: u64,
}

impl ArtifactReader {
    /// What is known of the artifact: of the version that is read, whatever is written meanwhile.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// The next piece, up to 4 MiB; `None` at the end.
    ///
    /// # Errors
    /// As [`Artifacts::read`]. What was handed out before is right.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let block = BLOCK as u64;
        let until = ((self.at / block + BLOCKS) * block).min(self.end);
        let piece = self.bytes.range(self.at..until).await;
        let piece = piece.map_err(|e| e.with("key", &self.artifact.key).during("artifacts.read"))?;
        self.at = until;
        Ok(Some(piece))
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl futures_core::Stream<Item = Result<Bytes>> + Send {
        futures_util::stream::try_unfold(self, |mut reader| async move { Ok(reader.next().await?.map(|piece| (piece, reader))) })
    }
}

impl Artifacts {
    /// The bytes of an artifact, compared with what was written.
    ///
    /// # Errors
    /// `NotFound` when there is none; `Corrupt`, naming key, location and both digests, when its bytes are damaged or gone.
    pub async fn read(&self, key: &str) -> Result<Bytes> {
        self.read_part(key, None).await.map_err(|e| e.with("key", key).during("artifacts.read"))
    }

    /// A range of the bytes of an artifact, less where it ends before. Whole blocks of a MiB are read and compared.
    ///
    /// # Errors
    /// As [`Artifacts::read`].
    pub async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.read_part(key, Some(range)).await.map_err(|e| e.with("key", key).during("artifacts.read_range"))
    }

    async fn read_part(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes> {
        let mut seen: Option<String> = None;
        for _ in 0..TRIES {
            let artifact = self.require(key).await?;
            let bytes = self.verified(&artifact, None).await?;
            let read = match &range {
                None => bytes.whole().await,
                Some(range) => bytes.range(range.clone()).await,
            };
            match read {
                // Written anew and the old version purged, between the record and the bytes: the record tells.
                Err(error) if error.kind() == ErrorKind::Corrupt && seen.as_ref() != Some(&artifact.version) => {
                    seen = Some(artifact.version);
                }
                read => return read,
            }
        }
        Err(Error::unavailable(format!("{key:?} was written anew {TRIES} times while it was read")).with_next("read it again"))
    }

    /// Many artifacts, each with an answer of its own. At most 1,000 keys.
    ///
    /// # Errors
    /// `Invalid` for too many keys; what a single key fails with is in its answer.
    pub async fn read_many(&self, keys: &[&str]) -> Result<Vec<(String, Result<Bytes>)>> {
        if keys.len() > KEYS_AT_ONCE {
            return Err(Error::invalid(format!("{} keys at once; the limit is {KEYS_AT_ONCE}", keys.len()))
                .with_next("read them in several calls")
                .during("artifacts.read_many"));
        }
        use futures_util::stream::{StreamExt as _, iter};
        let reading = keys.iter().map(|key| async move { ((*key).to_owned(), self.read(key).await) });
        Ok(iter(reading.collect::<Vec<_>>()).buffered(16).collect().await)
    }

    /// An artifact piece by piece: memory stays flat however long it is.
    ///
    /// # Errors
    /// As [`Artifacts::read`].
    pub async fn reader(&self, key: &str, range: Option<Range<u64>>) -> Result<ArtifactReader> {
        let open = async { self.reader_of(self.require(key).await?, range).await };
        open.await.map_err(|e: Error| e.with("key", key).during("artifacts.reader"))
    }

    /// A version of an artifact piece by piece, also of one that was written over or deleted since.
    ///
    /// # Errors
    /// `NotFound` when there is no such version, or it is a deletion; as [`Artifacts::read`].
    pub async fn version_reader(&self, key: &str, version: &str, range: Option<Range<u64>>) -> Result<ArtifactReader> {
        let open = async { self.reader_of(self.require_version(key, version).await?, range).await };
        open.await.map_err(|e: Error| e.with("key", key).during("artifacts.version_reader"))
    }

    async fn reader_of(&self, artifact: Artifact, range: Option<Range<u64>>) -> Result<ArtifactReader> {
        let bytes = self.verified(&artifact, None).await?;
        let range = range.unwrap_or(0..artifact.length);
        Ok(ArtifactReader { at: range.start.min(artifact.length), end: range.end.min(artifact.length), bytes, artifact })
    }

    async fn require_version(&self, key: &str, version: &str) -> Result<Artifact> {
        let found = Records::<ArtifactVersion>::new(self.store().clone()).get(&ArtifactVersion::key_of(key, version)).await?;
        found.and_then(|found| found.value.artifact).ok_or_else(|| {
            Error::not_found(format!("artifact {key:?} has no bytes at version {version}"))
                .with_next(format!("see which versions it has: millpond artifacts history {key}"))
        })
    }

    /// What is known of an artifact, or `None`.
    ///
    /// # Errors
    /// `Corrupt` when its record does not read back.
    pub async fn info(&self, key: &str) -> Result<Option<Versioned<Artifact>>> {
        Records::<Artifact>::new(self.store().clone()).get(key).await.map_err(|e| e.during("artifacts.info"))
    }

    /// Whether there is an artifact. Its bytes are not looked at.
    ///
    /// # Errors
    /// As [`Artifacts::info`].
    pub async fn exists(&self, key: &str) -> Result<bool> {
        self.info(key).await.map(|found| found.is_some())
    }

    /// The versions of an artifact, deletions among them, the newest first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn history(&self, key: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<ArtifactVersion>>> {
        let asking = async {
            let query = Query::new(ArtifactVersion::COLLECTION.name())?
                .eq("of", ArtifactVersion::digest_of(key))
                .order_desc("created")
                .limit(limit)
                .after(after);
            Records::<ArtifactVersion>::new(self.store().clone()).page(query).await
        };
        asking.await.map_err(|e: Error| e.during("artifacts.history"))
    }

    /// The bytes of a version, also of one that was written over or deleted since.
    ///
    /// # Errors
    /// `NotFound` when there is no such version, or it is a deletion; as [`Artifacts::read`].
    pub async fn read_version(&self, key: &str, version: &str) -> Result<Bytes> {
        let reading = async {
            let artifact = self.require_version(key, version).await?;
            self.verified(&artifact, None).await?.whole().await
        };
        reading.await.map_err(|e: Error| e.with("key", key).during("artifacts.read_version"))
    }

    /// An address from which whoever has it may read the bytes for this long, without Millpond and without a check.
    ///
    /// # Errors
    /// `Unsupported` where the place gives out no addresses, such as a folder; `NotFound` without the artifact.
    pub async fn address(&self, key: &str, lasting: Duration) -> Result<String> {
        let asking = async {
            let artifact = self.require(key).await?;
            let objects = self.objects().await?;
            objects.address(&artifact.location.parse()?, lasting).await
        };
        asking.await.map_err(|e: Error| e.with("key", key).during("artifacts.address"))
    }

    /// Compares an artifact's bytes with its record: all of them, or only that they are there with the right length.
    ///
    /// # Errors
    /// As [`Artifacts::read`].
    pub async fn verify(&self, artifact: &Artifact, read_data: bool) -> Result<()> {
        let checking = async {
            let bytes = self.verified(artifact, None).await?;
            if read_data { bytes.examine().await } else { bytes.is_there().await }
        };
        checking.await.map_err(|e: Error| e.with("key", &artifact.key).during("artifacts.verify"))
    }

    async fn require(&self, key: &str) -> Result<Artifact> {
        let found = Records::<Artifact>::new(self.store().clone()).get(key).await?;
        let missing = || {
            Error::not_found(format!("there is no artifact {key:?}")).with_next("see which there are: millpond artifacts list")
        };
        Ok(found.ok_or_else(missing)?.value)
    }

    /// The bytes of a record, with sums that are known already or are read.
    pub(super) async fn verified(&self, artifact: &Artifact, known: Option<Sums>) -> Result<Verified> {
        let sums = match known {
            Some(sums) => sums,
            None => sums::of_artifact(self.store(), artifact).await?,
        };
        Ok(Verified::new(self.objects().await?, artifact.location.parse::<Location>()?, Arc::new(sums)))
    }
}
