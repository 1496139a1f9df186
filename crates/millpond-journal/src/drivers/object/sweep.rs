//! Taking a journal's objects away: the floor says at once that it is removed, the objects go after the grace.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use millpond_core::Result;
use millpond_objects::place::{ObjectPlace, Patience, failed};
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::floor::Floor;

/// Removals that are finished in one go.
const AT_ONCE: usize = 1_000;

/// Removes a journal. Its objects go later, by this process or by the next one that opens the place.
pub(super) async fn remove(
    place: &ObjectPlace,
    patience: &Patience,
    folder: &Location,
    name: &str,
    grace: Duration,
) -> Result<()> {
    Floor::Removed.raise(place.store(), patience, &folder.clone().join("floor")).await?;
    let note = place.location("removed").join(name);
    place.store().put(&note, "".into()).await.map_err(failed("write", &note))?;
    let (store, folder) = (Arc::clone(place.store()), folder.clone());
    tokio::spawn(async move {
        tokio::time::sleep(grace).await;
        report(finish(&*store, &folder, &note).await);
    });
    Ok(())
}

/// Finishes removals that another process began and did not finish.
pub(super) fn finish_removals(place: &ObjectPlace, grace: Duration) {
    let (store, notes, journals) = (Arc::clone(place.store()), place.location("removed"), place.location("journals"));
    tokio::spawn(async move {
        let found: Vec<_> = store.list(Some(&notes)).take(AT_ONCE).try_collect().await.unwrap_or_default();
        if found.is_empty() {
            return;
        }
        // Whoever began it may have done so just now.
        tokio::time::sleep(grace).await;
        for note in found {
            if let Some(name) = note.location.filename() {
                report(finish(&*store, &journals.clone().join(name), &note.location).await);
            }
        }
    });
}

async fn finish(store: &dyn ObjectStore, folder: &Location, note: &Location) -> Result<()> {
    let floor = folder.clone().join("floor");
    let mut listed = store.list(Some(folder));
    while let Some(found) = listed.next().await {
        let location = found.map_err(failed("list", folder))?.location;
        // The floor stays: it is what refuses a writer that wakes up years later.
        if location != floor {
            gone(store.delete(&location).await).map_err(failed("delete", &location))?;
        }
    }
    gone(store.delete(note).await).map_err(failed("delete", note))
}

fn gone(deleted: object_store::Result<()>) -> object_store::Result<()> {
    match deleted {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}

fn report(finished: Result<()>) {
    if let Err(error) = finished {
        tracing::warn!(%error, "the objects of a removed journal could not all be deleted; the next open tries again");
    }
}
