//! What the server says about itself, and what an acknowledgement therefore means.

use std::collections::BTreeMap;

use millpond_core::{Durability, Error, ErrorKind, Result};
use redis::Value;

use super::errors::unreadable;
use super::link::{Link, Sending};

/// The oldest server whose scripts refuse a replica by themselves.
const OLDEST: (u64, u64) = (7, 0);
/// Settings that decide what an acknowledgement means.
const ASKED: [&str; 5] = ["appendonly", "appendfsync", "maxmemory-policy", "no-appendfsync-on-rewrite", "save"];

/// What was found out while opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) durability: Durability,
    pub(super) facts: Vec<(&'static str, String)>,
}

/// Asks the server, and refuses one that cannot keep a store.
pub(super) async fn look(link: &Link, cluster: bool, eviction_allowed: bool) -> Result<Server> {
    let hello = pairs(&link.call(redis::cmd("HELLO"), Sending::Repeatable).await?);
    let said = |name: &str| hello.get(name).map(String::as_str).unwrap_or_default();
    check_version(said("version"))?;
    if said("mode") == "cluster" && !cluster {
        return Err(Error::invalid("the server is one of a Redis cluster").with_next("write redis+cluster:// in the URL"));
    }
    if said("mode") == "standalone" && cluster {
        return Err(Error::invalid("the server is not part of a Redis cluster").with_next("write redis:// in the URL"));
    }
    let mut command = redis::cmd("CONFIG");
    command.arg("GET");
    for name in ASKED {
        command.arg(name);
    }
    let nodes = match link.ask_masters(command).await {
        Ok(answers) => answers.iter().map(pairs).collect(),
        // Managed servers forbid it.
        Err(error) if is_forbidden(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    judge(&nodes, eviction_allowed, said("version"))
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
        .with_next("use a newer server"))
}

/// The weakest node decides.
fn judge(nodes: &[BTreeMap<String, String>], eviction_allowed: bool, version: &str) -> Result<Server> {
    let policy = nodes.iter().filter_map(|n| n.get("maxmemory-policy")).find(|p| *p != "noeviction");
    if let Some(policy) = policy
        && !eviction_allowed
    {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("the Redis server evicts keys when memory is short (maxmemory-policy {policy}), so entries could vanish"),
        )
        .with_next("set maxmemory-policy noeviction, or say eviction=allow in the URL if losing them is acceptable"));
    }
    let weakest = nodes.iter().map(meaning).min_by_key(|(durability, _)| *durability);
    let (durability, words) = weakest.unwrap_or((
        Durability::Memory,
        "not known: the server does not tell its settings, so count on nothing that its operator does not promise",
    ));
    let policy = match (nodes.is_empty(), policy) {
        (true, _) => "not known".to_owned(),
        (false, policy) => policy.map_or_else(|| "noeviction".to_owned(), Clone::clone),
    };
    Ok(Server {
        durability,
        facts: vec![("acknowledged", words.to_owned()), ("eviction", policy), ("version", version.to_owned())],
    })
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

    #[test]
    fn the_weakest_node_decides() {
        let strong = node(&[("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")]);
        let weak = node(&[("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction")]);
        let durability = |nodes: &[_]| judge(nodes, false, "7.0.0").unwrap().durability;
        assert_eq!(durability(&[strong.clone()]), Durability::PowerLoss);
        assert_eq!(durability(&[strong.clone(), weak.clone()]), Durability::ProcessCrash);
        assert_eq!(durability(&[]), Durability::Memory, "one that does not tell promises nothing");
        let rewriting = node(&[("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "yes")]);
        assert_eq!(durability(&[rewriting]), Durability::ProcessCrash);
    }

    #[test]
    fn one_node_that_evicts_is_refused() {
        let (good, bad) = (node(&[("maxmemory-policy", "noeviction")]), node(&[("maxmemory-policy", "allkeys-lru")]));
        let error = judge(&[good.clone(), bad.clone()], false, "7.0.0").unwrap_err();
        assert!(error.to_string().contains("allkeys-lru"), "{error}");
        assert_eq!(judge(&[good, bad], true, "7.0.0").unwrap().facts[1].1, "allkeys-lru");
    }

    #[test]
    fn old_servers_are_refused() {
        assert_eq!(check_version("6.2.14").unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(check_version("7.0.15").is_ok() && check_version("8.2.1").is_ok());
        assert!(check_version("").is_err());
    }
}
