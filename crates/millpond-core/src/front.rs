//! Group commit: whatever concurrent callers have ready goes to the engine as one vector.
//!
//! ```text
//!   callers ──► lane (FIFO, bounded by count and bytes) ──► leader takes a batch ──► engine ──► answers
//! ```
//!
//! There is no timer: the next batch forms while the last one is being made durable. A lane has one leader at a
//! time: the writer thread (local engines), a task (others), or a synchronous caller who finds the lane free and
//! does the work itself. The leader owns the batch, so a caller that drops its future changes nothing: its commit
//! is decided all the same, and asking for its id tells how.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::commit::PreparedCommit;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::name::Namespace;
use crate::outcome::Outcome;

/// Commits one batch takes at most.
const BATCH_COMMITS: usize = 1_024;
/// Bytes after which a batch is closed.
const BATCH_BYTES: usize = 8 << 20;
/// The unit in which queued bytes are counted.
const BYTES_UNIT: usize = 256;

struct Waiting {
    commit: PreparedCommit,
    answer: oneshot::Sender<Result<Outcome>>,
    room: Room,
}

/// Held while a commit waits; giving it back makes room for another.
type Room = OwnedSemaphorePermit;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    led: bool,
}

type LaneKey = (Namespace, Option<Arc<str>>);

struct Lane {
    namespace: Namespace,
    queue: Mutex<Queue>,
}

/// How much may wait, and for how long a caller waits for room.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Commits.
    pub commits: usize,
    /// Bytes.
    pub bytes: usize,
    /// How long a caller waits for room before it hears `Unavailable`.
    pub patience: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { commits: limits::QUEUE_COMMITS, bytes: limits::QUEUE_BYTES, patience: Duration::from_secs(30) }
    }
}

impl QueueLimits {
    /// All the room there is.
    fn units(&self) -> usize {
        (self.bytes / BYTES_UNIT).max(1)
    }

    /// What one commit takes, at most all there is: a commit larger than the queue waits until it is alone.
    fn units_of(&self, bytes: usize) -> u32 {
        let share = (self.units() / self.commits.max(1)).max(1);
        let units = bytes.div_ceil(BYTES_UNIT).max(share).min(self.units());
        u32::try_from(units).unwrap_or(u32::MAX)
    }
}

/// Counters of what the front did, for tests and for people.
#[derive(Debug, Default)]
pub struct FrontStats {
    batches: AtomicU64,
    commits: AtomicU64,
}

impl FrontStats {
    /// Batches handed to the engine.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Commits handed to the engine.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

struct Shared {
    engine: Arc<dyn Engine>,
    stats: FrontStats,
    ready: Mutex<Ready>,
    wake: Condvar,
}

#[derive(Default)]
struct Ready {
    lanes: VecDeque<Arc<Lane>>,
    thread: bool,
    closing: bool,
}

/// The front of one engine. Cheap to share; everything through one engine in one process should share one.
pub struct Front {
    shared: Arc<Shared>,
    /// By namespace and the store id it is bound to: a namespace made anew is another one.
    lanes: Mutex<HashMap<LaneKey, Arc<Lane>>>,
    /// Room in units of bytes. Each commit takes its share of the count or its bytes, whichever is more, so one
    /// semaphore keeps both limits.
    room: Arc<Semaphore>,
    limits: QueueLimits,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("engine", &self.shared.engine).field("limits", &self.limits).finish()
    }
}

/// A panic of another thread while it held the lock cannot have left these queues half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Front {
    /// A front with the usual limits.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self::with_limits(engine, QueueLimits::default())
    }

    /// A front with limits of one's own.
    pub fn with_limits(engine: Arc<dyn Engine>, limits: QueueLimits) -> Self {
        Self {
            shared: Arc::new(Shared { engine, stats: FrontStats::default(), ready: Mutex::default(), wake: Condvar::new() }),
            lanes: Mutex::default(),
            room: Arc::new(Semaphore::new(limits.units())),
            limits,
        }
    }

    /// The engine behind.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    /// What the front did so far.
    pub fn stats(&self) -> &FrontStats {
        &self.shared.stats
    }

    /// Has a commit decided. With `inline`, a caller who finds the lane free does the work on its own thread;
    /// that is for synchronous callers only, because it blocks while the engine flushes.
    ///
    /// A caller that is dropped while it waits for room was not queued, and nothing was applied. Once the commit is
    /// in the queue, dropping the future does not take it back.
    ///
    /// # Errors
    /// `Unavailable` when there was no room until the deadline, or the runtime of the lane's leader went away while
    /// the commit waited: not applied. `UnknownOutcome` when the engine panicked over the batch. Otherwise what the
    /// engine answered.
    pub async fn submit(&self, namespace: &Namespace, commit: PreparedCommit, inline: bool) -> Result<Outcome> {
        let room = self.room(&commit).await?;
        let lane = self.lane(namespace);
        let (answer, outcome) = oneshot::channel();
        let lead = {
            let mut queue = lock(&lane.queue);
            queue.waiting.push_back(Waiting { commit, answer, room });
            !std::mem::replace(&mut queue.led, true)
        };
        if lead {
            self.lead(lane, inline);
        }
        match outcome.await {
            Ok(outcome) => outcome,
            Err(_) => Err(gone("the writer went away before it answered")),
        }
    }

    fn lead(&self, lane: Arc<Lane>, inline: bool) {
        let shared = &self.shared;
        if shared.engine.local().is_none() {
            let shared = Arc::clone(shared);
            // Made before the task is: a runtime that shuts down may drop the task before it ran at all.
            let leadership = Leadership { lane, held: true };
            tokio::spawn(async move { shared.lead_remote(leadership).await });
        } else if inline {
            // One batch, with our own commit in it; a crowd is the writer thread's business.
            if !shared.lead_once(&lane) {
                shared.hand_over(lane);
            }
        } else {
            shared.hand_over(lane);
        }
    }

    async fn room(&self, commit: &PreparedCommit) -> Result<Room> {
        let units = self.limits.units_of(commit.bytes());
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(units) {
            return Ok(room);
        }
        // Boxed: only a caller that has to wait pays for the timer.
        Box::pin(self.wait_for_room(units)).await
    }

    async fn wait_for_room(&self, units: u32) -> Result<Room> {
        match tokio::time::timeout(self.limits.patience, Arc::clone(&self.room).acquire_many_owned(units)).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(Error::unavailable(format!(
                "the commit queue stayed full for {:?} ({} commits or {} bytes wait); this commit was not applied",
                self.limits.patience, self.limits.commits, self.limits.bytes
            ))
            .with_next("slow down and send it again")),
        }
    }

    fn lane(&self, namespace: &Namespace) -> Arc<Lane> {
        let key = (namespace.clone(), namespace.store_id().map(Arc::from));
        let mut lanes = lock(&self.lanes);
        if let Some(lane) = lanes.get(&key) {
            return Arc::clone(lane);
        }
        let lane = Arc::new(Lane { namespace: namespace.clone(), queue: Mutex::default() });
        lanes.insert(key, Arc::clone(&lane));
        lane
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        lock(&self.shared.ready).closing = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    /// Gives a lane to the writer thread, which is started with the first one.
    fn hand_over(self: &Arc<Self>, lane: Arc<Lane>) {
        let mut ready = lock(&self.ready);
        ready.lanes.push_back(lane);
        if ready.thread {
            drop(ready);
            self.wake.notify_one();
            return;
        }
        let shared = Arc::clone(self);
        match std::thread::Builder::new().name("millpond-writer".into()).spawn(move || shared.write()) {
            Ok(_) => ready.thread = true,
            Err(error) => {
                let lane = ready.lanes.pop_back();
                drop(ready);
                if let Some(lane) = lane {
                    lane.refuse_all(&Error::unavailable("cannot start the writer thread").with_source(error));
                }
            }
        }
    }

    /// The writer thread: leads lanes in turn, a batch each, so that no namespace starves another.
    fn write(self: &Arc<Self>) {
        loop {
            let lane = {
                let mut ready = lock(&self.ready);
                loop {
                    if let Some(lane) = ready.lanes.pop_front() {
                        break lane;
                    }
                    if ready.closing {
                        ready.thread = false;
                        return;
                    }
                    ready = self.wake.wait(ready).unwrap_or_else(PoisonError::into_inner);
                }
            };
            if !self.lead_once(&lane) {
                // Callers that were just answered may have their next commit almost ready: one turn for them makes
                // fuller batches, and costs nothing when nobody else wants to run.
                std::thread::yield_now();
                lock(&self.ready).lanes.push_back(lane);
            }
        }
    }

    /// Decides one batch on this thread. True when the lane is empty and nobody leads it any more.
    fn lead_once(&self, lane: &Lane) -> bool {
        let (commits, callers) = lane.take();
        if let Some(local) = self.engine.local() {
            // A panic must not take the leader with it, or everybody behind it would wait for ever. What the engine
            // keeps between two batches is its own to keep whole.
            let result = catch_unwind(AssertUnwindSafe(|| local.commit_now(&lane.namespace, &commits)));
            self.answer(callers, result.unwrap_or_else(|_| Err(gone("the engine panicked before it answered"))));
        }
        lane.finish()
    }

    async fn lead_remote(&self, mut leadership: Leadership) {
        let mut led = false;
        while leadership.held {
            let lane = &leadership.lane;
            // As the writer thread does: callers just answered join the next batch, if there is room for them. Never with
            // an empty queue: a runtime that is not driven any more would keep the lane from everybody else.
            if led && lane.waiting() < BATCH_COMMITS {
                tokio::task::yield_now().await;
            }
            led = true;
            let (commits, callers) = lane.take();
            let result = self.engine.commit(&lane.namespace, commits).await;
            self.answer(callers, result);
            leadership.held = !lane.finish();
        }
    }

    fn answer(&self, callers: Vec<Caller>, result: Result<Vec<Result<Outcome>>>) {
        self.stats.batches.fetch_add(1, Ordering::Relaxed);
        self.stats.commits.fetch_add(callers.len() as u64, Ordering::Relaxed);
        match result {
            Ok(outcomes) if outcomes.len() == callers.len() => {
                for ((answer, room), outcome) in callers.into_iter().zip(outcomes) {
                    drop(room);
                    // A caller that went away does not want to know.
                    let _ = answer.send(outcome);
                }
            }
            Ok(outcomes) => {
                let error = Error::new(
                    ErrorKind::UnknownOutcome,
                    format!("the engine answered {} of {} commits", outcomes.len(), callers.len()),
                );
                refuse(callers, &error);
            }
            Err(error) => refuse(callers, &error),
        }
    }
}

type Caller = (oneshot::Sender<Result<Outcome>>, Room);

fn refuse(callers: Vec<Caller>, error: &Error) {
    for (answer, _room) in callers {
        let _ = answer.send(Err(error.duplicate()));
    }
}

fn gone(why: &str) -> Error {
    Error::new(ErrorKind::UnknownOutcome, why).with_next("send the same commit again under the same id")
}

/// The leadership of a lane by a task. A task can end before its work does, by a panic of the engine or with its
/// runtime: then what waits is answered, and the next caller leads.
struct Leadership {
    lane: Arc<Lane>,
    held: bool,
}

impl Drop for Leadership {
    fn drop(&mut self) {
        if self.held {
            self.lane.give_up();
        }
    }
}

impl Lane {
    /// Takes the next batch off the queue, first come first served.
    fn take(&self) -> (Vec<PreparedCommit>, Vec<Caller>) {
        let mut queue = lock(&self.queue);
        let (mut commits, mut callers) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while commits.len() < BATCH_COMMITS {
            let Some(next) = queue.waiting.front() else { break };
            bytes += next.commit.bytes();
            if bytes > BATCH_BYTES && !commits.is_empty() {
                break;
            }
            let Some(Waiting { commit, answer, room }) = queue.waiting.pop_front() else { break };
            commits.push(commit);
            callers.push((answer, room));
        }
        (commits, callers)
    }

    /// Commits that wait.
    fn waiting(&self) -> usize {
        lock(&self.queue).waiting.len()
    }

    /// Ends the leadership if nothing waits.
    fn finish(&self) -> bool {
        let mut queue = lock(&self.queue);
        if queue.waiting.is_empty() {
            queue.led = false;
            return true;
        }
        false
    }

    /// Ends the leadership whatever waits, and answers that it was not applied.
    fn give_up(&self) {
        let waiting = {
            let mut queue = lock(&self.queue);
            queue.led = false;
            std::mem::take(&mut queue.waiting)
        };
        for Waiting { answer, .. } in waiting {
            let error = Error::unavailable("the leader of the commit queue went away; this commit was not applied");
            let _ = answer.send(Err(error.with_next("send it again")));
        }
    }

    fn refuse_all(&self, error: &Error) {
        loop {
            let (_, callers) = self.take();
            refuse(callers, error);
            if self.finish() {
                return;
            }
        }
    }
}
