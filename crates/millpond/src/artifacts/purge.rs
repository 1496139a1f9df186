//! Old versions that nobody needs: forgotten here; their bytes follow when the collector finds that nobody names them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millpond_core::{
    Answer, Commit, Damaged, Document, Error, ErrorKind, Expectation, PageCursor, Query, Read, Records, Result, Timestamp,
    Versioned, Write,
};
use serde::Serialize;

use super::Artifacts;
use super::model::{Artifact, ArtifactVersion};
use super::needed::{KeptBecause, KeptFor, Subject};
use crate::pins;

/// Versions that are looked at and deleted together.
const PAGE: usize = 250;
/// Versions of one artifact that can be kept.
const MOST_KEPT: usize = 1_000;
/// Reasons that an answer names; the rest is counted.
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
    /// Those that stay because their execution is pinned.
    pub kept_pinned: u64,
    /// Those that stay because their execution's run goes on.
    pub kept_running: u64,
    /// Those that stay because rows of other executions came from the rows that made them.
    pub kept_referenced: u64,
    /// Those that stay because they, or a record that may need them, do not read back.
    pub kept_damaged: u64,
    /// The first hundred reasons: by whom.
    pub needed: Vec<KeptFor>,
    /// The first hundred that stay because of damage: the version, and what does not read back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Damaged>,
}

impl Artifacts {
    /// Forgets old versions of artifacts, by when they were written, the oldest first. Versions of an execution that is
    /// pinned or whose run goes on stay, and so do those that rows of other executions came from: each kind is counted,
    /// and the answer says by whom. Where a record does not read back, the versions that it may be about stay, and are named.
    /// Bytes are not touched: the collector removes those that nobody names any more.
    ///
    /// One commit point for each 250 versions, which expects their executions unpinned, and their runs as they were found
    /// where runs are in the store of the artifacts. Stopped half way it has kept more than asked, and a second call goes
    /// on.
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
            let Judged { mut counted, going, expect } = self.surely_judged(&page.items, request.keep_newest).await?;
            counted.looked_at += page.damaged.len() as u64;
            page.damaged.into_iter().for_each(|damaged| counted.damaged(damaged));
            let forgotten = if request.dry_run { Ok(()) } else { self.forget(&going, expect).await };
            match forgotten {
                Ok(()) => {}
                // Somebody pinned an execution, or started its run, or purged as well.
                Err(error) if error.is_conflict() && tries < TRIES => {
                    tries += 1;
                    continue;
                }
                Err(error) => return Err(pins::explained(self.store(), error).await),
            }
            tries = 0;
            done.add(counted);
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

    /// What becomes of each version. Where a record does not read back each is judged alone, and those that it may be about
    /// stay.
    async fn surely_judged<'v>(&self, versions: &'v [Versioned<ArtifactVersion>], keep_newest: usize) -> Result<Judged<'v>> {
        match self.judged(versions, keep_newest).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            all => return all,
        }
        let mut all = Judged::default();
        for version in versions {
            match self.judged(std::slice::from_ref(version), keep_newest).await {
                Ok(judged) => all.add(judged),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    all.counted.looked_at += 1;
                    let what = format!("{}/{}", ArtifactVersion::COLLECTION.name(), version.value.key()?);
                    all.counted.damaged(Damaged { what, why: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// What becomes of each version.
    ///
    /// # Errors
    /// `Corrupt` when a record does not read back that may speak for one of them.
    async fn judged<'v>(&self, versions: &'v [Versioned<ArtifactVersion>], keep_newest: usize) -> Result<Judged<'v>> {
        let newest = self.newest_of(versions, keep_newest).await?;
        let (old, kept): (Vec<_>, Vec<_>) =
            versions.iter().map(|v| &v.value).partition(|version| !newest.contains(&version.version));
        let mut judged = Judged::default();
        judged.counted.looked_at = versions.len() as u64;
        judged.counted.kept_newest = kept.len() as u64;
        let executions: BTreeSet<&str> = old.iter().filter_map(|version| version.execution.as_deref()).collect();
        let mut stances = BTreeMap::new();
        for execution in executions {
            stances.insert(execution, self.stance(execution).await?);
        }
        let subjects: Vec<Subject<'_>> = old.iter().map(|version| subject(version)).collect();
        let referenced = self.referenced(&subjects).await?;
        for version in old {
            let stance = version.execution.as_deref().and_then(|execution| stances.get(execution));
            let kept = stance.and_then(|stance| stance.kept.clone()).or_else(|| {
                let reference = referenced.get(&version.version)?;
                let (execution, because, by) = (version.execution.clone(), KeptBecause::Referenced, reference.row.clone());
                Some(KeptFor { execution, because, by, why: reference.why() })
            });
            match kept {
                Some(kept) => judged.counted.keep(kept),
                None => {
                    judged.counted.purged += 1;
                    judged.counted.bytes += version.length;
                    judged.going.push(version);
                }
            }
        }
        let executions: BTreeSet<&str> = judged.going.iter().filter_map(|version| version.execution.as_deref()).collect();
        for (_, stance) in stances.into_iter().filter(|(execution, _)| executions.contains(execution)) {
            judged.expect.extend(stance.expect);
        }
        Ok(judged)
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
                        if let Some(damaged) = page.damaged.into_iter().next() {
                            let error = Error::corrupt(format!("a version of {key:?} does not read back"));
                            return Err(error.with("record", damaged.what));
                        }
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

    async fn forget(&self, going: &[&ArtifactVersion], expect: Vec<Expectation>) -> Result<()> {
        if going.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new().trusted();
        commit.expect = expect;
        for version in going {
            let id = Records::<ArtifactVersion>::id(version.key()?.as_str())?;
            commit = commit.expect(Expectation::Exists(id.clone())).write(Write::Delete(id));
        }
        self.store().commit(commit).await.map(drop)
    }
}

/// What becomes of a page of versions.
#[derive(Debug, Default)]
struct Judged<'v> {
    counted: PurgedVersions,
    /// Those that go.
    going: Vec<&'v ArtifactVersion>,
    /// What the commit expects that takes them.
    expect: Vec<Expectation>,
}

impl<'v> Judged<'v> {
    fn add(&mut self, more: Judged<'v>) {
        self.counted.add(more.counted);
        self.going.extend(more.going);
        for expected in more.expect {
            if !self.expect.contains(&expected) {
                self.expect.push(expected);
            }
        }
    }
}

/// An old version as lineage may know it.
fn subject(version: &ArtifactVersion) -> Subject<'_> {
    Subject {
        key: &version.key,
        version: &version.version,
        execution: version.execution.as_deref(),
        row: version.artifact.as_ref().and_then(|artifact| artifact.lineage.as_deref()),
        is_newest: false,
    }
}

impl PurgedVersions {
    /// Those that stay for a reason, whichever it is.
    pub fn kept_needed(&self) -> u64 {
        self.kept_pinned + self.kept_running + self.kept_referenced
    }

    /// Counts a version that stays.
    fn keep(&mut self, kept: KeptFor) {
        match kept.because {
            KeptBecause::Pinned => self.kept_pinned += 1,
            KeptBecause::Running => self.kept_running += 1,
            KeptBecause::Referenced => self.kept_referenced += 1,
        }
        self.name(kept);
    }

    /// Counts a version that stays because of damage.
    fn damaged(&mut self, damaged: Damaged) {
        self.kept_damaged += 1;
        self.name_damaged(damaged);
    }

    fn name_damaged(&mut self, damaged: Damaged) {
        if self.damaged.len() < NAMED {
            self.damaged.push(damaged);
        }
    }

    fn name(&mut self, kept: KeptFor) {
        if self.needed.len() < NAMED && !self.needed.contains(&kept) {
            self.needed.push(kept);
        }
    }

    fn add(&mut self, page: Self) {
        self.looked_at += page.looked_at;
        self.purged += page.purged;
        self.bytes += page.bytes;
        self.kept_newest += page.kept_newest;
        self.kept_pinned += page.kept_pinned;
        self.kept_running += page.kept_running;
        self.kept_referenced += page.kept_referenced;
        self.kept_damaged += page.kept_damaged;
        for kept in page.needed {
            self.name(kept);
        }
        for damaged in page.damaged {
            self.name_damaged(damaged);
        }
    }
}
