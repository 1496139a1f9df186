//! Where replicas are kept: `CACHE/<store id>/<slot>/replica.db`, a slot for each process and handle.
//!
//! A slot is taken by a lock that the system gives back when the process ends, however it ends. Replicas are not
//! flushed, so after a restart of the machine one cannot be trusted and is made again. All of it may be deleted at any
//! time that no process runs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use millpond_core::{Error, Result};

/// Slots that are tried.
const SLOTS: u32 = 1_024;

/// A folder for one replica, held until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    folder: PathBuf,
    /// Held for its lock alone.
    lock: File,
}

fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| {
        Error::unavailable(format!("cannot {what} {path}"))
            .with_source(e)
            .with_next("check that the cache folder can be written, or name another with cache=FOLDER")
    }
}

impl Slot {
    /// Takes the first free slot. What a former boot of the machine left in it is removed.
    pub(crate) fn take(cache: &Path, store_id: &str) -> Result<Self> {
        for number in 0..SLOTS {
            let folder = cache.join(store_id).join(number.to_string());
            std::fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
            let path = folder.join("lock");
            let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let lock = lock.map_err(failed("open", &path))?;
            match lock.try_lock() {
                Ok(()) => {
                    let mut slot = Self { folder, lock };
                    slot.distrust_former_boot()?;
                    slot.clear_unfinished();
                    return Ok(slot);
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(failed("lock", &path)(e)),
            }
        }
        Err(Error::unavailable(format!("all {SLOTS} replicas of this store are in use")))
    }

    /// The replica's file.
    pub(crate) fn replica(&self) -> PathBuf {
        self.folder.join("replica.db")
    }

    /// A file beside it that nobody else has.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Removes the replica, so that it is made again.
    pub(crate) fn clear(&self) -> Result<()> {
        for name in ["replica.db", "replica.db-wal", "replica.db-shm"] {
            let path = self.folder.join(name);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", &path)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes copies that a process left here that ended while it made or fetched a snapshot.
    fn clear_unfinished(&self) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("snapshot-") {
                // What cannot be removed only takes room.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn distrust_former_boot(&mut self) -> Result<()> {
        let path = self.folder.join("lock");
        let boot = boot_id();
        let mut found = String::new();
        self.lock.read_to_string(&mut found).map_err(failed("read", &path))?;
        if boot.as_ref().is_some_and(|boot| *boot == found) {
            return Ok(());
        }
        self.clear()?;
        self.lock.set_len(0).and_then(|()| self.lock.rewind()).map_err(failed("write", &path))?;
        self.lock.write_all(boot.unwrap_or_default().as_bytes()).map_err(failed("write", &path))
    }
}

/// Names this start of the machine. `None` where the system does not tell: then no replica is trusted.
pub(crate) fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let text = text.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_serves_one_at_a_time_and_keeps_its_replica() {
        let cache = tempfile::tempdir().unwrap();
        let first = Slot::take(cache.path(), "s").unwrap();
        let second = Slot::take(cache.path(), "s").unwrap();
        assert_ne!(first.replica(), second.replica());
        std::fs::write(first.replica(), "kept").unwrap();
        std::fs::write(first.beside("snapshot-1.db"), "left over").unwrap();
        let path = first.replica();
        drop(first);
        let again = Slot::take(cache.path(), "s").unwrap();
        assert_eq!(again.replica(), path);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "kept");
        assert!(!again.beside("snapshot-1.db").exists());
    }

    #[test]
    fn what_another_boot_left_is_removed() {
        let cache = tempfile::tempdir().unwrap();
        let slot = Slot::take(cache.path(), "s").unwrap();
        std::fs::write(slot.replica(), "old").unwrap();
        let (path, lock) = (slot.replica(), slot.folder.join("lock"));
        drop(slot);
        std::fs::write(lock, "another boot").unwrap();
        let _again = Slot::take(cache.path(), "s").unwrap();
        assert!(!path.exists());
    }
}
