//! What keeps versions of artifacts: pins of their execution, its run while it goes on, rows of other executions that
//! came from theirs.

use std::collections::{BTreeMap, BTreeSet};

use millpond_core::{Document, Error, Expectation, Key, PageCursor, Query, Records, Result, Versioned};
use serde::Serialize;

use super::Artifacts;
use super::model::Artifact;
use crate::lineage::{Reference, digest_of_artifact, references};
use crate::text::key_segment;
use crate::{ExecutionPins, LineageRow, Run};

/// Rows of lineage that are looked at together.
const ROWS: usize = 500;

/// Why versions of artifacts stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptBecause {
    /// Their execution is pinned.
    Pinned,
    /// Their execution's run goes on.
    Running,
    /// A row of another execution came from the row that made them.
    Referenced,
}

impl KeptBecause {
    /// The name used in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Running => "running",
            Self::Referenced => "referenced",
        }
    }
}

/// One reason for which versions of an execution stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptFor {
    /// The execution that they belong to, if they say one.
    pub execution: Option<String>,
    /// What kind of reason.
    pub because: KeptBecause,
    /// Who or what it is: a pin's holder, the run, the row that came from theirs.
    pub by: String,
    /// The same in words.
    pub why: String,
}

/// A version that somebody wants to delete.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'v> {
    pub(super) key: &'v str,
    pub(super) version: &'v str,
    pub(super) execution: Option<&'v str>,
    /// The row that its writer named.
    pub(super) row: Option<&'v str>,
    /// Whether it is what is read under the key now: rows that name no version mean that one.
    pub(super) is_newest: bool,
}

impl<'v> Subject<'v> {
    pub(super) fn newest(artifact: &'v Artifact) -> Self {
        Self {
            key: &artifact.key,
            version: &artifact.version,
            execution: artifact.provenance.execution.as_deref(),
            row: artifact.lineage.as_deref(),
            is_newest: true,
        }
    }
}

/// What stands against taking something away from an execution, and what a commit expects that does it all the same.
#[derive(Debug, Default)]
pub(super) struct Stance {
    /// A pin, or a run that goes on.
    pub(super) kept: Option<KeptFor>,
    pub(super) pins: Option<ExecutionPins>,
    pub(super) run: Option<Run>,
    /// No pin, and the run as it was found, where one commit can expect that.
    pub(super) expect: Vec<Expectation>,
}

impl Artifacts {
    /// How an execution stands: pinned, running, or neither.
    pub(super) async fn stance(&self, execution: &str) -> Result<Stance> {
        let mut stance = Stance { expect: vec![crate::pins::unpinned(execution)?], ..Stance::default() };
        let kept = |because, by: &str, why| KeptFor { execution: Some(execution.to_owned()), because, by: by.to_owned(), why };
        if let Some(found) = Records::<ExecutionPins>::new(self.store().clone()).get(&key_segment(execution)).await? {
            let first = found.value.pins.first();
            let (by, why) = first.map(|pin| (pin.holder.as_str(), format!("pin {}: {}", pin.id, pin.reason))).unwrap_or_default();
            stance.kept = Some(kept(KeptBecause::Pinned, by, why));
            stance.pins = Some(found.value);
            return Ok(stance);
        }
        // An execution may be called as no run can be.
        if Key::new(execution).is_err() {
            return Ok(stance);
        }
        let run = self.runs().get(execution).await?;
        if self.runs().shares(self.store()) {
            stance.expect.push(as_found(execution, run.as_ref())?);
        }
        if let Some(run) = run.filter(|run| !run.value.status.is_final()) {
            let why = format!("the run is {} since {}", run.value.status, run.value.started_at);
            stance.kept = Some(kept(KeptBecause::Running, execution, why));
            stance.run = Some(run.value);
        }
        Ok(stance)
    }

    /// Of these versions, by their names, those whose rows of lineage other executions' rows came from.
    ///
    /// # Errors
    /// `Corrupt` when a row or an edge does not read back: nobody can tell whose it is.
    pub(super) async fn referenced(&self, subjects: &[Subject<'_>]) -> Result<BTreeMap<String, Reference>> {
        let rows = self.rows_of(subjects).await?;
        let asked =
            rows.iter().map(|(row, of)| (row.clone(), of.iter().find_map(|subject| subject.execution.map(str::to_owned))));
        let found = references(self.store(), &asked.collect()).await?;
        let mut referenced = BTreeMap::new();
        for (row, reference) in found {
            for subject in rows.get(&row).into_iter().flatten() {
                referenced.entry(subject.version.to_owned()).or_insert_with(|| reference.clone());
            }
        }
        Ok(referenced)
    }

    /// The rows that made these versions: those that they name, and those that name them.
    async fn rows_of<'v>(&self, subjects: &[Subject<'v>]) -> Result<BTreeMap<String, Vec<Subject<'v>>>> {
        let mut rows: BTreeMap<String, Vec<Subject<'v>>> = BTreeMap::new();
        let mut keys: BTreeMap<&str, Vec<Subject<'v>>> = BTreeMap::new();
        for subject in subjects {
            keys.entry(subject.key).or_default().push(*subject);
            if let Some(row) = subject.row {
                rows.entry(row.to_owned()).or_default().push(*subject);
            }
        }
        let digests: BTreeSet<String> = keys.keys().map(|key| digest_of_artifact(key)).collect();
        let digests: Vec<&str> = digests.iter().map(String::as_str).collect();
        for digests in digests.chunks(ROWS) {
            let mut after: Option<PageCursor> = None;
            loop {
                let query = Query::new(LineageRow::COLLECTION.name())?.one_of("artifact", digests.iter().copied()).limit(ROWS);
                let page = Records::<LineageRow>::new(self.store().clone()).page(query.after(after)).await?;
                if let Some(damaged) = page.damaged.into_iter().next() {
                    return Err(Error::corrupt("a row of lineage does not read back").with("record", damaged.what));
                }
                for row in page.items {
                    let Some(made) = &row.value.artifact else { continue };
                    for subject in keys.get(made.key.as_str()).into_iter().flatten() {
                        if made.version.as_deref().map_or(subject.is_newest, |version| version == subject.version) {
                            rows.entry(row.value.id.clone()).or_default().push(*subject);
                        }
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(rows)
    }
}

/// That a run is as it was found.
fn as_found(execution: &str, found: Option<&Versioned<Run>>) -> Result<Expectation> {
    let id = Records::<Run>::id(execution)?;
    Ok(found.map_or_else(|| Expectation::Absent(id.clone()), |run| Expectation::Revision(id.clone(), run.revision)))
}
