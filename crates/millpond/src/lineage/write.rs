//! Writing rows: a new one is created with its edges, a change of status is a compare-and-set.

use millpond_core::{
    Commit, Document, Error, Expectation, Expected, Json, MergeOp, Position, Receipt, Records, Result, Versioned, Write, uuid_v7,
};

use super::model::{LineageEdge, LineageRow, LineageStatus};
use super::new::{LineageEnd, NewLineage, edge};
use super::{LineageRows, try_commit};

/// How often a change of status is tried again because somebody else changed the row.
const TRIES: u32 = 16;

impl LineageRows {
    /// Says that a piece of work begins. One commit point: the row and its edges.
    ///
    /// # Errors
    /// `Conflict` when the id is taken; `Invalid` when the row breaks a rule or its status is one of an end.
    pub async fn start(&self, new: NewLineage) -> Result<Versioned<LineageRow>> {
        let part = self.start_part(new).map_err(|e| e.during("lineage.start"))?;
        self.create(part).await.map_err(|e| e.during("lineage.start"))
    }

    /// The row and the part of a commit that [`LineageRows::start`] makes.
    ///
    /// # Errors
    /// `Invalid` when the row breaks a rule or its status is one of an end.
    pub fn start_part(&self, new: NewLineage) -> Result<(LineageRow, Commit)> {
        let status = new.status.unwrap_or(LineageStatus::Processing);
        if status.is_final() {
            return Err(Error::invalid(format!("a piece of work cannot be started as {status}"))
                .with_next("record it, if it is over already"));
        }
        self.new_part(new, status)
    }

    /// Writes a row all at once, usually of work that is over. One commit point: the row and its edges.
    ///
    /// # Errors
    /// `Conflict` when the id is taken; `Invalid` when the row breaks a rule.
    pub async fn record(&self, new: NewLineage) -> Result<Versioned<LineageRow>> {
        let part = self.record_part(new).map_err(|e| e.during("lineage.record"))?;
        self.create(part).await.map_err(|e| e.during("lineage.record"))
    }

    /// The row and the part of a commit that [`LineageRows::record`] makes: for the commit that makes an artifact visible.
    /// A unit and [`crate::Pond::commit`] add to it that no execution it leads to is being pruned.
    ///
    /// # Errors
    /// `Invalid` when the row breaks a rule.
    pub fn record_part(&self, new: NewLineage) -> Result<(LineageRow, Commit)> {
        let status = new.status.unwrap_or(LineageStatus::Completed);
        self.new_part(new, status)
    }

    fn new_part(&self, mut new: NewLineage, status: LineageStatus) -> Result<(LineageRow, Commit)> {
        let id = new.id.take().unwrap_or_else(|| uuid_v7(self.store.host()).to_string());
        let (row, edges) = new.row(id, status, self.store.now())?;
        let mut part = Commit::new().trusted().expect(Expectation::Absent(Records::<LineageRow>::id(&row.id)?));
        part = part.expect(crate::prune::open(&row.execution)?);
        part = part.write(Records::put(&row)?);
        for edge in &edges {
            part = part.write(Records::put(edge)?);
        }
        Ok((row, part))
    }

    async fn create(&self, (row, part): (LineageRow, Commit)) -> Result<Versioned<LineageRow>> {
        let edges = part.writes.len() as u64 - 1;
        match self.commit(part).await {
            Ok(receipt) => Ok(written(row, &receipt, edges)),
            Err(error) => Err(crate::prune::explain(taken(error))),
        }
    }

    async fn commit(&self, part: Commit) -> Result<Receipt> {
        try_commit(&self.store, &self.store, part).await?.committed()
    }

    /// Moves a row on to a later status. One commit point: the row.
    ///
    /// # Errors
    /// `NotFound` when there is no such row; `Conflict` when it is there already, or further.
    pub async fn advance(&self, id: &str, status: LineageStatus) -> Result<Versioned<LineageRow>> {
        self.moved(id, status, LineageEnd::new()).await.map_err(|e| e.during("lineage.advance"))
    }

    /// Says that a piece of work was done. One commit point: the row.
    ///
    /// # Errors
    /// `NotFound` when there is no such row; `Conflict`, saying how it ended, when it is over already.
    pub async fn complete(&self, id: &str, end: LineageEnd) -> Result<Versioned<LineageRow>> {
        self.moved(id, LineageStatus::Completed, end).await.map_err(|e| e.during("lineage.complete"))
    }

    /// Says that a piece of work failed. One commit point: the row.
    ///
    /// # Errors
    /// As [`LineageRows::complete`].
    pub async fn fail(&self, id: &str, end: LineageEnd) -> Result<Versioned<LineageRow>> {
        self.moved(id, LineageStatus::Failed, end).await.map_err(|e| e.during("lineage.fail"))
    }

    /// Says that a piece of work was given up. One commit point: the row.
    ///
    /// # Errors
    /// As [`LineageRows::complete`].
    pub async fn cancel(&self, id: &str, end: LineageEnd) -> Result<Versioned<LineageRow>> {
        self.moved(id, LineageStatus::Cancelled, end).await.map_err(|e| e.during("lineage.cancel"))
    }

    /// The row and the part of a commit that moves it on: refused unless the row is still as it was read.
    ///
    /// # Errors
    /// `Conflict` when the row cannot go there; `Invalid` when it would end before it began.
    pub fn move_part(&self, row: &Versioned<LineageRow>, status: LineageStatus, end: LineageEnd) -> Result<(LineageRow, Commit)> {
        if !row.status.can_become(status) {
            return Err(cannot(row, status));
        }
        let id = Records::<LineageRow>::id(&row.id)?;
        let mut next = row.value.clone();
        end.into_row(&mut next, status, self.store.now())?;
        let part = Commit::new().trusted().expect(Expectation::Revision(id, row.revision)).write(Records::put(&next)?);
        Ok((next, part))
    }

    async fn moved(&self, id: &str, status: LineageStatus, end: LineageEnd) -> Result<Versioned<LineageRow>> {
        for _ in 0..TRIES {
            let row = self.require(id).await?;
            let (next, part) = self.move_part(&row, status, end.clone())?;
            match self.store.commit(part).await {
                Ok(receipt) => return Ok(written(next, &receipt, 0)),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict(format!("row {id:?} of lineage was changed by others {TRIES} times")))
    }

    /// Says that a row came from another one, too; saying it twice is saying it once. One commit point: the edge, and
    /// that the row is no root.
    ///
    /// # Errors
    /// `NotFound` when the row that came from the other does not exist; `Invalid` when both are one; `Conflict` when the
    /// execution that one of them belongs to is being pruned.
    pub async fn link(&self, child: &str, parent: &str, kind: &str) -> Result<Receipt> {
        let part = self.link_part(child, parent, kind).map_err(|e| e.during("lineage.link"))?;
        self.commit(part).await.map_err(|e| crate::prune::explain(unknown(child, e)).during("lineage.link"))
    }

    /// The part of a commit that [`LineageRows::link`] makes: refused when the row is not there before the commit. A row
    /// that the same commit writes says with [`NewLineage::derived_from`] what it came from.
    ///
    /// # Errors
    /// `Invalid` when both rows are one, or a name is empty.
    pub fn link_part(&self, child: &str, parent: &str, kind: &str) -> Result<Commit> {
        let edge = edge(child, parent, kind)?;
        let row = Records::<LineageRow>::id(child)?;
        let no_root = MergeOp::Set("/root".to_owned(), Json::of(&false)?);
        Ok(Commit::new()
            .trusted()
            .expect(Expectation::Exists(row.clone()))
            .write(Write::Merge(row, vec![no_root]))
            .write(Records::<LineageEdge>::put(&edge)?))
    }
}

/// The row as the commit left it: its record is the first change, its edges come after it.
fn written(row: LineageRow, receipt: &Receipt, edges: u64) -> Versioned<LineageRow> {
    let position = Position(receipt.position.0.saturating_sub(edges));
    let revision = receipt.revisions.first().copied().unwrap_or(1);
    Versioned { value: row, revision, position, time: receipt.time, by: None }
}

/// Says of a conflict that an id is taken.
fn taken(error: Error) -> Error {
    match error.as_conflict().map(|c| &c.expected) {
        Some(Expected::Stated(Expectation::Absent(id))) if id.collection.as_str() == LineageRow::COLLECTION.name() => {
            let id = id.key.to_string();
            error.with("row", id).with_next("the id is taken; leave it out, or end the row that has it")
        }
        _ => error,
    }
}

/// Says of a conflict that a row is missing.
fn unknown(child: &str, error: Error) -> Error {
    let is_the_row = error.as_conflict().is_some_and(|conflict| {
        matches!(&conflict.expected, Expected::Stated(Expectation::Exists(id)) if id.collection.as_str() == LineageRow::COLLECTION.name())
    });
    if !is_the_row {
        return error;
    }
    Error::not_found(format!("there is no row {child:?} of lineage")).with_source(error).with_next("write it before its edges")
}

fn cannot(row: &LineageRow, status: LineageStatus) -> Error {
    let error = Error::conflict(format!("row {:?} of lineage is {} and cannot become {status}", row.id, row.status));
    let error = match row.completed_at {
        Some(at) => error.with("completed_at", at),
        None => error,
    };
    error.with_next("a row only moves on; record what is done again as a row of its own, derived from this one")
}
