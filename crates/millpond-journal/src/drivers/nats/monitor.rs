//! What the servers say about themselves on their monitoring port: nothing else tells when they flush.

use std::time::Duration;

use millpond_core::{Durability, Error, Examination, HealthCheck, Result};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::streams::Info;

/// How long one server has to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// The longest answer that is read; the usual one has some kilobytes.
const LONGEST: u64 = 1 << 20;

/// A server, as its `/varz` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Server {
    #[serde(rename = "server_id")]
    pub(super) id: String,
    #[serde(rename = "server_name", default)]
    name: String,
    #[serde(default)]
    jetstream: JetStream,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct JetStream {
    #[serde(default)]
    config: Config,
    /// Only in a cluster.
    meta: Option<Meta>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
    /// In nanoseconds.
    #[serde(default)]
    sync_interval: u64,
    #[serde(default)]
    store_dir: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Meta {
    #[serde(default)]
    cluster_size: usize,
}

/// Asks each monitoring port.
pub(super) async fn ask(addresses: Vec<String>) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for address in &addresses {
        let answer =
            tokio::time::timeout(ANSWER, varz(address)).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let body = answer.map_err(|e| unreadable(address).with_source(e))?;
        servers.push(read(&body).ok_or_else(|| unreadable(address))?);
    }
    Ok(servers)
}

fn unreadable(address: &str) -> Error {
    Error::unavailable(format!("no NATS server's monitoring answers at {address}"))
        .with_next("set http_port in the server's configuration, or leave monitor= out")
}

async fn varz(address: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // The older protocol: the answer comes in one piece and ends with the connection.
    stream.write_all(format!("GET /varz HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn read(answer: &[u8]) -> Option<Server> {
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let (head, body) = answer.split_at(at);
    let status = head.split(|b| *b == b' ').nth(1)?;
    if status != b"200" {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// What was seen of the servers and of the streams, just now.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) servers: &'a [Server],
    /// Why the monitoring could not be asked.
    pub(super) silent: Option<Error>,
    /// The id of the server that answers us.
    pub(super) connected: &'a str,
    pub(super) streams: &'a [Info],
}

impl Seen<'_> {
    /// What doctor says of it.
    pub(super) fn examination(&self) -> Examination {
        // The stream with the fewest copies is the first to go.
        let copies = self.streams.iter().map(Info::replicas).min().unwrap_or(1);
        let in_memory: Vec<&str> = self.streams.iter().filter(|stream| stream.storage() != "file").map(Info::name).collect();
        let (judged, mut facts) = judge(self.servers, self.connected, copies);
        let durability = if in_memory.is_empty() { judged } else { Durability::Memory };
        let words = facts.iter().map(|(_, words)| words.as_str()).collect::<Vec<_>>().join("; ");
        let next = "set sync_interval: always in the servers' jetstream block, and name every server with monitor=HOST:PORT";
        let flushes = match &self.silent {
            Some(error) => HealthCheck::problem("sync_interval", error),
            None if judged >= Durability::PowerLoss => HealthCheck::ok("sync_interval", words),
            None => HealthCheck::warning("sync_interval", words, next),
        };
        facts.push(("replicas", copies.to_string()));
        Examination::of(durability)
            .with(flushes)
            .with(self.replicas(copies))
            .with(storage(&in_memory))
            .with(self.store_dir())
            .telling(facts)
    }

    fn replicas(&self, copies: u64) -> HealthCheck {
        const NAME: &str = "replicas";
        let words = format!("{copies} of each stream");
        let behind: Vec<String> =
            self.streams.iter().filter(|s| s.behind() > 0).map(|s| format!("{} of {}", s.behind(), s.name())).collect();
        if !behind.is_empty() {
            let found = format!("{words}, but copies are behind or gone: {}", behind.join(", "));
            return HealthCheck::warning(NAME, found, "see which servers are down; a commit needs a majority of the copies");
        }
        let clustered = self.servers.iter().any(|s| s.jetstream.meta.as_ref().is_some_and(|meta| meta.cluster_size > 1));
        if clustered && copies < 3 {
            return HealthCheck::warning(NAME, words, "this is a cluster: make the store with replicas=3");
        }
        HealthCheck::ok(NAME, words)
    }

    /// Whether a server keeps its data where the system may delete it.
    fn store_dir(&self) -> HealthCheck {
        const NAME: &str = "store_dir";
        let lost = self.servers.iter().find(|server| is_temporary(&server.jetstream.config.store_dir));
        match lost {
            Some(server) => HealthCheck::warning(
                NAME,
                format!("{} keeps its data in {:?}: no store_dir is set", server.name, server.jetstream.config.store_dir),
                "set store_dir in the server's jetstream block: the system may delete temporary files",
            ),
            None if self.servers.is_empty() => HealthCheck::ok(NAME, "not seen, because no monitoring is named"),
            None => HealthCheck::ok(NAME, "each server has one of its own"),
        }
    }
}

/// Whether that is where a server keeps its data when nothing is said: `nats/jetstream` in the folder for temporary files.
fn is_temporary(folder: &str) -> bool {
    let temporary = ["/tmp/", "/var/tmp/", "/var/folders/", "/private/var/folders/"];
    folder.is_empty() || (folder.ends_with("/nats/jetstream") && temporary.iter().any(|parent| folder.starts_with(parent)))
}

fn storage(in_memory: &[&str]) -> HealthCheck {
    const NAME: &str = "storage";
    if in_memory.is_empty() {
        return HealthCheck::ok(NAME, "every stream is in files");
    }
    let found = format!("in memory, gone with their servers: {}", in_memory.join(", "));
    HealthCheck::problem(NAME, &Error::unavailable(found).with_next("make the store anew, with streams in files"))
}

/// What an acknowledgement survives, and the facts that say so. `connected` is the id of the server that answers us,
/// `copies` those of each stream.
pub(super) fn judge(servers: &[Server], connected: &str, copies: u64) -> (Durability, Vec<(&'static str, String)>) {
    let mut facts = Vec::new();
    for server in servers {
        facts.push((
            "flushed",
            format!("{}: {}, in {}", server.name, server.jetstream.config.words(), server.jetstream.config.store_dir),
        ));
    }
    if servers.is_empty() {
        let words = "cannot be seen: name the servers' monitoring with monitor=HOST:PORT; it is every two minutes unless \
                     sync_interval says otherwise";
        facts.push(("flushed", words.to_owned()));
        return (Durability::ProcessCrash, facts);
    }
    let mut ids: Vec<&str> = servers.iter().map(|server| server.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let needed = servers.iter().filter_map(|s| Some(s.jetstream.meta.as_ref()?.cluster_size)).max().unwrap_or(1);
    if ids.len() < needed || !ids.contains(&connected) {
        let words = format!("monitor= names {} of {needed} servers that may keep a stream; name them all", ids.len());
        facts.push(("monitoring", words));
        return (Durability::ProcessCrash, facts);
    }
    let all = servers.iter().all(|server| server.jetstream.config.sync_always);
    let durability = match (all, copies) {
        // A machine that forgets what it had acknowledged can take the others with it: copies alone are not enough.
        (false, _) => Durability::ProcessCrash,
        (true, 3..) => Durability::Replicated,
        (true, _) => Durability::PowerLoss,
    };
    (durability, facts)
}

impl Config {
    fn words(&self) -> String {
        if self.sync_always {
            return "before each acknowledgement".to_owned();
        }
        format!("every {:?}, after the acknowledgement", Duration::from_nanos(self.sync_interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: &str, always: bool, cluster: usize) -> Server {
        let meta = (cluster > 1).then_some(Meta { cluster_size: cluster });
        let config = Config { sync_always: always, sync_interval: 120_000_000_000, store_dir: "/d".into() };
        Server { id: id.into(), name: format!("name-{id}"), jetstream: JetStream { config, meta } }
    }

    #[test]
    fn only_what_is_seen_on_every_server_counts() {
        let class = |servers: &[Server], copies| judge(servers, "a", copies).0;
        assert_eq!(class(&[], 3), Durability::ProcessCrash);
        assert_eq!(class(&[server("a", true, 1)], 1), Durability::PowerLoss);
        assert_eq!(class(&[server("a", false, 1)], 1), Durability::ProcessCrash);
        assert_eq!(class(&[server("b", true, 1)], 1), Durability::ProcessCrash, "another server's monitoring");
        let three = |last| [server("a", true, 3), server("b", true, 3), server("c", last, 3)];
        assert_eq!(class(&three(true), 3), Durability::Replicated);
        assert_eq!(class(&three(true), 1), Durability::PowerLoss);
        assert_eq!(class(&three(false), 3), Durability::ProcessCrash);
        assert_eq!(class(&three(true)[..2], 3), Durability::ProcessCrash, "one was not asked");
        let same = [server("a", true, 3), server("a", true, 3), server("a", true, 3)];
        assert_eq!(class(&same, 3), Durability::ProcessCrash, "one was asked three times");
    }

    fn stream(copies: u64, storage: &str, current: bool) -> Info {
        let config = serde_json::json!({"name": "s", "num_replicas": copies, "storage": storage});
        let copy = serde_json::json!({"current": current, "offline": !current});
        serde_json::from_value(serde_json::json!({"config": config, "cluster": {"replicas": [copy]}})).unwrap()
    }

    #[test]
    fn each_check_fires_and_stays_silent() {
        let fired = |servers: &[Server], streams: &[Info]| {
            let examined = Seen { servers, silent: None, connected: "a", streams }.examination();
            let found = examined.checks.into_iter().filter(|check| check.finding != millpond_core::Finding::Ok);
            (found.map(|check| check.name).collect::<Vec<_>>(), examined.durability)
        };
        let (one, file) = ([server("a", true, 1)], [stream(1, "file", true)]);
        assert_eq!(fired(&one, &file), (vec![], Durability::PowerLoss));
        assert_eq!(fired(&[server("a", false, 1)], &file), (vec!["sync_interval"], Durability::ProcessCrash));
        assert_eq!(fired(&[], &file), (vec!["sync_interval"], Durability::ProcessCrash), "what is not seen is not believed");
        let memory = [stream(1, "file", true), stream(1, "memory", true)];
        assert_eq!(fired(&one, &memory), (vec!["storage"], Durability::Memory));
        let three = [server("a", true, 3), server("b", true, 3), server("c", true, 3)];
        assert_eq!(fired(&three, &file), (vec!["replicas"], Durability::PowerLoss));
        let replicated = [stream(3, "file", true), stream(3, "file", true)];
        assert_eq!(fired(&three, &replicated), (vec![], Durability::Replicated));
        let fewer = [stream(3, "file", true), stream(1, "file", true)];
        assert_eq!(fired(&three, &fewer), (vec!["replicas"], Durability::PowerLoss), "one stream was changed");
        assert_eq!(fired(&three, &[stream(3, "file", false)]).0, ["replicas"], "a copy is gone");
        let mut lost = server("a", true, 1);
        lost.jetstream.config.store_dir = "/tmp/nats/jetstream".into();
        assert_eq!(fired(&[lost], &file).0, ["store_dir"]);
        assert!(is_temporary("") && !is_temporary("/data/nats/jetstream") && !is_temporary("/tmp/x/data/jetstream"));
    }

    #[test]
    fn a_monitoring_that_does_not_answer_is_told_and_promises_nothing() {
        let seen = Seen { servers: &[], silent: Some(unreadable("h:1")), connected: "a", streams: &[stream(1, "file", true)] };
        let examined = seen.examination();
        assert_eq!((examined.checks[0].name, examined.checks[0].finding), ("sync_interval", millpond_core::Finding::Problem));
        assert_eq!(examined.durability, Durability::ProcessCrash);
    }

    #[test]
    fn answers_that_are_none() {
        let good = b"HTTP/1.0 200 OK\r\nX: y\r\n\r\n{\"server_id\":\"a\",\"jetstream\":{\"config\":{\"sync_always\":true}}}";
        assert!(read(good).unwrap().jetstream.config.sync_always);
        assert!(!read(b"HTTP/1.0 200 OK\r\n\r\n{\"server_id\":\"a\"}").unwrap().jetstream.config.sync_always);
        for bad in [&b""[..], b"HTTP/1.0 404 Not Found\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n<html>"] {
            assert_eq!(read(bad), None);
        }
    }
}
