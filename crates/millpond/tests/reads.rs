//! What workflows and flows read from the engine: as many rows as they answer with, never a list to look through.

mod support;

use millpond::{Flow, FlowFilter, FlowNode, NewWorkflow, OpenOptions, RuntimeState, VersionRef, WorkflowFilter};
use serde_json::json;
use support::CountingEngine;

#[tokio::test]
async fn workflows_read_what_they_answer() {
    let options = OpenOptions::new();
    let counting = CountingEngine::on(options.engine("memory:").await.expect("opens"));
    let workflows = options.open_engine(counting.clone()).await.expect("opens").workflows();
    for n in 0..300_u32 {
        let author = if n % 100 == 0 { "rare" } else { "common" };
        let mut new = NewWorkflow::of(json!({"name": format!("w{n}")})).id(format!("w{}", n % 30)).author(author);
        if n >= 30 {
            new = new.parent(VersionRef::new("w0", 1));
        }
        workflows.store(&new).await.expect("stored");
    }
    counting.take_rows();

    let page = workflows.list("w7", 3, None).await.expect("listed");
    assert_eq!((page.items.len(), counting.take_rows()), (3, 3), "three versions of ten");
    workflows.latest("w7").await.expect("read");
    assert_eq!(counting.take_rows(), 1, "the latest");
    let rare = WorkflowFilter { author: Some("rare".to_owned()), ..WorkflowFilter::default() };
    let found = workflows.find(&rare).await.expect("found");
    assert_eq!((found.items.len(), counting.take_rows()), (3, 3), "three versions of three hundred");
    let rows = workflows.list_all(&WorkflowFilter { limit: 5, ..WorkflowFilter::default() }).await.expect("listed");
    assert_eq!((rows.items.len(), counting.take_rows()), (5, 5), "five workflows of thirty");
    let children = workflows.children(&VersionRef::new("w0", 1), 10, None).await.expect("listed");
    assert_eq!((children.items.len(), counting.take_rows()), (10, 10), "ten children of 270");
    workflows.delete("w7", 3, None).await.expect("deleted");
    let rows = counting.take_rows();
    assert!(rows <= 4, "a deletion read {rows} rows");
}

#[tokio::test]
async fn flows_read_what_they_answer() {
    let options = OpenOptions::new();
    let counting = CountingEngine::on(options.engine("memory:").await.expect("opens"));
    let flows = options.open_engine(counting.clone()).await.expect("opens").flows();
    for n in 0..200 {
        flows.create(&Flow::new(format!("f{n:03}"), "F").node(FlowNode::new("n", "udp", "input"))).await.expect("created");
    }
    let mut flow = flows.require("f000").await.expect("read");
    let middle = flows.deploy("f007", None).await.expect("deployed");
    for n in 0..100 {
        flow = flows.update(&flow.renamed(format!("n{n}"))).await.expect("updated");
    }
    counting.take_rows();

    let page = flows.list(&FlowFilter { limit: 50, ..FlowFilter::default() }).await.expect("listed");
    assert_eq!((page.items.len(), counting.take_rows()), (50, 50), "fifty of two hundred");
    let deployed = FlowFilter { runtime_state: Some(RuntimeState::DeployedStopped), ..FlowFilter::default() };
    let page = flows.list(&deployed).await.expect("listed");
    assert_eq!((page.items.len(), counting.take_rows()), (1, 1), "the one that is deployed");
    let then = flows.as_of("f000", middle.updated_at).await.expect("read").expect("it existed");
    assert_eq!((then.version, counting.take_rows()), (1, 1), "the version of a moment, out of a hundred and one");
    flows.update(&flow.renamed("last")).await.expect("updated");
    assert_eq!(counting.take_rows(), 1, "an update reads the flow");
    flows.start("f007", None).await.expect("started");
    assert_eq!(counting.take_rows(), 3, "a start reads the flow, its one component and how its definition got there");
}
