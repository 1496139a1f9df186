//! Journals in Redis 7 or later: a stream for each, which one script extends by one entry if its tail is the one expected.
//!
//! ```text
//!   PREFIX:store                     what this place is
//!   PREFIX:{NAME}:log                entries and their marks
//!   PREFIX:{NAME}:snapshot …         everything up to an entry, in pieces
//! ```
//!
//! The braces put all keys of a journal into one slot of a cluster.
//!
//! * `link.rs`: the connection, and how often and how long a call is tried; `errors.rs`: what a refusal means;
//! * `server.rs`: what an acknowledgement means, read from the server; `live.rs`: and read again; `scripts.rs`: what happens in one step;
//! * `journal.rs`, `snapshots.rs`, `watch.rs`: one journal.

mod errors;
mod journal;
mod link;
mod live;
mod scripts;
mod server;
mod settings;
mod snapshots;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millpond_core::{CallPolicy, Error, ErrorKind, Examination, HealthCheck, Host, Probing, Result, SystemHost};
use redis::Value;

use self::errors::unreadable;
use self::journal::{RedisJournal, log_key};
use self::link::{Link, Sending};
use self::live::Live;
use self::settings::Settings;
use self::snapshots::Snapshots;
use crate::journal::{Journal, Journals, PlaceInfo};

/// The format that this program writes.
const FORMAT: u32 = 1;
/// How long a removed journal's key says so: longer than any process stays behind that had it open.
const REMOVED_S: u64 = 30 * 24 * 3_600;

/// How to open a place in Redis.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Randomness, for pauses. The clock is the server's.
    pub host: Arc<dyn Host>,
    /// Whether a prefix without a store becomes one.
    pub create: bool,
    /// How often the server's settings are looked at again, while it is written to.
    pub look_again: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { host: Arc::new(SystemHost), create: true, look_again: Duration::from_secs(10) }
    }
}

/// Journals of one Redis server or cluster, under one prefix.
#[derive(Debug)]
pub struct RedisJournals {
    link: Link,
    settings: Settings,
    live: Live,
}

impl RedisJournals {
    /// How calls are tried if the URL does not say.
    pub const CALLS: CallPolicy = settings::CALLS;

    /// Opens `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss:` for TLS; `docs/redis.md` lists the parameters.
    ///
    /// # Errors
    /// `Invalid` for a wrong URL; `Unsupported` for a server that is too old, that evicts keys, that keeps nothing on disk, or whose store is of a
    /// newer format; `NotFound` when there is no store and none is to be made; `Unavailable` when it cannot be reached.
    pub async fn open(url: &str, options: RedisOptions) -> Result<Self> {
        let settings = Settings::parse(url)?;
        let link = Link::new(&settings, options.host)?;
        let live = Live::open(link.clone(), settings.cluster, settings.demands, options.look_again).await?;
        let place = Self { link, settings, live };
        place.find(options.create).await?;
        Ok(place)
    }

    /// Finds the key that makes a prefix a store, or writes it.
    async fn find(&self, create: bool) -> Result<()> {
        let key = self.store_key();
        let own = format!("millpond {FORMAT}");
        match self.format().await? {
            Some(format) if format <= u64::from(FORMAT) => Ok(()),
            Some(format) => {
                Err(Error::new(ErrorKind::Unsupported, format!("the store has format {format}; this program knows {FORMAT}"))
                    .with_next("use a newer millpond")
                    .in_check("schema"))
            }
            None if create => {
                let mut set = redis::cmd("SET");
                set.arg(&key).arg(&own).arg("NX");
                self.link.call(set, Sending::Repeatable).await.map(drop)
            }
            None => Err(Error::not_found(format!("there is no store at {}", self.settings.location()))),
        }
    }

    /// The format of the store; `None` where there is none.
    async fn format(&self) -> Result<Option<u64>> {
        let key = self.store_key();
        let mut get = redis::cmd("GET");
        get.arg(&key);
        let found = match self.link.call(get, Sending::Read).await? {
            Value::Nil => return Ok(None),
            Value::BulkString(found) => String::from_utf8_lossy(&found).into_owned(),
            _ => return Err(unreadable("the store's key")),
        };
        match found.strip_prefix("millpond ").map(str::parse) {
            Some(Ok(format)) => Ok(Some(format)),
            _ => Err(Error::invalid(format!("the key {key} is not of a store")).with_next("choose another prefix")),
        }
    }

    async fn schema(&self) -> HealthCheck {
        match self.format().await {
            Ok(Some(format)) => HealthCheck::schema(format, u64::from(FORMAT)),
            Ok(None) => {
                let gone = Error::corrupt(format!("the key {}, which makes this a store, is gone", self.store_key()));
                HealthCheck::problem("schema", &gone.with_next("restore the server's data from a copy"))
            }
            Err(error) => HealthCheck::problem("schema", &error),
        }
    }

    fn store_key(&self) -> String {
        format!("{}:store", self.settings.prefix)
    }

    /// What every key of a journal begins with.
    fn base(&self, name: &str) -> String {
        format!("{}:{{{name}}}", self.settings.prefix)
    }
}

#[async_trait]
impl Journals for RedisJournals {
    fn info(&self) -> PlaceInfo {
        let mut server = self.live.server();
        server.facts.push(("format", FORMAT.to_string()));
        PlaceInfo { kind: "redis", location: self.settings.location(), durability: server.durability, facts: server.facts }
    }

    async fn examine(&self, _: Probing) -> Result<Examination> {
        Ok(self.live.examine().await?.with(self.schema().await))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Journal>> {
        Ok(Arc::new(RedisJournal::new(self.link.clone(), self.live.clone(), &self.base(name))))
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let base = self.base(name);
        // In place of the stream stands a word that is none, so that whoever appends or reads is refused.
        let mut command = redis::cmd("SET");
        command.arg(log_key(&base)).arg("removed").arg("EX").arg(REMOVED_S);
        self.link.call(command, Sending::Repeatable).await?;
        Snapshots::new(self.link.clone(), &base).remove().await
    }

    fn cache(&self) -> Option<&Path> {
        None
    }
}
