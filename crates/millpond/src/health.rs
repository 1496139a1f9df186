//! How a store is: can it be reached, may it be written, how long that takes, and what an acknowledgement survives.
//!
//! Nothing here knows an engine. Engines say what they are in [`millpond_core::EngineInfo`]; the rest is tried out.

use std::path::Path;
use std::time::Duration;

use millpond_core::{Durability, Error, NamespaceStatus, Timestamp};
use serde::Serialize;

use crate::{Attempt, LockRequest, Pond};

/// The lease that the write check takes and gives back.
const PROBE: &str = "millpond/health";
/// How long the probe is held should this process die with it.
const PROBE_TTL: Duration = Duration::from_secs(5);
/// How often reading is tried; the median counts.
const READS: usize = 5;
/// Reading slower than this is worth a word.
const SLOW_READ: Duration = Duration::from_millis(50);
/// Writing slower than this is worth a word.
const SLOW_WRITE: Duration = Duration::from_millis(500);
/// Clocks further apart than this make leases end early or late.
const SKEW: Duration = Duration::from_secs(2);
/// Less free space than this is worth a word.
const FREE_BYTES: u64 = 1 << 30;

/// What a health check looks at, and what it asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct HealthRequest {
    read_only: bool,
    require: Option<Durability>,
}

impl HealthRequest {
    /// Everything, and no durability in particular.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes nothing, so it does not learn whether the store may be written.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// What an acknowledged commit has to survive at least.
    #[must_use]
    pub fn require(mut self, durability: Durability) -> Self {
        self.require = Some(durability);
        self
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// As it should be.
    Ok,
    /// It works, but somebody should look.
    Warning,
    /// It does not work, or not as asked for.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// What: `namespace`, `read`, `write`, `clock`, `space`, `durability`, `tree`.
    pub name: &'static str,
    /// How it is.
    pub finding: Finding,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The engine's kind, such as `sqlite`.
    pub engine: &'static str,
    /// Where it keeps its data, without secrets.
    pub location: String,
    /// What an acknowledged commit survives, as the live settings say.
    pub survives: Durability,
    /// What may be lost, in one plain sentence.
    pub sentence: &'static str,
    /// Versions and settings.
    pub facts: Vec<(&'static str, String)>,
    /// What was looked at.
    pub checks: Vec<HealthCheck>,
}

impl Health {
    /// The worst of the findings.
    pub fn worst(&self) -> Finding {
        self.checks.iter().map(|check| check.finding).max().unwrap_or(Finding::Ok)
    }
}

fn ok(name: &'static str, found: impl Into<String>) -> HealthCheck {
    HealthCheck { name, finding: Finding::Ok, found: found.into(), next: None }
}

fn warning(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> HealthCheck {
    HealthCheck { name, finding: Finding::Warning, found: found.into(), next: Some(next.into()) }
}

fn problem(name: &'static str, error: &Error) -> HealthCheck {
    HealthCheck { name, finding: Finding::Problem, found: error.message().to_owned(), next: error.next().map(str::to_owned) }
}

/// Looks at everything; what fails is a finding, so this does not fail.
pub(crate) async fn health(pond: &Pond, request: HealthRequest) -> Health {
    let info = pond.store().engine().info();
    let mut checks = vec![namespace(pond).await, read(pond).await];
    if !request.read_only {
        let (write, written_at) = write(pond).await;
        checks.push(write);
        checks.extend(written_at.map(|(store, host)| clock(store, host)));
    }
    checks.extend(space(Path::new(&info.location)));
    checks.push(durability(info.durability, request.require));
    #[cfg(feature = "file")]
    checks.extend(tree(pond).await);
    Health {
        engine: info.kind,
        location: info.location,
        survives: info.durability,
        sentence: info.durability.sentence(),
        facts: info.facts,
        checks,
    }
}

/// How far the readable tree has come, and whether somebody edited it.
#[cfg(feature = "file")]
async fn tree(pond: &Pond) -> Option<HealthCheck> {
    let tree = pond.tree()?;
    let (status, edited) = match (tree.status().await, tree.edited().await) {
        (Ok(status), Ok(edited)) => (status, edited.unwrap_or_default().len()),
        (Err(error), _) | (_, Err(error)) => return Some(problem("tree", &error)),
    };
    Some(tree_of(&status, edited))
}

#[cfg(feature = "file")]
fn tree_of(status: &crate::TreeStatus, edited: usize) -> HealthCheck {
    if let Some(error) = &status.error {
        return warning("tree", format!("the readable tree could not be written: {error}"), "look at the disk and the folder");
    }
    let found = format!("{} files, {} changes behind", status.files, status.behind);
    match edited {
        0 => ok("tree", found),
        edited => warning("tree", format!("{found}; {edited} edited by hand"), "take them over: millpond adopt"),
    }
}

async fn namespace(pond: &Pond) -> HealthCheck {
    match pond.store().info().await {
        Ok(info) => match info.status {
            NamespaceStatus::Open => ok("namespace", format!("{} is open, at position {}", info.name, info.position)),
            NamespaceStatus::Frozen => warning(
                "namespace",
                format!("{} is frozen: it takes no commits", info.name),
                "open it again: millpond namespaces open",
            ),
            NamespaceStatus::MovedTo(place) => {
                warning("namespace", format!("{} has moved to {place}", info.name), "use it there")
            }
        },
        Err(error) => problem("namespace", &error),
    }
}

async fn read(pond: &Pond) -> HealthCheck {
    let host = pond.store().host();
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let begin = host.now();
        if let Err(error) = pond.store().info().await {
            return problem("read", &error);
        }
        times.push(between(begin, host.now()));
    }
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let found = format!("a read takes {median:.1?}");
    if median > SLOW_READ { warning("read", found, "look at the network and the server's load") } else { ok("read", found) }
}

/// Takes and gives back a lease of its own: two durable commits. Also the store's and the host's time of the first.
async fn write(pond: &Pond) -> (HealthCheck, Option<(Timestamp, Timestamp)>) {
    let host = pond.store().host();
    let request = LockRequest::of(PROBE, PROBE_TTL).purpose("a health check tries whether the store may be written");
    let begin = host.now();
    let (taken, end) = (pond.locks().try_acquire(&request).await, host.now());
    let took = between(begin, end);
    let lease = match taken {
        Ok(Attempt::Acquired(lease)) => lease,
        Ok(Attempt::Held(holder)) => {
            let found = format!("not tried: {} checks at this moment", holder.lease.holder.name);
            return (warning("write", found, "check again in a few seconds"), None);
        }
        Err(error) => return (problem("write", &error), None),
    };
    let acquired = lease.deadline.minus(lease.ttl);
    if let Err(error) = pond.locks().release(&lease).await {
        return (problem("write", &error), None);
    }
    let found = format!("a durable commit takes {took:.1?}");
    let check =
        if took > SLOW_WRITE { warning("write", found, "look at the disk and the server's load") } else { ok("write", found) };
    (check, Some((acquired, end)))
}

/// By the wall clock, which may step back; then nothing passed.
fn between(begin: Timestamp, end: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(end.as_micros().saturating_sub(begin.as_micros())).unwrap_or(0))
}

fn clock(store: Timestamp, host: Timestamp) -> HealthCheck {
    let apart = Duration::from_micros(store.as_micros().abs_diff(host.as_micros()));
    let found = format!("the store's clock and this machine's are {apart:.1?} apart");
    if apart > SKEW { warning("clock", found, "set both by the same time server") } else { ok("clock", found) }
}

/// Free space, where the data is on this machine.
#[cfg(unix)]
fn space(location: &Path) -> Option<HealthCheck> {
    let folder = location.ancestors().find(|folder| folder.is_dir())?;
    // What is no path of this machine has only relative parts that do not exist.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if !location.exists() {
        return None;
    }
    let found = rustix::fs::statvfs(folder).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    Some(space_of(free))
}

#[cfg(not(unix))]
fn space(_location: &Path) -> Option<HealthCheck> {
    None
}

fn space_of(free: u64) -> HealthCheck {
    let found = format!("{} MiB are free", free >> 20);
    if free < FREE_BYTES { warning("space", found, "make room before commits fail") } else { ok("space", found) }
}

fn durability(found: Durability, required: Option<Durability>) -> HealthCheck {
    match required {
        Some(required) if found < required => problem("durability", &too_weak(found, required)),
        _ if found < Durability::PowerLoss => warning("durability", found.sentence(), "docs/durability.md says what to set"),
        _ => ok("durability", found.sentence()),
    }
}

/// The error for a store whose acknowledgements are worth less than was asked for.
pub(crate) fn too_weak(found: Durability, required: Durability) -> Error {
    Error::new(
        millpond_core::ErrorKind::Unsupported,
        format!("the store keeps what it acknowledged only as far as {found}; {required} was asked for: {}", found.sentence()),
    )
    .with_next("change the store's settings, or ask for less")
}

impl Pond {
    /// How the store is: can it be reached, may it be written, how long that takes, what an acknowledgement survives.
    ///
    /// What fails is a finding of the answer. Unless the request says otherwise, a lease of its own is taken and given
    /// back: two commits.
    pub async fn health(&self, request: HealthRequest) -> Health {
        health(self, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_fires_and_stays_silent() {
        let at = Timestamp::from_micros;
        assert_eq!(clock(at(0), at(1_999_999)).finding, Finding::Ok);
        assert_eq!(clock(at(3_000_000), at(0)).finding, Finding::Warning);
        assert_eq!(space_of(FREE_BYTES).finding, Finding::Ok);
        assert_eq!(space_of(FREE_BYTES - 1).finding, Finding::Warning);
        #[cfg(feature = "file")]
        {
            let status = |error: Option<&str>| crate::TreeStatus {
                folder: String::new(),
                everything: false,
                files: 2,
                position: None,
                behind: 7,
                error: error.map(str::to_owned),
            };
            assert_eq!(tree_of(&status(None), 0).finding, Finding::Ok);
            assert_eq!(tree_of(&status(None), 1).finding, Finding::Warning);
            assert_eq!(tree_of(&status(Some("disk full")), 0).finding, Finding::Warning);
        }
        assert_eq!(durability(Durability::PowerLoss, None).finding, Finding::Ok);
        assert_eq!(durability(Durability::ProcessCrash, None).finding, Finding::Warning);
        assert_eq!(durability(Durability::PowerLoss, Some(Durability::PowerLoss)).finding, Finding::Ok);
        let weak = durability(Durability::ProcessCrash, Some(Durability::PowerLoss));
        assert_eq!(weak.finding, Finding::Problem);
        assert!(weak.found.contains("power-loss was asked for") && weak.next.is_some(), "{weak:?}");
    }
}
