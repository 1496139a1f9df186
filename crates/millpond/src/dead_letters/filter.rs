//! Which dead letters to list: every condition goes to the engine as a query on declared fields.

use millpond_core::{Document, PageCursor, Query, Result, Timestamp};

use crate::conditions::{Conditions as _, page_steps, text_steps};

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

    text_steps! {
        /// Of this job.
        job => job;
    }

    /// Also in this state.
    #[must_use]
    pub fn state(mut self, state: DeadLetterState) -> Self {
        self.states.push(state);
        self
    }

    page_steps!();

    pub(super) fn query(&self) -> Result<Query> {
        Ok(Query::new(DeadLetter::COLLECTION.name())?
            .given("job_id", self.job.as_ref())
            .any_of("state", self.states.iter().map(|s| s.as_str()))
            .has_each("error_types", &self.error_type)
            .any_of("last_error_type", &self.last_error_types)
            .given("reprocess_eligible", self.eligible)
            .given("manual_review_required", self.review)
            .between("last_attempt", self.last_attempt_from, self.last_attempt_before)
            .given("error_signature", self.signature.as_ref())
            .given_part("error_signature", self.signature_contains.as_ref())
            .given_prefix("error_signature", self.signature_prefix.as_ref())
            .order_desc("last_attempt")
            .limit(self.limit)
            .after(self.after.clone()))
    }
}
