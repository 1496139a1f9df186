//! Trying again: with a limit, growing pauses, and a deadline.

use std::future::Future;
use std::time::Duration;

use millpond_core::{Error, Host, Result};
use tokio::time::Instant;

use crate::connect::Connections;
use crate::errors::Failure;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The attempts of one call.
pub(crate) struct Retry<'h> {
    host: &'h dyn Host,
    connections: &'h Connections,
    deadline: Instant,
    most: Duration,
    pause: Duration,
    last: Option<Error>,
}

impl<'h> Retry<'h> {
    /// Attempts until a deadline, none of which takes longer than half of the time there is: a server that went away
    /// without a word leaves time to find the one that took over.
    pub(crate) fn new(host: &'h dyn Host, connections: &'h Connections, patience: Duration) -> Self {
        Self { host, connections, deadline: Instant::now() + patience, most: patience / 2, pause: FIRST_PAUSE, last: None }
    }

    /// The same for work that reads or writes a whole store: it may take all the time there is.
    pub(crate) fn long(self) -> Self {
        let most = self.deadline.saturating_duration_since(Instant::now());
        Self { most, ..self }
    }

    /// Runs one attempt, cut off when it takes too long. Cut off, it counts as lost: the attempt has to know by itself
    /// what it had sent. Whatever kept it from an answer may keep every connection from one that was open by then.
    pub(crate) async fn attempt<T>(&self, attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let end = self.deadline.min(Instant::now() + self.most);
        if let Ok(result) = tokio::time::timeout_at(end, attempt).await {
            return result;
        }
        self.connections.give_up_idle();
        Err(Failure::Lost(Error::unavailable("PostgreSQL did not answer in time").with_next("try again")))
    }

    /// Pauses before the next attempt. The error to answer when there is no time for another.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<()> {
        // Random, so that callers who were stopped together do not come back together.
        let part = (self.host.random() % 1_000) as u32;
        let pause = self.pause / 2 + self.pause / 2 * part / 1_000;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if Instant::now() + pause >= self.deadline {
            // The last attempt was often cut off; the one before says more about the cause.
            return Err(self.last.take().filter(|_| error.message().contains("in time")).unwrap_or(error));
        }
        self.last = Some(error);
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
