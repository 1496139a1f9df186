//! The place of a namespace's bytes: where it is remembered to be, and saying that the bytes were moved.

use std::collections::BTreeMap;

use millpond_core::{Damaged, Document, Error, ErrorKind, Filter, Query, Records, Result};
use millpond_objects::{Location, Objects};
use serde::Serialize;

use super::Artifacts;
use super::model::{Artifact, ArtifactVersion};
use crate::text::sha256_hex;
use crate::units::{UnitInfo, UnitState};

/// Objects that are looked at in another place.
const SAMPLE: usize = 128;
/// Records that are walked over together.
const PAGE: usize = 256;

/// That the place of the bytes is another one now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MovedPlace {
    /// Where the bytes were; `None` when there was no place yet.
    pub from: Option<String>,
    /// Where they are.
    pub to: String,
    /// Objects that were looked at in the new place.
    pub looked_at: u64,
}

impl Artifacts {
    /// Where the namespace remembers its bytes to be, without secrets; `beside` for the folder that belongs to the store
    /// itself. `None` before the first artifact.
    ///
    /// # Errors
    /// As [`Artifacts::info`].
    pub async fn place(&self) -> Result<Option<String>> {
        self.units.undoing().objects.remembered(self.store()).await.map_err(|e| e.during("artifacts.place"))
    }

    /// Says that somebody copied all objects to another place: from here on the namespace's bytes are there, and a program
    /// that looks elsewhere is refused. Before that a sample of them, 128 of all, is looked for there, for which
    /// the records of all versions are walked over. No byte is moved.
    ///
    /// The place is a URL as in the configuration, or `beside` for the store's own. Programs that have the old place open
    /// have to be ended first: what they write afterwards would be missing. One commit point: the record of the place.
    ///
    /// # Errors
    /// `Conflict` while units are being worked on, or when somebody else changed the place; `Corrupt`, naming the first, when
    /// an object is not there with its length; `Invalid` when the URL is no place.
    pub async fn place_moved(&self, to: &str) -> Result<MovedPlace> {
        self.moved(to).await.map_err(|e| e.during("artifacts.place_moved"))
    }

    async fn moved(&self, to: &str) -> Result<MovedPlace> {
        let home = &self.units.undoing().objects;
        let (objects, place) = home.other(self.store(), to)?;
        self.nobody_works().await?;
        let from = home.remembered(self.store()).await?;
        let looked_at = self.looked_for(objects.as_ref()).await?;
        home.remember(self.store(), from.as_deref(), &place).await?;
        Ok(MovedPlace { from, to: place, looked_at })
    }

    /// A unit that is under way has bytes in the old place.
    async fn nobody_works(&self) -> Result<()> {
        for state in [UnitState::Pending, UnitState::Aborting] {
            let query = Query::new(UnitInfo::COLLECTION.name())?.eq("state", state.as_str()).limit(1);
            let page = self.store().query(query).await?;
            readable(&page.damaged)?;
            if let Some(unit) = page.items.into_iter().next() {
                return Err(Error::conflict(format!(
                    "unit {} is {state}: its bytes are on their way to the old place",
                    unit.key
                ))
                .with("unit", &unit.key)
                .with_next("end the programs that write, and undo what they left with the old place: millpond units recover"));
            }
        }
        Ok(())
    }

    /// Looks for a sample of the objects in another place, and answers for how many.
    async fn looked_for(&self, objects: &dyn Objects) -> Result<u64> {
        let mut looked_at = 0;
        for version in self.sample().await? {
            match is_there(objects, &version).await {
                Ok(()) => looked_at += 1,
                // Purged since the page was read, and its bytes collected before they were copied: that is no loss.
                Err(error) if error.kind() == ErrorKind::Corrupt && !self.is_kept(&version).await? => {}
                Err(error) => return Err(error),
            }
        }
        Ok(looked_at)
    }

    /// Versions with bytes, each location once: those whose locations have the smallest digests. Every object has the same
    /// chance, however they are spread over folders, units and time; all records are walked over for that.
    async fn sample(&self) -> Result<Vec<ArtifactVersion>> {
        let mut sample = BTreeMap::new();
        let mut after = None;
        loop {
            let query = Query::new(ArtifactVersion::COLLECTION.name())?.filter(Filter::Present("location".to_owned()));
            let page = Records::<ArtifactVersion>::new(self.store().clone()).page(query.limit(PAGE).after(after)).await?;
            for version in page.items {
                let location = version.value.location.as_deref().unwrap_or_default();
                sample.insert(sha256_hex(location.as_bytes()), version.value);
                if sample.len() > SAMPLE {
                    sample.pop_last();
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(sample.into_values().collect());
            }
        }
    }

    /// Whether a version was purged since it was read: then that its bytes are gone is no loss.
    pub(crate) async fn purged_since(&self, artifact: &Artifact) -> Result<bool> {
        let key = ArtifactVersion::key_of(&artifact.key, &artifact.version);
        Ok(Records::<ArtifactVersion>::new(self.store().clone()).get(&key).await?.is_none())
    }

    /// Whether there is still a record of a version.
    pub(super) async fn is_kept(&self, version: &ArtifactVersion) -> Result<bool> {
        let key = version.key()?;
        Ok(Records::<ArtifactVersion>::new(self.store().clone()).get(key.as_str()).await?.is_some())
    }
}

async fn is_there(objects: &dyn Objects, version: &ArtifactVersion) -> Result<()> {
    let Some(location) = &version.location else { return Ok(()) };
    let found = objects.length(&location.parse::<Location>()?).await?;
    if found == Some(version.length) {
        return Ok(());
    }
    let there = found.map_or_else(|| "it is not there".to_owned(), |found| format!("it has {found} bytes there"));
    Err(Error::corrupt(format!("the object of artifact {:?} should have {} bytes; {there}", version.key, version.length))
        .with("key", &version.key)
        .with("location", location)
        .with("place", objects.place())
        .with_next("copy all objects, folders and names as they are, and say it again; the namespace's place is what it was"))
}

/// Refuses to look past a unit that does not read back: it may be one that is being worked on.
fn readable(damaged: &[Damaged]) -> Result<()> {
    let Some(damaged) = damaged.first() else { return Ok(()) };
    Err(Error::corrupt(format!(
        "unit {} does not read back, and may be one that is being worked on: {}",
        damaged.what, damaged.why
    ))
    .with("record", &damaged.what)
    .with_next("look at it with millpond records get, and put it right or delete it with millpond records delete"))
}
