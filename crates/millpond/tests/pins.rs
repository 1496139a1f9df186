//! Pins: what is pinned is not deleted, whoever else pins or unpins at the same time.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::sync::Arc;

use millpond::{ArtifactKey, ErrorKind, NewArtifact, PINS_OF_EXECUTION, PinFilter, Pond};
use millpond_objects::Folder;

async fn pond() -> (tempfile::TempDir, Pond) {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::new(place.path().join("objects")).unwrap();
    (place, millpond::open("memory:").await.unwrap().with_objects(Arc::new(folder)))
}

/// Catches a delete that does not expect the pin away, in a unit, too, and a pin that outlives its last one.
#[tokio::test]
async fn a_pinned_execution_keeps_its_artifacts_until_the_last_pin_is_out() {
    let (_place, pond) = pond().await;
    let key = ArtifactKey::new("e1", "crawl", "fetch", "m1").to_string();
    pond.artifacts().write(&key, "one", NewArtifact::default()).await.unwrap();
    let first = pond.pins().pin("e1", "anna", "the audit").await.unwrap();
    let second = pond.pins().pin("e1", "anna", "the appeal").await.unwrap();

    let refused = pond.artifacts().delete(&key).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("e1 is pinned"), "{refused}");
    let mut unit = pond.unit();
    unit.artifacts().delete(&key).await.unwrap();
    assert!(unit.commit().await.unwrap_err().to_string().contains("e1 is pinned"));
    assert_eq!(pond.artifacts().read(&key).await.unwrap(), "one");

    assert_eq!(pond.pins().unpin("e1", &first.id).await.unwrap(), first);
    assert_eq!(pond.pins().unpin("e1", &first.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(pond.pins().get("e1").await.unwrap().unwrap().value.pins, std::slice::from_ref(&second));
    pond.artifacts().delete(&key).await.unwrap_err();
    pond.pins().unpin("e1", &second.id).await.unwrap();
    assert!(pond.pins().get("e1").await.unwrap().is_none());
    assert!(pond.artifacts().delete(&key).await.unwrap());
}

/// Catches a key that says its execution in another spelling than its writer: the pin would protect nothing.
#[tokio::test]
async fn an_execution_is_pinned_under_the_name_its_writer_gave() {
    let (_place, pond) = pond().await;
    for execution in ["a/b", "100 %", "ü", "."] {
        let key = ArtifactKey::new(execution, "r", "s", "m").to_string();
        let artifact = pond.artifacts().write(&key, "x", NewArtifact::default()).await.unwrap();
        assert_eq!(artifact.provenance.execution.as_deref(), Some(execution), "{key}");
        pond.pins().pin(execution, "anna", "why").await.unwrap();
        pond.artifacts().delete(&key).await.unwrap_err();
    }
    // What no field can hold is said as it stands in the key.
    let artifact = pond.artifacts().write("executions/%/%0A/s/m", "x", NewArtifact::default()).await.unwrap();
    assert_eq!(artifact.provenance.execution.as_deref(), Some("%"));
    assert_eq!(artifact.provenance.route.as_deref(), Some("%0A"));
}

/// Catches a pin written over one that somebody else set in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pins_set_at_the_same_time_are_all_there() {
    let (_place, pond) = pond().await;
    let setting: Vec<_> = (0..40)
        .map(|n| {
            let pins = pond.pins();
            tokio::spawn(async move { pins.pin("e1", &format!("worker {n}"), "racing").await.unwrap() })
        })
        .collect();
    let mut ids = Vec::new();
    for set in setting {
        ids.push(set.await.unwrap().id);
    }
    let found = pond.pins().get("e1").await.unwrap().unwrap().value;
    assert_eq!((found.pins.len(), found.holders.len()), (40, 40));
    let taking: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let pins = pond.pins();
            tokio::spawn(async move { pins.unpin("e1", &id).await.unwrap() })
        })
        .collect();
    for taken in taking {
        taken.await.unwrap();
    }
    assert!(pond.pins().get("e1").await.unwrap().is_none());
}

/// Catches lists that look at something else than what they were asked for, and texts that are kept unchecked.
#[tokio::test]
async fn lists_and_limits() {
    let (_place, pond) = pond().await;
    let pins = pond.pins();
    for (execution, holder) in [("a1", "anna"), ("a2", "ben"), ("b1", "anna"), (".x", "ben")] {
        pins.pin(execution, holder, "why").await.unwrap();
    }
    let names = async |filter: PinFilter| -> Vec<String> {
        pins.list(&filter).await.unwrap().items.into_iter().map(|found| found.value.execution).collect()
    };
    assert_eq!(names(PinFilter::default()).await.len(), 4);
    assert_eq!(names(PinFilter { prefix: Some("a".into()), ..PinFilter::default() }).await, ["a1", "a2"]);
    assert_eq!(names(PinFilter { prefix: Some(".".into()), ..PinFilter::default() }).await, [".x"]);
    assert_eq!(names(PinFilter { holder: Some("anna".into()), ..PinFilter::default() }).await, ["a1", "b1"]);
    let first = pins.list(&PinFilter { limit: 3, ..PinFilter::default() }).await.unwrap();
    assert_eq!(names(PinFilter { limit: 3, after: first.next, ..PinFilter::default() }).await.len(), 1);

    for (holder, reason) in [("", "why"), ("anna", " "), ("anna", "two\nlines")] {
        assert_eq!(pins.pin("a1", holder, reason).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(pins.pin("", "anna", "why").await.unwrap_err().kind(), ErrorKind::Invalid);
    for _ in 1..PINS_OF_EXECUTION {
        pins.pin("a1", "anna", &"r".repeat(1_024)).await.unwrap();
    }
    assert_eq!(pins.pin("a1", "anna", "one more").await.unwrap_err().kind(), ErrorKind::Conflict);
}
