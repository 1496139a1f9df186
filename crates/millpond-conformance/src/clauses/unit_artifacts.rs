//! Units of work that write artifacts: seen by themselves alone, then by everybody at once, together with all the rest.

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    ArtifactFilter, Commit, Domain, ErrorKind, EventFilter, Execution, Expectation, NewArtifact, NewRun, OperationStatus, Pond,
    RecordId, Run, Step, StreamName, Unit, UnitFilter, UnitState,
};
use serde_json::json;

use super::artifacts::{objects, read, write};
use super::tools::{joined, race, refused, soon, two};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "units":
    own_writes_and_nobody_elses => "a unit reads and lists what it wrote, copied and deleted; others see none of it before its commit";
    before_or_after_never_between => "who reads beside units that commit sees all of a unit or nothing of it, and never goes back";
    operations_on_one_path_are_one => "of several operations on one path the last counts, and what is undone to is what was committed";
    one_path_one_unit => "who wants a path that another unit has is told who, at once or after the time it gave";
    units_on_one_path_take_turns => "of units that race for one path each is committed whole or refused with the holder's name";
    writes_go_around_no_unit => "a write never changes a path that a unit has: it comes before the unit or after it, or is refused, naming the holder, and leaves nothing";
    artifacts_records_and_events_at_once => "artifacts, runs, events, checkpoints, figures and records of a unit happen at once or not at all";
    operations_tell_how_they_stand => "operations are PENDING while their unit works, then DONE or COMPENSATED, for everybody to see";
    a_unit_of_artifacts_happens_once => "a unit whose id was committed does nothing again, and one that is refused can be done anew";
    one_unit_one_store => "a unit over two stores is refused by the call that makes it so, which names both";
}

async fn own_writes_and_nobody_elses(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    for key in ["a/changed", "a/gone", "a/kept", "a/last"] {
        write(&pond, key, "before").await?;
    }
    let (mut unit, mut second) = (pond.unit(), other.unit());
    let (artifacts, beside) = (unit.artifacts(), second.artifacts());
    beside.put("a/theirs", "nobody else's").await?;
    artifacts.put("a/changed", "after").await?;
    artifacts.put("a/new", "after").await?;
    ensure!(artifacts.delete("a/gone").await?, "what is there was not deleted");
    ensure!(!artifacts.delete("a/gone").await?, "what the unit deleted was deleted again");
    artifacts.copy("a/new", "a/copy").await?;
    artifacts.copy("a/kept", "a/old copy").await?;
    for (key, text) in [("a/changed", "after"), ("a/copy", "after"), ("a/old copy", "before"), ("a/kept", "before")] {
        ensure_eq!(artifacts.read(key).await?, text, "{key} as the unit reads it");
    }
    for key in ["a/gone", "a/theirs"] {
        refused(artifacts.read(key).await, ErrorKind::NotFound, key)?;
        ensure_eq!(artifacts.info(key).await?, None, "what the unit knows of {key}");
    }
    let own = ["a/changed", "a/copy", "a/kept", "a/last", "a/new", "a/old copy"];
    for limit in [1, 2, 100] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = artifacts.list("a/", limit, found.last().map(String::as_str)).await?;
            ensure!(page.len() <= limit && found.len() < 100, "a page of {limit} holds {}, or it does not end", page.len());
            if page.is_empty() {
                break;
            }
            found.extend(page.into_iter().map(|artifact| artifact.key));
        }
        ensure_eq!(found, own, "what the unit lists, in pages of {limit}");
    }
    for (pond, who) in [(&pond, "the unit's own handle"), (&other, "another handle")] {
        ensure_eq!(keys(pond).await?, ["a/changed", "a/gone", "a/kept", "a/last"], "what {who} lists before the commit");
        ensure_eq!(read(pond, "a/changed").await?.as_deref(), Some("before"), "what {who} reads before the commit");
    }
    unit.commit().await?;
    ensure_eq!(keys(&other).await?, own, "what is listed after the commit");
    ensure_eq!(read(&other, "a/changed").await?.as_deref(), Some("after"), "what is read after the commit");
    refused(artifacts.put("a/late", "late").await, ErrorKind::Fenced, "a put into a unit that was committed")?;
    second.rollback().await?;
    ensure_eq!(keys(&pond).await?, own, "what a unit that was rolled back left");
    Ok(())
}

async fn keys(pond: &Pond) -> Result<Vec<String>, Failure> {
    let page = pond.artifacts().list(&ArtifactFilter::default()).await?;
    Ok(page.items.into_iter().map(|artifact| artifact.value.key).collect())
}

async fn before_or_after_never_between(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let writing = tokio::spawn(async move {
        for n in 1..=15_i64 {
            let mut unit = other.unit();
            for key in ["p/a", "p/b", "p/c"] {
                unit.artifacts().put(key, n.to_string()).custom("n", n).await?;
            }
            let own = format!("p/of {n}");
            unit.artifacts().put(&own, "x").custom("n", n).await?;
            if n > 1 {
                unit.artifacts().delete(&format!("p/of {}", n - 1)).await?;
            }
            unit.commit().await?;
        }
        Ok(())
    });
    let mut last = 0;
    while last < 15 {
        let ended = writing.is_finished();
        // One page is one moment.
        let page = pond.artifacts().list(&ArtifactFilter::prefix("p/")).await?;
        let seen: Vec<(String, i64)> = page
            .items
            .into_iter()
            .map(|a| (a.value.key, a.value.custom.get("n").and_then(serde_json::Value::as_i64).unwrap_or(-1)))
            .collect();
        let n = seen.first().map_or(0, |(_, n)| *n);
        let expected: Vec<(String, i64)> =
            ["p/a".to_owned(), "p/b".to_owned(), "p/c".to_owned(), format!("p/of {n}")].map(|key| (key, n)).into();
        ensure!(seen.is_empty() && n == 0 || seen == expected, "a reader between two units saw {seen:?}");
        ensure!(n >= last, "a reader saw unit {n} after unit {last}");
        let bytes = read(&pond, "p/b").await?.map_or(Ok(0), |text| text.parse::<i64>());
        ensure!(bytes.as_ref().is_ok_and(|bytes| *bytes >= n), "bytes of {bytes:?} were read after records of {n}");
        ensure!(!ended || n == 15, "the last unit is not seen after it was committed: {seen:?}");
        last = n;
        // An engine in memory never waits: the writer has to get its turn.
        tokio::task::yield_now().await;
    }
    joined(writing).await
}

async fn operations_on_one_path_are_one(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    for (steps, after) in [
        (&["put", "delete"][..], None),
        (&["delete", "put"], Some("v2")),
        (&["put", "put"], Some("v2")),
        (&["delete", "put", "delete"], None),
        (&["delete", "copy"], Some("of another")),
        (&["copy", "put"], Some("v2")),
    ] {
        for commits in [false, true] {
            write(&pond, "f", "v1").await?;
            write(&pond, "another", "of another").await?;
            let versions = pond.artifacts().history("f", 100, None).await?.items.len();
            let mut unit = pond.unit();
            let artifacts = unit.artifacts();
            for step in steps {
                match *step {
                    "put" => drop(artifacts.put("f", "v2").await?),
                    "copy" => drop(artifacts.copy("another", "f").await?),
                    _ => {
                        ensure!(artifacts.delete("f").await?, "{steps:?}: there was nothing to delete");
                    }
                }
            }
            if commits {
                unit.commit().await?;
            } else {
                unit.rollback().await?;
            }
            let expected = if commits { after } else { Some("v1") };
            ensure_eq!(read(&other, "f").await?.as_deref(), expected, "after {steps:?}, committed: {commits}");
            let found = other.artifacts().history("f", 100, None).await?.items.len();
            ensure_eq!(found - versions, usize::from(commits), "versions that {steps:?} made, committed: {commits}");
        }
    }
    Ok(())
}

/// The holder that a refusal names.
fn holder(error: &millpond::Error) -> Option<&str> {
    error.context().find(|(name, _)| *name == "holder").map(|(_, holder)| holder)
}

async fn one_path_one_unit(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let mut first = pond.unit();
    first.artifacts().put("p", "first").await?;
    let mut second = other.unit();
    for how in ["put", "delete", "copy"] {
        write(&other, "source", "source").await?;
        let artifacts = second.artifacts();
        let answer = match how {
            "put" => artifacts.put("p", "second").await.map(drop),
            "delete" => artifacts.delete("p").await.map(drop),
            _ => artifacts.copy("source", "p").await.map(drop),
        };
        let Err(error) = answer else { return Err(Failure(format!("a {how} of a path that another unit has was answered"))) };
        ensure_eq!(error.kind(), ErrorKind::Conflict, "a {how} of a path that another unit has");
        ensure!(holder(&error).is_some(), "the refusal of a {how} does not name the holder: {error:?}");
    }
    // What was refused is no part of the unit, and the rest of it can be committed.
    second.artifacts().put("q", "second").await?;
    second.commit().await?;
    ensure_eq!((read(&pond, "p").await?, read(&pond, "q").await?), (None, Some("second".into())), "what is there");
    let mut short = other.unit();
    short.wait(Duration::from_millis(100));
    refused(short.artifacts().put("p", "short").await, ErrorKind::Conflict, "a wait that ended")?;
    let mut patient = other.unit();
    patient.wait(Duration::from_secs(30));
    let artifacts = patient.artifacts();
    let waiting = tokio::spawn(async move { Ok(artifacts.put("p", "third").await?) });
    first.commit().await?;
    soon("a path that was given back", joined(waiting)).await??;
    ensure_eq!(read(&other, "p").await?.as_deref(), Some("first"), "what is read while the third works");
    patient.commit().await?;
    ensure_eq!(read(&pond, "p").await?.as_deref(), Some("third"), "what is read after the third");
    Ok(())
}

async fn units_on_one_path_take_turns(ground: Arc<Ground>) -> Verdict {
    let again = Arc::clone(&ground);
    let won = race(&two(&ground).await?, 8, move |i, store| {
        let ground = Arc::clone(&again);
        async move {
            let pond = ground.pond_on(store).await?;
            let mut unit = pond.unit();
            let artifacts = unit.artifacts();
            for key in ["p", "q"] {
                match artifacts.put(key, format!("racer {i}")).await {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Conflict && holder(&error).is_some() => {
                        unit.rollback().await?;
                        return Ok(None);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            unit.events("audit").append("committed", &i);
            unit.commit().await?;
            Ok(Some(i))
        }
    })
    .await?;
    let won: Vec<usize> = won.into_iter().flatten().collect();
    ensure!(!won.is_empty(), "no racer was committed");
    let pond = ground.second_pond().await?;
    let last = read(&pond, "p").await?;
    ensure_eq!(read(&pond, "q").await?, last, "the two artifacts of the last unit");
    ensure!(won.iter().any(|i| last.as_deref() == Some(&format!("racer {i}"))), "{last:?} is no winner's: {won:?}");
    for key in ["p", "q"] {
        ensure_eq!(pond.artifacts().history(key, 100, None).await?.items.len(), won.len(), "versions of {key}");
    }
    ensure_eq!(objects(&ground, &pond).await?.len(), 2 * won.len(), "objects");
    let events = pond.events().query(EventFilter::stream(StreamName::new("audit")?)).take(100).await?;
    ensure_eq!(events.len(), won.len(), "events");
    Ok(())
}

/// Half of the racers write at once, half in units that keep the path for a while.
async fn writes_go_around_no_unit(ground: Arc<Ground>) -> Verdict {
    let again = Arc::clone(&ground);
    let won = race(&two(&ground).await?, 8, move |i, store| {
        let ground = Arc::clone(&again);
        async move {
            let pond = ground.pond_on(store).await?;
            let text = format!("racer {i}");
            let mut written = Vec::new();
            for _ in 0..6 {
                let wrote = if i % 2 == 0 { written_between(&pond, &text).await } else { written_at_once(&pond, &text).await };
                match wrote {
                    Ok(wrote) => written.push(wrote),
                    Err(error) if error.kind() == ErrorKind::Conflict && holder(&error).is_some() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(written)
        }
    })
    .await?;
    let won: Vec<(String, Option<String>)> = won.into_iter().flatten().collect();
    let pond = ground.second_pond().await?;
    let events = pond.events().query(EventFilter::stream(StreamName::new("artifacts/other")?)).take(100).await?;
    let mut order = Vec::new();
    for event in &events {
        order.push(event.data.value()?["version"].as_str().unwrap_or_default().to_owned());
    }
    let (mut told, mut there) = (won.iter().map(|(version, _)| version).collect::<Vec<_>>(), order.iter().collect::<Vec<_>>());
    told.sort();
    there.sort();
    ensure_eq!(told, there, "the versions that racers were told of, and those that there are");
    ensure!(won.iter().any(|(_, before)| before.is_some()), "no unit came after a write");
    for (version, before) in won.iter().filter(|(_, before)| before.is_some()) {
        let at = order.iter().position(|other| other == version).unwrap_or_default();
        let last = at.checked_sub(1).and_then(|at| order.get(at));
        ensure_eq!(last, before.as_ref(), "what was written before {version}, whose unit had the path by then");
    }
    ensure_eq!(objects(&ground, &pond).await?.len(), order.len(), "objects");
    Ok(())
}

/// Writes a path in a unit, and answers its version and the one that was there when the unit had the path.
async fn written_between(pond: &Pond, text: &str) -> millpond::Result<(String, Option<String>)> {
    let mut unit = pond.unit();
    let wrote = unit.artifacts().put("p", text.to_owned()).await;
    let wrote = match wrote {
        Ok(wrote) => wrote,
        Err(error) => {
            unit.rollback().await?;
            return Err(error);
        }
    };
    let before = pond.artifacts().info("p").await?;
    tokio::time::sleep(Duration::from_millis(5)).await;
    unit.commit().await?;
    Ok((wrote.version, before.map(|before| before.value.version)))
}

async fn written_at_once(pond: &Pond, text: &str) -> millpond::Result<(String, Option<String>)> {
    // Long enough for a unit to come while the bytes are on their way.
    let wrote = pond.artifacts().write("p", text.repeat(200_000), NewArtifact::default()).await?;
    Ok((wrote.version, None))
}

/// A unit that touches everything.
async fn everything(pond: &Pond, run: &Run) -> Result<Unit, Failure> {
    let mut unit = pond.unit();
    let artifacts = unit.artifacts();
    artifacts.put("new", "after").provenance(run, "fetch").await?;
    artifacts.put("changed", "after").await?;
    artifacts.delete("gone").await?;
    artifacts.copy("changed", "copied").await?;
    unit.runs().step_completed(&run.id, Step::new("s1"));
    unit.events("audit").append("step", &1);
    unit.checkpoints(run).save(&1);
    unit.metrics().record(Execution::of(run).tokens(4));
    unit.part(Commit::new().put("tenants", "t1", &json!({"n": 1}))?);
    Ok(unit)
}

/// How much of it is there: artifacts, steps, events, checkpoints, runs counted, records.
async fn there(pond: &Pond, run: &Run) -> Result<String, Failure> {
    let artifacts =
        [read(pond, "new").await?, read(pond, "changed").await?, read(pond, "gone").await?, read(pond, "copied").await?];
    let artifacts = artifacts.map(|text| text.unwrap_or_default()).join(",");
    let steps = pond.runs().get(&run.id).await?.map_or(0, |run| run.counters.steps_completed);
    let events = pond.events().query(EventFilter::stream(StreamName::new("audit")?)).take(100).await?.len();
    let saved = pond.checkpoints().latest(run).await?.map_or(0, |checkpoint| checkpoint.version);
    let counted = pond.metrics().summary("etl", 3).await?.map_or(0, |summary| summary.executions);
    let records = usize::from(pond.store().get("tenants", "t1").await?.is_some());
    let stored = pond.store().events(millpond::EventQuery::new(EventFilter::streams("artifacts/")).limit(100)).await?.items.len();
    Ok(format!("{artifacts}; {steps} {events} {saved} {counted} {records}; {stored}"))
}

async fn artifacts_records_and_events_at_once(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let run = pond.runs().start(NewRun::of("etl", 3)).await?;
    for key in ["changed", "gone"] {
        write(&pond, key, "before").await?;
    }
    let nothing = ",before,before,; 0 0 0 0 0; 2";
    ensure_eq!(there(&other, &run).await?, nothing, "what is there before");
    let mut unit = everything(&pond, &run).await?;
    unit.expect(Expectation::Exists(RecordId::new("tenants", "other")?));
    ensure_eq!(there(&other, &run).await?, nothing, "what is there before a commit");
    refused(unit.commit().await, ErrorKind::Conflict, "a unit whose expectation fails")?;
    ensure_eq!(there(&other, &run).await?, nothing, "what is there after a refused unit");
    everything(&pond, &run).await?.rollback().await?;
    ensure_eq!(there(&other, &run).await?, nothing, "what is there after a unit that was rolled back");
    let mut unit = everything(&pond, &run).await?;
    unit.events("audit").append("large", &"x".repeat(300_000));
    refused(unit.commit().await, ErrorKind::Invalid, "a unit with an event beyond the limit")?;
    ensure_eq!(there(&other, &run).await?, nothing, "what is there after a unit that could not be made");
    ensure_eq!(objects(&ground, &other).await?.len(), 2, "objects of units that did not happen");
    everything(&pond, &run).await?.commit().await?;
    ensure_eq!(there(&other, &run).await?, "after,after,,after; 1 1 1 1 1; 6", "what is there after a unit");
    ensure_eq!(objects(&ground, &other).await?.len(), 4, "objects of versions");
    Ok(())
}

async fn operations_tell_how_they_stand(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    write(&pond, "b", "b").await?;
    for commits in [true, false] {
        let mut unit = pond.unit();
        unit.by(if commits { "anna" } else { "bert" });
        unit.artifacts().put("a", "a").await?;
        unit.artifacts().delete("b").await?;
        unit.artifacts().copy("a", "c").await?;
        let id = unit.unit_id().unwrap_or_default().to_owned();
        stands(&other, &id, UnitState::Pending, OperationStatus::Pending).await?;
        if commits {
            unit.commit().await?;
            stands(&other, &id, UnitState::Committed, OperationStatus::Done).await?;
            write(&pond, "b", "b").await?;
        } else {
            unit.rollback().await?;
            stands(&other, &id, UnitState::Aborted, OperationStatus::Compensated).await?;
            let reason = other.units().get(&id).await?.and_then(|unit| unit.unit.reason);
            ensure!(reason.is_some_and(|reason| reason.contains("rolled back")), "it is not said why {id} was aborted");
        }
    }
    let of = |states: &[UnitState], worker: Option<&str>| UnitFilter {
        states: states.to_vec(),
        worker: worker.map(str::to_owned),
        ..UnitFilter::default()
    };
    for (filter, count) in [
        (of(&[], Some("anna")), 1),
        (of(&[UnitState::Aborted], None), 1),
        (of(&[UnitState::Aborted], Some("anna")), 0),
        (of(&[UnitState::Committed], None), 1),
        (of(&[UnitState::Committed, UnitState::Aborted], None), 2),
        (of(&[UnitState::Pending, UnitState::Aborting, UnitState::Failed], None), 0),
    ] {
        ensure_eq!(other.units().list(&filter).await?.items.len(), count, "units of {filter:?}");
    }
    ensure!(other.units().get("none").await?.is_none(), "a unit that is not there was found");
    refused(other.units().abort("none", "test").await, ErrorKind::NotFound, "an abort of no unit")?;
    Ok(())
}

async fn stands(pond: &Pond, id: &str, state: UnitState, status: OperationStatus) -> Verdict {
    let found = pond.units().get(id).await?;
    let found = found.ok_or_else(|| Failure(format!("unit {id} is not found")))?;
    let kinds: Vec<_> = found.operations.iter().map(|o| (o.number, o.kind.as_str(), o.path.as_str(), o.status)).collect();
    let expected = [(1, "put", "a", status), (2, "delete", "b", status), (3, "copy", "c", status)];
    ensure_eq!((found.unit.state, kinds), (state, expected.to_vec()), "how the unit stands");
    ensure_eq!(found.deadline.is_some(), state == UnitState::Pending, "whether a unit that is {state} has a deadline");
    ensure_eq!(found.unit.ended.is_some(), state != UnitState::Pending, "whether a unit that is {state} has ended");
    Ok(())
}

async fn a_unit_of_artifacts_happens_once(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let id = pond.store().new_commit_id();
    let mut unit = pond.unit();
    unit.id(id);
    unit.artifacts().put("k", "first").await?;
    unit.commit().await?;
    // Whoever did not hear of it does it again: all of it is answered, nothing of it is done.
    let mut again = other.unit();
    again.id(id);
    again.artifacts().put("k", "first").await?;
    ensure!(!again.step("call", "undo", &json!({})).await?, "a step of a unit that was committed is to be done again");
    let replayed = again.commit().await?;
    ensure!(replayed.replayed, "the second unit of the same id was committed anew");
    ensure_eq!(pond.store().outcome(id).await?.map(|first| first.position), Some(replayed.position), "its receipt");
    ensure_eq!(read(&other, "k").await?.as_deref(), Some("first"), "what is read");
    ensure_eq!(pond.artifacts().history("k", 9, None).await?.items.len(), 1, "versions");
    ensure_eq!(objects(&ground, &pond).await?.len(), 1, "objects");
    // An id that is taken by a unit which is not committed is refused, with its name.
    let taken = pond.store().new_commit_id();
    let mut open = pond.unit();
    open.id(taken);
    open.artifacts().put("open", "open").await?;
    for what in ["not decided", "aborted"] {
        let mut late = other.unit();
        late.id(taken);
        let said = refused(late.artifacts().put("late", "late").await, ErrorKind::Conflict, "a second unit of the same id")?;
        ensure!(said.contains(&taken.to_string()) && said.contains(what), "the refusal does not say what is there: {said}");
        if what == "not decided" {
            other.locks().force_release(&format!("units/{taken}"), "its process is gone", "test").await?;
            other.units().abort(&taken.to_string(), "its process is gone").await?;
        }
    }
    drop(open);
    let committed = refused(other.units().abort(&id.to_string(), "late").await, ErrorKind::Invalid, "an abort after the commit")?;
    ensure!(committed.contains("committed"), "the refusal does not say why: {committed}");
    // A unit that was refused leaves its paths to the next one.
    let mut unit = pond.unit();
    unit.artifacts().put("k", "refused").await?;
    unit.expect(Expectation::Exists(RecordId::new("tenants", "none")?));
    refused(unit.commit().await, ErrorKind::Conflict, "a unit whose expectation fails")?;
    other.artifacts().write("k", "second", NewArtifact::default()).await?;
    ensure_eq!(read(&pond, "k").await?.as_deref(), Some("second"), "what is read after the next one");
    Ok(())
}

async fn one_unit_one_store(ground: Arc<Ground>) -> Verdict {
    let main = ground.store().await?;
    let name = ground.sibling("bytes");
    ground.engine().create_namespace(&name).await?;
    let verdict = over_two_stores(&ground, &main, &name).await;
    if let Some(info) = ground.engine().namespace(&name).await? {
        ground.engine().delete_namespace(&name, &info.store_id).await?;
    }
    verdict
}

async fn over_two_stores(ground: &Ground, main: &millpond::Store, name: &millpond::Namespace) -> Verdict {
    let away = millpond::Store::open(Arc::new(millpond::Front::new(Arc::clone(ground.engine()))), name.clone()).await?;
    let objects = ground.other_objects("away")?;
    let pond = Pond::over(main.clone(), vec![(away, vec![Domain::Artifacts])]).await?.with_objects(Arc::clone(&objects));
    write(&pond, "k", "before").await?;
    // Records first, then bytes.
    let mut unit = pond.unit();
    unit.events("audit").append("step", &1);
    let said = refused(unit.artifacts().put("k", "after").await, ErrorKind::Unsupported, "bytes beside records elsewhere")?;
    ensure!(said.contains("artifacts") && said.contains("audit"), "the refusal does not name both: {said}");
    let said = refused(unit.step("call", "undo", &json!({})).await, ErrorKind::Unsupported, "a step beside records elsewhere")?;
    ensure!(said.contains("artifacts") && said.contains("audit"), "the refusal does not name both: {said}");
    drop(unit);
    // Bytes first, then records.
    let mut unit = pond.unit();
    let artifacts = unit.artifacts();
    artifacts.put("k", "after").await?;
    unit.events("audit").append("step", &1);
    refused(unit.artifacts().put("more", "after").await, ErrorKind::Unsupported, "the call after the one that spans two")?;
    let said = refused(unit.commit().await, ErrorKind::Unsupported, "a unit over two stores")?;
    ensure!(said.contains("artifacts") && said.contains("audit"), "the refusal does not name both: {said}");
    ensure_eq!(read(&pond, "k").await?.as_deref(), Some("before"), "what is read");
    ensure_eq!(objects.list(None, 10).await?.len(), 1, "objects");
    ensure_eq!(pond.events().query(EventFilter::stream(StreamName::new("audit")?)).take(9).await?.len(), 0, "events");
    Ok(())
}
