//! Lineage: what became of what. A row for each piece of work, edges to the rows it came from.
//!
//! ```text
//!   pending ─► initiated ─► processing ─► completed │ failed │ cancelled      forwards only, steps may be left out
//!
//!   page 7 ◄─parent── segment 1 ◄─┐
//!                 └── segment 2 ◄─┴─derived_from── index shard 4              edge: child, parent, kind
//! ```
//!
//! A row and its edges are written in one commit, and as parts (`…_part`) in the commit that makes an artifact visible:
//! no finished row without its artifact, no artifact without its row. Rows come in any order, so an edge may name a row
//! that is written later, or that was removed since; whoever walks along the edges is told which rows are missing.

mod filter;
mod found_by;
mod model;
mod new;
mod open_lineage;
mod refer;
mod stats;
mod walk;
mod write;

use millpond_core::{Commit, Error, Page, PageCursor, Receipt, Records, Result, Store, Versioned};

pub use filter::{LineageFilter, LineageOrder};
pub use found_by::FoundBy;
pub(crate) use found_by::artifact as digest_of_artifact;
pub(crate) use model::COLLECTIONS;
pub use model::{ArtifactRef, LineageEdge, LineageRow, LineageStatus};
pub use new::{LineageEnd, NewLineage};
pub use open_lineage::OpenLineagePage;
pub(crate) use refer::{Guard, Reference, edges, executions_of, guarded, references, try_commit};
pub use stats::{AdapterCounts, LineageStats};
pub use walk::{LineageChain, LineageRelative, LineageWalk, MissingRow, WalkLimits, WalkedRow};

/// The lineage of a namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LineageRows {
    store: Store,
}

impl LineageRows {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    fn rows(&self) -> Records<LineageRow> {
        Records::new(self.store.clone())
    }

    /// A row by its id.
    ///
    /// # Errors
    /// `Corrupt` when its record does not read back.
    pub async fn get(&self, id: &str) -> Result<Option<Versioned<LineageRow>>> {
        self.rows().get(id).await.map_err(|e| e.during("lineage.get"))
    }

    async fn require(&self, id: &str) -> Result<Versioned<LineageRow>> {
        self.rows().get(id).await?.ok_or_else(|| {
            Error::not_found(format!("there is no row {id:?} of lineage")).with_next("see what there is: millpond lineage list")
        })
    }

    /// A page of rows.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is.
    pub async fn list(&self, filter: &LineageFilter) -> Result<Page<Versioned<LineageRow>>> {
        let query = filter.query().map_err(|e| e.during("lineage.list"))?;
        self.rows().page(query).await.map_err(|e| e.during("lineage.list"))
    }

    /// How many rows a filter takes; its limit and cursor play no part.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn count(&self, filter: &LineageFilter) -> Result<u64> {
        let query = filter.query().map_err(|e| e.during("lineage.count"))?;
        self.store.count(query.limit(1).after(None)).await.map_err(|e| e.during("lineage.count"))
    }

    /// A page of the rows that came from no other: what a filter takes, and only roots of it.
    ///
    /// # Errors
    /// As [`LineageRows::list`].
    pub async fn roots(&self, filter: &LineageFilter) -> Result<Page<Versioned<LineageRow>>> {
        self.list(&filter.clone().root(true)).await.map_err(|e| e.during("lineage.roots"))
    }

    /// A page of the rows that failed: what a filter takes, and only failures of it, the last one first.
    ///
    /// # Errors
    /// As [`LineageRows::list`].
    pub async fn failures(&self, filter: &LineageFilter) -> Result<Page<Versioned<LineageRow>>> {
        let failed =
            LineageFilter { statuses: vec![LineageStatus::Failed], order: LineageOrder::LastCompleted, ..filter.clone() };
        self.list(&failed).await.map_err(|e| e.during("lineage.failures"))
    }

    /// A page of the rows of a batch, in the order they began.
    ///
    /// # Errors
    /// As [`LineageRows::list`].
    pub async fn batch(&self, batch: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<LineageRow>>> {
        let filter = LineageFilter::all().batch(batch).order(LineageOrder::FirstStarted).limit(limit).after(after);
        self.list(&filter).await.map_err(|e| e.during("lineage.batch"))
    }
}

pub(crate) mod blocking {
    //! The same for synchronous callers.
    use super::*;
    blocking_api! {
        /// The lineage of a namespace, for synchronous callers.
        LineageRows of super::LineageRows {
            fn start(new: NewLineage) -> Result<Versioned<LineageRow>>;
            fn record(new: NewLineage) -> Result<Versioned<LineageRow>>;
            fn advance(id: &str, status: LineageStatus) -> Result<Versioned<LineageRow>>;
            fn complete(id: &str, end: LineageEnd) -> Result<Versioned<LineageRow>>;
            fn fail(id: &str, end: LineageEnd) -> Result<Versioned<LineageRow>>;
            fn cancel(id: &str, end: LineageEnd) -> Result<Versioned<LineageRow>>;
            fn link(child: &str, parent: &str, kind: &str) -> Result<Receipt>;
            fn get(id: &str) -> Result<Option<Versioned<LineageRow>>>;
            fn list(filter: &LineageFilter) -> Result<Page<Versioned<LineageRow>>>;
            fn count(filter: &LineageFilter) -> Result<u64>;
            fn roots(filter: &LineageFilter) -> Result<Page<Versioned<LineageRow>>>;
            fn failures(filter: &LineageFilter) -> Result<Page<Versioned<LineageRow>>>;
            fn batch(batch: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<LineageRow>>>;
            fn children(id: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<LineageRelative>>;
            fn parents(id: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<LineageRelative>>;
            fn ancestors(id: &str, limits: WalkLimits) -> Result<LineageWalk>;
            fn descendants(id: &str, limits: WalkLimits) -> Result<LineageWalk>;
            fn chain(id: &str, limits: WalkLimits) -> Result<LineageChain>;
            fn stats(filter: &LineageFilter) -> Result<LineageStats>;
            fn open_lineage(filter: &LineageFilter) -> Result<OpenLineagePage>;
        }
    }

    impl LineageRows {
        /// See [`super::LineageRows::start_part`].
        ///
        /// # Errors
        /// As there.
        pub fn start_part(&self, new: NewLineage) -> Result<(LineageRow, Commit)> {
            self.domain.start_part(new)
        }

        /// See [`super::LineageRows::record_part`].
        ///
        /// # Errors
        /// As there.
        pub fn record_part(&self, new: NewLineage) -> Result<(LineageRow, Commit)> {
            self.domain.record_part(new)
        }

        /// See [`super::LineageRows::move_part`].
        ///
        /// # Errors
        /// As there.
        pub fn move_part(
            &self,
            row: &Versioned<LineageRow>,
            status: LineageStatus,
            end: LineageEnd,
        ) -> Result<(LineageRow, Commit)> {
            self.domain.move_part(row, status, end)
        }

        /// See [`super::LineageRows::link_part`].
        ///
        /// # Errors
        /// As there.
        pub fn link_part(&self, child: &str, parent: &str, kind: &str) -> Result<Commit> {
            self.domain.link_part(child, parent, kind)
        }
    }
}
