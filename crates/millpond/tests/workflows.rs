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

/// A version as `get` shows it.
fn shown(name: &str) -> Value {
    serde_json::json!({
        "id": "etl", "version": 1, "created_at": "2026-11-21T08:45:04.011775Z", "_store": {"revision": 1, "position": 3},
        "name": name, "description": "old words", "tags": ["old"], "author": "anna", "reasoning": "the first",
        "parent": {"id": "etl", "version": 7},
        "definition": {"id": "etl", "name": "new", "metadata": {"tags": ["new"], "created_by": "ben"}},
    })
}

#[test]
fn a_changed_definition_is_believed_before_what_stands_beside_it() {
    let next = NewWorkflow::next_of(shown("old")).expect("a version");
    let pond = millpond::blocking::open("memory:").expect("opens");
    pond.workflows().store(&NewWorkflow::of(serde_json::json!({"id": "etl"}))).expect("the first");
    let stored = pond.workflows().store(&next).expect("the next");
    assert_eq!((stored.version, stored.parent), (2, Some(VersionRef::new("etl", 1))), "made from the version given");
    assert_eq!((stored.name.as_deref(), stored.author.as_deref()), (Some("new"), Some("ben")));
    assert_eq!((stored.tags, stored.reasoning), (["new"].into(), None));
    assert_eq!(stored.description.as_deref(), Some("old words"), "the definition says nothing about it");
    assert!(stored.extra.is_empty(), "{:?}", stored.extra);

    // Under its hash the definition is the old one, and what was said beside it stands.
    let mut unchanged = shown("other");
    unchanged["content_hash"] = stored.content_hash.into();
    let again = NewWorkflow::from_version(unchanged).expect("a version");
    assert_eq!((again.name.as_deref(), again.author.as_deref()), (Some("other"), Some("anna")));
    assert_eq!((again.reasoning.as_deref(), again.parent), (Some("the first"), Some(VersionRef::new("etl", 7))));
    assert!(again.extra.is_empty(), "the store's field is not kept: {:?}", again.extra);
}

#[test]
fn a_definition_with_fields_named_like_a_versions_is_a_definition() {
    let mut document = shown("old");
    assert!(NewWorkflow::is_version(&document));
    let fields = document.as_object_mut().expect("an object");
    fields.remove("_store");
    assert!(!NewWorkflow::is_version(&document), "nothing in it is the store's");
    document["content_hash"] = "sha256:x".into();
    assert!(NewWorkflow::is_version(&document));
}

#[test]
fn a_further_field_never_takes_the_place_of_the_stores() {
    let pond = millpond::blocking::open("memory:").expect("opens");
    for (name, value) in
        [("version", 99.into()), ("content_hash", "x".into()), ("created_at", Value::Null), ("parent", "x".into())]
    {
        let mut new = NewWorkflow::of(serde_json::json!({"id": "w"}));
        new.extra.insert(name.to_owned(), value);
        let error = pond.workflows().store(&new).expect_err(name);
        assert!(error.kind() == ErrorKind::Invalid && error.message().contains(name), "{error}");
    }
    let mut new = NewWorkflow::of(serde_json::json!({"id": "w"}));
    new.extra.insert("of_a_newer_version".to_owned(), 1.into());
    assert_eq!(pond.workflows().store(&new).expect("stored").version, 1);
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
