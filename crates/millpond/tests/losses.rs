//! What is no loss is not called one: a version that is purged, and its bytes collected, between the look at its record and
//! the look at its bytes.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "support/meanwhile.rs"]
mod meanwhile;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meanwhile::MeanwhileEngine;
use millpond::{
    Artifact, ArtifactKey, Commit, ErrorKind, Front, Namespace, NewArtifact, OpenOptions, Pond, ReplayRequest, Store,
    VerifyArtifacts,
};
use millpond_objects::{Folder, Objects as _};

struct World {
    place: tempfile::TempDir,
    engine: Arc<MeanwhileEngine>,
    objects: Arc<Folder>,
    pond: Pond,
    other: Pond,
}

async fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let inner = OpenOptions::new().engine("memory:").await.unwrap();
    let engine = MeanwhileEngine::on(Arc::clone(&inner));
    let objects = Arc::new(Folder::new(place.path().join("objects")).unwrap());
    let store = Store::open(Arc::new(Front::new(Arc::<MeanwhileEngine>::clone(&engine))), Namespace::default()).await.unwrap();
    let pond = Pond::new(store).await.unwrap().with_objects(Arc::<Folder>::clone(&objects));
    let store = Store::open(Arc::new(Front::new(inner)), Namespace::default()).await.unwrap();
    let other = Pond::new(store).await.unwrap().with_objects(Arc::<Folder>::clone(&objects));
    World { place, engine, objects, pond, other }
}

fn key() -> String {
    ArtifactKey::new("e1", "crawl", "fetch", "m1").to_string()
}

impl World {
    /// An artifact that was written over: its first version.
    async fn written_over(&self) -> Artifact {
        let first = self.pond.artifacts().write(&key(), "one", NewArtifact::default()).await.unwrap();
        self.pond.artifacts().write(&key(), "two, and longer", NewArtifact::default()).await.unwrap();
        first
    }

    /// Forgets a version and removes its bytes, as retention and the collector do.
    fn purge(&self, version: &Artifact) -> impl Future<Output = ()> + Send + 'static {
        let (other, objects, version) = (self.other.clone(), Arc::clone(&self.objects), version.clone());
        async move {
            let versions = other.artifacts().history(&version.key, 10, None).await.unwrap();
            let record = versions.items.iter().find(|found| found.value.version == version.version).unwrap();
            let id = format!("{}/{}", record.value.of, version.version);
            other.commit(Commit::new().trusted().delete("artifact_versions", &id).unwrap()).await.unwrap();
            objects.remove(&version.location.parse().unwrap()).await.unwrap();
        }
    }
}

fn copied(from: &Path, to: &Path) {
    for file in walk(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Catches a look that calls bytes missing whose record is gone by then.
#[tokio::test]
async fn reconcile_and_verify_do_not_miss_what_was_purged_meanwhile() {
    let world = world().await;
    let first = world.written_over().await;
    world.engine.after_page("artifact_versions", world.purge(&first));
    let all = VerifyArtifacts { versions: true, ..VerifyArtifacts::default() };
    let verified = world.pond.artifacts().verify_all(&all, |_, _| {}).await.unwrap();
    assert_eq!((verified.progress.looked_at, verified.progress.damaged), (2, 0), "{verified:?}");
    assert!(world.engine.happened());

    let first = world.written_over().await;
    let compared = world.pond.units().reconcile(10).await.unwrap();
    assert_eq!(compared.missing_in_all, 0);
    // The collector, which reconcile asks first, reads pages of versions only for what it would remove.
    world.engine.after_page("artifact_versions", world.purge(&first));
    let compared = world.pond.units().reconcile(10).await.unwrap();
    assert!(world.engine.happened());
    assert_eq!((compared.missing_in_all, compared.missing), (0, Vec::new()));

    // What is really gone is missed all the same.
    let now = world.pond.artifacts().info(&key()).await.unwrap().unwrap().value;
    world.objects.remove(&now.location.parse().unwrap()).await.unwrap();
    assert_eq!(world.pond.units().reconcile(10).await.unwrap().missing_in_all, 1);
    assert_eq!(world.pond.artifacts().verify_all(&all, |_, _| {}).await.unwrap().progress.damaged, 1);
}

/// Catches a move that is refused because of bytes that nobody needs any more, and one that is not although some are.
#[tokio::test]
async fn a_place_lacks_nothing_that_was_purged_meanwhile() {
    let world = world().await;
    let first = world.written_over().await;
    let moved = world.place.path().join("moved");
    copied(&world.place.path().join("objects"), &moved.join(world.pond.store().store_id()));
    let copy = moved.join(world.pond.store().store_id()).join(&first.location);
    std::fs::remove_file(copy).unwrap();
    let url = moved.display().to_string();
    let missing = world.pond.artifacts().place_moved(&url).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Corrupt, "{missing}");
    // Each of the points of the sample reads a page: the first page with the version is the one that counts.
    world.engine.after_page("artifact_versions", world.purge(&first));
    let done = world.pond.artifacts().place_moved(&url).await.unwrap();
    assert!(world.engine.happened());
    assert_eq!(done.looked_at, 1);
}

/// Catches a dry run that calls an object missing which was written over and purged while it was looked at.
#[tokio::test]
async fn a_plan_says_of_what_was_purged_meanwhile_that_one_has_to_look_again() {
    let world = world().await;
    let artifact = world.pond.artifacts().write(&key(), "one", NewArtifact::default()).await.unwrap();
    let (other, purge) = (world.other.clone(), world.purge(&artifact));
    world.engine.after_page("artifacts", async move {
        other.artifacts().write(&key(), "two", NewArtifact::default()).await.unwrap();
        purge.await;
    });
    let request = ReplayRequest::of("e1", "crawl", "fetch", "crawl/parse").wait(Duration::ZERO);
    let plan = world.pond.replays().plan(&request, 10).await.unwrap();
    assert!(world.engine.happened());
    assert!(plan.problems[0].why.contains("look again"), "{plan:?}");
    assert!(world.pond.replays().plan(&request, 10).await.unwrap().can_start());
}
