//! Flows: two editors never overwrite each other, invalid ones are told all their problems, history is complete.

use std::sync::Arc;

use millpond::{
    Commit, ErrorClass, ErrorKind, Flow, FlowChange, FlowConnection, FlowDelivery, FlowFilter, FlowNode, FlowOrder, FlowProblems,
    FlowWatch, NamespaceStatus, NewWorkflow, Page, Result, RuntimeState, StartAt, Timestamp, Versioned,
};
use serde_json::json;

use super::flow_lifecycle::enabled;
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "flows":
    create_is_the_stores_own => "creating sets version, state and times itself, makes an id when there is none, and refuses a taken one";
    update_keeps_what_is_the_stores => "an update changes the content and nothing that belongs to the store";
    racing_updates_let_one_win => "of updates made from one version at once, one wins and the others learn of it; nothing is lost";
    a_conflict_says_what_was_found => "a refused update names both versions, and when and by whom the other was made";
    a_created_again_flow_goes_on_counting => "after delete and re-create the version is above all before, and a stale editor is refused";
    racing_creates_let_one_win => "of creates of one id at once, one wins, also after a deletion";
    all_problems_at_once => "an invalid flow is refused with every problem, its place and rule, and nothing is stored";
    errors_have_three_classes => "absent, conflicting and bad flows are class invalid, a store that takes nothing is transient, a damaged flow fatal";
    a_damaged_flow_stops_nobody => "a flow that does not read back is reported in lists and watches, and never overwritten by a create";
    unknown_fields_survive => "fields nobody knows survive on flows, nodes and connections";
    the_first_generation_reads => "a node of the first generation gets its factory from its type";
    lists_are_pages_with_filters => "flows are listed page by page, by prefix, state, name and time; an empty store lists none";
    history_is_complete => "every change leaves its version, found by number and by time, also after deletion";
    a_watch_shows_snapshot_then_changes => "a watch shows what is there, an end mark, then changes and deletions, by pattern";
    a_watch_resumes => "a watch resumed from a cursor shows what changed since, deletions included, and nothing twice";
    parts_make_one_commit => "parts of several operations go into one commit, which is applied whole or not at all";
}

pub(super) fn sample(id: &str) -> Flow {
    Flow::new(id, "Sample")
        .node(FlowNode::new("in", "udp", "input"))
        .node(FlowNode::new("out", "file", "output"))
        .connect(FlowConnection::new("c1", ("in", "out"), ("out", "in")))
}

/// The error of what has to fail.
pub(super) fn refused<T>(result: Result<T>, what: &str) -> std::result::Result<millpond::Error, Failure> {
    match result {
        Ok(_) => Err(Failure(format!("{what} was not refused"))),
        Err(error) => Ok(error),
    }
}

async fn create_is_the_stores_own(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    let long_ago = Timestamp::from_micros(1);
    let given = Flow {
        version: 77,
        runtime_state: RuntimeState::Running,
        created_at: long_ago,
        updated_at: long_ago,
        last_modified: long_ago,
        deployed_at: Some(long_ago),
        started_at: Some(long_ago),
        stopped_at: Some(long_ago),
        ..sample("f")
    };
    let created = flows.by("anna").create(&given).await?;
    ensure_eq!(created.version, 1, "the version of a new flow");
    ensure_eq!(created.runtime_state, RuntimeState::NotDeployed, "the state of a new flow");
    ensure!(created.created_at > long_ago && created.created_at == created.updated_at, "created_at is the caller's");
    ensure_eq!((created.deployed_at, created.started_at, created.stopped_at), (None, None, None), "times of states");
    ensure_eq!(created.created_by.as_str(), "anna", "who created it");
    ensure_eq!(flows.require("f").await?, created, "the stored flow and the returned one");
    let again = refused(flows.create(&given).await, "creating it again")?;
    ensure_eq!(again.kind(), ErrorKind::Conflict, "the kind of that refusal");
    ensure!(again.message().contains("exists already"), "the refusal does not say that it exists: {again}");
    ensure_eq!(given.version, 77, "the caller's own flow");
    let made = flows.create(&sample("")).await?;
    ensure!(!made.id.is_empty() && flows.get(&made.id).await?.is_some(), "no id was made");
    ensure_eq!(made.created_by.as_str(), "", "a creator nobody named");
    Ok(())
}

async fn update_keeps_what_is_the_stores(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    let created = flows.create(&Flow { created_by: "anna".to_owned(), ..sample("f") }).await?;
    flows.deploy("f", None).await?;
    let seen = flows.require("f").await?;
    // What the user interface sends: no times, no creator.
    let sent =
        json!({"id": "f", "name": "Other", "version": seen.version, "runtime_state": "running", "nodes": [], "connections": []});
    let updated = flows.update(&Flow::from_json(&sent.to_string())?).await?;
    ensure_eq!((updated.name.as_str(), updated.nodes.len()), ("Other", 0), "the new content");
    ensure_eq!(updated.version, seen.version + 1, "the next version");
    ensure_eq!(updated.created_at, created.created_at, "created_at");
    ensure_eq!(updated.deployed_at, seen.deployed_at, "deployed_at");
    ensure_eq!(updated.runtime_state, RuntimeState::DeployedStopped, "the state");
    ensure_eq!(updated.created_by.as_str(), "anna", "the creator");
    ensure!(updated.updated_at > seen.updated_at && updated.last_modified == updated.updated_at, "updated_at did not move on");
    ensure_eq!(enabled(&flows, "f").await?.len(), 2, "what is deployed, before it is deployed anew");
    flows.deploy("f", None).await?;
    ensure_eq!(enabled(&flows, "f").await?.len(), 0, "what is deployed of a flow without nodes");
    Ok(())
}

async fn racing_updates_let_one_win(ground: Arc<Ground>) -> Verdict {
    let handles = [ground.pond().await?.flows(), ground.second_pond().await?.flows()];
    let base = handles[0].create(&sample("f")).await?.value;
    let start = Arc::new(tokio::sync::Barrier::new(8));
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..8_usize {
        let (flows, start, edit) = (handles[n % 2].by(format!("e{n}")), Arc::clone(&start), base.renamed(format!("by {n}")));
        racers.spawn(async move {
            start.wait().await;
            flows.update(&edit).await.map(|f| f.value.name)
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = racers.join_all().await.into_iter().partition(Result::is_ok);
    ensure_eq!(won.len(), 1, "updates that won");
    for loser in lost {
        let error = refused(loser, "a lost update")?;
        ensure_eq!(error.kind(), ErrorKind::Conflict, "the kind of a lost update");
        ensure!(error.message().contains("version 1, the store holds version 2"), "a loser is not told: {error}");
    }
    let stored = handles[1].require("f").await?;
    let winner = won.into_iter().next().transpose()?.unwrap_or_default();
    ensure_eq!((stored.version, stored.name.as_str()), (2, winner.as_str()), "the flow after the race");
    Ok(())
}

async fn a_conflict_says_what_was_found(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    let first = flows.create(&sample("f")).await?;
    let second = flows.by("anna").update(&first.renamed("Anna's")).await?;
    let error = refused(flows.by("bert").update(&first.renamed("Bert's")).await, "an update from a stale version")?;
    let text = error.to_string();
    for part in ["version 1", "version 2", "anna", "flows diff f@1 f@2"] {
        ensure!(text.contains(part), "the conflict leaves out {part:?}: {text}");
    }
    ensure_eq!(error.found_revision(), Some(second.revision), "the revision found");
    ensure_eq!(flows.require("f").await?.value.name, "Anna's", "the flow after the refusal");
    let stale = refused(flows.deploy("f", Some(1)).await, "deploying a stale version")?;
    ensure!(stale.is_conflict(), "deploying a stale version is {stale:?}");
    let ahead = refused(flows.update(&Flow { version: 9, ..first.value.clone() }).await, "an update from a version to come")?;
    ensure!(ahead.is_conflict(), "an update from a version to come is {ahead:?}");
    Ok(())
}

async fn a_created_again_flow_goes_on_counting(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    let stale = flows.create(&sample("f")).await?;
    ensure!(flows.delete("f", Some(1)).await?, "the flow was not there to delete");
    ensure!(!flows.delete("f", None).await?, "deleting it again answered true");
    let again = flows.create(&sample("f")).await?;
    ensure!(again.version > stale.version + 1, "the flow created again is at version {}", again.version);
    let error = refused(flows.update(&stale.renamed("stale")).await, "a stale editor's update")?;
    ensure!(error.is_conflict(), "a stale editor is answered {error:?}");
    ensure_eq!(flows.require("f").await?, again, "the flow after the stale update");
    let numbers: Vec<i64> = flows.versions("f", 10, None).await?.items.iter().map(|v| v.version).collect();
    ensure_eq!(numbers, [3, 2, 1], "the versions in its history");
    Ok(())
}

async fn racing_creates_let_one_win(ground: Arc<Ground>) -> Verdict {
    let handles = [ground.pond().await?.flows(), ground.second_pond().await?.flows()];
    for round in 0..2_i64 {
        let start = Arc::new(tokio::sync::Barrier::new(6));
        let mut racers = tokio::task::JoinSet::new();
        for n in 0..6_usize {
            let (flows, start) = (handles[n % 2].clone(), Arc::clone(&start));
            racers.spawn(async move {
                start.wait().await;
                flows.create(&sample("f")).await.map(|f| f.version)
            });
        }
        let (won, lost): (Vec<_>, Vec<_>) = racers.join_all().await.into_iter().partition(Result::is_ok);
        ensure_eq!(won.into_iter().collect::<Result<Vec<_>>>()?, [1 + 2 * round], "the versions of creates that won");
        ensure!(lost.into_iter().all(|l| l.is_err_and(|e| e.kind() == ErrorKind::Conflict)), "a lost create is no conflict");
        handles[1].delete("f", None).await?;
    }
    Ok(())
}

async fn all_problems_at_once(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    let broken = json!({
        "id": "f", "name": "", "runtime_state": "resting",
        "nodes": [
            {"id": "a", "component": "udp", "type": "input", "name": "a"},
            {"id": "a", "component": "", "type": "", "name": ""},
            {"id": "", "component": "x", "type": "output", "name": "n"},
        ],
        "connections": [{"id": "", "source_node_id": "a", "source_port": "", "target_node_id": "zz", "target_port": ""}],
    });
    let broken = Flow::from_json(&broken.to_string())?;
    let error = refused(flows.create(&broken).await, "an invalid flow")?;
    ensure_eq!((error.kind(), error.class()), (ErrorKind::Invalid, ErrorClass::Invalid), "kind and class");
    let Some(problems) = FlowProblems::of(&error) else { return Err(Failure(format!("the error holds no problems: {error}"))) };
    let found: Vec<(&str, &str)> = problems.0.iter().map(|p| (p.path.as_str(), p.rule)).collect();
    let expected = [
        ("$.name", "required"),
        ("$.runtime_state", "runtime_state_known"),
        ("$.nodes[1].id", "node_id_unique"),
        ("$.nodes[1].component", "required"),
        ("$.nodes[1].type", "required"),
        ("$.nodes[1].name", "required"),
        ("$.nodes[2].id", "required"),
        ("$.connections[0].id", "required"),
        ("$.connections[0].source_port", "required"),
        ("$.connections[0].target_port", "required"),
        ("$.connections[0].target_node_id", "connection_node_exists"),
    ];
    ensure_eq!(found, expected, "the problems");
    ensure!(flows.get("f").await?.is_none() && flows.versions("f", 1, None).await?.items.is_empty(), "something was stored");
    let good = flows.create(&sample("f")).await?;
    let error = refused(flows.update(&Flow { version: 1, ..broken }).await, "an invalid update")?;
    ensure!(FlowProblems::of(&error).is_some_and(|p| p.0.len() == expected.len()), "an update was checked less: {error}");
    ensure_eq!(flows.require("f").await?, good, "the flow after the invalid update");
    Ok(())
}

async fn errors_have_three_classes(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    let absent = refused(flows.require("none").await, "an absent flow")?;
    ensure_eq!((absent.kind(), absent.class()), (ErrorKind::NotFound, ErrorClass::Invalid), "an absent flow");
    let absent = refused(flows.update(&sample("none")).await, "updating an absent flow")?;
    ensure_eq!((absent.kind(), absent.class()), (ErrorKind::NotFound, ErrorClass::Invalid), "updating an absent flow");
    let absent = refused(flows.deploy("none", None).await, "deploying an absent flow")?;
    ensure_eq!(absent.kind(), ErrorKind::NotFound, "deploying an absent flow");
    let seen = flows.create(&sample("f")).await?;
    flows.update(&seen.renamed("new")).await?;
    let stale = refused(flows.update(&seen.renamed("stale")).await, "a stale update")?;
    ensure_eq!((stale.kind(), stale.class()), (ErrorKind::Conflict, ErrorClass::Invalid), "a stale update");
    ensure_eq!(stale.operation(), "flows.update", "the operation that failed");
    ground.engine().set_status(ground.namespace(), NamespaceStatus::Frozen).await?;
    let frozen = refused(flows.create(&sample("g")).await, "creating in a frozen store")?;
    ensure_eq!((frozen.kind(), frozen.class()), (ErrorKind::Unavailable, ErrorClass::Transient), "a store that takes nothing");
    ground.engine().set_status(ground.namespace(), NamespaceStatus::Open).await?;
    ensure!(flows.get("g").await?.is_none(), "a flow came out of the frozen store");
    Ok(())
}

async fn a_damaged_flow_stops_nobody(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let flows = pond.flows();
    flows.create(&sample("a")).await?;
    let damaged = json!({"id": "b", "name": "B", "nodes": 7, "updated_at": "2026-11-21T08:00:00Z"});
    pond.commit(Commit::new().trusted().put("flows", "b", &damaged)?).await?;
    flows.create(&sample("c")).await?;
    let page = flows.list(&FlowFilter::default()).await?;
    ensure_eq!((ids(&page), page.damaged.len()), (vec!["a", "c"], 1), "the flows that read back, and those that do not");
    let mut watch = flows.watch(">", StartAt::Oldest)?;
    ensure_eq!(shown(&mut watch).await?, ["a@1", "damaged flows/b", "c@1", "end"], "what a watch shows");
    let by_key = refused(flows.get("b").await, "a damaged flow")?;
    ensure_eq!((by_key.kind(), by_key.class()), (ErrorKind::Corrupt, ErrorClass::Fatal), "a damaged flow by its id");
    refused(flows.create(&sample("b")).await, "creating over a damaged flow")?;
    refused(flows.update(&sample("b")).await, "updating a damaged flow")?;
    Ok(())
}

async fn unknown_fields_survive(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    let sent = json!({
        "id": "f", "name": "F", "theme": {"dark": true},
        "nodes": [
            {"id": "a", "component": "udp", "type": "input", "name": "a", "position": {"x": 100, "y": 50.5, "z": 1},
             "config": {"port": 5000}, "colour": "red"},
            {"id": "b", "component": "file", "type": "output", "name": "b", "position": {"x": 0, "y": 0}, "config": {}},
        ],
        "connections": [{"id": "c", "source_node_id": "a", "source_port": "out", "target_node_id": "b", "target_port": "in",
                         "source": "auto", "validationState": "ok", "validationMessage": null}],
    });
    flows.create(&Flow::from_json(&sent.to_string())?).await?;
    let mut read = flows.require("f").await?.value;
    read.description = "now with words".to_owned();
    flows.update(&read).await?;
    let stored = flows.require("f").await?.value;
    let stored = serde_json::to_value(&stored).map_err(|e| Failure(e.to_string()))?;
    for part in ["theme", "nodes", "connections"] {
        ensure_eq!(stored[part], sent[part], "the field {part}");
    }
    Ok(())
}

async fn the_first_generation_reads(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    let old = r#"{"id": "f", "name": "F", "runtime_state": "", "nodes": [
        {"id": "1", "type": "udp", "name": "a", "position": {"x": 1, "y": 2}, "config": null},
        {"id": "2", "type": "graph-processor", "name": "b", "position": {"x": 1, "y": 2}, "config": {}},
        {"id": "3", "type": "frobnicate", "name": "c", "position": {"x": 1, "y": 2}, "config": {}}], "connections": null}"#;
    let created = flows.create(&Flow::from_json(old)?).await?;
    let nodes: Vec<(&str, &str)> = created.nodes.iter().map(|n| (n.component.as_str(), n.category.as_str())).collect();
    ensure_eq!(nodes, [("udp", "input"), ("graph-processor", "processor"), ("frobnicate", "unknown")], "factory and category");
    let error = refused(flows.deploy("f", None).await, "deploying a node of unknown category")?;
    ensure!(FlowProblems::of(&error).is_some_and(|p| p.0[0].rule == "node_type_known"), "the reason is not given: {error}");
    let mut edit = created.value;
    edit.categorise(|factory| (factory == "frobnicate").then_some("storage"));
    flows.update(&edit).await?;
    flows.deploy("f", None).await?;
    let deployed = flows.component("f", "3").await?.map(|c| (c.value.component.category, c.value.component.name));
    ensure_eq!(deployed, Some(("storage".to_owned(), "frobnicate".to_owned())), "what is deployed of it");
    Ok(())
}

fn ids(page: &Page<Versioned<Flow>>) -> Vec<&str> {
    page.items.iter().map(|f| f.id.as_str()).collect()
}

async fn lists_are_pages_with_filters(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    let all = FlowFilter::default();
    ensure!(flows.list(&all).await?.items.is_empty(), "an empty store lists flows");
    for (id, name) in [("a.1", "Alpha"), ("a.2", "Beta"), ("b.1", "Alphabet"), ("c", "Gamma")] {
        flows.by(name).create(&Flow { name: name.to_owned(), ..sample(id) }).await?;
    }
    flows.deploy("b.1", None).await?;
    flows.delete("c", None).await?;
    let gone = flows.versions("c", 1, None).await?;
    ensure_eq!(gone.items.len(), 1, "the history of a deleted flow");
    let changed_last = flows.require("b.1").await?.updated_at;
    let some = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (all.clone(), vec!["a.1", "a.2", "b.1"]),
        (FlowFilter { id_prefix: some("a."), ..all.clone() }, vec!["a.1", "a.2"]),
        (FlowFilter { runtime_state: Some(RuntimeState::DeployedStopped), ..all.clone() }, vec!["b.1"]),
        (FlowFilter { name_contains: some("Alpha"), ..all.clone() }, vec!["a.1", "b.1"]),
        (FlowFilter { name_contains: some("Alpha"), id_prefix: some("b"), ..all.clone() }, vec!["b.1"]),
        (FlowFilter { created_by: some("Beta"), ..all.clone() }, vec!["a.2"]),
        (FlowFilter { updated_from: Some(changed_last), ..all.clone() }, vec!["b.1"]),
        (FlowFilter { updated_to: Some(changed_last), order: FlowOrder::UpdatedNewest, ..all.clone() }, vec!["a.2", "a.1"]),
    ] {
        let page = flows.list(&filter).await?;
        let listed = ids(&page);
        ensure_eq!(listed, expected, "the flows for {filter:?}");
    }
    let first = flows.list(&FlowFilter { limit: 2, ..all.clone() }).await?;
    let second = flows.list(&FlowFilter { limit: 2, after: first.next.clone(), ..all }).await?;
    ensure_eq!((ids(&first), ids(&second)), (vec!["a.1", "a.2"], vec!["b.1"]), "two pages of two");
    Ok(())
}

async fn history_is_complete(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    let mut now = flows.by("anna").create(&sample("f")).await?;
    for n in 2..=12 {
        now = flows.by("bert").update(&now.renamed(format!("n{n}"))).await?;
    }
    flows.delete("f", None).await?;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = flows.versions("f", 5, after).await?;
        seen.extend(page.items.into_iter().map(|v| v.value));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    ensure_eq!(seen.iter().map(|v| v.version).collect::<Vec<_>>(), (1..=13).rev().collect::<Vec<_>>(), "the versions");
    ensure_eq!((seen[0].change, seen[12].change), (FlowChange::Deleted, FlowChange::Created), "the last and the first change");
    ensure_eq!(seen[12].changed_by.as_deref(), Some("anna"), "who made the first");
    for version in &seen[1..] {
        let as_of = flows.as_of("f", version.at).await?.map(|v| v.value);
        ensure_eq!(as_of.as_ref(), Some(version), "the flow as of the moment of version {}", version.version);
        let by_number = flows.at_version("f", version.version).await?.map(|v| v.value);
        ensure_eq!(by_number.as_ref(), Some(version), "version {} by number", version.version);
    }
    ensure!(flows.as_of("f", seen[0].at).await?.is_none(), "the flow exists as of its deletion");
    ensure!(flows.as_of("f", Timestamp::from_micros(0)).await?.is_none(), "the flow exists before its creation");
    let diff = flows.diff("f", 2, 3).await?;
    ensure!(diff.contains("-  \"name\": \"n2\"") && diff.contains("+  \"name\": \"n3\""), "the diff of two versions: {diff}");
    ensure!(refused(flows.diff("f", 2, 99).await, "a diff against nothing")?.is_not_found(), "a diff against nothing");
    Ok(())
}

/// What a watch shows until there is nothing more, in short.
async fn shown(watch: &mut FlowWatch) -> Result<Vec<String>> {
    let mut all = Vec::new();
    while let Some(delivery) = watch.try_next().await? {
        all.push(match delivery {
            FlowDelivery::Changed(flow, _) => format!("{}@{}", flow.id, flow.version),
            FlowDelivery::Deleted(gone, _) => format!("-{}", gone.key),
            FlowDelivery::SnapshotEnd(_) => "end".to_owned(),
            FlowDelivery::Damaged(damaged, _) => format!("damaged {}", damaged.what),
        });
    }
    Ok(all)
}

async fn a_watch_shows_snapshot_then_changes(ground: Arc<Ground>) -> Verdict {
    let (here, there) = (ground.pond().await?.flows(), ground.second_pond().await?.flows());
    for id in ["plant.1.in", "plant.2.in", "plant.2.out", "plants.1.in", "gone"] {
        here.create(&sample(id)).await?;
    }
    here.delete("gone", None).await?;
    let mut all = there.watch(">", StartAt::Oldest)?;
    ensure_eq!(shown(&mut all).await?, ["plant.1.in@1", "plant.2.in@1", "plant.2.out@1", "plants.1.in@1", "end"], "all");
    let mut some = there.watch("plant.*.in", StartAt::Oldest)?;
    ensure_eq!(shown(&mut some).await?, ["plant.1.in@1", "plant.2.in@1", "end"], "by pattern");
    let mut none = there.watch("none.>", StartAt::Oldest)?;
    ensure_eq!(shown(&mut none).await?, ["end"], "a pattern nothing matches");
    let mut later = there.watch("plant.>", StartAt::Now)?;
    ensure_eq!(shown(&mut later).await?, Vec::<String>::new(), "from now on");
    here.deploy("plant.1.in", None).await?;
    here.deploy("plant.2.out", None).await?;
    here.delete("plant.2.in", None).await?;
    here.delete("plants.1.in", None).await?;
    ensure_eq!(shown(&mut later).await?, ["plant.1.in@2", "plant.2.out@2", "-plant.2.in"], "changes from now on");
    here.delete("plant.2.out", None).await?;
    ensure_eq!(shown(&mut some).await?, ["plant.1.in@2", "-plant.2.in"], "changes and deletions by pattern");
    let waiting = tokio::spawn(async move { some.next().await });
    here.create(&sample("plant.3.in")).await?;
    let woken = waiting.await.map_err(|e| Failure(e.to_string()))??;
    ensure_eq!(woken.id(), Some("plant.3.in"), "the flow a waiting watch was woken for");
    for bad in ["", "a..b", "a.>.b"] {
        ensure_eq!(refused(here.watch(bad, StartAt::Now), "a bad pattern")?.kind(), ErrorKind::Invalid, "the pattern {bad:?}");
    }
    Ok(())
}

async fn a_watch_resumes(ground: Arc<Ground>) -> Verdict {
    let flows = ground.pond().await?.flows();
    for id in ["a", "b", "c"] {
        flows.create(&sample(id)).await?;
    }
    let mut first = flows.watch("*", StartAt::Oldest)?;
    let mut cursor = first.next().await?.cursor().clone();
    let mut resumed = flows.watch("*", StartAt::After(cursor.clone()))?;
    ensure_eq!(shown(&mut resumed).await?, ["b@1", "c@1"], "after the first delivery");
    while let Some(delivery) = resumed.try_next().await?.or(first.try_next().await?) {
        cursor = delivery.cursor().clone();
    }
    flows.delete("a", None).await?;
    flows.deploy("c", None).await?;
    flows.start("c", None).await?;
    let mut resumed = ground.second_pond().await?.flows().watch("*", StartAt::After(cursor))?;
    ensure_eq!(shown(&mut resumed).await?, ["-a", "c@3"], "what changed since");
    Ok(())
}

async fn parts_make_one_commit(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let (flows, workflows) = (pond.flows(), pond.workflows());
    let seen = flows.create(&sample("f")).await?;
    let workflow = NewWorkflow::of(json!({"id": "w"}));
    let (stored, _) = workflows.store_part(&workflow).await?;
    let (updated, flow) = flows.update_part(&seen.renamed("both")).await?;
    let together = Commit::new().trusted().and(stored).and(updated);
    pond.commit(together).await?;
    ensure_eq!(flows.require("f").await?.value, flow, "the flow of the commit of both");
    ensure!(workflows.get("w", 1).await?.is_some(), "the workflow of the commit of both is missing");

    let (stored, _) = workflows.store_part(&workflow).await?;
    let (updated, _) = flows.update_part(&flow.renamed("late")).await?;
    flows.update(&flow.renamed("faster")).await?;
    let together = pond.commit(Commit::new().trusted().and(stored).and(updated)).await;
    ensure!(refused(together, "a commit with a stale part")?.is_conflict(), "a stale part is no conflict");
    ensure!(workflows.get("w", 2).await?.is_none(), "half of a refused commit was applied");
    ensure_eq!(flows.require("f").await?.value.name, "faster", "the flow after the refused commit");
    Ok(())
}
