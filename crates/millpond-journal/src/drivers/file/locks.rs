//! The lock of a journal's folder.
//!
//! An advisory lock of the whole file (flock): the system gives it back when the process ends, however it ends, and
//! lets those who wait take turns.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millpond_core::{Error, Result};
use tokio::sync::oneshot;

use super::folder::failed;

/// How long a lock is waited for: longer than any batch takes, so that only a process that stands still exceeds it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a lock is tried by who does not queue for it.
const TRY_EVERY: Duration = Duration::from_millis(2);

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
    /// Waits for the lock by trying it again and again, without a place in the queue: for what is rare. `None` when the
    /// folder does not exist, or was removed meanwhile.
    ///
    /// # Errors
    /// `Unavailable` when another process keeps it for too long.
    pub(super) fn wait(folder: &Path) -> Result<Option<Self>> {
        let begin = Instant::now();
        loop {
            match Self::attempt(folder)? {
                Attempt::Taken(lock) => return Ok(Some(lock)),
                Attempt::Missing => return Ok(None),
                Attempt::Busy if begin.elapsed() >= PATIENCE => return Err(kept(folder)),
                Attempt::Busy => std::thread::sleep(TRY_EVERY),
            }
        }
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

/// One place in the system's queue for the lock, which it hands out in turn.
///
/// A thread that waits for a lock cannot be called back. So whoever gives up leaves its thread to the next call, and a lock
/// that nobody waits for any more is given back at once.
#[derive(Debug)]
pub(super) struct Queue {
    folder: PathBuf,
    patience: Duration,
    place: Arc<Mutex<Place>>,
}

type Got = Result<Option<Lock>>;

#[derive(Debug, Default)]
struct Place {
    /// Whether a thread stands in the queue.
    taken: bool,
    /// Who gets the lock.
    caller: Option<oneshot::Sender<Got>>,
}

impl Queue {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, patience: PATIENCE, place: Arc::default() }
    }

    /// Waits for the lock; of several calls at once only the last goes on. `None` when the folder does not exist, or was
    /// removed meanwhile.
    ///
    /// # Errors
    /// `Unavailable` when another process keeps it for too long.
    pub(super) async fn wait(&self) -> Got {
        let (caller, answer) = oneshot::channel();
        {
            let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            place.caller = Some(caller);
            if !place.taken {
                place.taken = true;
                let (folder, place) = (self.folder.clone(), Arc::clone(&self.place));
                tokio::task::spawn_blocking(move || {
                    let got = stand(&folder);
                    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                    place.taken = false;
                    // Nobody there: the lock goes with what was not sent.
                    place.caller.take().map(|caller| caller.send(got))
                });
            }
        }
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(got)) => got,
            Ok(Err(_)) => Err(Error::unavailable("another call of this process took the place in the queue for the lock")),
            Err(_) => Err(kept(&self.folder)),
        }
    }
}

fn stand(folder: &Path) -> Got {
    let Some(file) = open(folder)? else { return Ok(None) };
    file.lock().map_err(failed("lock", folder))?;
    Ok(still_there(folder, &file)?.then_some(Lock(file)))
}

fn kept(folder: &Path) -> Error {
    Error::unavailable(format!("another process keeps the lock of the journal in {}", folder.display())).with_next(
        "look for a process that stands still and has its file `lock` open (fuser, lsof); it is free when that process ends",
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_too_long_is_told_and_finds_its_place_again() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::wait(folder.path()).unwrap().expect("the lock");
        let queue = Queue { patience: Duration::from_millis(50), ..Queue::new(folder.path().to_owned()) };
        for _ in 0..3 {
            let error = queue.wait().await.expect_err("it is held");
            assert!(error.to_string().contains("another process keeps the lock"), "{error}");
        }
        drop(held);
        let queue = Queue { patience: Duration::from_secs(10), ..queue };
        let got = queue.wait().await.expect("the lock is free").expect("the folder is there");
        assert!(matches!(Lock::attempt(folder.path()), Ok(Attempt::Busy)));
        drop(got);
        assert!(matches!(Lock::attempt(folder.path()), Ok(Attempt::Taken(_))));
    }

    #[tokio::test]
    async fn a_lock_that_nobody_waits_for_any_more_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::wait(folder.path()).unwrap().expect("the lock");
        let queue = Queue { patience: Duration::from_millis(10), ..Queue::new(folder.path().to_owned()) };
        assert!(queue.wait().await.is_err());
        drop(held);
        let stands = || queue.place.lock().unwrap().taken;
        while stands() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(matches!(Lock::attempt(folder.path()), Ok(Attempt::Taken(_))));
    }
}
