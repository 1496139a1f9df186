//! The lock of a journal's folder.
//!
//! An advisory lock of the whole file (flock): the system gives it back when the process ends, however it ends, and
//! lets those who wait take turns.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use millpond_core::{Error, Result};

use super::folder::failed;

/// The lock, held until dropped.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code)] File); // Held for its lock alone.

fn open(folder: &Path) -> Result<Option<File>> {
    let path = folder.join("lock");
    match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("open", &path)(e)),
    }
}

impl Lock {
    /// Waits for the lock. `None` when the folder does not exist, or was removed meanwhile.
    pub(super) fn wait(folder: &Path) -> Result<Option<Self>> {
        let Some(file) = open(folder)? else { return Ok(None) };
        file.lock().map_err(failed("lock", folder))?;
        Ok(still_there(folder, &file)?.then_some(Self(file)))
    }

    /// Takes the lock if it is free.
    pub(super) fn attempt(folder: &Path) -> Result<Attempt> {
        let Some(file) = open(folder)? else { return Ok(Attempt::Missing) };
        match file.try_lock() {
            Ok(()) if still_there(folder, &file)? => Ok(Attempt::Taken(Self(file))),
            Ok(()) => Ok(Attempt::Missing),
            Err(TryLockError::WouldBlock) => Ok(Attempt::Busy),
            Err(TryLockError::Error(e)) => Err(failed("lock", folder)(e)),
        }
    }
}

/// What taking the lock without waiting came to.
pub(super) enum Attempt {
    Taken(Lock),
    Busy,
    Missing,
}

/// Whether the file that was locked is still the folder's lock.
#[cfg(unix)]
fn still_there(folder: &Path, file: &File) -> Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let own = file.metadata().map_err(failed("look at", folder))?;
    match std::fs::metadata(folder.join("lock")) {
        Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("look at", folder)(e)),
    }
}

#[cfg(not(unix))]
fn still_there(folder: &Path, _: &File) -> Result<bool> {
    Ok(folder.join("lock").exists())
}

/// The error of a journal whose folder is gone.
pub(super) fn removed(folder: &Path) -> Error {
    Error::not_found(format!("the journal in {} was removed", folder.display()))
}
