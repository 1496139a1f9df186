//! Rows as OpenLineage run events, for programs that gather the lineage of many systems.
//!
//! ```text
//!   row ──► run      its id, or a UUID made from it       job: the namespace, and `route.adapter`
//!   parents' artifacts ──► inputs                          row's artifact ──► output
//!   processing ──► START          completed, failed, cancelled ──► START and COMPLETE, FAIL, ABORT
//! ```
//!
//! A pending row has begun nothing, and is no event yet.

mod event;
mod facets;

use std::collections::BTreeMap;

use millpond_core::{Damaged, Error, Page, PageCursor, Result, Versioned};
use serde::Serialize;
use serde_json::Value;

use super::{ArtifactRef, LineageFilter, LineageRow, LineageRows};

use event::Told;

use super::walk::Edges;

/// What went into each row, by its id.
type Inputs = BTreeMap<String, Vec<ArtifactRef>>;

/// Edges that one page of events may need.
const EDGES: usize = 50_000;

/// A page of events, in the order of the rows they tell of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenLineagePage {
    /// The events: one or two for each row that began.
    pub events: Vec<Value>,
    /// Where to go on; `None` on the last page.
    pub next: Option<PageCursor>,
    /// Rows of this page that do not read back, reported and left out.
    pub damaged: Vec<Damaged>,
}

impl LineageRows {
    /// A page of rows as OpenLineage run events (version 2-0-2 of the specification). The filter's limit counts rows.
    ///
    /// # Errors
    /// As [`LineageRows::list`].
    pub async fn open_lineage(&self, filter: &LineageFilter) -> Result<OpenLineagePage> {
        self.exported(filter).await.map_err(|e| e.during("lineage.open_lineage"))
    }

    async fn exported(&self, filter: &LineageFilter) -> Result<OpenLineagePage> {
        let Page { items, next, mut damaged } = self.rows().page(filter.query()?).await?;
        let mut inputs = self.inputs(&items, &mut damaged).await?;
        let namespace = self.store.namespace().as_str();
        let mut events = Vec::with_capacity(2 * items.len());
        for row in &items {
            let inputs = inputs.remove(&row.id).unwrap_or_default();
            events.extend(Told { namespace, row, inputs }.events());
        }
        Ok(OpenLineagePage { events, next, damaged })
    }

    /// The artifacts that went into each of these rows: those that came out of the rows it came from.
    async fn inputs(&self, rows: &[Versioned<LineageRow>], damaged: &mut Vec<Damaged>) -> Result<Inputs> {
        let ids: Vec<String> = rows.iter().filter(|row| !row.root).map(|row| row.id.clone()).collect();
        let Edges { edges, more, damaged: unreadable } = self.edges_up(&ids, EDGES).await?;
        damaged.extend(unreadable);
        if more {
            return Err(Error::invalid(format!("the {} rows of this page came from more than {EDGES} others", rows.len()))
                .with_next("take a smaller limit; an event names all that went into its run"));
        }
        let parents: Vec<String> = edges.iter().map(|edge| edge.parent.clone()).collect();
        let mut inputs = Inputs::new();
        for (edge, parent) in edges.into_iter().zip(self.rows_of(&parents).await?) {
            let parent = parent.unwrap_or_else(|unreadable| {
                damaged.push(unreadable);
                None
            });
            let Some(artifact) = parent.and_then(|parent| parent.value.artifact) else { continue };
            let of_child = inputs.entry(edge.child).or_default();
            if !of_child.contains(&artifact) {
                of_child.push(artifact);
            }
        }
        Ok(inputs)
    }
}
