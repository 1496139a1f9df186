//! What a prune deletes, a bounded part of it at a time. Each answers the job as it stands then, or `None` when nothing
//! of its kind is left.

use std::collections::BTreeMap;

use millpond_core::{Commit, Document, Error, Expectation, Page, Query, Record, Result, Write};

use super::model::{Prune, PrunedObject};
use super::names::namers;
use super::{Prunes, VERSIONS, streams};
use crate::artifacts::{ARTIFACT_DELETED, event, stream_of_execution};
use crate::homes::Domain;
use crate::locks::Lease;
use crate::text::key_segment;
use crate::{Artifact, ArtifactVersion, BlockSums, Provenance, Runs};

impl Prunes {
    /// Records of the execution, to be deleted whatever a newer version may have put into them.
    pub(super) async fn some_of(&self, collection: &str, execution: &str, limit: usize) -> Result<Page> {
        let page = self.store().query(Query::new(collection)?.eq("execution", execution).limit(limit)).await?;
        match page.damaged.first() {
            Some(damaged) if page.items.is_empty() => {
                Err(Error::corrupt("a record that is to be pruned does not read back").with("record", &damaged.what))
            }
            _ => Ok(page),
        }
    }

    pub(super) async fn some_artifacts(&self, job: &Prune, lease: &Lease) -> Result<Option<Prune>> {
        let page = self.some_of(Artifact::COLLECTION.name(), &job.execution, VERSIONS).await?;
        if page.items.is_empty() {
            return Ok(None);
        }
        let mut commit = Commit::new();
        let mut events = Vec::with_capacity(page.items.len());
        let by = format!("prunes/{}", key_segment(&job.execution));
        for record in &page.items {
            let id = millpond_core::RecordId::new(Artifact::COLLECTION.name(), record.key.as_str())?;
            // One that was written over belongs to whoever did that.
            commit = commit.expect(Expectation::Revision(id.clone(), record.revision)).write(Write::Delete(id));
            events.push(event(ARTIFACT_DELETED, &known_of(record, &job.execution), &by)?);
        }
        let mut next = job.clone();
        next.deleted.artifacts += page.items.len() as u64;
        next.deleted.events += events.len() as u64;
        commit = commit.append_all(&stream_of_execution(Some(&job.execution)), events)?;
        self.write(&next, lease, commit).await?;
        Ok(Some(next))
    }

    /// A page of versions, or the objects that the page before named.
    pub(super) async fn some_versions(&self, job: &Prune, lease: &Lease) -> Result<Option<Prune>> {
        if !job.pending.is_empty() {
            return self.their_bytes(job, lease).await.map(Some);
        }
        let page = self.some_of(ArtifactVersion::COLLECTION.name(), &job.execution, VERSIONS).await?;
        if page.items.is_empty() {
            return Ok(None);
        }
        let mut commit = Commit::new();
        let mut objects = BTreeMap::new();
        for record in &page.items {
            let id = millpond_core::RecordId::new(ArtifactVersion::COLLECTION.name(), record.key.as_str())?;
            // Whoever purges versions at the same time counts its own.
            commit = commit.expect(Expectation::Exists(id.clone())).write(Write::Delete(id));
            let value = record.value.value()?;
            if let Some(location) = value.get("location").and_then(serde_json::Value::as_str) {
                let length = value.get("length").and_then(serde_json::Value::as_u64).unwrap_or_default();
                objects.insert(location.to_owned(), length);
            }
        }
        let mut next = job.clone();
        next.deleted.versions += page.items.len() as u64;
        next.pending = objects.into_iter().map(|(location, length)| PrunedObject { location, length }).collect();
        self.write(&next, lease, commit).await?;
        Ok(Some(next))
    }

    /// Removes the bytes that no record names any more. What nobody names now is named by nobody later: a commit that
    /// names an object expects a version that names it already, and only the unit that wrote it, which is over, needed
    /// none.
    async fn their_bytes(&self, job: &Prune, lease: &Lease) -> Result<Prune> {
        let locations: Vec<&str> = job.pending.iter().map(|object| object.location.as_str()).collect();
        let named = namers(self.store(), &job.execution, &locations).await?;
        let place = self.pond.artifacts().objects().await?;
        let mut next = Prune { pending: Vec::new(), ..job.clone() };
        let mut commit = Commit::new();
        for object in &job.pending {
            match named.get(&object.location) {
                // A later page names it, too, and is the one that counts it.
                Some(by) if by.own.is_some() => {}
                Some(_) => {
                    next.deleted.kept_objects += 1;
                    next.deleted.kept_bytes += object.length;
                }
                None => {
                    place.remove(&object.location.parse()?).await?;
                    commit = commit.delete(BlockSums::COLLECTION.name(), &object.location)?;
                    next.deleted.objects += 1;
                    next.deleted.bytes += object.length;
                }
            }
        }
        self.write(&next, lease, commit).await?;
        Ok(next)
    }

    /// Deletes the run and its log, which may be in another store. How many events that were is known since it was
    /// marked: the log is sealed.
    pub(super) async fn the_run(&self, job: &Prune) -> Result<Option<Prune>> {
        if job.log_events.is_none() {
            return Ok(None);
        }
        let (store, stream) = (self.pond.store_of(Domain::Runs), Runs::stream(&job.execution));
        while let Some((_, before)) = streams::next(store, &stream).await? {
            store.commit(Commit::new().trusted().trim(&stream, before)?).await?;
        }
        self.pond.runs().delete(&job.execution).await?;
        Ok(None)
    }
}

/// What the event of an artifact's deletion says. A record that does not read back as an artifact goes all the same: of
/// it the event says what its fields tell.
fn known_of(record: &Record, execution: &str) -> Artifact {
    if let Ok(artifact) = record.value.decode::<Artifact>() {
        return artifact;
    }
    let value = record.value.value().unwrap_or_default();
    let text = |field: &str| value.get(field).and_then(serde_json::Value::as_str).map(str::to_owned);
    Artifact {
        key: record.key.as_str().to_owned(),
        version: text("version").unwrap_or_default(),
        location: text("location").unwrap_or_default(),
        length: value.get("length").and_then(serde_json::Value::as_u64).unwrap_or_default(),
        sha256: text("sha256").unwrap_or_default(),
        created: record.time,
        content_type: text("content_type").unwrap_or_default(),
        provenance: Provenance {
            execution: Some(execution.to_owned()),
            route: text("route"),
            stage: text("stage"),
            ..Provenance::default()
        },
        extension: text("extension"),
        config_hash: None,
        lineage: None,
        correlation: text("correlation"),
        document: None,
        original_key: None,
        custom: BTreeMap::new(),
        extra: crate::extra::Extra::new(),
    }
}
