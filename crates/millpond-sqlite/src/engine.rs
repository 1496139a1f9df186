//! The engine: one writer, a pool of readers, and the calls that go to them.

mod replica;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use millpond_core::plan::{Touched, plan};
use millpond_core::{
    Answer, Catalog, CollectionSpec, CommitId, Durability, Engine, EngineInfo, Error, ErrorKind, Examination, FeedPage,
    FeedRequest, Host, LocalEngine, Namespace, NamespaceInfo, NamespaceStatus, Outcome, Position, PreparedCommit, Probing,
    Purged, Query, Read, Receipt, Record, RecordId, Result, SystemHost, Timestamp,
};
use rusqlite::Connection;

pub use self::replica::{Copied, Replica, ReplicaWrite, Tail, Verdict};
use crate::catalog::Schemas;
use crate::connect::{Counters, Location, Readers, Synchronous, closed, connect};
use crate::errors::{opening, sql, undecided, unknown};
use crate::explain::{self, PageCost};
use crate::held::Held;
use crate::hint::Hints;
use crate::namespaces::{self, namespace_row};
use crate::transaction::Guard;
use crate::{apply, catalog, check, examine, feed, load, purge, read, schema};

/// How to open a store.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Clock and randomness.
    pub host: Arc<dyn Host>,
    /// Whether a file that does not exist is made, with its folder.
    pub create: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { host: Arc::new(SystemHost), create: true }
    }
}

/// What the engine did so far: counts that do not depend on a machine's speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteStats {
    /// Connections opened.
    pub connections: u64,
    /// Steps of compiling statements; stands still while every statement is reused.
    pub compiled: u64,
    /// Write transactions, each of which flushes once.
    pub transactions: u64,
}

#[derive(Debug)]
struct Inner {
    location: Location,
    host: Arc<dyn Host>,
    writer: Mutex<Option<Connection>>,
    readers: Option<Readers>,
    schemas: Schemas,
    hints: Hints,
    counters: Counters,
    /// As the settings were when the store was opened.
    durability: Durability,
    facts: Vec<(&'static str, String)>,
    /// A flush failed: what the disk holds is unknown, so nothing is written until the store is opened again.
    broken: AtomicBool,
}

/// A SQLite store. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct SqliteEngine {
    inner: Arc<Inner>,
}

/// Whether a read may wait for a free connection.
#[derive(Debug, Clone, Copy)]
enum Caller {
    MayWait,
    MustNotWait,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hints.stop();
    }
}

impl SqliteEngine {
    /// Opens a database file, and makes it if the options say so.
    ///
    /// # Errors
    /// `NotFound` when it does not exist and is not to be made, `Unsupported` for a newer format, `Invalid` for
    /// another program's database.
    pub async fn open(path: impl Into<PathBuf>, options: SqliteOptions) -> Result<Self> {
        let path = path.into();
        hop(move || Self::open_now(path, options)).await
    }

    /// As [`SqliteEngine::open`], on the caller's thread.
    ///
    /// # Errors
    /// As [`SqliteEngine::open`].
    pub fn open_now(path: impl Into<PathBuf>, options: SqliteOptions) -> Result<Self> {
        let path = path.into();
        if !path.exists() {
            if !options.create {
                return Err(Error::not_found(format!("there is no store at {}", path.display())));
            }
            if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder)
                    .map_err(|e| Error::unavailable(format!("cannot make the folder {}", folder.display())).with_source(e))?;
            }
        }
        Self::start(Location::File(path), options.host, options.create, Synchronous::Full)
    }

    /// A store in memory. It is gone with its last clone.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub async fn memory(options: SqliteOptions) -> Result<Self> {
        Self::start(Location::Memory, options.host, true, Synchronous::Off)
    }

    fn start(location: Location, host: Arc<dyn Host>, create: bool, synchronous: Synchronous) -> Result<Self> {
        let counters = Counters::default();
        let mut writer = connect(&location, create, synchronous, &counters).map_err(|error| match &location {
            Location::File(path) if error.kind() == ErrorKind::Unavailable => opening(error, path),
            _ => error,
        })?;
        schema::migrate(&mut writer)?;
        let examined = examine::settings(&writer, &location)?;
        let readers = match &location {
            Location::File(path) => Some(Readers::new(path)),
            Location::Memory => None,
        };
        let inner = Inner {
            location,
            host,
            writer: Mutex::new(Some(writer)),
            readers,
            schemas: Schemas::default(),
            hints: Hints::new(),
            counters,
            durability: examined.durability,
            facts: examined.facts,
            broken: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Counts of what was done.
    pub fn stats(&self) -> SqliteStats {
        let counters = &self.inner.counters;
        SqliteStats {
            connections: counters.opened.load(Ordering::Relaxed),
            compiled: counters.prepared.load(Ordering::Relaxed),
            transactions: counters.transactions.load(Ordering::Relaxed),
        }
    }

    /// What one page of a query costs, found by reading it.
    ///
    /// # Errors
    /// `Invalid` when the query asks a field that is not declared; `NotFound` without the namespace.
    pub async fn explain(&self, namespace: &Namespace, query: Query) -> Result<PageCost> {
        let namespace = namespace.clone();
        let cost = move |inner: &Inner| {
            inner.snapshot(|connection| {
                let row = namespace_row(connection, &namespace)?;
                let schema = inner.schemas.of(connection, &row)?;
                explain::page(connection, row.id, &schema, &query)
            })
        };
        self.run(cost).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        hop(move || work(&inner)).await
    }
}

/// Runs blocking work off the runtime's own threads.
async fn hop<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(ErrorKind::UnknownOutcome, "the worker thread went away").with_source(error)),
    }
}

impl Inner {
    fn writer(&self) -> MutexGuard<'_, Option<Connection>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one write transaction. Whatever `work` fails with, nothing is applied.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<(T, bool)>) -> Result<T> {
        let guard = self.writer();
        let connection = guard.as_ref().ok_or_else(closed)?;
        if self.is_broken() {
            return Err(Error::unavailable("an earlier flush failed, so nothing more is written through this handle")
                .with_next("check the disk, then open the store again"));
        }
        let transaction = Guard::write(connection)?;
        let (value, changed) = work(connection)?;
        if !changed {
            // Dropped: rolled back, nothing to flush.
            return Ok(value);
        }
        self.counters.transactions.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = transaction.commit() {
            let error = unknown(error);
            if error.kind() == ErrorKind::UnknownOutcome {
                self.broken.store(true, Ordering::SeqCst);
            }
            return Err(error);
        }
        drop(guard);
        self.hints.committed();
        Ok(value)
    }

    fn readers(&self) -> Result<&Readers> {
        self.readers.as_ref().ok_or_else(|| Error::new(ErrorKind::Unsupported, "a store in memory has one connection only"))
    }

    /// Runs reads on one snapshot.
    fn snapshot<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let Some(readers) = &self.readers else {
            // In memory there is one connection; holding it is the snapshot.
            let guard = self.writer();
            return work(guard.as_ref().ok_or_else(closed)?);
        };
        readers.with(&self.counters, |connection| {
            let _snapshot = Guard::read(connection)?;
            work(connection)
        })
    }

    fn commit(&self, namespace: &Namespace, batch: &[PreparedCommit]) -> Result<Vec<Result<Outcome>>> {
        let touched = Touched::of(batch);
        let decided = self.write(|transaction| {
            let row = namespace_row(transaction, namespace)?;
            let schema = self.schemas.of(transaction, &row)?;
            let mut held = Held::new(transaction);
            let state = load::state(&mut held, &row, &schema, &touched)?;
            let planned = plan(batch, state, self.host.now());
            if planned.mutations.is_empty() {
                return Ok((planned.outcomes, false));
            }
            apply::mutations(&mut held, &row, &schema, &planned.mutations)?;
            Ok((planned.outcomes, true))
        });
        match decided {
            // What was sent before may be the very commit whose flush failed: "not applied" would be a guess.
            Err(error) if error.kind() == ErrorKind::Unavailable && self.is_broken() => {
                Ok(batch.iter().map(|commit| Err(if commit.is_fresh() { error.duplicate() } else { undecided() })).collect())
            }
            decided => decided,
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>> {
        let found = self.snapshot(|connection| {
            let row = namespace_row(connection, namespace)?;
            Ok(load::receipt(connection, row.id, id)?.map(|s| s.receipt))
        })?;
        // The log may hold a commit that no reader sees until the file is opened again.
        if found.is_none() && self.is_broken() { Err(undecided()) } else { Ok(found) }
    }

    fn read(&self, namespace: &Namespace, reads: &[Read]) -> Result<Vec<Answer>> {
        if let [Read::Get(id)] = reads
            && let Some(found) = self.find(namespace, id, Caller::MayWait)?
        {
            return Ok(vec![Answer::Record(Some(found))]);
        }
        self.snapshot(|connection| {
            let row = namespace_row(connection, namespace)?;
            let schema = self.schemas.of(connection, &row)?;
            reads.iter().map(|r| read::answer(connection, &row, &schema, r)).collect()
        })
    }

    /// A record by key in one statement, by the declarations last known here.
    ///
    /// What is found is right: namespace numbers are never used twice, and a record is in one table at a time. What is
    /// not found may be elsewhere by now (another process may have declared the collection), so `None` proves nothing.
    fn find(&self, namespace: &Namespace, id: &RecordId, who: Caller) -> Result<Option<Record>> {
        let (Some(readers), Some(schema)) = (&self.readers, self.schemas.known(namespace)) else { return Ok(None) };
        let work = |connection: &Connection| read::get(connection, schema.ns, &schema, id);
        match who {
            Caller::MayWait => readers.with(&self.counters, work),
            Caller::MustNotWait => readers.with_idle(work).unwrap_or(Ok(None)),
        }
    }

    fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        self.write(|transaction| catalog::declare(transaction, namespace, specs).map(|()| ((), true)))?;
        self.catalog(namespace)
    }

    fn catalog(&self, namespace: &Namespace) -> Result<Arc<Catalog>> {
        self.snapshot(|connection| {
            let row = namespace_row(connection, namespace)?;
            Ok(Arc::clone(&self.schemas.of(connection, &row)?.catalog))
        })
    }

    fn start_watching(&self) -> Result<()> {
        self.hints.watch(|| connect(&self.location, false, Synchronous::Full, &self.counters))
    }
}

#[async_trait]
impl Engine for SqliteEngine {
    fn info(&self) -> EngineInfo {
        let location = match &self.inner.location {
            Location::File(path) => path.display().to_string(),
            Location::Memory => "memory".to_owned(),
        };
        let (durability, facts) = (self.inner.durability, self.inner.facts.clone());
        EngineInfo { kind: "sqlite", location, durability, facts }
    }

    async fn examine(&self, _: Probing) -> Result<Examination> {
        self.run(|inner| {
            let writer = inner.writer();
            examine::settings(writer.as_ref().ok_or_else(closed)?, &inner.location)
        })
        .await
    }

    fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.inner.host)
    }

    async fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        self.run(|inner| inner.snapshot(namespaces::list)).await
    }

    async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceInfo>> {
        let namespace = namespace.clone();
        self.run(move |inner| inner.snapshot(|c| Ok(namespaces::find(c, &namespace)?.map(|r| r.info())))).await
    }

    async fn create_namespace(&self, namespace: &Namespace) -> Result<NamespaceInfo> {
        let namespace = namespace.clone();
        self.run(move |inner| inner.write(|t| Ok((namespaces::create(t, &namespace, &*inner.host)?, true)))).await
    }

    async fn set_status(&self, namespace: &Namespace, status: NamespaceStatus) -> Result<NamespaceInfo> {
        let namespace = namespace.clone();
        self.run(move |inner| inner.write(|t| Ok((namespaces::set_status(t, &namespace, &status)?, true)))).await
    }

    async fn delete_namespace(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        let (namespace, store_id) = (namespace.clone(), store_id.to_owned());
        self.run(move |inner| inner.write(|t| Ok((namespaces::delete(t, &namespace, &store_id)?, true)))).await
    }

    async fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        let (namespace, specs) = (namespace.clone(), specs.to_vec());
        self.run(move |inner| inner.declare(&namespace, &specs)).await
    }

    async fn catalog(&self, namespace: &Namespace) -> Result<Arc<Catalog>> {
        let namespace = namespace.clone();
        self.run(move |inner| inner.catalog(&namespace)).await
    }

    async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        let namespace = namespace.clone();
        self.run(move |inner| inner.commit(&namespace, &batch)).await
    }

    async fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>> {
        let namespace = namespace.clone();
        self.run(move |inner| inner.outcome(&namespace, id)).await
    }

    async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
        // A record by key takes less than a thread hop: it is read here, if a reader is free and everything is known.
        if let [Read::Get(id)] = &reads[..]
            && let Some(found) = self.inner.find(namespace, id, Caller::MustNotWait)?
        {
            return Ok(vec![Answer::Record(Some(found))]);
        }
        let namespace = namespace.clone();
        self.run(move |inner| inner.read(&namespace, &reads)).await
    }

    async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
        let namespace = namespace.clone();
        self.run(move |inner| inner.snapshot(|c| feed::page(c, &namespace, &inner.schemas, &request))).await
    }

    async fn changed(&self, namespace: &Namespace, after: Position) {
        let mut listener = self.inner.hints.listen();
        // A commit may have come before we listened.
        let head = match self.namespace(namespace).await {
            Ok(Some(info)) => info.position,
            _ => return,
        };
        if head > after {
            return;
        }
        // Without the watching thread a subscription still sees other processes' commits when it next looks itself.
        if matches!(self.inner.location, Location::File(_)) && !self.inner.hints.watches() {
            let _ = self.run(Inner::start_watching).await;
        }
        listener.hint().await;
    }

    async fn purge(&self, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
        let namespace = namespace.clone();
        self.run(move |inner| inner.write(|t| Ok((purge::purge(t, &namespace, before)?, true)))).await
    }

    async fn check(&self, namespace: &Namespace) -> Result<Vec<String>> {
        let namespace = namespace.clone();
        self.run(move |inner| inner.snapshot(|c| check::check(c, &namespace, &inner.schemas))).await
    }

    async fn close(&self) -> Result<()> {
        self.run(|inner| {
            inner.hints.stop();
            if let Some(readers) = &inner.readers {
                readers.close();
            }
            if let Some(connection) = inner.writer().take() {
                // The last connection to close writes the log back, so that the file alone is the whole store.
                connection.close().map_err(|(_, e)| sql("close")(e))?;
            }
            Ok(())
        })
        .await
    }

    fn local(&self) -> Option<&dyn LocalEngine> {
        Some(self)
    }
}

impl LocalEngine for SqliteEngine {
    fn commit_now(&self, namespace: &Namespace, batch: &[PreparedCommit]) -> Result<Vec<Result<Outcome>>> {
        self.inner.commit(namespace, batch)
    }

    fn read_now(&self, namespace: &Namespace, reads: &[Read]) -> Result<Vec<Answer>> {
        self.inner.read(namespace, reads)
    }

    fn feed_now(&self, namespace: &Namespace, request: &FeedRequest) -> Result<FeedPage> {
        self.inner.snapshot(|c| feed::page(c, namespace, &self.inner.schemas, request))
    }
}
