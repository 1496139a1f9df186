//! Which rows a list shows. Every condition is a declared field, so the engine does the work.

use millpond_core::{Document, Filter, PageCursor, Query, Result, Timestamp};

use super::found_by::{artifact, searched};
use super::model::{LineageRow, LineageStatus};
use crate::conditions::{Conditions as _, page_steps, text_steps};

/// By which of its times a list of rows is ordered, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineageOrder {
    /// Began last, first.
    #[default]
    LastStarted,
    /// Began first, first.
    FirstStarted,
    /// Ended last, first; rows that have not ended are left out.
    LastCompleted,
    /// Ended first, first; rows that have not ended are left out.
    FirstCompleted,
}

/// Conditions on rows; all of them hold. The default shows every row, the one that began last first, 100 at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct LineageFilter {
    /// The execution.
    pub execution: Option<String>,
    /// The route.
    pub route: Option<String>,
    /// The adapter.
    pub adapter: Option<String>,
    /// The stage.
    pub stage: Option<String>,
    /// One of these statuses; any, if there are none.
    pub statuses: Vec<LineageStatus>,
    /// The correlation.
    pub correlation: Option<String>,
    /// The parent: of the rows that came from several others, those whose parent it is.
    pub parent: Option<String>,
    /// The batch.
    pub batch: Option<String>,
    /// The document.
    pub document: Option<String>,
    /// Whether it came from no other row.
    pub root: Option<bool>,
    /// The key of the artifact that came out.
    pub artifact: Option<String>,
    /// A part of the metadata's `url`, in any case; looked for in its first 1,024 bytes.
    pub url: Option<String>,
    /// A part of the metadata's `origin`, in the same way.
    pub origin: Option<String>,
    /// A part of the metadata's `title`, in the same way.
    pub title: Option<String>,
    /// Began at or after this time.
    pub started_from: Option<Timestamp>,
    /// Began before this time.
    pub started_before: Option<Timestamp>,
    /// The order.
    pub order: LineageOrder,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
    /// Continue after a page of the same filter.
    pub after: Option<PageCursor>,
}

impl Default for LineageFilter {
    fn default() -> Self {
        Self {
            execution: None,
            route: None,
            adapter: None,
            stage: None,
            statuses: Vec::new(),
            correlation: None,
            parent: None,
            batch: None,
            document: None,
            root: None,
            artifact: None,
            url: None,
            origin: None,
            title: None,
            started_from: None,
            started_before: None,
            order: LineageOrder::default(),
            limit: 100,
            after: None,
        }
    }
}

impl LineageFilter {
    /// Every row.
    pub fn all() -> Self {
        Self::default()
    }

    text_steps! {
        /// Rows of an execution.
        execution => execution;
        /// Rows of a route.
        route => route;
        /// Rows of an adapter.
        adapter => adapter;
        /// Rows of a stage.
        stage => stage;
        /// Rows of a correlation.
        correlation => correlation;
        /// Rows with this parent.
        parent => parent;
        /// Rows of a batch.
        batch => batch;
        /// Rows about a document.
        document => document;
        /// Rows from which the artifact with this key came.
        artifact => artifact;
        /// Rows whose `url` holds this.
        url => url;
        /// Rows whose `origin` holds this.
        origin => origin;
        /// Rows whose `title` holds this.
        title => title;
    }

    /// Rows of a status, or of one more.
    #[must_use]
    pub fn status(mut self, status: LineageStatus) -> Self {
        self.statuses.push(status);
        self
    }

    /// Rows that came from no other, or those that did.
    #[must_use]
    pub fn root(mut self, root: bool) -> Self {
        self.root = Some(root);
        self
    }

    /// Rows that began at or after this time.
    #[must_use]
    pub fn started_from(mut self, from: Timestamp) -> Self {
        self.started_from = Some(from);
        self
    }

    /// Rows that began before this time.
    #[must_use]
    pub fn started_before(mut self, before: Timestamp) -> Self {
        self.started_before = Some(before);
        self
    }

    /// The order.
    #[must_use]
    pub fn order(mut self, order: LineageOrder) -> Self {
        self.order = order;
        self
    }

    page_steps!();

    /// The conditions, in no order of their own.
    pub(super) fn conditions(&self) -> Result<Query> {
        let part = |text: &Option<String>| text.as_deref().map(searched);
        Ok(Query::new(LineageRow::COLLECTION.name())?
            .given("execution", self.execution.as_ref())
            .given("route", self.route.as_ref())
            .given("adapter", self.adapter.as_ref())
            .given("stage", self.stage.as_ref())
            .any_of("status", self.statuses.iter().map(|status| status.as_str()))
            .given("correlation", self.correlation.as_ref())
            .given("parent", self.parent.as_ref())
            .given("batch", self.batch.as_ref())
            .given("document", self.document.as_ref())
            .given("root", self.root)
            .given("artifact", self.artifact.as_deref().map(artifact))
            .given_part("url", part(&self.url).as_ref())
            .given_part("origin", part(&self.origin).as_ref())
            .given_part("title", part(&self.title).as_ref())
            .between("started_at", self.started_from, self.started_before))
    }

    /// The query the engine runs.
    pub(super) fn query(&self) -> Result<Query> {
        let ended = || Filter::Present("completed_at".to_owned());
        let query = self.conditions()?.limit(self.limit).after(self.after.clone());
        Ok(match self.order {
            LineageOrder::LastStarted => query.order_desc("started_at"),
            LineageOrder::FirstStarted => query.order_asc("started_at"),
            LineageOrder::LastCompleted => query.filter(ended()).order_desc("completed_at"),
            LineageOrder::FirstCompleted => query.filter(ended()).order_asc("completed_at"),
        })
    }
}
