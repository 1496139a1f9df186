//! A replica: the tables of a SQLite store as the cache of a journal, which is the truth.
//!
//! ```text
//!   own batch      plan ─► apply in an open transaction, while the entry travels ─► keep, or take back
//!   others' entry  replay: the rows it changes are looked up here, then applied
//! ```
//!
//! Nothing is flushed: after a power cut the cache is rebuilt from the journal. The entry a replica stands at changes
//! in the same transaction as the rows, so a process that ends anywhere leaves a replica that can go on. With it change
//! a note of the journal's own, and the digests of the newest entries: they tell whether a copy made elsewhere holds
//! the same history, when the entries themselves are gone.

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

/// No collection's table can have these names: no collection name holds a colon.
const OWN_TABLES: &str = "CREATE TABLE IF NOT EXISTS \"journal:tail\" (one INTEGER PRIMARY KEY CHECK (one = 1), \
                            number INTEGER NOT NULL, digest TEXT NOT NULL, note TEXT) STRICT; \
                          CREATE TABLE IF NOT EXISTS \"journal:digests\" \
                            (number INTEGER PRIMARY KEY, digest TEXT NOT NULL) STRICT";

/// Replicas of the first format had no note.
const ADD_NOTE: &str = "ALTER TABLE \"journal:tail\" ADD COLUMN note TEXT";

/// Entries whose digests are kept: a few megabytes, and some hours of a busy journal.
const DIGESTS: u64 = 100_000;

/// Those before are forgotten once in so many entries.
const FORGET_EVERY: u64 = 256;

/// What a copy of a replica says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Where it stands.
    pub tail: Tail,
    /// The digest of the entry that was asked for, if the copy still knows it.
    pub digest: Option<String>,
}

impl Replica {
    /// Opens the replica in a file, and makes it if there is none.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened, `Corrupt` or `Invalid` when it is no replica.
    pub fn open(path: impl Into<PathBuf>, host: Arc<dyn Host>) -> Result<Self> {
        let engine = SqliteEngine::start(Location::File(path.into()), host, true, Synchronous::Off)?;
        let writer = engine.inner.writer();
        make_own_tables(writer.as_ref().ok_or_else(crate::connect::closed)?)?;
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

    /// What was noted with it; empty when nothing was.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn note(&self) -> Result<String> {
        self.engine.inner.snapshot(read_note)
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

    /// Where a copy stands, and what it knows of an entry. Copies of the first format know no entry but their last.
    ///
    /// # Errors
    /// `Corrupt` when the file is no copy of a replica.
    pub fn inspect(path: &Path, number: u64) -> Result<Copied> {
        let copy = open_copy(path)?;
        let tail = read_tail(&copy)?;
        let digest = if tail.number == number { Some(tail.digest.clone()) } else { read_digest(&copy, number)? };
        Ok(Copied { tail, digest })
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
        drop(backup);
        make_own_tables(connection)?;
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

fn make_own_tables(connection: &Connection) -> Result<()> {
    connection.execute_batch(OWN_TABLES).map_err(sql("replica"))?;
    let has_note = connection
        .query_row("SELECT count(*) FROM pragma_table_info('journal:tail') WHERE name = 'note'", [], |r| r.get::<_, bool>(0))
        .map_err(sql("replica"))?;
    if has_note { Ok(()) } else { connection.execute_batch(ADD_NOTE).map_err(sql("replica")) }
}

fn read_note(connection: &Connection) -> Result<String> {
    connection
        .prepare_cached("SELECT coalesce(note, '') FROM \"journal:tail\"")
        .and_then(|mut s| s.query_row([], |r| r.get(0)).optional())
        .map(Option::unwrap_or_default)
        .map_err(sql("replica"))
}

fn read_digest(connection: &Connection, number: u64) -> Result<Option<String>> {
    let keeps_digests = "SELECT count(*) FROM sqlite_schema WHERE name = 'journal:digests'";
    if !connection.query_row(keeps_digests, [], |r| r.get::<_, bool>(0)).map_err(sql("snapshot"))? {
        return Ok(None);
    }
    connection
        .query_row("SELECT digest FROM \"journal:digests\" WHERE number = ?1", [number.cast_signed()], |r| r.get(0))
        .optional()
        .map_err(sql("snapshot"))
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

    /// What was noted with the tail; empty when nothing was.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn note(&self) -> Result<String> {
        read_note(self.connection())
    }

    /// Says where the replica stands after this transaction, and what is to be noted with it.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn set_tail(&mut self, tail: &Tail, note: &str) -> Result<()> {
        self.held
            .get("INSERT OR REPLACE INTO \"journal:tail\" (one, number, digest, note) VALUES (1, ?1, ?2, ?3)")?
            .execute(params![tail.number.cast_signed(), tail.digest, note])
            .map(drop)
            .map_err(sql("replica"))
    }

    /// Keeps the digests of entries, which come in their order, and forgets the oldest.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn keep_digests<'t>(&mut self, entries: impl IntoIterator<Item = &'t Tail>) -> Result<()> {
        for entry in entries {
            self.held
                .get("INSERT OR REPLACE INTO \"journal:digests\" (number, digest) VALUES (?1, ?2)")?
                .execute(params![entry.number.cast_signed(), entry.digest])
                .map_err(sql("replica"))?;
            if entry.number % FORGET_EVERY == 0 && entry.number > DIGESTS {
                self.held
                    .get("DELETE FROM \"journal:digests\" WHERE number <= ?1")?
                    .execute(params![(entry.number - DIGESTS).cast_signed()])
                    .map_err(sql("replica"))?;
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::SystemHost;

    fn entry(number: u64) -> Tail {
        Tail { number, digest: format!("{number:032x}") }
    }

    fn keep(replica: &Replica, numbers: std::ops::RangeInclusive<u64>) {
        let entries: Vec<Tail> = numbers.map(entry).collect();
        let kept = replica.write(|write| {
            write.keep_digests(&entries)?;
            write.set_tail(entries.last().unwrap(), "a note")?;
            Ok(Verdict::Keep(()))
        });
        kept.unwrap();
    }

    #[test]
    fn the_newest_digests_are_kept_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let replica = Replica::open(folder.path().join("replica.db"), Arc::new(SystemHost)).unwrap();
        let last = (DIGESTS / FORGET_EVERY + 3) * FORGET_EVERY;
        for from in (1..=last).step_by(64) {
            keep(&replica, from..=(from + 63).min(last));
        }
        let copy = folder.path().join("copy.db");
        assert_eq!(replica.copy_to(&copy).unwrap(), entry(last));
        let knows = |number| Replica::inspect(&copy, number).unwrap().digest;
        assert_eq!(knows(last), Some(entry(last).digest));
        assert_eq!(knows(last - DIGESTS + 1), Some(entry(last - DIGESTS + 1).digest));
        assert_eq!((knows(1), knows(last - DIGESTS), knows(last + 1)), (None, None, None));
        assert_eq!(replica.note().unwrap(), "a note");
    }

    #[test]
    fn a_copy_of_the_first_format_is_loaded_and_knows_its_last_entry_only() {
        let folder = tempfile::tempdir().unwrap();
        let old = Replica::open(folder.path().join("old.db"), Arc::new(SystemHost)).unwrap();
        keep(&old, 1..=9);
        let copy = folder.path().join("copy.db");
        old.copy_to(&copy).unwrap();
        let first = "DROP TABLE \"journal:digests\"; ALTER TABLE \"journal:tail\" DROP COLUMN note";
        Connection::open(&copy).unwrap().execute_batch(first).unwrap();
        assert_eq!(Replica::inspect(&copy, 9).unwrap(), Copied { tail: entry(9), digest: Some(entry(9).digest) });
        assert_eq!(Replica::inspect(&copy, 8).unwrap(), Copied { tail: entry(9), digest: None });
        let new = Replica::open(folder.path().join("new.db"), Arc::new(SystemHost)).unwrap();
        assert_eq!(new.load_from(&copy).unwrap(), entry(9));
        assert_eq!(new.note().unwrap(), "");
        keep(&new, 10..=12);
        assert_eq!((new.tail().unwrap(), new.note().unwrap()), (entry(12), "a note".to_owned()));
        // And a replica of the first format goes on, too.
        let again = Replica::open(&copy, Arc::new(SystemHost)).unwrap();
        keep(&again, 10..=12);
        assert_eq!(again.tail().unwrap(), entry(12));
    }
}
