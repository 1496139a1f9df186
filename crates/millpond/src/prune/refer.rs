//! What stands against pruning an execution: pins, a run that goes on, rows of other executions that came from its own.

use std::collections::BTreeSet;

use millpond_core::{Damaged, Document, Error, PageCursor, Query, Records, Result, Store};
use serde::Serialize;

use crate::lineage::{Reference, edges, executions_of};
use crate::{ExecutionPins, LineageEdge, LineageRow};

/// Rows of lineage that are looked at together.
const ROWS: usize = 500;
/// Edges that are looked at together.
const EDGES: usize = 1_000;
/// Reasons that an answer names; the rest is counted.
pub const REASONS_NAMED: usize = 100;

/// Why an execution is not pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PruneObstacle {
    /// Somebody pinned it.
    Pinned,
    /// Its run goes on.
    Running,
    /// Something of another execution came from it.
    Referenced,
}

impl PruneObstacle {
    /// The name used in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Running => "running",
            Self::Referenced => "referenced",
        }
    }
}

/// One reason why an execution is not pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PruneReason {
    /// What kind of reason.
    pub obstacle: PruneObstacle,
    /// Who or what it is: a pin's holder, the run, the row that came from the execution.
    pub by: String,
    /// The same in words.
    pub why: String,
}

/// Reasons, the first of them named.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    pub(super) named: Vec<PruneReason>,
    pub(super) in_all: u64,
}

impl Reasons {
    pub(super) fn add(&mut self, obstacle: PruneObstacle, by: impl Into<String>, why: String) {
        self.in_all += 1;
        if self.named.len() < REASONS_NAMED {
            self.named.push(PruneReason { obstacle, by: by.into(), why });
        }
    }

    pub(super) fn pinned(&mut self, pins: &ExecutionPins) {
        for pin in &pins.pins {
            self.add(PruneObstacle::Pinned, &pin.holder, format!("pin {}: {}", pin.id, pin.reason));
        }
    }
}

/// What a walk over the lineage of an execution found.
#[derive(Debug, Default)]
pub(super) struct LineageOf {
    pub(super) rows: u64,
    /// Edges from and to them, each counted once.
    pub(super) edges: u64,
}

/// Walks over the rows of an execution and their edges, a page at a time. Rows of other executions that came from one
/// of them are reasons.
pub(super) async fn lineage_of(store: &Store, execution: &str, reasons: &mut Reasons) -> Result<LineageOf> {
    let mut found = LineageOf::default();
    let mut after: Option<PageCursor> = None;
    loop {
        let query = Query::new(LineageRow::COLLECTION.name())?.eq("execution", execution).limit(ROWS).after(after);
        let page = store.query(query).await?;
        readable(&page.damaged)?;
        let ids: Vec<String> = page.items.iter().map(|row| row.key.as_str().to_owned()).collect();
        found.rows += ids.len() as u64;
        if !ids.is_empty() {
            // To the rows they came from.
            found.edges += store.count(edges("child", &ids)?).await?;
            found.edges += children(store, execution, &ids, reasons).await?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// The edges from rows that are not the execution's own: those of its own were counted at their other end.
async fn children(store: &Store, execution: &str, parents: &[String], reasons: &mut Reasons) -> Result<u64> {
    let mut others = 0;
    let mut after: Option<PageCursor> = None;
    loop {
        let page = Records::<LineageEdge>::new(store.clone()).page(edges("parent", parents)?.limit(EDGES).after(after)).await?;
        readable(&page.damaged)?;
        let children: BTreeSet<&str> = page.items.iter().map(|edge| edge.value.child.as_str()).collect();
        let executions = executions_of(store, &children).await?;
        for edge in &page.items {
            let LineageEdge { child, parent, .. } = &edge.value;
            match executions.get(child.as_str()) {
                Some(of) if of == execution => continue,
                Some(of) => {
                    let reference = Reference { row: child.clone(), execution: of.clone(), parent: parent.clone() };
                    reasons.add(PruneObstacle::Referenced, child, reference.why());
                }
                // The row is gone: nothing refers to anything.
                None => {}
            }
            others += 1;
        }
        after = page.next;
        if after.is_none() {
            return Ok(others);
        }
    }
}

/// Refuses to look past a record that may be a reference.
fn readable(damaged: &[Damaged]) -> Result<()> {
    let Some(damaged) = damaged.first() else { return Ok(()) };
    Err(Error::corrupt(format!("{} does not read back, and may be what refers to the execution: {}", damaged.what, damaged.why))
        .with("record", &damaged.what)
        .with_next("look at it with millpond records get, and put it right or delete it with millpond records delete"))
}
