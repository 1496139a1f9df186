//! `plan` itself: each commit is worked out in place, and taken back unless it holds as a whole.

use crate::commit::{Commit, PreparedCommit, PreparedFields, Write};
use crate::error::{Error, Result};
use crate::outcome::{Appended, Conflict, Outcome, Receipt};
use crate::plan::check;
use crate::plan::current::{Current, CurrentStream, Document};
use crate::plan::mutations::Plan;
use crate::plan::state::{State, StoredReceipt};
use crate::plan::work::Work;
use crate::time::Timestamp;

/// Decides a batch: pure and deterministic. `now` is the store's clock; it never falls below the last commit's time.
///
/// Each commit sees what the ones before it in the batch did. A commit that is refused leaves no trace.
pub fn plan(batch: &[PreparedCommit], state: State, now: Timestamp) -> Plan {
    let mut work = Work::new(batch.len(), state, now);
    let outcomes = batch.iter().map(|commit| work.decide(commit)).collect();
    Plan { outcomes, mutations: work.finish() }
}

/// Why a commit was not applied: a failed expectation is an outcome, anything else an error.
pub(super) enum Refusal {
    Conflict(Box<Conflict>),
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(Box::new(conflict))
    }
}

impl Work {
    fn decide(&mut self, prepared: &PreparedCommit) -> Result<Outcome> {
        if let Some(stored) = self.state.receipts.get(&prepared.id()) {
            return check::replay(prepared, stored);
        }
        check::namespace(&self.state.namespace)?;
        check::id_age(prepared, &self.state.namespace, self.now)?;
        self.begin();
        match self.work_out(prepared) {
            Ok((revisions, sequences)) => {
                self.forget_undo();
                Ok(Outcome::Committed(self.remember(prepared, revisions, sequences)))
            }
            Err(refusal) => {
                self.take_back();
                match refusal {
                    Refusal::Conflict(conflict) => Ok(Outcome::Conflict(*conflict)),
                    Refusal::Error(error) => Err(error),
                }
            }
        }
    }

    fn work_out(&mut self, prepared: &PreparedCommit) -> Result<(Vec<u64>, Vec<Appended>), Refusal> {
        let commit = prepared.commit();
        self.by.clone_from(&commit.by);
        for (index, expectation) in commit.expect.iter().enumerate() {
            check::expectation(self, index, expectation)?;
        }
        let mut revisions = Vec::with_capacity(commit.writes.len());
        for (write, fields) in commit.writes.iter().zip(prepared.fields()) {
            revisions.push(self.write(commit, write, fields.as_ref())?);
        }
        let sequences = commit.appends.iter().map(|a| self.append(a)).collect::<Result<Vec<_>, Refusal>>()?;
        for trim in &commit.trims {
            self.trim(commit, &trim.stream, trim.before)?;
        }
        for stream in &commit.seals {
            let sealed = CurrentStream { sealed: true, ..self.stream(stream) };
            self.set_stream(stream, sealed);
        }
        Ok((revisions, sequences))
    }

    fn remember(&mut self, prepared: &PreparedCommit, revisions: Vec<u64>, sequences: Vec<Appended>) -> Receipt {
        let (id, position, time) = (prepared.id(), self.position, self.now);
        let receipt = Receipt { id, position, time, revisions, sequences, replayed: false };
        let stored = StoredReceipt { digest: *prepared.digest(), receipt: receipt.clone() };
        if !prepared.is_fresh() {
            self.state.receipts.insert(id, stored.clone());
        }
        self.receipts.push(stored);
        receipt
    }

    fn write(&mut self, commit: &Commit, write: &Write, prepared: Option<&PreparedFields>) -> Result<u64, Refusal> {
        match write {
            Write::Put(id, json) => {
                check::may_write(commit, id, self.spec(id))?;
                let before = self.record(id);
                self.check_create_only(id, &before)?;
                let fields = self.put_fields(id, json, prepared)?;
                Ok(self.set(id, before.last_revision(), Some(Document::Text(json.clone(), fields))))
            }
            Write::Delete(id) => {
                check::may_write(commit, id, self.spec(id))?;
                match self.record(id) {
                    before @ Current::Live { .. } => Ok(self.set(id, before.last_revision(), None)),
                    _ => Ok(0),
                }
            }
            Write::Merge(id, ops) => {
                check::may_write(commit, id, self.spec(id))?;
                self.merge(id, ops)
            }
            Write::Acquire(_) | Write::Renew { .. } | Write::Release { .. } | Write::Break { .. } => self.lease_write(write),
        }
    }
}
