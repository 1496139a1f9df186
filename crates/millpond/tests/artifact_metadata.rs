//! Whatever is said of an artifact comes back: from the record, from its version, and from the copy beside the bytes.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::collections::BTreeMap;
use std::path::Path;

use millpond::{Artifact, NewArtifact, Pond, Provenance, Timestamp};
use proptest::prelude::*;
use serde_json::Value;

/// Any JSON that a record can hold.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no such number", |n| n.is_finite()).prop_map(Value::from),
        text(200).prop_map(Value::from),
        (1_000..60_000_usize, any::<char>()).prop_filter_map("NUL", |(n, c)| (c != '\0').then(|| c.to_string().repeat(n).into())),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(text(20), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Any text, but for the one character that no store can hold.
fn text(longest: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>().prop_filter("NUL", |c| *c != '\0'), 0..longest)
        .prop_map(|chars| chars.into_iter().collect())
}

/// What a declared field can be: text without control characters, of one byte at least.
fn declared() -> impl Strategy<Value = Option<String>> {
    let plain = any::<char>().prop_filter("a control character", |c| !c.is_control());
    prop::option::of(prop::collection::vec(plain, 1..200).prop_map(|chars| chars.into_iter().collect()))
}

fn new_artifact() -> impl Strategy<Value = NewArtifact> {
    let provenance = (declared(), declared(), declared(), declared(), declared(), prop::option::of(0..4_000_000_000_000_000_i64));
    let provenance = provenance.prop_map(|(execution, route, stage, adapter, message, at)| {
        let written_at = at.map(Timestamp::from_micros);
        Provenance { execution, route, stage, adapter, message, written_at }
    });
    let plain = (declared(), declared(), declared(), prop::option::of(text(3_000)), prop::option::of(text(100)));
    let custom = prop::collection::btree_map(text(40), json(), 0..8);
    (provenance, plain, prop::option::of(text(500)), custom).prop_map(|(provenance, plain, original_key, custom)| {
        let (content_type, correlation, document, config_hash, lineage) = plain;
        NewArtifact {
            provenance,
            content_type,
            correlation,
            document,
            config_hash,
            lineage,
            original_key,
            custom,
            ..NewArtifact::default()
        }
    })
}

/// What was said of it, as far as an artifact repeats it.
fn said(artifact: &Artifact) -> NewArtifact {
    let custom: BTreeMap<String, Value> = artifact.custom.clone();
    NewArtifact {
        provenance: artifact.provenance.clone(),
        content_type: Some(artifact.content_type.clone()),
        correlation: artifact.correlation.clone(),
        document: artifact.document.clone(),
        config_hash: artifact.config_hash.clone(),
        lineage: artifact.lineage.clone(),
        original_key: artifact.original_key.clone(),
        custom,
        ..NewArtifact::default()
    }
}

async fn comes_back(pond: &Pond, root: &Path, key: &str, length: usize, new: NewArtifact) {
    let written = pond.artifacts().write(key, vec![b'x'; length], new.clone()).await.unwrap();
    let kind = new.content_type.clone().or_else(|| Some(written.content_type.clone()));
    assert_eq!(said(&written), NewArtifact { content_type: kind, ..new });
    let found = pond.artifacts().info(key).await.unwrap().unwrap().value;
    assert_eq!(found, written, "the record");
    let version = pond.artifacts().history(key, 1, None).await.unwrap().items.remove(0).value;
    assert_eq!(version.artifact.as_ref(), Some(&written), "the version");
    let note = std::fs::read(root.join(format!("{}.meta.json", written.location))).unwrap();
    assert_eq!(serde_json::from_slice::<Artifact>(&note).unwrap(), written, "the copy beside the bytes");
}

#[test]
fn what_is_said_of_an_artifact_comes_back_everywhere() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = tempfile::tempdir().unwrap();
    let url = place.path().join("store").display().to_string();
    let pond = runtime.block_on(millpond::open(&url)).unwrap();
    let root = place.path().join("store/objects").join(pond.store().store_id());
    // One is written at once, the other in pieces, whose copy is written when its sums are known.
    let lengths = prop_oneof![9 => 0..2_000_usize, 1 => Just((1 << 20) + 9)];
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(new in new_artifact(), length in lengths)| {
        runtime.block_on(comes_back(&pond, &root, "k", length, new));
    });
}
