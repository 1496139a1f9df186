//! What the servers say about themselves on their monitoring port: nothing else tells when they flush.

use std::time::Duration;

use millpond_core::{Durability, Error, Examination, HealthCheck, Result};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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

/// What doctor says of the servers.
pub(super) fn examination(servers: &[Server], connected: &str, copies: u64) -> Examination {
    let (durability, facts) = judge(servers, connected, copies);
    let words = facts.into_iter().map(|(_, words)| words).collect::<Vec<_>>().join("; ");
    let flushes = if durability >= Durability::PowerLoss {
        HealthCheck::ok("sync_interval", words)
    } else {
        let next = "set sync_interval: always in the servers' jetstream block, and name every server with monitor=HOST:PORT";
        HealthCheck::warning("sync_interval", words, next)
    };
    let clustered = servers.iter().any(|s| s.jetstream.meta.as_ref().is_some_and(|meta| meta.cluster_size > 1));
    let words = format!("{copies} of each stream");
    let replicas = if clustered && copies < 3 {
        HealthCheck::warning("replicas", words, "this is a cluster: make the store with replicas=3")
    } else {
        HealthCheck::ok("replicas", words)
    };
    Examination::of(durability).with(flushes).with(replicas)
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

    #[test]
    fn each_check_fires_and_stays_silent() {
        use millpond_core::Finding::{Ok, Warning};
        let found = |servers: &[Server], copies| {
            examination(servers, "a", copies).checks.iter().map(|check| (check.name, check.finding)).collect::<Vec<_>>()
        };
        assert_eq!(found(&[server("a", true, 1)], 1), [("sync_interval", Ok), ("replicas", Ok)]);
        assert_eq!(found(&[server("a", false, 1)], 1), [("sync_interval", Warning), ("replicas", Ok)]);
        assert_eq!(found(&[], 1), [("sync_interval", Warning), ("replicas", Ok)], "what is not seen is not believed");
        let three = [server("a", true, 3), server("b", true, 3), server("c", true, 3)];
        assert_eq!(found(&three, 1), [("sync_interval", Ok), ("replicas", Warning)]);
        assert_eq!(found(&three, 3), [("sync_interval", Ok), ("replicas", Ok)]);
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
