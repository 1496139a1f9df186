//! The loop: one step, one commit, until all is done. Everything it knows it has from the store.
//!
//! ```text
//!  lock ─► latest checkpoint ─► step ─► ONE commit: outputs, dead letters, events, metrics, checkpoint
//!                                 ▲              fenced by the lock            │
//!                                 └────────────────────────────────────────────┘
//! ```

use std::time::{Duration, Instant};

use millpond::{Commit, Lease, Pond, Receipt, Result, Step};
use serde_json::json;

use super::ack::Ack;
use super::begin;
use super::corpus::Corpus;
use super::progress::Progress;
use super::state::{Stage, State};
use super::work::{Work, Worker};

/// The lock that keeps two demos on one store apart.
pub const LOCK: &str = "demo";
/// How long it is held without a sign of life. A holder known to be dead is taken over at once.
pub const LOCK_TTL: Duration = Duration::from_secs(60);

/// One process's part of a demo.
#[derive(Debug)]
pub struct Runner<'a> {
    pond: &'a Pond,
    lease: Lease,
    renewed: Instant,
    worker: Worker,
    corpus: Corpus,
    ack: Ack,
    progress: Progress,
}

impl<'a> Runner<'a> {
    /// A runner that holds the lock.
    pub fn new(pond: &'a Pond, lease: Lease, corpus: Corpus, ack: Ack) -> Self {
        let worker = Worker::new(pond.store().clone(), corpus.clone());
        Self { pond, lease, renewed: Instant::now(), worker, corpus, ack, progress: Progress::new() }
    }

    /// Goes on until all is done, and returns the last state.
    ///
    /// # Errors
    /// `Fenced` when the lock was taken away; what the store fails with.
    pub async fn drive(&mut self, mut state: State) -> Result<State> {
        while state.stage != Stage::Done {
            self.progress.at(&state);
            state = match state.stage {
                Stage::Prepare => self.prepare(state).await?,
                _ => self.step(state).await?,
            };
        }
        self.progress.finish();
        Ok(state)
    }

    /// Removes what an earlier run left, a commit at a time; the last commit lists the files.
    async fn prepare(&mut self, state: State) -> Result<State> {
        let mut next = state.clone();
        let part = match begin::leftovers(self.pond.store()).await? {
            Some(part) => {
                next.step += 1;
                part
            }
            None => {
                let groups = self.corpus.groups()?;
                next.groups = groups.len() as u64;
                next.stage = Stage::Collect;
                next.step = 0;
                begin::groups_part(&groups)?
            }
        };
        let receipt = self.commit(part.and(begin::save_part(self.pond, &next).await?)).await?;
        self.ack.tell(&state, &receipt)?;
        Ok(next)
    }

    /// One step of a stage, in one commit.
    async fn step(&mut self, state: State) -> Result<State> {
        let began = Instant::now();
        let work = self.worker.step(&state).await?;
        let next = state.after_step(work.counts);
        let part = self.step_part(&state, &next, work, began.elapsed()).await?;
        let receipt = self.commit(part).await?;
        self.ack.tell(&state, &receipt)?;
        Ok(next)
    }

    /// Everything one step did.
    async fn step_part(&self, state: &State, next: &State, work: Work, took: Duration) -> Result<Commit> {
        let runs = self.pond.runs();
        let name = format!("{}-{:05}", state.stage.name(), state.step + 1);
        let step = Step::new(name).node(state.stage.name()).node_type("TOOL_CALL");
        let outcome = step.clone().took(took).output(json!({
            "documents": work.writes.len(), "unreadable": work.unreadable.len(),
        }));
        let mut part = Commit::new().trusted();
        part.writes = work.writes;
        part = part
            .and(runs.step_started_part(&state.run, &step)?)
            .and(runs.step_completed_part(&state.run, &outcome)?)
            .and(begin::save_part(self.pond, next).await?);
        if next.stage == Stage::Done {
            part = part.and(begin::finish_part(self.pond, next)?);
        }
        Ok(part)
    }

    /// Commits under the lock, and renews it now and then in the same commit.
    async fn commit(&mut self, part: Commit) -> Result<Receipt> {
        let mut commit = self.lease.fence(Commit::new().trusted().by("millpond demo").and(part));
        if self.renewed.elapsed() > LOCK_TTL / 3 {
            commit = commit.and(self.pond.locks().renew_part(&self.lease, LOCK_TTL));
            self.renewed = Instant::now();
        }
        self.pond.commit(commit).await
    }
}
