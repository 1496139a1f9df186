//! How a store is: can it be reached, may it be written, how long that takes, and what an acknowledgement survives.
//!
//! Nothing here knows an engine. Each looks at its own settings, see [`millpond_core::Engine::examine`]; the rest is
//! tried out.
//!
//! * `checks.rs`: what is tried out, and when that is worth a word;
//! * `places.rs`: stores that are not open yet, and may not open at all.

mod checks;
mod places;

use std::path::Path;
use std::time::Instant;

use millpond_core::{Durability, Error, ErrorKind, Examination, Finding, HealthCheck, Probing, Store};
use serde::Serialize;

use crate::Pond;

pub(crate) use checks::too_weak;

/// The clock that commits take their time from, against this machine's.
const CLOCK: &str = "clock";
/// The clock of a server from which no commit takes its time, against this machine's.
const SERVER_CLOCK: &str = "server_clock";
/// What is said where nobody can tell what an acknowledgement survives.
const UNKNOWN: &str =
    "what an acknowledged commit survives is not known now, because the store could not be asked: count on nothing";
/// Facts that tell what runs and what it wrote.
const VERSIONS: [&str; 5] = ["sqlite", "postgresql", "redis", "nats", "format"];

/// What a health check looks at, and what it asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct HealthRequest {
    read_only: bool,
    require: Option<Durability>,
}

impl HealthRequest {
    /// Everything, and no durability in particular.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes nothing, so it does not learn whether the store may be written.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// What an acknowledged commit has to survive at least.
    #[must_use]
    pub fn require(mut self, durability: Durability) -> Self {
        self.require = Some(durability);
        self
    }
}

/// How a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The engine's kind, such as `sqlite`.
    pub engine: &'static str,
    /// Where it keeps its data, without secrets.
    pub location: String,
    /// What an acknowledged commit survives, as the live settings say; `memory` where they could not be read.
    pub survives: Durability,
    /// What may be lost, in one plain sentence.
    pub sentence: String,
    /// This program, the server or library beneath it, and the format of the store.
    pub versions: Vec<(&'static str, String)>,
    /// Settings, as they are now.
    pub facts: Vec<(&'static str, String)>,
    /// What was looked at.
    pub checks: Vec<HealthCheck>,
}

impl Health {
    /// The worst of the findings.
    pub fn worst(&self) -> Finding {
        self.checks.iter().map(|check| check.finding).max().unwrap_or(Finding::Ok)
    }

    /// A store of which nothing is known but what stands in the way.
    fn unknown(engine: &'static str, location: String, problem: HealthCheck, request: HealthRequest) -> Self {
        let checks = vec![problem, checks::durability(Durability::Memory, UNKNOWN, request.require)];
        let (survives, sentence) = (Durability::Memory, UNKNOWN.to_owned());
        Self { engine, location, survives, sentence, versions: versions(&[]), facts: Vec::new(), checks }
    }
}

/// Looks at everything; what fails is a finding, so this does not fail.
pub(crate) async fn health(store: &Store, request: HealthRequest) -> Health {
    let engine = store.engine();
    let info = engine.info();
    let begun = Instant::now();
    let found = store.info().await;
    if let Err(error) = &found
        && is_out_of_reach(error)
    {
        // Everything else would only wait as long and hear the same.
        return Health::unknown(info.kind, info.location, HealthCheck::problem("connect", error), request);
    }
    let mut all = vec![HealthCheck::ok("connect", format!("the store answers, after {:.1?}", begun.elapsed()))];
    all.push(checks::namespace(found));
    let mut written = None;
    if !request.read_only {
        let (check, known) = checks::write(store).await;
        all.push(check);
        written = known;
        all.extend(written.map(|written| checks::clock(CLOCK, written.apart())));
    }
    all.push(checks::latency(store, written.map(|written| written.took)).await);
    let probing = if request.read_only { Probing::ReadOnly } else { Probing::Writing };
    let examined = match engine.examine(probing).await {
        Ok(examined) => examined,
        // The class that was seen last may be of another day.
        Err(error) => Examination::of(Durability::Memory).saying(UNKNOWN).with(HealthCheck::refused("settings", &error)),
    };
    // What the engine saw itself counts more than what was met on the way.
    all.retain(|check| examined.checks.iter().all(|own| own.name != check.name));
    all.extend(examined.clock.map(|clock| checks::clock(SERVER_CLOCK, clock.apart(store.host().now()))));
    all.extend(examined.checks);
    all.push(checks::collections(store).await);
    let folder = examined.folder.as_deref().unwrap_or(Path::new(&info.location));
    all.extend(checks::space(folder));
    let survives = examined.durability;
    let sentence = examined.sentence.unwrap_or_else(|| survives.sentence().to_owned());
    all.push(checks::durability(survives, &sentence, request.require));
    let facts = as_now(info.facts, examined.facts);
    Health { engine: info.kind, location: info.location, survives, sentence, versions: versions(&facts), facts, checks: all }
}

/// Whether an error says that the store could not be reached, and nothing else about it.
fn is_out_of_reach(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::UnknownOutcome) && error.check().is_none_or(|c| c == "connect")
}

/// What was known when the store was opened, with what is known now in its place.
fn as_now(mut known: Vec<(&'static str, String)>, now: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    known.retain(|(name, _)| now.iter().all(|(newer, _)| newer != name));
    known.extend(now);
    known
}

fn versions(facts: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let own = ("millpond", env!("CARGO_PKG_VERSION").to_owned());
    let named = VERSIONS.iter().filter_map(|name| facts.iter().find(|(known, _)| known == name).cloned());
    std::iter::once(own).chain(named).collect()
}

impl Pond {
    /// How the main store is: can it be reached, may it be written, how long that takes, what an acknowledgement survives.
    ///
    /// What fails is a finding of the answer. Unless the request says otherwise, a lease of its own is taken and given
    /// back: two commits.
    pub async fn health(&self, request: HealthRequest) -> Health {
        self.health_of(0, request).await
    }

    /// The same of every store that this pond's domains live in, the main one first.
    pub async fn health_of_all(&self, request: HealthRequest) -> Vec<Health> {
        let mut all = Vec::with_capacity(self.stores().len());
        for store in 0..self.stores().len() {
            all.push(self.health_of(store, request).await);
        }
        all
    }

    async fn health_of(&self, store: usize, request: HealthRequest) -> Health {
        #[allow(unused_mut)] // Without files there are no trees.
        let mut health = health(&self.stores()[store], request).await;
        #[cfg(feature = "file")]
        if let Some(beside) = self.tree_of(store) {
            health.checks.push(checks::tree(beside).await);
        }
        health
    }
}
