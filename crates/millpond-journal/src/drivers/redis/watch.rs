//! Waiting for the next entry: one connection blocks on the stream for all who wait on it in this process.

use std::time::Duration;

use millpond_core::Result;
use tokio::sync::{Mutex, watch};

use super::link::{Connection, Link};

/// How long one question blocks.
const BLOCK: Duration = Duration::from_secs(2);
/// The pause after a question that failed: it is a hint, and others are at work on the connection.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Watch {
    link: Link,
    log: String,
    /// The last number seen here.
    seen: watch::Sender<u64>,
    /// Held by the one who asks for all; taken out while a question is open, so that one who leaves closes it.
    connection: Mutex<Option<Connection>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn new(link: Link, log: String) -> Self {
        Self { link, log, seen: watch::Sender::new(0), connection: Mutex::default() }
    }

    /// An entry is known to be there.
    pub(super) fn saw(&self, number: u64) {
        self.seen.send_if_modified(|seen| {
            let newer = number > *seen;
            *seen = (*seen).max(number);
            newer
        });
    }

    /// Returns when something may follow `after`.
    pub(super) async fn changed(&self, after: u64) {
        let mut seen = self.seen.subscribe();
        tokio::select! {
            _ = seen.wait_for(|seen| *seen > after) => {}
            () = self.ask(after) => {}
        }
    }

    async fn ask(&self, after: u64) {
        let mut held = self.connection.lock().await;
        match self.block(held.take(), after).await {
            Ok((connection, found)) => {
                *held = Some(connection);
                if found {
                    self.saw(after + 1);
                }
            }
            Err(error) => {
                tracing::debug!(%error, stream = %self.log, "waiting for an entry failed");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }

    async fn block(&self, connection: Option<Connection>, after: u64) -> Result<(Connection, bool)> {
        let mut command = redis::cmd("XREAD");
        // After the entry itself and before its mark, which is small.
        command.arg("COUNT").arg(1).arg("BLOCK").arg(BLOCK.as_millis() as u64);
        command.arg("STREAMS").arg(&self.log).arg(format!("{}-0", after + 1));
        let link = self.link.clone();
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.link.run(async move { link.own_connection(BLOCK).await }).await?,
        };
        let answer = connection.ask(&command).await?;
        Ok((connection, answer != redis::Value::Nil))
    }
}
