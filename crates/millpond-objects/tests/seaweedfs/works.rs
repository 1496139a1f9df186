//! What works when nothing goes wrong.

use std::time::{Duration, Instant};

use bytes::Bytes;
use millpond_core::ErrorKind;
use millpond_objects::{Location, Note, Objects as _};
use millpond_testservers::{S3_ACCESS_KEY, S3_SECRET_KEY};
use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer as _};

use super::{PART, at, bucket, bytes, http, run};

/// The server by another client than the one that is tried.
fn raw(port: u16) -> AmazonS3 {
    let server = AmazonS3Builder::new().with_endpoint(format!("http://127.0.0.1:{port}")).with_allow_http(true);
    let server = server.with_region("here").with_bucket_name("objects");
    server.with_access_key_id(S3_ACCESS_KEY).with_secret_access_key(S3_SECRET_KEY).build().unwrap()
}

/// How many uploads the server knows of whose objects are below a root.
async fn uploads(port: u16, root: &str) -> usize {
    let options = SignedUrlOptions::default().with_query([("uploads", ""), ("prefix", &format!("tests/{root}/"))]);
    let address = raw(port).signed_url_opts(Method::GET, &Path::default(), Duration::from_secs(60), &options).await.unwrap();
    let answer = http::get(address.as_str());
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    String::from_utf8(answer.body).unwrap().matches("<UploadId>").count()
}

pub fn reads(port: u16) {
    run(async {
        let objects = bucket(port, "reads", "");
        assert_eq!(objects.read(&at(7, 1), 0..9).await.unwrap(), None);
        assert_eq!(objects.length(&at(7, 1)).await.unwrap(), None);
        objects.put(&at(7, 1), Bytes::from_static(b"0123456789"), None).await.unwrap();
        objects.put(&at(7, 2), Bytes::new(), None).await.unwrap();
        for (range, expected) in [(0..10, "0123456789"), (3..5, "34"), (3..3, ""), (8..99, "89"), (10..11, ""), (99..100, "")] {
            assert_eq!(objects.read(&at(7, 1), range.clone()).await.unwrap().unwrap(), expected, "{range:?}");
        }
        assert_eq!(objects.read(&at(7, 2), 0..1).await.unwrap().unwrap(), "");
        assert_eq!(objects.length(&at(7, 2)).await.unwrap(), Some(0));
        let elsewhere = bucket(port, "elsewhere", "");
        assert_eq!(elsewhere.length(&at(7, 1)).await.unwrap(), None);
        let long = bytes(5 * PART);
        objects.put(&at(7, 3), long.clone(), None).await.unwrap();
        assert_eq!(objects.read(&at(7, 3), 0..u64::MAX).await.unwrap().unwrap(), long, "longer than a request");
    });
}

pub fn streams(port: u16) {
    run(async {
        let objects = bucket(port, "streams", "");
        for (number, length) in [(1, 0), (2, 1), (3, PART), (4, PART + 1), (5, 3 * PART + 7)] {
            let (at, all) = (at(7, number), bytes(length));
            let mut writing = objects.begin(&at, None).await.unwrap();
            for piece in all.chunks(1_000_003) {
                writing.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            assert_eq!(objects.length(&at).await.unwrap(), None, "{length}: it is there when it is whole");
            writing.finish(None).await.unwrap();
            assert_eq!(objects.length(&at).await.unwrap(), Some(length as u64));
            let around = PART.saturating_sub(3)..PART + 3;
            let expected = &all[around.start.min(length)..around.end.min(length)];
            assert_eq!(objects.read(&at, around.start as u64..around.end as u64).await.unwrap().unwrap(), expected, "{length}");
        }
    });
}

pub fn lists(port: u16) {
    run(async {
        let objects = bucket(port, "lists", "");
        assert_eq!(objects.list(None, 9).await.unwrap(), []);
        let mut all: Vec<Location> = (0..9).rev().flat_map(|unit| (8..12).rev().map(move |n| at(unit, n))).collect();
        for location in &all {
            objects.put(location, location.to_string().into(), None).await.unwrap();
        }
        // Somebody else's, and another root whose name begins like this one.
        bucket(port, "lists2", "").put(&at(1, 1), "elsewhere".into(), None).await.unwrap();
        raw(port).put(&Path::from("tests/lists/00/notes.txt"), "somebody's".into()).await.unwrap();
        all.sort();
        for most in [1, 5, 100] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = objects.list(after.as_ref(), most).await.unwrap();
                assert!(page.len() <= most);
                let Some(last) = page.last() else { break };
                after = Some(last.location.clone());
                assert!(page.iter().all(|listed| listed.length == listed.location.as_str().len() as u64));
                found.extend(page.into_iter().map(|listed| listed.location));
            }
            assert_eq!(found, all, "pages of {most}");
        }
    });
}

pub fn removes(port: u16) {
    run(async {
        let objects = bucket(port, "removes", "");
        objects.put(&at(7, 1), "bytes".into(), None).await.unwrap();
        for _ in 0..2 {
            objects.remove(&at(7, 1)).await.unwrap();
            assert_eq!(objects.length(&at(7, 1)).await.unwrap(), None);
        }
    });
}

pub fn notes(port: u16) {
    run(async {
        let objects = bucket(port, "notes", "");
        let read = async |number| {
            let address = objects.address(&at(7, number), Duration::from_secs(60)).await.unwrap();
            let text = http::get(&address).header("x-amz-meta-millpond").unwrap().to_owned();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        let about = serde_json::json!({"key": "é/日本/🦆", "custom": {"two  spaces   three": " \u{7f}\t\"\\ "}});
        let note = Note::of(&about).unwrap();
        objects.put(&at(7, 1), "whole".into(), Some(&note)).await.unwrap();
        assert_eq!(read(1).await, about);
        let mut writing = objects.begin(&at(7, 2), Some(&note)).await.unwrap();
        writing.write(bytes(PART + 1)).await.unwrap();
        writing.finish(None).await.unwrap();
        assert_eq!(read(2).await, about);
        let long = serde_json::json!({"sha256": "ab", "key": "é".repeat(150), "custom": {"long": "x".repeat(100_000)}});
        objects.put(&at(7, 3), "whole".into(), Some(&Note::of(&long).unwrap())).await.unwrap();
        assert_eq!(read(3).await, serde_json::json!({"shortened": true, "sha256": "ab", "key": "é".repeat(150)}));
    });
}

pub fn addresses(port: u16) {
    run(async {
        let objects = bucket(port, "addresses", "");
        objects.put(&at(7, 1), "for whoever has the address".into(), None).await.unwrap();
        let address = objects.address(&at(7, 1), Duration::from_secs(60)).await.unwrap();
        assert!(!address.contains(S3_SECRET_KEY), "{address}");
        let answer = http::get(&address);
        assert_eq!((answer.status, &answer.body[..]), (200, &b"for whoever has the address"[..]));
        let (unsigned, _) = address.split_once('?').unwrap();
        assert_eq!(http::get(unsigned).status, 403);
        // It is of this object alone.
        objects.put(&at(7, 2), "another".into(), None).await.unwrap();
        assert_eq!(http::get(&address.replace("07.1?", "07.2?")).status, 403);
        let wrong = objects.address(&at(7, 1), Duration::from_secs(8 * 24 * 3_600)).await.unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Invalid);
    });
}

pub fn given_up(port: u16) {
    run(async {
        let objects = bucket(port, "given-up", "");
        let mut writing = objects.begin(&at(7, 1), None).await.unwrap();
        writing.write(bytes(2 * PART)).await.unwrap();
        assert_eq!(uploads(port, "given-up").await, 1, "the server knows of it");
        drop(writing);
        let began = Instant::now();
        while uploads(port, "given-up").await > 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "its parts are still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(objects.length(&at(7, 1)).await.unwrap(), None);
    });
}
