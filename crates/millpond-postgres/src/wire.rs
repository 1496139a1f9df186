//! One connection, driven by whoever uses it.
//!
//! The driver's own way is a task for each connection, and two channels between it and those who ask. On a machine with
//! an idle core every question then wakes another thread, which costs more than the question. Here the task that asks
//! writes and reads by itself; nobody drives a connection that nobody uses, and who takes it from the pool looks first
//! whether it still stands.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Error as PgError, Statement};

use crate::connect::Counters;
use crate::hosts::Driven;

/// Statements kept on a connection. Applications have some dozens; past this all are given up and made as they come.
const STATEMENTS: usize = 512;
/// Turns that one poll takes before it lets others run.
const TURNS: usize = 8;

/// A connection, with the statements that were prepared on it.
pub(crate) struct Wire {
    client: Client,
    /// `None` once it has ended.
    connection: Option<Driven>,
    statements: HashMap<String, Statement>,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
}

impl Wire {
    pub(crate) fn new((client, connection): (Client, Driven), counters: Arc<Counters>) -> Self {
        Self { client, connection: Some(connection), statements: HashMap::new(), gate: Arc::default(), counters }
    }

    /// Whether it still stood when the server was last heard of, which is now if it has said anything.
    pub(crate) async fn stands(&mut self) -> bool {
        // Polled once, for whoever uses the connection next.
        let waker = Waker::from(Arc::clone(&self.gate));
        listen(&mut self.connection, &self.counters, &mut Context::from_waker(&waker));
        self.connection.is_some()
    }

    /// The statement of a text, prepared if it was not.
    pub(crate) async fn prepared(&mut self, text: &str, types: &[Type]) -> Result<Statement, PgError> {
        if let Some(known) = self.statements.get(text)
            && known.params() == types
        {
            return Ok(known.clone());
        }
        let statement = self.drive(|client| client.prepare_typed(text, types)).await?;
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Runs what a client is asked for, and the connection beneath it. It waits for nothing but this connection.
    pub(crate) async fn drive<'c, F: Future>(&'c mut self, ask: impl FnOnce(&'c Client) -> F) -> F::Output {
        let Self { client, connection, gate, counters, .. } = self;
        let mut asked = pin!(ask(client));
        let waker = Waker::from(Arc::clone(gate));
        poll_fn(|task| {
            let mut inner = Context::from_waker(&waker);
            gate.enter(task.waker());
            for _ in 0..TURNS {
                if let Poll::Ready(answer) = asked.as_mut().poll(&mut inner) {
                    gate.leave();
                    return Poll::Ready(answer);
                }
                listen(connection, counters, &mut inner);
                // What has just been heard may be the answer; only what woke us since needs another turn.
                if let Poll::Ready(answer) = asked.as_mut().poll(&mut inner) {
                    gate.leave();
                    return Poll::Ready(answer);
                }
                if gate.rest() {
                    return Poll::Pending;
                }
            }
            task.waker().wake_by_ref();
            gate.away();
            Poll::Pending
        })
        .await
    }
}

/// Writes and reads as far as that goes now. A connection that has ended is dropped: then all who wait on it are told.
///
/// A server whose wait for a standby is cancelled answers COMMIT as if nothing had happened, after a warning: that is
/// the one notice that matters. It comes before the answer, so it is counted before anybody hears of the commit.
fn listen(connection: &mut Option<Driven>, counters: &Counters, context: &mut Context<'_>) {
    while let Some(open) = connection {
        match open.poll_message(context) {
            Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) if notice.routine() == Some("SyncRepWaitForLSN") => {
                counters.went_alone();
            }
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(_)) | None) => *connection = None,
            Poll::Pending => return,
        }
    }
}

/// Takes the calls that wake a task: while the task runs anyway they are noted, otherwise they are passed on.
///
/// The client wakes whoever drives its connection each time it is asked, and is itself woken by every answer. Both are
/// the task that is running, which would be queued again for each.
#[derive(Default)]
struct Gate {
    state: AtomicU8,
    task: AtomicWaker,
}

const AWAY: u8 = 0;
const INSIDE: u8 = 1;
const CALLED: u8 = 2;

impl Gate {
    /// The task runs.
    fn enter(&self, task: &Waker) {
        self.task.register(task);
        self.state.store(INSIDE, Ordering::SeqCst);
    }

    /// The task waits.
    fn away(&self) {
        self.state.store(AWAY, Ordering::SeqCst);
    }

    /// The task goes on with something else, and is not called any more.
    fn leave(&self) {
        self.away();
        drop(self.task.take());
    }

    /// Whether the task may rest; not if it was called since it last asked.
    fn rest(&self) -> bool {
        let quiet = self.state.compare_exchange(INSIDE, AWAY, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if !quiet {
            // Exchanged, not only stored: the next turn sees all that was done before any call.
            self.state.swap(INSIDE, Ordering::SeqCst);
        }
        quiet
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| (state != AWAY).then_some(CALLED));
        if noted.is_err() {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_call_is_noted_inside_and_passed_on_outside() {
        let (count, gate) = (Arc::new(Count::default()), Arc::new(Gate::default()));
        let (task, call) = (Waker::from(Arc::clone(&count)), Waker::from(Arc::clone(&gate)));
        gate.enter(&task);
        call.wake_by_ref();
        assert!(!gate.rest(), "a call while the task ran was lost");
        assert!(gate.rest(), "one call kept the task from resting for ever");
        assert_eq!(count.0.load(Ordering::SeqCst), 0, "the running task was queued again");
        call.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "a call to a resting task was lost");
        gate.enter(&task);
        gate.away();
        call.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        gate.enter(&task);
        gate.leave();
        call.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 2, "a task that has its answer was called");
    }
}
