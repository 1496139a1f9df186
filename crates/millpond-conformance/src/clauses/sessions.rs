//! Sessions: a shape that is kept whole, legal steps only, counters without conflicts, one job each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Commit, ErrorKind, MapReduceData, MapReducePhase, NewSession, Page, Pond, Session, SessionCounts, SessionFilter,
    SessionStatus, SessionType, Sessions, Timestamp, Versioned, WorkflowData,
};
use serde_json::{Value, json};

use super::tools::{race, refused, two, value};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "sessions":
    created_once => "of many who create one id at once one does, and a session without an id gets one of its own";
    unknown_fields_survive => "fields nobody knows, at the top and nested, survive every change";
    only_legal_steps => "every step of the state machine that is legal is taken, and every other one changes nothing and is explained";
    the_end_has_a_time => "completed_at is set at the end, and cleared when a failed session goes on";
    a_save_takes_legal_steps_too => "saving a whole session cannot take a step that is not allowed";
    a_stale_update_is_refused => "an update at an old revision is refused and tells the revision it found";
    counters_never_conflict => "counters add up exactly while the session is changed otherwise at the same time";
    metadata_of_many_survives => "callers that merge different metadata at once lose nothing, and odd names are names";
    progress_timing_and_errors => "progress, timings and errors are kept where the shape has them";
    filters_are_asked_together => "status, type, start and worktree filter sessions, newest first, page by page";
    what_can_be_resumed => "resumable sessions are those paused or failed, last changed first, and the last interrupted is paused";
    one_job_each => "of many who ask for one job at once one session gets it, in both directions";
    a_mapping_goes_as_a_whole => "unmapping and deleting take both directions away, and a session can be deleted without its mapping";
    numbers_add_up => "the stats of a session and the totals of all are exact";
    raw_commits_stay_out => "a raw commit into sessions or mappings is refused";
}

fn workflow(id: &str, worktree: Option<&str>) -> NewSession {
    let data = WorkflowData {
        workflow_id: "w".into(),
        workflow_name: "etl".into(),
        worktree_name: worktree.map(str::to_owned),
        ..WorkflowData::default()
    };
    NewSession::workflow(data).id(id)
}

fn mapreduce(id: &str) -> NewSession {
    NewSession::mapreduce(MapReduceData {
        job_id: format!("job of {id}"),
        total_items: 0,
        processed_items: 0,
        failed_items: 0,
        agent_count: 2,
        phase: MapReducePhase::Setup,
        reduce_results: None,
        extra: BTreeMap::new(),
    })
    .id(id)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_700_000_000 + seconds) * 1_000_000)
}

async fn stored(sessions: &Sessions, id: &str) -> Result<Versioned<Session>, Failure> {
    sessions.load(id).await?.ok_or_else(|| Failure(format!("session {id} is gone")))
}

fn ids(page: &Page<Versioned<Session>>) -> Vec<&str> {
    page.items.iter().map(|s| s.id.as_str()).collect()
}

async fn ponds(ground: &Ground) -> Result<(Pond, Pond), Failure> {
    Ok((ground.pond().await?, ground.second_pond().await?))
}

async fn created_once(ground: Arc<Ground>) -> Verdict {
    let (one, other) = ponds(&ground).await?;
    let stores = [one.store().clone(), other.store().clone()];
    let created = race(&stores, 8, |_, store| async move {
        Ok(Pond::new(store).await?.sessions().create(workflow("s", None)).await.map_err(|e| e.kind()))
    })
    .await?;
    ensure_eq!(created.iter().filter(|c| c.is_ok()).count(), 1, "racers that created the session");
    ensure!(
        created.iter().all(|c| !matches!(c, Err(kind) if *kind != ErrorKind::Conflict)),
        "a racer failed otherwise than with a conflict"
    );
    let named = one.sessions().create(NewSession { id: None, ..workflow("", None) }).await?;
    ensure!(named.id.starts_with("session-"), "the id of a session without one: {}", named.id);
    ensure_eq!(stored(&other.sessions(), &named.id).await?.value, named.value, "the session as it was answered");
    ensure_eq!(named.status, SessionStatus::Initializing, "the first status");
    Ok(())
}

async fn unknown_fields_survive(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let sessions = pond.sessions();
    let created = sessions.create(workflow("s", None)).await?;
    let mut document = serde_json::to_value(&created.value).map_err(|e| Failure(e.to_string()))?;
    document["from_tomorrow"] = json!({"deep": [1, {"x": null}]});
    document["workflow_data"]["also_new"] = json!(1.25);
    document["checkpoints"] = json!([{"id": "c", "created_at": "2026-01-01T00:00:00Z", "state": {"a": 1}, "more": true}]);
    pond.commit(Commit::new().trusted().put("sessions", "s", &document)?).await?;
    sessions.update_state("s", SessionStatus::Running).await?;
    sessions.set_progress("s", 2, 5).await?;
    sessions.add_counts("s", SessionCounts { files_changed: 1, iterations: 1 }).await?;
    sessions.merge_metadata("s", &BTreeMap::from([("k".to_owned(), json!("v"))])).await?;
    sessions.set_timing("s", "step", Duration::from_millis(1_500)).await?;
    let mut read = stored(&sessions, "s").await?;
    read.value.metadata.insert("edited".into(), json!(1));
    sessions.update(&read).await?;
    let now = value(pond.store(), "sessions", "s").await?.ok_or_else(|| Failure("the session is gone".into()))?;
    ensure_eq!(now["from_tomorrow"], document["from_tomorrow"], "an unknown field at the top");
    ensure_eq!(now["workflow_data"]["also_new"], json!(1.25), "an unknown field in workflow_data");
    ensure_eq!(now["checkpoints"][0]["more"], json!(true), "an unknown field in a checkpoint");
    ensure_eq!(now["timings"]["step"], json!({"secs": 1, "nanos": 500_000_000}), "a timing's shape");
    ensure!(now.get("error").is_some_and(Value::is_null), "absent values are written as null: {now}");
    Ok(())
}

/// Takes a new session to a status by legal steps.
async fn session_in(sessions: &Sessions, id: &str, status: SessionStatus) -> Result<(), Failure> {
    sessions.create(workflow(id, None)).await?;
    sessions.update_state(id, status).await?;
    Ok(())
}

async fn only_legal_steps(ground: Arc<Ground>) -> Verdict {
    use SessionStatus::{Cancelled, Completed, Failed, Initializing, Paused, Running};
    let sessions = ground.pond().await?.sessions();
    let legal = |from, to| match from {
        Initializing => true,
        Running => to != Initializing,
        Paused => to != Initializing,
        Failed => matches!(to, Running | Cancelled),
        Completed | Cancelled => false,
    };
    for from in SessionStatus::ALL {
        for to in SessionStatus::ALL {
            let id = format!("{from}-{to}");
            session_in(&sessions, &id, from).await?;
            let before = stored(&sessions, &id).await?;
            if from == to || legal(from, to) {
                ensure_eq!(sessions.update_state(&id, to).await?.status, to, "{from} to {to}");
                continue;
            }
            let told = refused(sessions.update_state(&id, to).await, ErrorKind::Conflict, &id)?;
            ensure!(told.contains(&format!("from {from} to {to}")), "the refusal names neither end: {told}");
            ensure!(from.allowed().iter().all(|s| told.contains(s.as_str())), "the refusal does not say what is allowed: {told}");
            ensure_eq!(stored(&sessions, &id).await?, before, "the session after a refused step");
        }
    }
    refused(sessions.update_state("nobody", Running).await, ErrorKind::NotFound, "a session that is not there")?;
    Ok(())
}

async fn the_end_has_a_time(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let sessions = pond.sessions();
    session_in(&sessions, "s", SessionStatus::Running).await?;
    ensure_eq!(stored(&sessions, "s").await?.completed_at, None, "completed_at of a running session");
    sessions.fail("s", "out of disk").await?;
    let failed = stored(&sessions, "s").await?;
    ensure!(failed.completed_at.is_some_and(|t| t >= failed.started_at), "completed_at of a failed session: {failed:?}");
    ensure_eq!((failed.status, failed.error.as_deref()), (SessionStatus::Failed, Some("out of disk")), "how it failed");
    pond.commit(sessions.update_state_part("s", SessionStatus::Running).await?).await?;
    ensure_eq!(stored(&sessions, "s").await?.completed_at, None, "completed_at of a session that goes on");
    sessions.update_state("s", SessionStatus::Completed).await?;
    let end = stored(&sessions, "s").await?.completed_at;
    ensure!(end.is_some(), "completed_at of a completed session");
    sessions.merge_metadata("s", &BTreeMap::new()).await?;
    ensure_eq!(stored(&sessions, "s").await?.completed_at, end, "completed_at after a later change");
    Ok(())
}

async fn a_save_takes_legal_steps_too(ground: Arc<Ground>) -> Verdict {
    let sessions = ground.pond().await?.sessions();
    session_in(&sessions, "s", SessionStatus::Completed).await?;
    let mut session = stored(&sessions, "s").await?;
    session.value.status = SessionStatus::Running;
    refused(sessions.save(&session.value).await, ErrorKind::Conflict, "saving Completed as Running")?;
    refused(sessions.update(&session).await, ErrorKind::Conflict, "updating Completed to Running")?;
    let mut imported = Session { id: "imported".into(), ..session.value.clone() };
    imported.updated_at = at(0);
    let saved = sessions.save(&imported).await?;
    ensure_eq!((saved.status, saved.revision), (SessionStatus::Running, 1), "a new session saved as it is");
    ensure!(saved.updated_at > at(0), "a caller has set updated_at to {}", saved.updated_at);
    imported.status = SessionStatus::Paused;
    ensure_eq!(sessions.save(&imported).await?.revision, 2, "the revision of a legal save");
    Ok(())
}

async fn a_stale_update_is_refused(ground: Arc<Ground>) -> Verdict {
    let (one, other) = ponds(&ground).await?;
    one.sessions().create(workflow("s", None)).await?;
    let seen = stored(&one.sessions(), "s").await?;
    other.sessions().update_state("s", SessionStatus::Running).await?;
    let Err(error) = one.sessions().update(&seen).await else {
        return Err(Failure("an update at an old revision was applied".to_owned()));
    };
    ensure_eq!((error.kind(), error.found_revision()), (ErrorKind::Conflict, Some(2)), "the refusal: {error}");
    ensure_eq!(stored(&one.sessions(), "s").await?.status, SessionStatus::Running, "the status after it");
    ensure!(one.sessions().delete("s").await?, "the session was not there to delete");
    refused(one.sessions().update(&seen).await, ErrorKind::NotFound, "updating a deleted session")?;
    ensure!(!one.sessions().delete("s").await?, "a deleted session was there to delete");
    Ok(())
}

async fn counters_never_conflict(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let sessions = Pond::new(stores[0].clone()).await?.sessions();
    sessions.create(workflow("s", None)).await?;
    race(&stores, 24, |i, store| async move {
        let sessions = Pond::new(store).await?.sessions();
        for _ in 0..5 {
            if i == 0 {
                sessions.set_progress("s", 1, 2).await?;
            } else {
                sessions.add_counts("s", SessionCounts { files_changed: 3, iterations: 1 }).await?;
            }
        }
        Ok(())
    })
    .await?;
    let data = stored(&sessions, "s").await?.value.workflow_data.unwrap_or_default();
    ensure_eq!((data.files_changed, data.iterations_completed), (23 * 5 * 3, 23 * 5), "the counters");
    sessions.create(mapreduce("m")).await?;
    let counts = SessionCounts { files_changed: 1, iterations: 0 };
    refused(sessions.add_counts("m", counts).await, ErrorKind::Invalid, "counters of a session without a workflow")?;
    refused(sessions.add_counts("nobody", counts).await, ErrorKind::NotFound, "counters of no session")?;
    Ok(())
}

async fn metadata_of_many_survives(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let sessions = Pond::new(stores[0].clone()).await?.sessions();
    sessions.create(workflow("s", None).metadata("kept", json!([1]))).await?;
    race(&stores, 12, |i, store| async move {
        let sessions = Pond::new(store).await?.sessions();
        let metadata = BTreeMap::from([(format!("name {i}"), json!({ "n": i })), ("a/b~c".to_owned(), json!("odd"))]);
        sessions.merge_metadata("s", &metadata).await?;
        Ok(())
    })
    .await?;
    let metadata = stored(&sessions, "s").await?.value.metadata;
    let mut expected: BTreeMap<String, Value> = (0..12).map(|i| (format!("name {i}"), json!({ "n": i }))).collect();
    expected.extend([("a/b~c".to_owned(), json!("odd")), ("kept".to_owned(), json!([1]))]);
    ensure_eq!(metadata, expected, "the metadata");
    refused(sessions.merge_metadata("nobody", &expected).await, ErrorKind::NotFound, "metadata of no session")?;
    Ok(())
}

async fn progress_timing_and_errors(ground: Arc<Ground>) -> Verdict {
    let sessions = ground.pond().await?.sessions();
    sessions.create(workflow("w", None)).await?;
    sessions.create(mapreduce("m")).await?;
    sessions.set_progress("w", 3, 9).await?;
    sessions.set_progress("m", 40, 100).await?;
    let w = stored(&sessions, "w").await?.value.workflow_data.unwrap_or_default();
    ensure_eq!((w.current_step, w.total_steps), (3, 9), "the progress of a workflow");
    let m = stored(&sessions, "m").await?.value.mapreduce_data.map(|m| (m.processed_items, m.total_items));
    ensure_eq!(m, Some((40, 100)), "the progress of a job");
    let bare = Session { id: "bare".into(), workflow_data: None, ..stored(&sessions, "w").await?.value };
    sessions.save(&bare).await?;
    refused(sessions.set_progress("bare", 1, 2).await, ErrorKind::Invalid, "progress of neither")?;
    sessions.set_timing("w", "fetch/1", Duration::from_micros(1_234_567)).await?;
    sessions.set_timing("w", "fetch/1", Duration::from_micros(7)).await?;
    let timings = stored(&sessions, "w").await?.value.timings;
    ensure_eq!(timings, BTreeMap::from([("fetch/1".to_owned(), Duration::from_micros(7))]), "the timings");
    refused(sessions.set_timing("nobody", "x", Duration::ZERO).await, ErrorKind::NotFound, "a timing of no session")?;
    sessions.update_state("m", SessionStatus::Cancelled).await?;
    refused(sessions.fail("m", "late").await, ErrorKind::Conflict, "failing a cancelled session")?;
    ensure_eq!(stored(&sessions, "m").await?.error, None, "the error of a refused failure");
    Ok(())
}

/// Twelve sessions, a second apart; every third a job, the others in one of two worktrees.
async fn dozen(sessions: &Sessions) -> Result<(), Failure> {
    for i in 0..12 {
        let id = format!("s{i:02}");
        let new = if i % 3 == 0 { mapreduce(&id) } else { workflow(&id, Some(if i % 2 == 0 { "even" } else { "odd" })) };
        let mut session = sessions.create(new).await?.value;
        session.started_at = at(i);
        session.status = if i < 6 { SessionStatus::Running } else { SessionStatus::Paused };
        sessions.save(&session).await?;
    }
    Ok(())
}

async fn filters_are_asked_together(ground: Arc<Ground>) -> Verdict {
    let sessions = ground.pond().await?.sessions();
    dozen(&sessions).await?;
    let found = async |filter: SessionFilter| -> Result<String, Failure> {
        let mut filter = filter.limit(2);
        let mut found = Vec::new();
        loop {
            let page = sessions.list(&filter).await?;
            ensure!(page.items.len() <= 2 && page.damaged.is_empty(), "a page of two: {page:?}");
            found.extend(page.items.iter().map(|s| s.id[1..].to_owned()));
            filter = filter.after(page.next);
            if filter.after.is_none() {
                ensure_eq!(sessions.count(&filter).await?, found.len() as u64, "the count of {filter:?}");
                return Ok(found.join(" "));
            }
        }
    };
    let all = SessionFilter::all;
    ensure_eq!(found(all()).await?, "11 10 09 08 07 06 05 04 03 02 01 00", "all");
    ensure_eq!(found(all().status(SessionStatus::Paused)).await?, "11 10 09 08 07 06", "paused");
    let two = all().status(SessionStatus::Paused).status(SessionStatus::Failed);
    ensure_eq!(found(two).await?, "11 10 09 08 07 06", "paused or failed");
    ensure_eq!(found(all().session_type(SessionType::MapReduce)).await?, "09 06 03 00", "jobs");
    ensure_eq!(found(all().worktree("odd")).await?, "11 07 05 01", "in a worktree");
    ensure_eq!(found(all().started_from(at(4)).started_before(at(8))).await?, "07 06 05 04", "from 4, before 8");
    let both = all().worktree("even").status(SessionStatus::Running).started_from(at(3)).workflow("w");
    ensure_eq!(found(both).await?, "04", "all conditions together");
    ensure_eq!(found(all().workflow("other")).await?, "", "of another workflow");
    refused(sessions.list(&all().limit(0)).await, ErrorKind::Invalid, "a page of none")?;
    Ok(())
}

async fn what_can_be_resumed(ground: Arc<Ground>) -> Verdict {
    let sessions = ground.pond().await?.sessions();
    ensure!(sessions.last_interrupted().await?.is_none(), "an interrupted session where there is none");
    for (id, status) in [
        ("paused 1", SessionStatus::Paused),
        ("failed", SessionStatus::Failed),
        ("running", SessionStatus::Running),
        ("paused 2", SessionStatus::Paused),
        ("done", SessionStatus::Completed),
        ("cancelled", SessionStatus::Cancelled),
    ] {
        session_in(&sessions, id, status).await?;
    }
    let first = sessions.resumable(2, None).await?;
    ensure_eq!(ids(&first), ["paused 2", "failed"], "the first page");
    let rest = sessions.resumable(2, first.next).await?;
    ensure_eq!(ids(&rest), ["paused 1"], "the second page");
    let last = async || Ok::<_, Failure>(sessions.last_interrupted().await?.map(|s| s.value.id));
    ensure_eq!(last().await?, Some("paused 2".to_owned()), "the last interrupted");
    sessions.merge_metadata("paused 1", &BTreeMap::new()).await?;
    ensure_eq!(last().await?, Some("paused 1".to_owned()), "the last interrupted after a change");
    Ok(())
}

async fn one_job_each(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let mapped = race(&stores, 10, |i, store| async move {
        let sessions = Pond::new(store).await?.sessions();
        match sessions.map_job(&format!("s{i}"), "job/1", "etl").await {
            Ok(mapping) => Ok(Some(mapping.session_id)),
            Err(e) if e.kind() == ErrorKind::Conflict && e.to_string().contains("belongs to session") => Ok(None),
            Err(e) => Err(e.into()),
        }
    })
    .await?;
    let winners: BTreeSet<String> = mapped.into_iter().flatten().collect();
    ensure_eq!(winners.len(), 1, "sessions that got the job");
    let sessions = Pond::new(stores[1].clone()).await?.sessions();
    let back = sessions.session_of("job/1").await?;
    ensure_eq!(back.as_ref().map(|m| &m.session_id), winners.first(), "the job's session");
    for i in 0..10 {
        let id = format!("s{i}");
        let job = sessions.job_of(&id).await?;
        ensure_eq!(job.is_some(), winners.contains(&id), "whether {id} has the job");
        ensure!(job.is_none() || job == back, "the two directions differ: {job:?} and {back:?}");
    }
    let winner = winners.first().cloned().unwrap_or_default();
    ensure_eq!(Some(sessions.map_job(&winner, "job/1", "etl").await?), back, "the same mapping again");
    let told = refused(sessions.map_job(&winner, "job/2", "etl").await, ErrorKind::Conflict, "a second job")?;
    ensure!(told.contains("has job job/1 already"), "{told}");
    ensure!(sessions.session_of("job/2").await?.is_none(), "half a mapping was written");
    // Two that were decided before either was written: the slowest of all racers.
    let late = [sessions.map_job_part("late 1", "job/3", "etl")?, sessions.map_job_part("late 2", "job/3", "etl")?];
    let [first, second] = late;
    stores[0].commit(first).await?;
    refused(stores[1].commit(second).await, ErrorKind::Conflict, "a job that was taken meanwhile")?;
    ensure!(sessions.job_of("late 2").await?.is_none(), "half a mapping was written by the late one");
    Ok(())
}

async fn a_mapping_goes_as_a_whole(ground: Arc<Ground>) -> Verdict {
    let sessions = ground.pond().await?.sessions();
    for i in 1..=3 {
        let id = format!("s{i}");
        sessions.create(workflow(&id, None)).await?;
        sessions.map_job(&id, &format!("j{i}"), "etl").await?;
    }
    let page = sessions.mappings(2, None).await?;
    ensure_eq!(page.items.len(), 2, "a page of mappings");
    ensure_eq!(sessions.mappings(2, page.next).await?.items.len(), 1, "the rest of the mappings");
    ensure!(sessions.unmap_job("s1").await? && !sessions.unmap_job("s1").await?, "unmapping once and again");
    ensure!(sessions.session_of("j1").await?.is_none(), "the job's side is left");
    sessions.map_job("s1", "j1", "etl").await?;
    ensure!(sessions.delete_with_mapping("s2").await?, "the session was not there");
    ensure!(sessions.job_of("s2").await?.is_none() && sessions.session_of("j2").await?.is_none(), "a mapping is left");
    ensure!(sessions.delete("s3").await? && sessions.session_of("j3").await?.is_some(), "the mapping went with the session");
    ensure!(!sessions.delete_with_mapping("nobody").await?, "a session that was never there was deleted");
    Ok(())
}

async fn numbers_add_up(ground: Arc<Ground>) -> Verdict {
    let sessions = ground.pond().await?.sessions();
    ensure_eq!(sessions.totals().await?.total, 0, "sessions before the first");
    dozen(&sessions).await?;
    let totals = sessions.totals().await?;
    ensure_eq!(totals.total, 12, "all sessions");
    let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect::<BTreeMap<_, _>>();
    ensure_eq!(totals.by_status, counts(&[("Paused", 6), ("Running", 6)]), "by status");
    ensure_eq!(totals.by_type, counts(&[("MapReduce", 4), ("Workflow", 8)]), "by type");
    ensure_eq!((totals.first_started_at, totals.last_started_at), (Some(at(0)), Some(at(11))), "first and last");
    let mut session = stored(&sessions, "s01").await?.value;
    session.workflow_data = session.workflow_data.map(|w| WorkflowData { completed_steps: vec![0, 1, 4], ..w });
    session.completed_at = Some(at(61));
    session.status = SessionStatus::Running;
    sessions.save(&session).await?;
    sessions.add_counts("s01", SessionCounts { files_changed: 7, iterations: 2 }).await?;
    let stats = sessions.stats("s01").await?;
    ensure_eq!((stats.commands_executed, stats.files_modified, stats.iterations_completed), (3, 7, 2), "the stats");
    ensure_eq!((stats.total_duration_us, stats.errors_encountered), (60_000_000, 0), "duration and errors");
    sessions.fail("s02", "no").await?;
    ensure_eq!(sessions.stats("s02").await?.errors_encountered, 1, "errors of a failed session");
    refused(sessions.stats("nobody").await, ErrorKind::NotFound, "stats of no session")?;
    Ok(())
}

async fn raw_commits_stay_out(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    for collection in ["sessions", "session_jobs", "job_sessions"] {
        let raw = Commit::new().put(collection, "x", &json!({}))?;
        refused(pond.commit(raw).await, ErrorKind::Invalid, collection)?;
    }
    Ok(())
}
