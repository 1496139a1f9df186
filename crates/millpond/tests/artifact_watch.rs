//! Storage events: none is lost, whoever writes and whoever stops watching, and a watch ends with its run if asked.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::collections::BTreeSet;
use std::time::Duration;

use millpond::{
    ArtifactKey, ErrorKind, NewArtifact, NewEvent, NewRun, Pond, RunEnd, StartAt, StorageEvent, StorageEventKind, WatchArtifacts,
};
use serde_json::json;

/// Long enough for anything; a test that needs it has failed.
const LONG: Duration = Duration::from_secs(60);

async fn write(pond: &Pond, key: &str) {
    pond.artifacts().write(key, key.to_owned(), NewArtifact::default()).await.unwrap();
}

async fn seen(pond: &Pond, request: WatchArtifacts) -> Vec<StorageEvent> {
    let mut watch = pond.artifacts().watch(request).await.unwrap();
    let mut events = Vec::new();
    while let Some(event) = watch.try_next().await.unwrap() {
        events.push(event);
    }
    events
}

async fn keys(pond: &Pond, request: WatchArtifacts) -> Vec<String> {
    seen(pond, request).await.into_iter().map(|event| event.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_killed_again_and_again_misses_nothing_of_concurrent_writers_and_ends_with_the_run() {
    let place = tempfile::tempdir().unwrap();
    let pond = millpond::open(&place.path().display().to_string()).await.unwrap();
    let run = pond.runs().start(NewRun::of("etl", 1).id("e1")).await.unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let pond = pond.clone();
            tokio::spawn(async move {
                for n in 0..15 {
                    write(&pond, &format!("executions/e1/r/s/{writer}-{n}.txt")).await;
                }
            })
        })
        .collect();
    let finisher = tokio::spawn({
        let (pond, run) = (pond.clone(), run.id().to_owned());
        async move {
            for writer in writers {
                writer.await.unwrap();
            }
            pond.runs().finish(&run, RunEnd::new(millpond::RunStatus::Completed, json!(null))).await.unwrap();
        }
    });
    let (mut events, mut lives) = (Vec::new(), 0);
    let mut start = StartAt::Oldest;
    'lives: loop {
        lives += 1;
        let request = WatchArtifacts { start: start.clone(), ..WatchArtifacts::execution("e1").until_ended() };
        let mut watch = pond.artifacts().watch(request).await.unwrap();
        // It dies after a few, in the middle of a page or waiting, and knows only what it handled.
        for _ in 0..=lives % 7 {
            let Some(event) = tokio::time::timeout(LONG, watch.next()).await.expect("it goes on or ends").unwrap() else {
                assert!(watch.has_ended());
                break 'lives;
            };
            start = StartAt::After(event.cursor.clone());
            events.push(event);
        }
    }
    finisher.await.unwrap();
    let distinct: BTreeSet<&str> = events.iter().map(|event| event.key.as_str()).collect();
    assert_eq!((events.len(), distinct.len()), (60, 60), "each once, in {lives} lives");
    assert!(lives > 5);
    // What came before the end of the run is there, however late one looks.
    assert_eq!(events, seen(&pond, WatchArtifacts::execution("e1")).await);
}

#[tokio::test]
async fn filters_take_what_they_say() {
    let pond = millpond::open("memory:").await.unwrap();
    let [a, b, c] = [("r1", "fetch", "html"), ("r1", "parse", "json"), ("r2", "fetch", "json")]
        .map(|(route, stage, extension)| ArtifactKey::new("e1", route, stage, "m").extension(extension).to_string());
    for key in [a.as_str(), &b, &c, "executions/e2/r1/fetch/m.html", "reports/%_x.html"] {
        write(&pond, key).await;
    }
    pond.artifacts().delete(&a).await.unwrap();
    let e1 = || WatchArtifacts::execution("e1");
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(keys(&pond, WatchArtifacts::default()).await.len(), 6, "everything");
    assert_eq!(keys(&pond, e1()).await, [&*a, &b, &c, &a]);
    assert_eq!(keys(&pond, WatchArtifacts { route: some("r1"), ..e1() }).await, [&*a, &b, &a]);
    assert_eq!(keys(&pond, WatchArtifacts { stage: some("fetch"), ..e1() }).await, [&*a, &c, &a]);
    assert_eq!(keys(&pond, WatchArtifacts { extension: some("json"), ..WatchArtifacts::default() }).await, [&*b, &c]);
    let prefix = |prefix: &str| WatchArtifacts { prefix: prefix.to_owned(), ..WatchArtifacts::default() };
    assert_eq!(keys(&pond, prefix("executions/e1/r1/")).await, [&*a, &b, &a]);
    assert_eq!(keys(&pond, prefix("reports/%")).await, ["reports/%_x.html"]);
    assert_eq!(keys(&pond, prefix("%")).await, [""; 0]);
    let last = seen(&pond, e1()).await.pop().unwrap();
    assert_eq!(
        (last.kind, last.execution.as_deref(), last.route.as_deref()),
        (StorageEventKind::Deleted, Some("e1"), Some("r1"))
    );
    assert_eq!(last.length, a.len() as u64);
}

#[tokio::test]
async fn what_comes_from_now_on_and_the_cursor_moves_past_what_is_not_asked_for() {
    let pond = millpond::open("memory:").await.unwrap();
    write(&pond, "a/1").await;
    let request = WatchArtifacts { start: StartAt::Now, prefix: "a/".to_owned(), ..WatchArtifacts::default() };
    let mut watch = pond.artifacts().watch(request).await.unwrap();
    assert_eq!(watch.try_next().await.unwrap(), None);
    for key in ["b/1", "a/2", "b/2"] {
        write(&pond, key).await;
    }
    assert_eq!(watch.next().await.unwrap().unwrap().key, "a/2");
    assert_eq!(watch.try_next().await.unwrap(), None);
    let resumed = WatchArtifacts::default().after(watch.cursor().unwrap());
    assert_eq!(keys(&pond, resumed).await, [""; 0], "past b/2");
}

#[tokio::test]
async fn an_end_needs_a_run_and_one_that_is_over_ends_at_once() {
    let pond = millpond::open("memory:").await.unwrap();
    write(&pond, "executions/e1/r/s/m").await;
    let refused = pond.artifacts().watch(WatchArtifacts::execution("e1").until_ended()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    assert!(refused.message().contains("no run"), "{refused}");
    let everything = WatchArtifacts { until_ended: true, ..WatchArtifacts::default() };
    assert_eq!(pond.artifacts().watch(everything).await.unwrap_err().kind(), ErrorKind::Invalid);

    pond.runs().start(NewRun::of("etl", 1).id("e1")).await.unwrap();
    let mut watch = pond.artifacts().watch(WatchArtifacts::execution("e1").until_ended()).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().key, "executions/e1/r/s/m");
    // A run that goes on holds the watch open.
    assert!(tokio::time::timeout(Duration::from_millis(600), watch.next()).await.is_err());
    write(&pond, "executions/e1/r/s/late").await;
    pond.runs().finish("e1", RunEnd::new(millpond::RunStatus::Failed, json!(null))).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().key, "executions/e1/r/s/late");
    assert_eq!(tokio::time::timeout(LONG, watch.next()).await.unwrap().unwrap(), None);
    assert_eq!(watch.next().await.unwrap(), None, "it stays ended");
}

#[tokio::test]
async fn an_event_that_somebody_else_appended_is_named_and_passed_over() {
    let pond = millpond::open("memory:").await.unwrap();
    let foreign = NewEvent::of("artifact.written", &json!({"key": 7})).unwrap();
    pond.events().append("artifacts/executions/e1", vec![foreign]).await.unwrap();
    write(&pond, "executions/e1/r/s/m").await;
    let mut watch = pond.artifacts().watch(WatchArtifacts::execution("e1")).await.unwrap();
    assert_eq!(watch.next().await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(watch.next().await.unwrap().unwrap().key, "executions/e1/r/s/m");
}

#[test]
fn synchronous_callers_watch_too() {
    let pond = millpond::blocking::open("memory:").unwrap();
    pond.runs().start(NewRun::of("etl", 1).id("e1")).unwrap();
    let artifacts = pond.artifacts();
    let mut watch = artifacts.watch(WatchArtifacts::execution("e1").until_ended()).unwrap();
    assert_eq!(watch.next_within(Duration::from_millis(50)).unwrap(), None);
    assert!(!watch.has_ended(), "the time was up");
    artifacts.write("executions/e1/r/s/m", "x", NewArtifact::default()).unwrap();
    assert_eq!(watch.next_within(LONG).unwrap().unwrap().key, "executions/e1/r/s/m");
    pond.runs().finish("e1", RunEnd::new(millpond::RunStatus::Completed, json!(null))).unwrap();
    assert_eq!(watch.next_within(LONG).unwrap(), None);
    assert!(watch.has_ended());
}
