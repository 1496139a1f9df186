//! The documents of workflows as version 1 wrote them, and what a caller can build.

use millpond::{Document, ErrorKind, Lineage, NewWorkflow, VersionRef, WorkflowHead, WorkflowVersion};
use serde_json::Value;

/// Reads a document of a released version, checks its index fields, and writes it back unchanged.
fn survives<T: Document>(golden: &str) -> T {
    let stored: Value = serde_json::from_str(golden).expect("golden files are JSON");
    let document: T = serde_json::from_value(stored.clone()).expect("version 1 reads");
    T::COLLECTION.spec().expect("a valid declaration").extract(&stored).expect("index fields of the declared types");
    assert_eq!(serde_json::to_value(&document).expect("writes"), stored, "something was dropped or changed");
    document
}

#[test]
fn released_documents_read_and_write_back() {
    let version: WorkflowVersion = survives(include_str!("golden/workflow_version-v1.json"));
    assert_eq!(version.key().expect("a key").as_str(), "etl@3");
    assert!(version.extra.contains_key("of_a_newer_version"));
    let lineage: Lineage = survives(include_str!("golden/workflow_lineage-v1.json"));
    assert!(lineage.is_deleted());
    let head: WorkflowHead = survives(include_str!("golden/workflow_head-v1.json"));
    assert_eq!((head.highest, head.latest), (7, Some(3)));
}

#[test]
fn version_references() {
    let parsed: VersionRef = "a@b@12".parse().expect("the last @ counts");
    assert_eq!((parsed.id.as_str(), parsed.version), ("a@b", 12));
    assert_eq!(parsed.to_string(), "a@b@12");
    for bad in ["", "etl", "etl@", "etl@0", "@1", "etl@-1", "etl@x"] {
        assert_eq!(bad.parse::<VersionRef>().expect_err(bad).kind(), ErrorKind::Invalid, "{bad}");
    }
}

#[test]
fn synchronous_callers_have_all_of_it() {
    let pond = millpond::blocking::open("memory:").expect("opens");
    let workflows = pond.workflows();
    let first = workflows.store(&NewWorkflow::of(serde_json::json!({"id": "w", "count": 1}))).expect("stored");
    let second = NewWorkflow::of(serde_json::json!({"id": "w", "count": 2})).parent(first.reference());
    let second = workflows.store(&second).expect("stored");
    assert_eq!(workflows.latest("w").expect("read").map(|v| v.version), Some(2));
    assert!(workflows.diff(&first.reference(), &second.reference()).expect("a diff").contains("+count: 2"));
    assert!(workflows.delete("w", 1, Some("anna")).expect("deleted"));
    assert!(workflows.ancestors(&second.reference(), 10).expect("a line").items[0].is_deleted());
    assert!(workflows.require("w", 1).expect_err("deleted").is_not_found());
}
