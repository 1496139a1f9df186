//! The engine: what each call sends to the server, and what of it may be sent again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use millpond_core::{
    Answer, Breaker, Catalog, CollectionSpec, CommitId, Durability, Engine, EngineInfo, Error, ErrorKind, Examination, FeedPage,
    FeedRequest, HealthCheck, Host, LocalEngine, Namespace, NamespaceInfo, NamespaceStatus, Outcome, Position, PreparedCommit,
    Probing, Purged, Read, Receipt, Record, RecordId, Result, SystemHost, Timestamp,
};
use tokio_postgres::Row;

use crate::call::Call;
use crate::catalog::{self, Schema, Schemas};
use crate::connect::Connections;
use crate::errors::Failure;
use crate::hint::{self, Hints};
use crate::long::Long;
use crate::namespaces::{self, NamespaceRow, existing, find_call, found, lock_call};
use crate::read::{Question, get_call, record};
use crate::retry::Retry;
use crate::server::Server;
use crate::session::Session;
use crate::settings::{Pooler, Settings};
use crate::{check, commit, declare, feed, load, purge, schema, sent};

/// How to open a store.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Randomness, for ids and pauses. The clock is the server's.
    pub host: Arc<dyn Host>,
    /// Whether the tables are made where there are none, or brought to this program's format. If not, a database
    /// without them is `NotFound`.
    pub create: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { host: Arc::new(SystemHost), create: true }
    }
}

/// What the engine did so far: counts that do not depend on a machine's speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostgresStats {
    /// Connections opened for the pool.
    pub connections: u64,
    /// Round trips that carried statements; preparing a statement for the first time is not counted.
    pub round_trips: u64,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) schema: String,
    breaker: Breaker,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) connections: Connections,
    pub(crate) schemas: Schemas,
    pub(crate) hints: Hints,
    pub(crate) transaction_pooler: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("settings", &self.settings).field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// A PostgreSQL store. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct PostgresEngine {
    inner: Arc<Inner>,
}

/// Makes the tables of a store, and those of these declarations: what needs the right to change tables. A role
/// without that right can open the store afterwards. Safe to run while programs use the store, and to run again.
///
/// # Errors
/// `Invalid` for a URL that cannot be read, `Unsupported` for a newer format or a role without the right,
/// `Unavailable` when the server does not answer.
pub async fn migrate(url: &str, specs: &[CollectionSpec]) -> Result<()> {
    for spec in specs {
        spec.check()?;
    }
    let settings = Settings::parse(url)?;
    let connections = Connections::new(&settings)?;
    let host = SystemHost;
    let work = || async {
        schema::migrate(&connections, &settings.schema).await?;
        declare::make_tables(&connections, &settings.schema, specs).await
    };
    let retry = Retry::new(&host, &connections, &settings.calls);
    retrying(retry, Some(Long::of(&connections, &settings)), work).await.map_err(|e| e.during("migrate"))
}

/// Runs work that may be done twice until it is answered, or the patience is at its end. Long work has a limit of its
/// own for each attempt, and patience only for what comes between attempts.
async fn retrying<T, F>(mut retry: Retry<'_>, long: Option<Long<'_>>, mut work: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut unknown = false;
    loop {
        // In a box: these futures are deep, and a debug build would copy them through each layer on the stack.
        let attempt = async {
            match &long {
                Some(long) => long.attempt(Box::pin(work())).await,
                None => retry.attempt(Box::pin(work())).await,
            }
        };
        let error = match sent::watched(attempt).await {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(if unknown { undecided(error) } else { error }),
            Err(Failure::Lost(error)) => error,
            Err(Failure::Unknown(error)) => {
                unknown = true;
                error
            }
        };
        if let Err(error) = retry.pause(error, unknown).await {
            return Err(if unknown { undecided(error) } else { error });
        }
    }
}

/// The error of a later attempt, when an earlier one may have been applied. What the store itself answered, it
/// answered with that attempt behind it; anything else says nothing about that attempt.
pub(crate) fn undecided(error: Error) -> Error {
    use ErrorKind::{Conflict, Invalid, NotFound, UnknownOutcome};
    if matches!(error.kind(), Conflict | NotFound | Invalid | UnknownOutcome) {
        return error;
    }
    Error::new(ErrorKind::UnknownOutcome, "PostgreSQL did not say what became of the request")
        .with_source(error)
        .with_next("ask for it again: done twice, it is as if done once")
}

impl PostgresEngine {
    /// Opens a store by its URL; `docs/postgres.md` lists the parameters.
    ///
    /// # Errors
    /// `Invalid` for a URL that cannot be read, `NotFound` when there are no tables and none are to be made,
    /// `Unsupported` for a newer format or a server that cannot keep what would be promised, `Unavailable` when the
    /// server does not answer.
    pub async fn open(url: &str, options: PostgresOptions) -> Result<Self> {
        let settings = Settings::parse(url)?;
        let connections = Connections::new(&settings)?;
        let work = || Self::prepare(&connections, &settings, options.create);
        let retry = Retry::new(&*options.host, &connections, &settings.calls).long();
        retrying(retry, None, work).await.map_err(|e| e.during("open"))?;
        let inner = Inner {
            schema: settings.schema.clone(),
            breaker: Breaker::new(settings.location(), &settings.calls),
            host: options.host,
            connections,
            schemas: Schemas::default(),
            hints: Hints::new(),
            transaction_pooler: settings.pooler == Pooler::Transaction,
            settings,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn prepare(connections: &Connections, settings: &Settings, create: bool) -> Result<(), Failure> {
        let mut session = connections.session().await?;
        let found = schema::format(&mut session, &settings.schema).await?;
        drop(session);
        if found == 0 && !create {
            return Err(Error::not_found(format!("there is no store at {}", settings.location())).into());
        }
        schema::migrate(connections, &settings.schema).await
    }

    /// Counts of what was done.
    pub fn stats(&self) -> PostgresStats {
        let counters = &self.inner.connections.counters;
        PostgresStats { connections: counters.opened(), round_trips: counters.pipelines() }
    }
}

/// Loads of declarations that went by while they were used before the caller is told to try later.
const MOVING: usize = 10;

impl Inner {
    /// The name under which processes tell each other that something was committed.
    pub(crate) fn channel(&self) -> String {
        format!("millpond {}", self.schema)
    }

    /// The attempts of a call that begins now.
    pub(crate) fn retry(&self) -> Retry<'_> {
        Retry::new(&*self.host, &self.connections, &self.settings.calls)
    }

    pub(crate) async fn retrying<T, F>(&self, work: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.breaker.guard(retrying(self.retry(), None, work)).await
    }

    /// The same for work on a whole store in one transaction, which has a limit of its own.
    pub(crate) async fn at_length<T, F>(&self, work: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let long = Long::of(&self.connections, &self.settings);
        self.breaker.guard(retrying(self.retry(), Some(long), work)).await
    }

    /// The namespace's row and declarations, of one moment.
    pub(crate) async fn snapshot_schema(
        &self,
        session: &mut Session,
        namespace: &Namespace,
    ) -> Result<(NamespaceRow, Arc<Schema>), Failure> {
        let mut calls = vec![find_call(namespace)];
        calls.extend(catalog::load_calls(namespace.as_str()));
        let mut answers = session.read(&calls).await?;
        let row = existing(&answers.remove(0), namespace)?;
        let schema = match self.schemas.current(&row) {
            Some(schema) => schema,
            None => self.schemas.learn(&row, catalog::read(&row, &answers)?),
        };
        Ok((row, schema))
    }

    /// Asks statements that depend on the declarations, in one snapshot with the namespace's row: one round trip while
    /// the declarations last known are the ones in force.
    async fn ask(
        &self,
        namespace: &Namespace,
        make: impl Fn(&Schema) -> Result<Vec<Call<'static>>>,
    ) -> Result<(NamespaceRow, Arc<Schema>, Vec<Vec<Row>>), Failure> {
        let mut session = self.connections.session().await?;
        for _ in 0..MOVING {
            // What cannot be asked by old declarations may be by new ones, and the other way round.
            let known = self.schemas.known(namespace).and_then(|schema| Some((make(&schema).ok()?, schema)));
            let (calls, schema) = match known {
                Some(known) => known,
                None => {
                    let (_, schema) = self.snapshot_schema(&mut session, namespace).await?;
                    (make(&schema)?, schema)
                }
            };
            let mut all: Vec<Call<'_>> = vec![find_call(namespace)];
            all.extend(calls);
            let mut answers = session.read(&all).await?;
            let row = existing(&answers.remove(0), namespace)?;
            if schema.is_of(&row) {
                return Ok((row, schema, answers));
            }
            self.snapshot_schema(&mut session, namespace).await?;
        }
        Err(Failure::Lost(Error::unavailable("the declarations changed again and again while they were read")))
    }

    async fn read(&self, namespace: &Namespace, reads: &[Read]) -> Result<Vec<Answer>, Failure> {
        if let [Read::Get(id)] = reads
            && let Some(found) = self.find(namespace, id).await?
        {
            return Ok(vec![Answer::Record(Some(found))]);
        }
        let questions = |schema: &Schema| reads.iter().map(|r| Question::of(schema, r)).collect::<Result<Vec<_>>>();
        let calls = |schema: &Schema| Ok(questions(schema)?.into_iter().flat_map(|q| q.calls).collect());
        let (_, schema, rows) = self.ask(namespace, calls).await?;
        let mut rows = rows.into_iter();
        let mut answers = Vec::with_capacity(reads.len());
        for question in questions(&schema)? {
            let own = rows.by_ref().take(question.calls.len()).collect();
            answers.push(question.answer(own)?);
        }
        Ok(answers)
    }

    /// A record by key in one statement, by the declarations last known here.
    ///
    /// What is found is right: namespace numbers are never used twice, and a record is in one table at a time. What is
    /// not found may be elsewhere by now (another process may have declared the collection), so `None` proves nothing.
    async fn find(&self, namespace: &Namespace, id: &RecordId) -> Result<Option<Record>, Failure> {
        let Some(schema) = self.schemas.known(namespace) else { return Ok(None) };
        let call = get_call(schema.ns, &schema.table(&id.collection), &id.key);
        let rows = self.connections.session().await?.one(&call).await?;
        Ok(rows.first().map(|r| record(r, id)).transpose()?)
    }

    async fn feed(&self, namespace: &Namespace, request: &FeedRequest) -> Result<FeedPage, Failure> {
        let (row, _, answers) = self.ask(namespace, |schema| feed::calls(schema, request)).await?;
        Ok(feed::page(&row, request, &answers)?)
    }

    /// Under the namespace's lock, because a commit whose answer was lost may still be on its way: behind the lock it
    /// has come or is gone.
    async fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>, Failure> {
        let mut session = self.connections.session().await?;
        let rows = session.begin(&[lock_call(namespace)]).await?;
        let found = async {
            let row = existing(rows.first().map_or(&[], Vec::as_slice), namespace)?;
            let rows = session.run(&[load::receipts_call(row.id, &[id])]).await?;
            let receipt = rows.iter().flatten().next().map(|r| load::receipt(r, id)).transpose()?;
            Ok((row, receipt.map(|stored| stored.receipt)))
        };
        match found.await {
            // To say that it was committed is to acknowledge it.
            Ok((row, Some(receipt))) => commit::vouch(&mut session, &row).await.map(|()| Some(receipt)),
            other => {
                session.rollback().await;
                other.map(|_| None)
            }
        }
    }

    /// Deletes a namespace. `asked` stays set from the moment its COMMIT may have been sent.
    async fn delete(&self, namespace: &Namespace, store_id: &str, asked: &AtomicBool) -> Result<(), Failure> {
        let mut session = self.connections.session().await?;
        let rows = session.begin(&[lock_call(namespace)]).await?;
        let calls = async {
            let row = existing(rows.first().map_or(&[], Vec::as_slice), namespace)?;
            namespaces::confirm(&row, namespace, store_id)?;
            let schema = self.schemas.of(&mut session, &row).await?;
            Ok(namespaces::deletion(&row, &schema))
        };
        match calls.await {
            Ok(calls) => {
                // Set before, because an attempt whose time is up is dropped in the middle.
                let before = asked.swap(true, Ordering::Relaxed);
                let deleted = session.commit(&calls).await.map(drop);
                if matches!(deleted, Err(Failure::Final(_) | Failure::Lost(_))) {
                    asked.store(before, Ordering::Relaxed);
                }
                deleted
            }
            Err(failure) => {
                session.rollback().await;
                Err(failure)
            }
        }
    }
}

#[async_trait]
impl Engine for PostgresEngine {
    fn info(&self) -> EngineInfo {
        let inner = &self.inner;
        let server = inner.connections.server();
        let mut facts = server.as_ref().map(Server::facts).unwrap_or_default();
        if inner.transaction_pooler {
            facts.push(("pooler", "transaction".to_owned()));
        }
        let durability = server.map_or(Durability::Memory, |server| server.durability());
        EngineInfo { kind: "postgres", location: inner.settings.location(), durability, facts }
    }

    async fn examine(&self, _: Probing) -> Result<Examination> {
        let inner = &self.inner;
        let work = || async {
            let (mut session, is_new) = inner.connections.unjudged().await?;
            let asked = async {
                let server = Server::ask(&mut session).await?;
                Ok((server, schema::version(&mut session, &inner.settings.schema).await?))
            };
            let asked = asked.await;
            // The pool gives out what it has as judged.
            if is_new {
                session.close();
            }
            asked
        };
        let (server, format) = inner.retrying(work).await.map_err(|e| e.during("examine"))?;
        let schema = HealthCheck::schema(u64::try_from(format).unwrap_or(0), u64::try_from(schema::FORMAT).unwrap_or(0));
        Ok(server.examination(&inner.settings).with(schema))
    }

    fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.inner.host)
    }

    async fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        let inner = &self.inner;
        let work = || async { namespaces::list(&mut inner.connections.session().await?).await };
        inner.retrying(work).await.map_err(|e| e.during("namespaces"))
    }

    async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceInfo>> {
        let inner = &self.inner;
        let work = || async {
            let rows = inner.connections.session().await?.one(&find_call(namespace)).await?;
            Ok(found(&rows)?.map(|row| row.info()))
        };
        inner.retrying(work).await.map_err(|e| e.during("namespace"))
    }

    async fn create_namespace(&self, namespace: &Namespace) -> Result<NamespaceInfo> {
        let inner = &self.inner;
        // Made once, so that an attempt whose answer was lost is known again.
        let store_id = millpond_core::uuid_v7(&*inner.host).to_string();
        let work = || async { namespaces::create(&mut inner.connections.session().await?, namespace, &store_id).await };
        inner.retrying(work).await.map_err(|e| e.during("namespaces.create"))
    }

    async fn set_status(&self, namespace: &Namespace, status: NamespaceStatus) -> Result<NamespaceInfo> {
        let inner = &self.inner;
        let work = || async { namespaces::set_status(&mut inner.connections.session().await?, namespace, &status).await };
        inner.retrying(work).await.map_err(|e| e.during("namespaces.status"))
    }

    async fn delete_namespace(&self, namespace: &Namespace, store_id: &str) -> Result<()> {
        let inner = &self.inner;
        let asked = AtomicBool::new(false);
        let work = || async {
            let before = asked.load(Ordering::Relaxed);
            match inner.delete(namespace, store_id, &asked).await {
                // An attempt that was not answered has deleted it.
                Err(Failure::Final(error)) if error.is_not_found() && before => Ok(()),
                other => other,
            }
        };
        inner.at_length(work).await.map_err(|e| e.during("namespaces.delete"))?;
        inner.schemas.forget(namespace);
        Ok(())
    }

    async fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        let inner = &self.inner;
        let begun = AtomicBool::new(false);
        let declared = async {
            declare::declare(inner, namespace, specs, &begun).await?;
            self.catalog(namespace).await
        };
        // Once something is written down, "not applied" would not be true any more.
        let told = |error| if begun.load(Ordering::Relaxed) { undecided(error) } else { error };
        declared.await.map_err(|error| told(error).during("declare"))
    }

    async fn catalog(&self, namespace: &Namespace) -> Result<Arc<Catalog>> {
        let inner = &self.inner;
        let work = || async {
            let mut session = inner.connections.session().await?;
            Ok(Arc::clone(&inner.snapshot_schema(&mut session, namespace).await?.1.shown_catalog))
        };
        inner.retrying(work).await.map_err(|e| e.during("catalog"))
    }

    async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        hint::start_sending(&self.inner);
        let committing = commit::commit(&self.inner, namespace, &batch);
        self.inner.breaker.guard(committing).await.map_err(|e| e.during("commit"))
    }

    async fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>> {
        self.inner.retrying(|| self.inner.outcome(namespace, id)).await.map_err(|e| e.during("outcome"))
    }

    async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>> {
        self.inner.retrying(|| self.inner.read(namespace, &reads)).await.map_err(|e| e.during("read"))
    }

    async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
        self.inner.retrying(|| self.inner.feed(namespace, &request)).await.map_err(|e| e.during("feed"))
    }

    async fn changed(&self, namespace: &Namespace, after: Position) {
        let mut listener = self.inner.hints.listen();
        hint::start_watching(&self.inner);
        // A commit may have come before we listened.
        match self.namespace(namespace).await {
            Ok(Some(info)) if info.position <= after => listener.hint().await,
            _ => {}
        }
    }

    async fn purge(&self, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
        purge::purge(&self.inner, namespace, before).await.map_err(|e| e.during("purge"))
    }

    async fn check(&self, namespace: &Namespace) -> Result<Vec<String>> {
        self.inner.at_length(|| check::check(&self.inner, namespace)).await.map_err(|e| e.during("check"))
    }

    async fn close(&self) -> Result<()> {
        self.inner.hints.stop();
        self.inner.connections.close();
        Ok(())
    }

    fn local(&self) -> Option<&dyn LocalEngine> {
        None
    }
}
