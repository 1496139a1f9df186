//! Looking at all artifacts, or those below a prefix: are their bytes there, and, of a sample, are they what was written?

use std::sync::Arc;

use futures_util::stream::{StreamExt as _, iter};
use millpond_core::{Damaged, Document, Error, ErrorKind, Filter, KEY_FIELD, Key, Page, PageCursor, Query, Result};
use millpond_objects::{BLOCK, Location, Objects, Verified};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Artifacts;
use super::model::{Artifact, ArtifactVersion};
use crate::PayloadObject;
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
    /// Artifacts whose keys begin so, by bytes. Without a prefix payloads of checkpoints and dead letters are looked at, too.
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

    /// The collections that are looked at, one after the other. A payload has no key of an artifact.
    fn sources(&self) -> Vec<Source> {
        let named = if self.versions { Source::Versions } else { Source::Artifacts };
        if self.prefix.is_empty() { vec![named, Source::Payloads] } else { vec![named] }
    }

    fn query(&self, source: Source) -> Result<Query> {
        let query = Query::new(source.collection())?;
        let query = if source == Source::Versions { query.filter(Filter::Present("location".to_owned())) } else { query };
        Ok(if self.prefix.is_empty() { query } else { query.prefix(KEY_FIELD, self.prefix.as_str()) })
    }

    /// Whether all bytes of a version are read: by its digest with the seed, so that it does not hang on what else there is.
    fn reads(&self, version: &str) -> bool {
        let digest = Sha256::digest(format!("{}\n{version}", self.seed));
        let number = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        f64::from(number) < self.read_percent / 100.0 * (f64::from(u32::MAX) + 1.0)
    }
}

/// Where records stand that name bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Artifacts,
    Versions,
    Payloads,
}

impl Source {
    fn collection(self) -> &'static str {
        match self {
            Self::Artifacts => Artifact::COLLECTION.name(),
            Self::Versions => ArtifactVersion::COLLECTION.name(),
            Self::Payloads => PayloadObject::COLLECTION.name(),
        }
    }
}

/// An object that is damaged or missing: an artifact's, or the payload of a checkpoint or a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedArtifact {
    /// The collection and the key of the record that names it.
    pub record: String,
    /// The artifact's key; of a payload the record that it belongs to.
    pub key: String,
    /// The artifact's version; empty for a payload.
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
    /// Records that do not read back, so that nobody can tell where their bytes are.
    pub unreadable: u64,
}

/// What a look at many artifacts brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifiedArtifacts {
    /// The numbers.
    #[serde(flatten)]
    pub progress: VerifyProgress,
    /// The first thousand that are damaged or missing, in the order of their records.
    pub named: Vec<DamagedArtifact>,
    /// The first thousand records that do not read back.
    pub unreadable_records: Vec<Damaged>,
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

    fn unreadable(&mut self, damaged: Vec<Damaged>, on: &mut impl FnMut(&VerifyProgress, Option<&DamagedArtifact>)) {
        for record in damaged {
            self.progress.looked_at += 1;
            self.progress.unreadable += 1;
            on(&self.progress, None);
            if self.unreadable_records.len() < NAMED {
                self.unreadable_records.push(record);
            }
        }
    }
}

/// Something with bytes.
struct Item {
    /// The key of its record.
    record: Key,
    /// What [`DamagedArtifact`] calls it.
    key: String,
    version: String,
    location: String,
    length: u64,
    sha256: String,
    what: What,
}

enum What {
    Artifact(Box<Artifact>),
    Payload(PayloadObject),
}

impl Item {
    fn artifact(record: Key, artifact: Artifact) -> Self {
        Self {
            record,
            key: artifact.key.clone(),
            version: artifact.version.clone(),
            location: artifact.location.clone(),
            length: artifact.length,
            sha256: artifact.sha256.clone(),
            what: What::Artifact(Box::new(artifact)),
        }
    }

    fn payload(record: Key, payload: PayloadObject) -> Self {
        Self {
            record,
            key: payload.owner.clone(),
            version: String::new(),
            location: payload.location.clone(),
            length: payload.length,
            sha256: payload.sha256.clone(),
            what: What::Payload(payload),
        }
    }

    /// What decides whether it belongs to the sample.
    fn sampled_by(&self) -> &str {
        if self.version.is_empty() { &self.location } else { &self.version }
    }
}

/// What a look at one brought.
struct Look {
    length: u64,
    read: bool,
    damaged: Option<DamagedArtifact>,
}

impl Artifacts {
    /// Looks at many artifacts, and at the payloads of checkpoints and dead letters that are kept as objects, and tells how
    /// far it is and what is damaged as it goes. Memory stays flat, a few objects are looked at side by side, and nothing
    /// is changed. What is written or deleted meanwhile is not damaged. A record that does not read back is counted and
    /// named, and does not end it.
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
        for source in request.sources() {
            done.progress.of += self.store().count(request.query(source)?).await?;
        }
        for source in request.sources() {
            let mut after = None;
            loop {
                let Page { items, next, damaged } = self.page_to_verify(request, source, after).await?;
                done.unreadable(damaged, on);
                let looks: Vec<_> = items.into_iter().map(|item| self.look(request, source, item)).collect();
                let mut looks = iter(looks).buffered(AT_ONCE);
                while let Some(look) = looks.next().await {
                    done.found(look?, on);
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(done)
    }

    /// A page of what has bytes.
    async fn page_to_verify(&self, request: &VerifyArtifacts, source: Source, after: Option<PageCursor>) -> Result<Page<Item>> {
        let page = self.store().query(request.query(source)?.limit(PAGE).after(after)).await?;
        let mut read = Page { items: Vec::with_capacity(page.items.len()), next: page.next, damaged: page.damaged };
        for record in page.items {
            let item = match source {
                Source::Artifacts => record.value.decode().map(|artifact| Some(Item::artifact(record.key.clone(), artifact))),
                Source::Versions => {
                    let version = record.value.decode::<ArtifactVersion>();
                    version.map(|version| Some(Item::artifact(record.key.clone(), version.artifact?)))
                }
                Source::Payloads => record.value.decode().map(|payload| Some(Item::payload(record.key.clone(), payload))),
            };
            match item {
                Ok(item) => read.items.extend(item),
                Err(error) => {
                    read.damaged.push(Damaged { what: format!("{}/{}", record.collection, record.key), why: error.to_string() });
                }
            }
        }
        Ok(read)
    }

    async fn look(&self, request: &VerifyArtifacts, source: Source, item: Item) -> Result<Look> {
        let read = request.reads(item.sampled_by());
        let length = item.length;
        let verified = match &item.what {
            What::Artifact(artifact) => self.verify(artifact, read).await,
            What::Payload(payload) => self.verify_payload(payload, read).await,
        };
        let damaged = match verified {
            Ok(()) => None,
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
            // Written over or deleted since the page was read, and its bytes collected: that is no damage.
            Err(_) if !self.still_names(source, &item).await? => None,
            Err(error) => Some(self.damaged(source, item, &error).await?),
        };
        Ok(Look { length, read, damaged })
    }

    async fn verify_payload(&self, payload: &PayloadObject, read: bool) -> Result<()> {
        let bytes = Verified::new(self.objects().await?, payload.location.parse()?, Arc::new(payload.sums()?));
        if read { bytes.examine().await } else { bytes.is_there().await }
    }

    /// Whether the record names the same bytes as before.
    async fn still_names(&self, source: Source, item: &Item) -> Result<bool> {
        let found = self.store().get(source.collection(), item.record.as_str()).await?;
        let Some(found) = found else { return Ok(false) };
        Ok(found.value.value()?.get("location").and_then(serde_json::Value::as_str) == Some(item.location.as_str()))
    }

    /// What is there instead of what was written.
    async fn damaged(&self, source: Source, item: Item, error: &Error) -> Result<DamagedArtifact> {
        let objects = self.objects().await?;
        let found = match item.location.parse::<Location>() {
            Ok(at) => found_at(objects.as_ref(), &at).await?,
            Err(_) => None,
        };
        Ok(DamagedArtifact {
            record: format!("{}/{}", source.collection(), item.record),
            place: objects.place().to_owned(),
            problem: error.message().to_owned(),
            found_length: found.as_ref().map(|(length, _)| *length),
            found_sha256: found.map(|(_, sha256)| sha256),
            key: item.key,
            version: item.version,
            location: item.location,
            expected_length: item.length,
            expected_sha256: item.sha256,
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
