//! Connections: how they are opened, and the pool of readers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millpond_core::{Error, ErrorKind, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::errors::sql;

/// Readers a process keeps at most.
const READERS: usize = 8;
/// Prepared statements a connection keeps.
const STATEMENTS: usize = 256;
/// Pages the log may grow before it is written back to the database: 16 MiB.
const WAL_PAGES: u32 = 4_000;

/// Page cache of a connection, in KiB: enough for the key index of a million records, so that a record by key misses the
/// cache once and not twice. A connection takes it as it needs it.
const CACHE_KIB: u32 = 32_000;

/// Counts what a steady store must not do.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) opened: AtomicU64,
    pub(crate) prepared: Arc<AtomicU64>,
    pub(crate) transactions: AtomicU64,
}

/// Where the database is.
#[derive(Debug, Clone)]
pub(crate) enum Location {
    File(PathBuf),
    Memory,
}

/// Whether a commit waits until the disk has it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Synchronous {
    /// It does.
    Full,
    /// It does not: a cache that is made again after a power cut, or no file at all.
    Off,
}

/// Opens one connection with the settings that its promises need.
pub(crate) fn connect(location: &Location, create: bool, synchronous: Synchronous, counters: &Counters) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = match location {
        Location::Memory => Connection::open_in_memory().map_err(sql("open"))?,
        Location::File(path) => {
            let flags = if create { flags | OpenFlags::SQLITE_OPEN_CREATE } else { flags };
            Connection::open_with_flags(path, flags).map_err(|e| sql("open")(e).with("path", path.display()))?
        }
    };
    counters.opened.fetch_add(1, Ordering::Relaxed);
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_handler(Some(wait_for_lock)).map_err(sql("open"))?;
    let pragma = |name: &str, value: &str| connection.pragma_update(None, name, value).map_err(sql("open"));
    if matches!(location, Location::File(_)) {
        crate::schema::format(&connection)?;
        pragma("synchronous", if matches!(synchronous, Synchronous::Full) { "FULL" } else { "OFF" })?;
        use_wal(&connection)?;
        pragma("wal_autocheckpoint", &WAL_PAGES.to_string())?;
    }
    // Plans must not depend on bound values: otherwise SQLite compiles a statement anew for each new value of `ns`.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(sql("open"))?;
    pragma("cache_size", &format!("-{CACHE_KIB}"))?;
    pragma("temp_store", "MEMORY")?;
    // Called when a statement is compiled, and only then: that is how a test sees that none is compiled anew.
    let prepared = Arc::clone(&counters.prepared);
    connection
        .authorizer(Some(move |_: rusqlite::hooks::AuthContext<'_>| {
            prepared.fetch_add(1, Ordering::Relaxed);
            rusqlite::hooks::Authorization::Allow
        }))
        .map_err(sql("open"))?;
    Ok(connection)
}

/// Tries of switching a file to WAL, 5 ms apart: about ten seconds.
const WAL_TRIES: u32 = 2_000;

/// Switches the file to WAL, if it is not there yet.
///
/// SQLite does not wait while another process does the same to a new file: it answers "busy" at once.
fn use_wal(connection: &Connection) -> Result<()> {
    let mut tries = 0;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
            Ok(mode) => {
                return Err(Error::new(ErrorKind::Unsupported, format!("SQLite keeps the journal mode {mode:?}; WAL is needed"))
                    .with_next("put the store on a local disk"));
            }
            Err(error) => {
                let busy = matches!(
                    error.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
                );
                if !busy || tries >= WAL_TRIES {
                    return Err(sql("open")(error));
                }
                tries += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Waits for another process's lock: short sleeps, so that processes take turns, for at most about ten seconds.
fn wait_for_lock(tries: i32) -> bool {
    if tries > 20_000 {
        return false;
    }
    std::thread::sleep(Duration::from_micros(if tries < 20 { 100 } else { 500 }));
    true
}

/// Reader connections, opened when needed and kept.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Idle>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<Connection>,
    /// Connections that exist, idle or lent, and those being opened.
    opened: usize,
    waiting: usize,
    closed: bool,
}

/// A place among the readers, with its connection once that is open. Dropped, it makes room for whoever waits: also
/// when the connection could not be opened, and when the work on it panicked.
struct Lent<'r> {
    readers: &'r Readers,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut idle = self.readers.idle();
        match self.connection.take() {
            Some(connection) if !idle.closed => idle.connections.push(connection),
            // Never opened, or not wanted any more.
            _ => idle.opened -= 1,
        }
        let waiting = idle.waiting > 0;
        drop(idle);
        if waiting {
            self.readers.returned.notify_one();
        }
    }
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default(), returned: Condvar::new() }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends a reader; waits for one when all are busy.
    pub(crate) fn with<T>(&self, counters: &Counters, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut lent = self.take()?;
        let connection = match lent.connection.take() {
            Some(connection) => connection,
            None => self.open(counters)?,
        };
        work(lent.connection.insert(connection))
    }

    /// Lends a reader that is open and free; `None` when there is none. Never waits for another reader.
    pub(crate) fn with_idle<T>(&self, work: impl FnOnce(&Connection) -> T) -> Option<T> {
        let connection = self.idle.try_lock().ok()?.connections.pop()?;
        let mut lent = Lent { readers: self, connection: None };
        Some(work(lent.connection.insert(connection)))
    }

    /// An idle reader, or the right to open one.
    fn take(&self) -> Result<Lent<'_>> {
        let mut idle = self.idle();
        loop {
            if idle.closed {
                return Err(closed());
            }
            if let Some(connection) = idle.connections.pop() {
                return Ok(Lent { readers: self, connection: Some(connection) });
            }
            if idle.opened < READERS {
                idle.opened += 1;
                return Ok(Lent { readers: self, connection: None });
            }
            idle.waiting += 1;
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
            idle.waiting -= 1;
        }
    }

    fn open(&self, counters: &Counters) -> Result<Connection> {
        let connection = connect(&Location::File(self.path.clone()), false, Synchronous::Full, counters)?;
        connection.pragma_update(None, "query_only", "ON").map_err(sql("open"))?;
        Ok(connection)
    }

    /// Closes the readers that are not lent, and lends none from now on; those that are lent close when they return.
    pub(crate) fn close(&self) {
        let mut idle = self.idle();
        idle.closed = true;
        idle.opened -= idle.connections.len();
        idle.connections.clear();
        drop(idle);
        self.returned.notify_all();
    }
}

/// What a closed store answers.
pub(crate) fn closed() -> Error {
    Error::unavailable("the store is closed").with_next("open it again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::ErrorKind;
    use std::sync::mpsc::channel;

    fn file() -> (tempfile::TempDir, Readers, Counters) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        Connection::open(&path).unwrap().execute_batch("PRAGMA journal_mode = WAL").unwrap();
        (folder, Readers::new(&path), Counters::default())
    }

    #[test]
    fn a_reader_that_cannot_be_opened_lets_the_next_one_try() {
        let (folder, readers, counters) = file();
        let (readers, counters) = (Arc::new(readers), Arc::new(counters));
        // All places but one are lent, and somebody holds the last without having opened it yet.
        let lent: Vec<_> = (1..READERS).map(|_| readers.take().unwrap()).collect();
        let last = readers.take().unwrap();
        let (done, waits) = channel();
        let waiter = {
            let (readers, counters) = (Arc::clone(&readers), Arc::clone(&counters));
            std::thread::spawn(move || done.send(readers.with(&counters, |_| Ok(())).map_err(|e| e.kind())))
        };
        while readers.idle().waiting == 0 {
            std::thread::yield_now();
        }
        std::fs::remove_file(folder.path().join("a.db")).unwrap();
        assert!(readers.open(&counters).is_err());
        drop(last);
        let answer = waits.recv_timeout(Duration::from_secs(20)).expect("the waiting reader was never woken");
        assert_eq!(answer, Err(ErrorKind::Unavailable));
        waiter.join().unwrap().unwrap();
        drop(lent);
        assert_eq!(readers.idle().opened, 0);
    }

    #[test]
    fn a_panic_gives_the_reader_back() {
        let (_folder, readers, counters) = file();
        for _ in 0..=READERS {
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                readers.with(&counters, |_| -> Result<()> { panic!("a fault in a read") })
            }));
            assert!(panicked.is_err());
        }
        let idle = readers.idle();
        assert_eq!((idle.opened, idle.connections.len()), (1, 1));
    }

    #[test]
    fn nothing_is_lent_after_close() {
        let (_folder, readers, counters) = file();
        readers
            .with(&counters, |_| {
                readers.close();
                Ok(())
            })
            .unwrap();
        assert_eq!(readers.idle().opened, 0, "the returned reader stayed open");
        assert_eq!(readers.with(&counters, |_| Ok(())).unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(readers.with_idle(|_| ()).is_none());
    }
}
