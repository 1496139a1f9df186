//! A look at all units that are not over: those that nobody works on are undone.

use millpond_core::{Damaged, Document, ErrorClass, ErrorKind, Query, Result};
use serde::Serialize;

use super::model::{UnitInfo, UnitState};
use super::{Units, tell};

/// Units that are looked at together.
const PAGE: usize = 100;
/// Units of each kind that an answer names; the rest is counted.
const NAMED: usize = 1_000;

/// What a look at the units that are not over brought. Of each kind the first thousand are named, and all are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// How many there are of each kind.
    pub counts: RecoveredCounts,
    /// Units that were undone.
    pub undone: Vec<String>,
    /// Units that somebody works on.
    pub left: Vec<String>,
    /// Units with a step whose compensation this program does not know, and the compensation's name.
    pub needing: Vec<(String, String)>,
    /// Units with a step that could not be undone: a person has to look.
    pub failed: Vec<String>,
    /// Units that could not be looked at or undone, and why. The others were gone on with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<(String, String)>,
}

/// How many units a look found of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RecoveredCounts {
    /// Undone.
    pub undone: u64,
    /// Worked on by somebody.
    pub left: u64,
    /// In need of a compensation that this program does not know.
    pub needing: u64,
    /// With a step that could not be undone.
    pub failed: u64,
    /// That could not be looked at or undone.
    pub errors: u64,
}

impl Units {
    /// Undoes every unit whose process is dead or whose time has run out. Two processes that do this at once do no harm.
    ///
    /// # Errors
    /// What the store or the place of the bytes fails with; what was undone by then is undone.
    pub async fn recover(&self) -> Result<Recovered> {
        self.recover_all().await.map_err(|e| e.during("units.recover"))
    }

    async fn recover_all(&self) -> Result<Recovered> {
        let mut recovered = Recovered::default();
        // Those that are being undone come first: one that was pending and now waits for another program is not met twice.
        for state in [UnitState::Aborting, UnitState::Pending] {
            let mut after = None;
            loop {
                let query = Query::new(UnitInfo::COLLECTION.name())?.eq("state", state.as_str()).limit(PAGE).after(after);
                let page = self.undoing().store.query(query).await?;
                for record in page.items {
                    self.recover_one(record.key.as_str().to_owned(), &mut recovered).await?;
                }
                recovered.damaged(page.damaged);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(recovered)
    }

    async fn recover_one(&self, unit: String, recovered: &mut Recovered) -> Result<()> {
        let Recovered { counts, undone, left, needing, failed, .. } = recovered;
        match self.undoing().undo(&unit, "whoever worked on it is gone").await {
            Ok(done) => match (done.needs, done.state) {
                (Some(needs), _) => tell(needing, NAMED, &mut counts.needing, (unit, needs)),
                (None, UnitState::Failed) => tell(failed, NAMED, &mut counts.failed, unit),
                (None, _) => tell(undone, NAMED, &mut counts.undone, unit),
            },
            // Somebody works on it, or was faster.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Fenced) => {
                tell(left, NAMED, &mut counts.left, unit)
            }
            Err(error) if error.class() == ErrorClass::Transient => return Err(error),
            Err(error) => recovered.error(unit, error.to_string()),
        }
        Ok(())
    }
}

impl Recovered {
    /// Records of units that do not read back.
    pub(super) fn damaged(&mut self, damaged: Vec<Damaged>) {
        damaged.into_iter().for_each(|damaged| self.error(damaged.what, damaged.why));
    }

    fn error(&mut self, unit: String, why: String) {
        tell(&mut self.errors, NAMED, &mut self.counts.errors, (unit, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_thousand_are_named() {
        let mut recovered = Recovered::default();
        for n in 0..1_100 {
            recovered.error(n.to_string(), String::new());
            tell(&mut recovered.left, NAMED, &mut recovered.counts.left, n.to_string());
        }
        assert_eq!((recovered.counts.left, recovered.counts.errors), (1_100, 1_100));
        assert_eq!((recovered.left.len(), recovered.errors.len(), &*recovered.left[999]), (NAMED, NAMED, "999"));
    }
}
