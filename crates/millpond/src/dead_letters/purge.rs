//! Purging: old letters go for good, a bounded batch at a time.

use millpond_core::{Commit, Document, Error, Expectation, Query, Records, Result, Timestamp, Write};
use serde::Serialize;

use crate::conditions::Conditions;

use super::settle::{job_counts, per_job};
use super::turns::{TRIES, give_way};
use super::{DeadLetter, DeadLetterState, DeadLetters};
use crate::payloads::PayloadObject;

/// Letters one purge removes at most.
const BATCH_MOST: usize = 1_000;

/// Which letters are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeRequest {
    /// Last tried before this moment.
    pub older_than: Timestamp,
    /// Of this job; of any if left out.
    pub job: Option<String>,
    /// In these states. Claimed ones are in a worker's hands: naming that state takes them out of it.
    pub states: Vec<DeadLetterState>,
    /// At most this many in one commit; 1 to 1,000.
    pub batch: usize,
}

impl PurgeRequest {
    /// Everything older than this that no worker has, 500 at a time.
    pub fn older_than(older_than: Timestamp) -> Self {
        use DeadLetterState::{Completed, Discarded, Pending};
        Self { older_than, job: None, states: vec![Pending, Completed, Discarded], batch: 500 }
    }

    fn query(&self) -> Result<Query> {
        Ok(Query::new(DeadLetter::COLLECTION.name())?
            .below("last_attempt", self.older_than)
            .given("job_id", self.job.as_ref())
            .one_of("state", self.states.iter().map(|s| s.as_str()))
            .order_asc("last_attempt")
            .limit(self.batch))
    }
}

/// What one purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PurgedLetters {
    /// Letters that are gone.
    pub deleted: u64,
    /// True when more of them are left: purge again.
    pub more: bool,
}

impl DeadLetters {
    /// Removes one batch of old letters, oldest first; call it again while it says that there are more. One commit
    /// point: the batch and its jobs' counters.
    ///
    /// # Errors
    /// `Invalid` for a batch that is not 1 to 1,000 or no state; `Conflict` when letters of the batch were changed
    /// again and again meanwhile.
    pub async fn purge(&self, request: &PurgeRequest) -> Result<PurgedLetters> {
        self.try_purge(request).await.map_err(|e| e.during("dead_letters.purge"))
    }

    async fn try_purge(&self, request: &PurgeRequest) -> Result<PurgedLetters> {
        if request.batch == 0 || request.batch > BATCH_MOST || request.states.is_empty() {
            return Err(Error::invalid(format!("a purge takes 1 to {BATCH_MOST} letters a batch, of at least one state")));
        }
        let mut last = None;
        for losses in 1..=TRIES {
            let page = self.letters().page(request.query()?).await?;
            if page.items.is_empty() {
                return Ok(PurgedLetters { deleted: 0, more: page.next.is_some() });
            }
            let mut commit = Commit::new().trusted();
            for letter in &page.items {
                let id = Records::<DeadLetter>::id(letter.key()?.as_str())?;
                commit = commit.expect(Expectation::Revision(id.clone(), letter.revision)).write(Write::Delete(id));
                if let Some(location) = &letter.payload_object {
                    commit = commit.write(PayloadObject::removal(location)?);
                }
            }
            let open = page.items.iter().filter(|l| l.state.is_open()).map(|l| l.job_id.as_str());
            for (job, n) in per_job(open) {
                commit = commit.write(job_counts(job, -n)?);
            }
            match self.store.commit(commit).await {
                Ok(_) => return Ok(PurgedLetters { deleted: page.items.len() as u64, more: page.next.is_some() }),
                Err(e) if e.is_conflict() => last = Some(e),
                Err(e) => return Err(e),
            }
            give_way(&self.store, losses).await;
        }
        Err(last.unwrap_or_else(|| Error::conflict("the letters keep changing")).with_next("purge again"))
    }
}
