//! The floor: entries up to its number are forgotten, and no writer may create one of them again.
//!
//! A writer that slept across a trim would find its next number free. So the floor is raised first, and the entries go
//! afterwards; a writer reads the floor once its create was answered, and what it created below the floor does not
//! count: a number that was free again was deleted after the floor had been raised. No clock is part of this.
//!
//! A reader asks for an entry and for the floor at once, to need one round trip only. Entries go only after a grace, so
//! what it sees is older than the floor unless its two requests took longer than that, and then it asks again. It does
//! not acknowledge anything, and its next read finds the floor.

use std::time::Duration;

use millpond_core::{Error, Result};
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};

use super::errors::{failed, get, is_there_already};
use super::patient::passes;

/// How often a floor is raised that others raise at the same time, or whose answer is lost.
const TRIES: u32 = 12;
/// The pause after the first try; each is longer by as much. The look at the floor in between has pauses of its own.
const PAUSE: Duration = Duration::from_millis(20);

/// What the floor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Floor {
    /// Entries up to this number are forgotten.
    At(u64),
    /// The journal was removed.
    Removed,
}

fn parse(bytes: &[u8]) -> Result<Floor> {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    if text == "removed" {
        return Ok(Floor::Removed);
    }
    text.parse().map(Floor::At).map_err(|e| Error::corrupt(format!("the floor of a journal reads {text:?}")).with_source(e))
}

impl Floor {
    fn text(self) -> String {
        match self {
            Self::At(number) => number.to_string(),
            Self::Removed => "removed".to_owned(),
        }
    }

    /// Reads the floor; 0 when there is none.
    pub(super) async fn read(store: &dyn ObjectStore, location: &Location) -> Result<Self> {
        match get(store, location).await? {
            Some(bytes) => parse(&bytes),
            None => Ok(Self::At(0)),
        }
    }

    fn is_at_least(self, other: Self) -> bool {
        match (self, other) {
            (Self::Removed, _) => true,
            (Self::At(_), Self::Removed) => false,
            (Self::At(own), Self::At(other)) => own >= other,
        }
    }

    /// Raises the floor. It never falls, whoever raises it meanwhile, and whatever becomes of an answer: it is looked at again.
    pub(super) async fn raise(self, store: &dyn ObjectStore, location: &Location) -> Result<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mode = match store.get(location).await {
                Ok(found) => {
                    let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
                    if parse(&found.bytes().await.map_err(failed("read", location))?)?.is_at_least(self) {
                        return Ok(());
                    }
                    PutMode::Update(version)
                }
                Err(object_store::Error::NotFound { .. }) => PutMode::Create,
                Err(error) => return Err(failed("read", location)(error)),
            };
            let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
            match store.put_opts(location, self.text().into(), options).await {
                Ok(_) => return Ok(()),
                Err(error) if tries < TRIES && (is_there_already(&error) || passes(&error)) => {
                    tokio::time::sleep(PAUSE * tries).await
                }
                // A local folder cannot compare. It serves one machine's tests, and trims are rare.
                Err(object_store::Error::NotImplemented { .. }) => {
                    store.put(location, self.text().into()).await.map_err(failed("write", location))?;
                    return Ok(());
                }
                Err(error) => return Err(failed("write", location)(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::super::fakes::{Fault, Faulty};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_does_not_matter_and_silence_ends_it() {
        let location = Location::from("floor");
        let store = Faulty { inner: InMemory::new(), fault: Fault::LosesFirstAnswers };
        Floor::At(3).raise(&store, &location).await.unwrap();
        Floor::At(2).raise(&store, &location).await.unwrap();
        assert_eq!(Floor::read(&store, &location).await.unwrap(), Floor::At(3));
        let store = Faulty { inner: InMemory::new(), fault: Fault::TakesNothing };
        let failed = Floor::At(3).raise(&store, &location).await.unwrap_err();
        assert!(failed.to_string().contains("cannot write floor"), "{failed}");
    }
}
