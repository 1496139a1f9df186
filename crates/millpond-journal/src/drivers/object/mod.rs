//! Journals in an object store: an entry is an object that is created if it is absent.
//!
//! ```text
//!   <prefix>/millpond.json                                what is kept here, and that the store was probed
//!   <prefix>/journals/<name>/entries/00000000000000000001.json …
//!   <prefix>/journals/<name>/floor                        entries up to this number are forgotten
//!   <prefix>/journals/<name>/snapshots/….db.lz4           everything up to an entry
//!   <prefix>/removed/<name>                               a journal whose objects still have to go
//! ```
//!
//! Everything rests on one promise of the store: of several who create one object, one succeeds. Some servers ignore the
//! condition, some look and then write. So a new place is probed before it is used, see `probe.rs`.

mod create;
mod errors;
#[cfg(test)]
mod fakes;
mod floor;
mod journal;
mod keeps;
mod probe;
mod snapshots;
mod sweep;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::{CallPolicy, Durability, Error, ErrorKind, Examination, HealthCheck, Host, Probing, Result, SystemHost};
use millpond_objects::place::{CALLS, Patience, failed, get};
use object_store::ObjectStoreExt as _;
use object_store::path::Path as Location;

use self::create::create;
use self::journal::ObjectJournal;
use crate::journal::{Journal, Journals, PlaceInfo};

pub use millpond_objects::place::ObjectPlace;

/// The format that this program writes.
const FORMAT: u32 = 1;

/// The name of the check whether the server enforces its conditions.
const CONDITIONAL: &str = "conditional_writes";
/// The name of the check of a server's clock that could not be read.
const SERVER_CLOCK: &str = "server_clock";

/// How to use an object store.
#[derive(Debug, Clone)]
pub struct ObjectOptions {
    /// Randomness, for pauses.
    pub host: Arc<dyn Host>,
    /// Whether a place that is no store yet becomes one.
    pub create: bool,
    /// How long objects stay after the floor was raised over them. A request must not take half as long.
    pub grace: Duration,
    /// How often a waiting reader looks for the next entry.
    pub poll: Duration,
    /// Whether a new place is probed. Only a test has a reason not to.
    pub probe: bool,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        Self {
            host: Arc::new(SystemHost),
            create: true,
            grace: Duration::from_secs(20),
            poll: Duration::from_millis(500),
            probe: true,
        }
    }
}

/// An object store that keeps journals.
#[derive(Debug)]
pub struct ObjectJournals {
    place: ObjectPlace,
    patience: Patience,
    options: ObjectOptions,
}

impl ObjectJournals {
    /// How requests are made if the URL does not say.
    pub const CALLS: CallPolicy = CALLS;

    /// Opens a place in an object store. A new one is probed: does it really create an object only if it is absent?
    ///
    /// # Errors
    /// `NotFound` when it is no store and is not to become one, `Unsupported` when the server does not keep its
    /// promise or for a newer format, `Unavailable` when it cannot be reached.
    pub async fn open(place: ObjectPlace, options: ObjectOptions) -> Result<Self> {
        let (place, patience) = place.patient(Arc::clone(&options.host));
        let mark = place.location("millpond.json");
        match place.store().get(&mark).await {
            Ok(found) => {
                check_format(&found.bytes().await.map_err(failed("read", &mark))?)?;
            }
            Err(object_store::Error::NotFound { .. }) if options.create => {
                if options.probe {
                    probe::run(place.store(), &patience, &place.location("probe")).await?;
                }
                let text = format!("{{\"millpond\":\"object\",\"format\":{FORMAT}}}\n");
                // Another process was faster, or an earlier try of this one: what is there tells.
                if !create(place.store(), &patience, &mark, &text).await? {
                    let found = get(place.store(), &mark).await?;
                    check_format(
                        &found.ok_or_else(|| Error::unavailable(format!("cannot create {mark}, though nothing is there")))?,
                    )?;
                }
            }
            Err(object_store::Error::NotFound { .. }) => {
                return Err(Error::not_found(format!("there is no store at {}", place.shown())));
            }
            Err(error) => return Err(failed("read", &mark)(error)),
        }
        let journals = Self { place, patience, options };
        sweep::finish_removals(&journals.place, journals.options.grace);
        Ok(journals)
    }

    /// The format that the store's mark names now.
    async fn schema(&self) -> HealthCheck {
        let mark = self.place.location("millpond.json");
        let read = async {
            match get(self.place.store(), &mark).await? {
                Some(bytes) => read_format(&bytes),
                None => Err(Error::corrupt(format!("{mark}, which makes this a store, is gone"))
                    .with_next("restore it from a copy of the bucket")),
            }
        };
        match read.await {
            Ok(format) => HealthCheck::schema(format, u64::from(FORMAT)),
            Err(error) => HealthCheck::problem("schema", &error),
        }
    }

    fn folder(&self, name: &str) -> Location {
        self.place.location("journals").join(name)
    }
}

/// The format that a store's mark names.
fn read_format(bytes: &Bytes) -> Result<u64> {
    let found: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|e| Error::corrupt("the store's millpond.json does not read back").with_source(e))?;
    match (found["millpond"].as_str(), found["format"].as_u64()) {
        (Some("object"), Some(format)) => Ok(format),
        (Some("object"), None) => Err(Error::corrupt("the store's millpond.json names no format").in_check("schema")),
        _ => Err(Error::invalid("millpond.json is not of a store in objects").with_next("give another prefix")),
    }
}

/// Refuses what is no store, and formats that this program does not know.
fn check_format(mark: &Bytes) -> Result<()> {
    match read_format(mark)? {
        format if format > u64::from(FORMAT) => Err(newer(format)),
        _ => Ok(()),
    }
}

/// The refusal of a format that this program does not know.
fn newer(format: u64) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the store has format {format}; this program knows {FORMAT}"))
        .with_next("use a newer millpond")
        .in_check("schema")
}

/// What a probe that failed says: only a server that broke its promise has broken it.
fn judge_probe(error: Error) -> (HealthCheck, Option<Durability>) {
    if error.kind() == ErrorKind::Unsupported {
        // What is acknowledged to two writers is kept for one.
        return (HealthCheck::problem(CONDITIONAL, &error), Some(Durability::Memory));
    }
    let said = format!("it could not be tried whether they are enforced: {}", error.message());
    (HealthCheck::problem(CONDITIONAL, &error.saying(said)), None)
}

#[async_trait]
impl Journals for ObjectJournals {
    fn info(&self) -> PlaceInfo {
        PlaceInfo {
            kind: self.place.kind(),
            location: self.place.shown().to_owned(),
            durability: keeps::durability(self.place.keeps()),
            facts: vec![
                ("format", FORMAT.to_string()),
                ("acknowledged", self.place.keeps().words()),
                ("created_if_absent", "probed when the store was made".to_owned()),
            ],
        }
    }

    async fn examine(&self, probing: Probing) -> Result<Examination> {
        let mut examined = keeps::examine(self.place.keeps())?;
        examined.checks.push(self.schema().await);
        if probing == Probing::ReadOnly {
            return Ok(examined);
        }
        let folder = self.place.location("probe");
        match probe::run(self.place.store(), &self.patience, &folder).await {
            Ok(()) => examined.checks.push(HealthCheck::ok(CONDITIONAL, "of several who create one object, one succeeds")),
            Err(error) => {
                let (check, durability) = judge_probe(error);
                examined.durability = durability.unwrap_or(examined.durability);
                examined.sentence = examined.sentence.filter(|_| durability.is_none());
                examined.checks.push(check);
            }
        }
        match probe::clock(self.place.store(), &folder).await {
            Ok(clock) => examined.clock = Some(clock),
            Err(error) => examined.checks.push(HealthCheck::problem(SERVER_CLOCK, &error)),
        }
        Ok(examined)
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Journal>> {
        Ok(Arc::new(ObjectJournal::new(Arc::clone(self.place.store()), self.patience.clone(), self.folder(name), &self.options)))
    }

    async fn remove(&self, name: &str) -> Result<()> {
        sweep::remove(&self.place, &self.patience, &self.folder(name), name, self.options.grace).await
    }

    fn cache(&self) -> Option<&Path> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::fakes::{Fault, Faulty};
    use super::*;
    use millpond_core::Finding;
    use object_store::ObjectStore;
    use object_store::memory::InMemory;

    async fn examined(store: Arc<dyn ObjectStore>, probing: Probing) -> Examination {
        let options = ObjectOptions { probe: false, ..ObjectOptions::default() };
        let journals = ObjectJournals::open(ObjectPlace::of(store, "p"), options).await.unwrap();
        journals.examine(probing).await.unwrap()
    }

    fn check<'e>(examined: &'e Examination, name: &str) -> &'e HealthCheck {
        examined.checks.iter().find(|check| check.name == name).unwrap()
    }

    #[tokio::test]
    async fn a_store_that_keeps_its_promise_is_well() {
        let store = Arc::new(InMemory::new());
        let found = examined(Arc::clone(&store) as _, Probing::Writing).await;
        assert_eq!(check(&found, CONDITIONAL).finding, Finding::Ok);
        assert_eq!(check(&found, "schema").finding, Finding::Ok);
        assert_eq!(found.durability, Durability::ProcessCrash, "nobody knows whether it flushes");
        let apart = found.clock.unwrap().apart(SystemHost.now());
        assert!(apart < Duration::from_secs(60), "the clock is that of the store: {apart:?} apart");
        let left = store.list_with_delimiter(Some(&Location::from("p/probe"))).await.unwrap();
        assert!(left.objects.is_empty() && left.common_prefixes.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn a_store_that_breaks_its_promise_is_a_problem_and_keeps_nothing() {
        for fault in [Fault::Ignores, Fault::LooksThenWrites] {
            let found = examined(Arc::new(Faulty { inner: InMemory::new(), fault }), Probing::Writing).await;
            assert_eq!(check(&found, CONDITIONAL).finding, Finding::Problem, "{fault:?}");
            assert_eq!((found.durability, &found.sentence), (Durability::Memory, &None));
        }
    }

    #[tokio::test]
    async fn a_probe_that_was_refused_is_told_as_what_it_is() {
        let found = examined(Arc::new(Faulty { inner: InMemory::new(), fault: Fault::Forbids }), Probing::Writing).await;
        let probe = check(&found, CONDITIONAL);
        assert_eq!(probe.finding, Finding::Problem);
        assert!(probe.found.contains("could not be tried") && probe.found.contains("may not"), "{probe:?}");
        assert_eq!(found.durability, Durability::ProcessCrash, "no promise was broken");
        assert_eq!(check(&found, SERVER_CLOCK).finding, Finding::Problem);
    }

    #[tokio::test]
    async fn a_clock_that_cannot_be_read_leaves_the_finding_of_the_probe() {
        let found = examined(Arc::new(Faulty { inner: InMemory::new(), fault: Fault::HeadsFail }), Probing::Writing).await;
        assert_eq!(check(&found, CONDITIONAL).finding, Finding::Ok, "{found:?}");
        assert_eq!(check(&found, SERVER_CLOCK).finding, Finding::Problem);
    }

    /// The mark, too, is made by a create whose answer may be lost; what the second try is refused for has to be read.
    #[tokio::test(start_paused = true)]
    async fn a_store_whose_answers_are_lost_is_made_and_found_again() {
        let inner = InMemory::new();
        let store = Arc::new(Faulty { inner: inner.clone(), fault: Fault::LosesFirstAnswers });
        for create in [true, false] {
            let options = ObjectOptions { create, ..ObjectOptions::default() };
            ObjectJournals::open(ObjectPlace::of(Arc::clone(&store) as _, "p"), options).await.unwrap();
        }
        assert!(inner.head(&Location::from("p/millpond.json")).await.is_ok());
    }

    #[tokio::test]
    async fn a_newer_format_is_found() {
        let store = Arc::new(InMemory::new());
        let options = ObjectOptions { probe: false, ..ObjectOptions::default() };
        let journals = ObjectJournals::open(ObjectPlace::of(Arc::clone(&store) as _, "p"), options).await.unwrap();
        store.put(&Location::from("p/millpond.json"), "{\"millpond\":\"object\",\"format\":2}".into()).await.unwrap();
        let found = journals.examine(Probing::ReadOnly).await.unwrap();
        assert_eq!(check(&found, "schema").finding, Finding::Problem);
        let refused = ObjectJournals::open(ObjectPlace::of(store, "p"), ObjectOptions::default()).await.unwrap_err();
        assert_eq!((refused.kind(), refused.check()), (ErrorKind::Unsupported, Some("schema")));
    }

    #[tokio::test]
    async fn a_store_that_breaks_its_promise_is_not_opened() {
        for fault in [Fault::Ignores, Fault::LooksThenWrites] {
            let store = Arc::new(Faulty { inner: InMemory::new(), fault });
            let refused = ObjectJournals::open(ObjectPlace::of(store, "p"), ObjectOptions::default()).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn who_may_not_write_leaves_the_store_alone() {
        let store = Arc::new(Faulty { inner: InMemory::new(), fault: Fault::Ignores });
        let found = examined(store, Probing::ReadOnly).await;
        assert!(found.checks.iter().all(|check| check.name != CONDITIONAL) && found.clock.is_none());
    }
}
