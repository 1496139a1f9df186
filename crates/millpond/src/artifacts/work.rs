//! Artifacts inside a unit: what is staged and not decided, seen by the unit alone.
//!
//! ```text
//!   put, delete, copy ─► claim ─► stage ─► Change {after}     the last change of a key counts, the pre-image is the
//!                                              │               committed one, whatever the unit did in between
//!   decide ◄───── parts(): records, versions, sums, events ◄───┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millpond_core::{Commit, Error, Expectation, NewEvent, Outcome, Records, Result, Write};
use millpond_objects::Objects;
use serde_json::json;

use super::body::{staged, summed};
use super::model::{Artifact, ArtifactVersion, BlockSums};
use super::new::{Body, NewArtifact, Only};
use super::{key, sums};
use crate::text::key_segment;
use crate::units::{OperationKind, UnitOperation, Wanted, Working};

/// What streams of storage events begin with.
pub(crate) const STREAMS: &str = "artifacts/";
/// The type of the event of a written artifact.
pub const ARTIFACT_WRITTEN: &str = "artifact.written";
/// The type of the event of a deleted artifact.
pub const ARTIFACT_DELETED: &str = "artifact.deleted";

/// What becomes of one key.
#[derive(Debug, Clone)]
struct Change {
    /// The number of the operation: of two at once the later registered counts.
    number: u32,
    after: Option<Artifact>,
    blocks: Option<BlockSums>,
    /// What there is outside of the unit, where that had to be known.
    before: Option<Artifact>,
    expect: Vec<Expectation>,
}

/// The artifacts of a unit.
#[derive(Debug)]
pub(crate) struct ArtifactWork {
    working: Working,
    changes: Mutex<BTreeMap<String, Change>>,
}

impl ArtifactWork {
    pub(crate) fn new(working: Working) -> Self {
        Self { working, changes: Mutex::default() }
    }

    pub(crate) fn working(&self) -> &Working {
        &self.working
    }

    fn changes(&self) -> MutexGuard<'_, BTreeMap<String, Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> &millpond_core::Store {
        &self.working.undoing().store
    }

    /// What the unit made of a key: `None` when it did not touch it, `Some(None)` when it deleted it.
    pub(crate) fn own(&self, key: &str) -> Option<Option<(Artifact, Option<BlockSums>)>> {
        self.changes().get(key).map(|change| change.after.clone().map(|after| (after, change.blocks.clone())))
    }

    /// Everything the unit changed below a prefix, in the order of the keys.
    pub(crate) fn own_below(&self, prefix: &str) -> Vec<(String, Option<Artifact>)> {
        let changes = self.changes();
        let below = changes.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        below.map(|(key, change)| (key.clone(), change.after.clone())).collect()
    }

    async fn committed(&self, key: &str) -> Result<Option<millpond_core::Versioned<Artifact>>> {
        Records::<Artifact>::new(self.store().clone()).get(key).await
    }

    /// The condition of a write, looked at now and once more by the deciding commit.
    async fn condition(&self, key: &str, only: Only) -> Result<Vec<Expectation>> {
        if only == Only::Always {
            return Ok(Vec::new());
        }
        let id = Records::<Artifact>::id(key)?;
        let own = self.own(key);
        match (only, own) {
            (Only::New, Some(None)) => Ok(Vec::new()),
            (Only::New, Some(Some(_))) => Err(exists(key)),
            (Only::New, None) if self.committed(key).await?.is_some() => Err(exists(key)),
            (Only::New, None) => Ok(vec![Expectation::Absent(id)]),
            (Only::Revision(_), Some(_)) => {
                Err(Error::invalid(format!("this unit has changed {key:?} already; it has no revision yet"))
                    .with_next("leave the condition out: nobody else can change it meanwhile"))
            }
            (Only::Revision(revision), None) => {
                let found = self.committed(key).await?.map(|found| found.revision);
                if found == Some(revision) {
                    return Ok(vec![Expectation::Revision(id, revision)]);
                }
                let found = found.map_or_else(|| "is not there".to_owned(), |r| format!("is at revision {r}"));
                Err(Error::conflict(format!("artifact {key:?} was expected at revision {revision} and {found}")).with("key", key))
            }
            (Only::Always, _) => Ok(Vec::new()),
        }
    }

    /// Decides for the unit, together with what its caller adds. Operations that are not finished when this begins are no
    /// part of it, and hear so.
    pub(crate) async fn decide(&self, parts: Commit) -> Result<Outcome> {
        self.working.close();
        let own = if self.working.is_repeated() { Commit::new().trusted() } else { self.parts()? };
        self.working.decide(parts.and(own)).await
    }

    /// Gives the unit up, whoever still holds it: what is under way is no part of it, and what was done is undone in the
    /// background, or by whoever looks when its time has run out.
    pub(crate) fn abandon(self: Arc<Self>) {
        self.working.close();
        if !self.working.is_undecided() {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { self.working.undo("it was given up").await })),
            Err(_) => self.working.stop_renewing(),
        }
    }

    /// Runs what an operation does after its claim. One that fails brings nothing, and the unit says so once it is committed.
    async fn tried<T>(&self, operation: &UnitOperation, doing: impl Future<Output = Result<T>>) -> Result<T> {
        doing.await.inspect_err(|error| self.working.failed(operation.number, error))
    }

    /// Checks what is to be written, and opens the place for its bytes: without one nothing of it could be undone either.
    async fn prepared(&self, key: &str, new: &mut NewArtifact) -> Result<Arc<dyn Objects>> {
        key::checked(key)?;
        key::fill(key, &mut new.provenance);
        new.check()?;
        self.working.undoing().objects.get(self.store()).await
    }

    /// Writes bytes that are at hand, as the only operation of this unit: see `units/short.rs`.
    pub(crate) async fn put_short(&self, key: &str, bytes: Bytes, mut new: NewArtifact) -> Result<Artifact> {
        let objects = self.prepared(key, &mut new).await?;
        let operation = self.working.short(key)?;
        let at = Working::location(&operation)?;
        let only = new.only;
        let allowed = async {
            self.working.free(key).await?;
            self.condition(key, only).await
        };
        let staging = staged(objects.as_ref(), &at, Body::Bytes(bytes), self.draft(&operation, new));
        // One waits for the other in any case: what was written is removed when the answer is no.
        let (expect, written) = tokio::join!(allowed, staging);
        let (expect, (artifact, sums)) = (expect?, written?);
        let blocks = sums::of_blocks(&artifact.location, &sums);
        self.change(&operation, Some((artifact.clone(), blocks)), None, expect)?;
        Ok(artifact)
    }

    /// Writes the bytes to a place of their own, and notes what the record will say.
    pub(crate) async fn put(&self, key: &str, body: Body, mut new: NewArtifact) -> Result<Artifact> {
        let objects = self.prepared(key, &mut new).await?;
        self.working.repeats().await?;
        let operation = self.working.claim(Wanted::of(OperationKind::Put, key)).await?;
        let staging = async {
            let only = new.only;
            let draft = self.draft(&operation, new);
            if self.working.is_repeated() {
                // The bytes of the first one are there, and nothing is written over them.
                let (given, sums) = summed(body, draft).await?;
                let first = self.done_before(&operation).await?.and_then(|version| version.artifact);
                return Ok(((first.unwrap_or(given), sums), Vec::new()));
            }
            // Under the claim: nobody else changes it from here on.
            let expect = self.condition(key, only).await?;
            Ok((staged(objects.as_ref(), &Working::location(&operation)?, body, draft).await?, expect))
        };
        let ((artifact, sums), expect) = self.tried(&operation, staging).await?;
        let blocks = sums::of_blocks(&artifact.location, &sums);
        self.change(&operation, Some((artifact.clone(), blocks)), None, expect)?;
        Ok(artifact)
    }

    /// The record, as far as it is known before the bytes are.
    fn draft(&self, operation: &UnitOperation, new: NewArtifact) -> Artifact {
        Artifact {
            key: operation.path.clone(),
            version: version_of(operation),
            location: operation.location.clone().unwrap_or_default(),
            length: 0,
            sha256: String::new(),
            created: self.store().now(),
            content_type: new.content_type.unwrap_or_default(),
            provenance: new.provenance,
            extension: key::extension(&operation.path),
            config_hash: new.config_hash,
            lineage: new.lineage,
            correlation: new.correlation,
            document: new.document,
            original_key: new.original_key,
            custom: new.custom,
            extra: crate::extra::Extra::new(),
        }
    }

    /// Deletes an artifact, as this unit sees it. False when there is none.
    pub(crate) async fn delete(&self, key: &str) -> Result<bool> {
        key::checked(key)?;
        if self.own(key).is_some_and(|own| own.is_none()) {
            return Ok(false);
        }
        self.working.repeats().await?;
        let operation = self.working.claim(Wanted::of(OperationKind::Delete, key)).await?;
        let own = self.own(key);
        let (before, deleted) = self.tried(&operation, self.before_deletion(&operation)).await?;
        let was_there = own.map_or(before.is_some() || deleted, |own| own.is_some());
        let mut expect = Vec::new();
        if let Some(execution) = before.as_ref().and_then(|b| b.provenance.execution.as_deref()) {
            expect.push(crate::pins::unpinned(execution)?);
        }
        self.change(&operation, None, before, expect)?;
        Ok(was_there)
    }

    /// What is committed under a key that is to be deleted, and whether this very operation deleted it before.
    async fn before_deletion(&self, operation: &UnitOperation) -> Result<(Option<Artifact>, bool)> {
        let before = self.committed(&operation.path).await?.map(|found| found.value);
        Ok((before, self.done_before(operation).await?.is_some()))
    }

    /// What an operation made that is repeated, where it is known.
    async fn done_before(&self, operation: &UnitOperation) -> Result<Option<ArtifactVersion>> {
        if !self.working.is_repeated() {
            return Ok(None);
        }
        let version = ArtifactVersion::key_of(&operation.path, &version_of(operation));
        Ok(Records::<ArtifactVersion>::new(self.store().clone()).get(&version).await?.map(|found| found.value))
    }

    /// Names the bytes of an artifact under a further key. No byte is moved.
    pub(crate) async fn copy(&self, from: &str, to: &str) -> Result<Artifact> {
        key::checked(to)?;
        let repeats = self.working.repeats().await?;
        let (source, blocks, expect) = match self.own(from) {
            Some(Some((own, blocks))) => (own, blocks, Vec::new()),
            Some(None) => return Err(missing(from)),
            None => {
                let Some(found) = self.committed(from).await? else {
                    return if repeats { self.copied_before(from, to).await } else { Err(missing(from)) };
                };
                let found = found.value;
                // As long as a version names the bytes they are not collected.
                let version = ArtifactVersion::key_of(&found.key, &found.version);
                let expect = vec![Expectation::Exists(Records::<ArtifactVersion>::id(&version)?)];
                (found, None, expect)
            }
        };
        let operation = self.working.claim(Wanted::of(OperationKind::Copy, to)).await?;
        let mut copy = Artifact {
            key: to.to_owned(),
            version: version_of(&operation),
            created: self.store().now(),
            extension: key::extension(to),
            original_key: Some(source.original_key.clone().unwrap_or_else(|| source.key.clone())),
            ..source
        };
        let mut provenance = super::Provenance::default();
        key::fill(to, &mut provenance);
        copy.provenance.execution = provenance.execution.or(copy.provenance.execution);
        copy.provenance.route = provenance.route.or(copy.provenance.route);
        copy.provenance.stage = provenance.stage.or(copy.provenance.stage);
        copy.provenance.message = provenance.message.or(copy.provenance.message);
        self.change(&operation, Some((copy.clone(), blocks)), None, expect)?;
        Ok(copy)
    }

    /// A copy that is repeated, whose source went with the unit that made it.
    async fn copied_before(&self, from: &str, to: &str) -> Result<Artifact> {
        let operation = self.working.claim(Wanted::of(OperationKind::Copy, to)).await?;
        let copy = self.done_before(&operation).await?.and_then(|version| version.artifact).ok_or_else(|| missing(from))?;
        self.change(&operation, Some((copy.clone(), None)), None, Vec::new())?;
        Ok(copy)
    }

    /// Notes what becomes of a key. Conditions of earlier operations on it stay: they are about what is committed.
    ///
    /// # Errors
    /// `Fenced` when the decision began without it. Whoever decides closes the unit first and takes the changes then, so
    /// whatever is noted here is part of it.
    fn change(
        &self,
        operation: &UnitOperation,
        after: Option<(Artifact, Option<BlockSums>)>,
        before: Option<Artifact>,
        expect: Vec<Expectation>,
    ) -> Result<()> {
        let number = operation.number;
        let (after, blocks) = after.map_or((None, None), |(after, blocks)| (Some(after), blocks));
        let mut changes = self.changes();
        self.working.finish(number)?;
        match changes.get_mut(&operation.path) {
            Some(change) => {
                change.expect.extend(expect);
                change.before = before.or(change.before.take());
                // Of two at once, the one that was registered later counts.
                if number > change.number {
                    (change.number, change.after, change.blocks) = (number, after, blocks);
                }
            }
            None => {
                changes.insert(operation.path.clone(), Change { number, after, blocks, before, expect });
            }
        }
        Ok(())
    }

    /// What the deciding commit writes for the artifacts: records, versions, sums, events.
    pub(crate) fn parts(&self) -> Result<Commit> {
        let changes = self.changes();
        let mut commit = Commit::new().trusted();
        let mut events: BTreeMap<String, Vec<NewEvent>> = BTreeMap::new();
        let now = self.store().now();
        for execution in executions_of(&changes) {
            commit = commit.expect(crate::prune::open(execution)?);
        }
        if changes.values().any(|change| change.after.is_some()) {
            commit.expect.extend(self.working.undoing().objects.unmoved()?);
        }
        for (key, change) in changes.iter() {
            commit.expect.extend(change.expect.iter().cloned());
            match (&change.after, &change.before) {
                (Some(after), _) => {
                    commit = commit.write(Records::put(after)?).write(Records::put(&ArtifactVersion::written(after))?);
                    if let Some(blocks) = &change.blocks {
                        commit = commit.write(Records::put(blocks)?);
                    }
                    events.entry(stream_of(after)).or_default().push(event(ARTIFACT_WRITTEN, after, self.working.id())?);
                }
                (None, Some(before)) => {
                    let version = format!("{}.{}", self.working.id(), change.number);
                    commit = commit
                        .write(Write::Delete(Records::<Artifact>::id(key)?))
                        .write(Records::put(&ArtifactVersion::deleted(before, version, now))?);
                    events.entry(stream_of(before)).or_default().push(event(ARTIFACT_DELETED, before, self.working.id())?);
                }
                // It came and went within the unit.
                (None, None) => {}
            }
        }
        for (stream, events) in events {
            commit = commit.append_all(&stream, events)?;
        }
        Ok(commit)
    }
}

/// The executions that something is written into, or deleted from.
fn executions_of(changes: &BTreeMap<String, Change>) -> BTreeSet<&str> {
    let touched = changes.values().filter_map(|change| change.after.as_ref().or(change.before.as_ref()));
    touched.filter_map(|artifact| artifact.provenance.execution.as_deref()).collect()
}

/// The stream of an artifact's events: its execution's, or that of artifacts without one.
pub(crate) fn stream_of_execution(execution: Option<&str>) -> String {
    execution.map_or_else(|| format!("{STREAMS}other"), |execution| format!("{STREAMS}executions/{}", key_segment(execution)))
}

fn stream_of(artifact: &Artifact) -> String {
    stream_of_execution(artifact.provenance.execution.as_deref())
}

pub(crate) fn event(kind: &str, artifact: &Artifact, unit: &str) -> Result<NewEvent> {
    let data = json!({
        "key": artifact.key, "version": artifact.version, "length": artifact.length, "sha256": artifact.sha256,
        "content_type": artifact.content_type, "unit": unit,
    });
    let mut event = NewEvent::of(kind, &data)?;
    event.correlation.clone_from(&artifact.correlation);
    let provenance = &artifact.provenance;
    let labels = [
        ("execution", &provenance.execution),
        ("route", &provenance.route),
        ("stage", &provenance.stage),
        ("extension", &artifact.extension),
    ];
    event.labels = labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect();
    Ok(event)
}

fn version_of(operation: &UnitOperation) -> String {
    format!("{}.{}", operation.unit, operation.number)
}

fn exists(key: &str) -> Error {
    Error::conflict(format!("there is an artifact {key:?} already"))
        .with("key", key)
        .with_next("read it, or write it without the condition")
}

fn missing(key: &str) -> Error {
    Error::not_found(format!("there is no artifact {key:?}")).with("key", key)
}
