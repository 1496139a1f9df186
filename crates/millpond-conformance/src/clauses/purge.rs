//! Purging: what is forgotten never comes again under an old number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millpond::{Collection, Commit, FieldKind, Purged, Query, Timestamp};
use serde_json::json;

use super::tools::{append, head, put, revision, two, value};
use crate::{Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "purge":
    no_revision_twice => "a key created again after its tombstone was purged takes no revision it had before";
    forgets_what_it_says => "a purge removes tombstones and receipts from before a moment, and nothing else";
    sequences_survive => "streams, sequences and positions go on where they were";
}

fn just_after(time: Timestamp) -> Timestamp {
    time.plus(Duration::from_micros(1))
}

async fn no_revision_twice(ground: Arc<Ground>) -> Verdict {
    const DECLARED: Collection = Collection::new("declared").index("n", FieldKind::Integer);
    let stores = two(&ground).await?;
    stores[0].declare(&[DECLARED.spec()?]).await?;
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for round in 0..4 {
        let store = &stores[round % 2];
        let mut last = Timestamp::default();
        for collection in ["notes", "declared"] {
            // Key number n is changed n times before it is deleted, so that the floors differ.
            for n in 1..=4 {
                let key = format!("k{n}");
                let own = seen.entry(format!("{collection}/{key}")).or_default();
                for _ in 0..n {
                    own.extend(store.commit(put(collection, &key, &json!({"n": n}))?).await?.revisions);
                }
                let gone = store.commit(Commit::new().delete(collection, &key)?).await?;
                own.extend(gone.revisions);
                last = gone.time;
            }
        }
        let purged = ground.engine().purge(ground.namespace(), just_after(last)).await?;
        ensure_eq!(purged.tombstones, 8, "tombstones purged in round {round}");
        let fresh = format!("fresh{round}");
        let first = stores[1 - round % 2].commit(put("notes", &fresh, &json!({}))?).await?.revisions[0];
        ensure!(first > 0, "a key that never was begins at revision {first}");
    }
    for (key, revisions) in seen {
        ensure!(revisions.is_sorted_by(|a, b| a < b), "{key} took revisions again: {revisions:?}");
    }
    Ok(())
}

async fn forgets_what_it_says(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    for key in ["live", "early", "late"] {
        one.commit(put("notes", key, &json!(key))?).await?;
    }
    let early = one.commit(Commit::new().delete("notes", "early")?).await?;
    let moment = just_after(early.time);
    // The store's clock has to pass the moment, or both deletions fall into one microsecond.
    while one.now() <= moment {
        tokio::task::yield_now().await;
    }
    one.commit(Commit::new().delete("notes", "late")?).await?;
    let purged = ground.engine().purge(ground.namespace(), moment).await?;
    ensure_eq!(purged.tombstones, 1, "purged tombstones");
    ensure_eq!(value(&two, "notes", "live").await?, Some(json!("live")), "a live record");
    ensure_eq!(two.count(Query::new("notes")?).await?, 1, "live records");
    ensure_eq!(two.commit(put("notes", "late", &json!(1))?).await?.revisions, vec![3], "after the tombstone that is kept");
    let again = ground.engine().purge(ground.namespace(), moment).await?;
    ensure_eq!(again, Purged::default(), "what a second purge finds");
    ensure_eq!(revision(&two, "notes", "live").await?, 1, "a live record's revision");
    Ok(())
}

async fn sequences_survive(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    for n in 1..=3 {
        one.commit(append("log", n)?.put("notes", "a", &n)?).await?;
    }
    let gone = one.commit(Commit::new().delete("notes", "a")?.trim("log", 4)?).await?;
    ground.engine().purge(ground.namespace(), just_after(gone.time)).await?;
    ensure_eq!(head(&two).await?, gone.position.0, "the head after a purge");
    let next = two.commit(append("log", 4)?).await?;
    ensure_eq!((next.sequences[0].first, next.position.0), (4, gone.position.0 + 1), "the next sequence and position");
    Ok(())
}
