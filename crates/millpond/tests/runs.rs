//! Runs: one start for each key, steps that never conflict, a log that is sealed for good.

use millpond::{
    Action, Commit, ErrorKind, NewEvent, NewRun, Pond, Position, RunEnd, RunFilter, RunOrder, RunStatus, Step, run_events,
};
use serde_json::json;

async fn pond() -> Pond {
    millpond::open("memory:").await.expect("opens")
}

#[tokio::test]
async fn a_run_from_start_to_seal() {
    let pond = pond().await;
    let runs = pond.runs();
    let run = runs
        .start(NewRun::of("etl", 3).tag("nightly").label("team", "data").input(json!({"day": 5})).config(json!({"a": 1})))
        .await
        .expect("starts");
    assert_eq!(runs.get(run.id()).await.expect("reads").expect("is there"), run, "start returns what is stored");

    runs.step_started(run.id(), &Step::new("s1").node("fetch").node_type("TOOL_CALL")).await.expect("started");
    runs.action(run.id(), &Action::new("FILE_READ").step("s1").detail("path", json!("a.md"))).await.expect("acted");
    let done = Step::new("s1").node("fetch").output(json!({"n": 2})).action(Action::new("LLM_CALL"));
    runs.step_completed(run.id(), &done).await.expect("completed");
    runs.step_failed(run.id(), &Step::new("s2").error("no disk")).await.expect("failed");
    runs.finish(run.id(), RunEnd::completed(json!({"rows": 7}))).await.expect("finishes");

    let found = runs.get(run.id()).await.expect("reads").expect("is there");
    assert_eq!((found.status, &found.output), (RunStatus::Completed, &json!({"rows": 7})));
    assert!(found.finished_at.is_some() && found.took().is_some());
    let counted = (found.counters.steps_started, found.counters.steps_completed, found.counters.steps_failed);
    assert_eq!((counted, found.counters.actions), ((1, 1, 1), 2));
    assert_eq!(found.input, json!({"day": 5}), "merges keep the rest of the record");

    let log = runs.log(run.id(), None, 100).await.expect("reads");
    let kinds: Vec<&str> = log.items.iter().map(|e| e.kind.as_str()).collect();
    let expected = ["run.started", "step.started", "action", "step.completed", "step.failed", "run.finished"];
    assert_eq!(kinds, expected);
    let step: Step = log.items[3].data.decode().expect("a step");
    assert_eq!(step, done);
    let page = runs.log(run.id(), Some(log.items[1].position), 2).await.expect("reads");
    assert_eq!(page.items.iter().map(|e| e.sequence).collect::<Vec<_>>(), [3, 4]);
}

#[tokio::test]
async fn a_sealed_log_never_changes() {
    let pond = pond().await;
    let runs = pond.runs();
    let run = runs.start(NewRun::of("etl", 1)).await.expect("starts");
    runs.finish(run.id(), RunEnd::failed("boom")).await.expect("finishes");
    let before = (runs.get(run.id()).await.expect("reads"), runs.log(run.id(), None, 10).await.expect("reads"));

    let late = runs.step_completed(run.id(), &Step::new("s1")).await.expect_err("sealed");
    assert_eq!(late.kind(), ErrorKind::Conflict);
    assert!(late.message().contains("is finished") && late.context().any(|c| c == ("status", "failed")), "{late}");
    let twice = runs.finish(run.id(), RunEnd::completed(json!(1))).await.expect_err("sealed");
    assert_eq!(twice.kind(), ErrorKind::Conflict);
    let raw = Commit::new().append(&run.stream(), NewEvent::of("note", &1).expect("event")).expect("commit");
    assert_eq!(pond.commit(raw).await.expect_err("sealed").kind(), ErrorKind::Conflict);
    let trim = Commit::new().trim(&run.stream(), 2).expect("commit");
    assert_eq!(pond.commit(trim).await.expect_err("sealed").kind(), ErrorKind::Invalid);
    let put = Commit::new().put("runs", run.id(), &json!({})).expect("commit");
    assert_eq!(pond.commit(put).await.expect_err("owned").kind(), ErrorKind::Invalid);

    let after = (runs.get(run.id()).await.expect("reads"), runs.log(run.id(), None, 10).await.expect("reads"));
    assert_eq!(before, after);
}

#[tokio::test]
async fn what_does_not_exist_is_said_so() {
    let runs = pond().await.runs();
    let missing = runs.step_started("nobody", &Step::new("s")).await.expect_err("no run");
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    let missing = runs.finish("nobody", RunEnd::completed(json!(null))).await.expect_err("no run");
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    let orphan = runs.start(NewRun::of("etl", 1).parent("nobody")).await.expect_err("no parent");
    assert_eq!(orphan.kind(), ErrorKind::NotFound, "{orphan}");
    let config = runs.start(NewRun::of("etl", 1).config_hash("00ff")).await.expect_err("no config");
    assert_eq!(config.kind(), ErrorKind::NotFound, "{config}");
    assert_eq!(runs.get("nobody").await.expect("reads"), None);
    assert!(!runs.delete("nobody").await.expect("nothing to delete"));
    let running = RunEnd::new(RunStatus::Running, json!(null));
    assert_eq!(runs.finish("nobody", running).await.expect_err("no end").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_key_starts_one_run() {
    let runs = pond().await.runs();
    let request = || NewRun::of("etl", 3).idempotency_key("a//b\u{7}").input(json!({"n": 1}));
    let (first, second) = tokio::join!(runs.start(request()), runs.start(request()));
    let (first, second) = (first.expect("starts"), second.expect("finds"));
    assert_eq!(first.id, second.id);
    assert_eq!(runs.count(&RunFilter::all()).await.expect("counts"), 1);
    for other in [request().input(json!({"n": 2})), NewRun::of("etl", 4).idempotency_key("a//b\u{7}")] {
        let error = runs.start(other).await.expect_err("another request");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert_eq!(runs.by_idempotency_key("a//b\u{7}").await.expect("reads").expect("is there").id, first.id);

    // The key lives as long as its run, and the run's id is never used again.
    assert_eq!(runs.delete(first.id()).await.expect_err("runs").kind(), ErrorKind::Conflict);
    runs.finish(first.id(), RunEnd::interrupted("gone")).await.expect("finishes");
    assert!(runs.delete(first.id()).await.expect("deletes"));
    assert_eq!(runs.log(first.id(), None, 10).await.expect("reads").items, []);
    assert_eq!(runs.by_idempotency_key("a//b\u{7}").await.expect("reads"), None);
    let again = runs.start(request()).await.expect("starts anew");
    assert_ne!(again.id, first.id);
    let reused = runs.start(NewRun::of("etl", 3).id(first.id())).await.expect_err("id was used");
    assert_eq!(reused.kind(), ErrorKind::Conflict, "{reused}");
    let taken = runs.start(NewRun::of("etl", 3).id(again.id())).await.expect_err("id is used");
    assert_eq!(taken.kind(), ErrorKind::Conflict, "{taken}");
}

#[tokio::test]
async fn a_config_is_kept_once() {
    let pond = pond().await;
    let runs = pond.runs();
    let one = runs.start(NewRun::of("etl", 1).config(json!({"b": 2, "a": 1}))).await.expect("starts");
    let two = runs.start(NewRun::of("etl", 1).config(json!({"a": 1, "b": 2}))).await.expect("starts");
    let hash = one.config.clone().expect("a hash");
    assert_eq!(two.config.as_ref(), Some(&hash));
    let three = runs.start(NewRun::of("etl", 2).config_hash(&hash)).await.expect("starts");
    assert_eq!(three.config.as_ref(), Some(&hash));
    let kept = runs.config(&hash).await.expect("reads").expect("is there");
    assert_eq!((kept.config.clone(), kept.revision), (json!({"a": 1, "b": 2}), 1));
    let filter = RunFilter { config: Some(hash), ..RunFilter::all() };
    assert_eq!(runs.count(&filter).await.expect("counts"), 3);
}

#[tokio::test]
async fn concurrent_steps_do_not_conflict() {
    let runs = pond().await.runs();
    let run = runs.start(NewRun::of("etl", 1)).await.expect("starts");
    let steps = (0..64).map(|n| {
        let (runs, id) = (runs.clone(), run.id.clone());
        tokio::spawn(async move { runs.step_completed(&id, &Step::new(format!("s{n}"))).await })
    });
    for step in steps.collect::<Vec<_>>() {
        step.await.expect("joins").expect("no conflict");
    }
    assert_eq!(runs.get(run.id()).await.expect("reads").expect("is there").counters.steps_completed, 64);
    assert_eq!(runs.log(run.id(), None, 100).await.expect("reads").items.len(), 65);
}

#[tokio::test]
async fn lists_follow_their_filter() {
    let runs = pond().await.runs();
    let mut ids = Vec::new();
    for n in 0..7u32 {
        let mut new = NewRun::of(if n % 2 == 0 { "a" } else { "b" }, n % 3).label("n", n.to_string());
        if n > 3 {
            new = new.tag("late").parent(&ids[0]);
        }
        ids.push(runs.start(new).await.expect("starts").id.clone());
    }
    runs.finish(&ids[2], RunEnd::failed("x")).await.expect("finishes");
    let listed = async |filter: RunFilter| -> Vec<usize> {
        let page = runs.list(&filter).await.expect("lists");
        page.items.iter().map(|r| ids.iter().position(|i| *i == r.id).expect("known")).collect()
    };
    let oldest = |filter: RunFilter| filter.order(RunOrder::OldestFirst);
    assert_eq!(listed(RunFilter::all()).await, [6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(listed(oldest(RunFilter::all().workflow("a"))).await, [0, 2, 4, 6]);
    assert_eq!(listed(oldest(RunFilter::all().workflow("a").version(0))).await, [0, 6]);
    assert_eq!(listed(RunFilter::all().status(RunStatus::Failed)).await, [2]);
    assert_eq!(listed(oldest(RunFilter::all().tag("late").label("n", "5"))).await, [5]);
    assert_eq!(listed(oldest(RunFilter::all().parent(&ids[0]))).await, [4, 5, 6]);
    assert_eq!(listed(RunFilter::all().order(RunOrder::LastFinished).limit(1)).await, [2]);
    let fourth = runs.get(&ids[3]).await.expect("reads").expect("is there").started_at;
    assert_eq!(listed(oldest(RunFilter { started_from: Some(fourth), ..RunFilter::all() })).await, [3, 4, 5, 6]);
    assert_eq!(listed(oldest(RunFilter { started_to: Some(fourth), ..RunFilter::all() })).await, [0, 1, 2]);
    let recent = runs.recent("b", None, 2).await.expect("lists");
    assert_eq!(recent.items.iter().map(|r| r.id.clone()).collect::<Vec<_>>(), [ids[5].clone(), ids[3].clone()]);
    assert_eq!(runs.recent("b", Some(0), 9).await.expect("lists").items.len(), 1);
    let children = runs.children(&ids[0], 2, None).await.expect("lists");
    assert_eq!(children.items.len(), 2);
    assert_eq!(runs.children(&ids[0], 2, children.next).await.expect("lists").items.len(), 1);
    let first = runs.list(&RunFilter::all().limit(4)).await.expect("lists");
    let rest = runs.list(&RunFilter::all().limit(4).after(first.next)).await.expect("lists");
    assert_eq!((first.items.len(), rest.items.len(), rest.next), (4, 3, None));
}

#[test]
fn synchronous_callers_have_the_same() {
    let pond = millpond::blocking::open("memory:").expect("opens");
    let run = pond.runs().start(NewRun::of("etl", 1)).expect("starts");
    pond.runs().step_completed(run.id(), &Step::from("s1")).expect("steps");
    pond.runs().finish(run.id(), RunEnd::completed(json!(1))).expect("finishes");
    assert_eq!(pond.runs().log(run.id(), Some(Position::ZERO), 9).expect("reads").items[2].kind, run_events::RUN_FINISHED);
}
