//! What every place for objects does, whatever it is made of.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millpond_core::{ErrorKind, Host, SystemHost};
use millpond_objects::{Location, Note, Objects, open};
use uuid::Uuid;

struct Place {
    _folder: tempfile::TempDir,
    objects: Arc<dyn Objects>,
}

fn places() -> Vec<Place> {
    let host: Arc<dyn Host> = Arc::new(SystemHost);
    let kinds: &[&str] = if cfg!(feature = "object") { &["file:", "memory:", "object-file:"] } else { &["file:", "memory:"] };
    let place = |kind: &&str| {
        let folder = tempfile::tempdir().unwrap();
        let url = if *kind == "memory:" { (*kind).to_owned() } else { format!("{kind}{}", folder.path().display()) };
        Place { objects: open(&url, "root", &host).unwrap(), _folder: folder }
    };
    kinds.iter().map(place).collect()
}

fn at(unit: u128, number: u32) -> Location {
    Location::new(Uuid::from_u128(unit), number)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_is_read_whole_and_in_ranges_until_it_is_removed() {
    let note = Note::of(&serde_json::json!({"key": "é"})).unwrap();
    for Place { objects, .. } in &places() {
        let (at, empty, place) = (at(7, 1), at(7, 2), objects.place());
        assert_eq!(objects.read(&at, 0..9).await.unwrap(), None, "{place}");
        assert_eq!(objects.read(&at, 3..3).await.unwrap(), None, "{place}");
        assert_eq!(objects.length(&at).await.unwrap(), None, "{place}");
        objects.put(&at, Bytes::from_static(b"0123456789"), Some(&note)).await.unwrap();
        objects.put(&empty, Bytes::new(), None).await.unwrap();
        for (range, expected) in [(0..10, "0123456789"), (3..5, "34"), (3..3, ""), (8..99, "89"), (10..11, ""), (99..100, "")] {
            assert_eq!(objects.read(&at, range.clone()).await.unwrap().unwrap(), expected, "{place} {range:?}");
        }
        assert_eq!(objects.read(&empty, 0..1).await.unwrap().unwrap(), "", "{place}");
        assert_eq!((objects.length(&at).await.unwrap(), objects.length(&empty).await.unwrap()), (Some(10), Some(0)), "{place}");
        objects.remove(&at).await.unwrap();
        objects.remove(&at).await.unwrap();
        assert_eq!(objects.length(&at).await.unwrap(), None, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_become_an_object_when_they_are_finished() {
    for Place { objects, .. } in &places() {
        let place = objects.place();
        let mut writing = objects.begin(&at(7, 1), None).await.unwrap();
        for piece in ["one ", "", "two ", "three"] {
            writing.write(piece.into()).await.unwrap();
        }
        writing.finish(None).await.unwrap();
        assert_eq!(objects.read(&at(7, 1), 0..99).await.unwrap().unwrap(), "one two three", "{place}");
        objects.begin(&at(7, 2), None).await.unwrap().finish(None).await.unwrap();
        assert_eq!(objects.length(&at(7, 2)).await.unwrap(), Some(0), "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_in_order_and_go_on_where_they_ended() {
    for Place { objects, .. } in &places() {
        let place = objects.place();
        assert_eq!(objects.list(None, 9).await.unwrap(), [], "{place}");
        // Not in the order in which they were made.
        let mut all: Vec<Location> = (0..7).rev().flat_map(|unit| (0..12).rev().map(move |n| at(unit, n))).collect();
        for location in &all {
            objects.put(location, location.to_string().into(), None).await.unwrap();
        }
        all.sort();
        for most in [1, 5, 100] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = objects.list(after.as_ref(), most).await.unwrap();
                assert!(page.len() <= most, "{place}");
                let Some(last) = page.last() else { break };
                after = Some(last.location.clone());
                assert!(page.iter().all(|listed| listed.length == listed.location.as_str().len() as u64), "{place}");
                found.extend(page.into_iter().map(|listed| listed.location));
            }
            assert_eq!(found, all, "{place}");
        }
    }
}

#[tokio::test]
async fn a_place_without_addresses_says_what_to_do() {
    for Place { objects, .. } in &places() {
        let error = objects.address(&at(7, 1), Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.next().is_some_and(|next| next.contains("S3")), "{error:?}");
    }
}

#[tokio::test]
async fn two_roots_of_one_place_share_nothing() {
    let (folder, host) = (tempfile::tempdir().unwrap(), Arc::new(SystemHost) as Arc<dyn Host>);
    let schemes: &[&str] = if cfg!(feature = "object") { &["file:", "object-file:"] } else { &["file:"] };
    for scheme in schemes {
        let url = format!("{scheme}{}", folder.path().display());
        // One name is how the other begins.
        let [one, two] = ["one", "one2"].map(|root| open(&url, root, &host).unwrap());
        let at = at(scheme.len() as u128, 1);
        two.put(&at, "bytes".into(), None).await.unwrap();
        assert!(one.list(None, 9).await.unwrap().iter().all(|listed| listed.location != at), "{scheme}");
        assert_eq!(one.length(&at).await.unwrap(), None, "{scheme}");
        assert_ne!(one.place(), two.place());
    }
}
