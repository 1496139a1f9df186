//! Units that did not end well: taken over, undone by anybody, their steps compensated, and bytes that nobody names.
//!
//! A clause has no clock of its own, so a lease that ran out is one that was taken away: both leave it to the next one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millpond::{
    Body, CollectRequest, DeadLetterFilter, DeadLetterState, Error, ErrorKind, ManualHost, NewArtifact, OperationStatus, Pond,
    Query, StepToUndo, Timestamp, UNITS_JOB, Unit, UnitState,
};
use millpond_objects::Location;
use serde_json::json;

use super::artifacts::{objects, read, write};
use super::tools::{id_at, passed_a_moment, refused};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "units":
    who_was_taken_over_is_fenced => "a unit whose lease was lost is undone first, then its paths are free, and its commit is refused as fenced";
    late_bytes_lie_apart => "bytes that a unit writes after it was taken over reach its own location alone, and are collected";
    two_recover_at_once => "two processes that recover at once undo every unit whose owner is gone, and do no harm";
    steps_are_undone_in_reverse => "of a unit that does not happen every step is compensated, the last one first, tried again when that fails";
    a_person_is_asked_at_last => "a compensation that keeps failing ends in a dead letter, the step FAILED, until somebody resumes the unit";
    an_unknown_compensation_waits => "a unit whose compensation a program does not know is left to one that does, its paths free";
    only_what_nobody_names_is_collected => "bytes of versions, copies and live units stay; superseded and stray ones go, when that is asked for";
    below_the_floor_nothing_begins => "a unit older than what the collector left open neither begins nor is decided";
    comparing_changes_nothing => "records and bytes are compared both ways, what is missing and unused is named, nothing is taken for committed";
}

/// A lease that ran out.
async fn lost(pond: &Pond, unit: &Unit) -> Result<String, Failure> {
    let id = unit.unit_id().unwrap_or_default().to_owned();
    let taken = pond.locks().force_release(&format!("units/{id}"), "its owner is gone", "clause").await?;
    ensure_held(taken.is_some(), &id)?;
    Ok(id)
}

fn ensure_held(held: bool, id: &str) -> Verdict {
    ensure!(held, "unit {id} had no lease");
    Ok(())
}

async fn state(pond: &Pond, id: &str) -> Result<UnitState, Failure> {
    let unit = pond.units().get(id).await?;
    Ok(unit.ok_or_else(|| Failure(format!("unit {id} is not found")))?.unit.state)
}

async fn statuses(pond: &Pond, id: &str) -> Result<Vec<OperationStatus>, Failure> {
    let unit = pond.units().get(id).await?;
    let unit = unit.ok_or_else(|| Failure(format!("unit {id} is not found")))?;
    Ok(unit.operations.iter().map(|operation| operation.status).collect())
}

/// What compensations were called for, in their order.
#[derive(Debug, Default, Clone)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    /// Knows a compensation in a program, which fails the first few times.
    fn register(&self, pond: &Pond, name: &str, fails: usize) {
        let (calls, name) = (self.clone(), name.to_owned());
        let left = Arc::new(Mutex::new(fails));
        pond.units().compensations().register(name, move |step: StepToUndo| {
            calls.all().push(format!("{} {}", step.step, step.args["n"]));
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            let fails = *left > 0;
            *left = left.saturating_sub(1);
            async move { if fails { Err(Error::unavailable("not yet")) } else { Ok(()) } }
        });
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.all())
    }
}

async fn who_was_taken_over_is_fenced(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    write(&pond, "k", "before").await?;
    let mut unit = pond.unit();
    unit.artifacts().put("k", "never").await?;
    unit.events("audit").append("step", &1);
    let live = other.units().recover().await?;
    ensure_eq!((live.undone.len(), live.left.len()), (0, 1), "units undone and left while their owner lives");
    let said = refused(other.units().abort(unit.unit_id().unwrap_or_default(), "mine").await, ErrorKind::Conflict, "an abort")?;
    ensure!(said.contains("worked on by"), "the refusal does not say who works on it: {said}");
    let id = lost(&other, &unit).await?;
    // Whoever wants the path undoes the unit first.
    write(&other, "k", "the next one").await?;
    ensure_eq!(state(&other, &id).await?, UnitState::Aborted, "the unit that was in the way");
    ensure_eq!(statuses(&other, &id).await?, [OperationStatus::Compensated], "its operation");
    ensure_eq!(objects(&ground, &other).await?.len(), 2, "objects, without the staged one");
    refused(unit.artifacts().put("more", "never").await, ErrorKind::Fenced, "a put after the take-over")?;
    refused(unit.commit().await, ErrorKind::Fenced, "a commit after the take-over")?;
    ensure_eq!(read(&pond, "k").await?.as_deref(), Some("the next one"), "what is read");
    ensure_eq!(pond.artifacts().history("k", 9, None).await?.items.len(), 2, "versions");
    // The same by recovery, and with a commit as the first thing that its owner does afterwards.
    let mut unit = pond.unit();
    unit.artifacts().delete("k").await?;
    let id = lost(&other, &unit).await?;
    ensure_eq!(other.units().recover().await?.undone, [id], "units undone once their owner is gone");
    refused(unit.commit().await, ErrorKind::Fenced, "a commit after the recovery")?;
    ensure_eq!(read(&pond, "k").await?.as_deref(), Some("the next one"), "what is read after a late deletion");
    Ok(())
}

async fn late_bytes_lie_apart(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let before = write(&pond, "k", "before").await?;
    let mut unit = pond.unit();
    unit.artifacts().put("first", "x").await?;
    let id = unit.unit_id().unwrap_or_default().to_owned();
    // The body stops in its middle until the unit was undone and the path is another's.
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let pieces = futures_util::stream::unfold((0, Some(wait)), |(n, mut wait)| async move {
        if let (1, Some(wait)) = (n, wait.take()) {
            let _ = wait.await;
        }
        (n < 3).then(|| (Ok(Bytes::from(vec![b'x'; 2 << 20])), (n + 1, wait)))
    });
    let artifacts = unit.artifacts();
    let late = tokio::spawn(async move { artifacts.put("k", Body::stream(pieces)).await });
    super::tools::soon("the claim of the late put", async {
        while statuses(&other, &id).await.is_ok_and(|all| all.len() < 2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await?;
    lost(&other, &unit).await?;
    ensure_eq!(other.units().recover().await?.undone, std::slice::from_ref(&id), "units undone");
    let after = write(&other, "k", "after").await?;
    let _ = go.send(());
    let put = late.await.map_err(|e| Failure(format!("the late put panicked: {e}")))?;
    // Its bytes may have been written whole: that is no commit.
    if let Ok(put) = &put {
        ensure!(![&before.location, &after.location].contains(&&put.location), "late bytes lie at another's place");
    }
    refused(unit.commit().await, ErrorKind::Fenced, "a commit after the take-over")?;
    ensure_eq!(read(&pond, "k").await?.as_deref(), Some("after"), "what is read");
    let all = |ask| CollectRequest { remove: ask, grace: Duration::ZERO };
    passed_a_moment().await;
    let done = other.units().collect(&all(true)).await?;
    ensure_eq!(done.removed, done.unused, "unused objects that were removed");
    let mut left = objects(&ground, &pond).await?;
    left.sort();
    let mut named = vec![before.location, after.location];
    named.sort();
    ensure_eq!(left, named, "objects after a collection");
    Ok(())
}

async fn two_recover_at_once(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    write(&pond, "before", "before").await?;
    let calls = Calls::default();
    let mut sleeping = Vec::new();
    for n in 0..6 {
        let mut unit = pond.unit();
        for part in ["a", "b"] {
            unit.artifacts().put(format!("{part}/{n}"), "never").await?;
        }
        unit.step("call", "undo", &json!({"n": n})).await?;
        sleeping.push(unit);
    }
    let mut live = pond.unit();
    live.artifacts().put("live", "live").await?;
    let mut ids = BTreeSet::new();
    for unit in &sleeping {
        ids.insert(lost(&other, unit).await?);
    }
    for pond in [&pond, &other] {
        calls.register(pond, "undo", 1);
    }
    let (here, there) = (pond.units(), other.units());
    let (one, two) = tokio::join!(here.recover(), there.recover());
    let told: BTreeSet<String> = one?.undone.into_iter().chain(two?.undone).collect();
    let again = other.units().recover().await?;
    ensure_eq!((again.undone.len(), again.left.len()), (0, 1), "units undone and left by a recovery afterwards");
    ensure_eq!(told, ids, "units that the two say they undid");
    for id in &ids {
        ensure_eq!(state(&pond, id).await?, UnitState::Aborted, "unit {id}");
        ensure_eq!(statuses(&pond, id).await?, [OperationStatus::Compensated; 3], "its operations");
    }
    let undone: BTreeSet<String> = calls.take().into_iter().collect();
    ensure_eq!(undone, (0..6).map(|n| format!("call {n}")).collect(), "steps that were compensated");
    let mut unit = other.unit();
    for n in 0..6 {
        unit.artifacts().put(format!("a/{n}"), "next").await?;
    }
    unit.commit().await?;
    live.commit().await?;
    for unit in sleeping {
        refused(unit.commit().await, ErrorKind::Fenced, "a commit of a unit that was undone")?;
    }
    ensure_eq!(objects(&ground, &pond).await?.len(), 8, "objects: one before, six since, one of the live unit");
    Ok(())
}

/// A unit with three steps, and an artifact.
async fn steps(pond: &Pond, compensation: &str) -> Result<Unit, Failure> {
    let mut unit = pond.unit();
    for n in 1..=3 {
        unit.step("create table", compensation, &json!({"n": n})).await?;
    }
    unit.artifacts().put("k", "with steps").await?;
    Ok(unit)
}

async fn steps_are_undone_in_reverse(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let calls = Calls::default();
    calls.register(&pond, "drop", 0);
    calls.register(&other, "drop", 2);
    let unit = steps(&pond, "drop").await?;
    let id = unit.unit_id().unwrap_or_default().to_owned();
    ensure_eq!(statuses(&other, &id).await?, [OperationStatus::Pending; 4], "operations while the unit works");
    unit.commit().await?;
    ensure_eq!(statuses(&other, &id).await?, [OperationStatus::Done; 4], "operations of a unit that happened");
    ensure_eq!(calls.take(), [""; 0], "compensations of a unit that happened");
    let in_reverse = ["create table 3", "create table 2", "create table 1"];
    let unit = steps(&pond, "drop").await?;
    let id = unit.unit_id().unwrap_or_default().to_owned();
    unit.rollback().await?;
    ensure_eq!(calls.take(), in_reverse, "compensations after a rollback");
    ensure_eq!(statuses(&other, &id).await?, [OperationStatus::Compensated; 4], "operations after a rollback");
    // By another process, whose compensation fails twice before it does it.
    let unit = steps(&pond, "drop").await?;
    let id = lost(&other, &unit).await?;
    ensure_eq!(other.units().recover().await?.undone, std::slice::from_ref(&id), "units undone");
    ensure_eq!(calls.take(), [&in_reverse[..1], &in_reverse[..1], &in_reverse[..]].concat(), "compensations by another process");
    ensure_eq!(state(&pond, &id).await?, UnitState::Aborted, "the unit");
    ensure_eq!(other.units().recover().await?.undone, [""; 0], "units undone again");
    ensure_eq!(calls.take(), [""; 0], "compensations of a unit that is undone");
    Ok(())
}

async fn a_person_is_asked_at_last(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let calls = Calls::default();
    calls.register(&pond, "drop", millpond::COMPENSATION_TRIES as usize);
    let unit = steps(&pond, "drop").await?;
    let id = unit.unit_id().unwrap_or_default().to_owned();
    let said = refused(unit.rollback().await, ErrorKind::Unavailable, "a rollback whose compensation fails")?;
    ensure!(said.contains(&id), "the refusal does not name the unit: {said}");
    ensure_eq!(calls.take(), ["create table 3"; millpond::COMPENSATION_TRIES as usize], "tries");
    ensure_eq!(state(&other, &id).await?, UnitState::Failed, "the unit");
    let (pending, failed, undone) = (OperationStatus::Pending, OperationStatus::Failed, OperationStatus::Compensated);
    ensure_eq!(statuses(&other, &id).await?, [pending, pending, failed, undone], "operations");
    let open = || DeadLetterFilter::all().job(UNITS_JOB).state(DeadLetterState::Pending);
    let letters = other.dead_letters().list(&open()).await?.items;
    ensure_eq!(letters.len(), 1, "dead letters");
    let says = letters[0].value.item.item_data.to_string();
    ensure!(says.contains(&id) && says.contains("drop"), "the dead letter does not say what to do: {says}");
    ensure_eq!(read(&other, "k").await?, None, "the artifact of a unit that failed");
    write(&other, "k", "the path is free").await?;
    let left = other.units().recover().await?;
    ensure_eq!((left.undone.len(), left.needing.len(), calls.take().len()), (0, 0, 0), "what a recovery does about it");
    // A person resumes it, in a program that knows the compensation.
    calls.register(&other, "drop", 0);
    ensure_eq!(other.units().resume(&id).await?, UnitState::Aborted, "the unit after it was resumed");
    ensure_eq!(calls.take(), ["create table 3", "create table 2", "create table 1"], "compensations after it was resumed");
    ensure_eq!(statuses(&pond, &id).await?, [undone; 4], "operations after it was resumed");
    ensure_eq!(pond.dead_letters().list(&open()).await?.items.len(), 0, "open dead letters after it was resumed");
    Ok(())
}

async fn an_unknown_compensation_waits(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let unit = steps(&pond, "only elsewhere").await?;
    let id = unit.unit_id().unwrap_or_default().to_owned();
    let said = refused(unit.rollback().await, ErrorKind::Unsupported, "a rollback by a program that does not know how")?;
    ensure!(said.contains("only elsewhere"), "the refusal does not name the compensation: {said}");
    ensure_eq!(state(&other, &id).await?, UnitState::Aborting, "the unit");
    write(&pond, "k", "the path is free").await?;
    let needing = [(id.clone(), "only elsewhere".to_owned())];
    ensure_eq!(pond.units().recover().await?.needing, needing, "units that need another program");
    for answer in [pond.units().abort(&id, "please").await, pond.units().resume(&id).await] {
        let said = refused(answer, ErrorKind::Unsupported, "an abort by a program that does not know how")?;
        ensure!(said.contains("only elsewhere"), "the refusal does not name the compensation: {said}");
    }
    let calls = Calls::default();
    calls.register(&other, "only elsewhere", 0);
    ensure_eq!(other.units().recover().await?.undone, std::slice::from_ref(&id), "units undone by a program that knows how");
    ensure_eq!(calls.take(), ["create table 3", "create table 2", "create table 1"], "compensations");
    ensure_eq!(state(&pond, &id).await?, UnitState::Aborted, "the unit at last");
    ensure_eq!(read(&pond, "k").await?.as_deref(), Some("the path is free"), "what was written meanwhile");
    Ok(())
}

async fn only_what_nobody_names_is_collected(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    for text in ["v1", "v2"] {
        write(&pond, "k", text).await?;
    }
    write(&pond, "copied", "copied").await?;
    pond.artifacts().copy("copied", "copy").await?;
    pond.artifacts().delete("copied").await?;
    let mut unit = pond.unit();
    unit.artifacts().put("b", "superseded within its unit").await?;
    unit.artifacts().put("b", "b").await?;
    unit.commit().await?;
    // Of a unit that nobody knows, as after a restore.
    let place = ground.objects(pond.store()).await?;
    let stray = Location::new(millpond::uuid_v7(pond.store().host()), 1);
    place.put(&stray, "stray".into(), None).await?;
    passed_a_moment().await;
    let grace = Duration::from_secs(600);
    let early = other.units().collect(&CollectRequest { remove: true, grace }).await?;
    ensure_eq!((early.objects, early.unused, early.removed), (6, 0, 0), "objects, unused and removed within the grace");
    // A live unit holds the floor back, and with it what is younger than it.
    let mut live = pond.unit();
    live.artifacts().put("live", "live").await?;
    passed_a_moment().await;
    let ask = |remove| CollectRequest { remove, grace: Duration::ZERO };
    let told = other.units().collect(&ask(false)).await?;
    ensure_eq!((told.objects, told.unused, told.removed, told.units.left.len()), (7, 2, 0, 1), "a report beside a live unit");
    let named: BTreeSet<&str> = told.named.iter().map(|unused| unused.location.as_str()).collect();
    ensure!(named.contains(stray.as_str()), "the stray object is not named: {told:?}");
    ensure_eq!(objects(&ground, &pond).await?.len(), 7, "objects after a report");
    let done = other.units().collect(&ask(true)).await?;
    ensure_eq!((done.unused, done.removed), (2, 2), "unused objects that were removed");
    live.commit().await?;
    let done = other.units().collect(&ask(true)).await?;
    ensure_eq!((done.objects, done.unused), (5, 0), "objects, and unused ones, after a collection");
    for (key, text) in [("k", "v2"), ("b", "b"), ("copy", "copied"), ("live", "live")] {
        ensure_eq!(read(&pond, key).await?.as_deref(), Some(text), "{key} after a collection");
    }
    for version in pond.artifacts().history("k", 9, None).await?.items {
        pond.artifacts().read_version("k", &version.value.version).await?;
    }
    // One at a time.
    let lock = millpond::LockRequest::of("units/collector", Duration::from_secs(60)).holder("carla");
    let lease = pond.locks().acquire(&lock).await?;
    let said = refused(other.units().collect(&ask(true)).await, ErrorKind::Conflict, "a second collector")?;
    ensure!(said.contains("carla"), "the refusal does not name the collector: {said}");
    pond.locks().release(&lease).await?;
    Ok(())
}

async fn below_the_floor_nothing_begins(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let now = pond.store().now();
    let old = Timestamp::from_micros(now.as_micros() - 60_000_000);
    // Without a floor an old id is as good as any.
    let mut unit = pond.unit();
    unit.id(id_at(old));
    unit.artifacts().put("k", "before").await?;
    unit.commit().await?;
    passed_a_moment().await;
    let done = other.units().collect(&CollectRequest { remove: true, grace: Duration::from_secs(30) }).await?;
    ensure_eq!((done.kept_damaged, done.damaged), (0, Vec::new()), "what a collection could not read");
    let mut late = pond.unit();
    late.id(id_at(Timestamp::from_micros(old.as_micros() + 5_000)));
    let said = refused(late.artifacts().put("k", "late").await, ErrorKind::Conflict, "a unit from below the floor")?;
    ensure!(said.contains("collector"), "the refusal does not say why: {said}");
    let mut young = pond.unit();
    young.id(id_at(Timestamp::from_micros(now.as_micros() - 5_000_000)));
    young.artifacts().put("k", "young").await?;
    young.commit().await?;
    ensure_eq!(read(&other, "k").await?.as_deref(), Some("young"), "what a unit above the floor wrote");
    Ok(())
}

/// The keys and revisions of everything that says which artifacts there are.
async fn records(pond: &Pond) -> Result<Vec<(String, u64)>, Failure> {
    let mut found = Vec::new();
    for collection in ["artifacts", "artifact_versions", "artifact_claims", "units", "unit_operations"] {
        let page = pond.store().query(Query::new(collection)?.limit(1_000)).await?;
        found.extend(page.items.into_iter().map(|record| (format!("{collection}/{}", record.key), record.revision)));
    }
    Ok(found)
}

async fn comparing_changes_nothing(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    for key in ["kept", "gone", "cut"] {
        write(&pond, key, key).await?;
    }
    let at = |key: &'static str| {
        let pond = pond.clone();
        async move {
            let found = pond.artifacts().info(key).await?.map(|found| found.value.location).unwrap_or_default();
            Ok::<_, Failure>(found.parse::<Location>()?)
        }
    };
    let (place, gone, cut) = (ground.objects(pond.store()).await?, at("gone").await?, at("cut").await?);
    place.remove(&gone).await?;
    place.remove(&cut).await?;
    place.put(&cut, "cu".into(), None).await?;
    // Bytes that were never committed: of a unit that nobody knows, and of one that works.
    let long_ago = ManualHost::at(Timestamp::from_micros(pond.store().now().as_micros() - 7_200_000_000));
    let stray = Location::new(millpond::uuid_v7(&long_ago), 1);
    place.put(&stray, "never committed".into(), None).await?;
    let mut live = pond.unit();
    live.artifacts().put("live", "live").await?;
    let before = (objects(&ground, &pond).await?, records(&other).await?);
    let told = other.units().reconcile(10).await?;
    let mut missing: Vec<_> = told.missing.iter().map(|m| (m.location.as_str(), m.expected, m.found)).collect();
    missing.sort_unstable();
    let mut expected = vec![(gone.as_str(), 4, None), (cut.as_str(), 3, Some(2))];
    expected.sort_unstable();
    ensure_eq!(missing, expected, "records whose bytes are not as they say");
    ensure_eq!((told.records, told.missing_in_all), (3, 2), "records that name bytes, and those whose bytes are missing");
    let unused: Vec<&str> = told.unused.named.iter().map(|unused| unused.location.as_str()).collect();
    ensure_eq!(unused, [stray.as_str()], "bytes that nobody names");
    ensure_eq!((objects(&ground, &pond).await?, records(&other).await?), before, "objects and records");
    ensure_eq!(read(&other, "live").await?, None, "what was never committed");
    ensure_eq!(other.artifacts().list(&millpond::ArtifactFilter::default()).await?.items.len(), 3, "artifacts");
    live.rollback().await?;
    other.artifacts().write("gone", "written anew", NewArtifact::default()).await?;
    ensure_eq!(read(&pond, "gone").await?.as_deref(), Some("written anew"), "what is written over a damaged artifact");
    Ok(())
}
