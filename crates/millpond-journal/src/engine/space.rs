//! One namespace as this process holds it: its journal, its replica, and the thread that writes the replica.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millpond_core::{Engine as _, Error, ErrorKind, Host, Namespace, NamespaceInfo, Position, Result, uuid_v7};
use millpond_sqlite::{Replica, SqliteEngine, Tail};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::append::Patience;
use super::cache::Slot;
use super::freshness::Freshness;
use super::growth::Growth;
use super::io::Io;
use super::pacing::Pacing;
use super::snapshot;
use super::stats::Counters;
use super::writer::{Operation, Writer};
use crate::entry::Parts;
use crate::journal::{After, Journal, Limit, Stored};

/// How often a writer with nothing to do looks whether the snapshot is made that was begun here.
const LOOK_FOR_SNAPSHOT: Duration = Duration::from_millis(200);

type Job = Box<dyn FnOnce(&mut Writer) + Send>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Space {
    /// Bound to the store id.
    namespace: Namespace,
    journal: Arc<dyn Journal>,
    replica: Replica,
    freshness: Freshness,
    seen: Arc<watch::Sender<u64>>,
    /// `None` once it was closed.
    writer: Mutex<Option<WriterThread>>,
    /// Somebody works with it, who will come again: it stays open.
    stays: AtomicBool,
    /// Held until the replica is closed.
    _slot: Arc<Slot>,
}

/// The thread that writes the replica. It ends when nobody can send it a job any more.
#[derive(Debug)]
struct WriterThread {
    jobs: Sender<Job>,
    /// Answers when the thread has let go of everything.
    ended: oneshot::Receiver<()>,
}

/// What a space is opened with.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) io: Handle,
    pub(crate) alive: Arc<Io>,
    pub(crate) patience: Patience,
    pub(crate) counters: Arc<Counters>,
    pub(crate) snapshot_bytes: u64,
}

impl Space {
    /// Opens a namespace's replica, without reading the journal.
    pub(crate) fn open(
        namespace: Namespace,
        store_id: &str,
        journal: Arc<dyn Journal>,
        cache: &Path,
        with: Setting,
    ) -> Result<Self> {
        let slot = Arc::new(Slot::take(cache, store_id)?);
        let replica = open_replica(&slot, &with.host)?;
        if replica.tail()?.number == 0 {
            snapshot::load(&replica, &Tail::default(), &*journal, &with.io, &slot)?;
        }
        let (tail, note) = (replica.tail()?, replica.note()?);
        let mut growth = Growth::read(&note);
        if note.is_empty() && tail.number > 0 {
            // Made by an earlier version, which did not count: about what is kept. Too much is a snapshot too early.
            growth.grew(with.io.block_on(journal.size())?);
        }
        let seen = Arc::new(watch::Sender::new(tail.number));
        let writer = Writer {
            journal: Arc::clone(&journal),
            replica: replica.clone(),
            namespace: namespace.clone(),
            me: uuid_v7(&*with.host).simple().to_string().split_off(20),
            host: with.host,
            io: with.io,
            patience: with.patience,
            counters: with.counters,
            tail,
            parts: Parts::default(),
            pacing: Pacing::default(),
            seen: Arc::clone(&seen),
            slot: Arc::clone(&slot),
            growth,
            snapshot_bytes: with.snapshot_bytes,
            making: None,
            passed: Vec::new(),
            refused: None,
            _alive: with.alive,
        };
        let writer = Mutex::new(Some(start(writer)?));
        let (freshness, stays) = (Freshness::default(), AtomicBool::new(false));
        Ok(Self { namespace, journal, replica, freshness, seen, writer, stays, _slot: slot })
    }

    /// Whether no entry of the journal was ever seen here.
    pub(crate) fn is_empty(&self) -> bool {
        *self.seen.borrow() == 0
    }

    /// Whether the journal itself said that the namespace is deleted.
    pub(crate) async fn saw_deletion(&self) -> Result<bool> {
        Ok(!self.is_empty() && self.rows().namespace(&self.namespace).await?.is_none())
    }

    /// Keeps it open when whoever only lists namespaces is done with it.
    pub(crate) fn stay(&self) {
        self.stays.store(true, Ordering::SeqCst);
    }

    /// Whether it stays open.
    pub(crate) fn stays(&self) -> bool {
        self.stays.load(Ordering::SeqCst)
    }

    /// The namespace, bound to its store id.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The rows, for reading. As fresh as the last [`Space::freshen`].
    pub(crate) fn rows(&self) -> &SqliteEngine {
        self.replica.engine()
    }

    /// Runs something on the writer's thread.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |writer| {
            // A caller that went away does not want to know.
            let _ = answer.send(work(writer));
        });
        let jobs = self.writer.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|w| w.jobs.clone());
        // Nothing was begun, so this is no unknown outcome.
        jobs.ok_or_else(closed)?.send(job).map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Runs an operation: decided on the newest state, appended, applied.
    pub(crate) async fn write<O>(&self, mut operation: O) -> Result<O::Output>
    where
        O: Operation + Send + 'static,
        O::Output: Send + 'static,
    {
        self.run(move |writer| {
            let output = writer.write(&mut operation);
            writer.snapshot_if_due();
            output
        })
        .await
    }

    /// Brings the replica to the journal's tail: one round trip, which also brings what is missing.
    pub(crate) async fn freshen(&self) -> Result<()> {
        if self.freshness.verification_is_due() {
            self.run(|writer| writer.verify()).await?;
        }
        let after = *self.seen.borrow();
        match self.journal.read(after, Limit::default()).await? {
            After::Entries(entries) if entries.is_empty() => Ok(()),
            After::Entries(entries) => self.take_in(entries).await,
            After::Trimmed => self.run(|writer| writer.catch_up(None)).await,
        }
    }

    /// Takes in what a read brought, and goes on until there is nothing more: a page may end before the tail for
    /// reasons of the driver's own, such as the end of a file.
    async fn take_in(&self, entries: Vec<Stored>) -> Result<()> {
        self.run(move |writer| {
            writer.catch_up(Some(entries))?;
            writer.catch_up(None)
        })
        .await
    }

    /// What is known about the namespace; `None` once it was deleted.
    pub(crate) async fn info(&self) -> Result<Option<NamespaceInfo>> {
        self.freshen().await?;
        self.rows().namespace(&self.namespace).await
    }

    /// Returns when something may have been committed after a position.
    pub(crate) async fn changed(&self, after: Position) {
        let mut seen = self.seen.subscribe();
        loop {
            match self.rows().namespace(&self.namespace).await {
                Ok(Some(info)) if info.position <= after => {}
                _ => return,
            }
            let number = *seen.borrow_and_update();
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return },
                () = self.journal.changed(number) => return,
            }
        }
    }

    /// Checks the replica's rows, and that the journal still holds the entry it stands at.
    pub(crate) async fn check(&self) -> Result<Vec<String>> {
        self.freshen().await?;
        let mut findings = Vec::new();
        if let Err(error) = self.run(|writer| writer.verify()).await {
            findings.push(error.to_string());
        }
        findings.extend(self.rows().check(&self.namespace).await?);
        Ok(findings)
    }

    /// Finishes what was begun, also a snapshot, and lets go of the replica's files: the next handle can have them.
    pub(crate) async fn close(&self) -> Result<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(WriterThread { jobs, ended }) = writer {
            drop(jobs);
            // It answers nothing: that the sender is gone is the answer.
            let _ = ended.await;
        }
        self.rows().close().await
    }
}

fn open_replica(slot: &Slot, host: &Arc<dyn Host>) -> Result<Replica> {
    match Replica::open(slot.replica(), Arc::clone(host)) {
        Ok(replica) => Ok(replica),
        // A cache: what does not open is made again.
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Unsupported) => {
            tracing::warn!(%error, "a replica does not open and is made again");
            slot.clear()?;
            Replica::open(slot.replica(), Arc::clone(host))
        }
        Err(error) => Err(error),
    }
}

fn start(mut writer: Writer) -> Result<WriterThread> {
    let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
    let (ending, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("millpond-replica".into())
        .spawn(move || {
            loop {
                let next = if writer.is_making() {
                    queue.recv_timeout(LOOK_FOR_SNAPSHOT)
                } else {
                    queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
                };
                match next {
                    Ok(job) => job(&mut writer),
                    // Others go by the entry that says that it is made.
                    Err(RecvTimeoutError::Timeout) => writer.snapshot_if_due(),
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            // A process that lives briefly has to wait for it: if none did, there would never be a snapshot.
            writer.end_snapshot();
            drop(writer);
            drop::<oneshot::Sender<()>>(ending);
        })
        .map_err(|e| Error::unavailable("cannot start the replica's thread").with_source(e))?;
    Ok(WriterThread { jobs, ended })
}

pub(crate) fn closed() -> Error {
    Error::unavailable("the store is closed").with_next("open it again")
}

fn stopped() -> Error {
    Error::new(ErrorKind::UnknownOutcome, "the replica's thread went away before it answered")
        .with_next("open the store again, and send the same commit again under its id")
}
