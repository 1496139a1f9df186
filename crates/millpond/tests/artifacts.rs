//! Artifacts: each write is a unit, and wherever it ends, everybody reads what was there before or what is there now.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millpond::{
    ArtifactFilter, Artifacts, Body, Document as _, ErrorKind, ManualHost, NewArtifact, OpenOptions, Pond, Query, Timestamp,
    UnitInfo,
};
use millpond_objects::{Folder, Listed, Location, Note, Objects, Writing};

/// What happens when bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// They are written.
    None,
    /// They are not, and that is said.
    Fails,
    /// They are, and it is said that they are not.
    FailsLate,
    /// They are, and no answer ever comes.
    Hangs,
    /// The process stands still for so long that another undoes the unit; then it goes on.
    Sleeps,
}

#[derive(Debug)]
struct Faulty {
    folder: Folder,
    fault: Mutex<Fault>,
    /// Who undoes units, and the clock, while this process sleeps.
    other: Mutex<Option<(Artifacts, Arc<ManualHost>)>>,
    /// What is said of bytes before all of them are there.
    begun: Mutex<Vec<String>>,
}

#[async_trait]
impl Objects for Faulty {
    fn place(&self) -> &str {
        self.folder.place()
    }
    async fn put(&self, at: &Location, bytes: Bytes, note: Option<&Note>) -> millpond::Result<()> {
        let fault = *self.fault.lock().unwrap();
        match fault {
            Fault::None => self.folder.put(at, bytes, note).await,
            Fault::Fails => Err(millpond::Error::unavailable("the disk is full")),
            Fault::FailsLate => {
                self.folder.put(at, bytes, note).await?;
                Err(millpond::Error::unavailable("no answer"))
            }
            Fault::Hangs => {
                self.folder.put(at, bytes, note).await?;
                std::future::pending().await
            }
            Fault::Sleeps => {
                let (other, host) = self.other.lock().unwrap().clone().unwrap();
                assert_eq!(other.units().recover().await?.undone, [""; 0], "its time has not run out");
                host.advance(Duration::from_secs(31));
                assert_eq!(other.units().recover().await?.undone.len(), 1);
                self.folder.put(at, bytes, note).await
            }
        }
    }
    async fn begin(&self, at: &Location, note: Option<&Note>) -> millpond::Result<Box<dyn Writing>> {
        self.begun.lock().unwrap().extend(note.map(|note| note.as_str().to_owned()));
        self.folder.begin(at, note).await
    }
    async fn read(&self, at: &Location, range: Range<u64>) -> millpond::Result<Option<Bytes>> {
        self.folder.read(at, range).await
    }
    async fn length(&self, at: &Location) -> millpond::Result<Option<u64>> {
        self.folder.length(at).await
    }
    async fn remove(&self, at: &Location) -> millpond::Result<()> {
        self.folder.remove(at).await
    }
    async fn list(&self, after: Option<&Location>, most: usize) -> millpond::Result<Vec<Listed>> {
        self.folder.list(after, most).await
    }
    async fn address(&self, at: &Location, lasting: Duration) -> millpond::Result<String> {
        self.folder.address(at, lasting).await
    }
}

struct World {
    _place: tempfile::TempDir,
    host: Arc<ManualHost>,
    pond: Pond,
    objects: Arc<Faulty>,
    artifacts: Artifacts,
}

async fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let host = Arc::new(ManualHost::at(Timestamp::parse("2026-01-05T09:00:00Z").unwrap()));
    let pond = OpenOptions::new().host(Arc::<ManualHost>::clone(&host)).open("memory:").await.unwrap();
    let folder = Folder::new(place.path().join("objects")).unwrap();
    let objects = Arc::new(Faulty { folder, fault: Mutex::new(Fault::None), other: Mutex::default(), begun: Mutex::default() });
    let artifacts = Artifacts::over(pond.store().clone(), Arc::<Faulty>::clone(&objects));
    *objects.other.lock().unwrap() = Some((artifacts.clone(), Arc::clone(&host)));
    World { _place: place, host, pond, objects, artifacts }
}

/// A body that is not at hand, so that its write is registered. Short puts have tests of their own.
fn coming(text: &'static str) -> Body {
    Body::stream(futures_util::stream::iter([Ok(Bytes::from_static(text.as_bytes()))]))
}

impl World {
    fn next(&self, fault: Fault) {
        *self.objects.fault.lock().unwrap() = fault;
    }

    async fn write(&self, key: &str, text: &'static str) -> millpond::Result<()> {
        self.artifacts.write(key, coming(text), NewArtifact::default()).await.map(drop)
    }

    /// A write in a process of its own that ends once the bytes are there.
    async fn write_and_die(&self, key: &'static str, text: &'static str) {
        let (artifacts, before) = (self.artifacts.clone(), self.objects().await);
        let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        process.spawn(async move { artifacts.write(key, coming(text), NewArtifact::default()).await });
        while self.objects().await == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process.shutdown_background();
    }

    async fn count(&self, collection: &str) -> u64 {
        self.pond.store().count(Query::new(collection).unwrap()).await.unwrap()
    }

    async fn states(&self) -> Vec<String> {
        let units = self.pond.store().query(Query::new(UnitInfo::COLLECTION.name()).unwrap().limit(100)).await.unwrap();
        let states = units.items.iter().map(|unit| unit.value.value().unwrap()["state"].as_str().unwrap().to_owned());
        let mut states: Vec<String> = states.collect();
        states.sort();
        states
    }

    async fn objects(&self) -> usize {
        self.objects.list(None, 1_000).await.unwrap().len()
    }
}

#[tokio::test]
async fn what_is_written_is_read_listed_and_deleted() {
    let world = world().await;
    let artifacts = &world.artifacts;
    let long: Vec<u8> = (0..(3 << 20) + 5).map(|n: usize| (n * n % 251) as u8).collect();
    for (key, bytes) in [("a/%_*", b"one".to_vec()), ("a/b.meta.json", Vec::new()), ("b", long.clone())] {
        let written = artifacts.write(key, bytes.clone(), NewArtifact::default()).await.unwrap();
        assert_eq!((written.length, artifacts.read(key).await.unwrap()), (bytes.len() as u64, bytes.into()), "{key}");
    }
    let keys = |prefix: &'static str| async move {
        let page = artifacts.list(&ArtifactFilter::prefix(prefix).limit(10)).await.unwrap();
        page.items.into_iter().map(|artifact| artifact.value.key).collect::<Vec<_>>()
    };
    // A place that takes its note first is told nothing that was not known then.
    let (whole, pieces) = (Bytes::from(vec![1; 3 << 20]), [Bytes::from(vec![1; 3 << 20])].map(Ok));
    let body = Body::stream(futures_util::stream::iter(pieces));
    let streamed = artifacts.write("pieces/streamed", body, NewArtifact::default()).await.unwrap();
    assert_eq!(artifacts.read("pieces/streamed").await.unwrap(), whole);
    let begun: serde_json::Value = serde_json::from_str(&world.objects.begun.lock().unwrap().pop().unwrap()).unwrap();
    assert_eq!((&begun["key"], &begun["version"]), (&"pieces/streamed".into(), &streamed.version.into()));
    assert_eq!((begun.get("length"), begun.get("sha256")), (None, None), "{begun}");
    assert_eq!(keys("a/").await, ["a/%_*", "a/b.meta.json"]);
    assert_eq!(keys("a/%").await, ["a/%_*"]);
    assert_eq!(keys("%").await, [""; 0]);
    world.write("a/%_*", "two").await.unwrap();
    assert_eq!(artifacts.read("a/%_*").await.unwrap(), "two");
    assert!(artifacts.delete("a/%_*").await.unwrap());
    assert!(!artifacts.delete("a/%_*").await.unwrap());
    assert_eq!(artifacts.read("a/%_*").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!((world.count("artifacts").await, world.count("artifact_versions").await), (3, 6));
    assert_eq!((world.count("artifact_claims").await, world.objects().await), (0, 5), "versions keep their bytes");
    assert_eq!(world.states().await, ["committed"; 4], "of a stream, a stream, and two deletions: what is at hand needs no unit");
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing() {
    for fault in [Fault::Fails, Fault::FailsLate] {
        let world = world().await;
        world.write("k", "before").await.unwrap();
        world.next(fault);
        let error = world.write("k", "after").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {error}");
        assert_eq!(world.artifacts.read("k").await.unwrap(), "before");
        assert_eq!((world.states().await, world.objects().await), (vec!["aborted".into(), "committed".into()], 1), "{fault:?}");
        world.next(Fault::None);
        world.write("k", "again").await.unwrap();
        assert_eq!(world.artifacts.read("k").await.unwrap(), "again");
    }
}

#[tokio::test]
async fn a_write_that_was_given_up_is_undone_when_its_time_has_run_out() {
    for by_recovery in [true, false] {
        let world = world().await;
        world.write("k", "before").await.unwrap();
        world.next(Fault::Hangs);
        world.write_and_die("k", "after").await;
        world.next(Fault::None);
        assert_eq!((world.artifacts.read("k").await.unwrap(), world.objects().await), ("before".into(), 2));
        // Until then the path is its own, and the error says whose.
        let held = world.write("k", "too early").await.unwrap_err();
        assert_eq!(held.kind(), ErrorKind::Conflict, "{held}");
        assert!(held.context().any(|(name, _)| name == "holder"), "{held:?}");
        assert_eq!(world.artifacts.units().recover().await.unwrap().left.len(), 1);
        world.host.advance(Duration::from_secs(31));
        if by_recovery {
            assert_eq!(world.artifacts.units().recover().await.unwrap().undone.len(), 1);
            assert_eq!((world.artifacts.read("k").await.unwrap(), world.objects().await), ("before".into(), 1));
        }
        world.write("k", "later").await.unwrap();
        assert_eq!((world.artifacts.read("k").await.unwrap(), world.objects().await), ("later".into(), 2));
        assert_eq!(world.count("artifact_claims").await, 0);
        assert_eq!(world.artifacts.units().recover().await.unwrap(), millpond::Recovered::default());
    }
}

#[tokio::test]
async fn a_write_that_is_dropped_is_undone_at_once() {
    let world = world().await;
    world.write("k", "before").await.unwrap();
    world.next(Fault::Hangs);
    assert!(tokio::time::timeout(Duration::from_millis(200), world.write("k", "after")).await.is_err());
    world.next(Fault::None);
    while world.states().await != ["aborted", "committed"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((world.artifacts.read("k").await.unwrap(), world.objects().await), ("before".into(), 1));
    world.write("k", "again").await.unwrap();
}

#[tokio::test]
async fn who_was_taken_over_is_fenced_and_changes_nothing() {
    let world = world().await;
    world.write("k", "before").await.unwrap();
    world.next(Fault::Sleeps);
    let error = world.write("k", "after").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(world.artifacts.read("k").await.unwrap(), "before");
    assert_eq!((world.count("artifact_versions").await, world.count("artifact_claims").await), (1, 0));
    assert_eq!(world.states().await, ["aborted", "committed"]);
    assert_eq!(world.objects().await, 2, "what came late lies at a place of its own unit");
}

#[tokio::test]
async fn damage_is_named() {
    let world = world().await;
    world.write("k", "as it was").await.unwrap();
    let artifact = world.artifacts.info("k").await.unwrap().unwrap().value;
    let file = Path::new(world.objects.place().trim_start_matches("file:")).join(&artifact.location);
    for damage in [Some("as it is!"), Some("as it"), None] {
        match damage {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let error = world.artifacts.read("k").await.unwrap_err();
        let said: Vec<_> = error.context().collect();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(said.contains(&("key", "k")) && said.contains(&("location", &artifact.location)), "{error:?}");
        assert!(said.contains(&("expected_sha256", &artifact.sha256)), "{error:?}");
    }
}
