//! Dead letters: work items that failed too often, kept to be tried again, looked at, or given up.
//!
//! ```text
//!            add                    complete
//!             │      ┌──► claimed ──────────► completed ─┐
//!             ▼      │       │ release, retry_later,     │ requeue
//!          pending ──┘ ◄─────┘ visibility timeout        │
//!             │ ▲                                        │
//!     discard │ └────────────────────────────────────────┤
//!             └─────────────────────────────► discarded ─┘
//! ```
//!
//! A claim's token is the record's revision: whoever changes the letter makes every other token void, so no letter
//! is ever in two hands that could both complete it.

mod add;
mod claim;
mod filter;
mod item;
mod large;
mod model;
mod purge;
mod report;
mod settle;
mod signature;
mod turns;

use std::time::Duration;

use millpond_core::{
    Commit, Document, Error, Expectation, Json, MergeOp, Page, PageCursor, Query, Receipt, RecordId, Records, Result, Store,
    Versioned, Write,
};

pub use filter::DeadLetterFilter;
pub use item::{DeadLetteredItem, ErrorType, FailureDetail, WorktreeArtifacts};
pub use model::{
    Added, Claim, ClaimNote, ClaimRequest, Claimed, ClosedNote, DeadLetter, DeadLetterJob, DeadLetterState, LetterRef,
};
pub use purge::{PurgeRequest, PurgedLetters};
pub use report::{AnalysisRequest, DeadLetterStats, FailureAnalysis, FailurePattern};
pub use signature::error_signature;

use crate::payloads::Payloads;
use model::key;

/// Open letters a job holds if nothing else is said.
pub const DEFAULT_CAPACITY: u32 = 1_000;

/// The dead letters of a namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    store: Store,
    capacity: i64,
    payloads: Payloads,
}

impl DeadLetters {
    /// The dead letters of a store, a thousand open ones a job.
    pub(crate) fn new(store: Store, payloads: Payloads) -> Self {
        Self { store, capacity: i64::from(DEFAULT_CAPACITY), payloads }
    }

    /// The same with another capacity, at least 1: open letters a job holds before an add evicts the oldest tenth.
    #[must_use]
    pub fn with_capacity(mut self, capacity: u32) -> Self {
        self.capacity = i64::from(capacity.max(1));
        self
    }

    /// The stream that tells which letters of a job were evicted.
    pub fn stream(job: &str) -> String {
        format!("dead_letters/{}", crate::text::key_segment(job))
    }

    fn letters(&self) -> Records<DeadLetter> {
        Records::new(self.store.clone())
    }

    fn jobs_records(&self) -> Records<DeadLetterJob> {
        Records::new(self.store.clone())
    }

    /// One dead letter.
    ///
    /// # Errors
    /// `Corrupt` when it does not read back.
    pub async fn get(&self, job: &str, item: &str) -> Result<Option<Versioned<DeadLetter>>> {
        let getting = async {
            match self.letters().get(key(job, item)?.as_str()).await? {
                Some(letter) => match self.filled(letter.value.clone()).await {
                    Ok(value) => Ok(Some(Versioned { value, ..letter })),
                    Err(error) if error.is_not_found() => Ok(None),
                    Err(error) => Err(error),
                },
                None => Ok(None),
            }
        };
        getting.await.map_err(|e: Error| e.during("dead_letters.get"))
    }

    async fn require(&self, job: &str, item: &str) -> Result<Versioned<DeadLetter>> {
        self.letters().get(key(job, item)?.as_str()).await?.ok_or_else(|| {
            Error::not_found(format!("job {job} has no dead letter {item}"))
                .with_next(format!("see which there are: millpond dead-letters list --job {job}"))
        })
    }

    /// The attempts of a dead letter, oldest first; the newest hundred.
    ///
    /// # Errors
    /// `NotFound` when there is no such letter.
    pub async fn attempts(&self, job: &str, item: &str) -> Result<Vec<FailureDetail>> {
        let letter = self.require(job, item).await.map_err(|e| e.during("dead_letters.attempts"))?;
        Ok(letter.value.item.failure_history)
    }

    /// A page of dead letters, last attempt first. One whose data cannot be read is named among those that are damaged. A
    /// page ends early where the data of its letters has more than 16 MiB.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn list(&self, filter: &DeadLetterFilter) -> Result<Page<Versioned<DeadLetter>>> {
        self.page(filter).await.map_err(|e| e.during("dead_letters.list"))
    }

    async fn page(&self, filter: &DeadLetterFilter) -> Result<Page<Versioned<DeadLetter>>> {
        let mut query = filter.query()?;
        let mut page = self.letters().page(query.clone()).await?;
        loop {
            let fitting = self.fitting(page.items.iter().map(|letter| &letter.value)).await?;
            if fitting == page.items.len() {
                break;
            }
            // Asked again for so many, so that the cursor is the one after them.
            query = query.limit(fitting);
            page = self.letters().page(query.clone()).await?;
        }
        let Page { items, next, mut damaged } = page;
        let mut filled = Vec::with_capacity(items.len());
        for letter in items {
            match self.readable(letter.value.clone()).await? {
                Ok(value) => filled.push(Versioned { value, ..letter }),
                // Purged since the page was read.
                Err(gone) if gone.error.is_not_found() => {}
                Err(unreadable) => damaged.push(unreadable.told),
            }
        }
        Ok(Page { items: filled, next, damaged })
    }

    /// How many dead letters a filter takes; its limit and cursor play no part.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn count(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let query = filter.query().map_err(|e| e.during("dead_letters.count"))?;
        self.store.count(query).await.map_err(|e| e.during("dead_letters.count"))
    }

    /// A page of jobs that ever had dead letters, by name; with `open_only`, those that have open ones.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn jobs(&self, open_only: bool, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<DeadLetterJob>>> {
        let mut query = Query::new(DeadLetterJob::COLLECTION.name())?.order_asc("job_id").limit(limit).after(after);
        if open_only {
            query = query.at_least("open", 1_i64);
        }
        self.jobs_records().page(query).await.map_err(|e| e.during("dead_letters.jobs"))
    }
}

/// A commit with one write of a letter, under the revision it was seen at.
fn under(seen: &LetterRef, write: impl FnOnce(RecordId) -> Result<Write>) -> Result<Commit> {
    let id = Records::<DeadLetter>::id(key(&seen.job_id, &seen.item_id)?.as_str())?;
    Ok(Commit::new().trusted().expect(Expectation::Revision(id.clone(), seen.revision)).write(write(id)?))
}

/// What a refusal means to whoever thought to have the letter.
fn lost(error: Error) -> Error {
    if !error.is_conflict() {
        return error;
    }
    error.with_next("read the letter again; if it was claimed, it is in other hands now: drop what was done for it")
}

/// The merge that changes a job's open letters; the first one makes the record.
fn counted(job: &str, open: i64) -> Vec<MergeOp> {
    let mut ops = vec![MergeOp::Add("/open".into(), open)];
    // Text is always valid JSON.
    if let Ok(job) = Json::of(job) {
        ops.push(MergeOp::SetIfAbsent("/job_id".into(), job));
    }
    ops
}

pub mod blocking {
    //! The dead letters for synchronous callers.
    use super::*;

    blocking_api! {
        /// The dead letters of a namespace, for synchronous callers.
        DeadLetters of super::DeadLetters {
            fn add(job: &str, item: DeadLetteredItem) -> Result<Added>;
            fn get(job: &str, item: &str) -> Result<Option<Versioned<DeadLetter>>>;
            fn attempts(job: &str, item: &str) -> Result<Vec<FailureDetail>>;
            fn list(filter: &DeadLetterFilter) -> Result<Page<Versioned<DeadLetter>>>;
            fn count(filter: &DeadLetterFilter) -> Result<u64>;
            fn jobs(open_only: bool, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<DeadLetterJob>>>;
            fn claim(request: &ClaimRequest) -> Result<Claimed>;
            fn extend(claim: &Claim, visibility: Duration) -> Result<Claim>;
            fn complete(claim: &Claim) -> Result<Receipt>;
            fn complete_all(claims: &[Claim]) -> Result<Receipt>;
            fn release(claim: &Claim) -> Result<Receipt>;
            fn retry_later(claim: &Claim, failure: FailureDetail, delay: Duration) -> Result<Receipt>;
            fn requeue(letter: &LetterRef) -> Result<Receipt>;
            fn discard(letter: &LetterRef, reason: &str, by: &str) -> Result<Receipt>;
            fn stats(job: Option<&str>) -> Result<DeadLetterStats>;
            fn analyse(request: &AnalysisRequest) -> Result<FailureAnalysis>;
            fn purge(request: &PurgeRequest) -> Result<PurgedLetters>;
        }
    }

    impl DeadLetters {
        /// The same with another capacity; see [`super::DeadLetters::with_capacity`].
        #[must_use]
        pub fn with_capacity(mut self, capacity: u32) -> Self {
            self.domain = self.domain.with_capacity(capacity);
            self
        }
    }
}
