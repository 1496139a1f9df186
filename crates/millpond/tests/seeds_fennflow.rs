//! What goes wrong in FennFlow 0.8.1, each found there by running it, and does not go wrong here. F1 to F16 are the
//! numbers under which these findings are known.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "support/failing.rs"]
mod failing;

use std::sync::Arc;
use std::time::Duration;

use failing::{Commits, FailingEngine, FailingFolder, Writes};
use millpond::{
    ArtifactFilter, CollectRequest, ErrorKind, Front, ManualHost, Namespace, NewArtifact, OpenOptions, OperationStatus, Pond,
    Query, Store, Timestamp, UnitState,
};
use millpond_objects::{Folder, Objects as _};

struct World {
    place: tempfile::TempDir,
    host: Arc<ManualHost>,
    engine: Arc<FailingEngine>,
    bytes: Arc<FailingFolder>,
    pond: Pond,
}

async fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let host = Arc::new(ManualHost::at(Timestamp::parse("2026-01-05T09:00:00Z").unwrap()));
    let engine = OpenOptions::new().host(Arc::<ManualHost>::clone(&host)).engine("memory:").await.unwrap();
    let engine = FailingEngine::on(engine);
    let bytes = FailingFolder::on(Folder::new(place.path()).unwrap());
    let pond = pond(&engine, &bytes, Namespace::default()).await;
    World { place, host, engine, bytes, pond }
}

async fn pond(engine: &Arc<FailingEngine>, bytes: &Arc<FailingFolder>, namespace: Namespace) -> Pond {
    let front = Arc::new(Front::new(Arc::<FailingEngine>::clone(engine)));
    let store = Store::open(front, namespace).await.unwrap();
    Pond::new(store).await.unwrap().with_objects(Arc::<FailingFolder>::clone(bytes))
}

impl World {
    /// Another process on the same store and the same bytes.
    async fn other(&self) -> Pond {
        pond(&self.engine, &self.bytes, Namespace::default()).await
    }

    async fn write(&self, key: &str, text: &'static str) {
        self.pond.artifacts().write(key, text, NewArtifact::default()).await.unwrap();
    }

    async fn read(&self, key: &str) -> Option<String> {
        read(&self.pond, key).await
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let page = self.pond.artifacts().list(&ArtifactFilter::prefix(prefix)).await.unwrap();
        page.items.into_iter().map(|artifact| artifact.value.key).collect()
    }

    async fn objects(&self) -> usize {
        self.bytes.list(None, 1_000).await.unwrap().len()
    }

    async fn claims(&self) -> u64 {
        self.pond.store().count(Query::new("artifact_claims").unwrap()).await.unwrap()
    }

    /// A process that ends in the middle of a unit, after what it does. Nobody undoes anything for it.
    async fn dies_after(&self, key: &'static str, text: Option<&'static str>) {
        let pond = self.other().await;
        let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (done, doing) = tokio::sync::oneshot::channel();
        process.spawn(async move {
            let mut unit = pond.unit();
            match text {
                Some(text) => drop(unit.artifacts().put(key, text).await.unwrap()),
                None => assert!(unit.artifacts().delete(key).await.unwrap()),
            }
            done.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        doing.await.unwrap();
        process.shutdown_background();
    }
}

async fn read(pond: &Pond, key: &str) -> Option<String> {
    match pond.artifacts().read(key).await {
        Ok(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

/// There, a file of one name in two namespaces keeps one of them invisible after a clean commit.
#[tokio::test]
async fn f01_one_name_in_two_namespaces_is_two_artifacts() {
    let world = world().await;
    let mut unit = world.pond.unit();
    unit.artifacts().put("a/f.txt", "of a").await.unwrap();
    unit.artifacts().put("b/f.txt", "of b").await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!((world.read("a/f.txt").await, world.read("b/f.txt").await), (Some("of a".into()), Some("of b".into())));
    let [a, b] = ["aaa", "bbb"].map(|name| Namespace::new(name).unwrap());
    for (namespace, text) in [(&a, "of a"), (&b, "of b")] {
        millpond::Engine::create_namespace(&*world.engine, namespace).await.unwrap();
        let pond = pond(&world.engine, &world.bytes, namespace.clone()).await;
        let mut unit = pond.unit();
        unit.artifacts().put("f.txt", text).await.unwrap();
        unit.commit().await.unwrap();
    }
    for (namespace, text) in [(a, "of a"), (b, "of b")] {
        assert_eq!(read(&pond(&world.engine, &world.bytes, namespace).await, "f.txt").await.as_deref(), Some(text));
    }
}

/// There, put and delete in one session, rolled back, leave the new bytes committed.
#[tokio::test]
async fn f02_put_and_delete_rolled_back_leave_the_old() {
    let world = world().await;
    world.write("f", "v1").await;
    let mut unit = world.pond.unit();
    unit.artifacts().put("f", "v2").await.unwrap();
    assert!(unit.artifacts().delete("f").await.unwrap());
    unit.rollback().await.unwrap();
    assert_eq!((world.read("f").await.as_deref(), world.objects().await), (Some("v1"), 1));
}

/// There, delete and put in one session, rolled back, lose the old bytes.
#[tokio::test]
async fn f03_delete_and_put_rolled_back_leave_the_old() {
    let world = world().await;
    world.write("f", "v1").await;
    let mut unit = world.pond.unit();
    assert!(unit.artifacts().delete("f").await.unwrap());
    unit.artifacts().put("f", "v2").await.unwrap();
    unit.rollback().await.unwrap();
    assert_eq!((world.read("f").await.as_deref(), world.objects().await), (Some("v1"), 1));
}

/// There, a deletion whose commit fails because the database is gone has removed the file from both places.
#[tokio::test]
async fn f04_a_deletion_while_the_store_is_down_deletes_nothing() {
    let world = world().await;
    world.write("f", "v1").await;
    let mut unit = world.pond.unit();
    assert!(unit.artifacts().delete("f").await.unwrap());
    world.engine.next(Commits::Fail);
    assert_eq!(unit.commit().await.unwrap_err().kind(), ErrorKind::Unavailable);
    world.engine.next(Commits::Work);
    assert_eq!((world.read("f").await.as_deref(), world.objects().await), (Some("v1"), 1));
    // The unit could not even be undone then; whoever looks later does it.
    world.host.advance(Duration::from_secs(31));
    assert_eq!(world.pond.units().recover().await.unwrap().undone.len(), 1);
    assert_eq!((world.read("f").await.as_deref(), world.claims().await), (Some("v1"), 0));
}

/// There, a commit that fails once is rolled back without an error: the caller takes it for done.
#[tokio::test]
async fn f05_a_commit_that_fails_says_so_and_one_that_happened_is_known() {
    let world = world().await;
    let mut unit = world.pond.unit();
    unit.artifacts().put("f", "v1").await.unwrap();
    world.engine.next(Commits::FailOnce);
    assert_eq!(unit.commit().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((world.read("f").await, world.objects().await, world.claims().await), (None, 0, 0));
    // The other way round: it happened, and only the answer was lost.
    let mut unit = world.pond.unit();
    unit.artifacts().put("f", "v2").await.unwrap();
    let id = unit.unit_id().unwrap().to_owned();
    world.engine.next(Commits::AnswerLostOnce);
    let told = unit.commit().await;
    assert!(told.as_ref().is_ok() || told.as_ref().unwrap_err().kind() == ErrorKind::UnknownOutcome, "{told:?}");
    assert_eq!(world.read("f").await.as_deref(), Some("v2"));
    assert_eq!(world.pond.units().get(&id).await.unwrap().unwrap().unit.state, UnitState::Committed);
}

/// There, two sessions write one path at once without an error, and the last one wins.
#[tokio::test]
async fn f06_a_second_unit_on_a_path_is_told_who_has_it() {
    let world = world().await;
    let (mut first, other) = (world.pond.unit(), world.other().await);
    first.artifacts().put("f", "first").await.unwrap();
    let mut second = other.unit();
    let told = second.artifacts().put("f", "second").await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Conflict, "{told}");
    assert!(told.context().any(|(name, unit)| name == "unit" && Some(unit) == first.unit_id()), "{told:?}");
    first.commit().await.unwrap();
    second.artifacts().put("f", "second").await.unwrap();
    second.commit().await.unwrap();
    assert_eq!(world.read("f").await.as_deref(), Some("second"));
    assert_eq!(world.pond.artifacts().history("f", 9, None).await.unwrap().items.len(), 2);
}

/// There, of two sessions that create one path the one that rolls back deletes the file of the one that committed.
#[tokio::test]
async fn f07_a_rollback_never_touches_what_another_committed() {
    let world = world().await;
    let other = world.other().await;
    let (mut first, mut second) = (world.pond.unit(), other.unit());
    first.artifacts().put("f", "first").create().await.unwrap();
    assert_eq!(second.artifacts().put("f", "second").create().await.unwrap_err().kind(), ErrorKind::Conflict);
    first.commit().await.unwrap();
    assert_eq!(second.artifacts().put("f", "second").create().await.unwrap_err().kind(), ErrorKind::Conflict);
    second.rollback().await.unwrap();
    assert_eq!((world.read("f").await.as_deref(), world.objects().await, world.claims().await), (Some("first"), 1, 0));
}

/// There, a crash while a file is written over makes the old one invisible to everybody for ever.
#[tokio::test]
async fn f08_a_crash_while_writing_over_changes_nothing() {
    let world = world().await;
    world.write("f", "v1").await;
    world.dies_after("f", Some("v2")).await;
    assert_eq!((world.read("f").await.as_deref(), world.objects().await), (Some("v1"), 2));
    world.host.advance(Duration::from_secs(31));
    assert_eq!(world.pond.units().recover().await.unwrap().undone.len(), 1);
    assert_eq!((world.read("f").await.as_deref(), world.objects().await, world.claims().await), (Some("v1"), 1, 0));
    world.write("f", "v3").await;
    assert_eq!(world.read("f").await.as_deref(), Some("v3"));
}

/// There, a time-out on the way to writing over a file makes the rollback delete what was committed.
#[tokio::test]
async fn f09_a_time_out_and_a_rollback_leave_what_was_committed() {
    let world = world().await;
    world.write("f", "v1").await;
    world.bytes.meet("v2", Writes::TimeOut);
    let mut unit = world.pond.unit();
    assert_eq!(unit.artifacts().put("f", "v2").await.unwrap_err().kind(), ErrorKind::Unavailable);
    unit.rollback().await.unwrap();
    assert_eq!((world.read("f").await.as_deref(), world.objects().await, world.claims().await), (Some("v1"), 1, 0));
}

/// There, an error of the database before any byte moved makes the rollback delete what was committed.
#[tokio::test]
async fn f10_an_error_before_any_byte_moved_leaves_what_was_committed() {
    let world = world().await;
    world.write("f", "v1").await;
    for commits in [Commits::FailOnce, Commits::AnswerLostOnce] {
        let mut unit = world.pond.unit();
        world.engine.next(commits);
        let told = unit.artifacts().put("f", "v2").await;
        assert!(told.is_err() || commits == Commits::AnswerLostOnce, "{told:?}");
        unit.rollback().await.unwrap();
        assert_eq!((world.read("f").await.as_deref(), world.objects().await), (Some("v1"), 1), "{commits:?}");
        world.host.advance(Duration::from_secs(31));
        world.pond.units().recover().await.unwrap();
        assert_eq!(world.claims().await, 0, "{commits:?}");
    }
}

/// There, who reads while another session writes over a file gets bytes that were never committed.
#[tokio::test]
async fn f11_nobody_reads_what_is_not_committed() {
    let world = world().await;
    world.write("f", "v1").await;
    let mut unit = world.pond.unit();
    unit.artifacts().put("f", "v2").await.unwrap();
    unit.artifacts().put("g", "new").await.unwrap();
    let other = world.other().await;
    assert_eq!((read(&other, "f").await.as_deref(), read(&other, "g").await), (Some("v1"), None));
    assert_eq!((other.artifacts().info("f").await.unwrap().unwrap().value.length, world.keys("").await), (2, vec!["f".into()]));
    unit.rollback().await.unwrap();
    assert_eq!((read(&other, "f").await.as_deref(), world.objects().await), (Some("v1"), 1));
}

/// There, of several puts one fails at once and a slow one lands after the rollback, where nobody finds it.
#[tokio::test]
async fn f12_a_slow_put_after_the_rollback_is_found_and_removed() {
    let world = world().await;
    world.bytes.meet("slow", Writes::Wait);
    world.bytes.meet("fast", Writes::Fail);
    let mut unit = world.pond.unit();
    let id = {
        unit.artifacts().put("begun", "begun").await.unwrap();
        unit.unit_id().unwrap().to_owned()
    };
    let artifacts = unit.artifacts();
    let slow = tokio::spawn(async move { artifacts.put("slow", "slow").await });
    let registered = async || world.pond.units().get(&id).await.unwrap().unwrap().operations.len();
    while registered().await < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    unit.artifacts().put("fast", "fast").await.unwrap_err();
    unit.rollback().await.unwrap();
    assert_eq!(world.objects().await, 0);
    world.bytes.work();
    let landed = slow.await.unwrap();
    assert_eq!((world.keys("").await, world.objects().await), (vec![], 1), "{landed:?}");
    let operations = world.pond.units().get(&id).await.unwrap().unwrap().operations;
    assert!(operations.iter().all(|operation| operation.status == OperationStatus::Compensated), "{operations:?}");
    world.host.advance(Duration::from_secs(2 * 3_600));
    let collected = world.pond.units().collect(&CollectRequest { remove: true, ..CollectRequest::default() }).await.unwrap();
    assert_eq!((collected.removed, world.objects().await), (1, 0));
}

/// There, after the metadata was lost, uncommitted files and temporary copies come back as committed ones.
#[tokio::test]
async fn f13_bytes_without_records_are_never_taken_for_committed() {
    let world = world().await;
    world.write("f", "v1").await;
    world.dies_after("f", Some("never committed")).await;
    // The records are lost; the bytes are all there.
    let host = Arc::<ManualHost>::clone(&world.host);
    let store = OpenOptions::new().host(host).open("memory:").await.unwrap().store().clone();
    let folder = Arc::new(Folder::new(world.place.path()).unwrap());
    let empty = Pond::new(store).await.unwrap().with_objects(folder);
    world.host.advance(Duration::from_secs(2 * 3_600));
    let compared = empty.units().reconcile(10).await.unwrap();
    assert_eq!((compared.records, compared.missing_in_all, compared.unused.unused), (0, 0, 2), "{compared:?}");
    assert_eq!(empty.artifacts().list(&ArtifactFilter::default()).await.unwrap().items.len(), 0);
    assert_eq!((read(&empty, "f").await, world.objects().await), (None, 2));
}

/// There, a list below `a_b` holds `axb` and `a_bc`, too.
#[tokio::test]
async fn f14_a_prefix_is_taken_as_it_is() {
    let world = world().await;
    for key in ["a_b/1", "axb/1", "a_bc/1", "a%/1", "ab/1"] {
        world.write(key, "x").await;
    }
    assert_eq!(world.keys("a_b").await, ["a_b/1", "a_bc/1"]);
    assert_eq!((world.keys("a_b/").await, world.keys("a%").await), (vec!["a_b/1".to_owned()], vec!["a%/1".to_owned()]));
    let folder = ArtifactFilter { segments: true, ..ArtifactFilter::prefix("a_b") };
    let page = world.pond.artifacts().list(&folder).await.unwrap();
    assert_eq!(page.items.into_iter().map(|artifact| artifact.value.key).collect::<Vec<_>>(), ["a_b/1"]);
}

/// There, a read of three files of which one is missing answers two, and not which.
#[tokio::test]
async fn f15_a_read_of_many_answers_for_each() {
    let world = world().await;
    world.write("a", "of a").await;
    world.write("c", "of c").await;
    let answers = world.pond.artifacts().read_many(&["a", "b", "c"]).await.unwrap();
    let answers: Vec<_> = answers.into_iter().map(|(key, answer)| (key, answer.map_err(|error| error.kind()))).collect();
    let expected = [("a", Ok("of a".into())), ("b", Err(ErrorKind::NotFound)), ("c", Ok("of c".into()))];
    assert_eq!(answers, expected.map(|(key, answer)| (key.to_owned(), answer)));
}

/// There, a crash inside a deletion leaves a temporary copy that nobody ever removes.
#[tokio::test]
async fn f16_a_crash_inside_a_deletion_leaves_nothing_behind() {
    let world = world().await;
    world.write("f", "v1").await;
    world.dies_after("f", None).await;
    assert_eq!((world.read("f").await.as_deref(), world.objects().await), (Some("v1"), 1));
    world.host.advance(Duration::from_secs(31));
    // Another session writes it: the deletion is undone on the way.
    world.write("f", "v2").await;
    assert_eq!((world.read("f").await.as_deref(), world.objects().await, world.claims().await), (Some("v2"), 2, 0));
    let history = world.pond.artifacts().history("f", 9, None).await.unwrap().items;
    assert!(history.iter().all(|version| version.value.artifact.is_some()), "{history:?}");
    world.host.advance(Duration::from_secs(2 * 3_600));
    let collected = world.pond.units().collect(&CollectRequest::default()).await.unwrap();
    assert_eq!((collected.objects, collected.unused), (2, 0), "both are bytes of versions");
}
