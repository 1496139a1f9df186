//! Rows of lineage that a prune deletes, each with its edges.

use std::collections::BTreeSet;

use millpond_core::{Commit, Document, Expectation, RecordId, Result, Write};

use super::Prunes;
use super::model::Prune;
use crate::lineage::edges;
use crate::locks::Lease;
use crate::{LineageEdge, LineageRow};

/// Rows that are deleted together.
const ROWS: usize = 200;
/// Edges of either direction that are deleted together with them.
const EDGES: usize = 700;

impl Prunes {
    /// Edges go before the rows they begin or end at, or with them: none is left behind that nobody would look for.
    pub(super) async fn some_lineage(&self, job: &Prune, lease: &Lease) -> Result<Option<Prune>> {
        let rows = self.some_of(LineageRow::COLLECTION.name(), &job.execution, ROWS).await?;
        if rows.items.is_empty() {
            return Ok(None);
        }
        let ids: Vec<String> = rows.items.iter().map(|row| row.key.as_str().to_owned()).collect();
        let mut found = BTreeSet::new();
        let mut more = false;
        for end in ["child", "parent"] {
            let page = self.store().query(edges(end, &ids)?.limit(EDGES)).await?;
            more |= page.next.is_some();
            found.extend(page.items.into_iter().map(|edge| edge.key));
        }
        let mut next = job.clone();
        let mut commit = Commit::new();
        for edge in &found {
            commit = deleted(commit, LineageEdge::COLLECTION.name(), edge.as_str())?;
        }
        next.deleted.lineage_edges += found.len() as u64;
        if !more {
            for id in &ids {
                commit = deleted(commit, LineageRow::COLLECTION.name(), id)?;
            }
            next.deleted.lineage_rows += ids.len() as u64;
        }
        self.write(&next, lease, commit).await?;
        Ok(Some(next))
    }
}

/// A delete that is refused when somebody else deleted it meanwhile, so that it is counted once.
fn deleted(commit: Commit, collection: &str, key: &str) -> Result<Commit> {
    let id = RecordId::new(collection, key)?;
    Ok(commit.expect(Expectation::Exists(id.clone())).write(Write::Delete(id)))
}
