//! Units that are over and have been so for long: their records go, and those of their operations.
//!
//! A unit without a record is one that the collector judges by the floor, and that could begin again under the same id. So the
//! floor is raised first, and only units below it are forgotten: none of them can ever begin, or write over what it wrote.

use std::time::Duration;

use millpond_core::{
    Commit, Damaged, Document, Error, ErrorKind, Expectation, Key, Outcome, Page, PageCursor, Query, Records, Result, Timestamp,
    Versioned, Write, limits,
};
use serde::Serialize;

use super::collect::GRACE;
use super::model::{OperationStatus, UnitInfo, UnitOperation, UnitState, moment_of};
use super::{UNITS_JOB, Undoing, Units, steps};

/// Units that are looked at together.
const PAGE: usize = 200;
/// Changes that go in one commit: one of its 4,096 is for an expectation each.
const CHANGES: usize = limits::COMMIT_OPERATIONS / 2;
/// Damaged records that an answer names.
const NAMED: usize = 100;
/// How units end.
const ENDS: [UnitState; 3] = [UnitState::Committed, UnitState::Aborted, UnitState::Failed];

/// What forgetting units brought, or would bring.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ForgottenUnits {
    /// Units that are forgotten.
    pub units: u64,
    /// Their operations.
    pub operations: u64,
    /// Failed units that stay, because no person has closed the dead letter of what could not be undone.
    pub kept_failed: u64,
    /// Units that stay because they are not below the floor yet: an older one is being worked on.
    pub kept_young: u64,
    /// Units that stay because a record of theirs does not read back.
    pub kept_damaged: u64,
    /// The first hundred records of units that do not read back. One of a unit that was being worked on keeps all younger
    /// units, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Damaged>,
    /// There may be more of them: the limit was reached.
    pub more: bool,
}

/// A unit that goes, with the keys of its operations.
struct Going {
    unit: Versioned<UnitInfo>,
    operations: Vec<Key>,
}

impl ForgottenUnits {
    fn name(&mut self, damaged: Vec<Damaged>) {
        let room = NAMED.saturating_sub(self.damaged.len());
        self.damaged.extend(damaged.into_iter().take(room));
    }
}

impl Units {
    /// Forgets units that have been over for longer than this, at most so many: their records, and those of their operations.
    /// Units that failed are forgotten only once the dead letter of what could not be undone was closed. What they wrote stays
    /// as it is. One process at a time, under the lock `units/collector`; one commit for a few units, so that whoever ends in
    /// the middle has forgotten some.
    ///
    /// # Errors
    /// `Invalid` for a limit of none; `Conflict`, naming who, when somebody forgets or collects already.
    pub async fn forget(&self, older_than: Duration, limit: usize) -> Result<ForgottenUnits> {
        let forgetting = async {
            let lease = self.only_one("forgetting units").await?;
            let under = async {
                let floor = self.raise_floor(&lease, GRACE).await?;
                self.over_for(older_than, limit, floor, true).await
            };
            self.alone(&lease, under).await
        };
        forgetting.await.map_err(|e: Error| e.during("units.forget"))
    }

    /// What [`Units::forget`] would do now. Nothing is changed.
    ///
    /// # Errors
    /// As [`Units::forget`], less the `Conflict`.
    pub async fn would_forget(&self, older_than: Duration, limit: usize) -> Result<ForgottenUnits> {
        let looking = async { self.over_for(older_than, limit, self.possible_floor(GRACE).await?, false).await };
        looking.await.map_err(|e| e.during("units.forget"))
    }

    async fn over_for(&self, older_than: Duration, limit: usize, floor: i64, forgets: bool) -> Result<ForgottenUnits> {
        if limit == 0 {
            return Err(Error::invalid("no unit is to be forgotten").with_next("say how many, at most"));
        }
        let now = self.undoing().store.now().as_micros();
        let before = Timestamp::from_micros(now.saturating_sub(i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX)));
        let mut done = ForgottenUnits::default();
        let pending = Query::new(UnitInfo::COLLECTION.name())?.eq("state", UnitState::Pending.as_str()).limit(NAMED);
        done.name(self.undoing().store.query(pending).await?.damaged);
        for state in ENDS {
            let mut after = None;
            loop {
                let page = self.ended(state, before, after).await?;
                done.kept_damaged += page.damaged.len() as u64;
                done.name(page.damaged);
                let mut going = Vec::new();
                for unit in page.items {
                    if done.units + going.len() as u64 >= limit as u64 {
                        done.more = true;
                        break;
                    }
                    if moment_of(steps::id_of(&unit.value.id)) >= floor {
                        done.kept_young += 1;
                        continue;
                    }
                    let id = unit.value.id.clone();
                    match self.going(unit, state).await {
                        Ok(Some(unit)) => going.push(unit),
                        Ok(None) => done.kept_failed += 1,
                        Err(error) if error.kind() == ErrorKind::Corrupt => {
                            done.kept_damaged += 1;
                            done.name(vec![Damaged { what: format!("units/{id}"), why: error.to_string() }]);
                        }
                        Err(error) => return Err(error),
                    }
                }
                self.gone(going, forgets, &mut done).await?;
                after = page.next;
                if after.is_none() || done.more {
                    break;
                }
            }
        }
        Ok(done)
    }

    /// A unit with all that goes with it; `None` for one that failed and that nobody has closed.
    ///
    /// # Errors
    /// `Corrupt` when an operation, or the dead letter of one, does not read back.
    async fn going(&self, unit: Versioned<UnitInfo>, state: UnitState) -> Result<Option<Going>> {
        let operations = self.undoing().operations(&unit.value.id).await?;
        if state == UnitState::Failed && !self.is_closed(&operations).await? {
            return Ok(None);
        }
        let operations = operations.iter().map(Document::key).collect::<Result<_>>()?;
        Ok(Some(Going { unit, operations }))
    }

    async fn ended(&self, state: UnitState, before: Timestamp, after: Option<PageCursor>) -> Result<Page<Versioned<UnitInfo>>> {
        let query = Query::new(UnitInfo::COLLECTION.name())?.eq("state", state.as_str()).below("ended", before);
        let query = query.order_asc("ended").limit(PAGE).after(after);
        Records::<UnitInfo>::new(self.undoing().store.clone()).page(query).await
    }

    /// Whether a person has said of each step that could not be undone that nothing is to be done about it.
    async fn is_closed(&self, operations: &[UnitOperation]) -> Result<bool> {
        for step in operations.iter().filter(|operation| operation.status == OperationStatus::Failed) {
            let letter = self.undoing().letters.get(UNITS_JOB, &Undoing::letter_of(step)).await?;
            // One that is not there was pushed out by others, or purged: nobody looked at it.
            if letter.is_none_or(|letter| letter.value.state.is_open()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Deletes the records, as many units with one commit as fit.
    async fn gone(&self, going: Vec<Going>, forgets: bool, done: &mut ForgottenUnits) -> Result<()> {
        let (mut commit, mut together) = (Commit::new().trusted(), ForgottenUnits::default());
        let mut going = going.into_iter().peekable();
        while let Some(Going { unit, operations }) = going.next() {
            let id = Records::<UnitInfo>::id(&unit.value.id)?;
            // A unit that failed may be taken up again meanwhile; then it stays.
            commit = commit.expect(Expectation::Revision(id.clone(), unit.revision)).write(Write::Delete(id));
            for operation in &operations {
                commit = commit.write(Write::Delete(Records::<UnitOperation>::id(operation.as_str())?));
            }
            together.units += 1;
            together.operations += operations.len() as u64;
            if going.peek().is_some_and(|next| commit.writes.len() + next.operations.len() < CHANGES) {
                continue;
            }
            let full = std::mem::replace(&mut commit, Commit::new().trusted());
            let together = std::mem::take(&mut together);
            if forgets && let Outcome::Conflict(conflict) = self.undoing().store.try_commit(full).await? {
                return Err(Error::from_conflict(conflict).with_next("somebody took up a unit that had failed: try again"));
            }
            done.units += together.units;
            done.operations += together.operations;
        }
        Ok(())
    }
}
