//! What is tried out, and when the answer is worth a word.

use std::path::Path;
use std::time::{Duration, Instant};

use millpond_core::{Durability, Error, ErrorKind, HealthCheck, NamespaceInfo, NamespaceStatus, Result, Store, Timestamp};

use crate::{Attempt, LockRequest};

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
/// So is less than one free file in this many.
const FREE_FILES: u64 = 20;

pub(super) fn namespace(found: Result<NamespaceInfo>) -> HealthCheck {
    const NAME: &str = "namespace";
    match found {
        Ok(info) => match info.status {
            NamespaceStatus::Open => HealthCheck::ok(NAME, format!("{} is open, at position {}", info.name, info.position)),
            NamespaceStatus::Frozen => HealthCheck::warning(
                NAME,
                format!("{} is frozen: it takes no commits", info.name),
                "open it again: millpond namespaces open",
            ),
            NamespaceStatus::MovedTo(place) => {
                HealthCheck::warning(NAME, format!("{} has moved to {place}", info.name), "use it there")
            }
        },
        Err(error) => HealthCheck::refused(NAME, &error),
    }
}

/// The first of the two commits that were tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// How long it took.
    pub(super) took: Duration,
    /// The time that the store gave it.
    at: Timestamp,
    /// What the host's clock showed before and after.
    host: (Timestamp, Timestamp),
}

impl Written {
    /// How far the store's clock and the host's are apart at least: the store read its own somewhere in between.
    pub(super) fn apart(&self) -> Duration {
        millpond_core::apart((self.at, self.at), self.host)
    }
}

/// Takes and gives back a lease of its own: two durable commits.
pub(super) async fn write(store: &Store) -> (HealthCheck, Option<Written>) {
    const NAME: &str = "write";
    let host = store.host();
    let request = LockRequest::of(PROBE, PROBE_TTL).purpose("a health check tries whether the store may be written");
    let locks = crate::Locks::new(store.clone());
    let (began, begun) = (host.now(), Instant::now());
    let (taken, took, ended) = (locks.try_acquire(&request).await, begun.elapsed(), host.now());
    let lease = match taken {
        Ok(Attempt::Acquired(lease)) => lease,
        Ok(Attempt::Held(holder)) => {
            let found = format!("not tried: {} checks at this moment", holder.lease.holder.name);
            return (HealthCheck::warning(NAME, found, "check again in a few seconds"), None);
        }
        Err(error) => return (HealthCheck::problem(NAME, &error), None),
    };
    let written = Written { took, at: lease.deadline.minus(lease.ttl), host: (began, ended) };
    match locks.release(&lease).await {
        Ok(_) => (HealthCheck::ok(NAME, "the store takes commits"), Some(written)),
        Err(error) => (HealthCheck::problem(NAME, &error), Some(written)),
    }
}

/// How long reading takes, and the commit that was tried, if one was.
pub(super) async fn latency(store: &Store, write: Option<Duration>) -> HealthCheck {
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let begun = Instant::now();
        if let Err(error) = store.info().await {
            return HealthCheck::problem("latency", &error);
        }
        times.push(begun.elapsed());
    }
    times.sort();
    latency_of(times.get(times.len() / 2).copied().unwrap_or_default(), write)
}

fn latency_of(read: Duration, write: Option<Duration>) -> HealthCheck {
    const NAME: &str = "latency";
    let found = match write {
        Some(write) => format!("a read takes {read:.1?}, a durable commit {write:.1?}"),
        None => format!("a read takes {read:.1?}"),
    };
    let (slow_read, slow_write) = (read > SLOW_READ, write.is_some_and(|write| write > SLOW_WRITE));
    match (slow_read, slow_write) {
        (false, false) => HealthCheck::ok(NAME, found),
        (true, _) => HealthCheck::warning(NAME, found, "look at the network and the server's load"),
        (false, true) => HealthCheck::warning(NAME, found, "look at the disk and the server's load"),
    }
}

/// How far two clocks are apart at least.
pub(super) fn clock(name: &'static str, apart: Duration) -> HealthCheck {
    if apart > SKEW {
        let found = format!("the store's clock and this machine's are at least {apart:.1?} apart");
        HealthCheck::warning(name, found, "set both by the same time server")
    } else {
        HealthCheck::ok(
            name,
            format!("the store's clock and this machine's agree, to within {SKEW:?} and the time it took to ask"),
        )
    }
}

/// Whether the collections of every domain are declared, as the first program that opens the store does it.
pub(super) async fn collections(store: &Store) -> HealthCheck {
    const NAME: &str = "collections";
    let asked = async {
        let declared = store.engine().catalog(store.namespace()).await?;
        let wanted = crate::pond::collections()?;
        Ok::<_, Error>(wanted.iter().filter(|spec| declared.get(spec.name.as_str()).is_none()).count())
    };
    match asked.await {
        Ok(0) => HealthCheck::ok(NAME, "those of every domain are declared"),
        Ok(missing) => HealthCheck::warning(
            NAME,
            format!("{missing} of this program's collections are not declared yet"),
            "open the store once with a role that may make tables",
        ),
        Err(error) => HealthCheck::refused(NAME, &error),
    }
}

/// Free space, where the data is on this machine.
#[cfg(unix)]
pub(super) fn space(place: &Path) -> Option<HealthCheck> {
    let found = rustix::fs::statvfs(place).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    // Some file systems have no fixed number of files; they say none.
    let files = (found.f_files > 0).then_some((found.f_favail, found.f_files));
    Some(space_of(free, files))
}

#[cfg(not(unix))]
pub(super) fn space(_: &Path) -> Option<HealthCheck> {
    None
}

fn space_of(free: u64, files: Option<(u64, u64)>) -> HealthCheck {
    const NAME: &str = "space";
    let found = format!("{} MiB are free", free >> 20);
    if free < FREE_BYTES {
        return HealthCheck::warning(NAME, found, "make room before commits fail");
    }
    match files {
        Some((left, all)) if left < all / FREE_FILES => {
            HealthCheck::warning(NAME, format!("{found}, but only {left} of {all} files"), "delete files before commits fail")
        }
        _ => HealthCheck::ok(NAME, found),
    }
}

pub(super) fn durability(found: Durability, sentence: &str, required: Option<Durability>) -> HealthCheck {
    const NAME: &str = "durability";
    match required {
        Some(required) if found < required => HealthCheck::problem(NAME, &too_weak(found, sentence, required)),
        _ if found < Durability::PowerLoss => HealthCheck::warning(NAME, sentence, "docs/durability.md says what to set"),
        _ => HealthCheck::ok(NAME, sentence),
    }
}

/// The error for a store whose acknowledgements are worth less than was asked for, with the sentence that says why.
pub(crate) fn too_weak(found: Durability, sentence: &str, required: Durability) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("the store keeps what it acknowledged only as far as {found}; {required} was asked for: {sentence}"),
    )
    .with_next("change the store's settings, or ask for less; docs/durability.md says what to set")
    .in_check("durability")
}

/// How far a readable tree has come, and whether somebody edited it.
#[cfg(feature = "file")]
pub(super) async fn tree(tree: &crate::Tree) -> HealthCheck {
    match (tree.status().await, tree.edited().await) {
        (Ok(status), Ok(edited)) => tree_of(&status, edited.unwrap_or_default().len()),
        (Err(error), _) | (_, Err(error)) => HealthCheck::problem("tree", &error),
    }
}

#[cfg(feature = "file")]
fn tree_of(status: &crate::TreeStatus, edited: usize) -> HealthCheck {
    if let Some(error) = &status.error {
        let found = format!("the readable tree could not be written: {error}");
        return HealthCheck::warning("tree", found, "look at the disk and the folder");
    }
    let found = format!("{} files, {} changes behind", status.files, status.behind);
    match edited {
        0 => HealthCheck::ok("tree", found),
        edited => HealthCheck::warning("tree", format!("{found}; {edited} edited by hand"), "take them over: millpond adopt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::Finding;

    #[test]
    fn each_check_fires_and_stays_silent() {
        assert_eq!(space_of(FREE_BYTES, None).finding, Finding::Ok);
        assert_eq!(space_of(FREE_BYTES - 1, None).finding, Finding::Warning);
        assert_eq!(space_of(FREE_BYTES, Some((5, 100))).finding, Finding::Ok);
        assert_eq!(space_of(FREE_BYTES, Some((4, 100))).finding, Finding::Warning);
        assert_eq!(latency_of(SLOW_READ, Some(SLOW_WRITE)).finding, Finding::Ok);
        assert_eq!(latency_of(SLOW_READ * 2, None).finding, Finding::Warning);
        assert_eq!(latency_of(Duration::ZERO, Some(SLOW_WRITE * 2)).finding, Finding::Warning);
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
        let durability = |found: Durability, required| durability(found, found.sentence(), required);
        assert_eq!(durability(Durability::PowerLoss, None).finding, Finding::Ok);
        assert_eq!(durability(Durability::ProcessCrash, None).finding, Finding::Warning);
        assert_eq!(durability(Durability::PowerLoss, Some(Durability::PowerLoss)).finding, Finding::Ok);
        let weak = durability(Durability::ProcessCrash, Some(Durability::PowerLoss));
        assert_eq!(weak.finding, Finding::Problem);
        assert!(weak.found.contains("power-loss was asked for") && weak.next.is_some(), "{weak:?}");
    }

    #[test]
    fn a_slow_store_has_no_wrong_clock() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let finding = |store, host: (i64, i64)| {
            let written = Written { took: Duration::ZERO, at: at(store), host: (at(host.0), at(host.1)) };
            clock("clock", written.apart()).finding
        };
        // The commit took ten seconds, and the store read its clock when it began.
        assert_eq!(finding(100, (100, 110)), Finding::Ok);
        assert_eq!(finding(98, (100, 110)), Finding::Ok);
        assert_eq!(finding(97, (100, 110)), Finding::Warning);
        assert_eq!(finding(113, (100, 110)), Finding::Warning);
    }
}
