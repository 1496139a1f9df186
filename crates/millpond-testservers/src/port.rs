//! Ports for servers, which no other test program is given as long as this one runs.
//!
//! The operating system gives ports of its upper range to whoever connects to something: a port of that range that is
//! free now may be somebody's a moment later. So these come from below it, and who takes one holds a lock on a file that
//! is named after it.

use std::fs::File;
use std::io::{Error, Result};
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Above the ports of well-known services; each one's second, [`SECOND`] higher, is below those of the operating system.
const PORTS: Range<u16> = 12_000..22_000;

/// How far above a port the one is that some servers take besides.
const SECOND: u16 = 10_000;

/// The locks of the ports that this process was given.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of the local address that nothing listens on, nor on the one ten thousand above it. It stays this process's own
/// for as long as that runs.
///
/// # Errors
/// What the operating system fails with; none is left.
pub fn free_port() -> Result<u16> {
    // Not in TMPDIR: programs with folders of their own share the ports.
    let folder = Path::new("/tmp").join(format!("millpond-ports-{}", user()?));
    std::fs::create_dir_all(&folder).map_err(|e| named(&folder, &e))?;
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    // Programs that begin elsewhere rarely ask for the same lock.
    let count = PORTS.end - PORTS.start;
    let first = (std::process::id() % u32::from(count)) as u16;
    for at in 0..count {
        let port = PORTS.start + (first + at) % count;
        if let Some(lock) = reserve(&folder, port)? {
            held.push(lock);
            return Ok(port);
        }
    }
    Err(Error::other(format!("no port of {PORTS:?} is free")))
}

/// Each user has files of their own; users who take each other's ports find them taken.
fn user() -> Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata("/proc/self")?.uid())
}

fn named(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The lock of a port, unless somebody has it or listens there.
fn reserve(folder: &Path, port: u16) -> Result<Option<File>> {
    let file = folder.join(port.to_string());
    let lock = File::options().create(true).append(true).open(&file).map_err(|e| named(&file, &e))?;
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    match lock.try_lock() {
        Ok(()) if free(port) && free(port + SECOND) => Ok(Some(lock)),
        Ok(()) | Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let other = free_port().unwrap();
        assert_ne!(port, other);
        let held = reserve(folder.path(), port).unwrap();
        assert!(held.is_some());
        assert!(reserve(folder.path(), port).unwrap().is_none(), "somebody has it");
        let _listens = TcpListener::bind(("127.0.0.1", other + SECOND)).unwrap();
        assert!(reserve(folder.path(), other).unwrap().is_none(), "its second is taken");
    }
}
