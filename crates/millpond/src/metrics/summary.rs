//! What the runs of a workflow's version add up to: all of them from the summary, the last n from their facts.

use std::collections::BTreeMap;

use millpond_core::{Document, Error, Query, Read, RecordId, Result, Timestamp, limits};
use serde::Serialize;

use crate::conditions::Conditions;

use super::Metrics;
use super::model::{Execution, Measure, MetricSummary, NodeDurations, OperationCount, version_key};
use super::sketch::{Sketch, rank};

/// How many operations and nodes a summary shows; [`Metrics::operations`] and [`Metrics::nodes`] show all.
const TOP: usize = 10;

/// Facts read at a time.
const FACTS: usize = 1_000;

/// What runs add up to. Counts, sums, smallest and largest are exact.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The workflow.
    pub workflow: String,
    /// The version; `None` for the last runs of any.
    pub version: Option<u32>,
    /// Runs.
    pub executions: i64,
    /// Runs that reached their end.
    pub succeeded: i64,
    /// Runs that did not.
    pub failed: i64,
    /// Durations in microseconds.
    pub duration_us: Measure,
    /// Tokens.
    pub tokens: Measure,
    /// Cost in millionths.
    pub cost_micros: Measure,
    /// Mean duration in microseconds.
    pub average_duration_us: f64,
    /// Mean number of tokens.
    pub average_tokens: f64,
    /// Mean cost in millionths.
    pub average_cost_micros: f64,
    /// Nodes executed.
    pub nodes_executed: i64,
    /// Half of the runs took at most this many microseconds. In a summary of all runs this and the next two come
    /// from a sketch, within 1 % of the exact value (and half a microsecond); in one of recent runs they are exact.
    pub p50_us: i64,
    /// 95 of 100 runs took at most this many microseconds.
    pub p95_us: i64,
    /// 99 of 100 runs took at most this many microseconds.
    pub p99_us: i64,
    /// When the earliest run ended.
    pub first_at: Timestamp,
    /// When the latest run ended.
    pub last_at: Timestamp,
    /// What they did most often, ten at most.
    pub operations: Vec<NamedCount>,
    /// The nodes that took the most time, ten at most.
    pub nodes: Vec<NamedDuration>,
}

/// How often something was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedCount {
    /// What.
    pub operation: String,
    /// How often.
    pub count: i64,
}

/// How long a node took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedDuration {
    /// The node.
    pub node: String,
    /// How often it was executed.
    pub executions: i64,
    /// Durations in microseconds.
    pub duration_us: Measure,
}

pub(super) fn operations_query(workflow: &str, version: u32) -> Result<Query> {
    Ok(Query::new(OperationCount::COLLECTION.name())?.eq("workflow", workflow).eq("version", version).order_desc("count"))
}

pub(super) fn nodes_query(workflow: &str, version: u32) -> Result<Query> {
    Ok(Query::new(NodeDurations::COLLECTION.name())?.eq("workflow", workflow).eq("version", version).order_desc("total_us"))
}

impl Metrics {
    /// What all runs of a workflow's version add up to; `None` when none was recorded. One snapshot.
    ///
    /// # Errors
    /// `Corrupt` when a record does not read back.
    pub async fn summary(&self, workflow: &str, version: u32) -> Result<Option<Summary>> {
        self.read_summary(workflow, version).await.map_err(|e| e.during("metrics.summary"))
    }

    async fn read_summary(&self, workflow: &str, version: u32) -> Result<Option<Summary>> {
        let id = RecordId::new(MetricSummary::COLLECTION.name(), &version_key(workflow, version))?;
        let reads = vec![
            Read::Get(id),
            Read::Query(operations_query(workflow, version)?.limit(TOP)),
            Read::Query(nodes_query(workflow, version)?.limit(TOP)),
        ];
        let mut answers = self.store.read(reads).await?.into_iter();
        let mut next = || answers.next().ok_or_else(|| Error::corrupt("the engine answered fewer reads than it was asked"));
        let Some(record) = next()?.into_record()? else { return Ok(None) };
        let total = record.decode::<MetricSummary>()?.value;
        let mut summary = from_total(total);
        for record in next()?.into_page()?.items {
            let found = record.decode::<OperationCount>()?.value;
            summary.operations.push(NamedCount { operation: found.operation, count: found.count });
        }
        for record in next()?.into_page()?.items {
            let found = record.decode::<NodeDurations>()?.value;
            let duration_us = found.duration_us;
            summary.nodes.push(NamedDuration { node: found.node, executions: found.executions, duration_us });
        }
        Ok(Some(summary))
    }

    /// What the last runs of a workflow add up to, of one version or of all; `None` when none was recorded. Computed
    /// from the facts of those runs, read a thousand at a time.
    ///
    /// # Errors
    /// `Invalid` when `runs` is not between 1 and 10,000.
    pub async fn recent_summary(&self, workflow: &str, version: Option<u32>, runs: usize) -> Result<Option<Summary>> {
        self.read_recent(workflow, version, runs).await.map_err(|e| e.during("metrics.recent_summary"))
    }

    async fn read_recent(&self, workflow: &str, version: Option<u32>, runs: usize) -> Result<Option<Summary>> {
        if runs == 0 || runs > limits::PAGE_ROWS {
            return Err(Error::invalid(format!("{runs} recent runs; ask for 1 to {}", limits::PAGE_ROWS)));
        }
        let query = Query::new(Execution::COLLECTION.name())?.eq("workflow", workflow).given("version", version).order_desc("at");
        let (mut total, mut left, mut after) = (Recent::default(), runs, None);
        while left > 0 {
            let page = self.store.query(query.clone().limit(left.min(FACTS)).after(after)).await?;
            for record in &page.items {
                // One fact that does not read back must not hide the others; `check` reports it.
                if let Ok(fact) = record.decode::<Execution>() {
                    total.add(&fact.value, fact.time);
                }
            }
            left -= page.items.len().min(left);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(total.summary(workflow, version))
    }
}

fn average(sum: i64, count: i64) -> f64 {
    // For showing only; the exact sum and count stand beside it.
    #[allow(clippy::cast_precision_loss)]
    let average = if count == 0 { 0.0 } else { sum as f64 / count as f64 };
    average
}

fn from_total(total: MetricSummary) -> Summary {
    let quantile = |share| bounded_quantile(&total.durations, share, total.duration_us);
    Summary {
        average_duration_us: average(total.duration_us.sum, total.executions),
        average_tokens: average(total.tokens.sum, total.executions),
        average_cost_micros: average(total.cost_micros.sum, total.executions),
        p50_us: quantile(0.5),
        p95_us: quantile(0.95),
        p99_us: quantile(0.99),
        workflow: total.workflow,
        version: Some(total.version),
        executions: total.executions,
        succeeded: total.succeeded,
        failed: total.failed,
        duration_us: total.duration_us,
        tokens: total.tokens,
        cost_micros: total.cost_micros,
        nodes_executed: total.nodes_executed,
        first_at: total.first_at,
        last_at: total.last_at,
        operations: Vec::new(),
        nodes: Vec::new(),
    }
}

/// The extremes are known exactly, so an estimate never leaves them.
fn bounded_quantile(sketch: &Sketch, share: f64, measure: Measure) -> i64 {
    sketch.quantile(share).map_or(0, |value| value.clamp(measure.min, measure.max.max(measure.min)))
}

/// Adds facts up in memory.
#[derive(Default)]
struct Recent {
    executions: i64,
    succeeded: i64,
    duration_us: Measure,
    tokens: Measure,
    cost_micros: Measure,
    durations: Vec<i64>,
    nodes_executed: i64,
    times: Option<(Timestamp, Timestamp)>,
    operations: BTreeMap<String, i64>,
    nodes: BTreeMap<String, (i64, Measure)>,
}

impl Recent {
    fn add(&mut self, fact: &Execution, recorded: Timestamp) {
        let first = self.executions == 0;
        let at = fact.at.unwrap_or(recorded);
        self.executions += 1;
        self.succeeded += i64::from(fact.success);
        self.duration_us = self.duration_us.with(fact.duration_us, first);
        self.tokens = self.tokens.with(fact.tokens, first);
        self.cost_micros = self.cost_micros.with(fact.cost_micros, first);
        self.durations.push(fact.duration_us);
        self.nodes_executed += i64::try_from(fact.nodes.len()).unwrap_or(0);
        self.times = Some(self.times.map_or((at, at), |(from, to)| (from.min(at), to.max(at))));
        for (operation, times) in &fact.operations {
            *self.operations.entry(operation.clone()).or_default() += times;
        }
        for node in &fact.nodes {
            let (executions, measure) = self.nodes.entry(node.node.clone()).or_default();
            *measure = measure.with(node.duration_us, *executions == 0);
            *executions += 1;
        }
    }

    fn summary(mut self, workflow: &str, version: Option<u32>) -> Option<Summary> {
        let (first_at, last_at) = self.times?;
        self.durations.sort_unstable();
        let exact = |share| {
            let at = usize::try_from(rank(self.executions, share) - 1).unwrap_or(0);
            self.durations.get(at).copied().unwrap_or(0)
        };
        let operations = self.operations.iter().map(|(o, n)| NamedCount { operation: o.clone(), count: *n });
        let mut operations: Vec<_> = operations.collect();
        operations.sort_by_key(|o| std::cmp::Reverse(o.count));
        operations.truncate(TOP);
        let nodes = self.nodes.iter();
        let mut nodes: Vec<_> = nodes
            .map(|(node, (executions, m))| NamedDuration { node: node.clone(), executions: *executions, duration_us: *m })
            .collect();
        nodes.sort_by_key(|n| std::cmp::Reverse(n.duration_us.sum));
        nodes.truncate(TOP);
        Some(Summary {
            workflow: workflow.to_owned(),
            version,
            executions: self.executions,
            succeeded: self.succeeded,
            failed: self.executions - self.succeeded,
            duration_us: self.duration_us,
            tokens: self.tokens,
            cost_micros: self.cost_micros,
            average_duration_us: average(self.duration_us.sum, self.executions),
            average_tokens: average(self.tokens.sum, self.executions),
            average_cost_micros: average(self.cost_micros.sum, self.executions),
            nodes_executed: self.nodes_executed,
            p50_us: exact(0.5),
            p95_us: exact(0.95),
            p99_us: exact(0.99),
            first_at,
            last_at,
            operations,
            nodes,
        })
    }
}
