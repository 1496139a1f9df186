//! Metrics and patterns: figures of runs, what they add up to, and what was learnt from them.
//!
//! ```text
//!  record_execution ─► executions/RUN                absent before: counted exactly once
//!                  ├─► metric_summaries/WF/V         + counts, sums, min, max, sketch
//!                  ├─► metric_operations/WF/V/OP     + count
//!                  └─► metric_nodes/WF/V/NODE        + durations
//! ```
//!
//! All of it is one commit, and everything below the first line is a merge: a thousand concurrent runs update one
//! summary without one conflict. Trends and the figures of recent runs are computed from the facts by the engine.

mod feedback;
mod model;
mod patterns;
mod sketch;
mod summary;
mod trend;

use std::collections::BTreeMap;

use millpond_core::{
    Collection, Commit, Document, Error, Expectation, Expected, Json, MergeOp, Page, PageCursor, Query, Receipt, Records, Result,
    Store, Timestamp, Versioned,
};

pub use feedback::{Feedback, FeedbackFilter, NewFeedback};
pub use model::{Execution, Measure, MetricSummary, NodeDurations, NodeExecution, OperationCount};
pub use patterns::{NewPattern, Pattern, PatternFilter, pattern_kinds};
pub use sketch::{QUANTILE_ERROR, Sketch};
pub use summary::{NamedCount, NamedDuration, Summary};
pub use trend::TrendPoint;

use model::{named_key, version_key};

/// What this domain declares.
pub(crate) const COLLECTIONS: [Collection; 6] = [
    Execution::COLLECTION,
    MetricSummary::COLLECTION,
    OperationCount::COLLECTION,
    NodeDurations::COLLECTION,
    Pattern::COLLECTION,
    Feedback::COLLECTION,
];

/// The metrics, patterns and feedback of a pond.
#[derive(Debug, Clone)]
pub struct Metrics {
    store: Store,
}

impl Metrics {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Counts a run; true if it was counted now, false if the same figures of the same run were counted before.
    ///
    /// One commit point: the run's fact, and the merges into the summary, the operations and the nodes.
    ///
    /// # Errors
    /// `Invalid` when the run was recorded with other figures, or a figure is below 0.
    pub async fn record_execution(&self, execution: Execution) -> Result<bool> {
        let (fact, part) = self.record_execution_part(execution)?;
        match self.store.commit(part).await {
            Ok(_) => Ok(true),
            Err(error) if is_counted(&error, &fact) => self.counted_before(&fact).await.map(|()| false),
            Err(error) => Err(error.during("metrics.record_execution")),
        }
    }

    /// The fact and the part of a commit that [`Metrics::record_execution`] makes. A commit it is part of is refused
    /// with `Conflict` when the run was counted before.
    ///
    /// # Errors
    /// `Invalid` when a figure is below 0, or a name is empty.
    pub fn record_execution_part(&self, execution: Execution) -> Result<(Execution, Commit)> {
        let now = self.store.now();
        let fact = execution.signed(now)?;
        let mut part = Commit::new()
            .trusted()
            .expect(Expectation::Absent(Records::<Execution>::id(fact.key()?.as_str())?))
            .write(Records::put(&fact)?)
            .merge(MetricSummary::COLLECTION.name(), &version_key(&fact.workflow, fact.version), summary_ops(&fact, now)?)?;
        for (operation, times) in &fact.operations {
            part = part.merge(
                OperationCount::COLLECTION.name(),
                &named_key(&fact.workflow, fact.version, operation),
                vec![
                    set(&fact, "workflow")?,
                    set(&fact, "version")?,
                    MergeOp::SetIfAbsent("/operation".into(), Json::of(operation)?),
                    MergeOp::Add("/count".into(), *times),
                    MergeOp::Add("/runs".into(), 1),
                ],
            )?;
        }
        for (node, ops) in node_ops(&fact)? {
            part = part.merge(NodeDurations::COLLECTION.name(), &named_key(&fact.workflow, fact.version, node), ops)?;
        }
        Ok((fact, part))
    }

    /// Settles a refusal over a fact that exists: fine if it holds the same figures.
    pub(crate) async fn counted_before(&self, fact: &Execution) -> Result<()> {
        match self.execution(&fact.run).await? {
            Some(found) if found.digest == fact.digest => Ok(()),
            Some(found) => Err(Error::invalid(format!("run {} was recorded with other figures ({})", fact.run, found.time))
                .with_next("record a run once, with its final figures")
                .during("metrics.record_execution")),
            None => Err(Error::conflict(format!("the figures of run {} were deleted while they were recorded", fact.run))
                .during("metrics.record_execution")),
        }
    }

    /// The figures of one run.
    ///
    /// # Errors
    /// `Corrupt` when the record does not read back.
    pub async fn execution(&self, run: &str) -> Result<Option<Versioned<Execution>>> {
        let key = crate::text::key_segment(run);
        Records::new(self.store.clone()).get(&key).await.map_err(|e| e.during("metrics.execution"))
    }

    /// A page of what the runs of a workflow's version did most often, the most common first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is.
    pub async fn operations(
        &self,
        workflow: &str,
        version: u32,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<Page<Versioned<OperationCount>>> {
        let query = summary::operations_query(workflow, version)?.limit(limit).after(after);
        Records::new(self.store.clone()).page(query).await.map_err(|e| e.during("metrics.operations"))
    }

    /// A page of how long the nodes of a workflow's version took, the one with the most time first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is.
    pub async fn nodes(
        &self,
        workflow: &str,
        version: u32,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<Page<Versioned<NodeDurations>>> {
        let query = summary::nodes_query(workflow, version)?.limit(limit).after(after);
        Records::new(self.store.clone()).page(query).await.map_err(|e| e.during("metrics.nodes"))
    }

    /// A page of the summaries of all workflows, or of the versions of one, by workflow.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is.
    pub async fn summaries(
        &self,
        workflow: Option<&str>,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<Page<Versioned<MetricSummary>>> {
        let query = Query::new(MetricSummary::COLLECTION.name())?;
        let query = match workflow {
            Some(workflow) => query.eq("workflow", workflow).order_asc("version"),
            None => query.order_asc("workflow"),
        };
        let query = query.limit(limit).after(after);
        Records::new(self.store.clone()).page(query).await.map_err(|e| e.during("metrics.summaries"))
    }
}

/// True when a commit was refused because this run was counted before.
pub(crate) fn is_counted(error: &Error, fact: &Execution) -> bool {
    let Some(conflict) = error.as_conflict() else { return false };
    let Expected::Stated(Expectation::Absent(id)) = &conflict.expected else { return false };
    id.collection.as_str() == Execution::COLLECTION.name() && fact.key().is_ok_and(|key| key == id.key)
}

fn set(fact: &Execution, field: &str) -> Result<MergeOp> {
    let value = if field == "version" { Json::of(&fact.version)? } else { Json::of(&fact.workflow)? };
    Ok(MergeOp::SetIfAbsent(format!("/{field}"), value))
}

/// Sum, min and max at a JSON pointer.
fn measure(pointer: &str, value: i64) -> [MergeOp; 3] {
    [
        MergeOp::Add(format!("{pointer}/sum"), value),
        MergeOp::Min(format!("{pointer}/min"), value),
        MergeOp::Max(format!("{pointer}/max"), value),
    ]
}

fn summary_ops(fact: &Execution, now: Timestamp) -> Result<Vec<MergeOp>> {
    let at = fact.at.unwrap_or(now).as_micros();
    let mut ops = vec![
        set(fact, "workflow")?,
        set(fact, "version")?,
        MergeOp::Add("/executions".into(), 1),
        // Both, so that neither is ever absent.
        MergeOp::Add("/succeeded".into(), i64::from(fact.success)),
        MergeOp::Add("/failed".into(), i64::from(!fact.success)),
        MergeOp::Add("/nodes_executed".into(), i64::try_from(fact.nodes.len()).unwrap_or(i64::MAX)),
        MergeOp::Min("/first_at".into(), at),
        MergeOp::Max("/last_at".into(), at),
        Sketch::add_op("/durations", fact.duration_us),
    ];
    ops.extend(measure("/duration_us", fact.duration_us));
    ops.extend(measure("/tokens", fact.tokens));
    ops.extend(measure("/cost_micros", fact.cost_micros));
    Ok(ops)
}

fn node_ops(fact: &Execution) -> Result<BTreeMap<&str, Vec<MergeOp>>> {
    let mut nodes: BTreeMap<&str, Vec<MergeOp>> = BTreeMap::new();
    for execution in &fact.nodes {
        let ops = nodes.entry(&execution.node).or_default();
        if ops.is_empty() {
            ops.push(set(fact, "workflow")?);
            ops.push(set(fact, "version")?);
            ops.push(MergeOp::SetIfAbsent("/node".into(), Json::of(&execution.node)?));
        }
        ops.push(MergeOp::Add("/executions".into(), 1));
        ops.push(MergeOp::Add("/failed".into(), i64::from(!execution.success)));
        ops.push(Sketch::add_op("/durations", execution.duration_us));
        ops.extend(measure("/duration_us", execution.duration_us));
    }
    Ok(nodes)
}

pub(crate) mod blocking {
    //! The same for synchronous callers.
    use super::*;
    use std::time::Duration;
    blocking_api! {
        /// The metrics, patterns and feedback, for synchronous callers.
        Metrics of super::Metrics {
            fn record_execution(execution: Execution) -> Result<bool>;
            fn execution(run: &str) -> Result<Option<Versioned<Execution>>>;
            fn operations(workflow: &str, version: u32, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<OperationCount>>>;
            fn nodes(workflow: &str, version: u32, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<NodeDurations>>>;
            fn summaries(workflow: Option<&str>, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<MetricSummary>>>;
            fn summary(workflow: &str, version: u32) -> Result<Option<Summary>>;
            fn recent_summary(workflow: &str, version: Option<u32>, runs: usize) -> Result<Option<Summary>>;
            fn trend(workflow: &str, version: Option<u32>, from: Timestamp, to: Timestamp, bucket: Duration) -> Result<Vec<TrendPoint>>;
            fn record_pattern(pattern: NewPattern) -> Result<Receipt>;
            fn pattern(workflow: &str, id: &str) -> Result<Option<Versioned<Pattern>>>;
            fn patterns(filter: &PatternFilter) -> Result<Page<Versioned<Pattern>>>;
            fn add_feedback(feedback: NewFeedback) -> Result<Versioned<Feedback>>;
            fn feedback(filter: &FeedbackFilter) -> Result<Page<Versioned<Feedback>>>;
        }
    }
}
