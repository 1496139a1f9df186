//! Streams: how they are asked for, and whether what came back is what was asked for.
//!
//! A server that does not know a setting ignores it and says yes, and somebody may have made the stream before, or
//! changed it. So the configuration that comes back is compared, each time a stream is opened.

use millpond_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::link::{Link, Refusal, code};
use super::names::Names;

/// The note in a stream's metadata that says what it is. Servers before 2.10 do not keep it.
const NOTE: &str = "millpond";
/// The format of streams that this program writes, with the kind before it.
pub(super) const FORMAT: u64 = 1;
/// How long it is known of a journal that it was removed: longer than any process stays behind that had it open.
const REMOVED_DAYS: u64 = 30;
/// Settings that no stream here may have: they take messages away, bring others in, or acknowledge too early.
const NEVER: [&str; 10] = [
    "sealed",
    "mirror",
    "sources",
    "subject_transform",
    "no_ack",
    "allow_rollup_hdrs",
    "allow_msg_ttl",
    "allow_msg_counter",
    "allow_msg_schedules",
    "allow_batched",
];

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Store,
    Journal,
    Snapshots,
}

impl Kind {
    fn note(self) -> String {
        let kind = match self {
            Self::Store => "store",
            Self::Journal => "journal",
            Self::Snapshots => "snapshots",
        };
        format!("{kind} {FORMAT}")
    }
}

/// A stream as the server describes it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Info {
    pub(super) config: Map<String, Value>,
    #[serde(default)]
    pub(super) state: State,
    /// Who keeps copies. Only in a cluster.
    cluster: Option<Cluster>,
    /// The server's time when it answered.
    #[serde(default)]
    pub(super) ts: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Cluster {
    /// The copies beside the leader's.
    #[serde(default)]
    replicas: Vec<Follower>,
}

#[derive(Debug, Clone, Deserialize)]
struct Follower {
    #[serde(default)]
    current: bool,
    #[serde(default)]
    offline: bool,
}

/// One page of all streams.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(default)]
    total: usize,
    #[serde(default)]
    streams: Option<Vec<Info>>,
}

/// What a stream holds.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct State {
    pub(super) bytes: u64,
    pub(super) last_seq: u64,
}

impl Info {
    /// Copies of the stream.
    pub(super) fn replicas(&self) -> u64 {
        self.config.get("num_replicas").and_then(Value::as_u64).unwrap_or(1)
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        self.config.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Where its messages are: `file` or `memory`.
    pub(super) fn storage(&self) -> &str {
        self.config.get("storage").and_then(Value::as_str).unwrap_or_default()
    }

    /// Copies that do not follow the leader at this moment.
    pub(super) fn behind(&self) -> usize {
        let copies = self.cluster.as_ref().map_or(&[][..], |cluster| &cluster.replicas);
        copies.iter().filter(|copy| copy.offline || !copy.current).count()
    }

    /// The format that its note names; 0 without one.
    pub(super) fn format(&self) -> u64 {
        let note = self.config.get("metadata").and_then(|metadata| metadata.get(NOTE)).and_then(Value::as_str);
        note.and_then(|note| note.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0)
    }
}

/// The configuration of the stream that makes a prefix a store. In it stand the journals that were removed.
pub(super) fn store(name: &str, removed: &str, replicas: u64) -> Value {
    let days = REMOVED_DAYS * 24 * 3_600 * 1_000_000_000;
    with(common(Kind::Store, name, removed, replicas), json!({"max_msgs_per_subject": 1, "max_age": days, "discard": "old"}))
}

/// The configuration of a journal.
pub(super) fn journal(names: &Names, replicas: u64) -> Value {
    let hints = json!({"src": names.subject, "dest": names.hints, "headers_only": true});
    // Nobody takes a single entry out of a history. Purging, which only takes its beginning, is how it is trimmed.
    let own = json!({"deny_delete": true, "allow_direct": false, "republish": hints});
    with(common(Kind::Journal, &names.stream, &names.subject, replicas), own)
}

/// The configuration of a journal's snapshots.
pub(super) fn snapshots(names: &Names, replicas: u64) -> Value {
    common(Kind::Snapshots, &names.snapshots, &format!("{}.>", names.snapshot), replicas)
}

fn common(kind: Kind, name: &str, subject: &str, replicas: u64) -> Value {
    json!({
        "name": name, "subjects": [subject], "storage": "file", "retention": "limits", "discard": "new",
        "num_replicas": replicas, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0,
        "max_msgs_per_subject": -1, "max_msg_size": -1, "metadata": {NOTE: kind.note()},
    })
}

fn with(mut config: Value, more: Value) -> Value {
    if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    config
}

/// Makes a stream, or finds the one that is there, and compares it.
///
/// # Errors
/// `Unsupported` when the server cannot or does not do what is asked for; `Unavailable` when it refuses or is silent.
pub(super) async fn make(link: &Link, asked: &Value) -> Result<Info> {
    let name = asked["name"].as_str().unwrap_or_default();
    match link.api::<Info>(&format!("STREAM.CREATE.{name}"), asked).await? {
        Ok(info) => compare(asked, info),
        Err(refusal) if refusal.err_code == code::STREAM_NAME_IN_USE => match find(link, name).await? {
            Some(info) => compare(asked, info),
            None => Err(Error::unavailable(format!("the stream {name} comes and goes")).with_next("try again")),
        },
        Err(refusal) => Err(refused(&format!("cannot make the stream {name}"), &refusal)),
    }
}

/// What a stream is; `None` when there is none.
pub(super) async fn find(link: &Link, name: &str) -> Result<Option<Info>> {
    match link.api(&format!("STREAM.INFO.{name}"), &json!({})).await? {
        Ok(info) => Ok(Some(info)),
        Err(refusal) if refusal.err_code == code::STREAM_NOT_FOUND => Ok(None),
        Err(refusal) => Err(refused(&format!("cannot look at the stream {name}"), &refusal)),
    }
}

/// Every stream whose messages have subjects of a prefix.
pub(super) async fn list(link: &Link, prefix: &str) -> Result<Vec<Info>> {
    let mut all = Vec::new();
    loop {
        let question = json!({"offset": all.len(), "subject": format!("{prefix}.>")});
        match link.api::<Listed>("STREAM.LIST", &question).await? {
            Ok(page) => {
                let streams = page.streams.unwrap_or_default();
                let last = streams.is_empty();
                all.extend(streams);
                if last || all.len() >= page.total {
                    return Ok(all);
                }
            }
            Err(refusal) => return Err(refused("cannot list the streams", &refusal)),
        }
    }
}

/// Deletes a stream, if it is there.
pub(super) async fn delete(link: &Link, name: &str) -> Result<()> {
    match link.api::<Value>(&format!("STREAM.DELETE.{name}"), &json!({})).await? {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.err_code == code::STREAM_NOT_FOUND => Ok(()),
        Err(refusal) => Err(refused(&format!("cannot delete the stream {name}"), &refusal)),
    }
}

/// Purges messages of a stream, if it is there, as a question says.
pub(super) async fn purge(link: &Link, name: &str, question: &Value) -> Result<()> {
    match link.api::<Value>(&format!("STREAM.PURGE.{name}"), question).await? {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.err_code == code::STREAM_NOT_FOUND => Ok(()),
        Err(refusal) => Err(refused(&format!("cannot purge the stream {name}"), &refusal)),
    }
}

/// The error of a refusal that stays.
pub(super) fn refused(what: &str, refusal: &Refusal) -> Error {
    let (kind, next) = match refusal.err_code {
        code::NOT_CLUSTERED | code::NO_PEERS => (ErrorKind::Unsupported, "ask for fewer replicas, or add servers"),
        _ => (ErrorKind::Unavailable, "see the reason, and the server's log"),
    };
    Error::new(kind, format!("{what}: {} (code {})", refusal.description, refusal.err_code)).with_next(next)
}

/// Compares the configuration that came back with what was asked for.
///
/// # Errors
/// `Unsupported`, naming the settings that differ.
pub(super) fn compare(asked: &Value, found: Info) -> Result<Info> {
    let mut differ: Vec<String> = Vec::new();
    let mut check = "streams";
    for (name, value) in asked.as_object().into_iter().flatten() {
        let has = found.config.get(name).unwrap_or(&Value::Null);
        if !fits(name, value, has) {
            check = match name.as_str() {
                "storage" => "storage",
                "num_replicas" => "replicas",
                "metadata" if found.format() > FORMAT => "schema",
                _ => check,
            };
            differ.push(format!("{name} is {has} and not {value}"));
        }
    }
    for name in NEVER {
        let has = found.config.get(name).unwrap_or(&Value::Null);
        if !is_unset(has) {
            differ.push(format!("{name} is {has}"));
        }
    }
    // Since 2.12 a stream can be told to acknowledge before it writes.
    let persistence = found.config.get("persist_mode").and_then(Value::as_str).unwrap_or_default();
    if !matches!(persistence, "" | "default") {
        differ.push(format!("persist_mode is {persistence:?}"));
    }
    if differ.is_empty() {
        return Ok(found);
    }
    let stream = asked["name"].as_str().unwrap_or_default();
    let what = format!("the stream {stream} is not as a store needs it: {}", differ.join("; "));
    Err(Error::new(ErrorKind::Unsupported, what)
        .with_next("restore its settings, or use a server from 2.10 on and another prefix")
        .in_check(check))
}

fn fits(setting: &str, asked: &Value, found: &Value) -> bool {
    match setting {
        // More copies are welcome.
        "num_replicas" => found.as_u64().unwrap_or(1) >= asked.as_u64().unwrap_or(1),
        // A full stream refuses what is new, so a limit loses nothing. Where it would drop the oldest, see "discard".
        "max_msgs" | "max_bytes" => found.is_number(),
        // The server adds notes of its own.
        "metadata" | "republish" => {
            let all = asked.as_object().into_iter().flatten();
            all.into_iter().all(|(name, value)| found.get(name) == Some(value))
        }
        _ => asked == found || (is_unset(asked) && is_unset(found)),
    }
}

/// Whether a setting has the value that servers leave out.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(n) => matches!(n.as_i64(), Some(0 | -1)),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(config: Value) -> Info {
        serde_json::from_value(json!({"config": config})).unwrap()
    }

    fn asked() -> Value {
        journal(&Names::of("p", "a").unwrap(), 3)
    }

    #[test]
    fn what_was_asked_for_is_fine_with_what_servers_add() {
        let mut found =
            with(asked(), json!({"num_replicas": 5, "duplicate_window": 120, "max_bytes": 1 << 30, "persist_mode": ""}));
        found["metadata"]["_nats.ver"] = json!("2.15.1");
        found.as_object_mut().unwrap().remove("max_msg_size");
        compare(&asked(), info(found)).unwrap();
    }

    #[test]
    fn each_difference_that_can_lose_something_is_named() {
        let different = [
            ("storage", json!("memory")),
            ("discard", json!("old")),
            ("max_age", json!(5)),
            ("max_msgs_per_subject", json!(1)),
            ("num_replicas", json!(1)),
            ("retention", json!("interest")),
            ("allow_direct", json!(true)),
            ("subjects", json!(["p.>"])),
            ("sealed", json!(true)),
            ("mirror", json!({"name": "x"})),
            ("persist_mode", json!("async")),
            // What a server before 2.10 answers: it does not know the setting.
            ("metadata", Value::Null),
        ];
        for (name, value) in different {
            let found = with(asked(), json!({name: value}));
            let error = compare(&asked(), info(found)).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains(name), "{error}");
            let check = match name {
                "storage" => "storage",
                "num_replicas" => "replicas",
                _ => "streams",
            };
            assert_eq!(error.check(), Some(check), "{name}");
        }
    }
}
