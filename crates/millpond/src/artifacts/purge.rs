//! Old versions that nobody needs: forgotten here; their bytes follow when the collector finds that nobody names them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millpond_core::{
    Answer, Commit, Document, Error, Expectation, PageCursor, Query, Read, Records, Result, Timestamp, Versioned, Write,
};
use serde::Serialize;

use super::Artifacts;
use super::model::{Artifact, ArtifactVersion};
use crate::text::key_segment;
use crate::{ExecutionPins, pins};

/// Versions that are looked at and deleted together.
const PAGE: usize = 250;
/// Versions of one artifact that can be kept.
const MOST_KEPT: usize = 1_000;
/// Executions that an answer names; the rest is counted.
const NAMED: usize = 100;
/// How often a page is decided again because it was changed by others meanwhile.
const TRIES: u32 = 16;

/// Which versions are forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PurgeVersions {
    /// Only those written longer ago, on the store's clock.
    pub older_than: Duration,
    /// Of each artifact so many stay, the newest ones, deletions among them. What is read under the key now stays in any
    /// case.
    pub keep_newest: usize,
    /// Only counts.
    pub dry_run: bool,
}

impl PurgeVersions {
    /// Versions written longer ago than this, but not the newest so many of each artifact.
    pub fn new(older_than: Duration, keep_newest: usize) -> Self {
        Self { older_than, keep_newest, dry_run: false }
    }

    /// Only counts.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

/// Why versions of an execution stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptBecause {
    /// It is pinned.
    Pinned,
    /// Its run goes on.
    Running,
}

/// What a purge of versions brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PurgedVersions {
    /// Versions that are old enough.
    pub looked_at: u64,
    /// Of them, forgotten; or to be forgotten, where only that was asked.
    pub purged: u64,
    /// The bytes they named. A copy may still name some of them.
    pub bytes: u64,
    /// Those that stay because they are among the newest of their artifact.
    pub kept_newest: u64,
    /// Those that stay because their execution is pinned or runs.
    pub kept_needed: u64,
    /// The first hundred such executions, and why.
    pub needed: BTreeMap<String, KeptBecause>,
}

impl Artifacts {
    /// Forgets old versions of artifacts, by when they were written, the oldest first. Versions of an execution that is
    /// pinned or whose run goes on stay, and are counted. Bytes are not touched: the collector removes those that nobody
    /// names any more.
    ///
    /// One commit point for each 250 versions, which expects them unread by the present and their executions unpinned:
    /// stopped half way it has kept more than asked, and a second call goes on.
    ///
    /// # Errors
    /// `Invalid` when more than 1,000 versions of each artifact are to be kept; what the store fails with.
    pub async fn purge_versions(&self, request: &PurgeVersions) -> Result<PurgedVersions> {
        self.purged(request).await.map_err(|e| e.during("artifacts.purge_versions"))
    }

    async fn purged(&self, request: &PurgeVersions) -> Result<PurgedVersions> {
        if request.keep_newest > MOST_KEPT {
            return Err(Error::invalid(format!(
                "{} versions of each artifact; at most {MOST_KEPT} are kept",
                request.keep_newest
            )));
        }
        let before = self.store().now().minus(request.older_than);
        let mut done = PurgedVersions::default();
        let mut after = None;
        let mut tries = 0;
        loop {
            let page = self.old_versions(before, after.clone()).await?;
            let (judged, going) = self.judged(&page.items, request.keep_newest).await?;
            let forgotten = if request.dry_run { Ok(()) } else { self.forget(&going).await };
            match forgotten {
                Ok(()) => {}
                // Somebody pinned an execution, or wrote, or purged as well.
                Err(error) if error.is_conflict() && tries < TRIES => {
                    tries += 1;
                    continue;
                }
                Err(error) => return Err(pins::explain(error)),
            }
            tries = 0;
            done.add(judged);
            after = page.next;
            if after.is_none() {
                return Ok(done);
            }
        }
    }

    async fn old_versions(
        &self,
        before: Timestamp,
        after: Option<PageCursor>,
    ) -> Result<millpond_core::Page<Versioned<ArtifactVersion>>> {
        let query = Query::new(ArtifactVersion::COLLECTION.name())?.below("created", before).order_asc("created");
        Records::<ArtifactVersion>::new(self.store().clone()).page(query.limit(PAGE).after(after)).await
    }

    /// What becomes of each version, and those that go.
    async fn judged<'v>(
        &self,
        versions: &'v [Versioned<ArtifactVersion>],
        keep_newest: usize,
    ) -> Result<(PurgedVersions, Vec<&'v ArtifactVersion>)> {
        let newest = self.newest_of(versions, keep_newest).await?;
        let needed = self.needed(versions).await?;
        let mut judged = PurgedVersions { looked_at: versions.len() as u64, ..PurgedVersions::default() };
        let mut going = Vec::new();
        for version in versions.iter().map(|v| &v.value) {
            let because = version.execution.as_ref().and_then(|execution| Some((execution, *needed.get(execution)?)));
            if newest.contains(&version.version) {
                judged.kept_newest += 1;
            } else if let Some((execution, because)) = because {
                judged.kept_needed += 1;
                judged.needed.insert(execution.clone(), because);
            } else {
                judged.purged += 1;
                judged.bytes += version.length;
                going.push(version);
            }
        }
        Ok((judged, going))
    }

    /// Of the artifacts that these are versions of: the newest versions, and the one that is read now. A version's name is
    /// its unit's and a number, which no other has.
    async fn newest_of(&self, versions: &[Versioned<ArtifactVersion>], keep_newest: usize) -> Result<BTreeSet<String>> {
        let keys: BTreeMap<&str, &str> = versions.iter().map(|v| (v.value.of.as_str(), v.value.key.as_str())).collect();
        let mut newest = BTreeSet::new();
        for (of, key) in keys {
            let mut reads = vec![Read::Get(Records::<Artifact>::id(key)?)];
            if keep_newest > 0 {
                let query = Query::new(ArtifactVersion::COLLECTION.name())?.eq("of", of).order_desc("created").limit(keep_newest);
                reads.push(Read::Query(query));
            }
            for answer in self.store().read(reads).await? {
                match answer {
                    Answer::Record(Some(record)) => {
                        newest.insert(record.value.decode::<Artifact>()?.version);
                    }
                    Answer::Page(page) => {
                        for record in page.items {
                            newest.insert(record.value.decode::<ArtifactVersion>()?.version);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(newest)
    }

    /// Which of their executions are pinned, or are runs that go on.
    async fn needed(&self, versions: &[Versioned<ArtifactVersion>]) -> Result<BTreeMap<String, KeptBecause>> {
        let executions: BTreeSet<&str> = versions.iter().filter_map(|v| v.value.execution.as_deref()).collect();
        let mut needed = BTreeMap::new();
        for execution in executions {
            let pinned = Records::<ExecutionPins>::new(self.store().clone()).get(&key_segment(execution)).await?;
            if pinned.is_some() {
                needed.insert(execution.to_owned(), KeptBecause::Pinned);
            } else if self.is_running(execution).await? {
                needed.insert(execution.to_owned(), KeptBecause::Running);
            }
        }
        Ok(needed)
    }

    async fn is_running(&self, execution: &str) -> Result<bool> {
        // An execution may be called as no run can be.
        if millpond_core::Key::new(execution).is_err() {
            return Ok(false);
        }
        let run = self.runs().get(execution).await?;
        Ok(run.is_some_and(|run| !run.value.status.is_final()))
    }

    async fn forget(&self, going: &[&ArtifactVersion]) -> Result<()> {
        if going.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new().trusted();
        let executions: BTreeSet<&str> = going.iter().filter_map(|version| version.execution.as_deref()).collect();
        for execution in executions {
            commit = commit.expect(pins::unpinned(execution)?);
        }
        for version in going {
            let id = Records::<ArtifactVersion>::id(version.key()?.as_str())?;
            commit = commit.expect(Expectation::Exists(id.clone())).write(Write::Delete(id));
        }
        self.store().commit(commit).await.map(drop)
    }
}

impl PurgedVersions {
    fn add(&mut self, page: Self) {
        self.looked_at += page.looked_at;
        self.purged += page.purged;
        self.bytes += page.bytes;
        self.kept_newest += page.kept_newest;
        self.kept_needed += page.kept_needed;
        for (execution, because) in page.needed {
            if self.needed.len() < NAMED || self.needed.contains_key(&execution) {
                self.needed.insert(execution, because);
            }
        }
    }
}
