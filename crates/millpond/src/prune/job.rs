//! The job: marked once, then worked on by one process at a time until nothing is left.

use std::time::Duration;

use millpond_core::{Commit, Document, Error, ErrorKind, Expectation, Expected, Records, Result, Write};

use super::model::{Prune, PruneCounts, PrunePhase, PruneStatus};
use super::refer::{Reasons, lineage_of};
use super::{Prunes, open};
use crate::homes::Domain;
use crate::locks::{Attempt, Lease, LockRequest};
use crate::text::key_segment;
use crate::{Run, pins};

/// How long a prune belongs to whoever works on it without a sign of life.
const TTL: Duration = Duration::from_secs(30);
/// How often a step is decided again because what it deletes was changed by others meanwhile.
const TRIES: u32 = 64;

/// Who is told how far a prune is.
type Told<'t> = &'t mut (dyn FnMut(&Prune) + Send);

impl Prunes {
    /// Deletes everything of an execution that was written off, or goes on with that from where it stands, and answers
    /// what was deleted in all. One that is done is answered as it is.
    ///
    /// The first commit marks the execution: it is refused when there is a pin, and from there on every write into the
    /// execution is. What came in right before it is looked for once more, and takes the mark off again. What follows are bounded commits under a lease; each deletes and counts at once, so that whoever ends
    /// between two of them leaves a job that anybody may go on with, and nothing is counted twice. Bytes go when no record
    /// names them any more.
    ///
    /// # Errors
    /// `Conflict` when it is pinned, its run goes on, or rows of other executions came from its own: the error names the
    /// first of them, [`Prunes::plan`] up to a hundred. `Conflict`, naming who, when somebody works on it.
    pub async fn run(&self, execution: &str) -> Result<Prune> {
        self.run_with(execution, |_| {}).await
    }

    /// [`Prunes::run`], telling after each commit how far it is.
    ///
    /// # Errors
    /// As [`Prunes::run`].
    pub async fn run_with(&self, execution: &str, mut told: impl FnMut(&Prune) + Send) -> Result<Prune> {
        let running = async {
            if let Some(found) = self.read(execution).await?
                && found.value.status == PruneStatus::Done
            {
                return Ok(found.value);
            }
            let lease = self.take(execution).await?;
            let done = tokio::select! {
                done = self.to_its_end(execution, &lease, &mut told) => done,
                lost = self.locks.keep(&lease) => Err(lost.err().unwrap_or_else(|| Error::unavailable("the lock was lost"))),
            };
            // Given back also after an error; one that was lost is somebody else's to give back.
            let _ = self.locks.release(&lease).await;
            done
        };
        running.await.map_err(|e: Error| e.with("execution", execution).during("prunes.run"))
    }

    async fn take(&self, execution: &str) -> Result<Lease> {
        let request = LockRequest::of(format!("prunes/{}", key_segment(execution)), TTL).purpose("pruning an execution");
        match self.locks.try_acquire(&request).await? {
            Attempt::Acquired(lease) => Ok(lease),
            Attempt::Held(info) => {
                let (holder, until) = (&info.lease.holder.name, info.lease.deadline);
                Err(Error::conflict(format!("execution {execution} is being pruned by {holder} until {until}"))
                    .with("holder", holder)
                    .with_next(format!("let it go on, and see how far it is: millpond prune {execution} --show")))
            }
        }
    }

    async fn to_its_end(&self, execution: &str, lease: &Lease, told: Told<'_>) -> Result<Prune> {
        let mut job = match self.read(execution).await? {
            Some(found) => found.value,
            None => self.mark(execution, lease).await?,
        };
        job.worker = self.locks.process_name();
        told(&job);
        if job.phase == PrunePhase::Marked {
            self.look_again(&job, lease).await?;
            job = self.next_phase(job, lease).await?;
            told(&job);
        }
        let mut tries = 0;
        while job.status == PruneStatus::Running {
            let done = match job.phase {
                PrunePhase::Artifacts => self.some_artifacts(&job, lease).await,
                PrunePhase::Versions => self.some_versions(&job, lease).await,
                PrunePhase::Lineage => self.some_lineage(&job, lease).await,
                PrunePhase::Run => self.the_run(&job).await,
                PrunePhase::Marked | PrunePhase::Done => Ok(None),
            };
            match done {
                Ok(Some(next)) => job = next,
                Ok(None) => job = self.next_phase(job, lease).await?,
                // What was to be deleted was changed or deleted by others: it is looked at again.
                Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES => {
                    tries += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            tries = 0;
            told(&job);
        }
        Ok(job)
    }

    async fn next_phase(&self, job: Prune, lease: &Lease) -> Result<Prune> {
        let mut next = Prune { phase: job.phase.next(), ..job };
        if next.phase == PrunePhase::Done {
            (next.status, next.ended) = (PruneStatus::Done, Some(self.store().now()));
            if let Some(log) = next.log_events {
                // Of the one run, whose log was sealed when it was counted.
                (next.deleted.runs, next.deleted.log_events) = (1, log);
            }
        }
        self.write(&next, lease, Commit::new()).await?;
        Ok(next)
    }

    /// Writes a job as it stands now, together with what it deletes.
    pub(super) async fn write(&self, job: &Prune, lease: &Lease, more: Commit) -> Result<()> {
        let commit = Commit::new().trusted().by(&job.worker).write(Records::put(job)?).and(more);
        self.store().commit(lease.fence(commit)).await.map(drop)
    }

    /// Marks an execution as written off, unless something stands against it.
    async fn mark(&self, execution: &str, lease: &Lease) -> Result<Prune> {
        if execution.is_empty() {
            return Err(Error::invalid("an execution without a name cannot be pruned").with_next("name the execution"));
        }
        refuse(execution, &self.against(execution).await?)?;
        let job = Prune {
            execution: execution.to_owned(),
            status: PruneStatus::Running,
            phase: PrunePhase::Marked,
            worker: self.locks.process_name(),
            began: self.store().now(),
            ended: None,
            log_events: self.log_events(execution).await?,
            deleted: PruneCounts::default(),
            pending: Vec::new(),
            extra: crate::extra::Extra::new(),
        };
        let mut expect = Commit::new().expect(open(execution)?).expect(pins::unpinned(execution)?);
        if let Some(run) = self.run_expected(execution).await? {
            expect = expect.expect(run);
        }
        match self.write(&job, lease, expect).await {
            Ok(()) => Ok(job),
            Err(error) => Err(pins::explained(self.store(), self.as_it_is(execution, error).await).await),
        }
    }

    /// What the mark was refused for, where that was the run: it began, ended or went meanwhile.
    async fn as_it_is(&self, execution: &str, error: Error) -> Error {
        let changed = error.as_conflict().is_some_and(|conflict| match &conflict.expected {
            Expected::Stated(Expectation::Absent(id) | Expectation::Revision(id, _)) => {
                id.collection.as_str() == Run::COLLECTION.name()
            }
            _ => false,
        });
        if !changed {
            return error;
        }
        match self.against(execution).await.map(|reasons| refuse(execution, &reasons)) {
            Ok(Err(refused)) => refused,
            _ => error.saying(format!("run {execution} was changed by others meanwhile")).with_next("try again"),
        }
    }

    /// Everything that stands against it.
    async fn against(&self, execution: &str) -> Result<Reasons> {
        let mut reasons = self.in_the_way(execution).await?;
        lineage_of(self.store(), execution, &mut reasons).await?;
        Ok(reasons)
    }

    /// Looks once more, under the mark: a row of another execution that was written between the first look and the mark
    /// is there by now, and a later one is refused by the mark. The same holds for a run in another store, all but the
    /// moment in which a run that was not written off begins. If something came in, the mark is taken off again.
    async fn look_again(&self, job: &Prune, lease: &Lease) -> Result<()> {
        let reasons = self.against(&job.execution).await?;
        let Err(refused) = refuse(&job.execution, &reasons) else { return Ok(()) };
        let mark = Records::<Prune>::id(job.key()?.as_str())?;
        let commit = Commit::new().trusted().by(&job.worker).write(Write::Delete(mark));
        self.store().commit(lease.fence(commit)).await?;
        Err(refused)
    }

    /// That the run is still as it was found, where one commit can expect that.
    async fn run_expected(&self, execution: &str) -> Result<Option<Expectation>> {
        let together = self.pond.homes().of_commits([], [Domain::Artifacts, Domain::Runs]).is_ok();
        let Ok(id) = Records::<Run>::id(execution) else { return Ok(None) };
        let found = self.run_of(execution).await?;
        let expected = match found {
            Some(run) => Expectation::Revision(id, run.revision),
            None => Expectation::Absent(id),
        };
        Ok(together.then_some(expected))
    }
}

fn refuse(execution: &str, reasons: &Reasons) -> Result<()> {
    let Some(first) = reasons.named.first() else { return Ok(()) };
    let more = if reasons.in_all > 1 { format!(", and {} more", reasons.in_all - 1) } else { String::new() };
    Err(Error::conflict(format!("execution {execution} is not pruned: it is {} ({}){more}", first.obstacle.as_str(), first.why))
        .with("by", &first.by)
        .with_next(format!("see everything that stands against it: millpond prune {execution} --dry-run")))
}
