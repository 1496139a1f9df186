//! Waiting for the next entry: the server tells the number of each entry it has stored, without the entry, to whoever
//! listens.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::link::Link;

/// The header in which a server says which message it tells about.
const SEQUENCE: &str = "Nats-Sequence";

/// See the module. Listens from the first question on, as long as it lives.
#[derive(Debug)]
pub(super) struct Hint {
    subject: String,
    /// The last number that was told.
    seen: Arc<watch::Sender<u64>>,
    connected: watch::Receiver<u64>,
    listening: Mutex<Option<AbortHandle>>,
}

impl Hint {
    pub(super) fn new(link: &Link, subject: String) -> Self {
        Self { subject, seen: Arc::default(), connected: link.connected(), listening: Mutex::default() }
    }

    /// Returns when something may follow `after`; also when that is not known, because listening has just begun or the
    /// connection was made again.
    pub(super) async fn changed(&self, link: &Link, after: u64) {
        if !self.is_listening() {
            self.listen(link).await;
            return;
        }
        let (mut seen, mut connected) = (self.seen.subscribe(), self.connected.clone());
        connected.borrow_and_update();
        tokio::select! {
            _ = seen.wait_for(|seen| *seen > after) => {}
            _ = connected.changed() => {}
        }
    }

    fn is_listening(&self) -> bool {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.as_ref().is_some_and(|task| !task.is_finished())
    }

    async fn listen(&self, link: &Link) {
        let mut told = match link.client().subscribe(self.subject.clone()).await {
            Ok(told) => told,
            // The connection is closed; whoever asks next hears of it.
            Err(error) => return tracing::debug!(%error, "nats: cannot listen"),
        };
        let seen = Arc::clone(&self.seen);
        let task = link.runtime().spawn(async move {
            while let Some(message) = told.next().await {
                let number = message.headers.as_ref().and_then(|h| h.get(SEQUENCE)?.as_str().parse::<u64>().ok());
                if let Some(number) = number {
                    seen.send_if_modified(|last| {
                        let newer = number > *last;
                        *last = (*last).max(number);
                        newer
                    });
                }
            }
        });
        let before = self.listening.lock().unwrap_or_else(PoisonError::into_inner).replace(task.abort_handle());
        if let Some(before) = before {
            before.abort();
        }
    }
}

impl Drop for Hint {
    fn drop(&mut self) {
        if let Some(task) = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}
