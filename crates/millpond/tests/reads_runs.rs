//! What runs, checkpoints, events and metrics move out of the engine: as many rows as they answer with.

mod support;

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    EventFilter, Execution, NewEvent, NewRun, OpenOptions, PatternFilter, Pond, RunEnd, RunFilter, RunStatus, Timestamp,
};
use serde_json::json;
use support::CountingEngine;

async fn counted() -> (Arc<CountingEngine>, Pond) {
    let options = OpenOptions::new();
    let counting = CountingEngine::on(options.engine("memory:").await.expect("opens"));
    let pond = options.open_engine(counting.clone()).await.expect("opens");
    (counting, pond)
}

#[tokio::test]
async fn runs_read_what_they_answer() {
    let (counting, pond) = counted().await;
    let runs = pond.runs();
    let parent = runs.start(NewRun::of("w0", 1).idempotency_key("k")).await.expect("starts").id.clone();
    for n in 0..300 {
        let mut new = NewRun::of(format!("w{}", n % 30), 1).parent(&parent);
        if n % 100 == 0 {
            new = new.tag("rare");
        }
        let run = runs.start(new).await.expect("starts");
        if n == 200 {
            runs.finish(&run.id, RunEnd::failed("x")).await.expect("finishes");
        }
    }
    counting.take_rows();
    let page = runs.list(&RunFilter::all().limit(50)).await.expect("lists");
    assert_eq!((page.items.len(), counting.take_rows()), (50, 50), "fifty of three hundred");
    runs.recent("w7", Some(1), 3).await.expect("lists");
    assert_eq!(counting.take_rows(), 3, "three of ten");
    runs.list(&RunFilter::all().status(RunStatus::Failed)).await.expect("lists");
    assert_eq!(counting.take_rows(), 1, "the one that failed");
    runs.list(&RunFilter::all().tag("rare")).await.expect("lists");
    assert_eq!(counting.take_rows(), 3, "three with a tag");
    runs.children(&parent, 5, None).await.expect("lists");
    assert_eq!(counting.take_rows(), 5, "five of three hundred children");
    runs.count(&RunFilter::all()).await.expect("counts");
    assert!(counting.take_rows() <= 1, "a count");
    runs.start(NewRun::of("w1", 1).idempotency_key("new")).await.expect("starts");
    assert_eq!(counting.take_rows(), 0, "a start reads nothing first");
    runs.start(NewRun::of("w0", 1).idempotency_key("k")).await.expect("finds");
    assert_eq!(counting.take_rows(), 2, "a repeated start reads the key and the run");
}

#[tokio::test]
async fn checkpoints_read_what_they_answer() {
    let (counting, pond) = counted().await;
    for n in 0..100 {
        pond.checkpoints().save("r1", &n).await.expect("saves");
    }
    assert!(counting.take_rows() <= 1, "saves that follow one another read nothing");
    pond.checkpoints().latest("r1").await.expect("reads");
    assert_eq!(counting.take_rows(), 1, "the latest");
    pond.checkpoints().list("r1", 7, None).await.expect("lists");
    assert_eq!(counting.take_rows(), 7, "seven of a hundred");
    pond.checkpoints().keep_newest("r1", 90).await.expect("prunes");
    assert_eq!(counting.take_rows(), 11, "the newest, and the ten that go");
}

#[tokio::test]
async fn events_read_what_they_answer() {
    let (counting, pond) = counted().await;
    for stream in ["jobs/a", "jobs/b"] {
        let event = |n: i32| NewEvent::of(if n % 100 == 0 { "rare" } else { "common" }, &n).expect("event");
        pond.events().append(stream, (0..1_000).map(event).collect()).await.expect("appends");
    }
    counting.take_rows();
    let mut reader = pond.events().query(EventFilter::all());
    reader.next().await.expect("reads");
    assert_eq!(counting.take_rows(), 32, "the first page");
    pond.events().query(EventFilter::all().kind("rare")).take(100).await.expect("reads");
    assert_eq!(counting.take_rows(), 20, "twenty of two thousand");
    pond.events().aggregate(EventFilter::streams("jobs/")).await.expect("counts");
    assert_eq!(counting.take_rows(), 2, "a row for each type");
    pond.events().streams("jobs/", None, 1).await.expect("lists");
    assert_eq!(counting.take_rows(), 1, "one of two streams");
}

#[tokio::test]
async fn metrics_read_what_they_answer() {
    let (counting, pond) = counted().await;
    let metrics = pond.metrics();
    let at = |n: u64| Timestamp::from_micros(1_800_000_000_000_000).plus(Duration::from_secs(n * 60));
    for n in 0..240_u64 {
        let figures = Execution::new(format!("r{n}"), "etl", 1).took(Duration::from_micros(n)).at(at(n));
        metrics.record_execution(figures.operation(format!("op{n}"), 1)).await.expect("counts");
    }
    assert_eq!(counting.take_rows(), 0, "recording reads nothing first");
    metrics.summary("etl", 1).await.expect("reads");
    assert_eq!(counting.take_rows(), 11, "the summary and ten operations");
    metrics.recent_summary("etl", Some(1), 20).await.expect("reads");
    assert_eq!(counting.take_rows(), 20, "twenty facts");
    metrics.trend("etl", None, at(0), at(240), Duration::from_secs(3_600)).await.expect("reads");
    assert_eq!(counting.take_rows(), 16, "four hours, four figures each");
    for n in 0..50 {
        let seen = millpond::NewPattern::of("etl", n.to_string(), "X", 0.5).occurrences(1 + n).detail("n", json!(n));
        metrics.record_pattern(seen).await.expect("records");
    }
    metrics.patterns(&PatternFilter { min_occurrences: Some(48), ..PatternFilter::default() }).await.expect("lists");
    assert_eq!(counting.take_rows(), 3, "three of fifty patterns");
}
