//! Deleting an artifact from outside of its execution: refused while somebody needs it, and saying who.

use std::time::Duration;

use millpond_core::{Commit, Document, Error, Expectation, Expected, Result};

use super::model::Artifact;
use super::needed::Subject;
use super::{ArtifactWork, Artifacts, decide, given_up};
use crate::lineage::Reference;
use crate::{Run, pins};

/// How often it is looked anew because the run was changed by others meanwhile.
const TRIES: u32 = 16;

impl Artifacts {
    /// Deletes an artifact; its versions stay. False when there is none. One commit point: the unit's decision.
    ///
    /// That is for whoever comes from outside: an artifact of a run that goes on, or one that rows of other executions came
    /// from, is not deleted. A step of the run itself deletes in its unit ([`crate::UnitArtifacts::delete`]), which only a
    /// pin refuses.
    ///
    /// The decision expects no pin, and the run as it was found, where runs are in the store of the artifacts. Rows of other
    /// executions are looked for right before it: one that is written in the same moment is not seen.
    ///
    /// # Errors
    /// `Conflict`, naming who, when somebody else writes the same key; when its execution is pinned, naming the pin's
    /// holder and reason, or its run goes on, naming the run and how it stands; when a row of another execution came from
    /// its row of lineage, naming both.
    pub async fn delete(&self, key: &str) -> Result<bool> {
        self.deleted(key).await.map_err(|e| e.during("artifacts.delete"))
    }

    async fn deleted(&self, key: &str) -> Result<bool> {
        let mut tries = 0;
        loop {
            let work = ArtifactWork::new(self.units.begin(None, None, Duration::ZERO));
            let prepared = async {
                let was_there = work.delete(key).await?;
                // Under the claim: no unit changes it from here on.
                let expect = match self.info(key).await? {
                    Some(found) => self.unneeded(&found.value).await?,
                    None => Vec::new(),
                };
                Ok((was_there, expect))
            };
            let (was_there, expect) = match prepared.await {
                Ok(prepared) => prepared,
                Err(error) => return Err(given_up(&work, error).await),
            };
            let mut parts = Commit::new().trusted();
            parts.expect = expect;
            match decide(&work, parts).await {
                Ok(_) => return Ok(was_there),
                Err(error) if tries < TRIES && is_of_the_run(&error) => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// What the deciding commit expects.
    ///
    /// # Errors
    /// `Conflict`, naming it, when something needs the artifact.
    async fn unneeded(&self, artifact: &Artifact) -> Result<Vec<Expectation>> {
        let stance = match &artifact.provenance.execution {
            Some(execution) => self.stance(execution).await?,
            None => super::needed::Stance::default(),
        };
        if let Some(pins) = &stance.pins {
            return Err(pins::refusal(pins));
        }
        if let Some(run) = &stance.run {
            return Err(Error::conflict(format!(
                "artifact {:?} is not deleted: its run {} is {} since {}",
                artifact.key, run.id, run.status, run.started_at
            ))
            .with("key", &artifact.key)
            .with("run", &run.id)
            .with("status", run.status)
            .with_next("delete it in a unit of the run itself, or wait until the run has ended"));
        }
        if let Some(reference) = self.referenced(&[Subject::newest(artifact)]).await?.into_values().next() {
            let Reference { row, execution, parent } = &reference;
            return Err(Error::conflict(format!(
                "artifact {:?} is not deleted: row {row} of execution {execution} came from row {parent}, which made it",
                artifact.key
            ))
            .with("key", &artifact.key)
            .with("row", &reference.row)
            .with("execution", &reference.execution)
            .with_next(format!("prune execution {} first, if nobody needs it any more", reference.execution)));
        }
        Ok(stance.expect)
    }
}

/// Whether a commit was refused because the run is not as it was found.
fn is_of_the_run(error: &Error) -> bool {
    error.as_conflict().is_some_and(|conflict| match &conflict.expected {
        Expected::Stated(Expectation::Absent(id) | Expectation::Revision(id, _)) => {
            id.collection.as_str() == Run::COLLECTION.name()
        }
        _ => false,
    })
}
