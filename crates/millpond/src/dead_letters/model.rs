//! Dead letters as the store keeps them: the item, and beside it what the queue keeps about it.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{Collection, Damaged, Document, FieldKind, Key, Result, Timestamp, Versioned};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DeadLetteredItem, FailureDetail, error_signature};
use crate::extra::{self, Extended, Extra};
use crate::text::key_segment;

/// Attempts an item keeps; older ones are dropped and counted.
pub(super) const ATTEMPTS_KEPT: usize = 100;

/// How a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterState {
    /// It waits.
    Pending,
    /// A worker has it, until its visibility timeout.
    Claimed,
    /// It was processed at last.
    Completed,
    /// Somebody gave it up, with a reason.
    Discarded,
}

impl DeadLetterState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Claimed, Self::Completed, Self::Discarded];
    /// The states that count against a job's capacity.
    pub const OPEN: [Self; 2] = [Self::Pending, Self::Claimed];

    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Claimed => "claimed",
            Self::Completed => "completed",
            Self::Discarded => "discarded",
        }
    }

    /// Whether it counts against the job's capacity.
    pub fn is_open(self) -> bool {
        Self::OPEN.contains(&self)
    }
}

impl std::fmt::Display for DeadLetterState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for DeadLetterState {
    type Err = millpond_core::Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            millpond_core::Error::invalid(format!("{text:?} is not the state of a dead letter"))
                .with_next("use pending, claimed, completed or discarded")
        })
    }
}

/// Who has a dead letter, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimNote {
    /// The worker.
    pub by: String,
    /// Since when.
    pub claimed_at: Timestamp,
    /// Until when nobody else can claim it.
    pub until: Timestamp,
}

/// How a dead letter was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedNote {
    /// When.
    pub at: Timestamp,
    /// By whom.
    #[serde(default)]
    pub by: Option<String>,
    /// Why; always given for a discarded one.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A dead letter as the store keeps it: the item, and what the queue keeps about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The job it belongs to.
    pub job_id: String,
    /// How it stands.
    pub state: DeadLetterState,
    /// From when it can be claimed; absent when it cannot.
    #[serde(default)]
    pub available_at: Option<Timestamp>,
    /// When it was first added.
    pub added_at: Timestamp,
    /// Who has it, while it is claimed.
    #[serde(default)]
    pub claim: Option<ClaimNote>,
    /// How often it was claimed.
    #[serde(default)]
    pub claims: i64,
    /// How it was closed, once it is.
    #[serde(default)]
    pub closed: Option<ClosedNote>,
    /// The names of the error types of all attempts that are kept.
    #[serde(default)]
    pub error_types: Vec<String>,
    /// The name of the newest attempt's error type.
    #[serde(default)]
    pub last_error_type: Option<String>,
    /// Attempts that were dropped from the history because it was full.
    #[serde(default)]
    pub attempts_dropped: u64,
    /// Where the item's data is kept, when it is too large for records. Callers get the data in its place all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_object: Option<String>,
    /// The item itself, and fields we do not know.
    #[serde(flatten)]
    pub item: DeadLetteredItem,
}

impl Extended for DeadLetter {
    fn extras(&self) -> Vec<&Extra> {
        let artifacts = self.item.worktree_artifacts.iter().map(|a| &a.extra);
        let failures = self.item.failure_history.iter().map(|f| &f.extra);
        [&self.item.extra].into_iter().chain(artifacts).chain(failures).collect()
    }
}

impl Document for DeadLetter {
    const COLLECTION: Collection = Collection::new("dead_letters")
        .version(1)
        .index("job_id", FieldKind::Text)
        .index("state", FieldKind::Text)
        .index("available_at", FieldKind::Timestamp)
        .index("first_attempt", FieldKind::Timestamp)
        .index("last_attempt", FieldKind::Timestamp)
        .index("failure_count", FieldKind::Integer)
        .index("reprocess_eligible", FieldKind::Bool)
        .index("manual_review_required", FieldKind::Bool)
        .index("error_signature", FieldKind::Text)
        .index("error_types", FieldKind::TextSet)
        .index("last_error_type", FieldKind::Text)
        .index_on(&["job_id", "last_attempt"])
        .index_on(&["state", "last_attempt"])
        .index_on(&["job_id", "state", "last_attempt"])
        .index_on(&["job_id", "available_at"])
        .index_on(&["error_signature", "last_attempt"])
        .index_on(&["reprocess_eligible", "last_attempt"])
        .index_on(&["manual_review_required", "last_attempt"])
        .owned();

    fn key(&self) -> Result<Key> {
        key(&self.job_id, &self.item.item_id)
    }
}

/// The key of an item: job and item, each as one segment, so that no two pairs share a key.
pub(super) fn key(job: &str, item: &str) -> Result<Key> {
    let key = Key::new(format!("{}/{}", key_segment(job), key_segment(item)));
    key.map_err(|e| e.with("job", job).with("item", item))
}

impl DeadLetter {
    /// Refuses further fields, handed in with the item or a failure, that are fields of the letter.
    pub(super) fn check_extra(&self) -> Result<()> {
        extra::check(&format!("item {:?} of job {:?}", self.item.item_id, self.job_id), self)
    }

    /// A letter that waits from now on.
    pub(super) fn new(job: &str, item: DeadLetteredItem, now: Timestamp) -> Self {
        let mut letter = Self {
            job_id: job.to_owned(),
            state: DeadLetterState::Pending,
            available_at: None,
            added_at: now,
            claim: None,
            claims: 0,
            closed: None,
            error_types: Vec::new(),
            last_error_type: None,
            attempts_dropped: 0,
            payload_object: None,
            item,
        };
        let given = std::mem::take(&mut letter.item.error_signature);
        letter.keep_newest();
        if !given.is_empty() {
            letter.item.error_signature = given;
        }
        letter.wait(now);
        letter
    }

    /// Puts the letter back among those that wait.
    pub(super) fn wait(&mut self, from: Timestamp) {
        self.state = DeadLetterState::Pending;
        self.claim = None;
        self.closed = None;
        self.available_at = self.item.reprocess_eligible.then_some(from);
    }

    /// Adds failures that happened after the ones it knows.
    pub(super) fn failed_again(&mut self, failures: Vec<FailureDetail>, count: u32) {
        for failure in &failures {
            self.item.first_attempt = self.item.first_attempt.min(failure.timestamp);
            self.item.last_attempt = self.item.last_attempt.max(failure.timestamp);
        }
        self.item.failure_count = self.item.failure_count.saturating_add(count);
        self.item.failure_history.extend(failures);
        self.keep_newest();
    }

    /// Drops the oldest attempts past the limit, and takes out of the rest what is filtered by.
    fn keep_newest(&mut self) {
        let history = &mut self.item.failure_history;
        let surplus = history.len().saturating_sub(ATTEMPTS_KEPT);
        history.drain(..surplus);
        self.attempts_dropped += surplus as u64;
        self.error_types = history.iter().map(|f| f.error_type.name()).collect();
        self.error_types.sort_unstable();
        self.error_types.dedup();
        if let Some(newest) = history.last() {
            self.last_error_type = Some(newest.error_type.name());
            self.item.error_signature = error_signature(&newest.error_type, &newest.error_message);
        }
    }
}

/// What a job's dead letters add up to. Changed by merges, in the commit of every operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterJob {
    /// The job.
    pub job_id: String,
    /// Letters that wait or are claimed: what the capacity is about.
    #[serde(default)]
    pub open: i64,
    /// Letters ever added.
    #[serde(default)]
    pub added: i64,
    /// Letters ever evicted to make room.
    #[serde(default)]
    pub evicted: i64,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Document for DeadLetterJob {
    const COLLECTION: Collection =
        Collection::new("dead_letter_jobs").version(1).index("job_id", FieldKind::Text).index("open", FieldKind::Integer).owned();

    fn key(&self) -> Result<Key> {
        job_key(&self.job_id)
    }
}

pub(super) fn job_key(job: &str) -> Result<Key> {
    Key::new(key_segment(job)).map_err(|e| e.with("job", job))
}

/// A dead letter at the revision it was seen at: what an operation on it must carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterRef {
    /// The job.
    pub job_id: String,
    /// The item.
    pub item_id: String,
    /// The record's revision; of a claimed letter, the claim's token.
    pub revision: u64,
}

impl From<&Versioned<DeadLetter>> for LetterRef {
    fn from(letter: &Versioned<DeadLetter>) -> Self {
        Self { job_id: letter.job_id.clone(), item_id: letter.item.item_id.clone(), revision: letter.revision }
    }
}

impl From<&Claim> for LetterRef {
    fn from(claim: &Claim) -> Self {
        Self { job_id: claim.letter.job_id.clone(), item_id: claim.letter.item.item_id.clone(), revision: claim.token }
    }
}

/// A dead letter in a worker's hands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claim {
    /// What completing, releasing and the rest must carry; void as soon as anybody else changed the letter.
    pub token: u64,
    /// Until when nobody else can claim it, on the store's clock.
    pub until: Timestamp,
    /// The letter.
    pub letter: DeadLetter,
}

/// Letters that were claimed together. It stands for its claims wherever those are wanted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Claimed {
    /// The claims.
    pub items: Vec<Claim>,
    /// Letters that were claimed as well and whose data cannot be read: nobody can claim them before their visibility timeout,
    /// and none of them is lost.
    pub damaged: Vec<Damaged>,
}

impl std::ops::Deref for Claimed {
    type Target = Vec<Claim>;
    fn deref(&self) -> &Vec<Claim> {
        &self.items
    }
}

impl std::ops::DerefMut for Claimed {
    fn deref_mut(&mut self) -> &mut Vec<Claim> {
        &mut self.items
    }
}

impl IntoIterator for Claimed {
    type Item = Claim;
    type IntoIter = std::vec::IntoIter<Claim>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'c> IntoIterator for &'c Claimed {
    type Item = &'c Claim;
    type IntoIter = std::slice::Iter<'c, Claim>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

/// Asks for dead letters to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Of this job; of any if left out.
    pub job: Option<String>,
    /// At most this many; 1 to 100.
    pub limit: usize,
    /// How long nobody else can claim them.
    pub visibility: Duration,
    /// The worker's name.
    pub by: String,
}

impl ClaimRequest {
    /// Asks for up to `limit` letters of any job.
    pub fn of(by: impl Into<String>, limit: usize, visibility: Duration) -> Self {
        Self { job: None, limit, visibility, by: by.into() }
    }

    /// Of this job only.
    #[must_use]
    pub fn job(mut self, job: impl Into<String>) -> Self {
        self.job = Some(job.into());
        self
    }
}

/// What adding a dead letter did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Added {
    /// The letter's revision.
    pub revision: u64,
    /// True when the item was there already and its failures were added to it.
    pub merged: bool,
    /// Items that were evicted to make room, oldest first.
    pub evicted: Vec<String>,
}
