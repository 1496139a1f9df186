//! Parts of operations in larger commits: applied whole with the rest, or not at all.

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Commit, ErrorKind, Expectation, LockRequest, NewSession, Pond, RecordId, Result, RuntimeState, SessionCounts, WorkflowData,
};
use serde_json::json;

use super::flows::sample;
use super::tools::{refused, value};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "parts":
    flow_steps_join_a_commit => "each step of a flow's life joins a larger commit: nothing of a refused one, all of one that passes";
    session_changes_join_a_commit => "each change of a session joins a larger commit, in the same way";
    a_renewal_joins_a_commit => "a renewal of a lock joins a larger commit, in the same way";
}

fn guard() -> Result<RecordId> {
    RecordId::new("notes", "guard")
}

async fn guarded(ground: &Ground) -> Result<Pond> {
    let pond = ground.pond().await?;
    pond.commit(Commit::new().put("notes", "guard", &json!({}))?).await?;
    Ok(pond)
}

/// Commits a part together with a note: first where the rest is refused, then where it passes.
async fn join(pond: &Pond, what: &str, part: Commit) -> Verdict {
    let larger = || Commit::new().trusted().put("notes", what, &json!({ "by": what }));
    let before = pond.store().head().await?;
    let stale = larger()?.and(part.clone()).expect(Expectation::Absent(guard()?));
    refused(pond.commit(stale).await, ErrorKind::Conflict, &format!("{what} with a stale rest"))?;
    ensure_eq!(pond.store().head().await?, before, "the store after the refused commit with {what}");
    pond.commit(larger()?.and(part).expect(Expectation::Exists(guard()?))).await?;
    ensure!(value(pond.store(), "notes", what).await?.is_some(), "the note beside {what} is missing");
    Ok(())
}

async fn flow_steps_join_a_commit(ground: Arc<Ground>) -> Verdict {
    let pond = guarded(&ground).await?;
    let flows = pond.flows();
    let steps = ["create", "deploy", "start", "stop", "fail", "undeploy"];
    let states = [
        RuntimeState::NotDeployed,
        RuntimeState::DeployedStopped,
        RuntimeState::Running,
        RuntimeState::DeployedStopped,
        RuntimeState::Error,
        RuntimeState::NotDeployed,
    ];
    for ((step, state), version) in steps.into_iter().zip(states).zip(1_i64..) {
        let (part, planned) = match step {
            "create" => flows.create_part(&sample("f")).await?,
            "deploy" => flows.deploy_part("f", Some(1)).await?,
            "start" => flows.start_part("f", Some(2)).await?,
            "stop" => flows.stop_part("f", Some(3)).await?,
            "fail" => flows.fail_part("f", "why").await?,
            _ => match flows.undeploy_part("f", Some(5)).await? {
                Some(planned) => planned,
                None => return Err(Failure("undeploying a failed flow has no part".to_owned())),
            },
        };
        join(&pond, step, part).await?;
        let found = flows.require("f").await?.value;
        ensure_eq!((found.version, &found.runtime_state), (version, &state), "version and state after {step}");
        ensure_eq!(found, planned, "the flow that the part of {step} promised");
        let components = flows.components("f", 10, None).await?.items;
        let enabled = components.iter().filter(|c| c.value.component.enabled).count();
        let expected = match step {
            "create" | "undeploy" => (0, 0),
            "start" => (2, 2),
            _ => (2, 0),
        };
        ensure_eq!((components.len(), enabled), expected, "components, and those enabled, after {step}");
    }
    Ok(())
}

async fn session_changes_join_a_commit(ground: Arc<Ground>) -> Verdict {
    let pond = guarded(&ground).await?;
    let sessions = pond.sessions();
    let data = WorkflowData { workflow_id: "w".into(), workflow_name: "etl".into(), ..WorkflowData::default() };
    let (_, part) = sessions.create_part(NewSession::workflow(data).id("s"))?;
    join(&pond, "create", part).await?;
    let metadata = [("k".to_owned(), json!([1]))].into();
    join(&pond, "merge_metadata", sessions.merge_metadata_part("s", &metadata)?).await?;
    join(&pond, "set_timing", sessions.set_timing_part("s", "clone", Duration::from_secs(3))?).await?;
    let counts = SessionCounts { files_changed: 2, iterations: 3 };
    join(&pond, "add_counts", sessions.add_counts_part("s", counts)?).await?;
    let Some(found) = sessions.load("s").await? else { return Err(Failure("the session is missing".to_owned())) };
    ensure_eq!(found.metadata.get("k"), Some(&json!([1])), "the metadata");
    ensure_eq!(found.timings.get("clone"), Some(&Duration::from_secs(3)), "the timing");
    let counted = found.workflow_data.as_ref().map(|d| (d.files_changed, d.iterations_completed));
    ensure_eq!(counted, Some((2, 3)), "the counters, added once");

    let no_mapping = || Failure("a mapped session has no part to unmap".to_owned());
    sessions.map_job("s", "j", "etl").await?;
    join(&pond, "unmap_job", sessions.unmap_job_part("s").await?.ok_or_else(no_mapping)?).await?;
    ensure_eq!((sessions.job_of("s").await?, sessions.session_of("j").await?), (None, None), "both directions after unmapping");
    sessions.map_job("s", "j", "etl").await?;
    join(&pond, "delete_with_mapping", sessions.delete_with_mapping_part("s").await?).await?;
    ensure!(sessions.load("s").await?.is_none(), "the deleted session is there");
    ensure_eq!((sessions.job_of("s").await?, sessions.session_of("j").await?), (None, None), "both directions after deleting");
    Ok(())
}

async fn a_renewal_joins_a_commit(ground: Arc<Ground>) -> Verdict {
    let pond = guarded(&ground).await?;
    let locks = pond.locks();
    let lease = locks.acquire(&LockRequest::of("l", Duration::from_secs(60))).await?;
    join(&pond, "renew", locks.renew_part(&lease, Duration::from_secs(7_200))).await?;
    let Some(info) = locks.info("l").await? else { return Err(Failure("the renewed lock is not held".to_owned())) };
    ensure_eq!(info.lease.token, lease.token, "the token after the renewal");
    ensure!(info.lease.deadline > lease.deadline.plus(Duration::from_secs(3_600)), "the deadline was not moved");
    // A renewal of a lock that is lost takes the rest of its commit with it.
    locks.release(&lease).await?;
    let lost = Commit::new().put("notes", "after", &json!({}))?.and(locks.renew_part(&lease, Duration::from_secs(60)));
    refused(pond.commit(lost).await, ErrorKind::Fenced, "renewing a lock that was given back")?;
    ensure!(value(pond.store(), "notes", "after").await?.is_none(), "half of a refused commit was applied");
    Ok(())
}
