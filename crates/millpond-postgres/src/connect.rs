//! Connections: how one is made, and the pool that keeps them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType};
use millpond_core::{Error, Result};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error as PgError};

use crate::errors::{Failure, failure};
use crate::session::{LocalSettings, Session};
use crate::settings::Settings;
use crate::tls::Tls;

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    opened: AtomicU64,
    pipelines: AtomicU64,
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
}

/// Makes connections, and counts them.
struct Connector {
    tls: Tls,
    counters: Arc<Counters>,
}

type Connecting<'a> = Pin<Box<dyn Future<Output = std::result::Result<(Client, JoinHandle<()>), PgError>> + Send + 'a>>;

impl Connect for Connector {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(self.tls.clone()).await?;
            self.counters.opened.fetch_add(1, Ordering::Relaxed);
            // Its error reaches whoever waits for an answer, and the pool sees that the connection is closed.
            let task = tokio::spawn(async move { drop(connection.await) });
            Ok((client, task))
        })
    }
}

/// The connections of one engine.
pub(crate) struct Connections {
    pool: Pool,
    local: LocalSettings,
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
        let counters = Arc::new(Counters::default());
        let connector = Connector { tls: settings.tls.clone(), counters: Arc::clone(&counters) };
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(settings.config.clone(), connector, config);
        let pool = Pool::builder(manager)
            .max_size(settings.pool)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(settings.patience))
            .create_timeout(Some(settings.patience))
            .build()
            .map_err(|e| Error::invalid("the pool of connections cannot be made").with_source(e))?;
        Ok(Self { pool, local: settings.local_settings(), counters })
    }

    /// A connection, an idle one if there is one.
    pub(crate) async fn session(&self) -> Result<Session, Failure> {
        let object = self.pool.get().await.map_err(taking)?;
        Ok(self.wrap(object))
    }

    fn wrap(&self, object: Object) -> Session {
        Session::new(object, self.local.clone(), Arc::clone(&self.counters))
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

fn taking(error: PoolError) -> Failure {
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
