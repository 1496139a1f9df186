//! Work that may take longer than a call's patience: an index, a namespace that is deleted. It has its time as long as
//! the server answers others meanwhile.
//!
//! ```text
//!   work     ├──────────────── one statement, no word from the server ────────────────►
//!   besides  ├── half the patience ── connect ── half the patience ── connect ── …      silence ends the work, too
//! ```

use std::future::Future;
use std::time::Duration;

use millpond_core::Error;

use crate::connect::Connections;
use crate::errors::Failure;
use crate::settings::Settings;

/// What an attempt at long work is given.
pub(crate) struct Long<'c> {
    connections: &'c Connections,
    patience: Duration,
    most: Duration,
}

impl<'c> Long<'c> {
    pub(crate) fn of(connections: &'c Connections, settings: &Settings) -> Self {
        Self { connections, patience: settings.calls.timeout, most: settings.work }
    }

    /// Runs one attempt. Cut off, it counts as lost.
    pub(crate) async fn attempt<T>(&self, attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = tokio::time::timeout(self.most, attempt) => {
                if let Ok(done) = done {
                    return done;
                }
            }
            () = self.silence() => {}
        }
        self.connections.give_up_idle();
        Err(Failure::Lost(Error::unavailable("PostgreSQL did not answer in time").with_next("try again, or raise work_timeout")))
    }

    /// Ends when the server does not answer others either.
    async fn silence(&self) {
        loop {
            tokio::time::sleep(self.patience / 2).await;
            if !self.connections.answers(self.patience / 2).await {
                return;
            }
        }
    }
}
