//! What lists under one parent, counts and sums read: the rows of the page, or one row for each group.

#[path = "support/combine.rs"]
mod combine;
mod support;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use combine::{Condition, PAGE, check, every, fill, numbered};
use millpond::{
    Acquire, AnalysisRequest, CheckpointInfo, CheckpointRecord, CheckpointScope, Commit, DeadLetter, DeadLetterState,
    DeadLetteredItem, DeadLetters, ErrorType, EventFilter, EventGroupBy, Execution, FailureDetail, Holder, Json, Key, Lineage,
    LockFilter, MetricSummary, NewEvent, OpenOptions, Page, PageCursor, PayloadKind, Pond, Result, SessionJobMapping, Timestamp,
    VersionRef, WorkflowVersion, Write,
};
use serde_json::json;
use support::CountingEngine;

const COUNT: u32 = 20_000;
const NEEDLE: u32 = 100;
const HOUR: Duration = Duration::from_secs(3_600);

fn at(seconds: u32) -> Timestamp {
    Timestamp::from_micros(1_700_000_400_000_000 + i64::from(seconds) * 1_000_000)
}

fn number(id: &str) -> u32 {
    id[id.len() - 5..].parse().expect("a number")
}

async fn open() -> (Arc<CountingEngine>, Pond) {
    let options = OpenOptions::new();
    let counting = CountingEngine::on(options.engine("memory:").await.expect("opens"));
    let pond = options.open_engine(counting.clone()).await.expect("opens");
    (counting, pond)
}

/// A list without conditions of its own.
async fn plain<R: Future<Output = Result<Page<u32>>>>(
    counting: &CountingEngine,
    numbers: impl Iterator<Item = u32> + Clone,
    list: impl Fn(Option<PageCursor>) -> R,
) {
    let none: [Condition<()>; 0] = [];
    check(counting, &none, every(0), numbers, |(), after| list(after)).await;
}

fn checkpoint(n: u32) -> CheckpointRecord {
    let info = CheckpointInfo {
        scope: format!("run/r{}", n % 20),
        version: i64::from(n),
        created_at: at(n),
        parent: None,
        restored_from: None,
        kind: PayloadKind::Json,
        size: 4,
        sha256: String::new(),
        chunks: 0,
        object: None,
        note: None,
        metadata: BTreeMap::new(),
        extra: BTreeMap::new(),
    };
    CheckpointRecord { payload: Some(json!(n)), info }
}

fn scope(n: u32) -> CheckpointScope {
    let kind = if n.is_multiple_of(8) { "session" } else { "run" };
    CheckpointScope { scope: format!("{kind}/{n:05}"), next_version: 1, created_at: at(n), extra: BTreeMap::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_of_a_scope_and_scopes_of_a_kind() {
    let (counting, pond) = open().await;
    fill(&pond, COUNT, checkpoint).await;
    fill(&pond, COUNT, scope).await;
    let checkpoints = &pond.checkpoints();
    plain(&counting, (0..COUNT).rev().filter(|n| n % 20 == 7), |after| async move {
        let page = checkpoints.list("r7", PAGE, after).await?;
        Ok(numbered(page, |info| u32::try_from(info.version).expect("a number")))
    })
    .await;
    plain(&counting, (0..COUNT).filter(|n| n.is_multiple_of(8)), |after| async move {
        Ok(numbered(checkpoints.scopes("session/", PAGE, after).await?, |s| number(&s.scope)))
    })
    .await;
}

fn mapping(n: u32) -> SessionJobMapping {
    SessionJobMapping {
        session_id: format!("s{n:05}"),
        job_id: format!("j{n:05}"),
        workflow_name: "w".to_owned(),
        created_at: at(n),
        extra: BTreeMap::new(),
    }
}

fn version(n: u32) -> WorkflowVersion {
    WorkflowVersion {
        id: format!("w{}", n % 20),
        version: n + 1,
        name: None,
        description: None,
        parent: None,
        reasoning: None,
        tags: millpond::Tags::default(),
        author: None,
        created_at: at(n),
        content_hash: String::new(),
        definition: serde_json::Value::Null,
        extra: BTreeMap::new(),
    }
}

fn lineage(n: u32) -> Lineage {
    let parent = VersionRef::new("w0", n % 20 + 1);
    Lineage {
        id: format!("c{n:05}"),
        version: 1,
        parent_ref: Some(parent.to_string()),
        parent: Some(parent),
        reasoning: None,
        author: None,
        created_at: at(n),
        content_hash: String::new(),
        deleted_at: None,
        deleted_by: None,
        extra: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mappings_versions_and_children() {
    let (counting, pond) = open().await;
    fill(&pond, COUNT, mapping).await;
    fill(&pond, COUNT, version).await;
    fill(&pond, COUNT, lineage).await;
    let (sessions, workflows) = (&pond.sessions(), &pond.workflows());
    plain(&counting, (0..COUNT).rev(), |after| async move {
        Ok(numbered(sessions.mappings(PAGE, after).await?, |m| number(&m.session_id)))
    })
    .await;
    plain(&counting, (0..COUNT).rev().filter(|n| n % 20 == 7), |after| async move {
        Ok(numbered(workflows.list("w7", PAGE, after).await?, |v| v.version - 1))
    })
    .await;
    assert_eq!(workflows.latest("w7").await.expect("read").expect("there").version, COUNT - 12);
    assert_eq!(counting.take_rows(), 1, "the latest of a thousand versions");
    plain(&counting, (0..COUNT).filter(|n| n % 20 == 7), |after| async move {
        Ok(numbered(workflows.children(&VersionRef::new("w0", 8), PAGE, after).await?, |l| number(&l.id)))
    })
    .await;
}

fn meets(number: u32, condition: u32) -> bool {
    combine::meets(number, condition, NEEDLE)
}

fn lock_name(n: u32) -> String {
    if meets(n, 0) { format!("a-{n:05}") } else { format!("b-{n:05}") }
}

/// Takes lock `n`. Those that are met have a deadline in some ten hours, the rest much earlier or later.
fn lock(n: u32) -> Write {
    let holder = Holder { name: if meets(n, 1) { "rare" } else { "common" }.to_owned(), ..Holder::default() };
    let ttl = if meets(n, 2) { 10 * HOUR } else { HOUR * if n.is_multiple_of(2) { 1 } else { 20 } };
    let lease = Key::new(lock_name(n)).expect("a name");
    Write::Acquire(Acquire { lease, holder, ttl, purpose: None, dead: None })
}

/// Conditions on deadlines are relative to the moment of the test, which a condition cannot hold.
#[derive(Default)]
struct Asked {
    filter: LockFilter,
    deadline: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks() {
    let (counting, pond) = open().await;
    for from in (0..COUNT).step_by(4_000) {
        pond.commit((from..from + 4_000).map(lock).fold(Commit::new(), Commit::write)).await.expect("taken");
    }
    let now = pond.store().now();
    let conditions: [Condition<Asked>; 3] = [
        Condition::new(
            "prefix",
            |mut f| {
                f.filter.prefix = Some("a-".into());
                f
            },
            |n| meets(n, 0),
        ),
        Condition::new(
            "holder",
            |mut f| {
                f.filter.holder = Some("rare".into());
                f
            },
            |n| meets(n, 1),
        ),
        Condition::new("deadline", |f| Asked { deadline: true, ..f }, |n| meets(n, 2)),
    ];
    let locks = &pond.locks();
    let list = |asked: Asked, after| async move {
        let mut filter = LockFilter { limit: PAGE, after, ..asked.filter };
        if asked.deadline {
            filter.deadline_from = Some(now.plus(5 * HOUR));
            filter.deadline_before = Some(now.plus(15 * HOUR));
        }
        Ok(numbered(locks.list(&filter).await?, |lock| number(lock.name.as_str())))
    };
    let mut by_name: Vec<u32> = (0..COUNT).collect();
    by_name.sort_by_key(|n| lock_name(*n));
    check(&counting, &conditions, every(3), by_name.iter().copied(), list).await;
}

fn letter(n: u32) -> DeadLetter {
    let failure = FailureDetail::of(at(n), ErrorType::Timeout, "too slow");
    let mut item = DeadLetteredItem::of(format!("i{n:05}"), json!(n), failure);
    item.error_signature = format!("cause {}", n % 3);
    DeadLetter {
        job_id: format!("j{}", n % 2),
        state: DeadLetterState::ALL[n as usize % 4],
        available_at: None,
        added_at: at(n),
        claim: None,
        claims: 0,
        closed: None,
        error_types: Vec::new(),
        last_error_type: Some(format!("type {}", n % 5)),
        attempts_dropped: 0,
        payload_object: None,
        item,
    }
}

async fn analysed(counting: &CountingEngine, letters: &DeadLetters) {
    let stats = letters.stats(None).await.expect("counted");
    assert_eq!((stats.total, stats.by_signature.len()), (u64::from(COUNT), 3));
    // Four states; thrice the two open ones; eligible, review: one value each; three signatures.
    assert_eq!(counting.take_rows(), 4 + 3 * 2 + 2 + 3, "statistics");
    let request = AnalysisRequest { bucket: HOUR, samples: 2, ..AnalysisRequest::default() };
    let analysis = letters.analyse(&request).await.expect("analysed");
    let buckets = analysis.over_time.len();
    assert_eq!((analysis.total, analysis.patterns.len(), buckets), (u64::from(COUNT), 3, 6));
    // Signatures twice, with two samples each; five error types; the hours.
    assert_eq!(counting.take_rows(), (2 * 3 + 3 * 2 + 5 + buckets) as u64, "an analysis");
    let half = letters.count(&millpond::DeadLetterFilter::all().job("j1")).await.expect("counted");
    assert_eq!((half, counting.take_rows()), (u64::from(COUNT) / 2, 1), "a count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_counted_by_the_engine() {
    let (counting, pond) = open().await;
    fill(&pond, COUNT, letter).await;
    counting.take_rows();
    analysed(&counting, &pond.dead_letters()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_counted_by_the_engine() {
    let (counting, pond) = open().await;
    for n in 0..30 {
        let new = millpond::NewSession::workflow(millpond::WorkflowData::default()).id(format!("s{n}"));
        pond.sessions().create(new).await.expect("created");
        if n % 3 == 0 {
            pond.sessions().update_state(&format!("s{n}"), millpond::SessionStatus::Cancelled).await.expect("cancelled");
        }
    }
    counting.take_rows();
    let totals = pond.sessions().totals().await.expect("counted");
    assert_eq!((totals.total, totals.by_status["Cancelled"]), (30, 10));
    assert_eq!(counting.take_rows(), 2 + 1, "two statuses and one type");
    assert_eq!(pond.sessions().count(&millpond::SessionFilter::all()).await.expect("counted"), 30);
    assert_eq!(counting.take_rows(), 1, "a count");
}

fn execution(n: u32) -> Execution {
    Execution::new(format!("r{n:05}"), format!("w{}", n % 2), n / 2 % 2).at(at(n)).tokens(1).succeeded(!n.is_multiple_of(3))
}

fn summary(n: u32) -> MetricSummary {
    let value = json!({
        "workflow": format!("w{:05}", if n.is_multiple_of(8) { 0 } else { n }), "version": n, "executions": 1, "succeeded": 1, "failed": 0,
        "duration_us": {}, "tokens": {}, "cost_micros": {}, "nodes_executed": 0, "first_at": 0, "last_at": 0, "durations": {},
    });
    serde_json::from_value(value).expect("a summary")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics() {
    let (counting, pond) = open().await;
    fill(&pond, COUNT, execution).await;
    fill(&pond, COUNT, summary).await;
    let metrics = &pond.metrics();
    plain(&counting, (0..COUNT).filter(|n| n.is_multiple_of(8)), |after| async move {
        Ok(numbered(metrics.summaries(Some("w00000"), PAGE, after).await?, |s| s.version))
    })
    .await;
    let recent = metrics.recent_summary("w1", Some(1), 30).await.expect("read").expect("there");
    assert_eq!((recent.executions, recent.last_at), (30, at(COUNT - 1)));
    assert_eq!(counting.take_rows(), 30, "thirty recent runs");
    let trend = metrics.trend("w1", None, at(0), at(COUNT), HOUR).await.expect("read");
    assert_eq!((trend.len(), trend.iter().map(|p| p.executions).sum::<u64>()), (6, u64::from(COUNT) / 2));
    assert_eq!(counting.take_rows(), 4 * 6, "four figures for each of six hours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_workflow_did_and_where_its_time_went() {
    let (counting, pond) = open().await;
    for run in 0..20_u32 {
        let mut figures = Execution::new(format!("r{run}"), "w", 1);
        for n in 0..20_u32 {
            let name = format!("{:05}", run * 20 + n);
            figures =
                figures.operation(&name, i64::from(1 + run * 20 + n)).node(name, Duration::from_millis(u64::from(run * 20 + n)));
        }
        pond.metrics().record_execution(figures).await.expect("recorded");
    }
    let metrics = &pond.metrics();
    plain(&counting, (0..400).rev(), |after| async move {
        Ok(numbered(metrics.operations("w", 1, PAGE, after).await?, |o| number(&o.operation)))
    })
    .await;
    plain(&counting, (0..400).rev(), |after| async move {
        Ok(numbered(metrics.nodes("w", 1, PAGE, after).await?, |o| number(&o.node)))
    })
    .await;
    let summary = metrics.summary("w", 1).await.expect("read").expect("there");
    assert_eq!((summary.executions, summary.operations.len(), summary.nodes.len()), (20, 10, 10));
    assert_eq!(counting.take_rows(), 1 + 10 + 10, "a summary: itself, ten operations, ten nodes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_counted_by_the_engine() {
    let (counting, pond) = open().await;
    let event = |n: u32| NewEvent {
        agent: Some(format!("agent {}", n % 3)),
        ..NewEvent::new(format!("type.{}", n % 7), Json::from_store(r#"{"success":true}"#))
    };
    for from in (0..COUNT).step_by(4_000) {
        pond.events().append(&format!("s{}", from / 8_000), (from..from + 4_000).map(event).collect()).await.expect("appended");
    }
    counting.take_rows();
    let stats = pond.events().aggregate(EventFilter::all()).await.expect("counted");
    assert_eq!((stats.total, stats.succeeded), (u64::from(COUNT), u64::from(COUNT)));
    assert_eq!(counting.take_rows(), 7, "seven types");
    for (by, groups) in [(EventGroupBy::Kind, 7), (EventGroupBy::Agent, 3), (EventGroupBy::Stream, 3)] {
        let found = pond.events().groups(EventFilter::all(), by, 100).await.expect("counted");
        assert_eq!((found.len(), counting.take_rows()), (groups, groups as u64), "{by:?}");
    }
    let mut reader = pond.events().query(EventFilter::all().kind("type.3")).limit(PAGE);
    let found = reader.take(PAGE).await.expect("read");
    assert!(found.len() == PAGE && found.iter().all(|e| e.kind == "type.3"));
    assert_eq!(counting.take_rows(), PAGE as u64, "fifty events of one type");
}
