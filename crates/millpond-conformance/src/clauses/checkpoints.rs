//! Checkpoints: dense versions, chunks in the same commit, verified payloads, restores that can be repeated.

use std::sync::Arc;

use millpond::{
    CHECKPOINT_BYTES, CHECKPOINT_JSON_BYTES, Checkpoints, Commit, ErrorKind, NewCheckpoint, Payload, Pond, Query, Scope, Store,
};
use serde_json::json;

use super::tools::{race, refused, two};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "checkpoints":
    versions_are_dense => "saves into one scope at once, through two handles, get the numbers 1, 2, 3 … each once";
    scopes_are_apart => "a session, a workflow and a run of the same id have versions of their own";
    a_save_is_one_record => "a save that follows one of its own writes one record, and nothing else";
    a_number_never_comes_again => "after pruning and deletion through another handle numbers go on where they were";
    a_large_one_is_whole_or_not_there => "a payload beyond a document is chunks in the same commit, and goes with them";
    the_limit_is_named => "a payload beyond the limit is refused, with the limit named, and nothing is written";
    a_damaged_payload_is_an_error => "a payload that does not have its digest is an error when loaded, and still listed";
    restoring_can_be_repeated => "a restore makes an old version current and names it; a second one changes nothing";
    a_branch_goes_on_from_an_old_version => "a branch names the old version as its parent, which has to exist";
    the_oldest_go_first => "keep newest and delete older take the oldest, and never the newest";
    lists_are_pages_newest_first => "versions are listed newest first, page by page; scopes by name";
}

fn run() -> Scope {
    Scope::Run("r1".to_owned())
}

/// The checkpoints of a pond of its own on a store, with no memory of earlier saves.
async fn checkpoints(store: Store) -> millpond::Result<Checkpoints> {
    Ok(Pond::new(store).await?.checkpoints())
}

async fn versions(checkpoints: &Checkpoints) -> Result<Vec<i64>, Failure> {
    Ok(checkpoints.list(run(), 1_000, None).await?.items.iter().map(|c| c.version).collect())
}

async fn versions_are_dense(ground: Arc<Ground>) -> Verdict {
    race(&two(&ground).await?, 8, |i, store| async move {
        let checkpoints = checkpoints(store).await?;
        for n in 0..4 {
            checkpoints.save(run(), &json!([i, n])).await?;
        }
        Ok(())
    })
    .await?;
    let checkpoints = ground.second_pond().await?.checkpoints();
    ensure_eq!(versions(&checkpoints).await?, (1..=32).rev().collect::<Vec<i64>>(), "versions after 32 saves");
    let mut payloads = Vec::new();
    for version in 1..=32 {
        let found = checkpoints.load(run(), version).await?;
        payloads.push(found.map(|c| c.json::<[usize; 2]>()).transpose()?);
    }
    payloads.sort_unstable();
    let expected: Vec<_> = (0..8).flat_map(|i| (0..4).map(move |n| Some([i, n]))).collect();
    ensure_eq!(payloads, expected, "the payloads of all versions");
    Ok(())
}

async fn scopes_are_apart(ground: Arc<Ground>) -> Verdict {
    let checkpoints = ground.pond().await?.checkpoints();
    let scopes = [run(), Scope::Session("r1".to_owned()), Scope::Workflow("r1".to_owned())];
    for scope in &scopes {
        for n in 1..=2i64 {
            let saved = checkpoints.save(scope, &json!({"n": n, "of": scope.name()})).await?;
            ensure_eq!((saved.version, saved.parent), (n, (n > 1).then_some(1)), "version and parent in {scope}");
        }
    }
    for scope in &scopes {
        let latest = checkpoints.latest(scope).await?.map(|c| c.payload);
        ensure_eq!(latest, Some(Payload::Json(json!({"n": 2, "of": scope.name()}))), "the latest of {scope}");
    }
    ensure_eq!(checkpoints.latest("other").await?, None, "the latest of a scope that has none");
    ensure_eq!(checkpoints.load(run(), 3).await?, None, "a version that was never saved");
    Ok(())
}

async fn a_save_is_one_record(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    pond.checkpoints().save(run(), &1).await?;
    for _ in 0..3 {
        let before = pond.store().head().await?.0;
        pond.checkpoints().save(run(), &"x".repeat(4_096)).await?;
        ensure_eq!(pond.store().head().await?.0, before + 1, "positions after a save");
    }
    Ok(())
}

async fn a_number_never_comes_again(ground: Arc<Ground>) -> Verdict {
    let (here, there) = (ground.pond().await?.checkpoints(), ground.second_pond().await?.checkpoints());
    for n in 0..3 {
        here.save(run(), &n).await?;
    }
    there.save(run(), &4).await?;
    here.save(run(), &5).await?;
    ensure_eq!(here.keep_newest(run(), 1).await?, 4, "versions pruned");
    ensure_eq!(there.save(run(), &6).await?.version, 6, "the version after a pruning elsewhere");
    ensure_eq!(here.delete_all(run()).await?, 2, "versions deleted");
    ensure_eq!(here.latest(run()).await?, None, "the latest after all were deleted");
    ensure_eq!(there.save(run(), &7).await?.version, 7, "the version after a deletion elsewhere");
    ensure_eq!(here.save(run(), &8).await?.version, 8, "the version after that");
    there.delete_all(run()).await?;
    let stores = two(&ground).await?;
    let mut first =
        race(&stores, 4, |i, store| async move { Ok(checkpoints(store).await?.save(run(), &i).await?.version) }).await?;
    first.sort_unstable();
    ensure_eq!(first, [9, 10, 11, 12], "versions saved at once into an emptied scope");
    Ok(())
}

async fn a_large_one_is_whole_or_not_there(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let bytes: Vec<u8> = (0..CHECKPOINT_BYTES).map(|n| u8::try_from(n % 251).unwrap_or(0)).collect();
    let saved = pond.checkpoints().save_new(run(), NewCheckpoint::bytes(bytes.clone())).await?;
    ensure!(saved.chunks > 1, "the largest payload is in {} chunks", saved.chunks);
    let other = ground.second_pond().await?;
    let loaded = other.checkpoints().load(run(), 1).await?.map(|c| c.payload);
    ensure!(loaded == Some(Payload::Bytes(bytes)), "the largest payload did not come back as it was saved");
    let text = "\"é\\".repeat(300_000);
    other.checkpoints().save(run(), &text).await?;
    let latest = pond.checkpoints().latest(run()).await?.map(|c| c.json::<String>()).transpose()?;
    ensure!(latest == Some(text), "a large JSON payload did not come back as it was saved");
    // The longest key a scope may have, and the most JSON that fits: plain, and of quotes alone.
    let longest = Scope::Run("\"".repeat(1_000));
    for text in ["x".repeat(CHECKPOINT_JSON_BYTES - 4), "\"".repeat(CHECKPOINT_JSON_BYTES / 4 - 1)] {
        pond.checkpoints().save(&longest, &text).await?;
        let latest = other.checkpoints().latest(&longest).await?.map(|c| c.json::<String>()).transpose()?;
        ensure!(latest == Some(text), "the largest JSON payload did not come back as it was saved");
    }
    other.checkpoints().delete_all(&longest).await?;
    other.checkpoints().delete_all(run()).await?;
    for collection in ["checkpoints", "checkpoint_chunks"] {
        ensure_eq!(pond.store().count(Query::new(collection)?).await?, 0, "records left in {collection}");
    }
    Ok(())
}

async fn the_limit_is_named(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let before = pond.store().head().await?;
    let new = NewCheckpoint::bytes(vec![0; CHECKPOINT_BYTES + 1]);
    let said = refused(pond.checkpoints().save_part(run(), &new).await, ErrorKind::Invalid, "a payload beyond the limit")?;
    ensure!(said.contains(&CHECKPOINT_BYTES.to_string()), "the refusal does not name the limit: {said}");
    let text = "x".repeat(CHECKPOINT_JSON_BYTES - 3);
    let new = NewCheckpoint::json(&text)?;
    let said = refused(pond.checkpoints().save_part(run(), &new).await, ErrorKind::Invalid, "JSON beyond the limit")?;
    ensure!(said.contains(&CHECKPOINT_JSON_BYTES.to_string()), "the refusal does not name the limit: {said}");
    ensure_eq!(pond.store().head().await?, before, "the head after a refused save");
    Ok(())
}

async fn a_damaged_payload_is_an_error(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let checkpoints = pond.checkpoints();
    checkpoints.save(run(), &"good").await?;
    let key = "run/r1/000000000001";
    let Some(record) = pond.store().get("checkpoints", key).await? else {
        return Err(Failure(format!("checkpoints/{key} does not exist")));
    };
    let mut value = record.value.value()?;
    value["payload"] = json!("bad");
    // The collection is create-only: what a damaged file reads as takes two commits.
    pond.commit(Commit::new().trusted().delete("checkpoints", key)?).await?;
    pond.commit(Commit::new().trusted().put("checkpoints", key, &value)?).await?;
    refused(checkpoints.load(run(), 1).await, ErrorKind::Corrupt, "a damaged payload by version")?;
    refused(checkpoints.latest(run()).await, ErrorKind::Corrupt, "a damaged payload by latest")?;
    ensure_eq!(versions(&checkpoints).await?, [1], "the list with a damaged payload");
    Ok(())
}

async fn restoring_can_be_repeated(ground: Arc<Ground>) -> Verdict {
    let (here, there) = (ground.pond().await?.checkpoints(), ground.second_pond().await?.checkpoints());
    for n in 1..=3 {
        here.save(run(), &n).await?;
    }
    ensure_eq!(here.restore(run(), 3).await?.version, 3, "a restore of what is current");
    let restored = here.restore(run(), 1).await?;
    ensure_eq!((restored.version, restored.restored_from), (4, Some(1)), "a restore of version 1");
    ensure_eq!(there.restore(run(), 1).await?, restored, "the same restore again");
    ensure_eq!(versions(&there).await?, [4, 3, 2, 1], "versions after two restores");
    let current = there.latest(run()).await?.map(|c| c.json::<i64>()).transpose()?;
    ensure_eq!(current, Some(1), "the current payload");
    refused(there.restore(run(), 9).await, ErrorKind::NotFound, "a restore of no version")?;
    // At once: all ask for the same, one makes it so.
    race(&two(&ground).await?, 8, |_, store| async move { Ok(checkpoints(store).await?.restore(run(), 2).await?) }).await?;
    ensure_eq!(versions(&here).await?, [5, 4, 3, 2, 1], "versions after eight equal restores at once");
    Ok(())
}

async fn a_branch_goes_on_from_an_old_version(ground: Arc<Ground>) -> Verdict {
    let checkpoints = ground.pond().await?.checkpoints();
    for n in 1..=3 {
        checkpoints.save(run(), &n).await?;
    }
    let branch = checkpoints.branch(run(), 2, NewCheckpoint::json(&"b")?.note("try")).await?;
    ensure_eq!((branch.version, branch.parent, branch.note.as_deref()), (4, Some(2), Some("try")), "the branch");
    ensure_eq!(checkpoints.save(run(), &5).await?.parent, Some(4), "what goes on from the branch");
    let none = checkpoints.branch(run(), 9, NewCheckpoint::bytes([1])).await;
    refused(none, ErrorKind::NotFound, "a branch from no version")?;
    Ok(())
}

async fn the_oldest_go_first(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let checkpoints = pond.checkpoints();
    let mut saved = Vec::new();
    for n in 0..12 {
        saved.push(checkpoints.save(run(), &n).await?);
    }
    ensure_eq!(checkpoints.delete_older_than(run(), saved[4].created_at).await?, 4, "versions older than the fifth");
    ensure_eq!(checkpoints.keep_newest(run(), 3).await?, 5, "versions beyond the newest three");
    ensure_eq!(versions(&checkpoints).await?, [12, 11, 10], "versions left");
    let later = pond.store().now().plus(std::time::Duration::from_secs(3_600));
    ensure_eq!(checkpoints.delete_older_than(run(), later).await?, 2, "versions older than an hour from now");
    ensure_eq!(versions(&checkpoints).await?, [12], "the newest stays");
    refused(checkpoints.keep_newest(run(), 0).await, ErrorKind::Invalid, "keeping none")?;
    ensure_eq!(checkpoints.keep_newest("other", 1).await?, 0, "versions of an empty scope");
    Ok(())
}

async fn lists_are_pages_newest_first(ground: Arc<Ground>) -> Verdict {
    let checkpoints = ground.pond().await?.checkpoints();
    for n in 0..5 {
        checkpoints.save_new(run(), NewCheckpoint::json(&n)?.metadata("n", json!(n))).await?;
    }
    for scope in ["a", "b"] {
        checkpoints.save(Scope::Session(scope.to_owned()), &1).await?;
    }
    let first = checkpoints.list(run(), 3, None).await?;
    let rest = checkpoints.list(run(), 3, first.next.clone()).await?;
    let found: Vec<i64> = first.items.iter().chain(&rest.items).map(|c| c.version).collect();
    ensure_eq!((found, rest.next), (vec![5, 4, 3, 2, 1], None), "versions in two pages");
    ensure_eq!(first.items[0].metadata.get("n"), Some(&json!(4)), "the metadata in the list");
    let sessions = checkpoints.scopes("session/", 10, None).await?;
    let names: Vec<&str> = sessions.items.iter().map(|s| s.scope.as_str()).collect();
    ensure_eq!(names, ["session/a", "session/b"], "scopes of sessions");
    Ok(())
}
