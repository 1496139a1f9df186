//! Which runs a list shows. Every condition is a declared field, so the engine does the work.

use std::collections::{BTreeMap, BTreeSet};

use millpond_core::{Document, PageCursor, Query, Result, Timestamp};

use crate::conditions::{Conditions as _, page_steps, text_steps};

use super::model::{Run, RunStatus};

/// By which of its times a list of runs is ordered, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunOrder {
    /// Started last, first.
    #[default]
    NewestFirst,
    /// Started first, first.
    OldestFirst,
    /// Finished last, first; runs that go on come last.
    LastFinished,
}

/// Conditions on runs; all of them hold. The default shows every run, newest first, 100 at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFilter {
    /// The workflow.
    pub workflow: Option<String>,
    /// The workflow's version.
    pub version: Option<u32>,
    /// The status.
    pub status: Option<RunStatus>,
    /// Started at or after this time.
    pub started_from: Option<Timestamp>,
    /// Started before this time.
    pub started_to: Option<Timestamp>,
    /// Finished at or after this time.
    pub finished_from: Option<Timestamp>,
    /// Finished before this time.
    pub finished_to: Option<Timestamp>,
    /// The parent.
    pub parent: Option<String>,
    /// The hash of the configuration.
    pub config: Option<String>,
    /// Tags the run has.
    pub tags: BTreeSet<String>,
    /// Labels the run has, with these values.
    pub labels: BTreeMap<String, String>,
    /// The order.
    pub order: RunOrder,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
    /// Continue after a page of the same filter.
    pub after: Option<PageCursor>,
}

impl Default for RunFilter {
    fn default() -> Self {
        Self {
            workflow: None,
            version: None,
            status: None,
            started_from: None,
            started_to: None,
            finished_from: None,
            finished_to: None,
            parent: None,
            config: None,
            tags: BTreeSet::new(),
            labels: BTreeMap::new(),
            order: RunOrder::default(),
            limit: 100,
            after: None,
        }
    }
}

impl RunFilter {
    /// Every run.
    pub fn all() -> Self {
        Self::default()
    }

    text_steps! {
        /// Runs of a workflow.
        workflow => workflow;
    }

    /// Runs of a version.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// Runs of a status.
    #[must_use]
    pub fn status(mut self, status: RunStatus) -> Self {
        self.status = Some(status);
        self
    }

    text_steps! {
        /// Runs that came from this one.
        parent => parent;
    }

    /// Runs with a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Runs with a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// The order.
    #[must_use]
    pub fn order(mut self, order: RunOrder) -> Self {
        self.order = order;
        self
    }

    page_steps!();

    /// The query the engine runs.
    pub(super) fn query(&self) -> Result<Query> {
        let query = Query::new(Run::COLLECTION.name())?
            .given("workflow", self.workflow.as_ref())
            .given("parent", self.parent.as_ref())
            .given("config", self.config.as_ref())
            .given("version", self.version)
            .given("status", self.status.map(RunStatus::as_str))
            .between("started_at", self.started_from, self.started_to)
            .between("finished_at", self.finished_from, self.finished_to)
            .has_each("tags", &self.tags)
            .has_each("labels", self.labels.iter().map(|(name, value)| format!("{name}={value}")))
            .limit(self.limit)
            .after(self.after.clone());
        Ok(match self.order {
            RunOrder::NewestFirst => query.order_desc("started_at"),
            RunOrder::OldestFirst => query.order_asc("started_at"),
            RunOrder::LastFinished => query.order_desc("finished_at"),
        })
    }
}
