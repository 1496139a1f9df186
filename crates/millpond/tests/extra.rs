//! A further field of a document, or of a part of it, never takes the place of a declared one, whichever domain takes it.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond::{
    ClaimRequest, DeadLetteredItem, ErrorKind, ErrorType, FailureDetail, Flow, FlowNode, NewSession, Timestamp, WorkflowData,
};
use serde_json::{Value, json};

fn named(name: &str) -> BTreeMap<String, Value> {
    [(name.to_owned(), json!("x"))].into()
}

fn refused<T: std::fmt::Debug>(outcome: millpond::Result<T>, name: &str) {
    let error = outcome.expect_err(name);
    assert!(error.kind() == ErrorKind::Invalid && error.message().contains(name), "{error}");
}

fn item(extra: &str, failure_extra: &str) -> DeadLetteredItem {
    let mut failure = FailureDetail::of(Timestamp::from_micros(1), ErrorType::Timeout, "slow");
    failure.extra = named(failure_extra);
    let mut item = DeadLetteredItem::of("i", json!(1), failure);
    item.extra = named(extra);
    item
}

#[tokio::test]
async fn dead_letters() {
    let letters = millpond::open("memory:").await.expect("opens").dead_letters();
    // Of the item, of the letter around it, of a failure.
    refused(letters.add("job", item("item_data", "a")).await, "item_data");
    refused(letters.add("job", item("state", "a")).await, "state");
    refused(letters.add("job", item("a", "agent_id")).await, "agent_id");
    letters.add("job", item("a", "b")).await.expect("unknown fields are kept");
    let claims = letters.claim(&ClaimRequest::of("w", 1, Duration::from_secs(60))).await.expect("claims");
    let again = item("a", "attempt_number").failure_history.remove(0);
    refused(letters.retry_later(&claims[0], again, Duration::ZERO).await, "attempt_number");
}

#[tokio::test]
async fn flows() {
    let flows = millpond::open("memory:").await.expect("opens").flows();
    let mut flow = Flow::new("f", "F").node(FlowNode::new("n", "udp", "input"));
    flow.extra = named("created_by");
    refused(flows.create(&flow).await, "created_by");
    flow.extra = named("a");
    flow.nodes[0].position.extra = named("x");
    refused(flows.create(&flow).await, "\"x\"");
    flow.nodes[0].position.extra = named("z");
    let mut flow = flows.create(&flow).await.expect("unknown fields are kept").value;
    flow.extra = named("version");
    refused(flows.update(&flow).await, "version");
}

#[tokio::test]
async fn sessions() {
    let sessions = millpond::open("memory:").await.expect("opens").sessions();
    let data = |extra| WorkflowData { extra: named(extra), ..WorkflowData::default() };
    refused(sessions.create(NewSession::workflow(data("worktree_name"))).await, "worktree_name");
    let mut session = sessions.create(NewSession::workflow(data("a"))).await.expect("unknown fields are kept");
    session.extra = named("updated_at");
    refused(sessions.update(&session).await, "updated_at");
    refused(sessions.save(&session).await, "updated_at");
}
