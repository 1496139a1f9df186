//! Metrics: each run counted once, exact sums, quantiles within their bound, no conflict over a summary.

use std::time::Duration;

use millpond::{
    ErrorKind, Execution, FeedbackFilter, Measure, NewFeedback, NewPattern, PatternFilter, Pond, QUANTILE_ERROR, Timestamp,
    pattern_kinds,
};
use serde_json::json;

async fn pond() -> Pond {
    millpond::open("memory:").await.expect("opens")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_800_000_000 + seconds) * 1_000_000)
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

#[tokio::test]
async fn a_run_is_counted_once() {
    let metrics = pond().await.metrics();
    let figures = || Execution::new("r/1", "etl", 3).took(micros(100)).tokens(5).operation("read", 2);
    assert!(metrics.record_execution(figures()).await.expect("counts"));
    assert!(!metrics.record_execution(figures()).await.expect("counted before"));
    let other = metrics.record_execution(figures().tokens(6)).await.expect_err("other figures");
    assert_eq!(other.kind(), ErrorKind::Invalid, "{other}");
    let summary = metrics.summary("etl", 3).await.expect("reads").expect("is there");
    assert_eq!((summary.executions, summary.tokens.sum, summary.operations[0].count), (1, 5, 2));
    assert_eq!(metrics.execution("r/1").await.expect("reads").expect("is there").tokens, 5);
    assert_eq!(metrics.summary("etl", 4).await.expect("reads"), None);
    let negative = metrics.record_execution(Execution::new("r2", "etl", 3).tokens(-1)).await.expect_err("below 0");
    assert_eq!(negative.kind(), ErrorKind::Invalid);
    let mut forged = Execution::new("r3", "etl", 3);
    forged.extra.insert("digest".into(), json!("x"));
    assert_eq!(metrics.record_execution(forged).await.expect_err("server-owned").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_thousand_concurrent_runs_add_up_exactly() {
    let pond = pond().await;
    let before = pond.store().head().await.expect("reads");
    let recorded = (0..1_000u64).map(|n| {
        let metrics = pond.metrics();
        let took = micros(n * n + 1);
        let figures = Execution::new(format!("r{n}"), "etl", 3)
            .took(took)
            .tokens(n as i64)
            .cost_micros(7)
            .succeeded(n % 10 != 0)
            .at(at(n as i64))
            .operation(format!("op{}", n % 3), 1)
            .node("fetch", took)
            .node("fetch", micros(1));
        tokio::spawn(async move { metrics.record_execution(figures).await })
    });
    for result in recorded.collect::<Vec<_>>() {
        assert!(result.await.expect("joins").expect("no conflict"));
    }
    // The fact, the summary, one operation and one node each: nothing was tried twice.
    assert_eq!(pond.store().head().await.expect("reads").0, before.0 + 4_000);

    let mut durations: Vec<i64> = (0..1_000i64).map(|n| n * n + 1).collect();
    durations.sort_unstable();
    let summary = pond.metrics().summary("etl", 3).await.expect("reads").expect("is there");
    assert_eq!((summary.executions, summary.succeeded, summary.failed), (1_000, 900, 100));
    assert_eq!(summary.duration_us, Measure { sum: durations.iter().sum(), min: 1, max: 999 * 999 + 1 });
    assert_eq!(summary.tokens, Measure { sum: 999 * 500, min: 0, max: 999 });
    assert_eq!(summary.cost_micros, Measure { sum: 7_000, min: 7, max: 7 });
    assert_eq!((summary.average_cost_micros, summary.nodes_executed), (7.0, 2_000));
    assert_eq!((summary.first_at, summary.last_at), (at(0), at(999)));
    for (found, rank) in [(summary.p50_us, 500), (summary.p95_us, 950), (summary.p99_us, 990)] {
        let exact = durations[rank - 1] as f64;
        assert!((found as f64 - exact).abs() <= exact * QUANTILE_ERROR + 0.5, "{found} for {exact}");
    }
    let counts: Vec<(&str, i64)> = summary.operations.iter().map(|o| (o.operation.as_str(), o.count)).collect();
    assert_eq!(counts[0], ("op0", 334));
    let node = &pond.metrics().nodes("etl", 3, 10, None).await.expect("reads").items[0];
    assert_eq!((node.node.as_str(), node.executions), ("fetch", 2_000));
    assert_eq!(node.duration_us, Measure { sum: summary.duration_us.sum + 1_000, min: 1, max: 999 * 999 + 1 });

    let recent = pond.metrics().recent_summary("etl", Some(3), 100).await.expect("reads").expect("is there");
    assert_eq!((recent.executions, recent.succeeded), (100, 90));
    assert_eq!((recent.first_at, recent.p50_us, recent.duration_us.min), (at(900), durations[949], durations[900]));
    let all = pond.metrics().recent_summary("etl", None, 10_000).await.expect("reads").expect("is there");
    assert_eq!((all.executions, all.duration_us, all.p99_us), (1_000, summary.duration_us, durations[989]));
    assert_eq!(pond.metrics().recent_summary("none", None, 5).await.expect("reads"), None);
}

#[tokio::test]
async fn a_trend_has_a_point_for_each_stretch_with_runs() {
    let metrics = pond().await.metrics();
    let hour = 3_600;
    for (n, (seconds, success)) in [(0, true), (10, false), (hour, true), (3 * hour + 1, true)].into_iter().enumerate() {
        let figures = Execution::new(format!("r{n}"), "etl", 1 + n as u32 % 2).took(micros(10 + n as u64));
        metrics.record_execution(figures.tokens(1).cost_micros(2).succeeded(success).at(at(seconds))).await.expect("counts");
    }
    let points = metrics.trend("etl", None, at(0), at(5 * hour), Duration::from_secs(3_600)).await.expect("reads");
    let shown: Vec<(i64, u64, u64)> =
        points.iter().map(|p| ((p.at.as_micros() - at(0).as_micros()) / 1_000_000, p.executions, p.succeeded)).collect();
    assert_eq!(shown, [(0, 2, 1), (hour, 1, 1), (3 * hour, 1, 1)]);
    assert_eq!(points[0].duration_us, Measure { sum: 21, min: 10, max: 11 });
    assert_eq!((points[0].tokens, points[0].cost_micros), (2, 4));
    let half = metrics.trend("etl", Some(2), at(0), at(3 * hour), Duration::from_secs(3_600)).await.expect("reads");
    assert_eq!(half.iter().map(|p| p.executions).collect::<Vec<_>>(), [1]);
    let many = metrics.trend("etl", None, at(0), at(20_000), Duration::from_secs(1)).await.expect_err("too many");
    assert_eq!(many.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn patterns_count_up() {
    let metrics = pond().await.metrics();
    let seen = |n: i64, confidence| {
        NewPattern::of("etl", "slow/fetch", pattern_kinds::BOTTLENECK, confidence).seen_at(at(n)).detail("last", json!(n))
    };
    metrics.record_pattern(seen(5, 0.5).description("fetch waits")).await.expect("records");
    metrics.record_pattern(seen(1, 0.9).occurrences(3)).await.expect("records");
    metrics.record_pattern(NewPattern::of("etl", "b", pattern_kinds::SEQUENCE, 0.2)).await.expect("records");
    metrics.record_pattern(NewPattern::of("other", "slow/fetch", pattern_kinds::SEQUENCE, 1.0)).await.expect("records");
    let found = metrics.pattern("etl", "slow/fetch").await.expect("reads").expect("is there");
    assert_eq!((found.occurrences, found.confidence, found.first_seen, found.last_seen), (4, 0.9, at(1), at(5)));
    assert_eq!((found.description.as_str(), &found.details["last"]), ("fetch waits", &json!(1)));
    let listed = async |filter: PatternFilter| -> Vec<String> {
        let page = metrics.patterns(&filter).await.expect("lists");
        page.items.iter().map(|p| format!("{}:{}", p.workflow, p.id)).collect()
    };
    let etl = || PatternFilter { workflow: Some("etl".into()), ..PatternFilter::default() };
    assert_eq!(listed(etl()).await, ["etl:slow/fetch", "etl:b"]);
    assert_eq!(listed(PatternFilter { min_confidence: Some(0.9), ..etl() }).await, ["etl:slow/fetch"]);
    assert_eq!(listed(PatternFilter { min_occurrences: Some(2), ..PatternFilter::default() }).await, ["etl:slow/fetch"]);
    assert_eq!(listed(PatternFilter { kind: Some(pattern_kinds::SEQUENCE.into()), ..etl() }).await, ["etl:b"]);
    let unsure = metrics.record_pattern(NewPattern::of("etl", "c", "X", 1.5)).await.expect_err("refused");
    assert_eq!(unsure.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn feedback_is_found_by_run_node_and_type() {
    let metrics = pond().await.metrics();
    let first = metrics.add_feedback(NewFeedback::of("r1", "CORRECTION", "too long").node("n1")).await.expect("adds");
    metrics.add_feedback(NewFeedback::of("r1", "APPROVAL", "fine").author("anna")).await.expect("adds");
    metrics.add_feedback(NewFeedback::of("r2", "CORRECTION", "wrong")).await.expect("adds");
    let listed = async |filter: FeedbackFilter| -> Vec<String> {
        metrics.feedback(&filter).await.expect("lists").items.iter().map(|f| f.message.clone()).collect()
    };
    let default = FeedbackFilter::default;
    assert_eq!(listed(default()).await, ["wrong", "fine", "too long"]);
    assert_eq!(listed(FeedbackFilter { run: Some("r1".into()), ..default() }).await, ["fine", "too long"]);
    assert_eq!(listed(FeedbackFilter { node: Some("n1".into()), ..default() }).await, ["too long"]);
    assert_eq!(listed(FeedbackFilter { kind: Some("CORRECTION".into()), ..default() }).await, ["wrong", "too long"]);
    assert_eq!(listed(FeedbackFilter { author: Some("anna".into()), ..default() }).await, ["fine"]);
    let page = metrics.feedback(&FeedbackFilter { run: Some("r1".into()), ..default() }).await.expect("lists");
    assert_eq!(page.items[1], first);
}

#[test]
fn synchronous_callers_have_the_same() {
    let metrics = millpond::blocking::open("memory:").expect("opens").metrics();
    metrics.record_execution(Execution::new("r", "w", 1).took(micros(50)).operation("o", 1)).expect("counts");
    assert_eq!(metrics.summary("w", 1).expect("reads").expect("is there").p50_us, 50);
    assert_eq!(metrics.operations("w", 1, 5, None).expect("reads").items.len(), 1);
    assert_eq!(metrics.summaries(None, 5, None).expect("reads").items.len(), 1);
}
