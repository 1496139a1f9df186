//! What the storage of Factflow promises and cannot keep, and what holds here instead. K1 to K8 are the numbers under
//! which these weaknesses are known.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    ArtifactFilter, ArtifactKey, Document as _, ErrorKind, EventFilter, EventQuery, LineageEnd, LineageStatus, ManualHost,
    NewArtifact, NewLineage, NewRun, OpenOptions, Pond, Position, Query, Timestamp, UnitInfo,
};
use serde_json::json;

struct World {
    place: tempfile::TempDir,
    host: Arc<ManualHost>,
    pond: Pond,
}

async fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let host = Arc::new(ManualHost::at(Timestamp::parse("2026-01-05T09:00:00Z").unwrap()));
    let pond = opened(&place, &host).await;
    World { place, host, pond }
}

async fn opened(place: &tempfile::TempDir, host: &Arc<ManualHost>) -> Pond {
    let url = place.path().join("store").display().to_string();
    OpenOptions::new().host(Arc::<ManualHost>::clone(host)).open(&url).await.unwrap()
}

impl World {
    /// Another process on the same store.
    async fn other(&self) -> Pond {
        opened(&self.place, &self.host).await
    }

    fn file(&self, location: &str) -> std::path::PathBuf {
        self.place.path().join("store/objects").join(self.pond.store().store_id()).join(location)
    }

    async fn events(&self, after: Option<Position>) -> Vec<(Position, String)> {
        let mut query = EventQuery::new(EventFilter::streams("artifacts/")).limit(100);
        query.after = after;
        let events = self.pond.store().events(query).await.unwrap().items;
        let key = |event: &millpond::Event| event.data.value().unwrap()["key"].as_str().unwrap().to_owned();
        events.iter().map(|event| (event.position, key(event))).collect()
    }
}

async fn keys(pond: &Pond, filter: ArtifactFilter) -> Vec<String> {
    let page = pond.artifacts().list(&filter).await.unwrap();
    page.items.into_iter().map(|artifact| artifact.value.key).collect()
}

/// There, bytes and metadata are two files, so a crash leaves one without the other; a file called `x.meta.json` is taken
/// for metadata; and on S3 metadata is headers of 2 KB. Here it is one record, and what stands beside the bytes a copy.
#[tokio::test]
async fn k1_metadata_is_kept_with_the_bytes_or_not_at_all() {
    let world = world().await;
    let artifacts = world.pond.artifacts();
    let long = "lång\u{1F980}".repeat(20_000);
    let new = NewArtifact { correlation: Some("c".into()), ..NewArtifact::default() };
    let written = artifacts.write("x", "bytes", new.custom("long", long.as_str()).custom("n", 1.5)).await.unwrap();
    let note = world.file(&format!("{}.meta.json", written.location));
    let beside: millpond::Artifact = serde_json::from_slice(&std::fs::read(&note).unwrap()).unwrap();
    assert_eq!(beside, written, "the copy beside the bytes");
    std::fs::remove_file(&note).unwrap();
    assert_eq!(artifacts.info("x").await.unwrap().unwrap().value, written, "without the copy nothing is lost");
    assert_eq!(artifacts.read("x").await.unwrap(), "bytes");
    artifacts.write("x.meta.json", "a user's own", NewArtifact::default()).await.unwrap();
    assert_eq!(keys(&world.pond, ArtifactFilter::default()).await, ["x", "x.meta.json"]);
    artifacts.delete("x").await.unwrap();
    assert_eq!(artifacts.read("x.meta.json").await.unwrap(), "a user's own");
}

/// There, filters read the metadata of every object, and a page is an offset into a set that grows: it skips and repeats.
#[tokio::test]
async fn k2_filters_are_indexed_and_pages_stay_where_they_are() {
    let world = world().await;
    let write = async |stage: &str, n: u32| {
        let key = ArtifactKey::new("e1", "crawl", stage, &format!("m{n:03}")).to_string();
        let new = NewArtifact { correlation: Some(format!("c{}", n % 7)), ..NewArtifact::default() };
        world.pond.artifacts().write(&key, "x", new).await.unwrap();
    };
    for n in 10..30 {
        write("fetch", n).await;
        write("parse", n).await;
    }
    let mut filter = ArtifactFilter { stage: Some("parse".into()), ..ArtifactFilter::execution("e1") }.limit(6);
    let mut found = Vec::new();
    for round in 0.. {
        let page = world.pond.artifacts().list(&filter).await.unwrap();
        found.extend(page.items.iter().map(|artifact| artifact.value.provenance.message.clone().unwrap()));
        // Before what was read already, and of another stage.
        write("parse", round).await;
        write("fetch", 100 + round).await;
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    assert_eq!(found, (10..30).map(|n| format!("m{n:03}")).collect::<Vec<_>>(), "each that was there, once");
    let of = ArtifactFilter { correlation: Some("c3".into()), stage: Some("parse".into()), ..ArtifactFilter::default() };
    assert_eq!(keys(&world.pond, of).await.len(), 4, "3, 10, 17 and 24");
}

/// There, an artifact, its row of lineage and its event are three commits. Here a reader finds all three or none, and the
/// row names the very version.
#[tokio::test]
async fn k3_artifact_lineage_and_event_are_one_commit() {
    let world = world().await;
    let run = world.pond.runs().start(NewRun::of("etl", 1)).await.unwrap();
    let key = ArtifactKey::new(run.id(), "crawl", "fetch", "m1").extension("html").to_string();
    for commits in [false, true] {
        let mut unit = world.pond.unit();
        let written = unit.artifacts().put(&key, "<p>").lineage("row-1").await.unwrap();
        let row = NewLineage::of(run.id(), "crawl", "http").id("row-1").status(LineageStatus::Completed);
        unit.lineage().record(row.end(LineageEnd::new().output_hash(written.sha256.clone())).artifact(written.key.clone()));
        unit.events(run.stream()).append("page.fetched", &json!({"key": key}));
        if !commits {
            unit.expect(millpond::Expectation::StreamAt("none".parse().unwrap(), 7));
            assert!(unit.commit().await.unwrap_err().is_conflict());
            assert!(world.pond.lineage().get("row-1").await.unwrap().is_none());
            assert!(world.pond.artifacts().info(&key).await.unwrap().is_none());
            assert_eq!(world.events(None).await, []);
            continue;
        }
        let before = world.pond.store().head().await.unwrap();
        let receipt = unit.commit().await.unwrap();
        let (artifact, row) =
            (world.pond.artifacts().info(&key).await.unwrap(), world.pond.lineage().get("row-1").await.unwrap());
        let (artifact, row) = (artifact.unwrap(), row.unwrap());
        assert_eq!((artifact.lineage.as_deref(), row.output_hash.as_ref()), (Some("row-1"), Some(&artifact.sha256)));
        let [(event, _)] = world.events(None).await[..] else { panic!("not one event") };
        for position in [artifact.position, row.position, event] {
            assert!(position > before && position <= receipt.position, "{position} is not of the commit");
        }
    }
}

/// There, events are best effort and skipped by the clock in their ids, so one that is committed late is never seen.
#[tokio::test]
async fn k4_what_is_committed_late_comes_after_what_was_seen() {
    let world = world().await;
    let mut slow = world.pond.unit();
    slow.artifacts().put("begun first", "x").await.unwrap();
    world.host.advance(Duration::from_secs(5));
    world.pond.artifacts().write("begun later", "x", NewArtifact::default()).await.unwrap();
    let seen = world.events(None).await;
    assert_eq!(seen.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>(), ["begun later"]);
    slow.commit().await.unwrap();
    let more = world.events(Some(seen[0].0)).await;
    assert_eq!(more.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>(), ["begun first"]);
}

/// There, nothing keeps what a replay needs: a prune takes it away, in steps that a crash leaves half done. Here what is
/// pinned is taken away by nobody, and what was written off goes as one job.
#[tokio::test]
async fn k5_what_is_pinned_stays_and_what_is_pruned_goes_whole() {
    let world = world().await;
    let key = ArtifactKey::new("e1", "crawl", "fetch", "m1").to_string();
    world.pond.artifacts().write(&key, "needed", NewArtifact::default()).await.unwrap();
    world.pond.lineage().record(NewLineage::of("e1", "crawl", "http").id("row-1")).await.unwrap();
    let pin = world.pond.pins().pin("e1", "anna", "it is replayed on Friday").await.unwrap();
    let refused = world.pond.prunes().run("e1").await.unwrap_err();
    assert!(refused.to_string().contains("pin"), "{refused}");
    let mut unit = world.pond.unit();
    unit.artifacts().delete(&key).await.unwrap();
    assert_eq!(unit.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.pond.artifacts().read(&key).await.unwrap(), "needed");
    assert!(world.pond.lineage().get("row-1").await.unwrap().is_some());
    world.pond.pins().unpin("e1", &pin.id).await.unwrap();
    world.pond.prunes().run("e1").await.unwrap();
    assert!(world.pond.lineage().get("row-1").await.unwrap().is_none());
    for collection in ["artifacts", "artifact_versions"] {
        assert_eq!(world.pond.store().count(Query::new(collection).unwrap()).await.unwrap(), 0, "{collection}");
    }
}

/// There, work that was running is taken up again by every server that starts. Here it has an owner, and only what lost
/// its owner is recovered, once.
#[tokio::test]
async fn k6_only_what_lost_its_owner_is_recovered_and_once() {
    let world = world().await;
    let other = world.other().await;
    let mut live = world.pond.unit();
    live.artifacts().put("live", "x").await.unwrap();
    let here = (world.pond.units(), other.units());
    let (one, two) = tokio::join!(here.0.recover(), here.1.recover());
    for recovered in [one.unwrap(), two.unwrap()] {
        assert_eq!((recovered.undone.len(), recovered.left.len()), (0, 1), "its owner lives: {recovered:?}");
    }
    let calls = Arc::new(std::sync::atomic::AtomicU32::new(0));
    for pond in [&world.pond, &other] {
        let calls = Arc::clone(&calls);
        pond.units().compensations().register("undo", move |_| {
            calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async { Ok(()) }
        });
    }
    let mut lost = world.pond.unit();
    lost.step("call", "undo", &json!({})).await.unwrap();
    lost.artifacts().put("lost", "x").await.unwrap();
    let lease = format!("units/{}", lost.unit_id().unwrap());
    world.pond.locks().force_release(&lease, "its server is gone", "k6").await.unwrap().unwrap();
    let (one, two) = tokio::join!(here.0.recover(), here.1.recover());
    let undone: usize = [one.unwrap(), two.unwrap()].iter().map(|recovered| recovered.undone.len()).sum();
    assert!(undone >= 1, "somebody has to say that it was undone");
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 1, "one of two undid the step");
    assert_eq!(lost.commit().await.unwrap_err().kind(), ErrorKind::Fenced);
    live.commit().await.unwrap();
    assert_eq!(keys(&other, ArtifactFilter::default()).await, ["live"]);
}

/// There, a request is known again for a short while only. Here a unit's id is never used for a second one.
#[tokio::test]
async fn k7_a_unit_sent_again_much_later_does_nothing_again() {
    let world = world().await;
    let id = world.pond.store().new_commit_id();
    let mut unit = world.pond.unit();
    unit.id(id);
    let first = unit.artifacts().put("k", "first").await.unwrap();
    let committed = unit.commit().await.unwrap();
    for days in [0, 1, 30] {
        world.host.advance(Duration::from_secs(days * 86_400));
        world.pond.store().purge(Duration::from_secs(7 * 86_400)).await.unwrap();
        let mut again = world.pond.unit();
        again.id(id);
        // What was written, not what is sent.
        let told = again.artifacts().put("k", "again").await.unwrap();
        assert_eq!(told.sha256, first.sha256, "after {days} days");
        match again.commit().await {
            Ok(receipt) => assert!(days < 30 && receipt.replayed && receipt.position == committed.position, "after {days} days"),
            Err(told) => {
                assert!(days == 30 && told.kind() == ErrorKind::Conflict, "after {days} days: {told}");
                assert!(told.to_string().contains(&id.to_string()), "{told}");
            }
        }
    }
    assert_eq!(world.pond.artifacts().read("k").await.unwrap(), "first");
    assert_eq!(world.pond.artifacts().history("k", 9, None).await.unwrap().items.len(), 1);
    assert_eq!(world.pond.store().count(Query::new(UnitInfo::COLLECTION.name()).unwrap()).await.unwrap(), 1);
}

/// There, the guide and the interface disagree about how keys are made. Here both ways work, and any other.
#[tokio::test]
async fn k8_any_layout_of_keys_can_be_used() {
    let world = world().await;
    let guide = ArtifactKey::new("e1", "crawl", "boost/compacted", "m1").extension("json").to_string();
    assert_eq!(guide, "executions/e1/crawl/boost/compacted/m1.json");
    let interface = "e1/boost/compacted/pages/m1.json";
    world.pond.artifacts().write(&guide, "{}", NewArtifact::default()).await.unwrap();
    let mut said = NewArtifact::default();
    said.provenance.execution = Some("e1".into());
    said.provenance.stage = Some("boost/compacted".into());
    world.pond.artifacts().write(interface, "{}", said).await.unwrap();
    world.pond.artifacts().write("archives/job-1.zip", "PK", NewArtifact::default()).await.unwrap();
    let stage = ArtifactFilter { stage: Some("boost/compacted".into()), ..ArtifactFilter::execution("e1") };
    assert_eq!(keys(&world.pond, stage).await, [interface, &guide]);
    let json = ArtifactFilter { extension: Some("json".into()), ..ArtifactFilter::default() };
    assert_eq!(keys(&world.pond, json).await.len(), 2);
}
