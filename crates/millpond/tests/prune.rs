//! Prunes: everything of an execution that was written off goes, counted once, and nothing that others need.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Action, ArtifactKey, CollectRequest, ErrorKind, LineageEdge, NewArtifact, NewLineage, NewRun, Pond, PruneCounts, PruneFilter,
    PruneObstacle, PrunePhase, PruneStatus, Query, RunEnd, StorageEventKind, WatchArtifacts,
};
use millpond_objects::{Folder, Objects};

struct World {
    _place: tempfile::TempDir,
    objects: Arc<Folder>,
    pond: Pond,
}

async fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let objects = Arc::new(Folder::new(place.path().join("objects")).unwrap());
    let pond = millpond::open("memory:").await.unwrap().with_objects(Arc::<Folder>::clone(&objects));
    World { _place: place, objects, pond }
}

fn key(execution: &str, message: &str) -> String {
    ArtifactKey::new(execution, "crawl", "fetch", message).to_string()
}

impl World {
    async fn write(&self, key: &str, bytes: usize) {
        self.pond.artifacts().write(key, vec![7_u8; bytes], NewArtifact::default()).await.unwrap();
    }

    async fn run(&self, id: &str) {
        let new = NewRun::of("etl", 1).id(id).idempotency_key(format!("key of {id}"));
        self.pond.runs().start(new).await.unwrap();
        self.pond.runs().action(id, &Action::new("looked")).await.unwrap();
    }

    async fn finish(&self, id: &str) {
        self.pond.runs().finish(id, RunEnd::failed("the disk was full")).await.unwrap();
    }

    async fn row(&self, id: &str, execution: &str, from: &[&str]) {
        let mut new = NewLineage::of(execution, "crawl", "fetcher").id(id);
        for parent in from {
            new = new.derived_from(*parent);
        }
        self.pond.lineage().record(new).await.unwrap();
    }

    async fn count(&self, collection: &str) -> u64 {
        self.pond.store().count(Query::new(collection).unwrap()).await.unwrap()
    }

    async fn counts<const N: usize>(&self, collections: [&str; N]) -> [u64; N] {
        let mut counts = [0; N];
        for (count, collection) in counts.iter_mut().zip(collections) {
            *count = self.count(collection).await;
        }
        counts
    }

    async fn places(&self) -> usize {
        self.objects.list(None, 10_000).await.unwrap().len()
    }

    /// An execution with a bit of everything: 31 artifacts, 34 versions, a copy within it and one outside.
    async fn busy(&self, execution: &str) {
        self.run(execution).await;
        for n in 0..30 {
            self.write(&key(execution, &format!("m{n:02}")), 100 + n).await;
        }
        self.write(&key(execution, "m00"), 1_000).await;
        self.write(&key(execution, "m01"), (3 << 20) + 5).await;
        // A step of the run: from outside nothing of a run that goes on is deleted.
        let mut step = self.pond.unit();
        step.artifacts().delete(&key(execution, "m02")).await.unwrap();
        step.commit().await.unwrap();
        self.pond.artifacts().copy(&key(execution, "m03"), &key(execution, "same")).await.unwrap();
        self.pond.artifacts().copy(&key(execution, "m04"), &key(execution, "m29x")).await.unwrap();
        self.pond.artifacts().copy(&key(execution, "m29x"), "kept/outside").await.unwrap();
        for n in 0..5 {
            let from = if n == 0 { vec![] } else { vec![format!("{execution}-{}", n - 1)] };
            let from: Vec<&str> = from.iter().map(String::as_str).collect();
            self.row(&format!("{execution}-{n}"), execution, &from).await;
        }
        self.row(&format!("{execution}-both"), execution, &[&format!("{execution}-1"), &format!("{execution}-3"), "elsewhere"])
            .await;
    }
}

/// What [`World::busy`] makes, counted by hand.
fn expected() -> PruneCounts {
    let small: u64 = (100..130).sum();
    PruneCounts {
        artifacts: 31,
        versions: 30 + 2 + 1 + 2,
        objects: 31,
        bytes: small - 104 + 1_000 + (3 << 20) + 5,
        kept_objects: 1,
        kept_bytes: 104,
        lineage_rows: 6,
        lineage_edges: 4 + 3,
        // One for each artifact: what was there before stays.
        events: 31,
        log_events: 3,
        runs: 1,
    }
}

/// Catches a count that differs from what is there, anything of the execution that is left, and anything of others that
/// goes along: the bytes of a copy, sums of its blocks, rows and artifacts of an execution whose name begins the same.
#[tokio::test]
async fn everything_of_an_execution_goes_and_nothing_of_others() {
    let world = world().await;
    world.busy("e1").await;
    world.run("e10").await;
    world.write(&key("e10", "m1"), 10).await;
    world.row("e10-1", "e10", &[]).await;
    world.finish("e1").await;

    // A copy under a key that names no execution belongs to that of its source, and would go with it.
    let outside = world.pond.artifacts().info("kept/outside").await.unwrap().unwrap().value;
    assert_eq!(outside.provenance.execution.as_deref(), Some("e1"));
    assert_eq!(world.pond.prunes().plan("e1").await.unwrap().elsewhere, 1);
    world.pond.artifacts().delete("kept/outside").await.unwrap();
    world.pond.artifacts().copy(&key("e1", "m29x"), &key("e10", "copy")).await.unwrap();
    let mut expected = expected();
    // What the copy outside left: two versions.
    expected.versions += 2;

    let plan = world.pond.prunes().plan("e1").await.unwrap();
    assert_eq!((plan.would_delete, plan.elsewhere, plan.reasons_in_all, plan.begun), (expected, 0, 0, None));
    let before = world.places().await;
    let done = world.pond.prunes().run("e1").await.unwrap();
    assert_eq!((done.status, done.phase, done.deleted), (PruneStatus::Done, PrunePhase::Done, expected));
    assert_eq!(before - world.places().await, 31);

    let left = ["artifacts", "artifact_versions", "object_sums", "lineage", "lineage_edges", "runs", "run_keys"];
    assert_eq!(world.counts(left).await, [2, 2, 0, 1, 0, 1, 1]);
    assert_eq!(world.pond.artifacts().read(&key("e10", "copy")).await.unwrap().len(), 104);
    assert_eq!(world.pond.store().stream("runs/e1").await.unwrap().map(|s| s.oldest > s.head), Some(true));
    let nothing = world.pond.prunes().plan("e1").await.unwrap();
    assert_eq!((nothing.would_delete, nothing.begun), (PruneCounts::default(), Some(PruneStatus::Done)));
    assert_eq!(world.pond.prunes().run("e1").await.unwrap().deleted, expected, "done is done");
    let unused =
        world.pond.units().collect(&CollectRequest { grace: Duration::ZERO, ..CollectRequest::default() }).await.unwrap();
    assert_eq!(unused.unused, 0);
    let list =
        world.pond.prunes().list(&PruneFilter { status: Some(PruneStatus::Done), ..PruneFilter::default() }).await.unwrap();
    assert_eq!(list.items.len(), 1);
}

/// Catches a refusal that is not made, or that does not say by what, and a mark that is set all the same.
#[tokio::test]
async fn what_is_pinned_running_or_referred_to_is_not_pruned() {
    let world = world().await;
    world.run("e1").await;
    world.write(&key("e1", "m1"), 10).await;
    world.row("a", "e1", &[]).await;
    world.row("b", "e2", &["a"]).await;
    let pin = world.pond.pins().pin("e1", "anna", "the audit").await.unwrap();

    let plan = world.pond.prunes().plan("e1").await.unwrap();
    let reasons: Vec<(PruneObstacle, &str)> = plan.reasons.iter().map(|r| (r.obstacle, r.by.as_str())).collect();
    assert_eq!(
        reasons,
        [(PruneObstacle::Pinned, "anna"), (PruneObstacle::Running, "e1"), (PruneObstacle::Referenced, "b")],
        "{:?}",
        plan.reasons
    );
    let refused = async |says: &str| {
        let error = world.pond.prunes().run("e1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    };
    refused("the audit").await;
    world.pond.pins().unpin("e1", &pin.id).await.unwrap();
    refused("the run goes on").await;
    world.finish("e1").await;
    refused("row b of execution e2 came from row a").await;
    assert_eq!(world.count("execution_prunes").await, 0);
    world.pond.prunes().run("e2").await.unwrap();
    assert_eq!(world.pond.prunes().run("e1").await.unwrap().deleted.artifacts, 1);
    assert_eq!(world.counts(["lineage", "lineage_edges", "runs"]).await, [0, 0, 0]);
}

/// Catches a write that comes through while an execution is pruned, or after.
#[tokio::test]
async fn nothing_is_written_into_an_execution_that_was_written_off() {
    let world = world().await;
    world.write(&key("e1", "m1"), 10).await;
    let mut late = world.pond.unit();
    late.artifacts().put(key("e1", "m2"), "late").await.unwrap();
    world.pond.prunes().run("e1").await.unwrap();

    let refused = late.commit().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("e1 was written off"), "{refused}");
    let refused = world.pond.artifacts().write(&key("e1", "m3"), "late", NewArtifact::default()).await.unwrap_err();
    assert!(refused.to_string().contains("e1 was written off"), "{refused}");
    let refused = world.pond.lineage().record(NewLineage::of("e1", "crawl", "fetcher")).await.unwrap_err();
    assert!(refused.to_string().contains("e1 was written off"), "{refused}");
    let refused = world.pond.pins().pin("e1", "anna", "too late").await.unwrap_err();
    assert!(refused.to_string().contains("e1 was written off"), "{refused}");
    assert_eq!((world.places().await, world.count("artifacts").await, world.count("lineage").await), (0, 0, 0));

    world.pond.prunes().forget("e1").await.unwrap();
    world.write(&key("e1", "m1"), 10).await;
    assert_eq!(world.pond.prunes().forget("e1").await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Catches a second worker that is let in, one that counts again what was deleted before, and bytes that are forgotten
/// between the versions that named them and their removal. The job is stopped after every one of its commits.
#[tokio::test]
async fn a_prune_that_is_stopped_after_each_commit_ends_with_the_right_counts() {
    let world = world().await;
    world.busy("e1").await;
    world.finish("e1").await;
    world.pond.artifacts().delete("kept/outside").await.unwrap();
    world.pond.artifacts().copy(&key("e1", "m29x"), &key("e10", "copy")).await.unwrap();
    let mut expected = expected();
    expected.versions += 2;

    let mut stops = 0;
    let done = loop {
        let (prunes, mut commits) = (world.pond.prunes(), 0);
        let life = tokio::spawn(async move {
            prunes
                .run_with("e1", |job| {
                    commits += 1;
                    assert!(commits < 2 || job.status == PruneStatus::Done, "stopped here");
                })
                .await
        });
        match life.await {
            Ok(done) => break done.unwrap(),
            Err(stopped) => assert!(stopped.is_panic()),
        }
        let held = world.pond.prunes().run("e1").await.unwrap_err();
        assert_eq!(held.kind(), ErrorKind::Conflict);
        assert!(held.to_string().contains("is being pruned by"), "{held}");
        world.pond.locks().force_release("prunes/e1", "it was stopped", "test").await.unwrap();
        stops += 1;
    };
    assert!(stops >= 8, "stopped {stops} times");
    assert_eq!(done.deleted, expected);
    assert_eq!(world.counts(["artifacts", "artifact_versions", "lineage", "lineage_edges", "runs"]).await, [1, 1, 0, 0, 0]);
    assert_eq!(world.places().await, 1);
}

/// Catches edges that are left because a row has more of them than one commit takes.
#[tokio::test]
async fn a_row_with_very_many_edges_goes_with_all_of_them() {
    let world = world().await;
    for n in 0..1_600 {
        world.row(&format!("r{n}"), "e1", &["hub"]).await;
    }
    world.row("hub", "e1", &[]).await;
    world.pond.lineage().link("hub", "elsewhere", LineageEdge::DERIVED_FROM).await.unwrap();
    let plan = world.pond.prunes().plan("e1").await.unwrap();
    let done = world.pond.prunes().run("e1").await.unwrap();
    assert_eq!((done.deleted, done.deleted.lineage_rows, done.deleted.lineage_edges), (plan.would_delete, 1_601, 1_601));
    assert_eq!(world.counts(["lineage", "lineage_edges"]).await, [0, 0]);
}

/// Catches a deletion that no watcher hears of, one that is told twice by a job that is stopped and resumed, and a watch
/// over all executions that cannot go on because the events of one of them were forgotten.
#[tokio::test]
async fn every_deletion_is_a_storage_event_and_no_watch_loses_its_place() {
    let world = world().await;
    for n in 0..3 {
        world.write(&key("e1", &format!("m{n}")), 10).await;
    }
    world.write(&key("e2", "m1"), 10).await;
    let mut all = world.pond.artifacts().watch(WatchArtifacts::default()).await.unwrap();
    all.try_next().await.unwrap().unwrap();
    let early = all.cursor().unwrap();

    for _ in 0..2 {
        let prunes = world.pond.prunes();
        let life = tokio::spawn(async move {
            prunes.run_with("e1", |job| assert!(job.phase <= PrunePhase::Artifacts, "stopped here")).await
        });
        assert!(life.await.unwrap_err().is_panic());
        world.pond.locks().force_release("prunes/e1", "it was stopped", "test").await.unwrap();
    }
    let done = world.pond.prunes().run("e1").await.unwrap();
    assert_eq!((done.deleted.artifacts, done.deleted.events), (3, 3));

    let mut all = world.pond.artifacts().watch(WatchArtifacts::default().after(early)).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = all.try_next().await.unwrap() {
        assert!(event.kind == StorageEventKind::Written || event.unit == "prunes/e1", "{event:?}");
        seen.push((event.kind, event.key, event.length));
    }
    let deleted = (0..3).map(|n| (StorageEventKind::Deleted, key("e1", &format!("m{n}")), 10));
    assert!(seen.ends_with(&deleted.collect::<Vec<_>>()), "{seen:?}");
    assert_eq!(seen.len(), 2 + 1 + 3);
}

/// Catches a prune that looks past a reference it cannot read, and deletes it.
#[tokio::test]
async fn a_reference_that_does_not_read_back_stands_against_a_prune() {
    let world = world().await;
    world.row("r1", "e1", &[]).await;
    let edge = serde_json::json!({"child": "r2", "parent": "r1"});
    let broken = millpond::Commit::new().trusted().put("lineage_edges", "broken", &edge).unwrap();
    world.pond.store().commit(broken).await.unwrap();
    for told in [world.pond.prunes().plan("e1").await.map(drop), world.pond.prunes().run("e1").await.map(drop)] {
        let told = told.unwrap_err();
        assert!(told.kind() == millpond::ErrorKind::Corrupt && told.to_string().contains("lineage_edges/broken"), "{told}");
    }
    assert_eq!(world.counts(["lineage", "lineage_edges"]).await, [1, 1]);
}
