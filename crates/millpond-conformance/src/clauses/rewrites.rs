//! Documents that an operation writes again: what a newer program put into them stays.

use std::sync::Arc;
use std::time::Duration;

use millpond::{Commit, Execution, Flow, FlowNode, NewPattern, NewRun, NewWorkflow, Pond, RunEnd};
use serde_json::json;

use super::tools::{revision, value};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "rewrites":
    unknown_fields_survive => "fields nobody knows survive in every document that an operation writes again";
}

/// Each document that is written again: where it is, by what it is written, and whether that makes a new revision.
const REWRITTEN: [(&str, &str, &str, bool); 8] = [
    ("runs", "r", "a step and the finish of its run", true),
    ("workflows", "w", "storing another version", true),
    ("checkpoint_scopes", "run/r", "deleting all checkpoints", true),
    ("patterns", "w/p", "another observation", true),
    ("metric_summaries", "w/1", "the figures of another run", true),
    ("session_jobs", "s", "mapping the same job again", false),
    ("job_sessions", "j", "mapping the same job again", false),
    ("component_configs", "f/n", "starting the flow", true),
];

async fn make(pond: &Pond) -> Verdict {
    pond.runs().start(NewRun::of("w", 1).id("r")).await?;
    pond.workflows().store(&NewWorkflow::of(json!({"id": "w"}))).await?;
    pond.checkpoints().save("r", &1).await?;
    pond.metrics().record_pattern(NewPattern::of("w", "p", "SEQUENCE", 0.5)).await?;
    pond.metrics().record_execution(Execution::new("r", "w", 1).took(Duration::from_secs(1))).await?;
    pond.sessions().map_job("s", "j", "etl").await?;
    pond.flows().create(&Flow::new("f", "F").node(FlowNode::new("n", "udp", "input"))).await?;
    pond.flows().deploy("f", None).await?;
    Ok(())
}

async fn write_again(pond: &Pond) -> Verdict {
    pond.runs().step_completed("r", &"step".into()).await?;
    pond.runs().finish("r", RunEnd::completed(json!({"n": 1}))).await?;
    pond.workflows().store(&NewWorkflow::of(json!({"id": "w", "name": "second"}))).await?;
    pond.checkpoints().delete_all("r").await?;
    pond.metrics().record_pattern(NewPattern::of("w", "p", "SEQUENCE", 0.6).detail("k", json!(1))).await?;
    pond.metrics().record_execution(Execution::new("r2", "w", 1).took(Duration::from_secs(2))).await?;
    pond.sessions().map_job("s", "j", "etl").await?;
    pond.flows().start("f", None).await?;
    Ok(())
}

async fn unknown_fields_survive(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    make(&pond).await?;
    let later = json!({"kept": [1, null], "by": "a newer program"});
    let mut marked = Vec::new();
    for (collection, key, _, _) in REWRITTEN {
        let found = value(pond.store(), collection, key).await?;
        let Some(mut document) = found else { return Err(Failure(format!("{collection}/{key} does not exist"))) };
        document["later"] = later.clone();
        pond.commit(Commit::new().trusted().put(collection, key, &document)?).await?;
        marked.push(revision(pond.store(), collection, key).await?);
    }
    // Another handle: nothing is remembered from making them.
    write_again(&ground.second_pond().await?).await?;
    for ((collection, key, by, is_written), marked) in REWRITTEN.into_iter().zip(marked) {
        let now = revision(pond.store(), collection, key).await?;
        ensure!((now > marked) == is_written, "{collection}/{key} is at revision {now}, after {marked}, by {by}");
        let found = value(pond.store(), collection, key).await?.and_then(|d| d.get("later").cloned());
        ensure_eq!(found, Some(later.clone()), "the unknown field of {collection}/{key} after {by}");
    }
    Ok(())
}
