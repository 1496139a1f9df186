//! What a caller says of a piece of work: at its beginning, and at its end.

use std::collections::{BTreeMap, BTreeSet};

use millpond_core::{Error, Result, Timestamp};
use serde_json::Value;

use super::found_by::{FoundBy, check_name};
use super::model::{ArtifactRef, LineageEdge, LineageRow, LineageStatus};
use crate::extra::Extra;

/// A row that is to be written.
///
/// ```
/// # use millpond::NewLineage;
/// let new = NewLineage::of("e1", "ingest", "segmenter").stage("segment").parent("page-7").input_hash("9f2c");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct NewLineage {
    pub(super) id: Option<String>,
    execution: String,
    route: String,
    adapter: String,
    adapter_index: Option<u32>,
    stage: Option<String>,
    pub(super) status: Option<LineageStatus>,
    correlation: Option<String>,
    parent: Option<String>,
    derived_from: BTreeSet<String>,
    batch: Option<String>,
    document: Option<String>,
    input_hash: Option<String>,
    started_at: Option<Timestamp>,
    metadata: BTreeMap<String, Value>,
    end: LineageEnd,
}

/// What is said of a piece of work at its end. What is not said stays as it was said at the beginning.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LineageEnd {
    /// A hash of what came out.
    pub output_hash: Option<String>,
    /// The artifact that came out.
    pub artifact: Option<ArtifactRef>,
    /// The unit of work that wrote it.
    pub unit: Option<String>,
    /// When it ended; now, on the store's clock, if not said.
    pub completed_at: Option<Timestamp>,
    /// Why it failed or was cancelled.
    pub error: Value,
    /// More metadata; a name that is there already gets the new value.
    pub metadata: BTreeMap<String, Value>,
}

impl LineageEnd {
    /// An end of which nothing is said.
    pub fn new() -> Self {
        Self::default()
    }

    /// A hash of what came out.
    #[must_use]
    pub fn output_hash(mut self, hash: impl Into<String>) -> Self {
        self.output_hash = Some(hash.into());
        self
    }

    /// The artifact that came out.
    #[must_use]
    pub fn artifact(mut self, artifact: impl Into<ArtifactRef>) -> Self {
        self.artifact = Some(artifact.into());
        self
    }

    /// The unit of work that wrote it.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }

    /// When it ended.
    #[must_use]
    pub fn completed_at(mut self, at: Timestamp) -> Self {
        self.completed_at = Some(at);
        self
    }

    /// Why it failed or was cancelled: text, or an object with a `message`.
    #[must_use]
    pub fn error(mut self, error: impl Into<Value>) -> Self {
        self.error = error.into();
        self
    }

    /// More metadata.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Writes into a row what is said, and what the row is found by afterwards.
    ///
    /// # Errors
    /// `Invalid` when it ends before it began.
    pub(super) fn into_row(self, row: &mut LineageRow, status: LineageStatus, now: Timestamp) -> Result<()> {
        self.said(row);
        row.status = status;
        if status.is_final() {
            let end = self.completed_at.unwrap_or_else(|| now.max(row.started_at));
            if end < row.started_at {
                return Err(Error::invalid(format!("row {:?} of lineage cannot end before it began", row.id))
                    .with("started_at", row.started_at)
                    .with("completed_at", end)
                    .with_next("leave completed_at out to take the store's clock"));
            }
            row.completed_at = Some(end);
        }
        row.found_by = FoundBy::of(row);
        Ok(())
    }

    fn said(&self, row: &mut LineageRow) {
        if self.output_hash.is_some() {
            row.output_hash.clone_from(&self.output_hash);
        }
        if self.artifact.is_some() {
            row.artifact.clone_from(&self.artifact);
        }
        if self.unit.is_some() {
            row.unit.clone_from(&self.unit);
        }
        if !self.error.is_null() {
            row.error = self.error.clone();
        }
        row.metadata.extend(self.metadata.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}

impl NewLineage {
    /// What an adapter of a route does in an execution.
    pub fn of(execution: impl Into<String>, route: impl Into<String>, adapter: impl Into<String>) -> Self {
        Self {
            id: None,
            execution: execution.into(),
            route: route.into(),
            adapter: adapter.into(),
            adapter_index: None,
            stage: None,
            status: None,
            correlation: None,
            parent: None,
            derived_from: BTreeSet::new(),
            batch: None,
            document: None,
            input_hash: None,
            started_at: None,
            metadata: BTreeMap::new(),
            end: LineageEnd::default(),
        }
    }

    /// An id of one's own, at most 1,024 bytes; a UUIDv7 if left out.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The adapter's place in its route, from 0.
    #[must_use]
    pub fn adapter_index(mut self, index: u32) -> Self {
        self.adapter_index = Some(index);
        self
    }

    /// The stage.
    #[must_use]
    pub fn stage(mut self, stage: impl Into<String>) -> Self {
        self.stage = Some(stage.into());
        self
    }

    /// How it stands; if left out, `processing` when it is started and `completed` when it is recorded.
    #[must_use]
    pub fn status(mut self, status: LineageStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// What ties together everything that one message became.
    #[must_use]
    pub fn correlation(mut self, correlation: impl Into<String>) -> Self {
        self.correlation = Some(correlation.into());
        self
    }

    /// The row it came from. It need not be there yet: rows may be written in any order.
    #[must_use]
    pub fn parent(mut self, row: impl Into<String>) -> Self {
        self.parent = Some(row.into());
        self
    }

    /// Another row it came from, as a merge of several messages has them. One that is there is one of the 4,096 operations of
    /// the commit, one that is not there yet is two.
    #[must_use]
    pub fn derived_from(mut self, row: impl Into<String>) -> Self {
        self.derived_from.insert(row.into());
        self
    }

    /// The batch.
    #[must_use]
    pub fn batch(mut self, batch: impl Into<String>) -> Self {
        self.batch = Some(batch.into());
        self
    }

    /// The document it is about.
    #[must_use]
    pub fn document(mut self, document: impl Into<String>) -> Self {
        self.document = Some(document.into());
        self
    }

    /// A hash of what went in.
    #[must_use]
    pub fn input_hash(mut self, hash: impl Into<String>) -> Self {
        self.input_hash = Some(hash.into());
        self
    }

    /// When it began; now, on the store's clock, if left out.
    #[must_use]
    pub fn started_at(mut self, at: Timestamp) -> Self {
        self.started_at = Some(at);
        self
    }

    /// Anything else to keep with it. `url`, `origin` and `title` can be searched for parts of their text.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// What came of it, where that is known already.
    #[must_use]
    pub fn end(mut self, end: LineageEnd) -> Self {
        self.end = end;
        self
    }

    /// The artifact that came out.
    #[must_use]
    pub fn artifact(mut self, artifact: impl Into<ArtifactRef>) -> Self {
        self.end = self.end.artifact(artifact);
        self
    }

    /// The row and its edges.
    ///
    /// # Errors
    /// `Invalid` when a name is missing or too long, a row would come from itself, or it ends before it began.
    pub(super) fn row(self, id: String, status: LineageStatus, now: Timestamp) -> Result<(LineageRow, Vec<LineageEdge>)> {
        check_name("route", &self.route)?;
        check_name("adapter", &self.adapter)?;
        if self.execution.is_empty() {
            return Err(Error::invalid("a row of lineage needs the name of its execution"));
        }
        let edges = edges(&id, self.parent.as_deref(), &self.derived_from)?;
        // What began in the past and was told only now did not begin after its end.
        let began = self.end.completed_at.filter(|_| status.is_final()).map_or(now, |end| end.min(now));
        let mut row = LineageRow {
            id,
            execution: self.execution,
            route: self.route,
            adapter: self.adapter,
            adapter_index: self.adapter_index,
            stage: self.stage,
            status,
            correlation: self.correlation,
            parent: self.parent,
            root: edges.is_empty(),
            batch: self.batch,
            document: self.document,
            input_hash: self.input_hash,
            output_hash: None,
            artifact: None,
            unit: None,
            started_at: self.started_at.unwrap_or(began),
            completed_at: None,
            error: Value::Null,
            metadata: self.metadata,
            found_by: FoundBy::default(),
            extra: Extra::new(),
        };
        self.end.into_row(&mut row, status, now)?;
        Ok((row, edges))
    }
}

/// The edges of a new row. Its parent needs no second one for being what it was derived from.
fn edges(id: &str, parent: Option<&str>, derived_from: &BTreeSet<String>) -> Result<Vec<LineageEdge>> {
    let derived = derived_from.iter().filter(|row| Some(row.as_str()) != parent);
    let edges = parent
        .into_iter()
        .map(|row| edge(id, row, LineageEdge::PARENT))
        .chain(derived.map(|row| edge(id, row, LineageEdge::DERIVED_FROM)));
    edges.collect()
}

/// An edge between two rows.
///
/// # Errors
/// `Invalid` when they are one, or one of them or the kind has no name.
pub(super) fn edge(child: &str, parent: &str, kind: &str) -> Result<LineageEdge> {
    if child == parent {
        return Err(Error::invalid(format!("row {child:?} of lineage cannot come from itself")));
    }
    if child.is_empty() || parent.is_empty() || kind.is_empty() {
        return Err(Error::invalid("an edge of lineage needs two ids and a kind that are not empty"));
    }
    Ok(LineageEdge::new(child, parent, kind))
}
