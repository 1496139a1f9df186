//! Random scripts: few names, small numbers, so that commits meet each other.

use millpond_core::{
    Append, Commit, CommitId, Expectation, Json, ManualHost, MergeOp, NewEvent, RecordId, StreamName, Timestamp, Trim, Write,
};
use proptest::prelude::*;

/// One commit of a script, before it has an id.
#[derive(Debug, Clone)]
pub struct Step {
    /// Sends the id of the step this many back again, with its own body (`false`) or with this one (`true`).
    again: Option<(usize, bool)>,
    body: Commit,
}

/// A whole script.
pub type Script = Vec<Step>;

/// When every script plays.
pub const NOW: i64 = 1_800_000_000_000_000;

fn record() -> impl Strategy<Value = RecordId> {
    (0..2_usize, 0..3_usize).prop_map(|(c, k)| RecordId::new(["a", "b"][c], ["x", "y", "z"][k]).unwrap())
}

fn stream() -> impl Strategy<Value = StreamName> {
    (0..2_usize).prop_map(|s| StreamName::new(["s", "t"][s]).unwrap())
}

fn document() -> impl Strategy<Value = Json> {
    prop_oneof![
        (0..5_i64).prop_map(|n| Json::of(&serde_json::json!({ "n": n })).unwrap()),
        Just(Json::of("text").unwrap()),
        Just(Json::of(&serde_json::json!({ "n": "text" })).unwrap()),
    ]
}

fn merge() -> impl Strategy<Value = MergeOp> {
    let path = || prop_oneof![Just("/n".to_owned()), Just("/deep/n".to_owned())];
    prop_oneof![
        4 => (path(), -3..4_i64).prop_map(|(p, n)| MergeOp::Add(p, n)),
        1 => path().prop_map(|p| MergeOp::Add(p, i64::MAX)),
        2 => (path(), -3..4_i64).prop_map(|(p, n)| MergeOp::Min(p, n)),
        2 => (path(), -3..4_i64).prop_map(|(p, n)| MergeOp::Max(p, n)),
        1 => (path(), 0..3_i64).prop_map(|(p, n)| MergeOp::Set(p, Json::of(&n).unwrap())),
        1 => (path(), 0..3_i64).prop_map(|(p, n)| MergeOp::SetIfAbsent(p, Json::of(&n).unwrap())),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (record(), document()).prop_map(|(r, d)| Write::Put(r, d)),
        2 => record().prop_map(Write::Delete),
        2 => (record(), prop::collection::vec(merge(), 1..4)).prop_map(|(r, ops)| Write::Merge(r, ops)),
    ]
}

fn expectation() -> impl Strategy<Value = Expectation> {
    prop_oneof![
        record().prop_map(Expectation::Absent),
        record().prop_map(Expectation::Exists),
        (record(), 0..5_u64).prop_map(|(r, n)| Expectation::Revision(r, n)),
        (stream(), 0..5_u64).prop_map(|(s, n)| Expectation::StreamAt(s, n)),
        (record(), -1..4_i64).prop_map(|(r, n)| Expectation::AtMost(r, "/n".to_owned(), n)),
    ]
}

fn event() -> impl Strategy<Value = NewEvent> {
    prop::option::of(0..4_u8).prop_map(|id| NewEvent { id: id.map(|n| format!("e{n}")), ..NewEvent::of("test", &()).unwrap() })
}

fn body() -> impl Strategy<Value = Commit> {
    (
        prop::collection::vec(expectation(), 0..2),
        prop::collection::vec(write(), 0..4),
        prop::collection::vec((stream(), prop::collection::vec(event(), 0..4)), 0..3),
        prop::option::weighted(0.2, (stream(), 0..6_u64)),
        prop::option::weighted(0.05, stream()),
    )
        .prop_map(|(expect, writes, appends, trim, seal)| {
            let mut commit = Commit::new();
            commit.expect = expect;
            commit.writes = writes;
            commit.appends = appends.into_iter().map(|(stream, events)| Append { stream, events }).collect();
            commit.trims = trim.map(|(stream, before)| Trim { stream, before }).into_iter().collect();
            commit.seals = seal.into_iter().collect();
            commit
        })
}

/// Scripts of up to two dozen commits.
pub fn script() -> impl Strategy<Value = Script> {
    let again = prop::option::weighted(0.2, (1..6_usize, prop::bool::weighted(0.3)));
    let step = (again, body()).prop_map(|(again, body)| Step { again, body });
    prop::collection::vec(step, 1..24)
}

/// The commits of a script, with their ids.
pub fn commits(script: &Script) -> Vec<Commit> {
    let host = ManualHost::at(Timestamp::from_micros(NOW));
    let mut commits: Vec<Commit> = Vec::new();
    for step in script {
        let mut commit = step.body.clone();
        commit.id = Some(CommitId::generate(&host));
        let earlier = step.again.and_then(|(back, other_body)| Some((commits.len().checked_sub(back)?, other_body)));
        match earlier {
            Some((at, true)) => commit.id = commits[at].id,
            Some((at, false)) => commit = commits[at].clone(),
            None => {}
        }
        commits.push(commit);
    }
    commits
}

/// The record a write is about.
pub fn key_of(write: &Write) -> String {
    match write {
        Write::Put(r, _) | Write::Delete(r) | Write::Merge(r, _) => r.to_string(),
        other => format!("{other:?}"),
    }
}
