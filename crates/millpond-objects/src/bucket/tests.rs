//! What goes wrong between a bucket and its store, in memory. `tests/places.rs` has what every place does, and
//! `tests/seaweedfs` what a real server does.

use std::sync::atomic::Ordering;

use millpond_core::SystemHost;
use uuid::Uuid;

use super::upload::PART;
use super::*;
use crate::fakes::{Fault, Faulty};

fn at(number: u32) -> Location {
    Location::new(Uuid::from_u128(7), number)
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|n| (n * n % 251) as u8).collect::<Vec<_>>().into()
}

fn bucket(fault: Fault) -> (Faulty, Bucket) {
    let store = Faulty::new(fault);
    let place = ObjectPlace::patient_of(Arc::new(store.clone()));
    (store, Bucket::new(place, "root", Arc::new(SystemHost)))
}

async fn write(bucket: &Bucket, at: &Location, bytes: Bytes) -> Result<()> {
    let mut writing = bucket.begin(at, None).await?;
    writing.write(bytes).await?;
    writing.finish(None).await
}

fn note(is: &str) -> Note {
    Note::of(&serde_json::json!({ "is": is })).unwrap()
}

async fn noted(store: &Faulty, at: &Location) -> String {
    let found = store.inner.get(&Path::from(format!("p/root/{at}"))).await.unwrap();
    found.attributes.get(&Attribute::Metadata(NOTE.into())).unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_answer_was_lost_is_sent_again_and_does_the_same() {
    let (store, bucket) = bucket(Fault::LosesFirstAnswer);
    bucket.put(&at(1), bytes(1_000), None).await.unwrap();
    assert_eq!(store.counts.puts.load(Ordering::SeqCst), 2);
    assert_eq!(bucket.read(&at(1), 0..2_000).await.unwrap().unwrap(), bytes(1_000));
    assert_eq!(bucket.list(None, 9).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_kept_is_an_error_that_names_the_place() {
    let (_, bucket) = bucket(Fault::Overloaded);
    let error = bucket.put(&at(1), bytes(10), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.context().any(|(name, value)| name == "place" && value == "p/root"), "{error:?}");
}

#[tokio::test]
async fn an_upload_whose_last_answer_was_lost_is_looked_at() {
    let (_, bucket) = bucket(Fault::ForgetsUploads);
    write(&bucket, &at(1), bytes(2 * PART + 5)).await.unwrap();
    assert_eq!(bucket.length(&at(1)).await.unwrap(), Some(2 * PART as u64 + 5));
}

#[tokio::test]
async fn an_upload_that_was_not_put_together_is_an_error() {
    let (_, bucket) = bucket(Fault::LosesUploads);
    assert_eq!(write(&bucket, &at(1), bytes(PART + 5)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(bucket.length(&at(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_long_object_goes_in_parts_of_which_four_are_under_way() {
    let (store, bucket) = bucket(Fault::None);
    let long = bytes(9 * PART + 1);
    let mut writing = bucket.begin(&at(1), Some(&note("begun"))).await.unwrap();
    for piece in long.chunks(PART / 3) {
        writing.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    writing.finish(Some(&note("finished"))).await.unwrap();
    assert_eq!(bucket.read(&at(1), 0..u64::MAX).await.unwrap().unwrap(), long);
    let counts = [&store.counts.parts, &store.counts.most, &store.counts.puts].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(counts, [10, 4, 0], "parts, the most of them at once, whole puts");
    assert_eq!(noted(&store, &at(1)).await, r#"{"is":"begun"}"#, "the header goes before the bytes");
}

#[tokio::test]
async fn what_fits_a_part_is_one_put_with_the_last_note() {
    let (store, bucket) = bucket(Fault::None);
    for (number, length) in [(1, 0), (2, 5), (3, PART - 1)] {
        let mut writing = bucket.begin(&at(number), Some(&note("begun"))).await.unwrap();
        writing.write(bytes(length)).await.unwrap();
        writing.finish(Some(&note("finished"))).await.unwrap();
        assert_eq!(bucket.length(&at(number)).await.unwrap(), Some(length as u64));
        assert_eq!(noted(&store, &at(number)).await, r#"{"is":"finished"}"#);
    }
    let counts = [&store.counts.parts, &store.counts.puts].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(counts, [0, 3]);
}

#[tokio::test]
async fn a_put_that_is_too_long_for_a_request_goes_in_parts() {
    let (store, bucket) = bucket(Fault::None);
    bucket.put(&at(1), bytes(WHOLE), Some(&note("put"))).await.unwrap();
    assert_eq!(store.counts.parts.load(Ordering::SeqCst), 0);
    bucket.put(&at(2), bytes(WHOLE + 1), Some(&note("put"))).await.unwrap();
    assert_eq!(store.counts.parts.load(Ordering::SeqCst), 5);
    assert_eq!(noted(&store, &at(1)).await, noted(&store, &at(2)).await);
}

/// Waits until an upload was aborted in the background.
async fn aborted(store: &Faulty) {
    for _ in 0..10_000 {
        if store.counts.aborts.load(Ordering::SeqCst) == 1 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("nothing was aborted");
}

#[tokio::test]
async fn an_upload_that_is_dropped_is_aborted() {
    let (store, bucket) = bucket(Fault::None);
    let mut writing = bucket.begin(&at(1), None).await.unwrap();
    writing.write(bytes(2 * PART)).await.unwrap();
    // Also by a thread that knows no runtime.
    std::thread::spawn(move || drop(writing)).join().unwrap();
    aborted(&store).await;
    assert_eq!(bucket.length(&at(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_part_that_fails_ends_the_object_and_its_upload() {
    let (store, bucket) = bucket(Fault::TakesOnePart);
    let mut writing = bucket.begin(&at(1), None).await.unwrap();
    let error = writing.write(bytes(7 * PART)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(writing.write(bytes(1)).await.unwrap_err().kind(), ErrorKind::Invalid);
    aborted(&store).await;
    assert_eq!(writing.finish(None).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(bucket.length(&at(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_breaker_that_was_asked_for_stops_asking() {
    let url = "s3://b/p?endpoint=http://127.0.0.1:1&region=x&retries=0&breaker=2&breaker_pause=60";
    let keys = [("aws_access_key_id", "k"), ("aws_secret_access_key", "s")];
    let place = ObjectPlace::parse_with(url, &keys).unwrap().unwrap();
    let bucket = Bucket::new(place, "root", Arc::new(SystemHost));
    for _ in 0..2 {
        let error = bucket.length(&at(1)).await.unwrap_err();
        assert!(!error.to_string().contains("breaker"), "{error}");
    }
    let refused = bucket.length(&at(1)).await.unwrap_err();
    assert!(refused.to_string().contains("breaker"), "{refused}");
}

#[test]
fn one_bucket_on_two_servers_is_two_places() {
    let keys = [("aws_access_key_id", "k"), ("aws_secret_access_key", "s")];
    let named = |url: &str| {
        let place = ObjectPlace::parse_with(url, &keys).unwrap().unwrap();
        Bucket::new(place, "0198", Arc::new(SystemHost)).place().to_owned()
    };
    assert_eq!(named("s3://b/p/?region=x&timeout=3"), "s3://b/p/0198");
    assert_eq!(named("s3://b?endpoint=http://h:1&region=x"), "s3://b/0198?endpoint=http://h:1");
    assert_eq!(named("minio://h:1/b/p?region=x"), "minio://h:1/b/p/0198");
}

#[tokio::test]
async fn an_address_lasts_no_longer_than_stores_allow() {
    let keys = [("aws_access_key_id", "k"), ("aws_secret_access_key", "s3cret")];
    let place = ObjectPlace::parse_with("s3://b/p?region=x", &keys).unwrap().unwrap();
    let bucket = Bucket::new(place, "root", Arc::new(SystemHost));
    let address = bucket.address(&at(1), LONGEST).await.unwrap();
    assert!(address.contains("X-Amz-Expires=604800") && !address.contains("s3cret"), "{address}");
    for wrong in [Duration::ZERO, Duration::from_millis(999), LONGEST + Duration::from_secs(1)] {
        assert_eq!(bucket.address(&at(1), wrong).await.unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
    }
    let (_, unsigned) = super::tests::bucket(Fault::None);
    let error = unsigned.address(&at(1), LONGEST).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.next().is_some(), "{error:?}");
}
