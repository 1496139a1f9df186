//! Looking at all artifacts, or those below a prefix: are their bytes there, and, of a sample, are they what was written?

use futures_util::stream::{StreamExt as _, iter};
use millpond_core::{Document, Error, ErrorKind, Filter, KEY_FIELD, PageCursor, Query, Records, Result};
use millpond_objects::{BLOCK, Location, Objects};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Artifacts;
use super::model::{Artifact, ArtifactVersion};
use crate::text::hex;

/// Records that are read at once.
const PAGE: usize = 500;
/// Objects that are looked at side by side.
const AT_ONCE: usize = 8;
/// Damaged objects that an answer names; the rest is counted, and told while it is found.
const NAMED: usize = 1_000;

/// What is looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VerifyArtifacts {
    /// Artifacts whose keys begin so, by bytes.
    pub prefix: String,
    /// Every version instead, those that were written over or deleted since too. Only without a prefix.
    pub versions: bool,
    /// Of so many in a hundred, 0 to 100, all bytes are read and compared. Of the others it is only looked whether they
    /// are there with their length.
    pub read_percent: f64,
    /// What chooses the sample: with the same number it is the same, with another one another.
    pub seed: u64,
}

impl VerifyArtifacts {
    fn check(&self) -> Result<()> {
        if !(0.0..=100.0).contains(&self.read_percent) {
            return Err(Error::invalid(format!("{} is no share of a hundred", self.read_percent))
                .with_next("read between 0 and 100 percent of the artifacts"));
        }
        if self.versions && !self.prefix.is_empty() {
            return Err(
                Error::invalid("versions are looked at all together, not below a prefix").with_next("leave one of them out")
            );
        }
        Ok(())
    }

    fn query(&self) -> Result<Query> {
        let query = if self.versions {
            Query::new(ArtifactVersion::COLLECTION.name())?.filter(Filter::Present("location".to_owned()))
        } else {
            Query::new(Artifact::COLLECTION.name())?
        };
        Ok(if self.prefix.is_empty() { query } else { query.prefix(KEY_FIELD, self.prefix.as_str()) })
    }

    /// Whether all bytes of a version are read: by its digest with the seed, so that it does not hang on what else there is.
    fn reads(&self, version: &str) -> bool {
        let digest = Sha256::digest(format!("{}\n{version}", self.seed));
        let number = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        f64::from(number) < self.read_percent / 100.0 * (f64::from(u32::MAX) + 1.0)
    }
}

/// An artifact whose bytes are damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedArtifact {
    /// Its key.
    pub key: String,
    /// The version.
    pub version: String,
    /// Where its bytes are.
    pub location: String,
    /// The place where that is.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// How many bytes were written.
    pub expected_length: u64,
    /// How many there are; `None` when there is no object.
    pub found_length: Option<u64>,
    /// SHA-256 of what was written.
    pub expected_sha256: String,
    /// SHA-256 of what is there; `None` when there is no object, or it cannot be read.
    pub found_sha256: Option<String>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct VerifyProgress {
    /// How many there were when it began.
    pub of: u64,
    /// How many were looked at.
    pub looked_at: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of how many all bytes were read.
    pub read: u64,
    /// Those bytes.
    pub read_bytes: u64,
    /// How many are damaged or missing.
    pub damaged: u64,
}

/// What a look at many artifacts brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifiedArtifacts {
    /// The numbers.
    #[serde(flatten)]
    pub progress: VerifyProgress,
    /// The first thousand that are damaged or missing, in the order of their records.
    pub named: Vec<DamagedArtifact>,
}

impl VerifiedArtifacts {
    fn found(&mut self, look: Look, on: &mut impl FnMut(&VerifyProgress, Option<&DamagedArtifact>)) {
        let progress = &mut self.progress;
        progress.looked_at += 1;
        progress.bytes += look.length;
        if look.read {
            progress.read += 1;
            progress.read_bytes += look.length;
        }
        progress.damaged += u64::from(look.damaged.is_some());
        on(progress, look.damaged.as_ref());
        self.named.extend(look.damaged.filter(|_| self.named.len() < NAMED));
    }
}

/// What a look at one brought.
struct Look {
    length: u64,
    read: bool,
    damaged: Option<DamagedArtifact>,
}

impl Artifacts {
    /// Looks at many artifacts, and tells how far it is and what is damaged as it goes. Memory stays flat, a few objects
    /// are looked at side by side, and nothing is changed. What is written or deleted meanwhile is not damaged.
    ///
    /// # Errors
    /// `Invalid` for a request that contradicts itself; what the store or the place fails with. Damage is no error: it
    /// is in the answer.
    pub async fn verify_all(
        &self,
        request: &VerifyArtifacts,
        mut on: impl FnMut(&VerifyProgress, Option<&DamagedArtifact>),
    ) -> Result<VerifiedArtifacts> {
        self.verified_all(request, &mut on).await.map_err(|e| e.during("artifacts.verify_all"))
    }

    async fn verified_all(
        &self,
        request: &VerifyArtifacts,
        on: &mut impl FnMut(&VerifyProgress, Option<&DamagedArtifact>),
    ) -> Result<VerifiedArtifacts> {
        request.check()?;
        let mut done = VerifiedArtifacts::default();
        done.progress.of = self.store().count(request.query()?).await?;
        let mut after = None;
        loop {
            let (artifacts, next) = self.page_to_verify(request, after).await?;
            let looks: Vec<_> = artifacts.into_iter().map(|artifact| self.look(request, artifact)).collect();
            let mut looks = iter(looks).buffered(AT_ONCE);
            while let Some(look) = looks.next().await {
                done.found(look?, on);
            }
            after = next;
            if after.is_none() {
                return Ok(done);
            }
        }
    }

    /// A page of what has bytes.
    async fn page_to_verify(
        &self,
        request: &VerifyArtifacts,
        after: Option<PageCursor>,
    ) -> Result<(Vec<Artifact>, Option<PageCursor>)> {
        let query = request.query()?.limit(PAGE).after(after);
        let (found, next, damaged) = if request.versions {
            let page = Records::<ArtifactVersion>::new(self.store().clone()).page(query).await?;
            (page.items.into_iter().filter_map(|version| version.value.artifact).collect(), page.next, page.damaged)
        } else {
            let page = Records::<Artifact>::new(self.store().clone()).page(query).await?;
            (page.items.into_iter().map(|artifact| artifact.value).collect(), page.next, page.damaged)
        };
        match damaged.into_iter().next() {
            None => Ok((found, next)),
            Some(damaged) => Err(Error::corrupt(format!("the record of an artifact does not read back: {}", damaged.why))
                .with("record", damaged.what)
                .with_next("see what else does not: millpond store check")),
        }
    }

    async fn look(&self, request: &VerifyArtifacts, artifact: Artifact) -> Result<Look> {
        let read = request.reads(&artifact.version);
        let length = artifact.length;
        let damaged = match self.verify(&artifact, read).await {
            Ok(()) => None,
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
            // Written over or deleted since the page was read, and its bytes collected: that is no damage.
            Err(_) if !self.still_names(request, &artifact).await? => None,
            Err(error) => Some(self.damaged(artifact, &error).await?),
        };
        Ok(Look { length, read, damaged })
    }

    async fn still_names(&self, request: &VerifyArtifacts, artifact: &Artifact) -> Result<bool> {
        if request.versions {
            let key = ArtifactVersion::key_of(&artifact.key, &artifact.version);
            return Ok(Records::<ArtifactVersion>::new(self.store().clone()).get(&key).await?.is_some());
        }
        Ok(self.info(&artifact.key).await?.is_some_and(|now| now.value.version == artifact.version))
    }

    /// What is there instead of what was written.
    async fn damaged(&self, artifact: Artifact, error: &Error) -> Result<DamagedArtifact> {
        let objects = self.objects().await?;
        let found = match artifact.location.parse::<Location>() {
            Ok(at) => found_at(objects.as_ref(), &at).await?,
            Err(_) => None,
        };
        Ok(DamagedArtifact {
            place: objects.place().to_owned(),
            problem: error.message().to_owned(),
            found_length: found.as_ref().map(|(length, _)| *length),
            found_sha256: found.map(|(_, sha256)| sha256),
            key: artifact.key,
            version: artifact.version,
            location: artifact.location,
            expected_length: artifact.length,
            expected_sha256: artifact.sha256,
        })
    }
}

/// The length and the digest of an object as it is, with one block in memory at a time.
async fn found_at(objects: &dyn Objects, at: &Location) -> Result<Option<(u64, String)>> {
    let Some(length) = objects.length(at).await? else { return Ok(None) };
    let (mut read, mut whole) = (0, Sha256::new());
    while read < length {
        let piece = objects.read(at, read..length.min(read + BLOCK as u64)).await?;
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else { return Ok(None) };
        read += piece.len() as u64;
        whole.update(&piece);
    }
    Ok(Some((length, hex(&whole.finalize()))))
}
