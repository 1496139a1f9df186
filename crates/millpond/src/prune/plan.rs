//! The dry run: what pruning an execution would delete, counted exactly, and what stands against it.

use millpond_core::{Document, KEY_FIELD, Query, Records, Result};
use serde::Serialize;

use super::model::{PruneCounts, PruneStatus};
use super::names::namers;
use super::refer::{PruneObstacle, PruneReason, Reasons, lineage_of};
use super::{Prunes, VERSIONS};
use crate::{Artifact, ArtifactKey, ArtifactVersion};

/// What pruning an execution would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunePlan {
    /// The execution.
    pub execution: String,
    /// How a prune of it stands that was begun already.
    pub begun: Option<PruneStatus>,
    /// What is there now, and would be deleted.
    pub would_delete: PruneCounts,
    /// Of the artifacts, those whose keys are not below `executions/EXECUTION/`: written there under the execution's name,
    /// or copied there from it.
    pub elsewhere: u64,
    /// The first hundred reasons why it would be refused.
    pub reasons: Vec<PruneReason>,
    /// How many those are in all. An execution is pruned only when there is none.
    pub reasons_in_all: u64,
}

impl Prunes {
    /// Counts what pruning an execution would delete, and finds what stands against it. Nothing is written.
    ///
    /// Rows, edges, versions and the objects they name are walked over a page at a time: memory stays flat.
    ///
    /// # Errors
    /// What the store fails with; `Corrupt` when a record that may name bytes does not read back.
    pub async fn plan(&self, execution: &str) -> Result<PrunePlan> {
        self.planned(execution).await.map_err(|e| e.with("execution", execution).during("prunes.plan"))
    }

    async fn planned(&self, execution: &str) -> Result<PrunePlan> {
        let begun = self.read(execution).await?.map(|job| job.value.status);
        let (would_delete, reasons) = self.surveyed(execution).await?;
        let inside = Query::new(Artifact::COLLECTION.name())?
            .eq("execution", execution)
            .prefix(KEY_FIELD, ArtifactKey::of_execution(execution));
        let elsewhere = would_delete.artifacts.saturating_sub(self.store().count(inside).await?);
        Ok(PrunePlan {
            execution: execution.to_owned(),
            begun,
            would_delete,
            elsewhere,
            reasons: reasons.named,
            reasons_in_all: reasons.in_all,
        })
    }

    async fn surveyed(&self, execution: &str) -> Result<(PruneCounts, Reasons)> {
        let store = self.store();
        let of = |collection: &str| Ok::<_, millpond_core::Error>(Query::new(collection)?.eq("execution", execution));
        let mut counts = PruneCounts {
            artifacts: store.count(of(Artifact::COLLECTION.name())?).await?,
            versions: store.count(of(ArtifactVersion::COLLECTION.name())?).await?,
            ..PruneCounts::default()
        };
        self.count_bytes(execution, &mut counts).await?;
        let mut reasons = self.in_the_way(execution).await?;
        let lineage = lineage_of(store, execution, &mut reasons).await?;
        (counts.lineage_rows, counts.lineage_edges) = (lineage.rows, lineage.edges);
        counts.events = counts.artifacts;
        if let Some(log) = self.log_events(execution).await? {
            (counts.runs, counts.log_events) = (1, log);
        }
        Ok((counts, reasons))
    }

    /// Pins, and a run that goes on.
    pub(super) async fn in_the_way(&self, execution: &str) -> Result<Reasons> {
        let mut reasons = Reasons::default();
        if let Some(pins) = self.pond.pins().read(execution).await? {
            reasons.pinned(&pins.value);
        }
        if let Some(run) = self.run_of(execution).await?
            && !run.value.status.is_final()
        {
            let since = run.value.started_at;
            reasons.add(PruneObstacle::Running, execution, format!("the run goes on since {since}"));
        }
        Ok(reasons)
    }

    /// Counts each object once: at the first version that names it.
    async fn count_bytes(&self, execution: &str, counts: &mut PruneCounts) -> Result<()> {
        let mut after = None;
        loop {
            let query = Query::new(ArtifactVersion::COLLECTION.name())?.eq("execution", execution).limit(VERSIONS).after(after);
            let page = Records::<ArtifactVersion>::new(self.store().clone()).page(query).await?;
            let locations: Vec<&str> = page.items.iter().filter_map(|version| version.value.location.as_deref()).collect();
            let named = namers(self.store(), execution, &locations).await?;
            for version in &page.items {
                let Some(location) = &version.value.location else { continue };
                let key = version.value.key()?;
                match named.get(location) {
                    Some(by) if by.own.as_deref() != Some(key.as_str()) => {}
                    Some(by) if by.others => {
                        counts.kept_objects += 1;
                        counts.kept_bytes += version.value.length;
                    }
                    _ => {
                        counts.objects += 1;
                        counts.bytes += version.value.length;
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}
