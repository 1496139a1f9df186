//! Which sessions to list: every condition goes to the engine as a query on declared fields.

use millpond_core::{Document, PageCursor, Query, Result, Timestamp};

use crate::conditions::{Conditions as _, page_steps, text_steps};

use super::{Session, SessionStatus, SessionType};

/// Conditions on sessions; all that are given hold. Newest started first.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionFilter {
    /// Any of these; all if empty.
    pub statuses: Vec<SessionStatus>,
    /// The type.
    pub session_type: Option<SessionType>,
    /// Started at or after this moment (inclusive).
    pub started_from: Option<Timestamp>,
    /// Started before this moment (exclusive).
    pub started_before: Option<Timestamp>,
    /// The worktree.
    pub worktree_name: Option<String>,
    /// The workflow.
    pub workflow_id: Option<String>,
    /// At most this many; 1 to 10,000. 100 by default.
    pub limit: usize,
    /// Continue after this page.
    pub after: Option<PageCursor>,
}

impl Default for SessionFilter {
    fn default() -> Self {
        Self {
            statuses: Vec::new(),
            session_type: None,
            started_from: None,
            started_before: None,
            worktree_name: None,
            workflow_id: None,
            limit: 100,
            after: None,
        }
    }
}

impl SessionFilter {
    /// Every session.
    pub fn all() -> Self {
        Self::default()
    }

    /// Also this status.
    #[must_use]
    pub fn status(mut self, status: SessionStatus) -> Self {
        self.statuses.push(status);
        self
    }

    /// This type.
    #[must_use]
    pub fn session_type(mut self, session_type: SessionType) -> Self {
        self.session_type = Some(session_type);
        self
    }

    /// Started at or after this moment.
    #[must_use]
    pub fn started_from(mut self, from: Timestamp) -> Self {
        self.started_from = Some(from);
        self
    }

    /// Started before this moment.
    #[must_use]
    pub fn started_before(mut self, before: Timestamp) -> Self {
        self.started_before = Some(before);
        self
    }

    text_steps! {
        /// In this worktree.
        worktree => worktree_name;
        /// Of this workflow.
        workflow => workflow_id;
    }

    page_steps!();

    pub(super) fn query(&self) -> Result<Query> {
        Ok(Query::new(Session::COLLECTION.name())?
            .any_of("status", self.statuses.iter().map(|s| s.as_str()))
            .given("session_type", self.session_type.map(SessionType::as_str))
            .between("started_at", self.started_from, self.started_before)
            .given("worktree_name", self.worktree_name.as_ref())
            .given("workflow_id", self.workflow_id.as_ref())
            .order_desc("started_at")
            .limit(self.limit)
            .after(self.after.clone()))
    }
}
