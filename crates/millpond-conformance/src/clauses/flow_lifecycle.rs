//! Flows on their way into operation: each step is all or nothing, and touches only what is the flow's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond::{
    Commit, ComponentConfig, ErrorKind, EventFilter, EventQuery, Flow, FlowChange, FlowNode, Flows, Pond, Result, RuntimeState,
    StreamName, Versioned,
};
use serde_json::json;

use super::flows::{refused, sample};
use crate::{Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "flow_lifecycle":
    deploying_is_one_commit => "deploy, start, stop and undeploy change flow, components, history and event in one commit";
    preconditions_of_the_lifecycle => "a step from the wrong state is a conflict and changes nothing";
    what_was_edited_is_deployed_again => "a flow updated since it was deployed is not started until it is deployed again";
    undeploy_leaves_nothing => "undeploying and deleting remove every component, and only the flow's own";
    racing_steps_agree => "steps of two operators at once leave flow and components in agreement";
    components_are_nobody_elses => "raw commits cannot write flows, versions or deployed components";
    static_configuration_becomes_a_flow => "a flow made of component configurations can be created and deployed";
}

async fn event_types(pond: &Pond, id: &str) -> Result<Vec<String>> {
    let stream = StreamName::new(format!("flows/{id}"))?;
    let page = pond.store().events(EventQuery::new(EventFilter::stream(stream))).await?;
    Ok(page.items.into_iter().map(|e| e.kind).collect())
}

/// The nodes a flow's deployed components belong to, and whether they run.
pub(super) async fn enabled(flows: &Flows, id: &str) -> Result<Vec<(String, bool)>> {
    let page = flows.components(id, 100, None).await?;
    Ok(page.items.into_iter().map(|c| (c.value.node, c.value.component.enabled)).collect())
}

async fn deploying_is_one_commit(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let flows = pond.flows().by("anna");
    flows.create(&sample("f")).await?;
    let both = |on: bool| vec![("in".to_owned(), on), ("out".to_owned(), on)];
    let steps = [
        ("flow.deployed", RuntimeState::DeployedStopped, both(false)),
        ("flow.started", RuntimeState::Running, both(true)),
        ("flow.stopped", RuntimeState::DeployedStopped, both(false)),
        ("flow.undeployed", RuntimeState::NotDeployed, vec![]),
    ];
    for (n, (event, state, components)) in steps.into_iter().enumerate() {
        let before = pond.store().head().await?.0;
        let flow = match n {
            0 => flows.deploy("f", Some(1)).await?,
            1 => flows.start("f", Some(2)).await?,
            2 => flows.stop("f", Some(3)).await?,
            _ => flows.undeploy("f", Some(4)).await?,
        };
        // Flow, version, two components, event: five changes, one after the other, nothing between.
        ensure_eq!(pond.store().head().await?.0, before + 5, "the changes of {event}");
        ensure_eq!((flow.version, &flow.runtime_state), (n as i64 + 2, &state), "version and state after {event}");
        ensure_eq!(flows.require("f").await?.value, flow.value, "the stored flow after {event}");
        ensure_eq!(enabled(&flows, "f").await?, components, "the components after {event}");
        ensure_eq!(event_types(&pond, "f").await?.pop(), Some(event.to_owned()), "the last event");
        let times = (flow.deployed_at.is_some(), flow.started_at.is_some(), flow.stopped_at.is_some());
        ensure_eq!(times, (n < 3, n == 1 || n == 2, n == 2), "deployed_at, started_at, stopped_at after {event}");
    }
    let changes: Vec<FlowChange> = flows.versions("f", 10, None).await?.items.iter().map(|v| v.change).collect();
    let expected = [FlowChange::Undeployed, FlowChange::Stopped, FlowChange::Started, FlowChange::Deployed, FlowChange::Created];
    ensure_eq!(changes, expected, "the history");
    Ok(())
}

async fn preconditions_of_the_lifecycle(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let flows = pond.flows();
    flows.create(&sample("f")).await?;
    let conflict = |result: Result<Versioned<Flow>>, what: &str| -> Verdict {
        ensure_eq!(refused(result, what)?.kind(), ErrorKind::Conflict, "the answer to {what}");
        Ok(())
    };
    let head = pond.store().head().await?;
    conflict(flows.start("f", None).await, "starting what is not deployed")?;
    conflict(flows.stop("f", None).await, "stopping what is not deployed")?;
    conflict(flows.fail("f", "why").await, "failing what is not deployed")?;
    ensure_eq!(flows.undeploy("f", None).await?.version, 1, "the version after undeploying what is not deployed");
    ensure_eq!(pond.store().head().await?, head, "the store after refused steps");

    flows.deploy("f", None).await?;
    conflict(flows.stop("f", None).await, "stopping what does not run")?;
    flows.deploy("f", None).await?;
    flows.start("f", None).await?;
    let head = pond.store().head().await?;
    conflict(flows.deploy("f", None).await, "deploying what runs")?;
    conflict(flows.start("f", None).await, "starting what runs")?;
    conflict(flows.undeploy("f", None).await, "undeploying what runs")?;
    conflict(flows.update(&flows.require("f").await?.renamed("x")).await, "editing what runs")?;
    ensure!(refused(flows.delete("f", None).await, "deleting what runs")?.is_conflict(), "deleting what runs");
    ensure_eq!(pond.store().head().await?, head, "the store after refused steps");
    ensure_eq!(enabled(&flows, "f").await?, [("in".to_owned(), true), ("out".to_owned(), true)], "the components");

    let failed = flows.fail("f", "the port is taken").await?;
    ensure_eq!(failed.runtime_state, RuntimeState::Error, "the state after a failure");
    ensure_eq!(enabled(&flows, "f").await?, [("in".to_owned(), false), ("out".to_owned(), false)], "components that failed");
    conflict(flows.start("f", None).await, "starting what failed")?;
    flows.deploy("f", None).await?;
    flows.fail("f", "again").await?;
    flows.undeploy("f", None).await?;
    ensure_eq!(enabled(&flows, "f").await?.len(), 0, "the components in the end");
    Ok(())
}

async fn what_was_edited_is_deployed_again(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let flows = pond.flows();
    flows.create(&sample("f")).await?;
    flows.update(&flows.require("f").await?.renamed("edited before")).await?;
    flows.deploy("f", None).await?;
    // Starting and stopping make versions too; they are no edits.
    for _ in 0..2 {
        flows.start("f", None).await?;
        flows.stop("f", None).await?;
    }
    let found = flows.require("f").await?;
    flows.update(&Flow { nodes: vec![FlowNode::new("other", "udp", "input")], connections: vec![], ..found.value }).await?;
    let head = pond.store().head().await?;
    let error = refused(flows.start("f", None).await, "starting what was edited")?;
    ensure_eq!(error.kind(), ErrorKind::Conflict, "the answer to starting what was edited");
    ensure!(error.to_string().contains("deploy again"), "the refusal does not say what to do: {error}");
    ensure!(refused(flows.start_part("f", None).await, "a start's part")?.is_conflict(), "the part of starting what was edited");
    ensure_eq!(pond.store().head().await?, head, "the store after a refused start");
    ensure_eq!(enabled(&flows, "f").await?, [("in".to_owned(), false), ("out".to_owned(), false)], "the old components");
    flows.deploy("f", None).await?;
    flows.start("f", None).await?;
    ensure_eq!(enabled(&flows, "f").await?, [("other".to_owned(), true)], "the components after deploying again");
    Ok(())
}

async fn undeploy_leaves_nothing(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    // The same node names, and ids whose plain concatenation would be one key.
    for (flow, node) in [("x", "y/n"), ("x/y", "n"), ("z", "n")] {
        flows
            .create(&Flow::new(flow, "F").node(FlowNode { name: "udp-input".to_owned(), ..FlowNode::new(node, "udp", "input") }))
            .await?;
        flows.deploy(flow, None).await?;
    }
    flows.start("x/y", None).await?;
    flows.undeploy("x", None).await?;
    ensure!(flows.component("x", "y/n").await?.is_none(), "a component of the undeployed flow is left");
    ensure_eq!(enabled(&flows, "x/y").await?, [("n".to_owned(), true)], "the components of a flow of a similar name");
    ensure!(flows.delete("z", None).await?, "the deployed flow was not there");
    ensure!(flows.component("z", "n").await?.is_none(), "a component of the deleted flow is left");
    // A node that is gone from the flow is gone from what is deployed, after the next deployment.
    let edit = flows.deploy("x", None).await?;
    flows.update(&Flow { nodes: vec![FlowNode::new("other", "udp", "input")], ..edit.value }).await?;
    flows.deploy("x", None).await?;
    ensure_eq!(enabled(&flows, "x").await?, [("other".to_owned(), false)], "the components after deploying anew");
    Ok(())
}

async fn racing_steps_agree(ground: Arc<Ground>) -> Verdict {
    let handles = [ground.pond().await?.flows(), ground.second_pond().await?.flows()];
    handles[0].create(&sample("f")).await?;
    handles[0].deploy("f", None).await?;
    for round in 0..6 {
        let start = Arc::new(tokio::sync::Barrier::new(4));
        let mut racers = tokio::task::JoinSet::new();
        for n in 0..4_usize {
            let (flows, start) = (handles[n % 2].clone(), Arc::clone(&start));
            racers.spawn(async move {
                start.wait().await;
                match n {
                    0 => flows.start("f", None).await.map(|_| ()),
                    1 => flows.stop("f", None).await.map(|_| ()),
                    2 => flows.undeploy("f", None).await.map(|_| ()),
                    _ => flows.deploy("f", None).await.map(|_| ()),
                }
            });
        }
        for outcome in racers.join_all().await {
            ensure!(outcome.as_ref().err().is_none_or(millpond::Error::is_conflict), "a step failed otherwise: {outcome:?}");
        }
        let flow = handles[1].require("f").await?;
        let expected = match flow.runtime_state {
            RuntimeState::NotDeployed => vec![],
            RuntimeState::Running => vec![true, true],
            _ => vec![false, false],
        };
        let found: Vec<bool> = enabled(&handles[1], "f").await?.into_iter().map(|(_, on)| on).collect();
        ensure_eq!(found, expected, "the components of the flow that is {} after round {round}", flow.runtime_state);
        let newest = handles[1].versions("f", 1, None).await?.items.pop();
        ensure_eq!(newest.map(|v| v.value.flow), Some(flow.value), "the newest version and the flow");
    }
    Ok(())
}

async fn components_are_nobody_elses(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let flow = pond.flows().create(&sample("f")).await?;
    pond.flows().deploy("f", None).await?;
    for (collection, key) in [("flows", "f"), ("flow_versions", "f@1"), ("component_configs", "f/in")] {
        let put = pond.commit(Commit::new().put(collection, key, &flow.value)?).await;
        ensure_eq!(refused(put, "a raw put")?.kind(), ErrorKind::Invalid, "a raw put into {collection}");
        let delete = pond.commit(Commit::new().delete(collection, key)?).await;
        ensure_eq!(refused(delete, "a raw delete")?.kind(), ErrorKind::Invalid, "a raw delete from {collection}");
    }
    let rewritten = pond.commit(Commit::new().trusted().put("flow_versions", "f@1", &flow.value)?).await;
    ensure!(refused(rewritten, "rewriting history")?.is_conflict(), "a version was written over");
    Ok(())
}

async fn static_configuration_becomes_a_flow(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let config = |name: &str, enabled: bool| ComponentConfig {
        category: "input".to_owned(),
        name: name.to_owned(),
        enabled,
        config: json!({"port": 1}),
        ..ComponentConfig::default()
    };
    let configs: BTreeMap<String, ComponentConfig> =
        [("a".to_owned(), config("udp", true)), ("b".to_owned(), config("tcp", false)), ("c".to_owned(), config("ws", true))]
            .into();
    let flow = Flow::from_component_configs(pond.store().host(), "Headless", &configs);
    let created = pond.flows().create(&flow).await?;
    let places: Vec<(&str, f64)> = created.nodes.iter().map(|n| (n.id.as_str(), n.position.x)).collect();
    ensure_eq!(places, [("a", 50.0), ("c", 650.0)], "nodes and where they stand; the disabled one leaves a hole");
    pond.flows().deploy(&created.id, None).await?;
    let deployed = pond.flows().component(&created.id, "c").await?.map(|c| (c.value.component.name, c.value.component.config));
    ensure_eq!(deployed, Some(("ws".to_owned(), json!({"port": 1}))), "what is deployed");
    Ok(())
}
