//! Lists of every domain with every combination of their filters: a page reads the rows it shows. (Runs: `million.rs`.)

#[path = "support/combine.rs"]
mod combine;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use combine::{Condition, PAGE, check, every, fill, numbered};
use millpond::{
    DeadLetter, DeadLetterFilter, DeadLetterState, DeadLetteredItem, ErrorType, FailureDetail, Feedback, FeedbackFilter, Flow,
    FlowFilter, FlowOrder, OpenOptions, Pattern, PatternFilter, Pond, RuntimeState, Session, SessionFilter, SessionStatus,
    SessionType, Tags, Timestamp, WorkflowData, WorkflowFilter, WorkflowHead, WorkflowVersion,
};
use serde_json::json;
use support::CountingEngine;

const COUNT: u32 = 20_000;
/// Makes more than 100 needles, also in the part that conditions on times take.
const NEEDLE: u32 = 100;

fn meets(number: u32, condition: u32) -> bool {
    combine::meets(number, condition, NEEDLE)
}

fn rare(number: u32, condition: u32) -> String {
    if meets(number, condition) { "rare".to_owned() } else { format!("common {}", number % 20) }
}

fn at(number: u32) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + i64::from(number) * 1_000_000)
}

/// All but the first and the last tenth.
const FROM: u32 = COUNT / 10;
const TO: u32 = COUNT - FROM;

fn in_range(number: u32) -> bool {
    (FROM..TO).contains(&number)
}

/// The number at the end of an id.
fn number(id: &str) -> u32 {
    id[id.len() - 5..].parse().expect("a number")
}

async fn open() -> (Arc<CountingEngine>, Pond) {
    let options = OpenOptions::new();
    let counting = CountingEngine::on(options.engine("memory:").await.expect("opens"));
    let pond = options.open_engine(counting.clone()).await.expect("opens");
    (counting, pond)
}

fn session(n: u32) -> Session {
    let status = match (meets(n, 0), n % 2) {
        (true, 0) => SessionStatus::Failed,
        (true, _) => SessionStatus::Paused,
        _ => SessionStatus::Completed,
    };
    let workflow_data = WorkflowData { worktree_name: Some(rare(n, 2)), workflow_id: rare(n, 3), ..WorkflowData::default() };
    Session {
        id: format!("s{n:05}"),
        session_type: if meets(n, 1) { SessionType::MapReduce } else { SessionType::Workflow },
        status,
        started_at: at(n),
        updated_at: at(2 * COUNT - n),
        completed_at: None,
        metadata: BTreeMap::new(),
        checkpoints: Vec::new(),
        timings: BTreeMap::new(),
        error: None,
        workflow_data: Some(workflow_data),
        mapreduce_data: None,
        extra: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions() {
    let (counting, pond) = open().await;
    fill(&pond, COUNT, session).await;
    let conditions: [Condition<SessionFilter>; 5] = [
        Condition::new("status", |f| f.status(SessionStatus::Failed).status(SessionStatus::Paused), |n| meets(n, 0)),
        Condition::new("type", |f| f.session_type(SessionType::MapReduce), |n| meets(n, 1)),
        Condition::new("worktree", |f| f.worktree("rare"), |n| meets(n, 2)),
        Condition::new("workflow", |f| f.workflow("rare"), |n| meets(n, 3)),
        Condition::new("started", |f| f.started_from(at(FROM)).started_before(at(TO)), in_range),
    ];
    let sessions = &pond.sessions();
    let list = |filter: SessionFilter, after| async move {
        Ok(numbered(sessions.list(&filter.limit(PAGE).after(after)).await?, |s| number(&s.id)))
    };
    check(&counting, &conditions, every(5), (0..COUNT).rev(), list).await;

    // The one changed last first: that is the one started first.
    let resumable: [Condition<()>; 1] = [Condition::new("resumable", |f| f, |n| meets(n, 0))];
    let list = |(), after| async move { Ok(numbered(sessions.resumable(PAGE, after).await?, |s| number(&s.id))) };
    check(&counting, &resumable, 1..2, 0..COUNT, list).await;
    assert!(sessions.last_interrupted().await.expect("read").is_some());
    assert_eq!(counting.take_rows(), 1, "the last interrupted one");
}

fn letter(n: u32) -> DeadLetter {
    let rare_or = |condition, common: &str| if meets(n, condition) { "rare".to_owned() } else { common.to_owned() };
    let failure = FailureDetail::of(at(n), ErrorType::Timeout, "too slow");
    let mut item = DeadLetteredItem::of(format!("i{n:05}"), json!({ "n": n }), failure);
    item.reprocess_eligible = meets(n, 4);
    item.manual_review_required = meets(n, 5);
    item.error_signature = format!("{} {}", rare_or(6, "common"), rare_or(7, "part"));
    DeadLetter {
        job_id: rare(n, 0),
        state: match (meets(n, 1), n % 2) {
            (true, 0) => DeadLetterState::Pending,
            (true, _) => DeadLetterState::Claimed,
            _ => DeadLetterState::Completed,
        },
        available_at: None,
        added_at: at(n),
        claim: None,
        claims: 0,
        closed: None,
        error_types: vec![rare(n, 2)],
        last_error_type: Some(rare(n, 3)),
        attempts_dropped: 0,
        payload_object: None,
        item,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters() {
    let (counting, pond) = open().await;
    fill(&pond, COUNT, letter).await;
    let conditions: [Condition<DeadLetterFilter>; 10] = [
        Condition::new("job", |f| f.job("rare"), |n| meets(n, 0)),
        Condition::new("state", |f| f.state(DeadLetterState::Pending).state(DeadLetterState::Claimed), |n| meets(n, 1)),
        Condition::new("error type", |f| DeadLetterFilter { error_type: Some("rare".into()), ..f }, |n| meets(n, 2)),
        Condition::new(
            "last error type",
            |f| DeadLetterFilter { last_error_types: vec!["rare".into(), "none".into()], ..f },
            |n| meets(n, 3),
        ),
        Condition::new("eligible", |f| DeadLetterFilter { eligible: Some(true), ..f }, |n| meets(n, 4)),
        Condition::new("review", |f| DeadLetterFilter { review: Some(true), ..f }, |n| meets(n, 5)),
        Condition::new("prefix", |f| DeadLetterFilter { signature_prefix: Some("rar".into()), ..f }, |n| meets(n, 6)),
        Condition::new("part", |f| DeadLetterFilter { signature_contains: Some(" rare".into()), ..f }, |n| meets(n, 7)),
        Condition::new(
            "signature",
            |f| DeadLetterFilter { signature: Some("rare rare".into()), ..f },
            |n| meets(n, 6) && meets(n, 7),
        ),
        Condition::new(
            "last attempt",
            |f| DeadLetterFilter { last_attempt_from: Some(at(FROM)), last_attempt_before: Some(at(TO)), ..f },
            in_range,
        ),
    ];
    let letters = &pond.dead_letters();
    let list = |filter: DeadLetterFilter, after| async move {
        Ok(numbered(letters.list(&filter.limit(PAGE).after(after)).await?, |l| number(&l.item.item_id)))
    };
    check(&counting, &conditions, every(10), (0..COUNT).rev(), list).await;
}

fn workflow_tags(n: u32) -> Tags {
    Tags::from([rare(n, 2)])
}

fn workflow_id(n: u32) -> String {
    if meets(n, 0) { format!("a-{n:05}") } else { format!("b-{n:05}") }
}

fn workflow_head(n: u32) -> WorkflowHead {
    WorkflowHead {
        id: workflow_id(n),
        highest: 1,
        latest: Some(1),
        versions: 1,
        name: Some(rare(n, 1)),
        description: None,
        tags: workflow_tags(n),
        author: Some(rare(n, 3)),
        created_at: Some(at(n)),
        content_hash: None,
        extra: BTreeMap::new(),
    }
}

fn workflow_version(n: u32) -> WorkflowVersion {
    WorkflowVersion {
        id: workflow_id(n),
        version: 1,
        name: Some(rare(n, 1)),
        description: None,
        parent: None,
        reasoning: None,
        tags: workflow_tags(n),
        author: Some(rare(n, 3)),
        created_at: at(n),
        content_hash: String::new(),
        definition: serde_json::Value::Null,
        extra: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workflows() {
    let (counting, pond) = open().await;
    fill(&pond, COUNT, workflow_head).await;
    fill(&pond, COUNT, workflow_version).await;
    let conditions: [Condition<WorkflowFilter>; 6] = [
        Condition::new("id", |f| WorkflowFilter { id_prefix: Some("a-".into()), ..f }, |n| meets(n, 0)),
        Condition::new("name", |f| WorkflowFilter { name_contains: Some("are".into()), ..f }, |n| meets(n, 1)),
        Condition::new("tag", |f| WorkflowFilter { tag: Some("rare".into()), ..f }, |n| meets(n, 2)),
        Condition::new("author", |f| WorkflowFilter { author: Some("rare".into()), ..f }, |n| meets(n, 3)),
        Condition::new("stored", |f| WorkflowFilter { from: Some(at(FROM)), to: Some(at(TO)), ..f }, in_range),
        Condition::new("deleted too", |f| WorkflowFilter { deleted: true, ..f }, |_| true),
    ];
    let workflows = &pond.workflows();
    let list_all = |filter: WorkflowFilter, after| async move {
        let page = workflows.list_all(&WorkflowFilter { limit: PAGE, after, ..filter }).await?;
        Ok(numbered(page, |w| number(&w.id)))
    };
    let mut by_id: Vec<u32> = (0..COUNT).collect();
    by_id.sort_by_key(|n| workflow_id(*n));
    check(&counting, &conditions, every(6), by_id.iter().copied(), list_all).await;
    let find = |filter: WorkflowFilter, after| async move {
        let page = workflows.find(&WorkflowFilter { limit: PAGE, after, ..filter }).await?;
        Ok(numbered(page, |w| number(&w.id)))
    };
    check(&counting, &conditions, every(5), (0..COUNT).rev(), find).await;
}

fn flow(n: u32) -> Flow {
    Flow {
        runtime_state: if meets(n, 1) { RuntimeState::Running } else { RuntimeState::NotDeployed },
        created_by: rare(n, 3),
        updated_at: at(n),
        ..Flow::new(workflow_id(n), rare(n, 2))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flows() {
    let (counting, pond) = open().await;
    fill(&pond, COUNT, flow).await;
    let conditions: [Condition<FlowFilter>; 5] = [
        Condition::new("id", |f| FlowFilter { id_prefix: Some("a-".into()), ..f }, |n| meets(n, 0)),
        Condition::new("state", |f| FlowFilter { runtime_state: Some(RuntimeState::Running), ..f }, |n| meets(n, 1)),
        Condition::new("name", |f| FlowFilter { name_contains: Some("are".into()), ..f }, |n| meets(n, 2)),
        Condition::new("creator", |f| FlowFilter { created_by: Some("rare".into()), ..f }, |n| meets(n, 3)),
        Condition::new("changed", |f| FlowFilter { updated_from: Some(at(FROM)), updated_to: Some(at(TO)), ..f }, in_range),
    ];
    let flows = &pond.flows();
    let list = |order| {
        move |filter: FlowFilter, after| async move {
            let page = flows.list(&FlowFilter { order, limit: PAGE, after, ..filter }).await?;
            Ok(numbered(page, |flow| number(&flow.id)))
        }
    };
    let mut by_id: Vec<u32> = (0..COUNT).collect();
    by_id.sort_by_key(|n| workflow_id(*n));
    check(&counting, &conditions, every(5), by_id.iter().copied(), list(FlowOrder::Id)).await;
    check(&counting, &conditions, every(5), (0..COUNT).rev(), list(FlowOrder::UpdatedNewest)).await;
}

fn pattern(n: u32) -> Pattern {
    Pattern {
        id: format!("p{n:05}"),
        workflow: rare(n, 0),
        kind: rare(n, 1),
        description: String::new(),
        occurrences: i64::from(n),
        confidence: if meets(n, 2) { 0.9 } else { 0.1 },
        first_seen: at(0),
        last_seen: at(0),
        details: BTreeMap::new(),
        extra: BTreeMap::new(),
    }
}

fn feedback(n: u32) -> Feedback {
    Feedback {
        id: format!("f{n:05}"),
        run: rare(n, 0),
        node: Some(rare(n, 1)),
        kind: rare(n, 2),
        message: String::new(),
        author: Some(rare(n, 3)),
        at: at(n),
        metadata: BTreeMap::new(),
        extra: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_and_feedback() {
    let (counting, pond) = open().await;
    fill(&pond, COUNT, pattern).await;
    fill(&pond, COUNT, feedback).await;
    let metrics = &pond.metrics();
    let conditions: [Condition<PatternFilter>; 4] = [
        Condition::new("workflow", |f| PatternFilter { workflow: Some("rare".into()), ..f }, |n| meets(n, 0)),
        Condition::new("type", |f| PatternFilter { kind: Some("rare".into()), ..f }, |n| meets(n, 1)),
        Condition::new("confidence", |f| PatternFilter { min_confidence: Some(0.5), ..f }, |n| meets(n, 2)),
        Condition::new("occurrences", |f| PatternFilter { min_occurrences: Some(i64::from(FROM)), ..f }, |n| n >= FROM),
    ];
    let list = |filter: PatternFilter, after| async move {
        let page = metrics.patterns(&PatternFilter { limit: Some(PAGE), after, ..filter }).await?;
        Ok(numbered(page, |p| number(&p.id)))
    };
    check(&counting, &conditions, every(4), (0..COUNT).rev(), list).await;

    let conditions: [Condition<FeedbackFilter>; 4] = [
        Condition::new("run", |f| FeedbackFilter { run: Some("rare".into()), ..f }, |n| meets(n, 0)),
        Condition::new("node", |f| FeedbackFilter { node: Some("rare".into()), ..f }, |n| meets(n, 1)),
        Condition::new("type", |f| FeedbackFilter { kind: Some("rare".into()), ..f }, |n| meets(n, 2)),
        Condition::new("author", |f| FeedbackFilter { author: Some("rare".into()), ..f }, |n| meets(n, 3)),
    ];
    let list = |filter: FeedbackFilter, after| async move {
        let page = metrics.feedback(&FeedbackFilter { limit: Some(PAGE), after, ..filter }).await?;
        Ok(numbered(page, |f| number(&f.id)))
    };
    check(&counting, &conditions, every(4), (0..COUNT).rev(), list).await;
}
