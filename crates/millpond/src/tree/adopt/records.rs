//! An edited document is put at the revision that was edited, unless a domain owns its collection.

use millpond_core::{Commit, Error, Expectation, Json, RecordId, Result, Store, Write};

use super::super::subject::Subject;
use super::{BY_HAND, Edited, Verdict, deleted, overtaken};

pub(super) async fn judge(store: &Store, edited: &Edited<'_>, collection: &str, key: &str) -> Result<Verdict> {
    let what = format!("{collection}/{key}");
    let Some(current) = store.get(collection, key).await? else {
        // A file that the tree did not write, of no record: it stays.
        return if edited.revision.is_some() { Err(deleted(&what)) } else { Ok(Verdict::Ignored) };
    };
    let value = Json::from_value(&edited.value)?;
    if current.value == value {
        return Ok(Verdict::Same { revision: current.revision });
    }
    if store.catalog().get(collection).is_some_and(|spec| spec.owned) {
        return Err(Error::invalid(format!("{collection} belongs to one of Millpond's domains, which alone writes it")));
    }
    if edited.revision != Some(current.revision) {
        return Err(overtaken(&what, edited.revision, current.revision));
    }
    let id = RecordId::new(collection, key)?;
    let commit =
        Commit::new().by(BY_HAND).expect(Expectation::Revision(id.clone(), current.revision)).write(Write::Put(id, value));
    if edited.dry_run {
        commit.prepare(store.host(), &store.catalog())?;
    } else {
        store.commit(commit).await?;
    }
    let subject = Subject::Record { collection: collection.to_owned(), key: key.to_owned() };
    Ok(Verdict::Stored { subject, detail: format!("{what} at revision {}", current.revision + 1) })
}
