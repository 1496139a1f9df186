//! The URL of a Redis store. Every parameter is known or refused; none is read and ignored.
//!
//! ```text
//!   redis://user:password@host:6379/0?prefix=millpond&timeout=5&retries=3
//!   redis://host1:7000,host2:7000?cluster=true
//!   rediss://…                          the same under TLS; ca=FILE names the authority to trust
//! ```

use std::path::PathBuf;
use std::time::Duration;

use millpond_core::{CallPolicy, Error, Result, unknown_parameter};
use percent_encoding::percent_decode_str;

/// What every key begins with, if the URL does not say.
const PREFIX: &str = "millpond";
const PREFIX_LONGEST: usize = 64;
/// How calls are tried, if the URL does not say.
pub(super) const CALLS: CallPolicy = CallPolicy::within(Duration::from_secs(5));
/// Parameters of our own.
const OWN: [&str; 8] = ["appendfsync", "appendonly", "ca", "cache", "cluster", "connect_timeout", "eviction", "prefix"];
/// How long one connection may take to come about, if the URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT_MOST_S: u64 = 3_600;
const PORT: u16 = 6379;
/// Nodes a URL names at most; the others of a cluster are found through these.
const HOSTS: usize = 64;

/// What the server has to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Demands {
    /// A server that may throw entries away was asked for in so many words.
    pub(super) eviction_allowed: bool,
    /// So was one that keeps no file of what it was told.
    pub(super) no_file_allowed: bool,
    /// How soon it has to write its file to the disk, at least.
    pub(super) flush: Flush,
}

/// The server's `appendfsync`, from the weakest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Flush {
    /// When its system likes.
    #[default]
    No,
    /// Once a second.
    EverySecond,
    /// Before it answers.
    Always,
}

impl Flush {
    /// Reads the value of `appendfsync`.
    pub(super) fn read(text: &str) -> Option<Self> {
        match text {
            "no" => Some(Self::No),
            "everysec" => Some(Self::EverySecond),
            "always" => Some(Self::Always),
            _ => None,
        }
    }
}

/// What the URL says. Holds a password, and never shows it.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
    pub(super) cluster: bool,
    pub(super) tls: bool,
    pub(super) ca: Option<PathBuf>,
    pub(super) prefix: String,
    pub(super) calls: CallPolicy,
    pub(super) connect_timeout: Duration,
    pub(super) demands: Demands,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("location", &self.location()).finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads a URL.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (url, calls) = CallPolicy::of_url(url, CALLS)?;
        let (scheme, rest) = url.split_once("://").ok_or_else(|| shape("no redis:// at its beginning"))?;
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(shape("another scheme")),
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold an `@` of its own, so the last one counts.
        let (login, place) = place.rsplit_once('@').map_or((None, place), |(login, place)| (Some(login), place));
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let (user, password) = read_login(login)?;
        let mut settings = Self {
            hosts: read_hosts(hosts)?,
            user,
            password,
            database: read_database(database)?,
            cluster: false,
            tls,
            ca: None,
            prefix: PREFIX.to_owned(),
            calls,
            connect_timeout: CONNECT_TIMEOUT,
            demands: Demands::default(),
        };
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            settings.set(name, &decoded(name, value)?)?;
        }
        settings.check()
    }

    /// What only one of the two kinds of server can have.
    fn check(self) -> Result<Self> {
        match (self.cluster, self.hosts.len(), self.database) {
            (false, 2.., _) => Err(shape("several hosts without a cluster").with_next("add cluster=true, or name one host")),
            (true, _, 1..) => {
                Err(shape("a cluster has no numbered databases")
                    .with_next("leave the number out; use prefix to keep stores apart"))
            }
            _ => Ok(self),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "prefix" => self.prefix = read_prefix(value)?,
            "connect_timeout" => self.connect_timeout = read_timeout(name, value)?,
            "cluster" => self.cluster = read_bool(name, value)?,
            "appendonly" if value == "no" => self.demands.no_file_allowed = true,
            "appendonly" => return Err(wrong(name, value, "no, which accepts a server that keeps no file")),
            "appendfsync" => {
                self.demands.flush = Flush::read(value).ok_or_else(|| wrong(name, value, "always, everysec or no"))?
            }
            "eviction" if value == "allow" => self.demands.eviction_allowed = true,
            "eviction" => return Err(wrong(name, value, "allow")),
            "ca" if self.tls && !value.is_empty() => self.ca = Some(value.into()),
            "ca" => return Err(wrong(name, value, "the file of a certificate authority, with rediss: alone")),
            // The value may be a secret in the wrong place.
            _ => return Err(unknown_parameter("the Redis URL", name, OWN.into_iter().chain(CallPolicy::NAMES))),
        }
        Ok(())
    }

    /// The URL without its secrets.
    pub(super) fn location(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let host =
            |(host, port): &(String, u16)| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let hosts: Vec<String> = self.hosts.iter().map(host).collect();
        let (database, cluster) =
            if self.cluster { (String::new(), "&cluster=true") } else { (format!("/{}", self.database), "") };
        format!("{scheme}://{}{database}?prefix={}{cluster}", hosts.join(","), self.prefix)
    }
}

fn shape(what: &str) -> Error {
    Error::invalid(format!("the Redis URL cannot be read: {what}"))
        .with_next("write redis://host:6379/0, or redis://host1:6379,host2:6379?cluster=true")
}

fn wrong(name: &str, value: &str, allowed: &str) -> Error {
    Error::invalid(format!("{name}={value:?} in the Redis URL: expected {allowed}"))
}

fn decoded(what: &str, text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| Error::invalid(format!("the {what} in the Redis URL is not UTF-8")))
}

fn read_login(login: Option<&str>) -> Result<(Option<String>, Option<String>)> {
    let Some(login) = login else { return Ok((None, None)) };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let some = |what, text: &str| decoded(what, text).map(|t| (!t.is_empty()).then_some(t));
    Ok((some("user", user)?, some("password", password)?))
}

fn read_hosts(text: &str) -> Result<Vec<(String, u16)>> {
    let hosts = text.split(',').filter(|h| !h.is_empty()).map(read_host).collect::<Result<Vec<_>>>()?;
    match hosts.len() {
        0 => Err(shape("it names no host")),
        1..=HOSTS => Ok(hosts),
        _ => Err(shape("too many hosts").with_next(format!("name up to {HOSTS}; the others are found through them"))),
    }
}

fn read_host(text: &str) -> Result<(String, u16)> {
    let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => PORT,
        Some(port) => port.parse().ok().filter(|p| *p > 0).ok_or_else(|| shape("a port is no number from 1 to 65535"))?,
    };
    if host.is_empty() { Err(shape("a host without a name")) } else { Ok((decoded("host", host)?, port)) }
}

fn read_database(text: &str) -> Result<i64> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse::<u16>().map(i64::from).map_err(|_| shape("the database is no number"))
}

fn read_prefix(text: &str) -> Result<String> {
    // No braces: they would move the part of the key that says in which slot it is.
    let usable = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
    if (1..=PREFIX_LONGEST).contains(&text.len()) && text.bytes().all(usable) {
        return Ok(text.to_owned());
    }
    Err(wrong("prefix", text, &format!("1 to {PREFIX_LONGEST} letters, digits and . _ - :")))
}

fn read_bool(name: &str, text: &str) -> Result<bool> {
    text.parse().map_err(|_| wrong(name, text, "true or false"))
}

fn read_timeout(name: &str, text: &str) -> Result<Duration> {
    let seconds = text.parse().ok().filter(|s| (1..=TIMEOUT_MOST_S).contains(s));
    seconds.map(Duration::from_secs).ok_or_else(|| wrong(name, text, &format!("seconds from 1 to {TIMEOUT_MOST_S}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_says() {
        let plain = Settings::parse("redis://localhost").unwrap();
        assert_eq!(plain.location(), "redis://localhost:6379/0?prefix=millpond");
        let full =
            Settings::parse("rediss://me:p%40ss@[::1]:7/3?prefix=a:b&timeout=9&connect_timeout=2&eviction=allow&ca=/c.pem")
                .unwrap();
        assert_eq!(full.location(), "rediss://[::1]:7/3?prefix=a:b");
        assert_eq!((full.user.as_deref(), full.password.as_deref()), (Some("me"), Some("p@ss")));
        assert_eq!((full.calls.timeout, full.connect_timeout), (Duration::from_secs(9), Duration::from_secs(2)));
        let typo = Settings::parse("redis://h?timout=3").unwrap_err();
        assert_eq!(typo.next(), Some("did you mean timeout?"));
        assert_eq!((plain.demands, full.demands.eviction_allowed), (Demands::default(), true));
        let weak = Settings::parse("redis://h?appendonly=no").unwrap().demands;
        assert!(weak.no_file_allowed && weak.flush == Flush::No);
        assert_eq!(Settings::parse("redis://h?appendfsync=always").unwrap().demands.flush, Flush::Always);
        assert_eq!(full.ca, Some("/c.pem".into()));
        let cluster = Settings::parse("redis://a:1,b:2?cluster=true").unwrap();
        assert_eq!(cluster.location(), "redis://a:1,b:2?prefix=millpond&cluster=true");
    }

    #[test]
    fn what_is_refused_names_no_secret() {
        for bad in [
            "redis:x",
            "redis://",
            "redis://:s3cret@",
            "redis://h:s3cret",
            "redis://h:0",
            "redis://h/x",
            "redis://a,b",
            "redis://a/1?cluster=true",
            "redis+cluster://a",
            "redis://a?cluster=yes",
            "redis://a?appendonly=yes",
            "redis://a?appendfsync=x",
            "redis://h?prefix=",
            "redis://h?prefix={a}",
            "redis://h?timeout=0",
            "redis://h?eviction=no",
            "redis://h?ca=x",
            "redis://u:s3cret@h?x=s3cret",
        ] {
            let error = Settings::parse(bad).expect_err(bad);
            assert_eq!(error.kind(), millpond_core::ErrorKind::Invalid, "{bad}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
        let kept = Settings::parse("redis://u:s3cret@h").unwrap();
        assert!(!format!("{kept:?} {}", kept.location()).contains("s3cret"));
    }
}
