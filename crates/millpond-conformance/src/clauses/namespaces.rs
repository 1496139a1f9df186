//! Namespaces: made, listed, frozen, deleted whole, and never confused with one another.

use std::sync::Arc;

use millpond::{
    Collection, Commit, Cursor, Engine, ErrorKind, FieldKind, Front, Namespace, NamespaceStatus, Position, Query, Selector,
    StartAt, Store, StreamName,
};
use serde_json::json;

use super::tools::{append, event, head, put, refused, two, value};
use crate::{Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "namespaces":
    made_once_and_listed => "a namespace is made once, listed by every handle, and has an id of its own";
    apart => "namespaces share nothing: records, streams, declarations, positions and receipts are their own";
    a_frozen_one_takes_no_commits => "a frozen or moved namespace refuses commits, still answers reads, and can be opened again";
    deleted_by_its_id_only => "a namespace is deleted whole, by whoever names its store id, and by nobody else";
    made_again_is_another => "a namespace made again is empty, has another id, and refuses the cursors of the old one";
    missing_is_not_found => "a namespace that does not exist is not found, and does not come into being by being used";
}

async fn open(engine: &Arc<dyn Engine>, namespace: &Namespace) -> millpond::Result<Store> {
    Store::open(Arc::new(Front::new(Arc::clone(engine))), namespace.clone()).await
}

/// Removes a sibling namespace, whatever the clause found.
async fn without(ground: &Ground, namespace: &Namespace, verdict: Verdict) -> Verdict {
    if let Some(info) = ground.engine().namespace(namespace).await? {
        ground.engine().delete_namespace(namespace, &info.store_id).await?;
    }
    verdict
}

async fn made_once_and_listed(ground: Arc<Ground>) -> Verdict {
    let second = ground.place().open().await?;
    let info = second.namespace(ground.namespace()).await?;
    ensure!(info.is_some(), "a second handle does not know the namespace");
    if let Some(info) = info {
        ensure_eq!(info.name, *ground.namespace(), "its name");
        ensure_eq!((info.status, info.position.0), (NamespaceStatus::Open, 0), "its status and position");
        ensure!(!info.store_id.is_empty(), "it has no store id");
        let listed: Vec<_> = second.namespaces().await?;
        ensure!(listed.is_sorted_by(|a, b| a.name < b.name), "namespaces are not listed by name");
        let own = listed.into_iter().find(|n| n.name == *ground.namespace());
        ensure_eq!(own.map(|n| n.store_id), Some(info.store_id), "the store id in the list");
    }
    for engine in [ground.engine(), &second] {
        refused(engine.create_namespace(ground.namespace()).await, ErrorKind::Conflict, "making a namespace twice")?;
    }
    Ok(())
}

async fn apart(ground: Arc<Ground>) -> Verdict {
    let other = ground.sibling("b");
    let verdict = apart_from(&ground, &other).await;
    without(&ground, &other, verdict).await
}

async fn apart_from(ground: &Ground, other: &Namespace) -> Verdict {
    const NOTES: Collection = Collection::new("notes").index("n", FieldKind::Integer);
    ground.engine().create_namespace(other).await?;
    let (a, b) = (ground.store().await?, open(ground.engine(), other).await?);
    a.declare(&[NOTES.spec()?]).await?;
    let id = a.new_commit_id();
    a.commit(put("notes", "k", &json!({"n": 1}))?.append("log", event("x", 1)?)?.id(id)).await?;
    a.commit(put("notes", "k", &json!({"n": 2}))?).await?;
    ensure_eq!(value(&b, "notes", "k").await?, None, "a record of the other namespace");
    ensure!(b.stream("log").await?.is_none(), "a stream of the other namespace");
    ensure_eq!(b.outcome(id).await?, None, "a receipt of the other namespace");
    let mut declared = b.collections().await?.into_iter().map(|c| c.name.to_string());
    ensure!(!declared.any(|c| c == "notes"), "a collection of the other namespace");
    // Undeclared over there, so a document that would not fit here is fine.
    let receipt = b.commit(put("notes", "k", &json!({"n": "text"}))?.append("log", event("y", 9)?)?.id(id)).await?;
    ensure_eq!((receipt.position.0, receipt.revisions[0], receipt.sequences[0].first), (2, 1, 1), "counting from one");
    ensure!(!receipt.replayed, "a receipt of the other namespace was replayed");
    ensure_eq!(value(&a, "notes", "k").await?, Some(json!({"n": 2})), "the record here");
    ensure_eq!(head(&a).await?, 3, "the head here");
    ensure_eq!(a.count(Query::new("notes")?.eq("n", 2_i64)).await?, 1, "a query here");
    Ok(())
}

async fn a_frozen_one_takes_no_commits(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let id = one.new_commit_id();
    one.commit(put("notes", "a", &json!(1))?.id(id)).await?;
    for status in [NamespaceStatus::Frozen, NamespaceStatus::MovedTo("elsewhere:".to_owned())] {
        let info = ground.engine().set_status(ground.namespace(), status.clone()).await?;
        ensure_eq!(info.status, status, "the status that was set");
        for store in [&one, &two] {
            refused(
                store.commit(put("notes", "b", &json!(2))?).await,
                ErrorKind::Unavailable,
                &format!("a commit to {status:?}"),
            )?;
            ensure_eq!(value(store, "notes", "a").await?, Some(json!(1)), "a read of a namespace that is {status:?}");
            ensure_eq!(store.info().await?.status, status, "its status");
            let replayed = store.commit(put("notes", "a", &json!(1))?.id(id)).await?;
            ensure!(replayed.replayed, "what was committed before is still known");
        }
    }
    ground.engine().set_status(ground.namespace(), NamespaceStatus::Open).await?;
    two.commit(put("notes", "b", &json!(2))?).await?;
    ensure_eq!(head(&one).await?, 2, "the head after opening it again");
    Ok(())
}

async fn deleted_by_its_id_only(ground: Arc<Ground>) -> Verdict {
    let other = ground.sibling("b");
    let verdict = delete_other(&ground, &other).await;
    without(&ground, &other, verdict).await
}

async fn delete_other(ground: &Ground, other: &Namespace) -> Verdict {
    let info = ground.engine().create_namespace(other).await?;
    let (here, there) = (ground.store().await?, open(ground.engine(), other).await?);
    for store in [&here, &there] {
        store.commit(put("notes", "a", &json!(1))?.append("log", event("x", 1)?)?).await?;
    }
    for wrong in ["", here.store_id(), &info.store_id.to_uppercase().replace(|c: char| c.is_ascii_digit(), "x")] {
        let answer = ground.engine().delete_namespace(other, wrong).await;
        refused(answer, ErrorKind::Conflict, &format!("deleting a namespace under the id {wrong:?}"))?;
    }
    ensure_eq!(value(&there, "notes", "a").await?, Some(json!(1)), "its record after refused deletions");
    ground.place().open().await?.delete_namespace(other, &info.store_id).await?;
    ensure!(ground.engine().namespace(other).await?.is_none(), "a deleted namespace is known");
    refused(there.commit(put("notes", "b", &json!(1))?).await, ErrorKind::NotFound, "a commit to a deleted namespace")?;
    refused(there.get("notes", "a").await, ErrorKind::NotFound, "a read of a deleted namespace")?;
    ensure_eq!(value(&here, "notes", "a").await?, Some(json!(1)), "the record of another namespace");
    Ok(())
}

async fn made_again_is_another(ground: Arc<Ground>) -> Verdict {
    let other = ground.sibling("b");
    let verdict = make_again(&ground, &other).await;
    without(&ground, &other, verdict).await
}

async fn make_again(ground: &Ground, other: &Namespace) -> Verdict {
    let first = ground.engine().create_namespace(other).await?;
    let old = open(ground.engine(), other).await?;
    let id = old.new_commit_id();
    for n in 0..3 {
        old.commit(append("log", n)?.put("notes", "a", &n)?).await?;
    }
    old.commit(Commit::new().id(id).delete("notes", "a")?).await?;
    let cursor = old.cursor(old.head().await?);
    ground.engine().delete_namespace(other, &first.store_id).await?;
    let second = ground.engine().create_namespace(other).await?;
    ensure!(first.store_id != second.store_id, "a namespace made again has the same store id {}", first.store_id);
    let new = open(ground.engine(), other).await?;
    ensure_eq!((new.stream("log").await?.is_some(), head(&new).await?), (false, 0), "what is left of the old one");
    ensure_eq!(new.outcome(id).await?, None, "a receipt of the old one");
    refused(new.resume(&cursor), ErrorKind::CursorExpired, "a cursor of the old one")?;
    let receipt = new.commit(put("notes", "a", &json!(1))?.append("log", event("x", 1)?)?).await?;
    ensure_eq!((receipt.revisions[0], receipt.sequences[0].first), (1, 1), "revision and sequence begin again");
    refused(old.info().await, ErrorKind::NotFound, "a handle on the old one")?;
    refused(old.commit(put("notes", "late", &json!(1))?).await, ErrorKind::NotFound, "a commit through the old handle")?;
    refused(old.get("notes", "a").await, ErrorKind::NotFound, "a read through the old handle")?;
    let mut feed = old.subscribe(Selector::stream(StreamName::new("log")?), StartAt::After(Cursor::unbound(Position(1))));
    refused(feed.try_next().await, ErrorKind::NotFound, "a feed through the old handle")?;
    ensure!(new.get("notes", "late").await?.is_none(), "a commit through the old handle reached the new namespace");
    Ok(())
}

async fn missing_is_not_found(ground: Arc<Ground>) -> Verdict {
    let missing = ground.sibling("missing");
    let engine = ground.engine();
    ensure!(engine.namespace(&missing).await?.is_none(), "a namespace that was never made is known");
    refused(open(engine, &missing).await.map(|_| ()), ErrorKind::NotFound, "opening it")?;
    refused(engine.catalog(&missing).await.map(|_| ()), ErrorKind::NotFound, "its declarations")?;
    refused(engine.read(&missing, vec![millpond::Read::Collections]).await, ErrorKind::NotFound, "reading it")?;
    refused(engine.delete_namespace(&missing, "x").await, ErrorKind::NotFound, "deleting it")?;
    refused(engine.set_status(&missing, NamespaceStatus::Frozen).await, ErrorKind::NotFound, "freezing it")?;
    ensure!(engine.namespace(&missing).await?.is_none(), "a namespace came into being by being used");
    Ok(())
}
