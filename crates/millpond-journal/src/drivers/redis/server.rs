//! What the server says about itself, and what an acknowledgement therefore means.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millpond_core::{Durability, Error, ErrorKind, Examination, HealthCheck, Result, ServerClock, Timestamp};
use redis::Value;

use super::errors::unreadable;
use super::link::{Link, Sending};
use super::settings::{Demands, Flush};

/// The oldest server whose scripts refuse a replica by themselves.
const OLDEST: (u64, u64) = (7, 0);
/// Settings that decide what an acknowledgement means.
const ASKED: [&str; 5] = ["appendonly", "appendfsync", "maxmemory-policy", "no-appendfsync-on-rewrite", "save"];

/// What is said of a server that does not tell its settings.
const NOT_TOLD: &str = "not known: the server does not tell its settings, so count on nothing that its operator does not promise";

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) durability: Durability,
    pub(super) facts: Vec<(&'static str, String)>,
}

/// What a server answered about itself, not judged yet.
#[derive(Debug)]
pub(super) struct Answers {
    /// The settings of each node; empty where they are not told.
    nodes: Vec<BTreeMap<String, String>>,
    replicas: Option<u64>,
    version: String,
}

/// Asks the server, and refuses one that cannot keep a store.
pub(super) async fn look(link: &Link, cluster: bool, demands: Demands) -> Result<Server> {
    let answers = ask(link, cluster).await?;
    match refusals(&answers.nodes, demands).into_iter().next() {
        Some(refusal) => Err(refusal),
        None => Ok(answers.judge()),
    }
}

/// Asks the server, and refuses one that speaks another language.
pub(super) async fn ask(link: &Link, cluster: bool) -> Result<Answers> {
    let hello = pairs(&link.call(redis::cmd("HELLO"), Sending::Repeatable).await?);
    let said = |name: &str| hello.get(name).map(String::as_str).unwrap_or_default();
    check_version(said("version"))?;
    if said("mode") == "cluster" && !cluster {
        return Err(Error::invalid("the server is one of a Redis cluster").with_next("add cluster=true to the URL"));
    }
    if said("mode") == "standalone" && cluster {
        return Err(Error::invalid("the server is not part of a Redis cluster").with_next("leave cluster=true out of the URL"));
    }
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(&ASKED);
    let nodes = if_allowed(link.ask_masters(command).await)?.iter().map(pairs).collect();
    let mut command = redis::cmd("INFO");
    command.arg("replication");
    let replicas = if_allowed(link.ask_masters(command).await)?.iter().map(replicas).max().flatten();
    Ok(Answers { nodes, replicas, version: said("version").to_owned() })
}

/// The server's clock, or that of one master of a cluster: what `TIME` answers.
pub(super) async fn clock(link: &Link) -> Result<ServerClock> {
    let asked = Instant::now();
    let answer = link.ask_masters(redis::cmd("TIME")).await?.into_iter().next();
    let read = answer.and_then(|answer| redis::from_redis_value::<(i64, i64)>(answer).ok());
    let (seconds, micros) = read.ok_or_else(|| unreadable("its time"))?;
    let shows = Timestamp::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros));
    Ok(ServerClock::answered(shows, Duration::ZERO, asked))
}

impl Answers {
    /// What an acknowledgement is worth. The weakest node decides.
    fn judge(&self) -> Server {
        let weakest = self.nodes.iter().map(meaning).min_by_key(|(durability, _)| *durability);
        let (durability, words) = match (evicting(&self.nodes), weakest) {
            (Some(policy), _) => (
                Durability::Memory,
                format!("in a server that may throw it away when memory is short (maxmemory-policy {policy})"),
            ),
            (None, Some((durability, words))) => (durability, words.to_owned()),
            (None, None) => (Durability::Memory, NOT_TOLD.to_owned()),
        };
        let eviction = match evicting(&self.nodes) {
            _ if self.nodes.is_empty() => "not known".to_owned(),
            policy => policy.unwrap_or("noeviction").to_owned(),
        };
        let facts = vec![
            ("acknowledged", words),
            ("eviction", eviction),
            ("replicas", self.replicas.map_or_else(|| "not known".to_owned(), shown_replicas)),
            ("redis", self.version.clone()),
        ];
        Server { durability, facts }
    }

    /// What doctor says of it: also of what would be refused, because it may have changed since the store was opened.
    pub(super) fn examination(&self, demands: Demands) -> Examination {
        let server = self.judge();
        let fact = |name: &str| {
            server.facts.iter().find(|(known, _)| *known == name).map_or_else(String::new, |(_, value)| value.clone())
        };
        let (file, eviction) = (fact("acknowledged"), fact("eviction"));
        let checks = [
            if server.durability >= Durability::PowerLoss {
                HealthCheck::ok("appendonly", &file)
            } else {
                HealthCheck::warning("appendonly", &file, "set appendonly yes and appendfsync always; see docs/redis.md")
            },
            if eviction == "noeviction" {
                HealthCheck::ok("eviction", eviction)
            } else {
                HealthCheck::warning("eviction", eviction, "set maxmemory-policy noeviction")
            },
        ];
        let refused = refusals(&self.nodes, demands);
        let mut examined = Examination::of(server.durability);
        if server.durability < Durability::PowerLoss {
            examined = examined.saying(format!("{}: {file}", server.durability.sentence()));
        }
        for check in checks {
            let refusal = refused.iter().find(|error| error.check() == Some(check.name));
            examined = examined.with(refusal.map_or(check.clone(), |error| HealthCheck::problem(check.name, error)));
        }
        examined.telling(server.facts)
    }
}

/// Managed servers forbid some questions: then nothing is known.
fn if_allowed(answers: Result<Vec<Value>>) -> Result<Vec<Value>> {
    match answers {
        Err(error) if is_forbidden(&error) => Ok(Vec::new()),
        answers => answers,
    }
}

/// How many replicas a master has, from its text.
fn replicas(info: &Value) -> Option<u64> {
    let text = redis::from_redis_value::<String>(info.clone()).ok()?;
    text.lines().find_map(|line| line.strip_prefix("connected_slaves:")?.trim().parse().ok())
}

/// An answer does not wait for them, so they are not counted as keeping anything.
fn shown_replicas(count: u64) -> String {
    match count {
        0 => "none".to_owned(),
        count => format!("{count}, which an answer does not wait for: a failover can lose the last acknowledged commits"),
    }
}

/// Whether an answer to HELLO is that of a replica.
pub(super) fn is_replica(hello: &Value) -> bool {
    pairs(hello).get("role").is_some_and(|role| role != "master")
}

fn is_forbidden(error: &Error) -> bool {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    error.kind() == ErrorKind::Unsupported || source.contains("unknown command")
}

fn check_version(version: &str) -> Result<()> {
    let mut parts = version.split('.').map(str::parse::<u64>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return Err(unreadable("its version"));
    };
    if (major, minor) >= OLDEST {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, format!("the Redis server has version {version}; a store needs 7.0 or later"))
        .with_next("use a newer server")
        .in_check("version"))
}

/// The policy by which a node throws keys away, if one does.
fn evicting(nodes: &[BTreeMap<String, String>]) -> Option<&str> {
    nodes.iter().filter_map(|node| node.get("maxmemory-policy")).map(String::as_str).find(|policy| *policy != "noeviction")
}

/// Why a server is refused: each reason names its check.
fn refusals(nodes: &[BTreeMap<String, String>], demands: Demands) -> Vec<Error> {
    let mut refusals = Vec::new();
    if let Some(policy) = evicting(nodes)
        && !demands.eviction_allowed
    {
        let refusal = Error::new(
            ErrorKind::Unsupported,
            format!("the Redis server evicts keys when memory is short (maxmemory-policy {policy}), so entries could vanish"),
        )
        .with_next("set maxmemory-policy noeviction, or say eviction=allow in the URL if losing them is acceptable");
        refusals.push(refusal.in_check("eviction"));
    }
    let untold = [BTreeMap::new()];
    let nodes = if nodes.is_empty() && demands.flush > Flush::No { &untold } else { nodes };
    let refused = nodes.iter().find_map(|node| check_file(node, demands).err());
    refusals.extend(refused.map(|refusal| refusal.in_check("appendonly")));
    refusals
}

/// Refuses a node that keeps less than the URL asks for.
fn check_file(node: &BTreeMap<String, String>, demands: Demands) -> Result<()> {
    let said = |name: &str| node.get(name).map(String::as_str);
    if said("appendonly") == Some("no") && !demands.no_file_allowed {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the Redis server keeps nothing on its disk (appendonly no): everything would be gone with its process",
        )
        .with_next("set appendonly yes and appendfsync always, or say appendonly=no in the URL if losing it is acceptable"));
    }
    if demands.flush == Flush::No {
        return Ok(());
    }
    match said("appendfsync").and_then(Flush::read) {
        Some(flush) if flush >= demands.flush => Ok(()),
        Some(flush) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("the Redis server flushes less than the URL asks for: {flush:?} instead of {:?}", demands.flush),
        )
        .with_next("set appendfsync on the server, or ask for less in the URL")),
        None => Err(Error::new(ErrorKind::Unsupported, "the Redis server does not tell its appendfsync, which the URL asks for")
            .with_next("allow the user CONFIG GET, or leave appendfsync out of the URL")),
    }
}

/// What one node's answer survives, and the sentence that says so.
fn meaning(settings: &BTreeMap<String, String>) -> (Durability, &'static str) {
    let said = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    match (said("appendonly"), said("appendfsync"), said("no-appendfsync-on-rewrite")) {
        ("yes", "always", "yes") => (
            Durability::ProcessCrash,
            "flushed to the disk, but not while Redis rewrites its file (no-appendfsync-on-rewrite): then a power cut takes it",
        ),
        ("yes", "always", _) => (Durability::PowerLoss, "flushed to the server's disk (appendfsync always)"),
        ("yes", "everysec", _) => (
            Durability::ProcessCrash,
            "in the server's file, flushed once a second (appendfsync everysec): a power cut takes the last one or two",
        ),
        ("yes", _, _) => (
            Durability::ProcessCrash,
            "in the server's file, flushed when its system likes (appendfsync no): a power cut takes the last half minute",
        ),
        ("no", _, _) if said("save").is_empty() => {
            (Durability::Memory, "in memory alone (appendonly no, save empty): everything is gone with the server's process")
        }
        ("no", _, _) => (
            Durability::Memory,
            "in memory until the next snapshot of the server (appendonly no): what came since is gone with its process",
        ),
        _ => (Durability::Memory, "not known: the server does not tell whether it keeps a file (appendonly)"),
    }
}

/// A map, or a flat list of names and values, as text.
fn pairs(value: &Value) -> BTreeMap<String, String> {
    let text = |v: &Value| redis::from_redis_value::<String>(v.clone()).unwrap_or_default();
    match value {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (text(name), text(value))).collect(),
        Value::Array(list) => list.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn answers(nodes: &[BTreeMap<String, String>]) -> Answers {
        Answers { nodes: nodes.to_vec(), replicas: Some(0), version: "7.2.4".to_owned() }
    }

    fn judge(nodes: &[BTreeMap<String, String>], demands: Demands) -> Result<Server> {
        match refusals(nodes, demands).into_iter().next() {
            Some(refusal) => Err(refusal),
            None => Ok(answers(nodes).judge()),
        }
    }

    #[test]
    fn the_weakest_node_decides() {
        let strong = node(&[("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")]);
        let weak = node(&[("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction")]);
        let durability = |nodes: &[_]| judge(nodes, Demands::default()).unwrap().durability;
        assert_eq!(durability(std::slice::from_ref(&strong)), Durability::PowerLoss);
        assert_eq!(durability(&[strong.clone(), weak.clone()]), Durability::ProcessCrash);
        assert_eq!(durability(&[]), Durability::Memory, "one that does not tell promises nothing");
        let rewriting = node(&[("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "yes")]);
        assert_eq!(durability(&[rewriting]), Durability::ProcessCrash);
    }

    #[test]
    fn one_node_that_evicts_is_refused() {
        let good = node(&[("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")]);
        let bad = node(&[("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "allkeys-lru")]);
        let error = judge(&[good.clone(), bad.clone()], Demands::default()).unwrap_err();
        assert!(error.to_string().contains("allkeys-lru") && error.check() == Some("eviction"), "{error}");
        let allowed = judge(&[good, bad], Demands { eviction_allowed: true, ..Demands::default() }).unwrap();
        assert_eq!(allowed.facts[1].1, "allkeys-lru");
        assert_eq!(allowed.durability, Durability::Memory, "what may be thrown away at any time is not kept");
    }

    #[test]
    fn a_server_that_keeps_less_than_asked_is_refused() {
        let judged = |settings: &[(&str, &str)], demands| judge(&[node(settings)], demands);
        let any = Demands::default();
        let none = [("appendonly", "no"), ("appendfsync", "everysec")];
        assert!(judged(&none, any).unwrap_err().to_string().contains("keeps nothing"));
        let allowed = Demands { no_file_allowed: true, ..any };
        assert_eq!(judged(&none, allowed).unwrap().durability, Durability::Memory);
        let always = Demands { flush: Flush::Always, ..any };
        assert!(judged(&[("appendonly", "yes"), ("appendfsync", "everysec")], always).is_err());
        assert!(judged(&[("appendonly", "yes"), ("appendfsync", "always")], always).is_ok());
        assert!(judge(&[], always).is_err() && judge(&[], any).is_ok(), "a server that does not tell");
    }

    #[test]
    fn replicas_are_named_and_count_for_nothing() {
        let info = Value::BulkString(b"# Replication\r\nrole:master\r\nconnected_slaves:2\r\n".to_vec());
        assert_eq!(replicas(&info), Some(2));
        assert!(shown_replicas(2).contains("can lose") && shown_replicas(0) == "none");
    }

    #[test]
    fn old_servers_are_refused() {
        assert_eq!(check_version("6.2.14").unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(check_version("7.0.15").is_ok() && check_version("8.2.1").is_ok());
        assert!(check_version("").is_err());
    }

    #[test]
    fn each_check_fires_and_stays_silent() {
        use millpond_core::Finding::{Ok, Problem, Warning};
        let found = |settings: &[(&str, &str)], demands| {
            let nodes = if settings.is_empty() { vec![] } else { vec![node(settings)] };
            let examined = answers(&nodes).examination(demands);
            examined.checks.iter().map(|c| c.finding).collect::<Vec<_>>()
        };
        let settings = |file, flush, policy| [("appendonly", file), ("appendfsync", flush), ("maxmemory-policy", policy)];
        let any = Demands::default();
        assert_eq!(found(&settings("yes", "always", "noeviction"), any), [Ok, Ok]);
        assert_eq!(found(&settings("yes", "everysec", "noeviction"), any), [Warning, Ok]);
        assert_eq!(found(&settings("no", "always", "noeviction"), any), [Problem, Ok]);
        assert_eq!(found(&settings("no", "always", "noeviction"), Demands { no_file_allowed: true, ..any }), [Warning, Ok]);
        assert_eq!(found(&settings("yes", "everysec", "noeviction"), Demands { flush: Flush::Always, ..any }), [Problem, Ok]);
        assert_eq!(found(&settings("yes", "always", "allkeys-lru"), any), [Warning, Problem]);
        assert_eq!(
            found(&settings("yes", "always", "volatile-ttl"), Demands { eviction_allowed: true, ..any }),
            [Warning, Warning]
        );
        assert_eq!(found(&[], any), [Warning, Warning], "what is not told is not believed");
    }
}
