//! What can be done with a dead letter: each carries the revision it was seen at, so only one of two can do it.

use std::time::Duration;

use millpond_core::{Commit, Error, Expectation, Json, MergeOp, Receipt, Records, Result, Versioned, Write};

use super::model::{ClosedNote, job_key};
use super::{Claim, DeadLetter, DeadLetterJob, DeadLetterState, DeadLetters, FailureDetail, LetterRef, counted, lost, under};

impl DeadLetters {
    /// Says that a claimed letter was processed. One commit point: the letter and its job's counters.
    ///
    /// # Errors
    /// `Conflict` when the letter is no longer in these hands: what was done for it counts for nothing.
    pub async fn complete(&self, claim: &Claim) -> Result<Receipt> {
        self.complete_all(std::slice::from_ref(claim)).await
    }

    /// Says that several claimed letters were processed: all of them or none. One commit point: the letters and
    /// their jobs' counters.
    ///
    /// # Errors
    /// `Conflict` when one of the letters is no longer in these hands; then none is completed.
    pub async fn complete_all(&self, claims: &[Claim]) -> Result<Receipt> {
        let part = self.complete_part(claims).map_err(|e| e.during("dead_letters.complete"))?;
        self.store.commit(part).await.map_err(|e| lost(e).during("dead_letters.complete"))
    }

    /// The commit that completes claimed letters, to be made together with what processing them gave.
    ///
    /// # Errors
    /// `Invalid` when a name cannot be a key.
    pub fn complete_part(&self, claims: &[Claim]) -> Result<Commit> {
        let now = self.store.now();
        let mut commit = Commit::new().trusted();
        for claim in claims {
            let by = claim.letter.claim.as_ref().map(|c| c.by.clone());
            let ops = vec![
                MergeOp::Set("/state".into(), Json::of(&DeadLetterState::Completed)?),
                MergeOp::Set("/available_at".into(), Json::parse("null")?),
                MergeOp::Set("/claim".into(), Json::parse("null")?),
                MergeOp::Set("/closed".into(), Json::of(&ClosedNote { at: now, by, reason: None })?),
            ];
            commit = commit.and(under(&LetterRef::from(claim), |id| Ok(Write::Merge(id, ops)))?);
        }
        for (job, n) in per_job(claims.iter().map(|c| c.letter.job_id.as_str())) {
            commit = commit.write(job_counts(job, -n)?);
        }
        Ok(commit)
    }

    /// Gives a claimed letter back unprocessed; it can be claimed at once. One commit point: the letter.
    ///
    /// # Errors
    /// `Conflict` when the letter is no longer in these hands.
    pub async fn release(&self, claim: &Claim) -> Result<Receipt> {
        let now = self.store.now();
        let part = under(&LetterRef::from(claim), |id| {
            let ops = vec![
                MergeOp::Set("/state".into(), Json::of(&DeadLetterState::Pending)?),
                MergeOp::Set("/available_at".into(), Json::of(&now)?),
                MergeOp::Set("/claim".into(), Json::parse("null")?),
            ];
            Ok(Write::Merge(id, ops))
        });
        let receipt = self.store.commit(part.map_err(|e| e.during("dead_letters.release"))?).await;
        receipt.map_err(|e| lost(e).during("dead_letters.release"))
    }

    /// Says that processing a claimed letter failed again: the failure joins its history, and it can be claimed
    /// after the delay. One commit point: the letter.
    ///
    /// # Errors
    /// `Conflict` when the letter is no longer in these hands.
    pub async fn retry_later(&self, claim: &Claim, failure: FailureDetail, delay: Duration) -> Result<Receipt> {
        self.try_retry(claim, failure, delay).await.map_err(|e| e.during("dead_letters.retry_later"))
    }

    async fn try_retry(&self, claim: &Claim, failure: FailureDetail, delay: Duration) -> Result<Receipt> {
        let (mut letter, at) = self.at(&LetterRef::from(claim)).await?;
        letter.failed_again(vec![failure], 1);
        letter.wait(self.store.now().plus(delay));
        letter.check_extra()?;
        let part = under(&at, |_| Records::put(&letter))?;
        self.store.commit(part).await.map_err(lost)
    }

    /// Puts a letter back to work at once, whatever state it was seen in: a discarded or completed one is opened
    /// again, one that was not eligible becomes so, a claimed one is taken out of its worker's hands if it is asked
    /// for under the claim's own token. One commit point: the letter and its job's counters.
    ///
    /// # Errors
    /// `Conflict` when it changed since it was seen, or when it has to be opened again and the job is full.
    pub async fn requeue(&self, letter: &LetterRef) -> Result<Receipt> {
        self.try_requeue(letter).await.map_err(|e| e.during("dead_letters.requeue"))
    }

    async fn try_requeue(&self, seen: &LetterRef) -> Result<Receipt> {
        let (mut letter, at) = self.at(seen).await?;
        let opens = !letter.state.is_open();
        letter.item.reprocess_eligible = true;
        letter.wait(self.store.now());
        let mut part = under(&at, |_| Records::put(&letter))?;
        if opens {
            let totals = Records::<DeadLetterJob>::id(job_key(&letter.job_id)?.as_str())?;
            part =
                part.expect(Expectation::AtMost(totals, "/open".into(), self.capacity - 1)).write(job_counts(&letter.job_id, 1)?);
        }
        self.store.commit(part).await.map_err(lost)
    }

    /// Gives a letter up, with a reason. It stays to be looked at until it is purged, and can be requeued.
    /// One commit point: the letter and its job's counters.
    ///
    /// # Errors
    /// `Invalid` without a reason; `Conflict` when it changed since it was seen.
    pub async fn discard(&self, letter: &LetterRef, reason: &str, by: &str) -> Result<Receipt> {
        self.try_discard(letter, reason, by).await.map_err(|e| e.during("dead_letters.discard"))
    }

    async fn try_discard(&self, seen: &LetterRef, reason: &str, by: &str) -> Result<Receipt> {
        if reason.trim().is_empty() {
            return Err(Error::invalid("a dead letter is discarded only with a reason").with_next("say why"));
        }
        let (mut letter, at) = self.at(seen).await?;
        let closes = letter.state.is_open();
        letter.state = DeadLetterState::Discarded;
        letter.available_at = None;
        letter.claim = None;
        letter.closed = Some(ClosedNote { at: self.store.now(), by: Some(by.to_owned()), reason: Some(reason.to_owned()) });
        let mut part = under(&at, |_| Records::put(&letter))?.by(by);
        if closes {
            part = part.write(job_counts(&letter.job_id, -1)?);
        }
        self.store.commit(part).await.map_err(lost)
    }

    /// The letter as it was seen; refused when it is another by now.
    async fn at(&self, seen: &LetterRef) -> Result<(DeadLetter, LetterRef)> {
        let found: Versioned<DeadLetter> = self.require(&seen.job_id, &seen.item_id).await?;
        if found.revision != seen.revision {
            return Err(lost(Error::conflict(format!(
                "dead letter {} of job {} was seen at revision {} and is at {} ({}) now",
                seen.item_id, seen.job_id, seen.revision, found.revision, found.state
            ))));
        }
        Ok((found.value, seen.clone()))
    }
}

/// The write that counts open letters of a job in or out.
pub(super) fn job_counts(job: &str, open: i64) -> Result<Write> {
    Ok(Write::Merge(Records::<DeadLetterJob>::id(job_key(job)?.as_str())?, counted(job, open)))
}

/// How many of each job.
pub(super) fn per_job<'a>(jobs: impl Iterator<Item = &'a str>) -> std::collections::BTreeMap<&'a str, i64> {
    let mut counts = std::collections::BTreeMap::new();
    for job in jobs {
        *counts.entry(job).or_insert(0) += 1;
    }
    counts
}
