//! A replica: the tables of a SQLite store as the cache of a journal, which is the truth.
//!
//! ```text
//!   own batch      plan ─► apply in an open transaction, while the entry travels ─► keep, or take back
//!   others' entry  replay: the rows it changes are looked up here, then applied
//! ```
//!
//! Nothing is flushed: after a power cut the cache is rebuilt from the journal. The entry a replica stands at changes
//! in the same transaction as the rows, so a process that ends anywhere leaves a replica that can go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millpond_core::plan::{Mutations, Plan, RecordState, Touched, plan};
use millpond_core::{CollectionSpec, Host, Namespace, NamespaceInfo, NamespaceStatus, PreparedCommit, Purged, Result, Timestamp};
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{Inner, SqliteEngine};
use crate::connect::{Location, Synchronous};
use crate::errors::sql;
use crate::held::Held;
use crate::namespaces::namespace_row;
use crate::{apply, catalog, load, namespaces, purge};

/// The last journal entry that a replica holds, and the digest of that entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    /// The entry's number; 0 before the first.
    pub number: u64,
    /// The entry's digest; empty before the first.
    pub digest: String,
}

/// What becomes of the changes made so far in a replica's transaction.
#[derive(Debug)]
pub enum Verdict<T> {
    /// They stay.
    Keep(T),
    /// They are taken back.
    TakeBack(T),
}

/// The tables of one journal's namespaces. Reads go through [`Replica::engine`].
#[derive(Debug, Clone)]
pub struct Replica {
    engine: SqliteEngine,
}

/// No collection's table can have this name: no collection name holds a colon.
const TAIL_TABLE: &str = "CREATE TABLE IF NOT EXISTS \"journal:tail\" \
                          (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, digest TEXT NOT NULL) STRICT";

impl Replica {
    /// Opens the replica in a file, and makes it if there is none.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened, `Corrupt` or `Invalid` when it is no replica.
    pub fn open(path: impl Into<PathBuf>, host: Arc<dyn Host>) -> Result<Self> {
        let engine = SqliteEngine::start(Location::File(path.into()), host, true, Synchronous::Off)?;
        let writer = engine.inner.writer();
        writer.as_ref().ok_or_else(crate::connect::closed)?.execute_batch(TAIL_TABLE).map_err(sql("replica"))?;
        drop(writer);
        Ok(Self { engine })
    }

    /// The same rows as an engine, for reading. What is written through it the journal does not know.
    pub fn engine(&self) -> &SqliteEngine {
        &self.engine
    }

    /// Where the replica stands.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn tail(&self) -> Result<Tail> {
        self.engine.inner.snapshot(read_tail)
    }

    /// Runs one transaction. Readers see its changes all at once, and only if the verdict is to keep them.
    ///
    /// # Errors
    /// What `work` or SQLite fails with; nothing is changed then.
    pub fn write<T>(&self, work: impl FnOnce(&mut ReplicaWrite<'_>) -> Result<Verdict<T>>) -> Result<T> {
        self.engine.inner.write(|connection| {
            let mut write = ReplicaWrite { inner: &self.engine.inner, held: Held::new(connection) };
            Ok(match work(&mut write)? {
                Verdict::Keep(value) => (value, true),
                Verdict::TakeBack(value) => (value, false),
            })
        })
    }

    /// Writes a copy of everything into a new file, and tells where it stands.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<Tail> {
        let text = path.display().to_string();
        self.engine.inner.readers()?.with(&self.engine.inner.counters, |connection| {
            // A reader may not write anything, and to SQLite the copy is something.
            let copied =
                connection.pragma_update(None, "query_only", "OFF").and_then(|()| connection.execute("VACUUM INTO ?1", [&text]));
            connection.pragma_update(None, "query_only", "ON").map_err(sql("snapshot"))?;
            copied.map_err(sql("snapshot"))
        })?;
        read_tail(&open_copy(path)?)
    }

    /// Takes over everything from a copy that [`Replica::copy_to`] wrote, at once, and tells where it stands.
    ///
    /// # Errors
    /// `Corrupt` when the file is no such copy: nothing is changed then.
    pub fn load_from(&self, path: &Path) -> Result<Tail> {
        let copy = open_copy(path)?;
        let tail = read_tail(&copy)?;
        let mut writer = self.engine.inner.writer();
        let connection = writer.as_mut().ok_or_else(crate::connect::closed)?;
        let backup = Backup::new(&copy, connection).map_err(sql("snapshot"))?;
        backup.run_to_completion(PAGES_A_STEP, Duration::ZERO, None).map_err(sql("snapshot"))?;
        Ok(tail)
    }
}

/// Pages that are copied at once.
const PAGES_A_STEP: std::ffi::c_int = 4_096;

fn open_copy(path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sql("snapshot"))?;
    crate::schema::format(&connection)?;
    Ok(connection)
}

fn read_tail(connection: &Connection) -> Result<Tail> {
    connection
        .prepare_cached("SELECT number, digest FROM \"journal:tail\"")
        .and_then(|mut s| {
            s.query_row([], |r| Ok(Tail { number: r.get::<_, i64>(0)?.cast_unsigned(), digest: r.get(1)? })).optional()
        })
        .map(Option::unwrap_or_default)
        .map_err(sql("replica"))
}

/// An open transaction of a replica.
pub struct ReplicaWrite<'c> {
    inner: &'c Inner,
    held: Held<'c>,
}

impl std::fmt::Debug for ReplicaWrite<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplicaWrite")
    }
}

impl ReplicaWrite<'_> {
    fn connection(&self) -> &Connection {
        self.held.connection()
    }

    /// Where the replica stands in this transaction.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn tail(&self) -> Result<Tail> {
        read_tail(self.connection())
    }

    /// Says where the replica stands after this transaction.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn set_tail(&mut self, tail: &Tail) -> Result<()> {
        self.held
            .get("INSERT OR REPLACE INTO \"journal:tail\" (one, number, digest) VALUES (1, ?1, ?2)")?
            .execute(params![tail.number.cast_signed(), tail.digest])
            .map(drop)
            .map_err(sql("replica"))
    }

    /// Decides a batch on what the replica holds.
    ///
    /// # Errors
    /// `NotFound` when the namespace is not there; what SQLite fails with.
    pub fn plan(&mut self, namespace: &Namespace, batch: &[PreparedCommit], now: Timestamp) -> Result<Plan> {
        let row = namespace_row(self.connection(), namespace)?;
        let schema = self.inner.schemas.of(self.connection(), &row)?;
        let state = load::state(&mut self.held, &row, &schema, &Touched::of(batch))?;
        Ok(plan(batch, state, now))
    }

    /// Applies what [`ReplicaWrite::plan`] decided in this transaction.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn apply(&mut self, namespace: &Namespace, mutations: &Mutations) -> Result<()> {
        let row = namespace_row(self.connection(), namespace)?;
        let schema = self.inner.schemas.of(self.connection(), &row)?;
        apply::mutations(&mut self.held, &row, &schema, mutations)
    }

    /// Applies what another replica decided: what each change replaces is looked up here.
    ///
    /// # Errors
    /// `NotFound` when the namespace is not there; what SQLite fails with.
    pub fn replay(&mut self, namespace: &Namespace, mut mutations: Mutations) -> Result<()> {
        let row = namespace_row(self.connection(), namespace)?;
        let schema = self.inner.schemas.of(self.connection(), &row)?;
        let mut touched = Touched::default();
        touched.records.extend(mutations.records.iter().map(|r| (r.record.clone(), false)));
        touched.streams.extend(mutations.streams.iter().map(|s| s.stream.clone()));
        let mut state = load::state(&mut self.held, &row, &schema, &touched)?;
        for change in &mut mutations.records {
            change.before = state.records.remove(&change.record).unwrap_or(RecordState::Never);
        }
        for change in &mut mutations.streams {
            change.before = state.streams.remove(&change.stream);
        }
        apply::mutations(&mut self.held, &row, &schema, &mutations)
    }

    /// What is known about a namespace in this transaction.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    pub fn namespace(&self, namespace: &Namespace) -> Result<NamespaceInfo> {
        Ok(namespace_row(self.connection(), namespace)?.info())
    }

    /// Makes a namespace that another place gave its identity.
    ///
    /// # Errors
    /// `Conflict` when it is there already.
    pub fn create_namespace(&self, namespace: &Namespace, store_id: &str, created_at: Timestamp) -> Result<NamespaceInfo> {
        namespaces::create_as(self.connection(), namespace, store_id, created_at)
    }

    /// Opens, freezes or marks a namespace as moved.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    pub fn set_status(&self, namespace: &Namespace, status: &NamespaceStatus) -> Result<NamespaceInfo> {
        namespaces::set_status(self.connection(), namespace, status)
    }

    /// Deletes a namespace and everything in it.
    ///
    /// # Errors
    /// `Conflict` when the store id is another one.
    pub fn delete_namespace(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        namespaces::delete(self.connection(), namespace, store_id)
    }

    /// Adds or extends declarations. True when that changes anything.
    ///
    /// # Errors
    /// `Invalid` when a declaration contradicts what is stored.
    pub fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<bool> {
        let before = namespace_row(self.connection(), namespace)?.catalog;
        catalog::declare(self.connection(), namespace, specs)?;
        Ok(namespace_row(self.connection(), namespace)?.catalog != before)
    }

    /// Forgets receipts and tombstones from before a moment.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn purge(&self, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
        purge::purge(self.connection(), namespace, before)
    }
}
