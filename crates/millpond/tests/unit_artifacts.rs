//! Units that write artifacts, records and events, and do steps outside: all of it, or none.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millpond::{
    ArtifactFilter, Body, CollectRequest, Document as _, Error, ErrorKind, ManualHost, NewArtifact, NewRun, OpenOptions,
    OperationStatus, Pond, Query, StepToUndo, Timestamp, UNITS_JOB, UnitFilter, UnitInfo, UnitState,
};
use millpond_objects::{Folder, Objects as _};
use serde_json::json;

struct World {
    place: tempfile::TempDir,
    host: Arc<ManualHost>,
    pond: Pond,
}

async fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let host = Arc::new(ManualHost::at(Timestamp::parse("2026-01-05T09:00:00Z").unwrap()));
    let url = place.path().join("store").display().to_string();
    let pond = OpenOptions::new().host(Arc::<ManualHost>::clone(&host)).open(&url).await.unwrap();
    World { place, host, pond }
}

impl World {
    async fn count(&self, collection: &str) -> u64 {
        self.pond.store().count(Query::new(collection).unwrap()).await.unwrap()
    }

    async fn objects(&self) -> usize {
        let root = self.place.path().join("store/objects").join(self.pond.store().store_id());
        Folder::new(root).unwrap().list(None, 10_000).await.unwrap().len()
    }

    async fn states(&self) -> Vec<UnitState> {
        let page = self.pond.units().list(&UnitFilter::default()).await.unwrap();
        page.items.into_iter().map(|unit| unit.value.state).collect()
    }

    async fn write(&self, key: &str, text: &'static str) {
        self.pond.artifacts().write(key, text, NewArtifact::default()).await.unwrap();
    }

    async fn read(&self, key: &str) -> Option<Bytes> {
        match self.pond.artifacts().read(key).await {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_unit_sees_its_own_writes_and_others_see_before_or_after() {
    let world = world().await;
    world.write("a/kept", "old").await;
    world.write("a/gone", "old").await;
    let run = world.pond.runs().start(NewRun::of("etl", 1)).await.unwrap();
    let mut unit = world.pond.unit();
    let artifacts = unit.artifacts();
    artifacts.put("a/kept", "new").provenance(&run, "fetch").await.unwrap();
    artifacts.put("a/more", "more").await.unwrap();
    assert!(artifacts.delete("a/gone").await.unwrap());
    assert!(!artifacts.delete("a/gone").await.unwrap());
    artifacts.copy("a/more", "b/copy").await.unwrap();
    unit.events(run.stream()).append("page.fetched", &json!({"n": 1}));
    unit.checkpoints(run.id()).save(&json!({"next": 2}));

    let own: Vec<_> = artifacts.list("a/", 9, None).await.unwrap().into_iter().map(|a| a.key).collect();
    assert_eq!(own, ["a/kept", "a/more"]);
    assert_eq!(artifacts.list("a/", 9, Some("a/kept")).await.unwrap().len(), 1);
    assert_eq!(artifacts.read("a/kept").await.unwrap(), "new");
    assert_eq!(artifacts.read("b/copy").await.unwrap(), "more");
    assert_eq!(artifacts.read("a/gone").await.unwrap_err().kind(), ErrorKind::NotFound);
    let seen = [world.read("a/kept").await, world.read("a/gone").await, world.read("a/more").await];
    assert_eq!(seen, [Some("old".into()), Some("old".into()), None]);

    unit.commit().await.unwrap();
    let seen = [world.read("a/kept").await, world.read("a/gone").await, world.read("b/copy").await];
    assert_eq!(seen, [Some("new".into()), None, Some("more".into())]);
    let info = world.pond.artifacts().info("a/kept").await.unwrap().unwrap().value;
    assert_eq!(info.provenance.execution.as_deref(), Some(run.id()));
    assert_eq!((world.count("artifact_claims").await, world.count("checkpoints").await), (0, 1));
    let copy = world.pond.artifacts().info("b/copy").await.unwrap().unwrap().value;
    assert_eq!(copy.original_key.as_deref(), Some("a/more"));
}

/// The pre-image of a path is the committed one, whatever a unit did with it in between.
#[tokio::test]
async fn several_operations_on_one_path_are_undone_and_done_as_one() {
    let world = world().await;
    for (steps, after) in [
        (&["put", "delete"][..], None),
        (&["delete", "put"], Some("v2")),
        (&["put", "put"], Some("v2")),
        (&["delete", "put", "delete"], None),
    ] {
        for commits in [false, true] {
            world.write("f", "v1").await;
            let mut unit = world.pond.unit();
            let artifacts = unit.artifacts();
            for step in steps {
                match *step {
                    "put" => drop(artifacts.put("f", "v2").await.unwrap()),
                    _ => assert!(artifacts.delete("f").await.unwrap()),
                }
            }
            if commits {
                drop(unit.commit().await.unwrap())
            } else {
                unit.rollback().await.unwrap()
            }
            let expected = if commits { after } else { Some("v1") };
            assert_eq!(world.read("f").await, expected.map(Bytes::from), "{steps:?}, committed: {commits}");
        }
    }
    assert_eq!(world.count("artifact_claims").await, 0);
}

#[tokio::test]
async fn another_unit_on_the_path_is_told_who_has_it_or_waits() {
    let world = world().await;
    let mut first = world.pond.unit();
    first.by("anna");
    first.artifacts().put("p", "first").await.unwrap();
    let mut second = world.pond.unit();
    let told = second.artifacts().put("p", "second").await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Conflict, "{told}");
    assert!(told.context().any(|(name, _)| name == "holder"), "{told:?}");
    // The refused path is no part of it: the rest of the unit can be committed.
    second.artifacts().put("q", "second").await.unwrap();
    second.commit().await.unwrap();
    assert_eq!((world.read("p").await, world.read("q").await), (None, Some("second".into())));

    let mut waiting = world.pond.unit();
    waiting.wait(Duration::from_secs(20));
    let waits = waiting.artifacts();
    let put = tokio::spawn(async move { waits.put("p", "third").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!put.is_finished());
    first.commit().await.unwrap();
    put.await.unwrap().unwrap();
    assert_eq!(world.read("p").await.unwrap(), "first");
    waiting.commit().await.unwrap();
    assert_eq!(world.read("p").await.unwrap(), "third");
}

#[tokio::test]
async fn conditions_are_checked_by_the_deciding_commit_too() {
    let world = world().await;
    world.write("k", "v1").await;
    let artifacts = world.pond.artifacts();
    let exists = artifacts.write("k", "v2", NewArtifact::default().create()).await.unwrap_err();
    assert_eq!(exists.kind(), ErrorKind::Conflict);
    let revision = artifacts.info("k").await.unwrap().unwrap().revision;
    let at = |revision| NewArtifact { only: millpond::Only::Revision(revision), ..NewArtifact::default() };
    assert!(artifacts.write("k", "v2", at(revision + 1)).await.unwrap_err().is_conflict());
    artifacts.write("k", "v2", at(revision)).await.unwrap();
    assert_eq!(world.read("k").await.unwrap(), "v2");
    // A unit whose other part does not hold leaves nothing.
    let mut unit = world.pond.unit();
    unit.artifacts().put("k", "v3").await.unwrap();
    unit.expect(millpond::Expectation::StreamAt("s".parse().unwrap(), 7));
    assert!(unit.commit().await.unwrap_err().is_conflict());
    assert_eq!((world.read("k").await.unwrap(), world.objects().await), ("v2".into(), 2));
}

#[tokio::test]
async fn a_stream_is_written_and_read_in_pieces_and_an_error_in_it_leaves_nothing() {
    let world = world().await;
    let artifacts = world.pond.artifacts();
    let piece = Bytes::from((0..300_000).map(|n: usize| (n * n % 251) as u8).collect::<Vec<_>>());
    let pieces = |n| futures_util::stream::iter(vec![piece.clone(); n]);
    use futures_util::StreamExt as _;
    let written = artifacts.write("s", Body::stream(pieces(30).map(Ok)), NewArtifact::default()).await.unwrap();
    assert_eq!(written.length, 9_000_000);
    let mut reader = artifacts.reader("s", Some(299_999..8_999_999)).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    assert_eq!(all, piece.repeat(30)[299_999..8_999_999]);
    assert_eq!(artifacts.read_range("s", 300_000..300_007).await.unwrap(), piece.slice(..7));
    let broken = pieces(9).map(Ok).chain(futures_util::stream::iter([Err(Error::unavailable("the source is gone"))]));
    let error = artifacts.write("s", Body::stream(broken), NewArtifact::default()).await.unwrap_err();
    assert!(error.to_string().contains("the source is gone"), "{error}");
    assert_eq!((artifacts.info("s").await.unwrap().unwrap().value.sha256, world.objects().await), (written.sha256, 1));
}

fn counting(world: &World, name: &str, fails: u32) -> Arc<AtomicU32> {
    let calls = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&calls);
    world.pond.units().compensations().register(name, move |_: StepToUndo| {
        let call = seen.fetch_add(1, Ordering::SeqCst);
        async move { if call < fails { Err(Error::unavailable("not yet")) } else { Ok(()) } }
    });
    calls
}

#[tokio::test]
async fn steps_outside_are_undone_in_reverse_and_only_if_the_unit_does_not_happen() {
    let world = world().await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    world.pond.units().compensations().register("drop", move |step: StepToUndo| {
        seen.lock().unwrap().push(step.args["table"].as_str().unwrap().to_owned());
        async { Ok(()) }
    });
    for commits in [true, false] {
        let mut unit = world.pond.unit();
        for table in ["t1", "t2", "t3"] {
            unit.step("create table", "drop", &json!({"table": table})).await.unwrap();
        }
        let id = unit.unit_id().unwrap().to_owned();
        if commits {
            drop(unit.commit().await.unwrap())
        } else {
            unit.rollback().await.unwrap()
        }
        let unit = world.pond.units().get(&id).await.unwrap().unwrap();
        let expected = if commits { OperationStatus::Done } else { OperationStatus::Compensated };
        assert!(unit.operations.iter().all(|o| o.status == expected), "{unit:?}");
        assert_eq!(order.lock().unwrap().len(), if commits { 0 } else { 3 });
    }
    assert_eq!(*order.lock().unwrap(), ["t3", "t2", "t1"]);
}

#[tokio::test]
async fn a_compensation_that_fails_is_tried_again_and_ends_with_a_person() {
    let world = world().await;
    let calls = counting(&world, "flaky", 2);
    let mut unit = world.pond.unit();
    unit.step("call", "flaky", &json!({})).await.unwrap();
    unit.rollback().await.unwrap();
    assert_eq!((calls.load(Ordering::SeqCst), world.states().await), (3, vec![UnitState::Aborted]));

    world.host.advance(Duration::from_secs(1));
    let calls = counting(&world, "broken", 7);
    let mut unit = world.pond.unit();
    unit.step("first", "flaky", &json!({})).await.unwrap();
    unit.step("call", "broken", &json!({"n": 1})).await.unwrap();
    let id = unit.unit_id().unwrap().to_owned();
    let told = unit.rollback().await.unwrap_err();
    assert!(told.kind() == ErrorKind::Unavailable && told.to_string().contains(&id), "{told}");
    assert_eq!((calls.load(Ordering::SeqCst), world.states().await[0]), (5, UnitState::Failed));
    let found = world.pond.units().get(&id).await.unwrap().unwrap();
    assert_eq!(
        found.operations.iter().map(|o| o.status).collect::<Vec<_>>(),
        [OperationStatus::Pending, OperationStatus::Failed]
    );
    let letters = world.pond.dead_letters().list(&millpond::DeadLetterFilter::all().job(UNITS_JOB)).await.unwrap().items;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].value.item.item_data["next"].as_str().unwrap().contains(&id));
    // Recovery leaves it to a person, who tries again.
    assert_eq!(world.pond.units().recover().await.unwrap().undone, [""; 0]);
    assert_eq!(world.pond.units().resume(&id).await.unwrap(), UnitState::Aborted);
    assert_eq!(calls.load(Ordering::SeqCst), 8);
    let pending = millpond::DeadLetterFilter::all().state(millpond::DeadLetterState::Pending);
    assert_eq!(world.pond.dead_letters().list(&pending).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn a_step_that_this_program_cannot_undo_waits_for_one_that_can() {
    let world = world().await;
    let mut unit = world.pond.unit();
    unit.artifacts().put("k", "staged").await.unwrap();
    unit.step("call", "elsewhere", &json!({})).await.unwrap();
    let id = unit.unit_id().unwrap().to_owned();
    let told = unit.rollback().await.unwrap_err();
    assert!(told.kind() == ErrorKind::Unsupported && told.to_string().contains("elsewhere"), "{told}");
    assert_eq!(world.states().await, [UnitState::Aborting]);
    assert_eq!(world.pond.units().recover().await.unwrap().needing, [(id.clone(), "elsewhere".to_owned())]);
    let told = world.pond.units().abort(&id, "please").await.unwrap_err();
    assert!(told.kind() == ErrorKind::Unsupported && told.to_string().contains("elsewhere"), "{told}");
    // Its path is free meanwhile.
    world.write("k", "other").await;
    let calls = counting(&world, "elsewhere", 0);
    assert_eq!(world.pond.units().recover().await.unwrap().undone, [id]);
    assert_eq!((calls.load(Ordering::SeqCst), world.objects().await), (1, 1));
}

#[tokio::test]
async fn what_nobody_names_is_collected_and_nothing_else() {
    let world = world().await;
    world.write("a", "v1").await;
    world.write("a", "v2").await;
    // Superseded within its unit: nobody names the first bytes.
    let mut unit = world.pond.unit();
    unit.artifacts().put("b", "never seen").await.unwrap();
    unit.artifacts().put("b", "seen").await.unwrap();
    unit.commit().await.unwrap();
    // Of a unit that nobody knows, as after a restore.
    let root = world.place.path().join("store/objects").join(world.pond.store().store_id());
    let stray = millpond_objects::Location::new(millpond::uuid_v7(world.pond.store().host()), 1);
    Folder::new(&root).unwrap().put(&stray, "stray".into(), None).await.unwrap();
    let mut live = world.pond.unit();
    live.artifacts().put("c", "live").await.unwrap();

    let ask = |remove| CollectRequest { remove, grace: Duration::from_secs(3_600) };
    let early = world.pond.units().collect(&ask(true)).await.unwrap();
    assert_eq!((early.objects, early.unused), (6, 0), "within the grace everything stays");
    // Two hours later the live unit is still renewed.
    let lease = format!("units/{}", live.unit_id().unwrap());
    for _ in 0..12 {
        let held = world.pond.locks().info(&lease).await.unwrap().unwrap();
        let held = world.pond.locks().resume(&lease, held.lease.token).await.unwrap();
        world.pond.locks().renew(&held, Duration::from_secs(900)).await.unwrap();
        world.host.advance(Duration::from_secs(600));
    }
    let told = world.pond.units().collect(&ask(false)).await.unwrap();
    // What its unit superseded is known to be nobody's; the stray one may be of a unit that is still to be known.
    assert_eq!((told.unused, told.removed, told.units.left.len()), (1, 0, 1), "the floor waits for the live unit: {told:?}");
    live.commit().await.unwrap();
    let told = world.pond.units().collect(&ask(false)).await.unwrap();
    assert_eq!((told.unused, told.removed), (2, 0), "{told:?}");
    let done = world.pond.units().collect(&ask(true)).await.unwrap();
    assert_eq!((done.unused, done.removed, world.objects().await), (2, 2, 4));
    for (key, text) in [("a", "v2"), ("b", "seen"), ("c", "live")] {
        assert_eq!(world.read(key).await.unwrap(), text);
    }
    // Below the floor nothing begins: such an id comes from a clock that is behind.
    world.host.set(Timestamp::parse("2026-01-05T09:00:00Z").unwrap());
    let late = world.pond.artifacts().write("d", "late", NewArtifact::default()).await.unwrap_err();
    assert!(late.to_string().contains("older than what the collector"), "{late}");
    let compared = world.pond.units().reconcile(10).await;
    assert!(compared.is_ok(), "{compared:?}");
}

#[tokio::test]
async fn events_of_artifacts_are_in_the_commit_that_writes_them() {
    let world = world().await;
    let mut unit = world.pond.unit();
    unit.artifacts().put("executions/e1/crawl/fetch/m1.html", "<p>").await.unwrap();
    unit.artifacts().put("loose", "x").await.unwrap();
    unit.commit().await.unwrap();
    world.pond.artifacts().delete("executions/e1/crawl/fetch/m1.html").await.unwrap();
    let events =
        world.pond.store().events(millpond::EventQuery::new(millpond::EventFilter::streams("artifacts/"))).await.unwrap();
    let events: Vec<_> =
        events.items.iter().map(|e| (e.stream.as_str().to_owned(), e.kind.clone(), e.labels.get("stage").cloned())).collect();
    let of = |stream: &str, kind: &str, stage: Option<&str>| (stream.to_owned(), kind.to_owned(), stage.map(str::to_owned));
    assert_eq!(
        events,
        [
            of("artifacts/executions/e1", "artifact.written", Some("fetch")),
            of("artifacts/other", "artifact.written", None),
            of("artifacts/executions/e1", "artifact.deleted", Some("fetch")),
        ]
    );
    let filter = ArtifactFilter::execution("e1");
    assert_eq!(world.pond.artifacts().list(&filter).await.unwrap().items.len(), 0);
    assert_eq!(world.count(UnitInfo::COLLECTION.name()).await, 2);
}

#[tokio::test]
async fn a_checkpoint_too_large_for_records_is_an_object_and_goes_with_its_record() {
    let world = world().await;
    let checkpoints = world.pond.checkpoints();
    let scope = millpond::Scope::Run("r".to_owned());
    let text = "\"quoted\" ".repeat(1_000_000);
    let saved = checkpoints.save(&scope, &json!({"text": text})).await.unwrap();
    assert!(saved.object.is_some() && saved.chunks == 0 && saved.size > 9_000_000, "{saved:?}");
    let bytes: Vec<u8> = (0..7_000_000).map(|n: usize| (n * n % 251) as u8).collect();
    checkpoints.save_new(&scope, millpond::NewCheckpoint::bytes(bytes.clone()).note("large")).await.unwrap();
    assert_eq!(checkpoints.load(&scope, 1).await.unwrap().unwrap().json::<serde_json::Value>().unwrap()["text"], text);
    assert_eq!(checkpoints.latest(&scope).await.unwrap().unwrap().payload, millpond::Payload::Bytes(bytes.clone()));

    // In a unit, with a rollback and with a commit, beside a small one.
    for commits in [false, true] {
        let mut unit = world.pond.unit();
        unit.checkpoints(&scope).save_new(millpond::NewCheckpoint::bytes(vec![7; 6_500_000]));
        unit.checkpoints(&scope).save(&json!({"small": true}));
        unit.events("s").append("saved", &json!({}));
        if !commits {
            unit.expect(millpond::Expectation::StreamAt("s".parse().unwrap(), 9));
        }
        assert_eq!(unit.commit().await.is_ok(), commits);
    }
    assert_eq!((checkpoints.list(&scope, 9, None).await.unwrap().items.len(), world.objects().await), (4, 3));

    // What is restored is an object of its own.
    let restored = checkpoints.restore(&scope, 2).await.unwrap();
    assert!(restored.object.is_some() && restored.object != checkpoints.load(&scope, 2).await.unwrap().unwrap().info.object);
    assert_eq!(checkpoints.keep_newest(&scope, 1).await.unwrap(), 4);
    world.host.advance(Duration::from_secs(7_200));
    let collected = world.pond.units().collect(&CollectRequest { remove: true, ..CollectRequest::default() }).await.unwrap();
    assert_eq!((collected.removed, world.objects().await), (3, 1));
    assert_eq!(checkpoints.latest(&scope).await.unwrap().unwrap().payload, millpond::Payload::Bytes(bytes));

    let root = world.place.path().join("store/objects").join(world.pond.store().store_id());
    std::fs::remove_file(root.join(restored.object.unwrap())).unwrap();
    let gone = checkpoints.latest(&scope).await.unwrap_err();
    assert!(gone.kind() == ErrorKind::Corrupt && gone.context().any(|(name, _)| name == "expected_sha256"), "{gone:?}");
    assert_eq!(checkpoints.delete_all(&scope).await.unwrap(), 1);
    assert_eq!(world.count("payload_objects").await, 0);
}

#[tokio::test]
async fn a_dead_letter_too_large_for_its_record_keeps_its_data_as_an_object() {
    let world = world().await;
    let letters = world.pond.dead_letters();
    let failure = |n| {
        let at = Timestamp::parse("2026-01-05T08:00:00Z").unwrap().plus(Duration::from_secs(n));
        millpond::FailureDetail::of(at, millpond::ErrorType::Timeout, format!("attempt {n}"))
    };
    let data = |n: u64| json!({"page": "x".repeat(3_000_000), "n": n});
    let item = |n| millpond::DeadLetteredItem::of("i1", data(n), failure(n));
    letters.add("etl", item(1)).await.unwrap();
    assert_eq!(letters.get("etl", "i1").await.unwrap().unwrap().value.item.item_data, data(1));
    // The same failures again change nothing, others bring their data.
    letters.add("etl", item(1)).await.unwrap();
    letters.add("etl", item(2)).await.unwrap();
    let listed = letters.list(&millpond::DeadLetterFilter::all()).await.unwrap().items;
    assert_eq!((listed.len(), &listed[0].value.item.item_data), (1, &data(2)));
    let claims = letters.claim(&millpond::ClaimRequest::of("w", 1, Duration::from_secs(60))).await.unwrap();
    assert_eq!(claims[0].letter.item.item_data, data(2));
    letters.complete(&claims[0]).await.unwrap();
    assert_eq!(letters.get("etl", "i1").await.unwrap().unwrap().value.item.item_data, data(2));
    world.host.advance(Duration::from_secs(7_200));
    let purge = millpond::PurgeRequest::older_than(world.pond.store().now());
    assert_eq!(letters.purge(&purge).await.unwrap().deleted, 1);
    let collected = world.pond.units().collect(&CollectRequest { remove: true, ..CollectRequest::default() }).await.unwrap();
    assert_eq!((world.objects().await, world.count("payload_objects").await), (0, 0), "{collected:?}");
}
