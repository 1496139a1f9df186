//! Hints that something was committed: in this process at once, between processes by LISTEN and NOTIFY, and by looking
//! at the namespaces' heads now and then, because a notification can be lost.
//!
//! Notifications are sent after the commit, by a task that gathers what was committed meanwhile: many commits, one
//! notification. One inside each commit would make all commits of the database queue behind each other.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_postgres::AsyncMessage;
use tokio_postgres::types::Type;

use crate::call::Call;
use crate::engine::Inner;
use crate::errors::{Failure, failure};

/// Pause after a notification, in which commits gather for the next.
const GATHER: Duration = Duration::from_millis(10);
/// How often heads are looked at while somebody waits and notifications come.
const LOOK: Duration = Duration::from_millis(500);
/// How often where there are none, because a pooler stands in between.
const LOOK_ALONE: Duration = Duration::from_millis(20);
/// Pause before the listening connection is made again.
const AGAIN: Duration = Duration::from_millis(500);

/// Sends in one statement: the setting is the statement's own, and a hint need not be flushed.
const SEND: &str = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, '')";

#[derive(Debug)]
pub(crate) struct Hints {
    sender: watch::Sender<u64>,
    waiting: Arc<AtomicUsize>,
    arrived: Arc<Notify>,
    tasks: Mutex<Tasks>,
    committed: Arc<Committed>,
}

#[derive(Debug, Default)]
struct Tasks {
    watching: Option<JoinHandle<()>>,
    sending: Option<JoinHandle<()>>,
    stopped: bool,
}

/// Namespaces committed to since the last notification.
#[derive(Debug, Default)]
struct Committed {
    namespaces: Mutex<BTreeSet<i64>>,
    wake: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self {
            sender: watch::Sender::new(0),
            waiting: Arc::default(),
            arrived: Arc::default(),
            tasks: Mutex::default(),
            committed: Arc::default(),
        }
    }

    fn changed(&self) {
        self.sender.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Something was committed in this process.
    pub(crate) fn committed(&self, namespace: i64) {
        self.changed();
        lock(&self.committed.namespaces).insert(namespace);
        self.committed.wake.notify_one();
    }

    /// Registers interest. Everything committed after this call wakes the waiter.
    pub(crate) fn listen(&self) -> Listener {
        let receiver = self.sender.subscribe();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_one();
        Listener { receiver, waiting: Arc::clone(&self.waiting) }
    }

    pub(crate) fn stop(&self) {
        let mut tasks = lock(&self.tasks);
        tasks.stopped = true;
        for task in [tasks.watching.take(), tasks.sending.take()].into_iter().flatten() {
            task.abort();
        }
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the task that sends notifications, unless it runs. It lives on the runtime of whoever came first; should
/// that runtime be gone, the next caller starts it anew.
pub(crate) fn start_sending(inner: &Arc<Inner>) {
    if inner.transaction_pooler {
        return;
    }
    let mut tasks = lock(&inner.hints.tasks);
    if tasks.stopped || tasks.sending.as_ref().is_some_and(|t| !t.is_finished()) {
        return;
    }
    let (weak, committed) = (Arc::downgrade(inner), Arc::clone(&inner.hints.committed));
    tasks.sending = Some(tokio::spawn(send(weak, committed)));
}

async fn send(engine: Weak<Inner>, committed: Arc<Committed>) {
    loop {
        committed.wake.notified().await;
        let changed = !std::mem::take(&mut *lock(&committed.namespaces)).is_empty();
        let Some(inner) = engine.upgrade() else { return };
        if changed {
            // A lost hint costs others at most the time until they look for themselves.
            let _ = within(&inner, notify(&inner)).await;
        }
        drop(inner);
        tokio::time::sleep(GATHER).await;
    }
}

/// What comes of something before the patience is at its end: hints go on after a server that hung.
async fn within<T>(inner: &Inner, work: impl Future<Output = Result<T, Failure>>) -> Option<T> {
    let done = tokio::time::timeout(inner.settings.calls.timeout, work).await;
    if done.is_err() {
        inner.connections.give_up_idle();
    }
    done.ok()?.ok()
}

async fn notify(inner: &Inner) -> Result<(), Failure> {
    let mut session = inner.connections.session().await?;
    session.one(&Call::often(SEND).with(Type::TEXT, inner.channel())).await.map(drop)
}

/// Starts the task that hears of other processes' commits, unless it runs.
pub(crate) fn start_watching(inner: &Arc<Inner>) {
    let mut tasks = lock(&inner.hints.tasks);
    if tasks.stopped || tasks.watching.as_ref().is_some_and(|t| !t.is_finished()) {
        return;
    }
    let (waiting, arrived) = (Arc::clone(&inner.hints.waiting), Arc::clone(&inner.hints.arrived));
    tasks.watching = Some(tokio::spawn(watch_heads(Arc::downgrade(inner), waiting, arrived)));
}

/// While somebody waits: hears notifications, and looks at the heads.
async fn watch_heads(engine: Weak<Inner>, waiting: Arc<AtomicUsize>, arrived: Arc<Notify>) {
    let mut ear: Option<Ear> = None;
    let mut seen: Option<String> = None;
    loop {
        if waiting.load(Ordering::SeqCst) == 0 {
            arrived.notified().await;
            continue;
        }
        let Some(inner) = engine.upgrade() else { return };
        if ear.is_none() && !inner.transaction_pooler {
            ear = within(&inner, Ear::open(&inner)).await;
        }
        let now = within(&inner, heads(&inner)).await;
        if now.is_none() || now != seen {
            inner.hints.changed();
        }
        seen = now;
        let pause = if inner.transaction_pooler {
            LOOK_ALONE
        } else if ear.is_some() {
            LOOK
        } else {
            AGAIN
        };
        drop(inner);
        let Some(open) = &mut ear else {
            tokio::time::sleep(pause).await;
            continue;
        };
        match tokio::time::timeout(pause, open.heard.changed()).await {
            Ok(Ok(())) => {
                let Some(inner) = engine.upgrade() else { return };
                inner.hints.changed();
            }
            // The connection is gone: it is made again, and what was missed meanwhile shows in the heads.
            Ok(Err(_)) => ear = None,
            Err(_) => {}
        }
    }
}

/// All heads as one text, to be compared.
async fn heads(inner: &Inner) -> Result<String, Failure> {
    let mut session = inner.connections.session().await?;
    let rows =
        session.one(&Call::often("SELECT coalesce(sum(position), 0)::text || '/' || count(*)::text FROM namespaces")).await?;
    Ok(rows.first().and_then(|r| r.try_get(0).ok()).unwrap_or_default())
}

/// A connection that listens, outside the pool.
struct Ear {
    heard: watch::Receiver<u64>,
    client: tokio_postgres::Client,
    task: JoinHandle<()>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ear {
    async fn open(inner: &Inner) -> Result<Self, Failure> {
        let (client, mut connection) = inner.connections.apart().await?;
        let (sender, heard) = watch::channel(0_u64);
        let task = tokio::spawn(async move {
            let messages = std::future::poll_fn(move |cx| {
                while let std::task::Poll::Ready(message) = connection.poll_message(cx) {
                    match message {
                        Some(Ok(AsyncMessage::Notification(_))) => sender.send_modify(|n| *n = n.wrapping_add(1)),
                        Some(Ok(_)) => {}
                        // Dropping the sender tells the listener that the connection is gone.
                        Some(Err(_)) | None => return std::task::Poll::Ready(()),
                    }
                }
                std::task::Poll::Pending
            });
            messages.await;
        });
        let ear = Self { heard, client, task };
        let listen = format!("LISTEN {}", crate::names::quote(&inner.channel()));
        ear.client.batch_execute(&listen).await.map_err(failure)?;
        Ok(ear)
    }
}

/// Somebody who waits.
pub(crate) struct Listener {
    receiver: watch::Receiver<u64>,
    waiting: Arc<AtomicUsize>,
}

impl Listener {
    pub(crate) async fn hint(&mut self) {
        // The sender lives as long as the engine; if it is gone there is nothing to wait for.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
