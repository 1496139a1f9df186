//! Adding dead letters to a job that can hold only so many.
//!
//! The store checks the capacity itself: each add expects the job's counter of open letters to have room, and counts
//! itself in by a merge. So any number of adders at once neither conflict with each other nor go past the capacity;
//! only when the job is full does one of them evict, and the others follow into the room it made.

use millpond_core::{
    Commit, Document, Error, Expectation, MergeOp, NewEvent, Query, RecordId, Records, Result, Versioned, Write,
};

use super::model::{job_key, key};
use super::turns::{TRIES, give_way};
use super::{Added, DeadLetter, DeadLetterJob, DeadLetterState, DeadLetteredItem, DeadLetters};
use crate::payloads::PayloadObject;

/// Letters one commit evicts at most: each is an expectation and a delete.
const EVICT_AT_MOST: i64 = 1_000;

/// The commit of an add, and what it will have done.
pub(super) struct Plan {
    commit: Commit,
    merged: bool,
    evicted: Vec<String>,
    /// The revision of a letter that is there already and stays as it is.
    unchanged: Option<u64>,
}

impl DeadLetters {
    /// Adds an item that failed too often. One that is there already gets the failures it does not know yet, and
    /// waits again; the same failures again change nothing. When the job is full, the oldest tenth of its waiting
    /// letters by last attempt is evicted, reported, and told as an event `dead_letters.evicted` in the stream
    /// `dead_letters/JOB`. One commit point: the letter, the job's counters, the evictions and their event.
    ///
    /// # Errors
    /// `Unavailable` when the job is full of claimed letters; `Invalid` when the item breaks a rule. Data of more than
    /// 900 KiB is staged as an object first: `Unsupported` when there is no place for bytes.
    pub async fn add(&self, job: &str, item: DeadLetteredItem) -> Result<Added> {
        self.try_add(job, item).await.map_err(|e| e.during("dead_letters.add"))
    }

    async fn try_add(&self, job: &str, item: DeadLetteredItem) -> Result<Added> {
        let incoming = self.incoming(job, item).await?;
        let mut last = None;
        for losses in 1..=TRIES {
            let plan = self.plan_add(job, incoming.item.clone(), incoming.object.as_ref()).await?;
            let Plan { commit, merged, evicted, unchanged } = plan;
            if let Some(revision) = unchanged {
                return Ok(Added { revision, merged, evicted });
            }
            match incoming.commit(self, commit).await {
                Ok(receipt) => {
                    let revision = receipt.revisions.first().copied().unwrap_or_default();
                    return Ok(Added { revision, merged, evicted });
                }
                Err(e) if e.is_conflict() => last = Some(e),
                Err(e) => return Err(e),
            }
            give_way(&self.store, losses).await;
        }
        Err(last
            .unwrap_or_else(|| Error::conflict(format!("the dead letters of job {job} keep changing")))
            .with_next("add it again"))
    }

    /// The commit that [`DeadLetters::add`] makes from what the store holds now, or `None` when the letter is there
    /// with all these failures. Its first write is the letter. Refused with `Conflict` when the room or the letter
    /// changed meanwhile; then ask for it again.
    ///
    /// # Errors
    /// As [`DeadLetters::add`].
    pub async fn add_part(&self, job: &str, item: DeadLetteredItem) -> Result<Option<Commit>> {
        let plan = self.plan_add(job, item, None).await.map_err(|e| e.during("dead_letters.add"))?;
        Ok(plan.unchanged.is_none().then_some(plan.commit))
    }

    async fn plan_add(&self, job: &str, item: DeadLetteredItem, object: Option<&PayloadObject>) -> Result<Plan> {
        let key = key(job, &item.item_id)?;
        let record = Records::<DeadLetter>::id(key.as_str())?;
        let totals = Records::<DeadLetterJob>::id(job_key(job)?.as_str())?;
        let found = self.letters().get(key.as_str()).await?;
        let merged = found.is_some();
        let before = found.as_ref().and_then(|found| found.value.payload_object.clone());
        let (mut letter, expect, opens) = match found {
            None => (DeadLetter::new(job, item, self.store.now()), Expectation::Absent(record), true),
            Some(found) => {
                let (revision, opens) = (found.revision, !found.state.is_open());
                let Some(letter) = self.failed_again(found.value, item) else {
                    return Ok(Plan { commit: Commit::new(), merged, evicted: Vec::new(), unchanged: Some(revision) });
                };
                (letter, Expectation::Revision(record, revision), opens)
            }
        };
        letter.check_extra()?;
        letter.payload_object = object.map(|object| object.location.clone());
        let mut commit = Commit::new().trusted().expect(expect).write(Records::put(&letter)?);
        if let Some(object) = object {
            commit = commit.write(Records::put(object)?);
        }
        if let Some(before) = before {
            commit = commit.write(PayloadObject::removal(&before)?);
        }
        let mut evicted = Vec::new();
        if opens {
            let open = self.jobs_records().get(totals.key.as_str()).await?.map_or(0, |t| t.open);
            if open >= self.capacity {
                let (part, items) = self.evict(job, self.evict_at_most(open)).await?;
                (commit, evicted) = (commit.and(part), items);
            }
            commit = self.count_in(commit, job, totals, open, &evicted, !merged);
        }
        Ok(Plan { commit, merged, evicted, unchanged: None })
    }

    /// A tenth of the capacity, and what was too many before (a smaller capacity was set).
    fn evict_at_most(&self, open: i64) -> i64 {
        (self.capacity / 10).max(open + 1 - self.capacity).clamp(1, EVICT_AT_MOST)
    }

    /// A letter that failed again, or `None` when it knows all these failures already.
    fn failed_again(&self, mut letter: DeadLetter, item: DeadLetteredItem) -> Option<DeadLetter> {
        let given = item.failure_history.len();
        let mut failures = item.failure_history;
        failures.retain(|f| !letter.item.failure_history.contains(f));
        if failures.is_empty() && item.last_attempt <= letter.item.last_attempt {
            return None;
        }
        let known = u32::try_from(given - failures.len()).unwrap_or(u32::MAX);
        letter.item.item_data = item.item_data;
        letter.item.reprocess_eligible = item.reprocess_eligible;
        letter.item.manual_review_required = item.manual_review_required;
        letter.item.last_attempt = letter.item.last_attempt.max(item.last_attempt);
        letter.item.first_attempt = letter.item.first_attempt.min(item.first_attempt);
        letter.item.worktree_artifacts = item.worktree_artifacts.or(letter.item.worktree_artifacts);
        letter.item.extra.extend(item.extra);
        letter.failed_again(failures, item.failure_count.saturating_sub(known));
        if !item.error_signature.is_empty() {
            letter.item.error_signature = item.error_signature;
        }
        letter.wait(self.store.now());
        Some(letter)
    }

    /// The part that evicts a job's waiting letters, those last tried longest ago first.
    async fn evict(&self, job: &str, n: i64) -> Result<(Commit, Vec<String>)> {
        let limit = usize::try_from(n).unwrap_or(1);
        let query = Query::new(DeadLetter::COLLECTION.name())?
            .eq("job_id", job)
            .eq("state", DeadLetterState::Pending.as_str())
            .order_asc("last_attempt")
            .limit(limit);
        let oldest: Vec<Versioned<DeadLetter>> = self.letters().page(query).await?.items;
        if oldest.is_empty() {
            let message =
                format!("job {job} holds {} open dead letters, its capacity, and all of them are claimed", self.capacity);
            return Err(Error::unavailable(message).with_next("let the workers finish, or raise the capacity"));
        }
        let mut commit = Commit::new();
        for letter in &oldest {
            let id = Records::<DeadLetter>::id(letter.key()?.as_str())?;
            commit = commit.expect(Expectation::Revision(id.clone(), letter.revision)).write(Write::Delete(id));
            if let Some(location) = &letter.payload_object {
                commit = commit.write(PayloadObject::removal(location)?);
            }
        }
        let items: Vec<String> = oldest.into_iter().map(|l| l.value.item.item_id).collect();
        let told = serde_json::json!({"job_id": job, "capacity": self.capacity, "count": items.len(), "items": items});
        let event = NewEvent::of("dead_letters.evicted", &told)?;
        Ok((commit.append(&Self::stream(job), event)?, items))
    }

    /// Counts a letter in, and evicted ones out, if the store finds room for it. Where a smaller capacity was set
    /// than there are letters, the number must at least not grow.
    fn count_in(&self, commit: Commit, job: &str, totals: RecordId, open: i64, evicted: &[String], new: bool) -> Commit {
        let gone = i64::try_from(evicted.len()).unwrap_or(i64::MAX);
        let most = if gone > 0 { (self.capacity - 1 + gone).max(open) } else { self.capacity - 1 };
        let mut ops = super::counted(job, 1 - gone);
        ops.push(MergeOp::Add("/added".into(), i64::from(new)));
        ops.push(MergeOp::Add("/evicted".into(), gone));
        commit.expect(Expectation::AtMost(totals.clone(), "/open".into(), most)).write(Write::Merge(totals, ops))
    }
}
