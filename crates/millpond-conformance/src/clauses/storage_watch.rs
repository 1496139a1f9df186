//! Storage events: each write and each deletion is one, in the commit that does it, and a watch neither skips nor repeats.

use std::sync::Arc;

use millpond::{
    ArtifactKey, ArtifactWatch, ErrorKind, NewRun, Pond, RunEnd, StartAt, StorageEvent, StorageEventKind, WatchArtifacts,
};

use super::artifacts::write;
use super::tools::{joined, passed_a_moment, refused, soon, two, write_all};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "storage":
    each_change_is_one_event => "each write, copy and deletion that is committed is one event, in the order of the commits, and no other is";
    filters_take_what_they_say => "a watch of an execution, route, stage, extension or path shows what it names and nothing else";
    a_watch_goes_on_where_it_was => "a watch that goes on after the cursor of any event, through another handle, skips and repeats nothing";
    a_watch_ends_with_its_run => "a watch that is to end with its run shows what was committed before, then ends, and needs a run";
    concurrent_writers_are_all_seen => "a watch that is begun anew after each event sees every event of concurrent writers once";
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// What is there now.
async fn shown(pond: &Pond, request: WatchArtifacts) -> Result<Vec<StorageEvent>, Failure> {
    let mut watch = pond.artifacts().watch(request).await?;
    let mut events = Vec::new();
    while let Some(event) = watch.try_next().await? {
        ensure!(events.len() < 100, "a watch does not come to the end of what is there");
        events.push(event);
    }
    Ok(events)
}

async fn keys(pond: &Pond, request: WatchArtifacts) -> Result<Vec<String>, Failure> {
    Ok(shown(pond, request).await?.into_iter().map(|event| event.key).collect())
}

async fn each_change_is_one_event(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let (a, b, c) = ("executions/e1/r/s/a.txt", "executions/e1/r/s/b.txt", "executions/e1/r/s/c.txt");
    let (first, second) = (write(&pond, a, "one").await?, write(&other, a, "second").await?);
    let mut rolled_back = pond.unit();
    rolled_back.artifacts().put(b, "never").await?;
    rolled_back.rollback().await?;
    refused(
        pond.artifacts().delete(b).await.and_then(|was| if was { Ok(()) } else { Err(millpond::Error::not_found(b)) }),
        ErrorKind::NotFound,
        "deleting what is not there",
    )?;
    let copy = pond.artifacts().copy(a, b).await?;
    let mut unit = other.unit();
    let third = unit.artifacts().put(c, "third").await?;
    unit.artifacts().delete(a).await?;
    let commit = unit.unit_id().unwrap_or_default().to_owned();
    unit.commit().await?;
    let events = shown(&other, WatchArtifacts::execution("e1")).await?;
    let mut told: Vec<_> = events.iter().map(|event| (event.kind, event.key.as_str(), event.version.as_str())).collect();
    // Those of one commit have an order of their own.
    ensure!(told.len() == 5, "there are {} events: {told:?}", told.len());
    told[3..].sort_by_key(|(_, key, _)| *key);
    let (written, deleted) = (StorageEventKind::Written, StorageEventKind::Deleted);
    let expected = [
        (written, a, first.version.as_str()),
        (written, a, &second.version),
        (written, b, &copy.version),
        (deleted, a, &second.version),
        (written, c, &third.version),
    ];
    ensure_eq!(told, expected, "what happened");
    let second_event = &events[1];
    ensure_eq!((second_event.length, &second_event.sha256), (6, &second.sha256), "what is said of the bytes");
    let of = (second_event.execution.as_deref(), second_event.route.as_deref(), second_event.stage.as_deref());
    ensure_eq!((of, second_event.extension.as_deref()), ((Some("e1"), Some("r"), Some("s")), Some("txt")), "where it belongs");
    ensure!(events[3..].iter().all(|event| event.unit == commit), "events of a unit do not name it");
    Ok(())
}

async fn filters_take_what_they_say(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let [a, b, c] = [("r1", "fetch", "html"), ("r1", "parse", "json"), ("r2", "fetch", "json")]
        .map(|(route, stage, extension)| ArtifactKey::new("e1", route, stage, "m").extension(extension).to_string());
    let all = [a.clone(), b.clone(), c.clone(), "executions/e2/r1/fetch/m.html".to_owned(), "reports/%_x.html".to_owned()];
    write_all(&pond, &all).await?;
    pond.artifacts().delete(&a).await?;
    let e1 = || WatchArtifacts::execution("e1");
    let prefix = |prefix: &str| WatchArtifacts { prefix: prefix.to_owned(), ..WatchArtifacts::default() };
    let everything: Vec<&str> = all.iter().map(String::as_str).chain([a.as_str()]).collect();
    for (what, request, expected) in [
        ("everything", WatchArtifacts::default(), everything),
        ("an execution", e1(), vec![&*a, &*b, &*c, &*a]),
        ("a route", WatchArtifacts { route: text("r1"), ..e1() }, vec![&*a, &*b, &*a]),
        ("a stage", WatchArtifacts { stage: text("fetch"), ..e1() }, vec![&*a, &*c, &*a]),
        ("an extension", WatchArtifacts { extension: text("json"), ..WatchArtifacts::default() }, vec![&*b, &*c]),
        ("both", WatchArtifacts { extension: text("json"), stage: text("fetch"), ..e1() }, vec![&*c]),
        ("a path", prefix("executions/e1/r1/"), vec![&*a, &*b, &*a]),
        ("signs", prefix("reports/%"), vec!["reports/%_x.html"]),
        ("a pattern", prefix("%"), vec![]),
    ] {
        let (mut found, mut expected) = (keys(&other, request).await?, expected);
        found.sort();
        expected.sort_unstable();
        ensure_eq!(found, expected, "artifacts of a watch of {what}");
    }
    Ok(())
}

async fn a_watch_goes_on_where_it_was(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    write(&pond, "a/1", "x").await?;
    let from_now = WatchArtifacts { start: StartAt::Now, prefix: "a/".to_owned(), ..WatchArtifacts::default() };
    let mut watch = other.artifacts().watch(from_now).await?;
    ensure_eq!(watch.try_next().await?, None, "what was there before");
    write_all(&pond, &["a/2", "b/1", "a/3"].map(str::to_owned)).await?;
    pond.artifacts().delete("a/2").await?;
    write(&pond, "b/2", "x").await?;
    let mut seen = Vec::new();
    while let Some(event) = watch.try_next().await? {
        ensure!(seen.len() < 10, "a watch does not come to the end of what is there");
        seen.push(event);
    }
    let mut told: Vec<_> = seen.iter().map(|event| event.key.as_str()).collect();
    ensure_eq!(told.last(), Some(&"a/2"), "the last event");
    told.sort_unstable();
    ensure_eq!(told, ["a/2", "a/2", "a/3"], "what came since");
    for (n, event) in seen.iter().enumerate() {
        let request = WatchArtifacts { prefix: "a/".to_owned(), ..WatchArtifacts::default() }.after(event.cursor.clone());
        ensure_eq!(shown(&pond, request).await?, seen[n + 1..], "what comes after event {n}");
    }
    // The cursor moves on past what is not asked for.
    let cursor = watch.cursor().ok_or_else(|| Failure("a watch that saw something has no cursor".to_owned()))?;
    ensure_eq!(keys(&pond, WatchArtifacts::default().after(cursor)).await?, [""; 0], "what comes after all of it");
    Ok(())
}

async fn next(watch: &mut ArtifactWatch, what: &str) -> Result<Option<StorageEvent>, Failure> {
    Ok(soon(what, watch.next()).await??)
}

async fn a_watch_ends_with_its_run(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let ending = || WatchArtifacts::execution("e1").until_ended();
    refused(other.artifacts().watch(ending()).await.map(drop), ErrorKind::NotFound, "a watch to the end of no run")?;
    let nobody = WatchArtifacts { until_ended: true, ..WatchArtifacts::default() };
    refused(other.artifacts().watch(nobody).await.map(drop), ErrorKind::Invalid, "a watch to the end of nothing")?;
    pond.runs().start(NewRun::of("etl", 1).id("e1")).await?;
    write(&pond, "executions/e1/r/s/m1", "x").await?;
    let mut watch = other.artifacts().watch(ending()).await?;
    let first = next(&mut watch, "the first event").await?.map(|event| event.key);
    ensure_eq!(first.as_deref(), Some("executions/e1/r/s/m1"), "the first event");
    ensure!(!watch.has_ended(), "a watch ended before its run");
    write(&pond, "executions/e1/r/s/m2", "x").await?;
    pond.runs().finish("e1", RunEnd::failed("over")).await?;
    let last = next(&mut watch, "the last event").await?.map(|event| event.key);
    ensure_eq!(last.as_deref(), Some("executions/e1/r/s/m2"), "the last event");
    for _ in 0..2 {
        ensure_eq!(next(&mut watch, "the end").await?, None, "what comes after the last event");
    }
    ensure!(watch.has_ended(), "a watch whose run is over has not ended");
    let mut late = pond.artifacts().watch(ending()).await?;
    let mut seen = 0;
    while next(&mut late, "an event of a run that is over").await?.is_some() {
        seen += 1;
        ensure!(seen < 10, "a watch of a run that is over does not end");
    }
    ensure_eq!(seen, 2, "events that a late watch sees");
    Ok(())
}

async fn concurrent_writers_are_all_seen(ground: Arc<Ground>) -> Verdict {
    let (pond, stores) = (ground.pond().await?, two(&ground).await?);
    pond.runs().start(NewRun::of("etl", 1).id("e1")).await?;
    let (writing, again) = (pond.clone(), Arc::clone(&ground));
    let writers = tokio::spawn(async move {
        super::tools::race(&stores, 4, move |i, store| {
            let ground = Arc::clone(&again);
            async move {
                let pond = ground.pond_on(store).await?;
                for n in 0..3 {
                    write(&pond, &format!("executions/e1/r/s/{i}-{n}"), "x").await?;
                }
                Ok(())
            }
        })
        .await?;
        // Somebody looks between the last event and the end, too.
        passed_a_moment().await;
        writing.runs().finish("e1", RunEnd::failed("over")).await?;
        Ok(())
    });
    let (mut seen, mut start) = (Vec::new(), StartAt::Oldest);
    let other = ground.second_pond().await?;
    loop {
        let request = WatchArtifacts { start: start.clone(), ..WatchArtifacts::execution("e1").until_ended() };
        let mut watch = other.artifacts().watch(request).await?;
        let Some(event) = next(&mut watch, "the next event, or the end").await? else { break };
        start = StartAt::After(event.cursor.clone());
        seen.push(event);
    }
    joined(writers).await?;
    let mut found: Vec<_> = seen.iter().map(|event| event.key.clone()).collect();
    found.sort();
    let expected: Vec<String> = (0..12).map(|n| format!("executions/e1/r/s/{}-{}", n / 3, n % 3)).collect();
    ensure_eq!(found, expected, "artifacts that were told of");
    ensure_eq!(shown(&pond, WatchArtifacts::execution("e1")).await?, seen, "what a late watch sees");
    Ok(())
}
