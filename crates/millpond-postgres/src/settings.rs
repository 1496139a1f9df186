//! The URL of a PostgreSQL store. Every parameter is known or refused; none is read and ignored.
//!
//! ```text
//!   postgres://user:password@host:5432/database?schema=millpond&pool=16&sslmode=verify-full
//! ```

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use millpond_core::{CallPolicy, Error, Result, unknown_parameter};
use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::names::quote;
use crate::session::LocalSettings;
use crate::tls::{Tls, Verify};

/// The schema that holds Millpond's tables, if the URL does not say.
const SCHEMA: &str = "millpond";
/// Connections of one process, if the URL does not say.
const POOL: usize = 16;
const POOL_MOST: usize = 1_000;
/// How calls are tried, if the URL does not say.
const CALLS: CallPolicy = CallPolicy::within(Duration::from_secs(30)).pausing(Duration::from_secs(1));
/// How long one piece of work on a whole store may take, if the URL does not say.
const WORK: Duration = Duration::from_secs(3_600);
const WORK_MOST_S: u64 = 7 * 86_400;
/// How long one attempt to connect takes, if the URL does not say.
const CONNECT: Duration = Duration::from_secs(10);
/// How long what was sent may stay without the other machine's receipt, and how long a silent connection goes without
/// being looked after, if the URL does not say. A machine that lost its power says nothing.
const UNHEARD: Duration = Duration::from_secs(10);
/// Looks at a silent connection, one after the other, until it is given up.
const LOOKS: u32 = 3;
/// A process that hangs between the two round trips of a commit holds the namespace's lock this long.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// Parameters that go to the driver as they are.
const DRIVER: [&str; 13] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "password",
    "port",
    "user",
];
/// Parameters of the driver that a store needs a say in.
const BOTH: [&str; 3] = ["sslnegotiation", "target_session_attrs", "tcp_user_timeout"];
/// Parameters of our own.
const OWN: [&str; 10] =
    ["fsync", "pool", "pooler", "schema", "sslcert", "sslkey", "sslmode", "sslrootcert", "synchronous_commit", "work_timeout"];

/// What stands between the program and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooler {
    /// Nothing, or a pool that gives each client a session.
    Session,
    /// A pool that gives out a server for one transaction at a time.
    Transaction,
}

/// What the URL says.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    pub(crate) schema: String,
    pub(crate) pool: usize,
    pub(crate) pooler: Pooler,
    pub(crate) synchronous_commit: String,
    pub(crate) calls: CallPolicy,
    /// How long one attempt at work on a whole store may take that is one statement or one transaction.
    pub(crate) work: Duration,
    /// A server without fsync was asked for in so many words.
    pub(crate) fsync_off: bool,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("location", &self.location()).finish_non_exhaustive()
    }
}

/// The parameters of our own, as given.
struct Own(Vec<(String, String)>);

impl Own {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &'static str, most: u64) -> Result<Option<u64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(name, text, &format!("a number from 1 to {most}"))),
        }
    }

    /// One of a few words; the first is what is meant if nothing is said.
    fn word<'w>(&self, name: &'static str, words: &[&'w str]) -> Result<&'w str> {
        let Some(text) = self.get(name) else { return Ok(words.first().copied().unwrap_or_default()) };
        words.iter().find(|w| **w == text).copied().ok_or_else(|| wrong(name, text, &words.join(", ")))
    }
}

fn wrong(name: &str, value: &str, allowed: &str) -> Error {
    Error::invalid(format!("{name}={value:?} in the PostgreSQL URL is none of: {allowed}"))
}

impl Settings {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (url, calls) = CallPolicy::of_url(url, CALLS)?;
        let (base, query) = url.split_once('?').unwrap_or((&url, ""));
        let (mut driver, mut own) = (Vec::new(), Vec::new());
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| Error::invalid(format!("parameter {pair:?} has no value")))?;
            if OWN.contains(&name) {
                let value = percent_decode_str(value).decode_utf8();
                let value = value.map_err(|e| Error::invalid(format!("the value of {name} is not UTF-8")).with_source(e))?;
                own.push((name.to_owned(), value.into_owned()));
            } else if DRIVER.contains(&name) || BOTH.contains(&name) {
                driver.push(pair);
            } else {
                let known = OWN.iter().chain(&DRIVER).chain(&BOTH).chain(&CallPolicy::NAMES).copied();
                return Err(unknown_parameter("the PostgreSQL URL", name, known));
            }
        }
        // The driver's error names the parameter or the part of the URL, never the URL itself, which holds a password.
        let mut config = Config::from_str(&format!("{base}?{}", driver.join("&")))
            .map_err(|e| Error::invalid("the PostgreSQL URL cannot be read").with_source(e.to_string()))?;
        let given = |name: &str| driver.iter().any(|pair| pair.split_once('=').is_some_and(|(n, _)| n == name));
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::invalid("the PostgreSQL URL names no host").with_next("write postgres://user@host/database"));
        }
        Self::finish(&mut config, &Own(own), &given, calls).map(|settings| Self { config, ..settings })
    }

    fn finish(config: &mut Config, own: &Own, given: &dyn Fn(&str) -> bool, calls: CallPolicy) -> Result<Self> {
        let schema = own.get("schema").unwrap_or(SCHEMA).to_owned();
        let usable = schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && schema.len() <= 63
            && !schema.starts_with("pg_")
            && schema.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !usable {
            return Err(wrong("schema", &schema, "up to 63 of a–z, 0–9 and '_', not beginning with a digit or pg_"));
        }
        let pooler = match own.word("pooler", &["session", "transaction"])? {
            "transaction" => Pooler::Transaction,
            _ => Pooler::Session,
        };
        let settings = Self {
            config: Config::new(),
            tls: tls(config, own)?,
            schema,
            pool: own.number("pool", POOL_MOST as u64)?.map_or(POOL, |n| usize::try_from(n).unwrap_or(POOL)),
            pooler,
            synchronous_commit: own
                .word("synchronous_commit", &["on", "remote_apply", "remote_write", "local", "off"])?
                .to_owned(),
            calls,
            work: own.number("work_timeout", WORK_MOST_S)?.map_or(WORK.max(calls.timeout), Duration::from_secs),
            fsync_off: own.word("fsync", &["on", "off"])? == "off",
        };
        if !given("application_name") {
            config.application_name("millpond");
        }
        unheard(config, calls.timeout, given);
        // A commit on a standby cannot succeed: with several hosts, the one that takes writes is looked for.
        if !given("target_session_attrs") {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if pooler == Pooler::Session {
            let options: Vec<String> = settings.session().iter().map(|(name, value)| format!("-c {name}={value}")).collect();
            config.options(options.join(" "));
        }
        Ok(settings)
    }

    /// How long a call waits for a lock before it begins anew: shorter than an attempt takes at most, so that the
    /// connection stays.
    fn lock_wait(&self) -> Duration {
        self.calls.timeout * 2 / 5
    }

    /// What every session of ours is set to.
    fn session(&self) -> Vec<(&'static str, String)> {
        vec![
            ("search_path", self.schema.clone()),
            ("synchronous_commit", self.synchronous_commit.clone()),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION.as_millis().to_string()),
            ("lock_timeout", self.lock_wait().as_millis().to_string()),
            // That the wait for a standby was cancelled is told by a warning alone, which a role may have turned off.
            ("client_min_messages", "warning".to_owned()),
            // Every question of ours is about one namespace of tables that hold many: a plan that was made while a
            // table was empty must not read all of it for ever after.
            ("enable_seqscan", "off".to_owned()),
            // Left to itself the server plans a batch's statements anew each time: it takes few values for cheaper than
            // unknown ones, and forgets what planning costs.
            ("plan_cache_mode", "force_generic_plan".to_owned()),
            // A plan that cannot avoid it would otherwise look so expensive that it is compiled first.
            ("jit", "off".to_owned()),
        ]
    }

    /// The same for one transaction, where a session's settings do not last.
    pub(crate) fn local_settings(&self) -> LocalSettings {
        (self.pooler == Pooler::Transaction).then(|| {
            let set = |(name, value): &(&str, String)| format!("SET LOCAL {name} = {}", quote(value));
            self.session().iter().map(set).collect::<Vec<_>>().join("; ").into()
        })
    }

    /// Where the store is, without secrets.
    pub(crate) fn location(&self) -> String {
        let hosts: Vec<String> = self.config.get_hosts().iter().map(host).collect();
        let ports: Vec<String> = self.config.get_ports().iter().map(u16::to_string).collect();
        let ports = if ports.is_empty() { "5432".to_owned() } else { ports.join(",") };
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("postgres://{}:{ports}/{database}?schema={}", hosts.join(","), self.schema)
    }
}

/// Limits for a server, a machine or a network that says nothing any more; what the URL says stands.
fn unheard(config: &mut Config, patience: Duration, given: &dyn Fn(&str) -> bool) {
    if config.get_connect_timeout().is_none() {
        // Every host can be asked before the patience is at its end.
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len()).max(1);
        let share = patience / u32::try_from(hosts + 1).unwrap_or(u32::MAX);
        config.connect_timeout(CONNECT.min(share));
    }
    if !given("tcp_user_timeout") {
        config.tcp_user_timeout(UNHEARD);
    }
    if !given("keepalives_idle") {
        config.keepalives_idle(UNHEARD);
    }
    if !given("keepalives_interval") {
        config.keepalives_interval(UNHEARD / LOOKS);
    }
    if !given("keepalives_retries") {
        config.keepalives_retries(LOOKS);
    }
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

/// `sslmode` means what it means to libpq.
fn tls(config: &mut Config, own: &Own) -> Result<Tls> {
    let root = own.get("sslrootcert").map(PathBuf::from);
    let mode = own.word("sslmode", &["prefer", "disable", "require", "verify-ca", "verify-full"])?;
    let (ssl, verify) = match mode {
        "disable" => (SslMode::Disable, Verify::Nothing),
        "prefer" => (SslMode::Prefer, Verify::Nothing),
        // As in libpq: who names a root certificate wants it used.
        "require" if root.is_some() => (SslMode::Require, Verify::Chain),
        "require" => (SslMode::Require, Verify::Nothing),
        "verify-ca" => (SslMode::Require, Verify::Chain),
        _ => (SslMode::Require, Verify::ChainAndName),
    };
    config.ssl_mode(ssl);
    let client = match (own.get("sslcert"), own.get("sslkey")) {
        (Some(certificate), Some(key)) => Some((PathBuf::from(certificate), PathBuf::from(key))),
        (None, None) => None,
        _ => return Err(Error::invalid("sslcert and sslkey belong together").with_next("give both, or neither")),
    };
    if ssl == SslMode::Disable && (root.is_some() || client.is_some()) {
        return Err(Error::invalid("certificates are given, but sslmode=disable").with_next("use sslmode=verify-full"));
    }
    Tls::new(verify, root.as_deref(), client.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_or_refused() {
        let parse = |query: &str| Settings::parse(&format!("postgres://u:s3cret@h:1/d?{query}"));
        for good in [
            "",
            "pool=4&pooler=transaction",
            "schema=app_1",
            "sslmode=disable",
            "timeout=5",
            "connect_timeout=3",
            "retries=0&breaker=3",
            "work_timeout=7200",
        ] {
            parse(good).unwrap();
        }
        for bad in [
            "pool=0",
            "pool=x",
            "pooler=statement",
            "schema=A",
            "schema=pg_x",
            "sslmode=allow",
            "synchronous_commit=no",
            "timeout=0",
            "x=1",
            "pol=4",
            "fsync=maybe",
            "sslcert=a",
            "pool",
            "options=-c%20x",
            "sslmode=disable&sslrootcert=x",
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.kind(), millpond_core::ErrorKind::Invalid, "{bad}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert!(parse("pol=4").unwrap_err().to_string().contains("did you mean pool?"));
        assert!(parse("timout=4").unwrap_err().to_string().contains("did you mean timeout?"));
    }

    #[test]
    fn nothing_shows_the_password() {
        let settings = Settings::parse("postgres://u:s3cret@h:1,i:2/d?sslmode=disable").unwrap();
        assert_eq!(settings.location(), "postgres://h,i:1,2/d?schema=millpond");
        assert!(!format!("{settings:?}").contains("s3cret"));
        for bad in ["postgres://u:s3cret@h:port/d", "postgres://u:s3cret@/d", "postgres://u:s3cret%ff@h/d?application_name=%ff"] {
            let error = Settings::parse(bad).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn settings_travel_with_the_session_or_with_each_transaction() {
        let session = Settings::parse("postgres://u@h/d?synchronous_commit=off").unwrap();
        assert!(session.config.get_options().is_some_and(|o| o.contains("-c synchronous_commit=off")));
        assert_eq!(session.local_settings(), None);
        let pooled = Settings::parse("postgres://u@h/d?pooler=transaction").unwrap();
        assert_eq!(pooled.config.get_options(), None);
        assert!(pooled.local_settings().is_some_and(|s| s.contains("SET LOCAL synchronous_commit = \"on\"")));
    }
}
