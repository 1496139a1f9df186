//! What becomes of units and their bytes afterwards: undone, collected, forgotten.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "support/hooked.rs"]
mod hooked;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hooked::{Doing, world};
use millpond::{CollectRequest, Error, ErrorKind, LetterRef, NewArtifact, StepToUndo, UNITS_JOB, UnitState};
use millpond_objects::{Location, Objects as _};
use serde_json::json;

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn removing() -> CollectRequest {
    CollectRequest { remove: true, ..CollectRequest::default() }
}

/// Whoever calls has tasks that move between threads.
#[tokio::test]
async fn every_call_can_be_spawned() {
    fn spawned<F: Future + Send>(_: F) {}
    let world = world().await;
    let (units, artifacts, letters) = (world.pond.units(), world.pond.artifacts(), world.pond.dead_letters());
    let (request, claim) = (removing(), millpond::ClaimRequest::of("w", 1, DAY));
    spawned(units.collect(&request));
    spawned(units.forget(DAY, 1));
    spawned(units.would_forget(DAY, 1));
    spawned(units.recover());
    spawned(units.abort("u", "r"));
    spawned(units.resume("u"));
    spawned(units.reconcile(1));
    spawned(artifacts.write("k", "v", NewArtifact::default()));
    spawned(artifacts.delete("k"));
    spawned(artifacts.copy("k", "l"));
    spawned(world.pond.unit().commit());
    spawned(world.pond.unit().rollback());
    spawned(letters.claim(&claim));
    spawned(letters.list(&millpond::DeadLetterFilter::all()));
    spawned(world.pond.checkpoints().latest("r"));
}

/// Sixteen at once: one by one this would not end.
#[tokio::test]
async fn objects_of_a_unit_that_is_undone_are_removed_together() {
    let world = world().await;
    let mut unit = world.pond.unit();
    for n in 0..40 {
        unit.artifacts().put(format!("many/{n}"), "x").await.unwrap();
    }
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (Arc::clone(&running), Arc::clone(&most));
    world.place.before(move |doing, _| {
        let (running, most) = counted.clone();
        async move {
            assert_eq!(doing, Doing::Remove);
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            while most.load(Ordering::SeqCst) < 16 {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    tokio::time::timeout(Duration::from_secs(20), unit.rollback()).await.expect("it ends").unwrap();
    assert_eq!((most.load(Ordering::SeqCst), world.objects().await.len()), (16, 0));
    assert_eq!(world.states().await, [UnitState::Aborted]);
}

/// A compensation may say as much as it likes: what is kept of it never grows past what a record holds.
#[tokio::test]
async fn what_a_compensation_says_is_cut_where_it_is_kept() {
    let world = world().await;
    world.pond.units().compensations().register("undo", |_: StepToUndo| async { Err(Error::unavailable("é".repeat(2 << 20))) });
    let mut unit = world.pond.unit();
    unit.step("call", "undo", &json!({})).await.unwrap();
    let id = unit.unit_id().unwrap().to_owned();
    assert_eq!(unit.rollback().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let operations = world.operations(&id).await;
    let reason = operations[0].2.as_deref().unwrap();
    assert!(operations[0].1 == "FAILED" && reason.len() <= 4_096 && reason.ends_with('é'), "{} bytes", reason.len());
    // The same of why a unit is aborted.
    let mut unit = world.pond.unit();
    unit.artifacts().put("k", "v").await.unwrap();
    let id = unit.unit_id().unwrap().to_owned();
    world.place.before(|doing, _| async move {
        if matches!(doing, Doing::Put(_)) { Err(Error::unavailable("é".repeat(2 << 20))) } else { Ok(()) }
    });
    unit.checkpoints("r").save_new(millpond::NewCheckpoint::bytes(vec![7; 6_500_000]));
    assert_eq!(unit.commit().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let found = world.pond.units().get(&id).await.unwrap().unwrap().unit;
    assert_eq!((found.state, found.reason.unwrap().len()), (UnitState::Aborted, 4_096));
}

#[tokio::test]
async fn units_that_are_over_for_long_are_forgotten_and_what_they_wrote_stays() {
    let world = world().await;
    let artifacts = world.pond.artifacts();
    world.pond.units().compensations().register("undo", |_: StepToUndo| async { Err(Error::unavailable("never")) });
    let id = world.pond.store().new_commit_id();
    let mut unit = world.pond.unit();
    unit.id(id);
    unit.artifacts().put("a", "superseded").await.unwrap();
    unit.artifacts().put("a", "a").await.unwrap();
    unit.commit().await.unwrap();
    let mut unit = world.pond.unit();
    unit.artifacts().put("b", "never").await.unwrap();
    unit.rollback().await.unwrap();
    let mut unit = world.pond.unit();
    unit.step("call", "undo", &json!({})).await.unwrap();
    unit.rollback().await.unwrap_err();
    world.host.advance(31 * DAY);
    let mut live = world.pond.unit();
    live.artifacts().put("live", "live").await.unwrap();
    let mut young = world.pond.unit();
    young.artifacts().put("young", "young").await.unwrap();
    young.commit().await.unwrap();

    let units = world.pond.units();
    assert_eq!(units.forget(30 * DAY, 0).await.unwrap_err().kind(), ErrorKind::Invalid);
    let would = units.would_forget(30 * DAY, 100).await.unwrap();
    assert_eq!((would.units, would.operations, would.kept_failed, would.more), (2, 3, 1, false), "{would:?}");
    assert_eq!(world.states().await.len(), 5);
    let first = units.forget(30 * DAY, 1).await.unwrap();
    assert_eq!((first.units, first.more), (1, true), "{first:?}");
    let rest = units.forget(30 * DAY, 100).await.unwrap();
    assert_eq!((rest.units, rest.kept_failed, rest.more), (1, 1, false), "{rest:?}");
    // The failed one goes once a person has closed its dead letter.
    let letters = world.pond.dead_letters();
    let letter = letters.list(&millpond::DeadLetterFilter::all().job(UNITS_JOB)).await.unwrap().items.remove(0);
    letters.discard(&LetterRef::from(&letter), "done by hand", "anna").await.unwrap();
    assert_eq!(units.forget(30 * DAY, 100).await.unwrap().units, 1);
    let mut states = world.states().await;
    states.sort_by_key(|state| state.as_str());
    assert_eq!((states, world.count("unit_operations").await), (vec![UnitState::Committed, UnitState::Pending], 2));
    live.commit().await.unwrap();

    // The id of a forgotten unit cannot begin again, where it would write over what it wrote.
    let mut late = world.pond.unit();
    late.id(id);
    assert!(late.artifacts().put("a", "late").await.is_ok(), "its receipt is still kept");
    assert!(late.commit().await.unwrap().replayed);
    world.pond.store().purge(30 * DAY).await.unwrap();
    let mut late = world.pond.unit();
    late.id(id);
    let told = late.artifacts().put("a", "late").await.unwrap_err();
    assert!(told.kind() == ErrorKind::Conflict && told.to_string().contains("older than"), "{told}");
    // Bytes of units that nobody knows any more are judged by the floor: what is named stays, the rest goes.
    world.host.advance(DAY);
    assert_eq!(units.collect(&removing()).await.unwrap().removed, 1);
    for (key, text) in [("a", "a"), ("live", "live"), ("young", "young")] {
        assert_eq!(artifacts.read(key).await.unwrap(), text);
    }
}

/// One moment, however many records name the objects of a page.
#[tokio::test]
async fn the_collector_goes_on_where_more_records_name_a_page_than_an_answer_holds() {
    let world = world().await;
    let artifacts = world.pond.artifacts();
    let mut unit = world.pond.unit();
    unit.artifacts().put("b", "superseded").await.unwrap();
    unit.artifacts().put("b", "b").await.unwrap();
    unit.commit().await.unwrap();
    let much = NewArtifact::default().custom("text", "x".repeat(900_000));
    artifacts.write("large", "large", much).await.unwrap();
    for n in 0..20 {
        artifacts.copy("large", &format!("copies/{n}")).await.unwrap();
        artifacts.write(&format!("small/{n}"), format!("small {n}"), NewArtifact::default()).await.unwrap();
    }
    world.host.advance(Duration::from_secs(7_200));
    let done = world.pond.units().collect(&removing()).await.unwrap();
    assert_eq!((done.objects, done.removed), (23, 1), "{done:?}");
    for n in 0..20 {
        assert_eq!(artifacts.read(&format!("small/{n}")).await.unwrap(), format!("small {n}"));
    }
    assert_eq!(artifacts.read("copies/19").await.unwrap(), "large");
}

/// A unit that waits for a program that can undo it keeps its own bytes, and nobody else's.
#[tokio::test]
async fn a_unit_that_cannot_be_undone_yet_does_not_hold_up_the_collector() {
    let world = world().await;
    let mut stuck = world.pond.unit();
    stuck.artifacts().put("stuck", "stuck").await.unwrap();
    stuck.step("call", "known elsewhere", &json!({})).await.unwrap();
    assert_eq!(stuck.rollback().await.unwrap_err().kind(), ErrorKind::Unsupported);
    world.host.advance(Duration::from_secs(60));
    let mut unit = world.pond.unit();
    unit.artifacts().put("b", "superseded").await.unwrap();
    unit.artifacts().put("b", "b").await.unwrap();
    unit.commit().await.unwrap();
    let stray = Location::new(millpond::uuid_v7(world.pond.store().host()), 1);
    world.place.memory.put(&stray, Bytes::from("stray"), None).await.unwrap();
    world.host.advance(Duration::from_secs(7_200));
    let done = world.pond.units().collect(&removing()).await.unwrap();
    assert_eq!((done.units.needing.len(), done.removed, world.objects().await.len()), (1, 2, 2), "{done:?}");
    assert_eq!(world.pond.artifacts().read("b").await.unwrap(), "b");
    world.pond.units().compensations().register("known elsewhere", |_: StepToUndo| async { Ok(()) });
    assert_eq!(world.pond.units().recover().await.unwrap().undone.len(), 1);
    assert_eq!(world.objects().await.len(), 1);
}
