//! Trying again: as often and as long as the URL says, and as long as it takes to learn what became of a COMMIT.

use std::future::Future;
use std::time::Duration;

use millpond_core::{CallPolicy, Error, Host, Pauses, Result};
use tokio::time::Instant;

use crate::connect::Connections;
use crate::errors::Failure;

/// The attempts of one call.
pub(crate) struct Retry<'h> {
    connections: &'h Connections,
    pauses: Pauses,
    /// For as long as something was sent of which nobody knows what became of it.
    settling: Pauses,
    most: Duration,
    last: Option<Error>,
}

impl<'h> Retry<'h> {
    /// Attempts until a deadline, none of which takes longer than half of the time there is: a server that went away
    /// without a word leaves time to find the one that took over.
    pub(crate) fn new(host: &dyn Host, connections: &'h Connections, calls: &CallPolicy) -> Self {
        let (pauses, settling) = (calls.pauses(host), calls.settling(calls.timeout).pauses(host));
        Self { connections, pauses, settling, most: calls.timeout / 2, last: None }
    }

    /// The same for work that reads or writes a whole store: it may take all the time there is.
    pub(crate) fn long(self) -> Self {
        let most = self.pauses.left();
        Self { most, ..self }
    }

    /// Runs one attempt, cut off when it takes too long. Cut off, it counts as lost: the attempt has to know by itself
    /// what it had sent. Whatever kept it from an answer may keep every connection from one that was open by then.
    pub(crate) async fn attempt<T>(&self, attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let end = self.pauses.deadline().min(Instant::now() + self.most);
        if let Ok(result) = tokio::time::timeout_at(end, attempt).await {
            return result;
        }
        self.connections.give_up_idle();
        Err(Failure::Lost(Error::unavailable("PostgreSQL did not answer in time").with_next("try again")))
    }

    /// Pauses before the next attempt. The error to answer when there is no time for another, or they are used up; an
    /// unknown outcome is worked on however many were asked for.
    pub(crate) async fn pause(&mut self, error: Error, unknown: bool) -> Result<()> {
        let pauses = if unknown { &mut self.settling } else { &mut self.pauses };
        let Some(pause) = pauses.next_pause() else {
            // The last attempt was often cut off; the one before says more about the cause.
            return Err(self.last.take().filter(|_| error.message().contains("in time")).unwrap_or(error));
        };
        self.last = Some(error);
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
