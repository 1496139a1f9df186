//! What the server is known to be, looked at again while it is used: its settings can be changed while it runs, and a
//! server that crashed can come back with others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millpond_core::{Error, ErrorKind, Examination, HealthCheck, Result};
use tokio::time::Instant;

use super::link::Link;
use super::server::{self, Server};
use super::settings::Demands;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Link,
    cluster: bool,
    demands: Demands,
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    server: Server,
    /// Why it may not be written to any more, and what to do about it.
    refusal: Option<(String, String)>,
    next: Instant,
}

impl Live {
    /// Looks at the server, and refuses one that cannot keep a store; looks again after `every`, while it is written to.
    pub(super) async fn open(link: Link, cluster: bool, demands: Demands, every: Duration) -> Result<Self> {
        let server = server::look(&link, cluster, demands).await?;
        let state = Mutex::new(State { server, refusal: None, next: Instant::now() + every });
        Ok(Self(Arc::new(Inner { link, cluster, demands, every, state })))
    }

    /// What doctor says of the server now. One that would be refused is told of, too.
    pub(super) async fn examine(&self) -> Result<Examination> {
        let inner = &self.0;
        let answers = server::ask(&inner.link, inner.cluster).await?;
        let examined = answers.examination(inner.demands);
        Ok(match server::clock(&inner.link).await {
            Ok(clock) => examined.reading(Some(clock)),
            Err(error) => examined.with(HealthCheck::problem("server_clock", &error)),
        })
    }

    /// What was seen last.
    pub(super) fn server(&self) -> Server {
        self.0.state().server.clone()
    }

    /// Refuses when the server does not keep any more what it has to. Begins to look again where that is due, and does
    /// not wait for it.
    pub(super) fn check(&self) -> Result<()> {
        let mut state = self.0.state();
        let now = Instant::now();
        if now >= state.next {
            // Nobody else begins another meanwhile.
            state.next = now + self.0.every;
            let inner = Arc::clone(&self.0);
            self.0.link.spawn(async move { inner.look().await })?;
        }
        match &state.refusal {
            Some((message, next)) => Err(Error::new(ErrorKind::Unsupported, message.clone()).with_next(next.clone())),
            None => Ok(()),
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self) {
        let found = server::look(&self.link, self.cluster, self.demands).await;
        let mut state = self.state();
        match found {
            Ok(server) => {
                if server.durability < state.server.durability {
                    tracing::warn!(from = %state.server.durability, to = %server.durability, "the Redis server keeps less than before");
                }
                state.server = server;
                state.refusal = None;
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                state.refusal = Some((error.message().to_owned(), error.next().unwrap_or_default().to_owned()));
            }
            // It cannot be reached: whoever writes will hear so.
            Err(error) => tracing::debug!(%error, "the Redis server could not be looked at"),
        }
    }
}
