//! Runs: executions of workflow versions, with a log that is sealed when they end.
//!
//! ```text
//!  start ──► record (running) + run.started ─► step.started, step.completed, step.failed, action …
//!                                                     │ each with the record's counters, in one commit
//!  finish ─► record (final) + run.finished + seal ◄───┘
//! ```
//!
//! The record is changed by merges only, so concurrent steps of one run never conflict. The seal is what makes a
//! finished run immutable: the store itself refuses any further append, also from a raw commit.

mod filter;
mod kept;
mod model;
mod refusal;
mod start;
mod step;

use millpond_core::{
    Commit, Document, EventFilter, EventPage, EventQuery, Expectation, Json, MergeOp, NewEvent, Page, PageCursor, Position,
    Query, Receipt, Records, Result, Store, StreamName, Versioned, Write,
};

pub use filter::{RunFilter, RunOrder};
pub use model::{NewRun, Run, RunConfig, RunCounters, RunEnd, RunKey, RunStatus};
pub(crate) use refusal::explain;
pub use step::{Action, Step, kinds};

use step::Happening;

use crate::text::sha256_hex;

/// How often an operation that reads before it writes begins again when somebody else was faster.
const TRIES: u32 = 16;

/// The runs of a pond.
#[derive(Debug, Clone)]
pub struct Runs {
    store: Store,
    /// The store of pins and of marks of executions that were written off; `None` for runs alone.
    beside: Option<Store>,
}

impl Runs {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, beside: None }
    }

    fn records(&self) -> Records<Run> {
        Records::new(self.store.clone())
    }

    /// The stream of a run's log.
    pub fn stream(run: &str) -> String {
        model::stream_of(run)
    }

    /// Says that a step began. One commit point: the `step.started` event and the run's counters.
    ///
    /// # Errors
    /// `NotFound` when there is no such run, `Conflict` when it is finished.
    pub async fn step_started(&self, run: &str, step: &Step) -> Result<Receipt> {
        self.append(run, self.step_started_part(run, step)?).await.map_err(|e| e.during("runs.step_started"))
    }

    /// The part of a commit that [`Runs::step_started`] makes.
    ///
    /// # Errors
    /// `Invalid` when a name or the step cannot be kept.
    pub fn step_started_part(&self, run: &str, step: &Step) -> Result<Commit> {
        happened(run, Happening::Started(step))
    }

    /// Says that a step reached its end. One commit point: the `step.completed` event and the run's counters.
    ///
    /// # Errors
    /// `NotFound` when there is no such run, `Conflict` when it is finished.
    pub async fn step_completed(&self, run: &str, step: &Step) -> Result<Receipt> {
        self.append(run, self.step_completed_part(run, step)?).await.map_err(|e| e.during("runs.step_completed"))
    }

    /// The part of a commit that [`Runs::step_completed`] makes.
    ///
    /// # Errors
    /// `Invalid` when a name or the step cannot be kept.
    pub fn step_completed_part(&self, run: &str, step: &Step) -> Result<Commit> {
        happened(run, Happening::Completed(step))
    }

    /// Says that a step ended with an error. One commit point: the `step.failed` event and the run's counters.
    ///
    /// # Errors
    /// `NotFound` when there is no such run, `Conflict` when it is finished.
    pub async fn step_failed(&self, run: &str, step: &Step) -> Result<Receipt> {
        self.append(run, self.step_failed_part(run, step)?).await.map_err(|e| e.during("runs.step_failed"))
    }

    /// The part of a commit that [`Runs::step_failed`] makes.
    ///
    /// # Errors
    /// `Invalid` when a name or the step cannot be kept.
    pub fn step_failed_part(&self, run: &str, step: &Step) -> Result<Commit> {
        happened(run, Happening::Failed(step))
    }

    /// Says that a step did something. One commit point: the `action` event and the run's counters.
    ///
    /// # Errors
    /// `NotFound` when there is no such run, `Conflict` when it is finished.
    pub async fn action(&self, run: &str, action: &Action) -> Result<Receipt> {
        self.append(run, self.action_part(run, action)?).await.map_err(|e| e.during("runs.action"))
    }

    /// The part of a commit that [`Runs::action`] makes.
    ///
    /// # Errors
    /// `Invalid` when a name or the action cannot be kept.
    pub fn action_part(&self, run: &str, action: &Action) -> Result<Commit> {
        happened(run, Happening::Acted(action))
    }

    /// Ends a run. One commit point: the final record, the `run.finished` event and the seal of the log.
    ///
    /// # Errors
    /// `NotFound` when there is no such run, `Conflict` when it is finished already, `Invalid` for the status `running`.
    pub async fn finish(&self, run: &str, end: RunEnd) -> Result<Receipt> {
        self.append(run, self.finish_part(run, end)?).await.map_err(|e| e.during("runs.finish"))
    }

    /// The part of a commit that [`Runs::finish`] makes. Nothing else may append to the run's log in a later part.
    ///
    /// # Errors
    /// `Invalid` for the status `running`, or when the output cannot be kept.
    pub fn finish_part(&self, run: &str, end: RunEnd) -> Result<Commit> {
        if !end.status.is_final() {
            return Err(millpond_core::Error::invalid("a run cannot be finished with the status running")
                .with_next("use completed, failed, cancelled or interrupted"));
        }
        let stream = model::stream_of(run);
        let mut ops = vec![
            MergeOp::Set("/status".into(), Json::of(end.status.as_str())?),
            MergeOp::Set("/finished_at".into(), Json::of(&self.store.now())?),
        ];
        if !end.output.is_null() {
            ops.push(MergeOp::Set("/output".into(), Json::from_value(&end.output)?));
        }
        if let Some(error) = &end.error {
            ops.push(MergeOp::Set("/error".into(), Json::of(error)?));
        }
        // The output is in the record; the event names the outcome only, so that an output may be larger than an event.
        let body = serde_json::json!({
            "status": end.status, "success": end.status == RunStatus::Completed, "error": end.error,
        });
        let id = Records::<Run>::id(run)?;
        Commit::new()
            .trusted()
            .expect(Expectation::Exists(id.clone()))
            .write(Write::Merge(id, ops))
            .append(&stream, NewEvent::of(kinds::RUN_FINISHED, &body)?)?
            .seal(&stream)
    }

    async fn append(&self, run: &str, part: Commit) -> Result<Receipt> {
        match self.store.commit(part).await {
            Ok(receipt) => Ok(receipt),
            Err(error) => Err(self.explain_finished(run, explain(error)).await),
        }
    }

    /// Adds how and when a run was finished to the error that says that it is.
    async fn explain_finished(&self, run: &str, error: millpond_core::Error) -> millpond_core::Error {
        if !refusal::is_sealed(&error) {
            return error;
        }
        match self.get(run).await {
            Ok(Some(found)) => match found.finished_at {
                Some(at) => error.with("status", found.status).with("finished_at", at),
                None => error,
            },
            // What was refused stays the error; why the details are missing is of no use to the caller.
            _ => error,
        }
    }

    /// A run by id.
    ///
    /// # Errors
    /// `Corrupt` when its record does not read back.
    pub async fn get(&self, run: &str) -> Result<Option<Versioned<Run>>> {
        self.records().get(run).await.map_err(|e| e.during("runs.get"))
    }

    /// The run that an idempotency key started.
    ///
    /// # Errors
    /// `Corrupt` when a record does not read back.
    pub async fn by_idempotency_key(&self, key: &str) -> Result<Option<Versioned<Run>>> {
        let keys = Records::<RunKey>::new(self.store.clone());
        match keys.get(&sha256_hex(key.as_bytes())).await? {
            Some(found) => self.get(&found.run).await,
            None => Ok(None),
        }
    }

    /// A configuration by its hash, as [`Run::config`] names it.
    ///
    /// # Errors
    /// `Corrupt` when its record does not read back.
    pub async fn config(&self, hash: &str) -> Result<Option<Versioned<RunConfig>>> {
        Records::new(self.store.clone()).get(hash).await.map_err(|e| e.during("runs.config"))
    }

    /// A page of a run's log, oldest first: up to `limit` events after a position.
    ///
    /// # Errors
    /// `Invalid` when the id cannot be the name of a stream.
    pub async fn log(&self, run: &str, after: Option<Position>, limit: usize) -> Result<EventPage> {
        let filter = EventFilter::stream(StreamName::new(model::stream_of(run))?);
        self.store.events(EventQuery::new(filter).after(after).limit(limit)).await.map_err(|e| e.during("runs.log"))
    }

    /// A page of runs.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is.
    pub async fn list(&self, filter: &RunFilter) -> Result<Page<Versioned<Run>>> {
        self.records().page(filter.query()?).await.map_err(|e| e.during("runs.list"))
    }

    /// How many runs a filter takes.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn count(&self, filter: &RunFilter) -> Result<u64> {
        self.store.count(filter.query()?.limit(1).after(None)).await.map_err(|e| e.during("runs.count"))
    }

    /// The runs of a workflow that started last, newest first; of one version, or of all.
    ///
    /// # Errors
    /// `Invalid` when `n` is not between 1 and 10,000.
    pub async fn recent(&self, workflow: &str, version: Option<u32>, n: usize) -> Result<Page<Versioned<Run>>> {
        let filter = RunFilter { version, ..RunFilter::all().workflow(workflow).limit(n) };
        self.list(&filter).await.map_err(|e| e.during("runs.recent"))
    }

    /// A page of the runs that came from this one, oldest first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is.
    pub async fn children(&self, run: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<Run>>> {
        let query = Query::new(Run::COLLECTION.name())?.eq("parent", run).order_asc("started_at");
        self.records().page(query.limit(limit).after(after)).await.map_err(|e| e.during("runs.children"))
    }

    /// Deletes a finished run; true if it was there. Its id is never used again; its metrics stay counted.
    ///
    /// One commit point: the record, the log and the record of the idempotency key. It expects that there is no pin, where
    /// pins are in the store of the runs; otherwise they are looked at right before.
    ///
    /// # Errors
    /// `Conflict` while the run goes on, or when it is pinned: the error names by whom and why.
    pub async fn delete(&self, run: &str) -> Result<bool> {
        for _ in 0..TRIES {
            let Some(part) = self.delete_part(run).await.map_err(|e| e.during("runs.delete"))? else { return Ok(false) };
            match self.store.commit(part).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.during("runs.delete")),
            }
        }
        Err(millpond_core::Error::conflict(format!("run {run} was changed by others {TRIES} times")).during("runs.delete"))
    }

    /// The part of a commit that [`Runs::delete`] makes; `None` when there is no such run.
    ///
    /// # Errors
    /// `Conflict` while the run goes on, or when it is pinned.
    pub async fn delete_part(&self, run: &str) -> Result<Option<Commit>> {
        let Some(found) = self.get(run).await? else { return Ok(None) };
        if !found.status.is_final() {
            return Err(millpond_core::Error::conflict(format!("run {run} is still running"))
                .with_next("finish it first, as interrupted if its process is gone"));
        }
        let unpinned = self.unpinned(run).await?;
        let stream = model::stream_of(run);
        let head = self.store.stream(&stream).await?.map_or(0, |s| s.head);
        let id = Records::<Run>::id(run)?;
        let mut part = Commit::new()
            .trusted()
            .expect(Expectation::Revision(id.clone(), found.revision))
            .write(Write::Delete(id))
            .trim(&stream, head + 1)?;
        part.expect.extend(unpinned);
        if let Some(key) = &found.idempotency_key {
            part = part.delete(RunKey::COLLECTION.name(), &sha256_hex(key.as_bytes()))?;
        }
        Ok(Some(part))
    }
}

/// An event of a run together with the counters it moves.
fn happened(run: &str, what: Happening<'_>) -> Result<Commit> {
    let id = Records::<Run>::id(run)?;
    Commit::new()
        .trusted()
        .expect(Expectation::Exists(id.clone()))
        .write(Write::Merge(id, what.merges()))
        .append(&model::stream_of(run), what.event()?)
}

pub(crate) mod blocking {
    //! The same for synchronous callers.
    use super::*;
    blocking_api! {
        /// The runs, for synchronous callers.
        Runs of super::Runs {
            fn start(new: NewRun) -> Result<Versioned<Run>>;
            fn step_started(run: &str, step: &Step) -> Result<Receipt>;
            fn step_completed(run: &str, step: &Step) -> Result<Receipt>;
            fn step_failed(run: &str, step: &Step) -> Result<Receipt>;
            fn action(run: &str, action: &Action) -> Result<Receipt>;
            fn finish(run: &str, end: RunEnd) -> Result<Receipt>;
            fn get(run: &str) -> Result<Option<Versioned<Run>>>;
            fn by_idempotency_key(key: &str) -> Result<Option<Versioned<Run>>>;
            fn config(hash: &str) -> Result<Option<Versioned<RunConfig>>>;
            fn log(run: &str, after: Option<Position>, limit: usize) -> Result<EventPage>;
            fn list(filter: &RunFilter) -> Result<Page<Versioned<Run>>>;
            fn count(filter: &RunFilter) -> Result<u64>;
            fn recent(workflow: &str, version: Option<u32>, n: usize) -> Result<Page<Versioned<Run>>>;
            fn children(run: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<Run>>>;
            fn delete(run: &str) -> Result<bool>;
            fn start_part(new: &NewRun) -> Result<(Run, Commit)>;
            fn delete_part(run: &str) -> Result<Option<Commit>>;
        }
    }
}
