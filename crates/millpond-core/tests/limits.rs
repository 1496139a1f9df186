//! What is refused before anything is queued, and what a digest tells apart.

use std::time::Duration;

use millpond_core::{
    Acquire, Catalog, Collection, Commit, ErrorKind, FieldKind, Holder, Json, Key, ManualHost, MergeOp, NewEvent, PreparedCommit,
    Query, Result, Scalar, Timestamp, Write, limits,
};

fn prepare(commit: Commit) -> Result<PreparedCommit> {
    let host = ManualHost::at(Timestamp::from_micros(1_800_000_000_000_000));
    commit.prepare(&host, &Catalog::default())
}

fn refused(commit: Commit, words: &str) {
    let error = prepare(commit).expect_err(words);
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains(words), "{error}");
}

fn merge(path: String) -> Commit {
    Commit::new().merge("c", "k", vec![MergeOp::Add(path, 1)]).expect("names")
}

#[test]
fn a_merge_path_is_bounded_before_it_is_walked() {
    prepare(merge("/a".repeat(limits::JSON_DEPTH))).unwrap();
    refused(merge("/a".repeat(limits::JSON_DEPTH + 1)), "65 segments");
    refused(merge("/a".repeat(200_000)), "200000 segments");
    refused(merge(format!("/{}", "a".repeat(limits::NAME_BYTES))), "2049 bytes");
}

#[test]
fn each_merge_operation_counts() {
    let ops = |n| Commit::new().merge("c", "k", vec![MergeOp::Add("/a".into(), 1); n]).unwrap();
    prepare(ops(limits::COMMIT_OPERATIONS)).unwrap();
    refused(ops(limits::COMMIT_OPERATIONS + 1), "4097 operations");
}

#[test]
fn what_a_lease_says_is_bounded() {
    let acquire = |purpose: usize| {
        Commit::new().write(Write::Acquire(Acquire {
            lease: Key::new("l").unwrap(),
            holder: Holder { name: "me".into(), ..Holder::default() },
            ttl: Duration::from_secs(1),
            purpose: Some("x".repeat(purpose)),
            dead: None,
        }))
    };
    prepare(acquire(limits::INDEXED_TEXT_BYTES)).unwrap();
    refused(acquire(limits::INDEXED_TEXT_BYTES + 1), "purpose has 1025 bytes");
}

#[test]
fn a_body_without_a_time_is_not_one_of_1970() {
    let event = |time| NewEvent { time, ..NewEvent::new("x", Json::of(&1).unwrap()) };
    let digest = |time| *prepare(Commit::new().append("s", event(time)).unwrap()).unwrap().digest();
    assert_ne!(digest(None), digest(Some(Timestamp::from_micros(0))));
}

#[test]
fn a_cursor_fits_the_query_it_came_from_also_when_values_changed_their_type() {
    let spec = Collection::new("runs").index("at", FieldKind::Timestamp).spec().unwrap();
    let query = Query::new("runs").unwrap().at_least("at", 0_i64).order_asc("at");
    let resolved = query.resolve(Some(&spec)).unwrap();
    let cursor = resolved.cursor_after(Some(Scalar::Timestamp(Timestamp::from_micros(5))), &Key::new("k").unwrap());
    query.clone().after(Some(cursor.clone())).resolve(Some(&spec)).unwrap();
    let other = query.below("at", 9_i64).after(Some(cursor));
    assert_eq!(other.resolve(Some(&spec)).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn queries_are_bounded() {
    let spec = Collection::new("runs").index("n", FieldKind::Integer).spec().unwrap();
    let with = |n: i64| (0..n).fold(Query::new("runs").unwrap(), |q, i| q.at_least("n", i));
    with(limits::FILTERS as i64).resolve(Some(&spec)).unwrap();
    assert!(with(limits::FILTERS as i64 + 1).resolve(Some(&spec)).unwrap_err().message().contains("65 filters"));
}
