//! The URL of a place: `nats://[user:password@|token@]host[:port][,host[:port]…]/?prefix=…&replicas=…`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millpond_core::{CallPolicy, Error, Host, Result, SystemHost, unknown_parameter};
use percent_encoding::percent_decode_str;

/// The prefix of streams and subjects if none is named.
const PREFIX: &str = "millpond";
/// The longest prefix: stream names have at most 255 bytes.
const PREFIX_BYTES: usize = 64;
/// How the servers are asked, if the URL does not say. Electing a leader takes 4 to 9 seconds.
pub(super) const CALLS: CallPolicy = CallPolicy::within(Duration::from_secs(15));
/// Parameters of our own.
const OWN: [&str; 7] = ["ca", "cache", "creds", "monitor", "prefix", "replicas", "tls"];

/// How to open a place on NATS servers.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `host:port` of each server that is tried; the others of a cluster are learned from them.
    pub servers: Vec<String>,
    /// Who connects.
    pub login: Login,
    /// What the names of streams and subjects begin with: several stores can be on one server.
    pub prefix: String,
    /// Copies of each stream: 1, 3 or 5. `None`: as the store has them, and one for a new store.
    pub replicas: Option<u8>,
    /// Whether a store that does not exist is made.
    pub create: bool,
    /// Whether a server without TLS is refused.
    pub tls: bool,
    /// A file with the certificates of further authorities that are trusted.
    pub authorities: Option<PathBuf>,
    /// `host:port` of the servers' monitoring, where they say when they flush. The only way to see it.
    pub monitors: Vec<String>,
    /// How long and how often the servers are asked before an error is answered.
    pub calls: CallPolicy,
    /// Randomness, for pauses. The clock is the servers'.
    pub host: Arc<dyn Host>,
}

/// Who connects. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Nobody in particular.
    Anonymous,
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// A credentials file, as `nsc` writes it.
    File(PathBuf),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
            Self::File(_) => "File",
        })
    }
}

/// What the parameters may be.
const TAKES: &str = "nats: takes prefix=NAME, replicas=1|3|5, tls=require, ca=FILE, creds=FILE, \
    monitor=HOST:PORT[,HOST:PORT…]";

impl NatsOptions {
    /// Reads a URL whose scheme is `nats` or `tls`.
    ///
    /// # Errors
    /// `Invalid`, without the URL's secrets, for what cannot be read and for an unknown parameter.
    pub fn parse(url: &str) -> Result<Self> {
        let (url, calls) = CallPolicy::of_url(url, CALLS)?;
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("the URL of a NATS store begins with nats://"))?;
        if !matches!(scheme, "nats" | "tls") {
            return Err(invalid("the URL of a NATS store begins with nats:// or tls://"));
        }
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() {
            return Err(invalid("the URL of a NATS store has no path").with_next("name the store with ?prefix=NAME"));
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (read_login(login)?, hosts),
            None => (Login::Anonymous, authority),
        };
        let servers: Vec<String> = hosts.split(',').map(|host| read_server(host, "4222")).collect::<Result<_>>()?;
        let mut options = Self {
            servers,
            login,
            prefix: PREFIX.to_owned(),
            replicas: None,
            create: true,
            tls: scheme == "tls",
            authorities: None,
            monitors: Vec::new(),
            calls,
            host: Arc::new(SystemHost),
        };
        for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
            options.take(parameter)?;
        }
        Ok(options)
    }

    fn take(&mut self, parameter: &str) -> Result<()> {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = decode(value)?;
        match (name, value.as_str()) {
            ("prefix", value) => self.prefix = read_prefix(value)?,
            ("replicas", "1") => self.replicas = Some(1),
            ("replicas", "3") => self.replicas = Some(3),
            ("replicas", "5") => self.replicas = Some(5),
            ("tls", "require") => self.tls = true,
            ("monitor", servers) if !servers.is_empty() => {
                self.monitors = servers.split(',').map(|server| read_server(server, "8222")).collect::<Result<_>>()?;
            }
            ("ca", file) if !file.is_empty() => self.authorities = Some(file.into()),
            ("creds", file) if !file.is_empty() && self.login == Login::Anonymous => self.login = Login::File(file.into()),
            ("creds", file) if !file.is_empty() => {
                return Err(invalid("the URL names a user or token and creds=FILE").with_next("give one of them"));
            }
            ("replicas" | "tls" | "monitor" | "ca" | "creds", _) => {
                return Err(invalid(&format!("the parameter {name:?} has a value it does not take")).with_next(TAKES));
            }
            // Its value may be a secret under a wrong name.
            _ => return Err(unknown_parameter("the NATS URL", name, OWN.into_iter().chain(CallPolicy::NAMES))),
        }
        Ok(())
    }

    /// Where it is, without secrets.
    pub(super) fn location(&self) -> String {
        format!("nats://{}/?prefix={}", self.servers.join(","), self.prefix)
    }
}

fn invalid(what: &str) -> Error {
    Error::invalid(what)
}

fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(|t| t.into_owned()).map_err(|_| invalid("a part of the URL is not UTF-8 when it is decoded"))
}

fn read_login(text: &str) -> Result<Login> {
    Ok(match text.split_once(':') {
        Some((user, password)) => Login::Password { user: decode(user)?, password: decode(password)? },
        None => Login::Token(decode(text)?),
    })
}

fn read_server(text: &str, usual_port: &str) -> Result<String> {
    let (host, port) = match text.rsplit_once(':') {
        // A colon inside brackets is part of an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, usual_port),
    };
    if host.is_empty() || port.parse::<u16>().is_err() || host.contains(['@', ' ', '/']) {
        return Err(invalid("the URL of a NATS store names a server that is not HOST or HOST:PORT")
            .with_next("write nats://HOST:PORT or nats://HOST:PORT,HOST:PORT"));
    }
    Ok(format!("{host}:{port}"))
}

fn read_prefix(text: &str) -> Result<String> {
    let ok = (1..=PREFIX_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if ok {
        return Ok(text.to_owned());
    }
    Err(invalid(&format!("the prefix {text:?} is not 1–{PREFIX_BYTES} letters, digits and '-'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_hide_their_secrets() {
        let plain = NatsOptions::parse("nats://a").unwrap();
        assert_eq!((plain.servers, plain.prefix.as_str(), plain.replicas), (vec!["a:4222".to_owned()], "millpond", None));
        let full = "tls://u%40x:s3cret@a:1,[::1]:2/?prefix=p&replicas=3&ca=/c&monitor=a,b:1&timeout=7";
        let full = NatsOptions::parse(full).unwrap();
        assert_eq!(full.login, Login::Password { user: "u@x".into(), password: "s3cret".into() });
        assert_eq!((full.replicas, full.tls, full.calls.timeout), (Some(3), true, Duration::from_secs(7)));
        assert_eq!(full.monitors, ["a:8222", "b:1"]);
        assert_eq!(full.location(), "nats://a:1,[::1]:2/?prefix=p");
        assert!(!format!("{full:?}").contains("s3cret"));
        let typo = NatsOptions::parse("nats://a/?timout=3").unwrap_err();
        assert_eq!(typo.next(), Some("did you mean timeout?"));
        assert_eq!(NatsOptions::parse("nats://t0ken@a").unwrap().login, Login::Token("t0ken".into()));
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_its_secrets() {
        let bad = [
            "nats://s3cret@",
            "nats://s3cret@a:x",
            "nats://s3cret@a/path",
            "nats://s3cret@a/?x=s3cret",
            "nats://s3cret@a/?replicas=2",
            "nats://s3cret@a/?creds=/x",
            "nats://a/?prefix=",
            "nats://a/?prefix=a.b",
            "nats://a/?prefix=a_b",
            "nats://a/?timeout=0",
            "nats://a/?timeout=s3cret",
            "nats://a/?monitor=s3cret:x",
            "http://s3cret@a",
            "nats:s3cret",
        ];
        for url in bad {
            let error = NatsOptions::parse(url).unwrap_err();
            assert_eq!(error.kind(), millpond_core::ErrorKind::Invalid, "{url}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{url}: {error}");
        }
    }
}
