//! The floor: entries up to its number are forgotten, and no writer may create one of them again.
//!
//! A writer that slept across a trim would find its next number free. So the floor is raised first, and the entries go
//! afterwards; a writer reads the floor once its create was answered, and what it created below the floor does not
//! count: a number that was free again was deleted after the floor had been raised. No clock is part of this.
//!
//! A reader asks for an entry and for the floor at once, to need one round trip only. Entries go only after a grace, so
//! what it sees is older than the floor unless its two requests took longer than that, and then it asks again. It does
//! not acknowledge anything, and its next read finds the floor.

use millpond_core::{Error, Result};
use millpond_objects::place::{Patience, failed, get};
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};

use super::errors::is_there_already;

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
    pub(super) async fn raise(self, store: &dyn ObjectStore, patience: &Patience, location: &Location) -> Result<()> {
        let mut raised = false;
        while !raised {
            // Others who raise it at the same time are few, and each of them gets it done.
            raised = patience.settling().repeat(|| self.step(store, location)).await.map_err(failed("raise", location))??;
        }
        Ok(())
    }

    /// Looks, and writes if need be. False when another writer was faster.
    async fn step(self, store: &dyn ObjectStore, location: &Location) -> object_store::Result<Result<bool>> {
        let mode = match store.get(location).await {
            Ok(found) => {
                let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
                match parse(&found.bytes().await?) {
                    Ok(floor) if floor.is_at_least(self) => return Ok(Ok(true)),
                    Ok(_) => PutMode::Update(version),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Err(object_store::Error::NotFound { .. }) => PutMode::Create,
            Err(error) => return Err(error),
        };
        match store.put_opts(location, self.text().into(), PutOptions { mode, ..PutOptions::default() }).await {
            Ok(_) => Ok(Ok(true)),
            Err(error) if is_there_already(&error) => Ok(Ok(false)),
            // A local folder cannot compare. It serves one machine's tests, and trims are rare.
            Err(object_store::Error::NotImplemented { .. }) => {
                store.put(location, self.text().into()).await?;
                Ok(Ok(true))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use millpond_core::{CallPolicy, SystemHost};
    use object_store::memory::InMemory;
    use tokio::time::Instant;

    use super::super::fakes::{Fault, Faulty};
    use super::*;

    fn patience() -> Patience {
        let calls = CallPolicy { retries: Some(0), ..CallPolicy::within(Duration::from_secs(9)) };
        Patience { calls, host: Arc::new(SystemHost) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_does_not_matter() {
        let location = Location::from("floor");
        let store = Faulty { inner: InMemory::new(), fault: Fault::LosesFirstAnswers };
        for (to, stands) in [(3, 3), (2, 3), (7, 7)] {
            Floor::At(to).raise(&store, &patience(), &location).await.unwrap();
            assert_eq!(Floor::read(&store, &location).await.unwrap(), Floor::At(stands));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_takes_nothing_is_asked_for_as_long_as_was_said() {
        let store = Faulty { inner: InMemory::new(), fault: Fault::TakesNothing };
        let began = Instant::now();
        let failed = Floor::At(3).raise(&store, &patience(), &Location::from("floor")).await.unwrap_err();
        assert!(failed.to_string().contains("cannot raise floor"), "{failed}");
        assert!((5..=9).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn of_many_who_raise_it_the_highest_stays() {
        let (store, location) = (InMemory::new(), Location::from("floor"));
        let patience = patience();
        let raised = futures_util::future::join_all((1..=40).map(|n| Floor::At(n).raise(&store, &patience, &location))).await;
        assert!(raised.iter().all(Result::is_ok), "{raised:?}");
        assert_eq!(Floor::read(&store, &location).await.unwrap(), Floor::At(40));
    }
}
