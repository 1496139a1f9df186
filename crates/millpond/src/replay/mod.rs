//! Replays: the artifacts of a stage are published anew, each once, in the order of their keys.
//!
//! ```text
//!   begin: record + pin of the execution, one commit
//!     │
//!     ▼  under the lease replays/ID, every commit fenced by it
//!   preparing ── wait for what is expected ─► look at each object ─► its page of the plan        nothing is published
//!     │                                            └─ missing, damaged ─► refused, with a list
//!     ▼
//!   publishing ── one commit a page: messages appended, position moved, page gone                killed: goes on here
//!     │
//!     ▼
//!   completed ── and the pin is gone, in one commit
//! ```
//!
//! The plan names versions, and the pin keeps their bytes, so that what is published is what was looked at, whoever
//! writes meanwhile.
//!
//! * `model.rs`: what is kept; `request.rs`: what is asked; `select.rs`: which artifacts, and whether they are whole;
//!   `plan.rs`: the dry run; `prepare.rs`, `wait.rs`, `publish.rs`, `end.rs`: the stretches; `held.rs`: one at a time.

mod end;
mod held;
mod model;
mod plan;
mod prepare;
mod publish;
mod request;
mod select;
mod wait;

use millpond_core::{
    Commit, Document, Error, Expectation, Page, PageCursor, Query, Records, Result, Store, Timestamp, Versioned, uuid_v7,
};

pub(crate) use model::COLLECTIONS;
pub use model::{PlannedMessage, ProblemKind, Replay, ReplayPage, ReplayProblem, ReplayStatus};
pub use plan::{PROBLEMS_NAMED as REPLAY_PROBLEMS_NAMED, ReplayPlan};
pub use publish::ARTIFACT_REPLAYED;
pub use request::{EXPECTED_KEYS, MESSAGES_AT_ONCE, ReplayRequest};

use crate::conditions::Conditions as _;
use crate::homes::{Domain, Homes};
use crate::locks::Locks;
use crate::pins::{self, Pin, Pins};
use crate::{Artifacts, extra};

/// How often a commit that changes pins, too, is made anew because somebody else changed them meanwhile.
const TRIES: u32 = 64;

/// The replays of a pond. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Replays {
    artifacts: Artifacts,
    homes: Homes,
    locks: Locks,
    pins: Pins,
}

/// Which replays.
#[derive(Debug, Clone)]
pub struct ReplayFilter {
    /// The execution whose artifacts they publish.
    pub execution: Option<String>,
    /// The batch.
    pub batch: Option<String>,
    /// How they stand; any if there is none.
    pub statuses: Vec<ReplayStatus>,
    /// Begun at or after.
    pub began_from: Option<Timestamp>,
    /// Begun before.
    pub began_before: Option<Timestamp>,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
    /// Continue after a page of the same filter.
    pub after: Option<PageCursor>,
}

impl Default for ReplayFilter {
    fn default() -> Self {
        Self { execution: None, batch: None, statuses: Vec::new(), began_from: None, began_before: None, limit: 100, after: None }
    }
}

impl Replays {
    pub(crate) fn new(artifacts: Artifacts, homes: Homes) -> Self {
        let store = artifacts.store().clone();
        Self { artifacts, homes, locks: Locks::new(store.clone()), pins: Pins::new(store) }
    }

    fn store(&self) -> &Store {
        self.artifacts.store()
    }

    fn records(&self) -> Records<Replay> {
        Records::new(self.store().clone())
    }

    /// Checks a request, and that its messages can be published in the commits that move the position.
    fn check(&self, request: &ReplayRequest) -> Result<()> {
        request.check()?;
        let domain = Domain::of_stream(&request.to_stream);
        if domain != Domain::Events {
            return Err(Error::invalid(format!(
                "stream {:?} belongs to {domain}; nothing is replayed into it",
                request.to_stream
            ))
            .with_next("name a stream of your own"));
        }
        let into = Commit::new().append_all(&request.to_stream, Vec::new())?;
        self.homes.of_commits([&into], [Domain::Artifacts]).map(drop)
    }

    /// Looks whether a request that may be carried out can be: whether the stream takes messages, and the execution is
    /// not being pruned.
    ///
    /// # Errors
    /// `Conflict`, saying which.
    async fn check_there(&self, request: &ReplayRequest) -> Result<()> {
        let (stream, execution) = (&request.to_stream, &request.execution);
        if self.store().stream(stream).await?.is_some_and(|info| info.sealed) {
            return Err(Error::conflict(format!("stream {stream:?} is sealed: it takes no messages any more"))
                .with("stream", stream)
                .with_next("name another stream"));
        }
        if Records::<crate::Prune>::new(self.store().clone()).get(&crate::text::key_segment(execution)).await?.is_some() {
            return Err(crate::prune::written_off(Error::conflict("it was written off"), execution));
        }
        Ok(())
    }

    /// Notes a replay, and pins its execution: nothing of it is deleted from here on until the replay is over. Nothing is
    /// looked at or published before [`Replays::resume`]. One commit point: the record and the pin.
    ///
    /// # Errors
    /// `Invalid` when the request breaks a rule; `Unsupported` when the target is in another store than the artifacts;
    /// `Conflict` when the execution was written off, or the stream is sealed.
    pub async fn begin(&self, request: &ReplayRequest) -> Result<Replay> {
        self.noted(request).await.map_err(|e| e.during("replays.begin"))
    }

    async fn noted(&self, request: &ReplayRequest) -> Result<Replay> {
        self.check(request)?;
        self.check_there(request).await?;
        let replay = self.draft(request);
        let reason = format!("it is published anew into {}", replay.to_stream);
        let reason = reason[..reason.floor_char_boundary(millpond_core::limits::INDEXED_TEXT_BYTES)].to_owned();
        let pin = Pin { id: pin_of(&replay.id), holder: replay.worker.clone(), reason, at: replay.began };
        for _ in 0..TRIES {
            let pinned = self.pins.read(&replay.execution).await?;
            let commit = Commit::new()
                .trusted()
                .by(&replay.worker)
                .expect(Expectation::Absent(Records::<Replay>::id(&replay.id)?))
                .write(Records::put(&replay)?)
                .and(pins::with(&replay.execution, pinned.as_ref(), pin.clone())?);
            match self.store().commit(commit).await {
                Ok(_) => return Ok(replay),
                Err(error) if pins::changed(&error) => {}
                Err(error) => return Err(pins::explained(self.store(), error).await),
            }
        }
        Err(pins::too_busy(&replay.execution))
    }

    fn draft(&self, request: &ReplayRequest) -> Replay {
        let now = self.store().now();
        let fresh = || uuid_v7(self.store().host()).to_string();
        Replay {
            id: fresh(),
            execution: request.execution.clone(),
            route: request.route.clone(),
            stage: request.stage.clone(),
            prefix: request.prefix(),
            to_stream: request.to_stream.clone(),
            batch: request.batch.clone().unwrap_or_else(fresh),
            status: ReplayStatus::Preparing,
            ends_as: None,
            worker: request.worker.clone().unwrap_or_else(|| self.locks.process_name()),
            began: now,
            ended: None,
            reason: None,
            expect: request.expect.clone(),
            wait_until: now.plus(request.wait),
            read_data: request.read_data,
            per_commit: request.per_commit,
            objects: 0,
            bytes: 0,
            left_out: 0,
            planned_to: None,
            pages: 0,
            digest: String::new(),
            published_pages: 0,
            published: 0,
            position: None,
            problems: Vec::new(),
            problems_in_all: 0,
            extra: extra::Extra::new(),
        }
    }

    /// Notes a replay and works on it until it is over: [`Replays::begin`] and [`Replays::resume`].
    ///
    /// # Errors
    /// As both. After an error the replay is there, and anybody may go on with it.
    pub async fn start(&self, request: &ReplayRequest) -> Result<Replay> {
        let replay = self.begin(request).await?;
        self.resume(&replay.id).await
    }

    /// A replay, or `None`.
    ///
    /// # Errors
    /// `Corrupt` when its record does not read back.
    pub async fn get(&self, id: &str) -> Result<Option<Versioned<Replay>>> {
        self.records().get(id).await.map_err(|e| e.during("replays.get"))
    }

    /// Replays, those that began last first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn list(&self, filter: &ReplayFilter) -> Result<Page<Versioned<Replay>>> {
        self.page(filter).await.map_err(|e| e.during("replays.list"))
    }

    async fn page(&self, filter: &ReplayFilter) -> Result<Page<Versioned<Replay>>> {
        let query = Query::new(Replay::COLLECTION.name())?
            .given("execution", filter.execution.clone())
            .given("batch", filter.batch.clone())
            .any_of("status", filter.statuses.iter().map(|s| s.as_str()))
            .between("began", filter.began_from, filter.began_before)
            .order_desc("began")
            .limit(filter.limit)
            .after(filter.after.clone());
        self.records().page(query).await
    }

    async fn require(&self, id: &str) -> Result<Replay> {
        let found = self.records().get(id).await?;
        let missing =
            || Error::not_found(format!("there is no replay {id}")).with_next("see which there are: millpond replay list");
        Ok(found.ok_or_else(missing)?.value)
    }
}

/// The pin that a replay sets for itself.
fn pin_of(replay: &str) -> String {
    format!("{}{replay}", pins::OF_REPLAY)
}

pub(crate) mod blocking {
    //! The same for synchronous callers.
    use super::{Replay, ReplayFilter, ReplayPlan, ReplayRequest};
    use millpond_core::{Page, Result, Versioned};

    blocking_api! {
        /// The replays, for synchronous callers.
        Replays of super::Replays {
            fn plan(request: &ReplayRequest, shown: usize) -> Result<ReplayPlan>;
            fn begin(request: &ReplayRequest) -> Result<Replay>;
            fn start(request: &ReplayRequest) -> Result<Replay>;
            fn resume(id: &str) -> Result<Replay>;
            fn cancel(id: &str, reason: &str) -> Result<Replay>;
            fn get(id: &str) -> Result<Option<Versioned<Replay>>>;
            fn list(filter: &ReplayFilter) -> Result<Page<Versioned<Replay>>>;
        }
    }
}
