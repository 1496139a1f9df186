//! Who names an object: versions of the execution that is pruned, and records that stay.

use std::collections::BTreeMap;

use millpond_core::{Document, Error, PageCursor, Query, Result, Store};

use crate::ArtifactVersion;
use crate::units::OWNERS;

/// Records that are looked at together.
const PAGE: usize = 1_000;

/// Who names a location.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NamedBy {
    /// The first version, by its record's key, of the execution that is pruned.
    pub(super) own: Option<String>,
    /// Whether a record names it that stays.
    pub(super) others: bool,
}

/// Who names each of these locations: at most 1,024. A location that nobody names is left out.
pub(super) async fn namers(store: &Store, execution: &str, locations: &[&str]) -> Result<BTreeMap<String, NamedBy>> {
    let mut found: BTreeMap<String, NamedBy> = BTreeMap::new();
    if locations.is_empty() {
        return Ok(found);
    }
    for owner in OWNERS {
        let is_version = owner == ArtifactVersion::COLLECTION.name();
        let mut after: Option<PageCursor> = None;
        loop {
            let query = Query::new(owner)?.one_of("location", locations.iter().copied()).limit(PAGE).after(after);
            let page = store.query(query).await?;
            if let Some(damaged) = page.damaged.into_iter().next() {
                return Err(Error::corrupt("a record that may name bytes does not read back").with("record", damaged.what));
            }
            for record in page.items {
                let value = record.value.value()?;
                let text = |field: &str| value.get(field).and_then(serde_json::Value::as_str);
                let Some(location) = text("location") else { continue };
                let named = found.entry(location.to_owned()).or_default();
                if is_version && text("execution") == Some(execution) {
                    let key = record.key.as_str();
                    if named.own.as_deref().is_none_or(|first| key < first) {
                        named.own = Some(key.to_owned());
                    }
                } else {
                    named.others = true;
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(found)
}
