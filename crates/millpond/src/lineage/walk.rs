//! Walking along edges: to the rows a row came from, and to those that came from it.
//!
//! ```text
//!   descendants(a):   a ─► b ─► d          depth 1: b, c    depth 2: d    each row once, at the depth it is met first
//!                     └─► c ─┘ └─► a       an edge back to a row that was met ends there
//! ```
//!
//! One level is read at a time, so a walk takes about as many reads as it is deep. It ends at a depth and at a number of
//! rows, and says so; it is no picture of one moment, because others may write between two levels.

use std::collections::BTreeSet;

use millpond_core::{
    Answer, Damaged, Document, Error, ErrorKind, Page, PageCursor, Query, Read, RecordId, Records, Result, Versioned, limits,
};
use serde::{Deserialize, Serialize};

use super::LineageRows;
use super::model::{LineageEdge, LineageRow};

/// Rows asked for in one read.
const A_READ: usize = 256;
/// Edges of one row in one read; the rest is read after them.
const EDGES: usize = 1_000;

/// How far a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkLimits {
    /// Edges between the row it begins at and the last one.
    pub depth: u32,
    /// Rows in all, and as many edges again eight times.
    pub rows: usize,
}

impl Default for WalkLimits {
    /// A hundred edges deep, a thousand rows.
    fn default() -> Self {
        Self { depth: 100, rows: 1_000 }
    }
}

/// A row that a walk came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WalkedRow {
    /// Edges between it and the row the walk began at, on the shortest way.
    pub depth: u32,
    /// The row.
    #[serde(flatten)]
    pub row: Versioned<LineageRow>,
}

/// A row that an edge names and that is not there: not written yet, or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingRow {
    /// As of a row that is there.
    pub depth: u32,
    /// Its id.
    pub id: String,
}

/// Where a walk came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LineageWalk {
    /// The rows, by depth and then in the order of their edges; not the one it began at.
    pub rows: Vec<WalkedRow>,
    /// The edges it went along.
    pub edges: Vec<LineageEdge>,
    /// Rows that the edges name and that are not there.
    pub missing: Vec<MissingRow>,
    /// Whether there is more than its limits let it show.
    pub more: bool,
    /// Rows and edges that do not read back, reported and left out. A walk goes on behind such a row.
    pub damaged: Vec<Damaged>,
}

/// A row with all it came from and all that came from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineageChain {
    /// The row itself.
    pub row: Versioned<LineageRow>,
    /// What it came from.
    pub ancestors: LineageWalk,
    /// What came from it.
    pub descendants: LineageWalk,
}

/// The other end of one edge of a row. Two rows with two edges between them are two of these.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineageRelative {
    /// The kind of the edge.
    pub kind: String,
    /// The id of the row at its other end.
    pub id: String,
    /// The row; `None` when it is not there, or does not read back, which the page says.
    pub row: Option<Versioned<LineageRow>>,
}

/// Which way along an edge.
#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl Way {
    /// The field of an edge that names the row one stands at.
    fn from(self) -> &'static str {
        match self {
            Self::Up => "child",
            Self::Down => "parent",
        }
    }

    fn other_end(self, edge: &LineageEdge) -> &str {
        match self {
            Self::Up => &edge.parent,
            Self::Down => &edge.child,
        }
    }
}

impl LineageRows {
    /// A page of the rows that came directly from a row, one for each edge.
    ///
    /// # Errors
    /// `NotFound` when there is no such row and nothing came from it; `Invalid` when the limit or the cursor is.
    pub async fn children(&self, id: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<LineageRelative>> {
        self.relatives(id, Way::Down, limit, after).await.map_err(|e| e.during("lineage.children"))
    }

    /// A page of the rows that a row came directly from, one for each edge.
    ///
    /// # Errors
    /// As [`LineageRows::children`].
    pub async fn parents(&self, id: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<LineageRelative>> {
        self.relatives(id, Way::Up, limit, after).await.map_err(|e| e.during("lineage.parents"))
    }

    /// Every row that a row came from, level by level.
    ///
    /// # Errors
    /// `NotFound` when there is no such row.
    pub async fn ancestors(&self, id: &str, limits: WalkLimits) -> Result<LineageWalk> {
        self.walked(id, Way::Up, limits).await.map_err(|e| e.during("lineage.ancestors"))
    }

    /// Every row that came from a row, level by level.
    ///
    /// # Errors
    /// `NotFound` when there is no such row.
    pub async fn descendants(&self, id: &str, limits: WalkLimits) -> Result<LineageWalk> {
        self.walked(id, Way::Down, limits).await.map_err(|e| e.during("lineage.descendants"))
    }

    /// A row with everything it came from and everything that came from it; the limits hold for each way.
    ///
    /// # Errors
    /// `NotFound` when there is no such row.
    pub async fn chain(&self, id: &str, limits: WalkLimits) -> Result<LineageChain> {
        let chain = async {
            let row = self.require(id).await?;
            let ancestors = self.walk(id, Way::Up, limits).await?;
            let descendants = self.walk(id, Way::Down, limits).await?;
            Ok(LineageChain { row, ancestors, descendants })
        };
        chain.await.map_err(|e: millpond_core::Error| e.during("lineage.chain"))
    }

    async fn relatives(&self, id: &str, way: Way, limit: usize, after: Option<PageCursor>) -> Result<Page<LineageRelative>> {
        let query = edges_of(id, way)?.limit(limit).after(after);
        let page = Records::<LineageEdge>::new(self.store.clone()).page(query).await?;
        if page.items.is_empty() && page.damaged.is_empty() {
            self.require(id).await?;
        }
        let ids: Vec<String> = page.items.iter().map(|edge| way.other_end(edge).to_owned()).collect();
        let rows = self.rows_of(&ids).await?;
        let mut damaged = page.damaged;
        let mut items = Vec::with_capacity(ids.len());
        for ((edge, id), row) in page.items.into_iter().zip(ids).zip(rows) {
            let row = row.unwrap_or_else(|unreadable| {
                damaged.push(unreadable);
                None
            });
            items.push(LineageRelative { kind: edge.value.kind, id, row });
        }
        Ok(Page { items, next: page.next, damaged })
    }

    async fn walked(&self, id: &str, way: Way, limits: WalkLimits) -> Result<LineageWalk> {
        self.require(id).await?;
        self.walk(id, way, limits).await
    }

    async fn walk(&self, id: &str, way: Way, limits: WalkLimits) -> Result<LineageWalk> {
        let mut walk = LineageWalk::default();
        let mut met = BTreeSet::from([id.to_owned()]);
        let mut level = vec![id.to_owned()];
        let mut edges_left = limits.rows.saturating_mul(8).max(EDGES);
        for depth in 1.. {
            let Edges { edges, more, damaged } = self.edges(&level, way, edges_left).await?;
            walk.more |= more;
            walk.damaged.extend(damaged);
            edges_left -= edges.len();
            let mut next = Vec::new();
            for edge in edges {
                let end = way.other_end(&edge).to_owned();
                if !met.contains(&end) {
                    if depth > limits.depth || met.len() > limits.rows {
                        walk.more = true;
                        continue;
                    }
                    met.insert(end.clone());
                    next.push(end);
                }
                walk.edges.push(edge);
            }
            if next.is_empty() {
                break;
            }
            for (id, row) in next.iter().zip(self.rows_of(&next).await?) {
                match row {
                    Ok(Some(row)) => walk.rows.push(WalkedRow { depth, row }),
                    Ok(None) => walk.missing.push(MissingRow { depth, id: id.clone() }),
                    // Its edges are records of their own: the walk goes on behind it.
                    Err(damaged) => walk.damaged.push(damaged),
                }
            }
            level = next;
        }
        Ok(walk)
    }

    /// The edges of these rows, in the rows' order, and at most so many.
    async fn edges(&self, ids: &[String], way: Way, limit: usize) -> Result<Edges> {
        let mut found = Edges::default();
        for chunk in ids.chunks(A_READ) {
            let queries = chunk.iter().map(|id| Ok(edges_of(id, way)?.limit(EDGES))).collect::<Result<Vec<Query>>>()?;
            let answers = self.store.read(queries.iter().cloned().map(Read::Query).collect()).await?;
            for (query, answer) in queries.into_iter().zip(answers) {
                let mut page = answer.into_page()?;
                loop {
                    let next = page.next.take();
                    if !found.take(page, limit) {
                        return Ok(found);
                    }
                    if next.is_none() {
                        break;
                    }
                    page = self.store.query(query.clone().after(next)).await?;
                }
            }
        }
        Ok(found)
    }

    /// The rows with these ids: `None` for each that is not there, and what is wrong with each that does not read back.
    pub(super) async fn rows_of(&self, ids: &[String]) -> Result<Vec<MaybeRow>> {
        let mut rows = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(limits::READS) {
            let gets = chunk.iter().map(|id| Ok(Read::Get(RecordId::new(LineageRow::COLLECTION.name(), id)?)));
            let gets: Vec<Read> = gets.collect::<Result<_>>()?;
            match self.store.read(gets.clone()).await {
                Ok(answers) => rows.extend(chunk.iter().zip(answers).map(|(id, answer)| row_of(id, answer))),
                // An engine that looks inside refuses all of them for one: they are read one by one.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    for (id, get) in chunk.iter().zip(gets) {
                        rows.push(match self.store.read(vec![get]).await {
                            Ok(answers) => row_of(id, answers.into_iter().next().unwrap_or(Answer::Record(None))),
                            Err(error) if error.kind() == ErrorKind::Corrupt => Err(unreadable(id, &error)),
                            Err(error) => return Err(error),
                        });
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }

    /// The edges from each of these rows to those it came from.
    pub(super) async fn edges_up(&self, ids: &[String], limit: usize) -> Result<Edges> {
        self.edges(ids, Way::Up, limit).await
    }
}

/// A row, that it is not there, or that it does not read back.
pub(super) type MaybeRow = std::result::Result<Option<Versioned<LineageRow>>, Damaged>;

fn row_of(id: &str, answer: Answer) -> MaybeRow {
    match answer {
        Answer::Record(Some(record)) => record.decode().map(Some).map_err(|error| unreadable(id, &error)),
        _ => Ok(None),
    }
}

fn unreadable(id: &str, error: &Error) -> Damaged {
    Damaged { what: format!("{}/{id}", LineageRow::COLLECTION.name()), why: error.to_string() }
}

/// The edges of some rows.
#[derive(Debug, Default)]
pub(super) struct Edges {
    pub(super) edges: Vec<LineageEdge>,
    /// Whether there are more than were asked for.
    pub(super) more: bool,
    pub(super) damaged: Vec<Damaged>,
}

impl Edges {
    /// Takes a page in, as far as there is room; false when there is no more.
    fn take(&mut self, page: Page, limit: usize) -> bool {
        self.damaged.extend(page.damaged);
        for record in page.items {
            if self.edges.len() >= limit {
                self.more = true;
                return false;
            }
            match record.decode::<LineageEdge>() {
                Ok(edge) => self.edges.push(edge.value),
                Err(error) => {
                    let what = format!("{}/{}", record.collection, record.key);
                    self.damaged.push(Damaged { what, why: error.to_string() });
                }
            }
        }
        true
    }
}

fn edges_of(id: &str, way: Way) -> Result<Query> {
    Ok(Query::new(LineageEdge::COLLECTION.name())?.eq(way.from(), id))
}
