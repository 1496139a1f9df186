//! Which dead letters to list: every condition goes to the engine as a query on declared fields.

use millpond_core::{Document, PageCursor, Query, Result, Timestamp};

use super::{DeadLetter, DeadLetterState};

/// Conditions on dead letters; all that are given hold. Last attempt first.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterFilter {
    /// The job.
    pub job: Option<String>,
    /// Any of these states; all if empty.
    pub states: Vec<DeadLetterState>,
    /// The name of an error type that any of the kept attempts had, such as `CommandFailed`.
    pub error_type: Option<String>,
    /// Names of error types, one of which the newest attempt had; any if empty.
    pub last_error_types: Vec<String>,
    /// Whether it may be claimed.
    pub eligible: Option<bool>,
    /// Whether a person has to look at it.
    pub review: Option<bool>,
    /// Last tried at or after this moment (inclusive).
    pub last_attempt_from: Option<Timestamp>,
    /// Last tried before this moment (exclusive).
    pub last_attempt_before: Option<Timestamp>,
    /// The whole signature.
    pub signature: Option<String>,
    /// A part of the signature, case-sensitive.
    pub signature_contains: Option<String>,
    /// The error signature begins with this.
    pub signature_prefix: Option<String>,
    /// At most this many; 1 to 10,000. 100 by default.
    pub limit: usize,
    /// Continue after this page.
    pub after: Option<PageCursor>,
}

impl Default for DeadLetterFilter {
    fn default() -> Self {
        Self {
            job: None,
            states: Vec::new(),
            error_type: None,
            last_error_types: Vec::new(),
            eligible: None,
            review: None,
            last_attempt_from: None,
            last_attempt_before: None,
            signature: None,
            signature_contains: None,
            signature_prefix: None,
            limit: 100,
            after: None,
        }
    }
}

impl DeadLetterFilter {
    /// Every dead letter.
    pub fn all() -> Self {
        Self::default()
    }

    /// Of this job.
    #[must_use]
    pub fn job(mut self, job: impl Into<String>) -> Self {
        self.job = Some(job.into());
        self
    }

    /// Also in this state.
    #[must_use]
    pub fn state(mut self, state: DeadLetterState) -> Self {
        self.states.push(state);
        self
    }

    /// At most this many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Continue after a page.
    #[must_use]
    pub fn after(mut self, cursor: Option<PageCursor>) -> Self {
        self.after = cursor;
        self
    }

    pub(super) fn query(&self) -> Result<Query> {
        let mut query = Query::new(DeadLetter::COLLECTION.name())?;
        if let Some(job) = &self.job {
            query = query.eq("job_id", job);
        }
        query = match self.states.as_slice() {
            [] => query,
            [one] => query.eq("state", one.as_str()),
            several => query.one_of("state", several.iter().map(|s| s.as_str())),
        };
        if let Some(error_type) = &self.error_type {
            query = query.has("error_types", error_type);
        }
        if !self.last_error_types.is_empty() {
            query = query.one_of("last_error_type", &self.last_error_types);
        }
        if let Some(eligible) = self.eligible {
            query = query.eq("reprocess_eligible", eligible);
        }
        if let Some(review) = self.review {
            query = query.eq("manual_review_required", review);
        }
        if let Some(from) = self.last_attempt_from {
            query = query.at_least("last_attempt", from);
        }
        if let Some(before) = self.last_attempt_before {
            query = query.below("last_attempt", before);
        }
        if let Some(signature) = &self.signature {
            query = query.eq("error_signature", signature);
        }
        if let Some(part) = &self.signature_contains {
            query = query.contains("error_signature", part);
        }
        if let Some(prefix) = &self.signature_prefix {
            query = query.prefix("error_signature", prefix);
        }
        Ok(query.order_desc("last_attempt").limit(self.limit).after(self.after.clone()))
    }
}
