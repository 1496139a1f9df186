//! Runs: one start for each key, steps that never conflict, a log that is sealed for good.

use std::sync::Arc;

use millpond::{
    Action, Commit, ErrorKind, NewEvent, NewRun, Pond, RunEnd, RunFilter, RunOrder, RunStatus, Runs, Step, Store, run_events,
};
use serde_json::json;

use super::tools::{race, refused, two};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "runs":
    a_run_is_told_from_start_to_end => "start, steps, actions and the end are in the log in order, and the record counts them";
    a_key_starts_one_run => "of many starts with one idempotency key, through two handles, all get the same run";
    a_key_is_for_one_request => "an idempotency key used for another request is refused";
    steps_at_once_do_not_conflict => "steps recorded at once through two handles are all counted and all in the log";
    a_sealed_log_never_changes => "after the end neither a step, nor a second end, nor a raw commit changes record or log";
    nothing_comes_after_the_end => "of steps that race with the end those that lost are refused, and the end is the last event";
    a_step_needs_its_run => "steps and ends of a run that does not exist are refused, and leave no event behind";
    a_parent_must_exist => "a run names a parent that exists, and the parent's children are listed in the order of their start";
    a_config_is_kept_once => "equal configurations are one record that cannot be changed, named by its hash";
    runs_are_found_by_their_fields => "workflow, version, status, times, tags, labels, parent and order are asked together, in pages";
    a_deleted_run_is_gone_whole => "record, log and key go together, only of a finished run, and its id never comes again";
}

/// The runs of a pond of its own on a store.
async fn runs(store: Store) -> millpond::Result<Runs> {
    Ok(Pond::new(store).await?.runs())
}

async fn kinds(runs: &Runs, run: &str) -> Result<Vec<String>, Failure> {
    Ok(runs.log(run, None, 1_000).await?.items.into_iter().map(|e| e.kind).collect())
}

async fn a_run_is_told_from_start_to_end(ground: Arc<Ground>) -> Verdict {
    let runs = ground.pond().await?.runs();
    let run = runs.start(NewRun::of("etl", 3).input(json!({"day": 5})).label("team", "data")).await?;
    ensure_eq!(runs.get(&run.id).await?, Some(run.clone()), "what start answered against what is stored");
    ensure_eq!(run.status, RunStatus::Running, "the status of a new run");
    let step = Step::new("s1").node("fetch").node_type("TOOL_CALL").output(json!([1])).action(Action::new("LLM_CALL"));
    runs.step_started(&run.id, &Step::new("s1")).await?;
    runs.action(&run.id, &Action::new("FILE_READ").detail("path", json!("a"))).await?;
    runs.step_completed(&run.id, &step).await?;
    runs.step_failed(&run.id, &Step::new("s2").error("no disk")).await?;
    runs.finish(&run.id, RunEnd::failed("s2").output(json!({"rows": 7}))).await?;
    let expected = ["run.started", "step.started", "action", "step.completed", "step.failed", "run.finished"];
    ensure_eq!(kinds(&runs, &run.id).await?, expected, "the log");
    let page = runs.log(&run.id, None, 4).await?;
    ensure_eq!(page.items[3].data.decode::<Step>()?, step, "a step in the log");
    let rest = runs.log(&run.id, page.next, 10).await?;
    ensure_eq!(rest.items.iter().map(|e| e.sequence).collect::<Vec<_>>(), [5, 6], "the log's second page");
    let found = runs.get(&run.id).await?.ok_or_else(|| Failure("the run is gone".to_owned()))?;
    let counted = (found.counters.steps_started, found.counters.steps_completed, found.counters.steps_failed);
    ensure_eq!((counted, found.counters.actions), ((1, 1, 1), 2), "the record's counters");
    ensure_eq!((found.status, found.error.as_deref()), (RunStatus::Failed, Some("s2")), "the end in the record");
    ensure_eq!((&found.output, &found.input), (&json!({"rows": 7}), &json!({"day": 5})), "output and input");
    ensure!(found.finished_at >= Some(found.started_at), "the run ended before it started");
    Ok(())
}

async fn a_key_starts_one_run(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let ids = race(&stores, 16, |_, store| async move {
        let new = NewRun::of("etl", 3).idempotency_key("request//17").input(json!(1));
        Ok(runs(store).await?.start(new).await?.id.clone())
    })
    .await?;
    ensure!(ids.iter().all(|id| *id == ids[0]), "one key started several runs: {ids:?}");
    let runs = ground.second_pond().await?.runs();
    ensure_eq!(runs.count(&RunFilter::all()).await?, 1, "runs after many starts with one key");
    ensure_eq!(kinds(&runs, &ids[0]).await?, ["run.started"], "the log after many starts");
    let found = runs.by_idempotency_key("request//17").await?;
    ensure_eq!(found.map(|r| r.id.clone()), Some(ids[0].clone()), "the run found by its key");
    Ok(())
}

async fn a_key_is_for_one_request(ground: Arc<Ground>) -> Verdict {
    let runs = ground.pond().await?.runs();
    let new = |version| NewRun::of("etl", version).idempotency_key("k");
    runs.start(new(3)).await?;
    for other in
        [new(4), new(3).input(json!(1)), new(3).tag("x"), new(3).config(json!({})), NewRun::of("b", 3).idempotency_key("k")]
    {
        refused(runs.start(other).await, ErrorKind::Invalid, "another request under a used key")?;
    }
    ensure_eq!(runs.count(&RunFilter::all()).await?, 1, "runs after refused starts");
    Ok(())
}

async fn steps_at_once_do_not_conflict(ground: Arc<Ground>) -> Verdict {
    let run = ground.pond().await?.runs().start(NewRun::of("etl", 1)).await?.id.clone();
    race(&two(&ground).await?, 32, |i, store| {
        let run = run.clone();
        async move { Ok(runs(store).await?.step_completed(&run, &Step::new(format!("s{i}"))).await?) }
    })
    .await?;
    let runs = ground.second_pond().await?.runs();
    let counted = runs.get(&run).await?.map(|r| r.counters.steps_completed);
    ensure_eq!(counted, Some(32), "steps counted");
    let log = runs.log(&run, None, 100).await?.items;
    ensure_eq!(log.iter().map(|e| e.sequence).collect::<Vec<_>>(), (1..=33).collect::<Vec<u64>>(), "the log's sequences");
    Ok(())
}

async fn a_sealed_log_never_changes(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let run = pond.runs().start(NewRun::of("etl", 1)).await?;
    pond.runs().finish(&run.id, RunEnd::completed(json!(1))).await?;
    let seen = async |pond: &Pond| -> Result<_, Failure> {
        Ok((pond.runs().get(&run.id).await?, pond.runs().log(&run.id, None, 100).await?.items))
    };
    let before = seen(&pond).await?;
    for pond in [&pond, &other] {
        let runs = pond.runs();
        refused(runs.step_completed(&run.id, &Step::new("s")).await, ErrorKind::Conflict, "a step after the end")?;
        refused(runs.action(&run.id, &Action::new("X")).await, ErrorKind::Conflict, "an action after the end")?;
        refused(runs.finish(&run.id, RunEnd::failed("x")).await, ErrorKind::Conflict, "a second end")?;
        let raw = Commit::new().append(&run.stream(), NewEvent::of("note", &1)?)?;
        refused(pond.commit(raw).await, ErrorKind::Conflict, "a raw append after the end")?;
        let raw = Commit::new().trim(&run.stream(), 2)?;
        refused(pond.commit(raw).await, ErrorKind::Invalid, "a raw trim after the end")?;
        let raw = Commit::new().put("runs", &run.id, &json!({}))?;
        refused(pond.commit(raw).await, ErrorKind::Invalid, "a raw put over a run")?;
        let raw = Commit::new().delete("runs", &run.id)?;
        refused(pond.commit(raw).await, ErrorKind::Invalid, "a raw delete of a run")?;
    }
    ensure_eq!(seen(&other).await?, before, "record and log of a finished run");
    Ok(())
}

async fn nothing_comes_after_the_end(ground: Arc<Ground>) -> Verdict {
    let run = ground.pond().await?.runs().start(NewRun::of("etl", 1)).await?.id.clone();
    let won = race(&two(&ground).await?, 16, |i, store| {
        let run = run.clone();
        async move {
            let runs = runs(store).await?;
            let done = match i {
                8 => runs.finish(&run, RunEnd::completed(json!(null))).await,
                _ => runs.step_completed(&run, &Step::new(format!("s{i}"))).await,
            };
            match done {
                Ok(_) => Ok(true),
                Err(e) if e.kind() == ErrorKind::Conflict => Ok(false),
                Err(e) => Err(e.into()),
            }
        }
    })
    .await?;
    ensure!(won[8], "the end was refused");
    let steps = won.iter().filter(|w| **w).count() - 1;
    let runs = ground.second_pond().await?.runs();
    let kinds = kinds(&runs, &run).await?;
    ensure_eq!(kinds.last().map(String::as_str), Some(run_events::RUN_FINISHED), "the last event");
    ensure_eq!(kinds.len(), steps + 2, "events of a run with {steps} steps that won");
    let counted = runs.get(&run).await?.map(|r| r.counters.steps_completed);
    ensure_eq!(counted, i64::try_from(steps).ok(), "steps counted");
    Ok(())
}

async fn a_step_needs_its_run(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let runs = pond.runs();
    refused(runs.step_started("nobody", &Step::new("s")).await, ErrorKind::NotFound, "a step of no run")?;
    refused(runs.finish("nobody", RunEnd::completed(json!(1))).await, ErrorKind::NotFound, "the end of no run")?;
    let running = RunEnd::new(RunStatus::Running, json!(1));
    refused(runs.finish("nobody", running).await, ErrorKind::Invalid, "an end with the status running")?;
    ensure_eq!(runs.get("nobody").await?, None, "a run that was never started");
    ensure_eq!(pond.store().stream(&Runs::stream("nobody")).await?, None, "the log of a run that was never started");
    Ok(())
}

async fn a_parent_must_exist(ground: Arc<Ground>) -> Verdict {
    let runs = ground.pond().await?.runs();
    let orphan = runs.start(NewRun::of("etl", 1).parent("nobody")).await;
    refused(orphan, ErrorKind::NotFound, "a run whose parent does not exist")?;
    let parent = runs.start(NewRun::of("etl", 1)).await?.id.clone();
    let mut children = Vec::new();
    for _ in 0..3 {
        children.push(runs.start(NewRun::of("etl", 1).parent(&parent)).await?.id.clone());
    }
    let first = runs.children(&parent, 2, None).await?;
    let rest = runs.children(&parent, 2, first.next.clone()).await?;
    let found: Vec<_> = first.items.iter().chain(&rest.items).map(|r| r.id.clone()).collect();
    ensure_eq!(found, children, "the children in two pages");
    Ok(())
}

async fn a_config_is_kept_once(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let hashes = race(&two(&ground).await?, 8, |i, store| async move {
        let config = if i % 2 == 0 { json!({"a": 1, "b": 2}) } else { json!({"b": 2, "a": 1}) };
        Ok(runs(store).await?.start(NewRun::of("etl", 1).config(config)).await?.config.clone())
    })
    .await?;
    let hash = hashes[0].clone().ok_or_else(|| Failure("a run with a configuration names none".to_owned()))?;
    ensure!(hashes.iter().all(|h| h.as_ref() == Some(&hash)), "equal configurations have several hashes: {hashes:?}");
    let kept = pond.runs().config(&hash).await?.map(|c| (c.config.clone(), c.revision));
    ensure_eq!(kept, Some((json!({"a": 1, "b": 2}), 1)), "the configuration that was kept");
    pond.runs().start(NewRun::of("etl", 1).config_hash(&hash)).await?;
    let unknown = pond.runs().start(NewRun::of("etl", 1).config_hash("00")).await;
    refused(unknown, ErrorKind::NotFound, "a configuration that was never kept")?;
    let using = RunFilter { config: Some(hash.clone()), ..RunFilter::all() };
    ensure_eq!(pond.runs().count(&using).await?, 9, "runs with the configuration");
    let change = Commit::new().trusted().put("run_configs", &hash, &json!({"hash": "x"}))?;
    refused(pond.commit(change).await, ErrorKind::Conflict, "a change of a configuration")?;
    Ok(())
}

async fn runs_are_found_by_their_fields(ground: Arc<Ground>) -> Verdict {
    let runs = ground.pond().await?.runs();
    let mut ids = Vec::new();
    for n in 0..8u32 {
        let mut new = NewRun::of(if n % 2 == 0 { "a" } else { "b" }, n % 3).label("n", n.to_string());
        if n > 3 {
            new = new.tag("late").parent(&ids[0]);
        }
        ids.push(runs.start(new).await?.id.clone());
    }
    runs.finish(&ids[2], RunEnd::failed("x")).await?;
    let started = runs.get(&ids[3]).await?.map(|r| r.started_at);
    let all = || RunFilter::all().order(RunOrder::OldestFirst);
    let asked: [(&str, RunFilter, &[usize]); 9] = [
        ("newest first", RunFilter::all(), &[7, 6, 5, 4, 3, 2, 1, 0]),
        ("workflow", all().workflow("a"), &[0, 2, 4, 6]),
        ("workflow and version", all().workflow("a").version(0), &[0, 6]),
        ("status", all().status(RunStatus::Failed), &[2]),
        ("tag and label", all().tag("late").label("n", "5"), &[5]),
        ("parent", all().parent(&ids[0]), &[4, 5, 6, 7]),
        ("started from", RunFilter { started_from: started, ..all() }, &[3, 4, 5, 6, 7]),
        ("started to", RunFilter { started_to: started, ..all() }, &[0, 1, 2]),
        ("last finished", RunFilter::all().order(RunOrder::LastFinished).limit(1), &[2]),
    ];
    for (what, filter, expected) in asked {
        let page = runs.list(&filter).await?;
        let found: Vec<usize> = page.items.iter().filter_map(|r| ids.iter().position(|id| *id == r.id)).collect();
        ensure_eq!(found, expected, "runs by {what}");
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = runs.list(&RunFilter::all().workflow("a").limit(3).after(after)).await?;
        seen.extend(page.items.iter().map(|r| r.id.clone()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    ensure_eq!(seen, [&ids[6], &ids[4], &ids[2], &ids[0]].map(Clone::clone), "all pages of one workflow");
    let recent = runs.recent("b", None, 2).await?.items;
    ensure_eq!(recent.iter().map(|r| &r.id).collect::<Vec<_>>(), [&ids[7], &ids[5]], "the two most recent runs");
    ensure_eq!(runs.count(&RunFilter::all().workflow("b")).await?, 4, "runs counted");
    Ok(())
}

async fn a_deleted_run_is_gone_whole(ground: Arc<Ground>) -> Verdict {
    let runs = ground.pond().await?.runs();
    let new = || NewRun::of("etl", 1).idempotency_key("k");
    let run = runs.start(new()).await?;
    refused(runs.delete(&run.id).await, ErrorKind::Conflict, "the deletion of a run that goes on")?;
    runs.finish(&run.id, RunEnd::interrupted("gone")).await?;
    ensure!(runs.delete(&run.id).await?, "the run was not deleted");
    ensure!(!runs.delete(&run.id).await?, "the run was deleted twice");
    let other = ground.second_pond().await?.runs();
    ensure_eq!(other.get(&run.id).await?, None, "the record of a deleted run");
    ensure_eq!(other.log(&run.id, None, 10).await?.items, [], "the log of a deleted run");
    ensure_eq!(other.by_idempotency_key("k").await?, None, "the key of a deleted run");
    let again = other.start(NewRun::of("etl", 1).id(&run.id)).await;
    refused(again, ErrorKind::Conflict, "a run under the id of a deleted one")?;
    ensure!(other.start(new()).await?.id != run.id, "a deleted run's id came again");
    Ok(())
}
