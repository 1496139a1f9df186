//! Hints that something was committed: in this process at once, in others by watching `data_version`.
//!
//! SQLite tells a connection that *somebody else* changed the file, and nothing more. One thread looks at that number
//! every few milliseconds, and only while somebody waits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use millpond_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::watch;

/// How often other processes' commits are looked for while somebody waits.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Hints {
    sender: watch::Sender<u64>,
    waiting: Arc<Waiting>,
    starting: Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    count: AtomicUsize,
    started: AtomicBool,
    stopped: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self { sender: watch::Sender::new(0), waiting: Arc::default(), starting: Mutex::default() }
    }

    /// Something was committed in this process.
    pub(crate) fn committed(&self) {
        self.sender.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Registers interest. Everything committed after this call wakes the waiter.
    pub(crate) fn listen(&self) -> Listener {
        let receiver = self.sender.subscribe();
        self.waiting.count.fetch_add(1, Ordering::SeqCst);
        let _guard = self.waiting.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.wake.notify_one();
        Listener { receiver, waiting: Arc::clone(&self.waiting) }
    }

    /// Starts the thread that watches for other processes' commits, on a connection of its own, unless it runs
    /// already. What fails is tried again by the next caller.
    pub(crate) fn watch(&self, connect: impl FnOnce() -> Result<Connection>) -> Result<()> {
        if self.waiting.started.load(Ordering::SeqCst) {
            return Ok(());
        }
        // Held while the thread starts: two callers must not start two.
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.waiting.started.load(Ordering::SeqCst) || self.waiting.stopped.load(Ordering::SeqCst) {
            return Ok(());
        }
        let connection = connect()?;
        let (sender, waiting) = (self.sender.clone(), Arc::clone(&self.waiting));
        std::thread::Builder::new()
            .name("millpond-hints".into())
            .spawn(move || watch_file(&connection, &sender, &waiting))
            .map_err(|e| Error::unavailable("cannot start the thread that watches the file").with_source(e))?;
        self.waiting.started.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Whether the watching thread runs.
    pub(crate) fn watches(&self) -> bool {
        self.waiting.started.load(Ordering::SeqCst)
    }

    pub(crate) fn stop(&self) {
        self.waiting.stopped.store(true, Ordering::SeqCst);
        let _guard = self.waiting.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.wake.notify_all();
    }
}

fn watch_file(connection: &Connection, sender: &watch::Sender<u64>, waiting: &Waiting) {
    // Kept across pauses: what happened while nobody waited shows as a change at the first look, a harmless hint.
    let mut seen: Option<i64> = None;
    loop {
        {
            let mut guard = waiting.lock.lock().unwrap_or_else(PoisonError::into_inner);
            while waiting.count.load(Ordering::SeqCst) == 0 && !waiting.stopped.load(Ordering::SeqCst) {
                guard = waiting.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
        }
        if waiting.stopped.load(Ordering::SeqCst) {
            return;
        }
        let now = connection.prepare_cached("PRAGMA data_version").and_then(|mut s| s.query_row([], |r| r.get(0))).ok();
        if now.is_none() || now != seen {
            sender.send_modify(|n| *n = n.wrapping_add(1));
        }
        seen = now;
        std::thread::sleep(LOOK);
    }
}

/// Somebody who waits.
pub(crate) struct Listener {
    receiver: watch::Receiver<u64>,
    waiting: Arc<Waiting>,
}

impl Listener {
    pub(crate) async fn hint(&mut self) {
        // The sender lives as long as the engine; if it is gone there is nothing to wait for.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.waiting.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watching_that_could_not_start_is_tried_again() {
        let hints = Hints::new();
        assert!(hints.watch(|| Err(Error::unavailable("no connection"))).is_err());
        assert!(!hints.watches());
        let open = || Connection::open_in_memory().map_err(|e| Error::unavailable("no connection").with_source(e));
        hints.watch(open).unwrap();
        assert!(hints.watches());
        hints.watch(|| panic!("a second connection was opened")).unwrap();
        hints.stop();
    }
}
