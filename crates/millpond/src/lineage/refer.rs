//! Who refers to rows: rows of other executions that came from them. And the other way round, what a commit expects that
//! writes such an edge.
//!
//! ```text
//!   a row of e2 comes from a row of e1 ──► edge {child, parent}       the commit expects: e1 is not being pruned
//!   deleting, pruning, purging what is e1's ──► the edges from e1's rows ──► is a child another execution's?
//! ```

use std::collections::{BTreeMap, BTreeSet};

use millpond_core::{
    Answer, Commit, Conflict, Document, Error, ErrorKind, Expectation, Expected, Outcome, PageCursor, Query, Read, RecordId,
    Records, Result, Store, Write, limits,
};

use super::model::{LineageEdge, LineageRow};

/// Rows whose edges are looked at together.
const ROWS: usize = 500;
/// Edges that are looked at together.
const EDGES: usize = 1_000;
/// How often a commit is guarded again because a row came about meanwhile.
const TRIES: u32 = 16;

/// A row of another execution that came from one of the rows that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The row.
    pub(crate) row: String,
    /// Its execution.
    pub(crate) execution: String,
    /// The row it came from.
    pub(crate) parent: String,
}

impl Reference {
    /// The same in words.
    pub(crate) fn why(&self) -> String {
        let Self { row, execution, parent } = self;
        format!("row {row} of execution {execution} came from row {parent} of this one")
    }
}

/// The edges that have one of these rows at this end.
pub(crate) fn edges(end: &str, ids: &[String]) -> Result<Query> {
    Ok(Query::new(LineageEdge::COLLECTION.name())?.one_of(end, ids.iter().map(String::as_str)))
}

/// Which execution each row belongs to; rows that are not there are left out.
///
/// # Errors
/// `Corrupt` when a row does not read back: nobody can tell whose it is.
pub(crate) async fn executions_of(store: &Store, rows: &BTreeSet<&str>) -> Result<BTreeMap<String, String>> {
    let mut executions = BTreeMap::new();
    let rows: Vec<&str> = rows.iter().copied().collect();
    for chunk in rows.chunks(limits::READS) {
        let reads = chunk.iter().map(|row| Ok(Read::Get(Records::<LineageRow>::id(row)?))).collect::<Result<Vec<_>>>()?;
        for answer in store.read(reads).await? {
            if let Answer::Record(Some(record)) = answer {
                let row = record.value.decode::<LineageRow>().map_err(|e| e.with("row", &record.key))?;
                executions.insert(row.id, row.execution);
            }
        }
    }
    Ok(executions)
}

/// For each of these rows, which are given with the execution that they stand for, the first row of another execution
/// that came from it. Rows that nobody else came from are left out.
///
/// # Errors
/// `Corrupt` when an edge or a row does not read back: nobody can tell whose it is.
pub(crate) async fn references(store: &Store, rows: &BTreeMap<String, Option<String>>) -> Result<BTreeMap<String, Reference>> {
    let mut found = BTreeMap::new();
    let ids: Vec<String> = rows.keys().cloned().collect();
    for chunk in ids.chunks(ROWS) {
        let mut after: Option<PageCursor> = None;
        loop {
            let query = edges("parent", chunk)?.limit(EDGES).after(after);
            let page = Records::<LineageEdge>::new(store.clone()).page(query).await?;
            if let Some(damaged) = page.damaged.into_iter().next() {
                return Err(Error::corrupt("an edge of lineage does not read back").with("record", damaged.what));
            }
            let ends = page.items.iter().flat_map(|edge| [edge.value.child.as_str(), edge.value.parent.as_str()]);
            let executions = executions_of(store, &ends.collect()).await?;
            for LineageEdge { child, parent, .. } in page.items.iter().map(|edge| &edge.value) {
                // A child that is gone refers to nothing.
                let Some(execution) = executions.get(child) else { continue };
                let own = rows.get(parent).and_then(Option::as_ref).or_else(|| executions.get(parent));
                if own != Some(execution) && !found.contains_key(parent) {
                    let reference = Reference { row: child.clone(), execution: execution.clone(), parent: parent.clone() };
                    found.insert(parent.clone(), reference);
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

/// What a commit that writes edges expects beyond its parts: that no execution whose rows they lead to is being pruned, and
/// that rows which are not there yet do not come about meanwhile. So a prune that looked for references under its mark has
/// seen all of them.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// Rows that were not there.
    missing: BTreeSet<RecordId>,
}

impl Guard {
    /// Whether a commit was refused because a row came about: it is guarded again.
    pub(crate) fn is_outdated(&self, conflict: &Conflict) -> bool {
        matches!(&conflict.expected, Expected::Stated(Expectation::Absent(row)) if self.missing.contains(row))
    }
}

/// Adds to a commit, if it writes edges, what it then expects.
///
/// # Errors
/// As [`executions_of`].
pub(crate) async fn guarded(rows: &Store, mut commit: Commit) -> Result<(Guard, Commit)> {
    let mut guard = Guard::default();
    let parents = parents_of(&commit)?;
    if parents.is_empty() {
        return Ok((guard, commit));
    }
    let executions = executions_of(rows, &parents.iter().map(String::as_str).collect()).await?;
    // One that this commit writes says itself what it expects.
    let own = commit.writes.iter().filter_map(|write| if let Write::Put(id, _) = write { Some(id.clone()) } else { None });
    let own: BTreeSet<RecordId> = own.collect();
    for parent in parents.iter().filter(|parent| !executions.contains_key(*parent)) {
        let row = Records::<LineageRow>::id(parent)?;
        if !own.contains(&row) {
            commit = commit.expect(Expectation::Absent(row.clone()));
            guard.missing.insert(row);
        }
    }
    for execution in executions.into_values().collect::<BTreeSet<String>>() {
        let open = crate::prune::open(&execution)?;
        if !commit.expect.contains(&open) {
            commit = commit.expect(open);
        }
    }
    Ok((guard, commit))
}

/// The rows that the edges of a commit lead to.
fn parents_of(commit: &Commit) -> Result<BTreeSet<String>> {
    let mut parents = BTreeSet::new();
    for write in &commit.writes {
        if let Write::Put(id, edge) = write
            && id.collection.as_str() == LineageEdge::COLLECTION.name()
        {
            parents.insert(edge.decode::<LineageEdge>()?.parent);
        }
    }
    Ok(parents)
}

/// Commits with what [`guarded`] adds. A commit with an id that was decided before is answered by that receipt if it has as
/// many writes and appends: what is added depends on the rows of the moment, so it is not the same commit twice.
///
/// # Errors
/// As [`executions_of`] and [`Store::try_commit`].
pub(crate) async fn try_commit(rows: &Store, to: &Store, commit: Commit) -> Result<Outcome> {
    if parents_of(&commit)?.is_empty() {
        return to.try_commit(commit).await;
    }
    // Ten thousand callers wait in memory, few of them for this.
    Box::pin(try_guarded(rows, to, commit)).await
}

async fn try_guarded(rows: &Store, to: &Store, commit: Commit) -> Result<Outcome> {
    if let Some(before) = decided_before(to, &commit).await? {
        return Ok(before);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let (guard, guarded) = guarded(rows, commit.clone()).await?;
        match to.try_commit(guarded).await {
            Ok(Outcome::Conflict(conflict)) if tries < TRIES && guard.is_outdated(&conflict) => {}
            // Sent by another at the same moment, when other rows were there.
            Err(error) if error.kind() == ErrorKind::Invalid => {
                return decided_before(to, &commit).await?.ok_or(error);
            }
            decided => return decided,
        }
    }
}

/// The first receipt of a commit whose id was decided before.
///
/// # Errors
/// `Invalid` when that was another one.
async fn decided_before(to: &Store, commit: &Commit) -> Result<Option<Outcome>> {
    let Some(id) = commit.id else { return Ok(None) };
    let Some(mut receipt) = to.outcome(id).await? else { return Ok(None) };
    if (receipt.revisions.len(), receipt.sequences.len()) != (commit.writes.len(), commit.appends.len()) {
        return Err(
            Error::invalid(format!("commit {id} was decided with another body")).with_next("give each commit an id of its own")
        );
    }
    receipt.replayed = true;
    Ok(Some(Outcome::Committed(receipt)))
}
