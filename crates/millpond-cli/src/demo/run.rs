//! The loop: one step, one commit, until all is done. Everything it knows it has from the store.
//!
//! ```text
//!  lock ─► latest checkpoint ─► step ─► ONE commit: documents, artifacts, lineage, dead letters, events, metrics, checkpoint
//!                                 ▲              fenced by the lock            │
//!                                 └────────────────────────────────────────────┘
//! ```

use std::time::Instant;

use millpond::{Commit, Execution, Lease, Pond, Receipt, Result, RunEnd, Step, Unit};
use serde_json::json;

use super::ack::Ack;
use super::begin::{self, WORKFLOW, scope};
use super::corpus::Corpus;
use super::keep;
use super::letters;
use super::progress::Progress;
use super::state::{Stage, State};
use super::work::{Work, Worker};
use crate::output::value;

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

    /// Begins a new run.
    ///
    /// # Errors
    /// `Fenced` when the lock was taken away; what the store fails with.
    pub async fn begin(&mut self, last: Option<&State>) -> Result<State> {
        let mut unit = self.unit();
        let state = begin::begin(self.pond, &mut unit, &self.corpus, last).await?;
        let receipt = unit.commit().await?;
        self.ack.tell_begin(&receipt)?;
        Ok(state)
    }

    /// Goes on until all is done, and returns the last state.
    ///
    /// # Errors
    /// As [`Runner::begin`].
    pub async fn drive(&mut self, mut state: State) -> Result<State> {
        while state.stage != Stage::Done {
            self.progress.at(&state);
            let (next, receipt) = match state.stage {
                Stage::Prepare => self.prepare(&state).await?,
                _ => self.step(&state).await?,
            };
            self.ack.tell(&state, &receipt)?;
            state = next;
        }
        self.progress.finish();
        Ok(state)
    }

    /// Removes what an earlier run left, a commit at a time; the last commit lists the files.
    async fn prepare(&mut self, state: &State) -> Result<(State, Receipt)> {
        let mut next = state.clone();
        let mut unit = self.unit();
        let part = match begin::leftovers(self.pond.store()).await? {
            Some(part) => {
                next.step += 1;
                part
            }
            None => {
                unit.lineage().record(keep::segments_row(&state.run));
                let groups = self.corpus.groups()?;
                next.groups = groups.len() as u64;
                next.stage = Stage::Collect;
                next.step = 0;
                begin::groups_part(&groups)?
            }
        };
        unit.part(part).checkpoints(scope()).save(&next);
        Ok((next, unit.commit().await?))
    }

    /// One step of a stage, in one commit.
    async fn step(&mut self, state: &State) -> Result<(State, Receipt)> {
        let began = Instant::now();
        let work = self.worker.step(state).await?;
        let next = state.after_step(work.counts);
        let mut unit = self.unit();
        self.fill(&mut unit, state, &next, work, began).await?;
        Ok((next, unit.commit().await?))
    }

    /// Everything one step did.
    async fn fill(&self, unit: &mut Unit, state: &State, next: &State, work: Work, began: Instant) -> Result<()> {
        let node = state.stage.name();
        let name = format!("{node}-{:05}", state.step + 1);
        let documents = work.writes.len();
        let mut part = Commit::new();
        part.writes = work.writes;
        unit.part(part);
        keep::keep(unit, &state.run, &work.kept).await?;
        for file in &work.unreadable {
            let letter = letters::add_part(self.pond, state, file, &name, self.pond.store().now()).await?;
            letter.into_iter().for_each(|part| {
                unit.part(part);
            });
        }
        let took = began.elapsed();
        let step = Step::new(name.as_str()).node(node).node_type("TOOL_CALL");
        let outcome = step.clone().took(took).output(json!({ "documents": documents, "unreadable": work.unreadable.len() }));
        unit.runs().step_started(&state.run, step).step_completed(&state.run, outcome);
        // A step is counted under its own id: sent again, it is not counted twice.
        let counted = i64::try_from(documents).unwrap_or(i64::MAX);
        let figures = Execution::new(format!("{}/{name}", state.run), WORKFLOW, state.version).took(took).node(node, took);
        unit.metrics().record(figures.operation("documents written", counted));
        if next.stage == Stage::Done {
            unit.runs().finish(&state.run, RunEnd::completed(value(&next.counts)?));
        }
        unit.checkpoints(scope()).save(next);
        Ok(())
    }

    /// A unit under the lock, which it renews now and then.
    fn unit(&mut self) -> Unit {
        begin::unit(self.pond, &self.lease, &mut self.renewed)
    }
}
