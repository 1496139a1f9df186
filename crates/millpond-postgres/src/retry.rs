//! Trying again: with a limit, growing pauses, and a deadline.

use std::future::Future;
use std::time::Duration;

use millpond_core::{Error, Host, Result};
use tokio::time::Instant;

use crate::errors::Failure;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The attempts of one call.
pub(crate) struct Retry<'h> {
    host: &'h dyn Host,
    deadline: Instant,
    pause: Duration,
    last: Option<Error>,
}

impl<'h> Retry<'h> {
    pub(crate) fn new(host: &'h dyn Host, patience: Duration) -> Self {
        Self { host, deadline: Instant::now() + patience, pause: FIRST_PAUSE, last: None }
    }

    /// Runs one attempt, cut off at the deadline. Cut off, it counts as lost: the attempt has to know by itself
    /// what it had sent.
    pub(crate) async fn attempt<T>(&self, attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match tokio::time::timeout_at(self.deadline, attempt).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Lost(Error::unavailable("PostgreSQL did not answer in time").with_next("try again"))),
        }
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
