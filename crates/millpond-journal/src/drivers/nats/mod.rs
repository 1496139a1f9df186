//! Journals in NATS JetStream, from server 2.10 on: a stream for each, extended only if its last sequence is the one
//! expected.
//!
//! * `address.rs`: the URL; `names.rs`: what streams are called; `streams.rs`: their settings, asked for and compared;
//! * `link.rs`: the connection, how often and how long a question is asked; `messages.rs`: reading through the leader;
//! * `monitor.rs`: what an acknowledgement means, read from the servers;
//! * `journal.rs`, `snapshots.rs`, `hint.rs`: one journal.

mod address;
mod hint;
mod journal;
mod link;
mod messages;
mod monitor;
mod names;
mod snapshots;
mod streams;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::{CallPolicy, Error, Examination, HealthCheck, Probing, Result, ServerClock};

use self::address::CALLS;
pub use self::address::{Login, NatsOptions};
use self::journal::NatsJournal;
use self::link::{Answer as _, Link, NoAnswer, unavailable};
use self::messages::{Found, Stored};
use self::names::Names;
use crate::journal::{Journal, Journals, PlaceInfo};

/// What all journals of a place share.
#[derive(Debug)]
struct Place {
    link: Link,
    prefix: String,
    /// Copies of each stream.
    replicas: u64,
}

/// Journals of one NATS server or cluster, under one prefix.
#[derive(Debug)]
pub struct NatsJournals {
    place: Arc<Place>,
    info: PlaceInfo,
    /// Where the servers' monitoring is.
    monitors: Vec<String>,
}

impl NatsJournals {
    /// How the servers are asked if the URL does not say.
    pub const CALLS: CallPolicy = CALLS;

    /// Opens a place on NATS servers.
    ///
    /// # Errors
    /// `Unsupported` for servers that are too old, that do not do what they are asked for, or whose streams have other
    /// settings; `NotFound` when there is no store and none is to be made; `Invalid` when the store has another number
    /// of copies than was asked for; `Unavailable` when no server can be reached.
    pub async fn open(options: NatsOptions) -> Result<Self> {
        let link = Link::connect(&options).await?;
        let replicas = replicas_of_store(&link, &options).await?;
        let servers = link.run(monitor::ask(options.monitors.clone())).await?;
        let connected = link.client().server_info();
        let (durability, mut facts) = monitor::judge(&servers, &connected.server_id, replicas);
        facts.push(("nats", connected.version));
        facts.push(("server", connected.server_name));
        facts.push(("replicas", replicas.to_string()));
        facts.push(("format", streams::FORMAT.to_string()));
        facts.push(("largest_entry", format!("{} bytes", link.max_payload() - link::HEADER_BYTES)));
        let info = PlaceInfo { kind: "nats", location: options.location(), durability, facts };
        let place = Place { link, prefix: options.prefix, replicas };
        Ok(Self { place: Arc::new(place), info, monitors: options.monitors })
    }
}

/// Finds or makes the stream that makes a prefix a store, and tells how many copies the streams of this store have.
async fn replicas_of_store(link: &Link, options: &NatsOptions) -> Result<u64> {
    let (name, removed) = (names::store(&options.prefix), names::removed(&options.prefix, "*"));
    let asked_for = options.replicas.map(u64::from);
    let found = streams::find(link, &name).await?;
    let info = match found {
        Some(info) => streams::compare(&streams::store(&name, &removed, 1), info)?,
        None if options.create => streams::make(link, &streams::store(&name, &removed, asked_for.unwrap_or(1))).await?,
        None => return Err(Error::not_found(format!("there is no store at {}", options.location()))),
    };
    match asked_for {
        Some(asked_for) if asked_for != info.replicas() => Err(Error::invalid(format!(
            "the store keeps {} copies of each stream, and {asked_for} were asked for",
            info.replicas()
        ))
        .with_next(format!("change all of its streams with `nats stream edit --replicas {asked_for}`, or leave replicas= out"))
        .in_check("replicas")),
        _ => Ok(info.replicas()),
    }
}

impl Place {
    fn names(&self, journal: &str) -> Result<Names> {
        Names::of(&self.prefix, journal)
    }

    /// Whether a journal was removed.
    async fn is_removed(&self, names: &Names) -> Result<bool> {
        let store = names::store(&self.prefix);
        match messages::last(&self.link, &store, &names.removed).await? {
            Found::Message(_) => Ok(true),
            Found::Nothing => Ok(false),
            Found::NoStream => Err(Error::corrupt(format!("the stream {store}, which makes this a store, is gone"))
                .with_next("restore the server's data from a copy")),
        }
    }

    /// Notes that a journal was removed. Saying it twice says nothing else.
    async fn note_removed(&self, names: &Names) -> Result<()> {
        let mut pauses = self.link.pauses();
        loop {
            let why = match self.link.ask(&names.removed, None, Bytes::new()).await {
                Ok(answer) => match Stored::read(&answer.payload)? {
                    Ok(_) => return Ok(()),
                    Err(refusal) if refusal.passes() => refusal.description,
                    Err(refusal) => return Err(streams::refused("cannot note that a journal was removed", &refusal)),
                },
                Err(NoAnswer::Nobody(why) | NoAnswer::Silence(why)) => why,
                Err(NoAnswer::NotSent(why)) => return Err(unavailable(&why)),
            };
            if !self.link.wait(&mut pauses).await {
                return Err(unavailable(&why));
            }
        }
    }
}

#[async_trait]
impl Journals for NatsJournals {
    fn info(&self) -> PlaceInfo {
        self.info.clone()
    }

    async fn examine(&self, _: Probing) -> Result<Examination> {
        let link = &self.place.link;
        let store = names::store(&self.place.prefix);
        let asked = Instant::now();
        let Some(info) = streams::find(link, &store).await? else {
            return Err(Error::corrupt(format!("the stream {store}, which makes this a store, is gone"))
                .with_next("restore the server's data from a copy")
                .in_check("schema"));
        };
        let clock = info.ts.parse().ok().map(|shows| ServerClock::answered(shows, Duration::ZERO, asked));
        let streams = streams::list(link, &self.place.prefix).await?;
        // A monitoring port that does not answer leaves the class unknown; all else can still be seen.
        let (servers, silent) = match link.run(monitor::ask(self.monitors.clone())).await {
            Ok(servers) => (servers, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let seen =
            monitor::Seen { servers: &servers, silent, connected: &link.client().server_info().server_id, streams: &streams };
        Ok(seen.examination().with(HealthCheck::schema(info.format(), streams::FORMAT)).reading(clock))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Journal>> {
        Ok(Arc::new(NatsJournal::open(Arc::clone(&self.place), self.place.names(name)?).await?))
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let names = self.place.names(name)?;
        // First the word, then the deed: see `NatsJournal::look_for_stream`.
        self.place.note_removed(&names).await?;
        streams::delete(&self.place.link, &names.stream).await?;
        streams::delete(&self.place.link, &names.snapshots).await
    }

    fn cache(&self) -> Option<&Path> {
        None
    }
}
