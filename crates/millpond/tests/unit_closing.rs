//! What happens beside the decision of a unit, and what happens again after it.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "support/hooked.rs"]
mod hooked;

use std::future::IntoFuture;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hooked::{Doing, World, world};
use millpond::{
    CollectRequest, Error, ErrorKind, NewArtifact, Only, Query, STEP_ARGS_BYTES, Unit, UnitArtifacts, UnitFilter, UnitState,
};
use millpond_objects::Memory;
use serde_json::json;
use tokio::sync::Semaphore;

/// Bytes that begin with "late" wait until the gate opens.
fn gate(world: &World) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    world.place.before(move |doing, _| {
        let gate = Arc::clone(&waits);
        async move {
            if matches!(doing, Doing::Put(bytes) if bytes.starts_with(b"late")) {
                drop(gate.acquire().await);
            }
            Ok(())
        }
    });
    gate
}

fn put(artifacts: &UnitArtifacts, key: &str, text: &'static str) -> tokio::task::JoinHandle<millpond::Result<()>> {
    let put = artifacts.put(key, text);
    tokio::spawn(async move { put.await.map(drop) })
}

/// A unit that has the path `p`, and one that would wait for it.
async fn before_a_taken_path(world: &World) -> (Unit, Unit) {
    let mut first = world.pond.unit();
    first.artifacts().put("p", "first").await.unwrap();
    let mut unit = world.pond.unit();
    unit.wait(Duration::from_secs(600));
    (first, unit)
}

#[tokio::test]
async fn a_put_that_the_decision_did_not_wait_for_hears_so_and_is_no_part_of_it() {
    for commits in [true, false] {
        let world = world().await;
        let gate = gate(&world);
        let mut unit = world.pond.unit();
        let artifacts = unit.artifacts();
        artifacts.put("kept", "kept").await.unwrap();
        let id = unit.unit_id().unwrap().to_owned();
        let late = put(&artifacts, "late", "late bytes");
        world.registered(&id, 2).await;
        if commits {
            drop(unit.commit().await.unwrap());
        } else {
            unit.rollback().await.unwrap();
        }
        gate.add_permits(1);
        let told = late.await.unwrap().unwrap_err();
        assert!(told.kind() == ErrorKind::Fenced && told.to_string().contains(&id), "{told}");
        // Nor is anything later.
        let copied = artifacts.copy("kept", "copy").await.map(drop);
        for later in [artifacts.put("more", "more").await.map(drop), artifacts.delete("kept").await.map(drop), copied] {
            let told = later.unwrap_err();
            assert!(told.kind() == ErrorKind::Fenced || told.is_not_found(), "{told}");
        }
        let read = world.pond.artifacts().read("late").await.unwrap_err();
        assert!(read.is_not_found(), "{read}");
        let operations = world.operations(&id).await;
        if commits {
            let because = "its unit was decided before it was finished".to_owned();
            assert_eq!(operations, [("kept".into(), "DONE", None), ("late".into(), "FAILED", Some(because))]);
        } else {
            assert_eq!(operations, [("kept".into(), "COMPENSATED", None), ("late".into(), "COMPENSATED", None)]);
        }
        assert_eq!(world.count("artifact_claims").await, 0);
        // What it wrote is found by the collector, and nothing else is.
        world.host.advance(Duration::from_secs(7_200));
        let all = CollectRequest { remove: true, ..CollectRequest::default() };
        assert_eq!(world.pond.units().collect(&all).await.unwrap().removed, 1);
        assert_eq!(world.objects().await.len(), usize::from(commits));
    }
}

/// A claim that waits for somebody else's path does not keep the decision waiting either.
#[tokio::test]
async fn an_operation_that_waits_for_a_path_does_not_hold_up_the_commit() {
    let world = world().await;
    let (first, mut unit) = before_a_taken_path(&world).await;
    let artifacts = unit.artifacts();
    artifacts.put("q", "second").await.unwrap();
    let waits = put(&artifacts, "p", "second");
    // Enough for it to find the path taken; if not, it hears that it came too late, as it should.
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::time::timeout(Duration::from_secs(30), unit.commit()).await.expect("it does not wait").unwrap();
    assert!(waits.await.unwrap().unwrap_err().is_conflict());
    first.rollback().await.unwrap();
    assert_eq!(world.pond.artifacts().read("q").await.unwrap(), "second");
    assert!(world.pond.artifacts().read("p").await.unwrap_err().is_not_found());
    assert_eq!(world.count("artifact_claims").await, 0);
}

#[tokio::test]
async fn what_brought_nothing_is_shown_as_failed_with_the_reason() {
    let world = world().await;
    world.place.before(|doing, _| async move {
        match doing {
            Doing::Put(bytes) if bytes == "bad" => Err(Error::unavailable("the disk is full ".repeat(1_000))),
            _ => Ok(()),
        }
    });
    let mut unit = world.pond.unit();
    let artifacts = unit.artifacts();
    artifacts.put("good", "good").await.unwrap();
    artifacts.put("bad", "bad").await.unwrap_err();
    artifacts.put("good", "again").create().await.unwrap_err();
    assert!(!artifacts.delete("none").await.unwrap());
    let id = unit.unit_id().unwrap().to_owned();
    unit.commit().await.unwrap();
    let operations = world.operations(&id).await;
    let stand: Vec<_> = operations.iter().map(|(path, status, _)| (path.as_str(), *status)).collect();
    assert_eq!(stand, [("good", "DONE"), ("bad", "FAILED"), ("good", "FAILED"), ("none", "DONE")]);
    let reason = operations[1].2.as_deref().unwrap();
    assert!(reason.starts_with("the disk is full") && reason.len() <= 1_024, "{reason}");
    assert!(operations[2].2.as_deref().unwrap().contains("already"), "{operations:?}");
    assert_eq!(world.pond.artifacts().read("good").await.unwrap(), "good");
}

#[tokio::test]
async fn a_unit_that_was_committed_is_repeated_without_being_done_again() {
    let world = world().await;
    let artifacts = world.pond.artifacts();
    for key in ["gone", "moved"] {
        artifacts.write(key, key, millpond::NewArtifact::default()).await.unwrap();
    }
    let id = world.pond.store().new_commit_id();
    let mut receipts = Vec::new();
    let mut before = None;
    for _ in 0..2 {
        let mut unit = world.pond.unit();
        unit.id(id).by("anna");
        let own = unit.artifacts();
        // A copy whose source goes: the first thing that a repetition could stumble on.
        assert_eq!(own.copy("moved", "here").await.unwrap().length, 5);
        assert!(own.delete("moved").await.unwrap());
        assert_eq!(own.put("k", "first").create().await.unwrap().length, 5);
        assert_eq!(own.read("k").await.unwrap(), "first");
        assert!(own.delete("gone").await.unwrap());
        unit.step("call", "undo", &json!({})).await.unwrap();
        unit.events("s").append("done", &json!({}));
        receipts.push(unit.commit().await.unwrap());
        let (objects, operations) = (world.objects().await, world.operations(&id.to_string()).await);
        assert!(operations.iter().all(|(_, status, _)| *status == "DONE"), "{operations:?}");
        let now = (objects, operations, world.count("artifact_versions").await, world.states().await.len());
        assert_eq!(*before.get_or_insert_with(|| now.clone()), now, "what is there after the first and after the second");
    }
    assert!(!receipts[0].replayed && receipts[1].replayed);
    assert_eq!(receipts[0].position, receipts[1].position);
    // It cannot be rolled back any more, and says so.
    let mut unit = world.pond.unit();
    unit.id(id);
    unit.artifacts().put("k", "other").await.unwrap();
    assert_eq!(unit.rollback().await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(artifacts.read("k").await.unwrap(), "first");
    assert_eq!(artifacts.read("here").await.unwrap(), "moved");
}

#[tokio::test]
async fn an_id_that_is_taken_by_a_unit_that_was_not_committed_is_refused_with_its_name() {
    let world = world().await;
    let id = world.pond.store().new_commit_id();
    let mut first = world.pond.unit();
    first.id(id).by("anna");
    first.artifacts().put("k", "first").await.unwrap();
    let again = async || {
        let mut second = world.pond.unit();
        second.id(id);
        let told = second.artifacts().put("k", "second").await.unwrap_err();
        assert!(told.kind() == ErrorKind::Conflict && told.to_string().contains(&id.to_string()), "{told}");
        told.to_string()
    };
    let told = again().await;
    assert!(told.contains("anna") && told.contains("not decided yet"), "{told}");
    first.rollback().await.unwrap();
    let told = again().await;
    assert!(told.contains("was aborted: it was rolled back") && told.contains("new id"), "{told}");
    assert_eq!(world.objects().await, [""; 0]);
}

#[tokio::test]
async fn what_is_said_after_the_first_artifact_is_refused() {
    let world = world().await;
    let id = world.pond.store().new_commit_id();
    for what in ["id", "by", "wait"] {
        let mut unit = world.pond.unit();
        unit.artifacts().put("k", "v").await.unwrap();
        match what {
            "id" => unit.id(id),
            "by" => unit.by("anna"),
            _ => unit.wait(Duration::from_secs(1)),
        };
        let told = unit.commit().await.unwrap_err();
        assert!(told.kind() == ErrorKind::Invalid && told.to_string().contains(what), "{told}");
    }
    assert_eq!((world.objects().await.len(), world.count("artifacts").await), (0, 0));
}

#[tokio::test]
async fn steps_have_room_for_what_a_person_could_read() {
    let world = world().await;
    let mut unit = world.pond.unit();
    unit.step("fits", "undo", &"x".repeat(STEP_ARGS_BYTES - 2)).await.unwrap();
    let told = unit.step("call", "undo", &"x".repeat(STEP_ARGS_BYTES - 1)).await.unwrap_err();
    assert!(told.kind() == ErrorKind::Invalid && told.to_string().contains("65536"), "{told}");
    let long = "x".repeat(3_000);
    for (step, compensation) in [(long.as_str(), "undo"), ("call", long.as_str())] {
        assert_eq!(unit.step(step, compensation, &1).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    // What was refused is no part of it.
    let id = unit.unit_id().unwrap().to_owned();
    unit.commit().await.unwrap();
    assert_eq!(world.operations(&id).await, [("fits".to_owned(), "DONE", None)]);
}

/// A condition that names a revision is about what is committed, which a repetition has changed already.
#[tokio::test]
async fn a_repeated_put_does_not_ask_its_condition_again() {
    let world = world().await;
    let artifacts = world.pond.artifacts();
    artifacts.write("k", "v1", millpond::NewArtifact::default()).await.unwrap();
    let revision = artifacts.info("k").await.unwrap().unwrap().revision;
    let id = world.pond.store().new_commit_id();
    for _ in 0..2 {
        let mut unit = world.pond.unit();
        unit.id(id);
        let new = millpond::NewArtifact { only: Only::Revision(revision), ..millpond::NewArtifact::default() };
        unit.artifacts().put("k", "v2").with(new).await.unwrap();
        unit.commit().await.unwrap();
    }
    assert_eq!(artifacts.read("k").await.unwrap(), "v2");
}

#[tokio::test]
async fn a_rollback_settles_what_is_on_its_way_to_begin_the_unit() {
    // On a file a commit takes a while, so that most of these leave the first operation on its way.
    for polls in [1, 2, 3, 4, 5, 6, 7, 8, 16, 32] {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("p.db").display().to_string();
        let pond = millpond::open(&store).await.unwrap().with_objects(Arc::new(Memory::new()));
        // The place is known from here on.
        pond.artifacts().write("other", "bytes", NewArtifact::default()).await.unwrap();
        let mut unit = pond.unit();
        let artifacts = unit.artifacts();
        let mut putting = Box::pin(artifacts.put("k", "bytes").into_future());
        let mut done = None;
        for _ in 0..polls {
            if let Poll::Ready(put) = std::future::poll_fn(|cx| Poll::Ready(putting.as_mut().poll(cx))).await {
                done = Some(put);
                break;
            }
            tokio::task::yield_now().await;
        }
        let put = async {
            match done {
                Some(put) => put,
                None => putting.await,
            }
        };
        let (put, rolled_back) = tokio::join!(put, unit.rollback());
        rolled_back.unwrap();
        assert!(put.is_ok() || put.is_err_and(|told| told.kind() == ErrorKind::Fenced), "after {polls} polls");
        // Though a clone of its artifacts lives on.
        assert_eq!(pond.store().count(Query::new("artifact_claims").unwrap()).await.unwrap(), 0, "after {polls} polls");
        let units = pond.units().list(&UnitFilter::default()).await.unwrap().items;
        assert!(units.iter().all(|unit| unit.value.state != UnitState::Pending), "after {polls} polls: {units:?}");
        drop(artifacts);
    }
}

/// Catches a unit that lives on, and keeps its paths, as long as somebody holds a clone of its artifacts.
#[tokio::test]
async fn a_unit_that_is_dropped_is_undone_though_a_clone_of_its_artifacts_lives_on() {
    let world = world().await;
    let mut unit = world.pond.unit();
    let artifacts = unit.artifacts();
    artifacts.put("a", "staged").await.unwrap();
    let id = unit.unit_id().unwrap().to_owned();
    drop(unit);
    assert_eq!(artifacts.put("b", "late").await.unwrap_err().kind(), ErrorKind::Fenced);
    let undone = async {
        while world.states().await != [UnitState::Aborted] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), undone).await.unwrap();
    assert_eq!((world.count("artifact_claims").await, world.objects().await.len()), (0, 0));
    let told = world.pond.units().get(&id).await.unwrap().unwrap();
    assert_eq!(told.unit.reason.as_deref(), Some("it was given up"));
}

/// Catches a first operation that waits for its path when the unit is dropped, and begins it afterwards.
#[tokio::test]
async fn a_unit_that_is_dropped_while_its_first_operation_waits_is_not_begun_afterwards() {
    let world = world().await;
    let (first, mut unit) = before_a_taken_path(&world).await;
    let artifacts = unit.artifacts();
    let mut waits = Box::pin(artifacts.put("p", "second").into_future());
    // It finds the path taken, and sleeps.
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waits).await.is_err(), "the path is another's");
    drop(unit);
    first.rollback().await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(60), waits).await.expect("it does not wait on").unwrap_err();
    assert!(matches!(told.kind(), ErrorKind::Fenced | ErrorKind::Conflict), "{told}");
    // Though a clone of its artifacts lives on. A machine so slow that it was not asleep yet begins it, and undoes it.
    let over = async {
        while world.count("artifact_claims").await > 0 || world.states().await.iter().any(|state| *state != UnitState::Aborted) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), over).await.expect("nothing of it is left");
    drop(artifacts);
}
