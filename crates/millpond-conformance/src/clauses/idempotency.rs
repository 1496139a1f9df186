//! Idempotency: a commit id is applied at most once, for ever.

use std::sync::Arc;
use std::time::Duration;

use millpond::{Commit, CommitId, ErrorKind, MergeOp, Store};
use serde_json::json;

use super::tools::{conflict, event, head, id_at, put, race, refused, two, value};
use crate::{Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "idempotency":
    same_id_same_receipt => "the same commit sent again, through any handle, answers the first receipt and changes nothing";
    same_id_other_body => "an id used for another body is refused as invalid, and nothing is applied";
    duplicates_at_once => "of concurrent duplicates exactly one has an effect, and all hear of the same one";
    a_refusal_is_not_remembered => "a commit that met a conflict can be sent again under its id once the conflict is gone";
    outcome_by_id => "the receipt of a commit can be asked for by its id";
    old_and_future_ids => "an id older than the receipt window or a day ahead of the clock is refused, never applied";
    forgotten_ids_stay_used => "an id whose receipt was purged is refused, never applied a second time";
}

fn add_one(id: CommitId) -> millpond::Result<Commit> {
    Commit::new().id(id).merge("counts", "n", vec![MergeOp::Add("/n".to_owned(), 1)])?.append("log", event("added", 1)?)
}

async fn count(store: &Store) -> millpond::Result<i64> {
    Ok(value(store, "counts", "n").await?.and_then(|v| v["n"].as_i64()).unwrap_or(0))
}

async fn same_id_same_receipt(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let id = one.new_commit_id();
    let first = one.commit(add_one(id)?).await?;
    ensure!(!first.replayed, "the first answer calls itself a replay");
    one.commit(put("counts", "other", &json!(1))?).await?;
    for store in [&one, &two, &one] {
        let again = store.commit(add_one(id)?).await?;
        ensure!(again.replayed, "a repeated commit was applied again: {again:?}");
        ensure_eq!((again.position, again.time), (first.position, first.time), "the replayed receipt");
        ensure_eq!((&again.revisions, &again.sequences), (&first.revisions, &first.sequences), "the replayed receipt");
    }
    ensure_eq!(count(&two).await?, 1, "the counter");
    ensure_eq!(two.stream("log").await?.map(|s| s.head), Some(1), "the stream's head");
    Ok(())
}

async fn same_id_other_body(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let id = one.new_commit_id();
    one.commit(put("notes", "a", &json!(1))?.id(id)).await?;
    let before = head(&one).await?;
    for store in [&one, &two] {
        let other = put("notes", "a", &json!(2))?.id(id);
        refused(store.commit(other).await, ErrorKind::Invalid, "the same id with another body")?;
        let more = put("notes", "a", &json!(1))?.put("notes", "b", &1)?.id(id);
        refused(store.commit(more).await, ErrorKind::Invalid, "the same id with one write more")?;
    }
    ensure_eq!(value(&two, "notes", "a").await?, Some(json!(1)), "the record");
    ensure_eq!(head(&two).await?, before, "the head");
    Ok(())
}

async fn duplicates_at_once(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    for round in 1..=5 {
        let id = stores[0].new_commit_id();
        let receipts = race(&stores, 8, |_, store| async move { Ok(store.commit(add_one(id)?).await?) }).await?;
        let fresh = receipts.iter().filter(|r| !r.replayed).count();
        ensure_eq!(fresh, 1, "racers that heard of the first application");
        ensure!(receipts.iter().all(|r| r.position == receipts[0].position), "racers heard of different positions");
        ensure_eq!(count(&stores[1]).await?, round, "the counter after {round} rounds");
    }
    Ok(())
}

async fn a_refusal_is_not_remembered(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    store.commit(put("notes", "a", &json!(1))?).await?;
    let id = store.new_commit_id();
    let create = || put("notes", "a", &json!(2))?.id(id).expect_absent("notes", "a");
    conflict(store.try_commit(create()?).await?, "creating what exists")?;
    ensure_eq!(store.outcome(id).await?, None, "the receipt of a refused commit");
    store.commit(Commit::new().delete("notes", "a")?).await?;
    let receipt = store.commit(create()?).await?;
    ensure!(!receipt.replayed, "a refused commit was remembered");
    ensure_eq!(value(&store, "notes", "a").await?, Some(json!(2)), "the record");
    Ok(())
}

async fn outcome_by_id(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let id = one.new_commit_id();
    ensure_eq!(two.outcome(id).await?, None, "the receipt of a commit that was never sent");
    let receipt = one.commit(add_one(id)?).await?;
    let found = two.outcome(id).await?;
    ensure!(found.is_some(), "the receipt of an applied commit is not found");
    if let Some(found) = found {
        ensure_eq!((found.id, found.position, found.time), (id, receipt.position, receipt.time), "the receipt");
        ensure_eq!((found.revisions, found.sequences), (receipt.revisions, receipt.sequences), "the receipt");
    }
    Ok(())
}

async fn old_and_future_ids(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let day = Duration::from_secs(86_400);
    let (old, future) = (id_at(store.now().minus(day * 8)), id_at(store.now().plus(day * 2)));
    refused(store.commit(add_one(old)?).await, ErrorKind::Invalid, "an id eight days old")?;
    refused(store.commit(add_one(future)?).await, ErrorKind::Invalid, "an id two days ahead")?;
    ensure_eq!(head(&store).await?, 0, "the head after refusals only");
    store.commit(add_one(id_at(store.now().minus(day * 6)))?).await?;
    ensure_eq!(count(&store).await?, 1, "the counter after an id six days old");
    Ok(())
}

async fn forgotten_ids_stay_used(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let hour = Duration::from_secs(3_600);
    let (old, young) = (id_at(one.now().minus(hour * 2)), one.new_commit_id());
    one.commit(add_one(old)?).await?;
    one.commit(add_one(young)?).await?;
    let purged = ground.engine().purge(ground.namespace(), one.now().minus(hour)).await?;
    ensure_eq!(purged.receipts, 1, "purged receipts");
    ensure_eq!(two.outcome(old).await?, None, "the purged receipt");
    ensure!(two.outcome(young).await?.is_some(), "a receipt younger than the purge is gone");
    for store in [&one, &two] {
        refused(store.commit(add_one(old)?).await, ErrorKind::Invalid, "an id whose receipt was purged")?;
    }
    let never = id_at(one.now().minus(hour * 3));
    refused(two.commit(add_one(never)?).await, ErrorKind::Invalid, "an id from before the purge")?;
    ensure_eq!(count(&one).await?, 2, "the counter");
    Ok(())
}
