//! Commits: at once or not at all, and a refusal says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millpond::{
    Collection, Commit, ErrorKind, Expectation, Expected, FieldKind, Found, Key, MergeOp, Outcome, Query, Read, RecordId, Store,
    StreamName,
};
use serde_json::{Value, json};

use super::tools::{conflict, event, head, joined, put, race, refused, revision, two, value};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "commits":
    all_or_nothing => "a commit that meets a conflict leaves no record, event, receipt or position behind";
    an_invalid_part_refuses_all => "a commit with one impossible write is refused whole";
    expectations_hold_both_ways => "each kind of expectation lets a commit pass when it holds and refuses it when it does not";
    a_conflict_says_what_was_found => "a conflict names the expectation and carries revision, time and author of what was found";
    expectations_guard_other_records => "an expectation may be on a record the commit does not write";
    writes_build_on_each_other => "writes of one commit are applied in order, each on what the one before left";
    merges_fold => "add, min, max, set and set-if-absent work on what is stored, and start from an empty document";
    empty_commit => "a commit of nothing is applied and takes no position";
    one_of_racing_updates => "of racing updates of one revision exactly one is applied";
    racing_merges_all_count => "racing merges from two handles lose nothing and conflict with nothing";
    a_quota_holds_under_racers => "of racers that each count themselves in under a quota exactly as many are applied as it allows";
    readers_see_whole_commits => "a reader sees all of a commit or nothing of it";
    positions_are_dense => "positions of racing commits are given out without gap or repetition";
    create_only_collections => "a create-only record can be created and deleted, never changed";
    owned_collections => "a raw commit into an owned collection is refused, and so is any direct write of a lease";
}

async fn all_or_nothing(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    one.commit(put("notes", "there", &json!(1))?.append("log", event("first", 1)?)?).await?;
    let before = head(&one).await?;
    let id = one.new_commit_id();
    let commit = Commit::new()
        .id(id)
        .expect_revision("notes", "there", 1)?
        .expect_absent("notes", "there")?
        .put("notes", "new", &1)?
        .put("notes", "there", &2)?
        .delete("notes", "there")?
        .append("log", event("second", 2)?)?
        .append("fresh", event("third", 3)?)?
        .seal("log")?;
    conflict(one.try_commit(commit).await?, "two expectations that cannot both hold")?;
    for store in [&one, &two] {
        ensure_eq!(value(store, "notes", "new").await?, None, "a record of a refused commit");
        ensure_eq!(value(store, "notes", "there").await?, Some(json!(1)), "a record that a refused commit would change");
        let log = store.stream("log").await?.map(|s| (s.head, s.sealed));
        ensure_eq!(log, Some((1, false)), "a stream that a refused commit would extend and seal");
        ensure!(store.stream("fresh").await?.is_none(), "a stream of a refused commit exists");
        ensure_eq!(store.outcome(id).await?, None, "the receipt of a refused commit");
        ensure_eq!(head(store).await?, before, "the head after a refused commit");
    }
    let next = two.commit(Commit::new().append("log", event("second", 2)?)?).await?;
    ensure_eq!((next.position.0, next.sequences[0].first), (before + 1, 2), "position and sequence of the next commit");
    Ok(())
}

async fn an_invalid_part_refuses_all(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    store.commit(put("notes", "text", &json!({"n": "words"}))?).await?;
    let before = head(&store).await?;
    let add = || vec![MergeOp::Add("/n".to_owned(), 1)];
    let commit = put("notes", "new", &json!(1))?.append("log", event("x", 1)?)?.merge("notes", "text", add())?;
    refused(store.commit(commit).await, ErrorKind::Invalid, "adding to text")?;
    let trim = put("notes", "new", &json!(1))?.trim("log", 5)?;
    refused(store.commit(trim).await, ErrorKind::Invalid, "trimming beyond the end")?;
    let overflow = put("notes", "new", &json!(1))?.merge(
        "notes",
        "sum",
        vec![MergeOp::Add("/n".to_owned(), i64::MAX), MergeOp::Add("/n".to_owned(), 1)],
    )?;
    refused(store.commit(overflow).await, ErrorKind::Invalid, "a sum beyond 64 bits")?;
    ensure_eq!(value(&store, "notes", "new").await?, None, "a record of a refused commit");
    ensure_eq!(value(&store, "notes", "sum").await?, None, "a half-applied merge");
    ensure!(store.stream("log").await?.is_none(), "a stream of a refused commit exists");
    ensure_eq!(head(&store).await?, before, "the head");
    Ok(())
}

async fn expectations_hold_both_ways(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let live = RecordId::new("notes", "live")?;
    let gone = RecordId::new("notes", "gone")?;
    let never = RecordId::new("notes", "never")?;
    let (log, none) = (StreamName::new("log")?, StreamName::new("none")?);
    store.commit(put("notes", "live", &json!(1))?.put("notes", "gone", &1)?).await?;
    store.commit(Commit::new().put("notes", "live", &2)?.delete("notes", "gone")?.append("log", event("x", 1)?)?).await?;
    store.commit(put("notes", "quota", &json!({"used": 3}))?).await?;
    let quota =
        |key: &str, most| Ok::<_, millpond::Error>(Expectation::AtMost(RecordId::new("notes", key)?, "/used".to_owned(), most));
    let table = [
        (quota("quota", 3)?, true),
        (quota("quota", 2)?, false),
        (quota("never", 0)?, true),
        (quota("gone", -1)?, false),
        (Expectation::Absent(live.clone()), false),
        (Expectation::Absent(gone.clone()), true),
        (Expectation::Absent(never.clone()), true),
        (Expectation::Exists(live.clone()), true),
        (Expectation::Exists(gone.clone()), false),
        (Expectation::Exists(never.clone()), false),
        (Expectation::Revision(live.clone(), 2), true),
        (Expectation::Revision(live.clone(), 1), false),
        (Expectation::Revision(live, 3), false),
        (Expectation::Revision(gone, 2), false),
        (Expectation::Revision(never, 0), false),
        (Expectation::StreamAt(log.clone(), 1), true),
        (Expectation::StreamAt(log.clone(), 0), false),
        (Expectation::StreamAt(log, 2), false),
        (Expectation::StreamAt(none.clone(), 0), true),
        (Expectation::StreamAt(none, 1), false),
        (Expectation::Lease(Key::new("nobody")?, 1), false),
    ];
    for (n, (expectation, holds)) in table.into_iter().enumerate() {
        let mark = format!("mark{n}");
        let commit = put("marks", &mark, &json!(1))?.expect(expectation.clone());
        let applied = matches!(store.try_commit(commit).await?, Outcome::Committed(_));
        ensure_eq!(applied, holds, "a commit that expects {expectation:?}");
        ensure_eq!(value(&store, "marks", &mark).await?.is_some(), holds, "the record beside {expectation:?}");
    }
    Ok(())
}

async fn a_conflict_says_what_was_found(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    one.commit(put("notes", "a", &json!(1))?).await?;
    let second = one.commit(put("notes", "a", &json!(2))?.by("anna")).await?;
    let stale = put("notes", "b", &json!(3))?.expect(Expectation::Exists(RecordId::new("notes", "a")?));
    let found = conflict(two.try_commit(stale.expect_revision("notes", "a", 1)?).await?, "a stale revision")?;
    ensure_eq!(found.index, Some(1), "the expectation's place");
    let expected = Found::Record { revision: 2, time: second.time, by: Some("anna".to_owned()) };
    ensure_eq!(found.found, expected, "what a stale update found");
    one.commit(Commit::new().delete("notes", "a")?).await?;
    let gone = conflict(two.try_commit(put("notes", "a", &json!(3))?.expect_revision("notes", "a", 2)?).await?, "a deleted one")?;
    ensure_eq!(gone.found, Found::Absent { revision: 3 }, "what an update of a deleted record found");
    one.commit(Commit::new().append_all("log", vec![event("x", 1)?, event("x", 2)?])?).await?;
    let behind = Commit::new().expect(Expectation::StreamAt(StreamName::new("log")?, 1));
    let behind = conflict(two.try_commit(behind).await?, "a stream that moved on")?;
    ensure_eq!(behind.found, Found::Stream { head: 2, sealed: false }, "what was found of the stream");
    Ok(())
}

async fn expectations_guard_other_records(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    one.commit(put("config", "mode", &json!("on"))?).await?;
    let guarded = |n: usize| put("work", "w", &json!(n))?.expect_revision("config", "mode", 1);
    two.commit(guarded(1)?).await?;
    one.commit(put("config", "mode", &json!("off"))?).await?;
    conflict(two.try_commit(guarded(2)?).await?, "a commit guarded by a record that moved on")?;
    ensure_eq!(value(&one, "work", "w").await?, Some(json!(1)), "the guarded record");
    ensure_eq!(revision(&one, "config", "mode").await?, 2, "the guard itself");
    Ok(())
}

async fn writes_build_on_each_other(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let add = |n| vec![MergeOp::Add("/n".to_owned(), n)];
    let commit = put("notes", "a", &json!({"n": 1}))?
        .expect_absent("notes", "a")?
        .merge("notes", "a", add(2))?
        .merge("notes", "a", add(3))?
        .delete("notes", "b")?
        .put("notes", "b", &json!({"n": 5}))?
        .delete("notes", "b")?
        .merge("notes", "b", add(7))?;
    let receipt = store.commit(commit).await?;
    ensure_eq!(receipt.revisions, vec![1, 2, 3, 0, 1, 2, 3], "the revisions each write left");
    ensure_eq!(value(&store, "notes", "a").await?, Some(json!({"n": 6})), "the merged record");
    ensure_eq!(value(&store, "notes", "b").await?, Some(json!({"n": 7})), "the record merged after its deletion");
    ensure_eq!(receipt.position.0, 6, "six changes take six positions");
    Ok(())
}

async fn merges_fold(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let path = |p: &str| p.to_owned();
    let text = |t: &str| millpond::Json::of(t);
    let round = |n: i64, word: &str| {
        Ok::<_, millpond::Error>(vec![
            MergeOp::Add(path("/sum"), n),
            MergeOp::Min(path("/range/min"), n),
            MergeOp::Max(path("/range/max"), n),
            MergeOp::Set(path("/last"), text(word)?),
            MergeOp::SetIfAbsent(path("/first"), text(word)?),
            MergeOp::Add(path("/by~1word/") + word, 1),
        ])
    };
    for (n, word) in [(5, "five"), (-3, "three"), (5, "five")] {
        store.commit(Commit::new().merge("totals", "t", round(n, word)?)?).await?;
    }
    let expected = json!({
        "sum": 7, "range": {"min": -3, "max": 5}, "last": "five", "first": "five", "by/word": {"five": 2, "three": 1}
    });
    ensure_eq!(value(&store, "totals", "t").await?, Some(expected), "the merged document");
    ensure_eq!(revision(&store, "totals", "t").await?, 3, "the revision after three merges");
    Ok(())
}

async fn empty_commit(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    store.commit(put("notes", "a", &json!(1))?).await?;
    let id = store.new_commit_id();
    let receipt = store.commit(Commit::new().id(id)).await?;
    ensure_eq!(receipt.position.0, 1, "the position of an empty commit");
    ensure_eq!(head(&store).await?, 1, "the head after an empty commit");
    ensure!(store.outcome(id).await?.is_some(), "an empty commit was not remembered");
    conflict(store.try_commit(Commit::new().expect_absent("notes", "a")?).await?, "an expectation alone")?;
    Ok(())
}

async fn one_of_racing_updates(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    stores[0].commit(put("notes", "a", &json!("start"))?).await?;
    for round in 1..=10_u64 {
        let outcomes = race(&stores, 8, |i, store| async move {
            let commit = put("notes", "a", &json!([round, i]))?.expect_revision("notes", "a", round)?;
            Ok((i, store.try_commit(commit).await?))
        })
        .await?;
        let won: Vec<usize> = outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Committed(_))).map(|(i, _)| *i).collect();
        ensure_eq!(won.len(), 1, "winners of round {round}");
        ensure_eq!(value(&stores[1], "notes", "a").await?, Some(json!([round, won[0]])), "the record after round {round}");
        ensure_eq!(revision(&stores[0], "notes", "a").await?, round + 1, "the revision after round {round}");
    }
    Ok(())
}

async fn racing_merges_all_count(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    race(&stores, 8, |i, store| async move {
        for n in 0..20 {
            let ops = vec![MergeOp::Add("/n".to_owned(), 1), MergeOp::Max("/max".to_owned(), n * 8 + i as i64)];
            store.commit(Commit::new().merge("totals", "t", ops)?).await?;
        }
        Ok(())
    })
    .await?;
    ensure_eq!(value(&stores[1], "totals", "t").await?, Some(json!({"n": 160, "max": 159})), "the total of 160 merges");
    ensure_eq!(revision(&stores[0], "totals", "t").await?, 160, "the revision after 160 merges");
    Ok(())
}

async fn a_quota_holds_under_racers(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let quota = |most| Ok::<_, Failure>(Expectation::AtMost(RecordId::new("quotas", "q")?, "/used".into(), most));
    let applied = race(&stores, 20, move |i, store| async move {
        let commit = Commit::new().expect(quota(6)?).merge("quotas", "q", vec![MergeOp::Add("/used".into(), 1)])?.put(
            "members",
            &i.to_string(),
            &json!({}),
        )?;
        Ok(matches!(store.try_commit(commit).await?, Outcome::Committed(_)))
    })
    .await?;
    ensure_eq!(applied.iter().filter(|a| **a).count(), 7, "racers that were let in with 0 to 6 before them");
    ensure_eq!(value(&stores[1], "quotas", "q").await?, Some(json!({"used": 7})), "the counter");
    ensure_eq!(stores[0].count(Query::new("members")?).await?, 7, "records of those let in");
    let full = conflict(stores[0].try_commit(Commit::new().expect(quota(6)?)).await?, "a full quota")?;
    ensure!(matches!(full.found, Found::Record { revision: 7, .. }), "what a full quota found: {full:?}");
    stores[0].commit(put("quotas", "q", &json!({"used": "many"}))?).await?;
    refused(stores[1].try_commit(Commit::new().expect(quota(6)?)).await, ErrorKind::Invalid, "a quota that is no integer")?;
    Ok(())
}

async fn readers_see_whole_commits(ground: Arc<Ground>) -> Verdict {
    let [writer, reader] = two(&ground).await?;
    let pair = |n: usize| put("pair", "a", &json!(n))?.put("pair", "b", &n)?.append("pair", event("x", n)?);
    writer.commit(pair(1)?).await?;
    let enough = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&enough);
    let writing = tokio::spawn(async move {
        let mut n = 2;
        while !stop.load(Ordering::Relaxed) {
            writer.commit(pair(n)?).await?;
            n += 1;
            tokio::task::yield_now().await;
        }
        Ok::<_, Failure>(n)
    });
    let mut looks = 0;
    let verdict = loop {
        looks += 1;
        match look_at_pair(&reader).await {
            Ok(()) if looks < 50 => tokio::task::yield_now().await,
            verdict => break verdict,
        }
    };
    enough.store(true, Ordering::Relaxed);
    let written = joined(writing).await?;
    verdict?;
    ensure!(written > 2, "nothing was written while the reader looked");
    Ok(())
}

/// Three reads in one call, of what one commit always changes together.
async fn look_at_pair(reader: &Store) -> Verdict {
    let get = |key: &str| Ok::<_, millpond::Error>(Read::Get(RecordId::new("pair", key)?));
    let answers = reader.read(vec![get("a")?, Read::Stream(StreamName::new("pair")?), get("b")?]).await?;
    let mut seen = Vec::new();
    for answer in answers {
        seen.push(match answer {
            millpond::Answer::Record(Some(r)) => r.value.value()?.as_u64().unwrap_or(0),
            millpond::Answer::Stream(Some(s)) => s.head,
            other => return Err(Failure(format!("a part of the commit is missing: {other:?}"))),
        });
    }
    ensure!(seen.iter().all(|n| *n == seen[0]), "one read saw parts of different commits: {seen:?}");
    Ok(())
}

async fn positions_are_dense(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let receipts = race(&stores, 8, |i, store| async move {
        let mut ends = Vec::new();
        for n in 0..10 {
            let commit = put("notes", &format!("k{i}"), &json!(n))?.append("log", event("x", n)?)?;
            ends.push(store.commit(commit).await?.position.0);
        }
        Ok(ends)
    })
    .await?;
    let mut ends: Vec<u64> = receipts.iter().flatten().copied().collect();
    ensure!(receipts.iter().all(|own| own.is_sorted()), "one caller's commits were given falling positions");
    ends.sort_unstable();
    let expected: Vec<u64> = (1..=80).map(|n| n * 2).collect();
    ensure_eq!(ends, expected, "the last positions of 80 commits of two changes each");
    ensure_eq!(head(&stores[0]).await?, 160, "the head");
    Ok(())
}

async fn create_only_collections(ground: Arc<Ground>) -> Verdict {
    const VERSIONS: Collection = Collection::new("versions").index("name", FieldKind::Text).create_only();
    let store = ground.store().await?;
    store.declare(&[VERSIONS.spec()?]).await?;
    let version = |n: usize| put("versions", "v", &json!({"name": format!("n{n}")}));
    store.commit(version(1)?).await?;
    let refused = conflict(store.try_commit(version(2)?).await?, "changing a create-only record")?;
    ensure_eq!(refused.expected, Expected::CreateOnly(RecordId::new("versions", "v")?), "what was expected");
    let merge = Commit::new().merge("versions", "v", vec![MergeOp::Add("/n".to_owned(), 1)])?;
    conflict(store.try_commit(merge).await?, "merging into a create-only record")?;
    conflict(store.try_commit(version(2)?.put("versions", "v", &json!({}))?).await?, "changing it twice")?;
    store.commit(Commit::new().delete("versions", "v")?).await?;
    ensure_eq!(store.commit(version(3)?).await?.revisions, vec![3], "creating it again");
    let found = super::tools::keys(&store, &Query::new("versions")?.eq("name", "n3")).await?;
    ensure_eq!(found, vec!["v".to_owned()], "the record by its field");
    Ok(())
}

async fn owned_collections(ground: Arc<Ground>) -> Verdict {
    const OWNED: Collection = Collection::new("guarded").owned();
    let store = ground.store().await?;
    store.declare(&[OWNED.spec()?]).await?;
    let raw = [
        put("guarded", "a", &json!(1))?,
        Commit::new().delete("guarded", "a")?,
        Commit::new().merge("guarded", "a", vec![MergeOp::Add("/n".to_owned(), 1)])?,
    ];
    for commit in raw.clone() {
        refused(store.commit(commit).await, ErrorKind::Invalid, "a raw commit into an owned collection")?;
    }
    store.commit(put("guarded", "a", &json!({}))?.trusted()).await?;
    for commit in raw {
        refused(store.commit(commit).await, ErrorKind::Invalid, "a raw commit over an owned record")?;
    }
    let lease: Value = json!({"holder": {"name": "x"}, "token": 9});
    let direct =
        [put("locks", "l", &lease)?, put("locks", "l", &lease)?.trusted(), Commit::new().delete("locks", "l")?.trusted()];
    for commit in direct {
        refused(store.commit(commit).await, ErrorKind::Invalid, "writing a lease directly")?;
    }
    ensure_eq!(value(&store, "guarded", "a").await?, Some(json!({})), "the owned record");
    Ok(())
}
