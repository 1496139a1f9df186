//! Figures over time, grouped by the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{Document, Error, Group, Query, Read, Result, Scalar, Timestamp, limits};
use serde::Serialize;

use crate::conditions::Conditions;

use super::Metrics;
use super::model::{Execution, Measure};

/// What the runs that ended in one stretch of time add up to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TrendPoint {
    /// When the stretch begins; a multiple of its length since 1970.
    pub at: Timestamp,
    /// Runs.
    pub executions: u64,
    /// Runs that reached their end.
    pub succeeded: u64,
    /// Durations in microseconds.
    pub duration_us: Measure,
    /// Tokens.
    pub tokens: i64,
    /// Cost in millionths.
    pub cost_micros: i64,
}

impl Metrics {
    /// How the figures of a workflow went over time, of one version or of all: one point for each stretch, such as
    /// an hour or a day, in which a run ended at or after `from` and before `to`. One snapshot, grouped by the engine.
    ///
    /// # Errors
    /// `Invalid` when the stretch is shorter than a second, or there would be more than 10,000 of them.
    pub async fn trend(
        &self,
        workflow: &str,
        version: Option<u32>,
        from: Timestamp,
        to: Timestamp,
        bucket: Duration,
    ) -> Result<Vec<TrendPoint>> {
        self.read_trend(workflow, version, from, to, bucket).await.map_err(|e| e.during("metrics.trend"))
    }

    async fn read_trend(
        &self,
        workflow: &str,
        version: Option<u32>,
        from: Timestamp,
        to: Timestamp,
        bucket: Duration,
    ) -> Result<Vec<TrendPoint>> {
        if bucket < Duration::from_secs(1) {
            return Err(Error::invalid(format!("a stretch of {bucket:?} is shorter than a second")));
        }
        let stretches = to.since(from).as_micros() / bucket.as_micros() + 1;
        if stretches > limits::PAGE_ROWS as u128 {
            return Err(Error::invalid(format!("{stretches} stretches of {bucket:?}; the limit is {}", limits::PAGE_ROWS))
                .with_next("ask for a shorter time or longer stretches"));
        }
        let query = Query::new(Execution::COLLECTION.name())?
            .eq("workflow", workflow)
            .given("version", version)
            .between("at", Some(from), Some(to))
            .limit(limits::PAGE_ROWS);
        let group = |query: &Query, measure: Option<&str>| Read::GroupBy {
            query: query.clone(),
            field: "at".to_owned(),
            bucket: Some(bucket),
            measure: measure.map(str::to_owned),
        };
        let succeeded = query.clone().eq("success", true);
        let reads = vec![
            group(&query, Some("duration_us")),
            group(&query, Some("tokens")),
            group(&query, Some("cost_micros")),
            group(&succeeded, None),
        ];
        let mut answers = self.store.read(reads).await?.into_iter();
        let mut next = || answers.next().ok_or_else(|| Error::corrupt("the engine answered fewer reads than it was asked"));
        let mut points: BTreeMap<Timestamp, TrendPoint> = BTreeMap::new();
        let mut add = |groups: Vec<Group>, put: fn(&mut TrendPoint, &Group)| {
            for group in groups {
                if let Some(Scalar::Timestamp(at)) = group.value {
                    put(points.entry(at).or_insert_with(|| TrendPoint { at, ..TrendPoint::default() }), &group);
                }
            }
        };
        add(next()?.into_groups()?, |point, group| {
            point.executions = group.count;
            point.duration_us =
                Measure { sum: group.sum.unwrap_or(0), min: integer(group.min.as_ref()), max: integer(group.max.as_ref()) };
        });
        add(next()?.into_groups()?, |point, group| point.tokens = group.sum.unwrap_or(0));
        add(next()?.into_groups()?, |point, group| point.cost_micros = group.sum.unwrap_or(0));
        add(next()?.into_groups()?, |point, group| point.succeeded = group.count);
        Ok(points.into_values().collect())
    }
}

fn integer(value: Option<&Scalar>) -> i64 {
    match value {
        Some(Scalar::Integer(n)) => *n,
        _ => 0,
    }
}
