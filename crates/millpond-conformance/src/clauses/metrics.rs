//! Metrics and patterns: each run counted once, exact sums, quantiles within their bound, no conflicts.

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    ErrorKind, Execution, FeedbackFilter, Measure, Metrics, NewFeedback, NewPattern, PatternFilter, Pond, QUANTILE_ERROR, Store,
    Summary, Timestamp,
};
use serde_json::json;

use super::tools::{race, refused, two};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "metrics":
    a_run_is_counted_once => "the same figures of one run, recorded by many at once through two handles, count once";
    other_figures_are_refused => "other figures of a run that was counted are refused and change nothing";
    runs_at_once_add_up_exactly => "runs recorded at once through two handles add up exactly, and none is tried twice";
    quantiles_keep_their_bound => "quantiles of the summary are within 1 % of the exact ones, those of recent runs exact";
    recent_runs_are_summed_alone => "the figures of the last n runs are those of these runs, of one version or of all";
    operations_and_nodes_are_ranked => "operations are listed by their count and nodes by their time, in pages";
    a_trend_has_a_point_for_each_stretch => "figures over time are grouped by stretch, and empty stretches have no point";
    a_pattern_counts_up => "observations of a pattern at once add up, widen first and last seen, and keep its details";
    patterns_are_found_by_their_fields => "workflow, type, confidence and occurrences are asked together";
    feedback_is_found_by_its_fields => "feedback is listed by run, node, type and author, newest first, and never changes";
}

/// The metrics of a pond of its own on a store.
async fn metrics(store: Store) -> millpond::Result<Metrics> {
    Ok(Pond::new(store).await?.metrics())
}

fn micros(n: usize) -> Duration {
    Duration::from_micros(n as u64)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_800_000_000 + seconds) * 1_000_000)
}

fn figures(n: usize) -> Execution {
    let time = at(i64::try_from(n).unwrap_or(0));
    Execution::new(format!("r{n}"), "etl", 3)
        .took(micros(n * n + 1))
        .tokens(5)
        .cost_micros(7)
        .succeeded(!n.is_multiple_of(4))
        .at(time)
}

async fn summary(metrics: &Metrics) -> Result<Summary, Failure> {
    metrics.summary("etl", 3).await?.ok_or_else(|| Failure("there is no summary".to_owned()))
}

async fn a_run_is_counted_once(ground: Arc<Ground>) -> Verdict {
    let counted = race(&two(&ground).await?, 12, |_, store| async move {
        Ok(metrics(store).await?.record_execution(figures(9).operation("read", 2)).await?)
    })
    .await?;
    ensure_eq!(counted.iter().filter(|c| **c).count(), 1, "how many counted the run");
    let metrics = ground.second_pond().await?.metrics();
    let found = summary(&metrics).await?;
    ensure_eq!((found.executions, found.tokens.sum, found.operations[0].count), (1, 5, 2), "the summary");
    ensure_eq!(metrics.execution("r9").await?.map(|e| e.tokens), Some(5), "the fact");
    Ok(())
}

async fn other_figures_are_refused(ground: Arc<Ground>) -> Verdict {
    let metrics = ground.pond().await?.metrics();
    metrics.record_execution(figures(1)).await?;
    let before = summary(&metrics).await?;
    refused(metrics.record_execution(figures(1).tokens(6)).await, ErrorKind::Invalid, "other figures")?;
    refused(metrics.record_execution(figures(2).tokens(-1)).await, ErrorKind::Invalid, "figures below 0")?;
    ensure_eq!(summary(&metrics).await?, before, "the summary after refused figures");
    Ok(())
}

async fn runs_at_once_add_up_exactly(ground: Arc<Ground>) -> Verdict {
    const RUNS: usize = 200;
    let pond = ground.pond().await?;
    let before = pond.store().head().await?.0;
    race(&two(&ground).await?, RUNS, |n, store| async move {
        Ok(metrics(store).await?.record_execution(figures(n).node("fetch", micros(n + 1))).await?)
    })
    .await?;
    ensure_eq!(pond.store().head().await?.0, before + 3 * RUNS as u64, "a fact, a summary and a node for each run");
    let found = summary(&pond.metrics()).await?;
    ensure_eq!((found.executions, found.succeeded, found.failed), (200, 150, 50), "runs counted");
    let sum = (0..200i64).map(|n| n * n + 1).sum();
    ensure_eq!(found.duration_us, Measure { sum, min: 1, max: 199 * 199 + 1 }, "durations");
    ensure_eq!(found.tokens, Measure { sum: 1_000, min: 5, max: 5 }, "tokens");
    ensure_eq!(found.cost_micros, Measure { sum: 1_400, min: 7, max: 7 }, "cost");
    ensure_eq!((found.first_at, found.last_at, found.nodes_executed), (at(0), at(199), 200), "times and nodes");
    ensure_eq!(found.nodes[0].duration_us, Measure { sum: 200 * 201 / 2, min: 1, max: 200 }, "the node's durations");
    Ok(())
}

async fn quantiles_keep_their_bound(ground: Arc<Ground>) -> Verdict {
    let metrics = ground.pond().await?.metrics();
    let mut durations = Vec::new();
    for n in 0..120i64 {
        let took = n * n * n + 17;
        durations.push(took);
        let execution = Execution::new(format!("r{n}"), "etl", 3).took(micros(usize::try_from(took).unwrap_or(0)));
        metrics.record_execution(execution).await?;
    }
    let found = summary(&metrics).await?;
    let exact = |share: f64| durations[(share * 120.0).ceil() as usize - 1];
    for (share, found) in [(0.5, found.p50_us), (0.95, found.p95_us), (0.99, found.p99_us)] {
        let exact = exact(share) as f64;
        ensure!((found as f64 - exact).abs() <= exact * QUANTILE_ERROR + 0.5, "p{share}: found {found}, exact {exact}");
    }
    let recent = metrics.recent_summary("etl", Some(3), 1_000).await?.map(|s| (s.p50_us, s.p95_us, s.p99_us));
    ensure_eq!(recent, Some((exact(0.5), exact(0.95), exact(0.99))), "quantiles of recent runs");
    Ok(())
}

async fn recent_runs_are_summed_alone(ground: Arc<Ground>) -> Verdict {
    let metrics = ground.pond().await?.metrics();
    for n in 0..10 {
        metrics.record_execution(figures(n)).await?;
    }
    metrics.record_execution(Execution::new("x", "etl", 4).tokens(100).at(at(20))).await?;
    let recent = async |version, n| -> Result<Option<(i64, i64, Timestamp)>, Failure> {
        let found = metrics.recent_summary("etl", version, n).await?;
        Ok(found.map(|s| (s.executions, s.tokens.sum, s.first_at)))
    };
    ensure_eq!(recent(Some(3), 4).await?, Some((4, 20, at(6))), "the last four runs of a version");
    ensure_eq!(recent(None, 4).await?, Some((4, 115, at(7))), "the last four runs of all versions");
    ensure_eq!(recent(Some(9), 4).await?, None, "the last runs of a version that has none");
    refused(metrics.recent_summary("etl", None, 0).await, ErrorKind::Invalid, "no recent runs")?;
    Ok(())
}

async fn operations_and_nodes_are_ranked(ground: Arc<Ground>) -> Verdict {
    let metrics = ground.pond().await?.metrics();
    for n in 0..3 {
        let execution = figures(n).operation("a/b", 1).operation("c", 5).operation("d", 2);
        let execution = execution.node("slow", micros(100)).node("fast", micros(1)).node_execution("fast", micros(2), n > 0);
        metrics.record_execution(execution).await?;
    }
    let first = metrics.operations("etl", 3, 2, None).await?;
    let rest = metrics.operations("etl", 3, 2, first.next.clone()).await?;
    let ranked: Vec<(String, i64, i64)> =
        first.items.iter().chain(&rest.items).map(|o| (o.operation.clone(), o.count, o.runs)).collect();
    let expected = [("c", 15, 3), ("d", 6, 3), ("a/b", 3, 3)].map(|(o, n, r)| (o.to_owned(), n, r));
    ensure_eq!(ranked, expected, "operations by count");
    let nodes = metrics.nodes("etl", 3, 10, None).await?.items;
    let nodes: Vec<(&str, i64, i64, i64)> =
        nodes.iter().map(|n| (n.node.as_str(), n.executions, n.failed, n.duration_us.sum)).collect();
    ensure_eq!(nodes, [("slow", 3, 0, 300), ("fast", 6, 1, 9)], "nodes by time");
    ensure_eq!(metrics.summaries(Some("etl"), 10, None).await?.items.len(), 1, "summaries of a workflow");
    ensure_eq!(metrics.summaries(None, 10, None).await?.items.len(), 1, "summaries of all workflows");
    Ok(())
}

async fn a_trend_has_a_point_for_each_stretch(ground: Arc<Ground>) -> Verdict {
    let metrics = ground.pond().await?.metrics();
    let hour = 3_600;
    for (n, (seconds, success)) in [(0, true), (10, false), (hour, true), (3 * hour + 1, true)].into_iter().enumerate() {
        let execution = Execution::new(format!("r{n}"), "etl", 3).took(micros(10 + n)).tokens(1).cost_micros(2);
        metrics.record_execution(execution.succeeded(success).at(at(seconds))).await?;
    }
    let points = metrics.trend("etl", Some(3), at(0), at(3 * hour + 1), Duration::from_secs(3_600)).await?;
    let shown: Vec<_> = points.iter().map(|p| (p.at, p.executions, p.succeeded, p.tokens, p.cost_micros)).collect();
    ensure_eq!(shown, [(at(0), 2, 1, 2, 4), (at(hour), 1, 1, 1, 2)], "two stretches; the last run ended too late");
    ensure_eq!(points[0].duration_us, Measure { sum: 21, min: 10, max: 11 }, "durations of the first stretch");
    let many = metrics.trend("etl", None, at(0), at(20_000), Duration::from_secs(1)).await;
    refused(many, ErrorKind::Invalid, "a trend of too many stretches")?;
    Ok(())
}

async fn a_pattern_counts_up(ground: Arc<Ground>) -> Verdict {
    race(&two(&ground).await?, 16, |n, store| async move {
        let seen = NewPattern::of("etl", "slow/fetch", "BOTTLENECK", 0.5).seen_at(at(i64::try_from(n).unwrap_or(0)));
        Ok(metrics(store).await?.record_pattern(seen.detail(format!("n{n}"), json!(n))).await?)
    })
    .await?;
    let metrics = ground.second_pond().await?.metrics();
    metrics.record_pattern(NewPattern::of("etl", "slow/fetch", "SEQUENCE", 0.9).occurrences(4).seen_at(at(3))).await?;
    let found = metrics.pattern("etl", "slow/fetch").await?.ok_or_else(|| Failure("the pattern is gone".to_owned()))?;
    ensure_eq!((found.occurrences, found.details.len()), (20, 16), "occurrences and details");
    ensure_eq!((found.first_seen, found.last_seen), (at(0), at(15)), "first and last seen");
    ensure_eq!((found.kind.as_str(), found.confidence), ("SEQUENCE", 0.9), "type and confidence of the last observer");
    ensure_eq!(metrics.pattern("other", "slow/fetch").await?, None, "the pattern of another workflow");
    let unsure = NewPattern::of("etl", "x", "SEQUENCE", 1.1);
    refused(metrics.record_pattern(unsure).await, ErrorKind::Invalid, "a confidence above 1")?;
    Ok(())
}

async fn patterns_are_found_by_their_fields(ground: Arc<Ground>) -> Verdict {
    let metrics = ground.pond().await?.metrics();
    for (workflow, id, kind, confidence, seen) in
        [("etl", "a", "X", 0.5, 3), ("etl", "b", "Y", 0.9, 2), ("etl", "c", "X", 1.0, 1), ("other", "a", "X", 0.9, 9)]
    {
        metrics.record_pattern(NewPattern::of(workflow, id, kind, confidence).occurrences(seen)).await?;
    }
    let etl = || PatternFilter { workflow: Some("etl".to_owned()), ..PatternFilter::default() };
    let asked: [(&str, PatternFilter, &[&str]); 5] = [
        ("workflow", etl(), &["a", "b", "c"]),
        ("type", PatternFilter { kind: Some("X".to_owned()), ..etl() }, &["a", "c"]),
        ("confidence", PatternFilter { min_confidence: Some(0.9), ..etl() }, &["b", "c"]),
        ("occurrences", PatternFilter { min_occurrences: Some(2), ..etl() }, &["a", "b"]),
        ("nothing", PatternFilter { limit: Some(1), ..PatternFilter::default() }, &["a"]),
    ];
    for (what, filter, expected) in asked {
        let page = metrics.patterns(&filter).await?;
        ensure_eq!(page.items.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), expected, "patterns by {what}");
    }
    Ok(())
}

async fn feedback_is_found_by_its_fields(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let metrics = pond.metrics();
    let first = metrics.add_feedback(NewFeedback::of("r1", "CORRECTION", "too long").node("n1")).await?;
    metrics.add_feedback(NewFeedback::of("r1", "APPROVAL", "fine").author("anna")).await?;
    metrics.add_feedback(NewFeedback::of("r2", "CORRECTION", "wrong")).await?;
    let all = FeedbackFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let asked: [(&str, FeedbackFilter, &[&str]); 5] = [
        ("nothing", all(), &["wrong", "fine", "too long"]),
        ("run", FeedbackFilter { run: text("r1"), ..all() }, &["fine", "too long"]),
        ("node", FeedbackFilter { node: text("n1"), ..all() }, &["too long"]),
        ("type", FeedbackFilter { kind: text("CORRECTION"), ..all() }, &["wrong", "too long"]),
        ("author", FeedbackFilter { author: text("anna"), ..all() }, &["fine"]),
    ];
    for (what, filter, expected) in asked {
        let page = metrics.feedback(&filter).await?;
        ensure_eq!(page.items.iter().map(|f| f.message.as_str()).collect::<Vec<_>>(), expected, "feedback by {what}");
    }
    let change = millpond::Commit::new().trusted().put("feedback", &first.id, &first.value)?;
    refused(pond.commit(change).await, ErrorKind::Conflict, "a change of feedback")?;
    Ok(())
}
