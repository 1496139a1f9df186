//! Flows as JSON, made of configurations, over a clock that goes back, and for synchronous callers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millpond::{
    ComponentConfig, DeployedComponent, Document, ErrorKind, Flow, FlowConnection, FlowDelivery, FlowFilter, FlowNode,
    FlowVersion, ManualHost, OpenOptions, RuntimeState, StartAt, Timestamp,
};
use serde_json::{Value, json};

/// Reads a document of a released version, checks its index fields, and writes it back unchanged.
fn survives<T: Document>(golden: &str) -> T {
    let stored: Value = serde_json::from_str(golden).expect("golden files are JSON");
    let document: T = serde_json::from_value(stored.clone()).expect("version 1 reads");
    T::COLLECTION.spec().expect("a valid declaration").extract(&stored).expect("index fields of the declared types");
    assert_eq!(serde_json::to_value(&document).expect("writes"), stored, "something was dropped or changed");
    document
}

#[test]
fn released_documents_read_and_write_back() {
    let flow: Flow = survives(include_str!("golden/flow-v1.json"));
    assert_eq!(flow.runtime_state, RuntimeState::Running);
    assert!(flow.problems().is_empty(), "{:?}", flow.problems());
    let version: FlowVersion = survives(include_str!("golden/flow_version-v1.json"));
    assert_eq!(version.key().expect("a key").as_str(), "my-flow@5");
    let component: DeployedComponent = survives(include_str!("golden/component_config-v1.json"));
    assert_eq!(component.key().expect("a key").as_str(), "my-flow/node-1");
}

#[test]
fn a_new_flow_has_the_json_of_semstreams() {
    let node = FlowNode { position: millpond::CanvasPosition::at(100.0, -0.5), ..FlowNode::new("n", "udp", "input") };
    let text = serde_json::to_string(&Flow::new("f", "F").node(node)).expect("writes");
    assert_eq!(
        text,
        r#"{"id":"f","name":"F","version":0,"nodes":[{"id":"n","component":"udp","type":"input","name":"n","#.to_owned()
            + r#""position":{"x":100,"y":-0.5},"config":{}}],"connections":[],"runtime_state":"not_deployed","#
            + r#""created_at":"1970-01-01T00:00:00.000000Z","updated_at":"1970-01-01T00:00:00.000000Z","#
            + r#""last_modified":"1970-01-01T00:00:00.000000Z"}"#
    );
}

#[test]
fn generations_and_gaps_read() {
    let sparse = Flow::from_json(
        r#"{"id":"f","name":"F","nodes":null,"connections":null,"runtime_state":"","created_at":"0001-01-01T00:00:00Z"}"#,
    );
    let sparse = sparse.expect("what Go writes of a flow of zero values reads");
    assert_eq!((sparse.nodes.len(), &sparse.runtime_state), (0, &RuntimeState::NotDeployed));
    let node = |text: &str| serde_json::from_str::<FlowNode>(text).expect("a node");
    assert_eq!(node(r#"{"id":"a","type":"udp","name":"a"}"#).component, "udp", "first generation");
    let second = node(r#"{"id":"a","type":"input","name":"a"}"#);
    assert_eq!((second.component.as_str(), second.category.as_str()), ("", "input"), "a category is no factory");
    assert_eq!(node(r#"{"id":"a","component":null,"type":"udp","name":"a"}"#).component, "udp", "null is absent");
    let empty = node(r#"{"id":"a","component":"","type":"udp","name":"a"}"#);
    assert_eq!((empty.component.as_str(), empty.category.as_str()), ("", "udp"), "an empty component is not absent");
    let problems: Vec<_> = Flow::new("f", "F").node(empty).problems().into_iter().map(|p| (p.path, p.rule)).collect();
    assert_eq!(problems, [("$.nodes[0].component".to_owned(), "required")]);
    let second = node(r#"{"id":"a","component":"x","type":"special","name":"a"}"#);
    assert_eq!((second.component.as_str(), second.category.as_str()), ("x", "special"));
    assert_eq!(Flow::from_json("[]").expect_err("no flow").kind(), ErrorKind::Invalid);
    assert_eq!(Flow::from_json("{").expect_err("no JSON").kind(), ErrorKind::Invalid);
}

#[test]
fn rules_on_ids_and_sizes() {
    let rules = |flow: &Flow| flow.problems().into_iter().map(|p| (p.path, p.rule)).collect::<Vec<_>>();
    let id = |id: &str| rules(&Flow::new(id, "F"));
    assert_eq!(id("fine.id/with-parts"), []);
    for bad in ["a//b", "..", "a\nb", "/a"] {
        assert_eq!(id(bad), [("$.id".to_owned(), "id_well_formed")], "{bad:?}");
    }
    assert_eq!(id(&"x".repeat(257)), [("$.id".to_owned(), "id_length")]);
    let mut many = Flow::new("f", "F");
    many.nodes = (0..2_001).map(|n| FlowNode::new(n.to_string(), "udp", "input")).collect();
    assert_eq!(rules(&many), [("$.nodes".to_owned(), "node_count")]);
    let lost = FlowNode { position: millpond::CanvasPosition::at(f64::NAN, 0.0), ..FlowNode::new("n", "udp", "input") };
    assert_eq!(rules(&Flow::new("f", "F").node(lost)), [("$.nodes[0].position.x".to_owned(), "position_finite")]);
}

#[test]
fn configurations_lie_on_the_grid_with_holes() {
    let config = |enabled: bool, config: Value| ComponentConfig {
        category: "processor".to_owned(),
        name: "factory".to_owned(),
        enabled,
        config,
        extra: [("kept".to_owned(), json!(1))].into(),
    };
    let configs: BTreeMap<String, ComponentConfig> = [
        ("a", config(true, json!({"k": 1}))),
        ("b", config(false, Value::Null)),
        ("c", config(true, json!([1, "x"]))),
        ("d", config(true, Value::Null)),
        ("e", config(true, json!("text"))),
        ("f", config(false, Value::Null)),
        ("g", config(true, json!({}))),
    ]
    .into_iter()
    .map(|(k, c)| (k.to_owned(), c))
    .collect();
    let host = ManualHost::at(Timestamp::from_micros(1_000_000_000));
    let edge = FlowConnection::new("c", ("a", "out"), ("c", "in"));
    let flow = Flow::from_component_configs_with_connections(&host, "Static", &configs, vec![edge.clone()]);
    let nodes: Vec<Value> = flow.nodes.iter().map(|n| json!([n.id, n.name, n.position, n.config])).collect();
    let expected = [
        json!(["a", "a", {"x": 50, "y": 50}, {"k": 1}]),
        json!(["c", "c", {"x": 650, "y": 50}, {"raw": "[1,\"x\"]"}]),
        json!(["d", "d", {"x": 950, "y": 50}, {}]),
        json!(["e", "e", {"x": 50, "y": 230}, {"raw": "\"text\""}]),
        json!(["g", "g", {"x": 650, "y": 230}, {}]),
    ];
    assert_eq!(nodes, expected);
    assert_eq!(flow.connections, [edge]);
    assert_eq!((flow.version, flow.description.as_str()), (1, "Auto-generated from static configuration"));
    assert_eq!((flow.nodes[0].component.as_str(), flow.nodes[0].category.as_str()), ("factory", "processor"));
    assert!(flow.problems().is_empty());
    let other = Flow::from_component_configs(&host, "Static", &configs);
    assert!(!flow.id.is_empty() && flow.id != other.id && other.connections.is_empty());
}

#[tokio::test]
async fn history_stays_in_order_when_the_clock_goes_back() {
    let start = Timestamp::parse("2026-11-21T08:00:00Z").expect("a time");
    let host = Arc::new(ManualHost::at(start));
    let pond = OpenOptions::new().host(host.clone()).open("memory:").await.expect("opens");
    let flows = pond.flows();
    let first = flows.create(&Flow::new("f", "one")).await.expect("created");
    // The same moment, then an hour back.
    let second = flows.update(&first.renamed("two")).await.expect("updated");
    host.set(start.minus(Duration::from_secs(3_600)));
    let third = flows.update(&second.renamed("three")).await.expect("updated");
    assert!(first.updated_at < second.updated_at && second.updated_at < third.updated_at);
    for flow in [&first, &second, &third] {
        let then = flows.as_of("f", flow.updated_at).await.expect("read").expect("it existed");
        assert_eq!(then.flow, flow.value);
    }
    assert!(flows.as_of("f", start.minus(Duration::from_micros(1))).await.expect("read").is_none());
}

#[test]
fn synchronous_callers_have_all_of_it() {
    let pond = millpond::blocking::open("memory:").expect("opens");
    let flows = pond.flows().by("anna");
    let created = flows.create(&Flow::new("f", "F").node(FlowNode::new("n", "udp", "input"))).expect("created");
    let mut watch = flows.watch("*", StartAt::Oldest).expect("a watch");
    let wait = Duration::from_secs(10);
    assert!(matches!(watch.next_within(wait), Ok(Some(FlowDelivery::Changed(f, _))) if f.value == created.value));
    assert!(matches!(watch.next_within(wait), Ok(Some(FlowDelivery::SnapshotEnd(_)))));
    assert_eq!(watch.next_within(Duration::from_millis(1)).expect("nothing yet"), None);
    flows.deploy("f", None).expect("deployed");
    flows.start("f", Some(2)).expect("started");
    assert_eq!(flows.update(&created.renamed("x")).expect_err("stale").kind(), ErrorKind::Conflict);
    assert!(matches!(watch.next_within(wait), Ok(Some(FlowDelivery::Changed(f, _))) if f.runtime_state == RuntimeState::Running));
    assert!(watch.cursor().is_some() && watch.try_next().expect("nothing more").is_none());
    flows.stop("f", None).expect("stopped");
    flows.undeploy("f", None).expect("undeployed");
    assert_eq!(flows.list(&FlowFilter::default()).expect("a page").items.len(), 1);
    assert!(flows.delete("f", None).expect("deleted"));
    let last = flows.versions("f", 1, None).expect("a page").items.remove(0);
    assert_eq!((last.version, last.changed_by.as_deref()), (6, Some("anna")));

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let inside = runtime.block_on(async { flows.get("f") });
    assert_eq!(inside.expect_err("inside a runtime").kind(), ErrorKind::Invalid);
}
