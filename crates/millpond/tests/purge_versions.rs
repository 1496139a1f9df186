//! Old versions are forgotten, and nothing that is read, kept, pinned or running.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    ArtifactKey, CollectRequest, ErrorKind, KeptBecause, ManualHost, NewArtifact, NewRun, OpenOptions, Pond, PurgeVersions,
    Query, RunEnd, Timestamp,
};
use millpond_objects::{Folder, Objects};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct World {
    _place: tempfile::TempDir,
    host: Arc<ManualHost>,
    objects: Arc<Folder>,
    pond: Pond,
}

async fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let objects = Arc::new(Folder::new(place.path().join("objects")).unwrap());
    let host = Arc::new(ManualHost::at(Timestamp::parse("2026-01-05T09:00:00Z").unwrap()));
    let pond = OpenOptions::new().host(Arc::<ManualHost>::clone(&host)).open("memory:").await.unwrap();
    World { _place: place, host, pond: pond.with_objects(Arc::<Folder>::clone(&objects)), objects }
}

impl World {
    async fn write(&self, key: &str, text: &str) {
        self.pond.artifacts().write(key, text.to_owned(), NewArtifact::default()).await.unwrap();
        self.host.advance(Duration::from_secs(1));
    }

    async fn versions(&self) -> u64 {
        self.pond.store().count(Query::new("artifact_versions").unwrap()).await.unwrap()
    }
}

/// Catches a version that is forgotten although it is read, kept or young, one that stays although nobody needs it, and
/// sums or bytes that the collector leaves.
#[tokio::test]
async fn only_what_is_old_and_not_among_the_newest_goes() {
    let world = world().await;
    let artifacts = world.pond.artifacts();
    for text in ["one", "two", "three", "four"] {
        world.write("many", text).await;
    }
    world.write("one", "only").await;
    world.write("gone", "was here").await;
    artifacts.write("long", vec![1_u8; (2 << 20) + 1], NewArtifact::default()).await.unwrap();
    world.write("long", "short").await;
    artifacts.delete("gone").await.unwrap();
    world.host.advance(10 * DAY);
    world.write("many", "young").await;
    world.write("many", "younger").await;
    assert_eq!(world.versions().await, 4 + 1 + 2 + 2 + 2);

    let asked = PurgeVersions::new(9 * DAY, 3);
    let counted = artifacts.purge_versions(&asked.clone().dry_run()).await.unwrap();
    assert_eq!((counted.looked_at, counted.purged, counted.bytes, counted.kept_newest), (9, 3, 3 + 3 + 5, 6));
    assert_eq!(world.versions().await, 11, "a dry run forgets nothing");
    assert_eq!(artifacts.purge_versions(&asked).await.unwrap(), counted);
    assert_eq!(world.versions().await, 8);

    // Of what was deleted nothing need stay; what is read stays whatever is asked.
    let all = artifacts.purge_versions(&PurgeVersions::new(Duration::ZERO, 0)).await.unwrap();
    assert_eq!((all.purged, all.kept_newest), (5, 3));
    assert_eq!(artifacts.history("gone", 10, None).await.unwrap().items.len(), 0);
    assert_eq!(artifacts.read("one").await.unwrap(), "only");
    assert_eq!(artifacts.read("many").await.unwrap(), "younger");

    world.host.advance(DAY);
    let collected = world.pond.units().collect(&CollectRequest { remove: true, ..CollectRequest::default() }).await.unwrap();
    assert_eq!((collected.removed, world.objects.list(None, 100).await.unwrap().len()), (7, 3));
    assert_eq!(world.pond.store().count(Query::new("object_sums").unwrap()).await.unwrap(), 0);
    let too_many = artifacts.purge_versions(&PurgeVersions::new(DAY, 1_001)).await.unwrap_err();
    assert_eq!(too_many.kind(), ErrorKind::Invalid);
}

/// Catches retention that takes from an execution that is pinned or runs.
#[tokio::test]
async fn versions_of_what_is_pinned_or_running_stay() {
    let world = world().await;
    let key = |execution: &str| ArtifactKey::new(execution, "r", "s", "m").to_string();
    let run = world.pond.runs().start(NewRun::of("etl", 1).id("running")).await.unwrap();
    let pin = world.pond.pins().pin("pinned", "anna", "the audit").await.unwrap();
    for execution in ["pinned", "running", "neither"] {
        world.write(&key(execution), "one").await;
        world.write(&key(execution), "two").await;
    }
    world.host.advance(DAY);
    let asked = PurgeVersions::new(Duration::ZERO, 1);
    let done = world.pond.artifacts().purge_versions(&asked).await.unwrap();
    assert_eq!((done.purged, done.kept_pinned, done.kept_running, done.kept_referenced), (1, 1, 1, 0));
    let needed: Vec<(&str, KeptBecause)> = done.needed.iter().map(|k| (k.execution.as_deref().unwrap(), k.because)).collect();
    assert_eq!(needed, [("pinned", KeptBecause::Pinned), ("running", KeptBecause::Running)]);

    world.pond.pins().unpin("pinned", &pin.id).await.unwrap();
    world.pond.runs().finish(run.value.id(), RunEnd::failed("over")).await.unwrap();
    let done = world.pond.artifacts().purge_versions(&asked).await.unwrap();
    assert_eq!((done.purged, done.kept_needed(), world.versions().await), (2, 0, 3));
}
