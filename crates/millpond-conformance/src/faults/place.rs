//! A place whose every handle meets faults and asks again.

use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use millpond_core::{Engine, Result};
use millpond_objects::Objects;

use super::{Fault, Faults, FaultyEngine, Retry, RetryingEngine};
use crate::Place;

/// The variable that holds the seed, for the suite and for its processes.
const SEED: &str = "MILLPOND_CONFORMANCE_FAULTS";
/// The variable by which a process hears that nothing worse than a refusal may happen to it.
const REFUSALS_ONLY: &str = "MILLPOND_CONFORMANCE_REFUSALS_ONLY";

/// A place with faults before it. Each handle asks again until it is answered.
#[derive(Debug)]
pub struct FaultyPlace {
    place: Arc<dyn Place>,
    faults: Faults,
    retry: Retry,
}

impl FaultyPlace {
    /// A place with these faults before it.
    pub fn new(place: Arc<dyn Place>, faults: Faults, retry: Retry) -> Self {
        Self { place, faults, retry }
    }
}

/// The faults that `MILLPOND_CONFORMANCE_FAULTS=SEED` asks for.
pub(crate) fn asked_for() -> Option<Faults> {
    let seed = std::env::var(SEED).ok()?;
    // A word is as good a seed as a number.
    Some(Faults::seeded(seed.parse().unwrap_or_else(|_| seed.bytes().map(u64::from).sum())))
}

/// A racing process meets the faults that the suite that started it was asked for.
pub(crate) fn of_process(place: Arc<dyn Place>) -> Arc<dyn Place> {
    match asked_for() {
        Some(mut faults) => {
            if std::env::var_os(REFUSALS_ONLY).is_some() {
                faults = faults.of_kinds(&[Fault::Refused]);
            }
            Arc::new(FaultyPlace::new(place, faults, Retry::UnderTheSameId))
        }
        None => place,
    }
}

#[async_trait]
impl Place for FaultyPlace {
    async fn open(&self) -> Result<Arc<dyn Engine>> {
        let faulty = FaultyEngine::new(self.place.open().await?, self.faults.clone());
        Ok(Arc::new(RetryingEngine::new(Arc::new(faulty), self.retry)))
    }

    async fn objects(&self, store_id: &str) -> Result<Option<Arc<dyn Objects>>> {
        self.place.objects(store_id).await
    }

    fn process(&self) -> Option<Result<Command>> {
        let command = self.place.process()?;
        Some(command.map(|mut command| {
            command.env(SEED, self.faults.seed().to_string());
            if !self.faults.has(Fault::AnswerLost) && !self.faults.has(Fault::RequestLost) {
                command.env(REFUSALS_ONLY, "1");
            }
            command
        }))
    }
}
