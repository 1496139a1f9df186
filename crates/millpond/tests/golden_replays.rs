//! Documents of the released versions of pins, replays and prunes read, keep what they do not know, and write back as
//! they were.

use millpond::{Document, ExecutionPins, Prune, PrunePhase, Replay, ReplayPage, ReplayStatus};
use serde_json::Value;

/// Reads a document of a released version, checks key and index fields, and writes it back unchanged.
fn survives<T: Document>(golden: &str, key: &str) -> T {
    let stored: Value = serde_json::from_str(golden).expect("golden files are JSON");
    assert!(stored.get("of_a_newer_version").is_some(), "the file has no unknown field");
    T::COLLECTION.spec().expect("a valid declaration").extract(&stored).expect("index fields of the declared types");
    let document: T = serde_json::from_value(stored.clone()).expect("version 1 reads");
    assert_eq!(serde_json::to_value(&document).expect("writes"), stored, "something was dropped or changed");
    assert_eq!(document.key().expect("a key").as_str(), key);
    document
}

#[test]
fn pins() {
    let pins: ExecutionPins = survives(include_str!("golden/execution_pins-v1.json"), "a%2Fb");
    assert_eq!(pins.pins.len(), 2);
}

#[test]
fn replays() {
    let id = "019abc00-0000-7000-8000-000000000002";
    let replay: Replay = survives(include_str!("golden/replay-v1.json"), id);
    assert_eq!((replay.status, replay.ends_as), (ReplayStatus::Ending, Some(ReplayStatus::Refused)));
    survives::<ReplayPage>(include_str!("golden/replay_page-v1.json"), &format!("{id}/0000000007"));
}

#[test]
fn prunes() {
    let prune: Prune = survives(include_str!("golden/execution_prune-v1.json"), "e1");
    assert_eq!((prune.phase, prune.deleted.lineage_edges), (PrunePhase::Versions, 8));
}
