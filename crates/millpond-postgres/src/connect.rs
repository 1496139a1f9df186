//! Connections: how one is made, and the pool that keeps them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType};
use millpond_core::{Error, Result};
use tokio_postgres::{Client, Config, Error as PgError};

use crate::errors::{Failure, failure};
use crate::hosts::{Driven, Hosts};
use crate::server::Server;
use crate::session::{LocalSettings, Session};
use crate::settings::Settings;
use crate::tls::Tls;
use crate::wire::Wire;

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    opened: AtomicU64,
    pipelines: AtomicU64,
    alone: AtomicU64,
}

impl Counters {
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(crate) fn pipelines(&self) -> u64 {
        self.pipelines.load(Ordering::Relaxed)
    }

    pub(crate) fn pipelined(&self) {
        self.pipelines.fetch_add(1, Ordering::Relaxed);
    }

    /// The server answered a commit without the standby it should have waited for.
    pub(crate) fn went_alone(&self) {
        self.alone.fetch_add(1, Ordering::SeqCst);
    }

    /// Commits that the server answered without the standby it should have waited for.
    pub(crate) fn alone(&self) -> u64 {
        self.alone.load(Ordering::SeqCst)
    }
}

/// Makes connections, counts them, and looks at those that are to be used again.
pub(crate) struct Maker {
    config: Config,
    tls: Tls,
    hosts: Arc<Hosts>,
    counters: Arc<Counters>,
}

impl Manager for Maker {
    type Type = Wire;
    type Error = PgError;

    async fn create(&self) -> std::result::Result<Wire, PgError> {
        // Boxed: every call carries the room for it, and few make a connection.
        let connected = Box::pin(self.hosts.connect(&self.config, &self.tls)).await?;
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Wire::new(connected, Arc::clone(&self.counters)))
    }

    async fn recycle(&self, wire: &mut Wire, _: &Metrics) -> RecycleResult<PgError> {
        if wire.stands().await { Ok(()) } else { Err(RecycleError::message("the connection has ended")) }
    }
}

/// A connection out of the pool.
pub(crate) type Taken = Object<Maker>;

/// The connections of one engine.
pub(crate) struct Connections {
    pool: Pool<Maker>,
    settings: Settings,
    local: LocalSettings,
    hosts: Arc<Hosts>,
    server: Mutex<Option<Server>>,
    pub(crate) counters: Arc<Counters>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The driver's own form would be long; no form of it may show a password.
        f.debug_struct("Connections").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Connections {
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let (counters, hosts) = (Arc::new(Counters::default()), Arc::new(Hosts::default()));
        let maker = Maker {
            config: settings.config.clone(),
            tls: settings.tls.clone(),
            hosts: Arc::clone(&hosts),
            counters: Arc::clone(&counters),
        };
        let pool = Pool::builder(maker)
            .max_size(settings.pool)
            // The connection used last is the one whose process is warm.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(settings.calls.timeout))
            .create_timeout(Some(settings.calls.timeout))
            .build()
            .map_err(|e| Error::invalid("the pool of connections cannot be made").with_source(e))?;
        let local = settings.local_settings();
        Ok(Self { pool, settings: settings.clone(), local, hosts, server: Mutex::default(), counters })
    }

    /// A connection, an idle one if there is one. The server behind a new one may be another than before: it is asked
    /// whether it keeps what is promised.
    pub(crate) async fn session(&self) -> Result<Session, Failure> {
        let object = self.pool.get().await.map_err(taking)?;
        let is_new = Object::metrics(&object).recycled.is_none();
        let mut session = self.wrap(object);
        if is_new {
            let asked = Server::ask(&mut session).await;
            match asked.and_then(|server| server.check(&self.settings).map(|()| server)) {
                Ok(server) => *self.lock_server() = Some(server),
                Err(failure) => {
                    session.close();
                    return Err(failure);
                }
            }
        }
        Ok(session)
    }

    /// A connection to a server that is asked what it is, whether it would be refused or not. `true` for a new one, which
    /// nothing else may use: close it.
    pub(crate) async fn unjudged(&self) -> Result<(Session, bool), Failure> {
        let object = self.pool.get().await.map_err(taking)?;
        let is_new = Object::metrics(&object).recycled.is_none();
        Ok((self.wrap(object), is_new))
    }

    /// What the server of the newest connection said about itself.
    pub(crate) fn server(&self) -> Option<Server> {
        self.lock_server().clone()
    }

    fn lock_server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection outside the pool.
    pub(crate) async fn apart(&self) -> Result<(Client, Driven), Failure> {
        self.hosts.connect(&self.settings.config, &self.settings.tls).await.map_err(failure)
    }

    /// Whether the server still answers somebody new: not if it stays silent, or another one has taken its place.
    pub(crate) async fn answers(&self, most: Duration) -> bool {
        let before = self.hosts.at();
        match tokio::time::timeout(most, self.hosts.connect(&self.settings.config, &self.settings.tls)).await {
            Ok(Ok(_)) => self.hosts.at() == before,
            // To say that it has no room for more is an answer.
            Ok(Err(error)) => error.as_db_error().is_some(),
            Err(_) => false,
        }
    }

    /// An answer never came: closes the connections that nobody uses, and looks elsewhere for new ones first.
    pub(crate) fn give_up_idle(&self) {
        self.hosts.turn_away();
        drop(self.pool.retain(|_, _| false));
    }

    fn wrap(&self, object: Taken) -> Session {
        Session::new(object, self.local.clone(), Arc::clone(&self.counters))
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

fn taking(error: PoolError<PgError>) -> Failure {
    match error {
        PoolError::Backend(error) => failure(error),
        PoolError::Closed => Failure::Final(Error::unavailable("the store was closed").with_next("open it again")),
        PoolError::Timeout(TimeoutType::Wait) => Failure::Lost(
            Error::unavailable("every connection of the pool stayed in use")
                .with_next("raise `pool` in the URL, or ask for less at once"),
        ),
        other => Failure::Lost(Error::unavailable("no connection to PostgreSQL").with_source(other.to_string())),
    }
}
