//! Starting a run: once for each idempotency key.

use std::collections::BTreeMap;

use millpond_core::{
    Commit, Document, Error, Expectation, Expected, NewEvent, Receipt, Records, Result, Timestamp, Versioned, uuid_v7,
};
use serde_json::Value;

use super::model::{self, ConfigChoice, NewRun, Run, RunConfig, RunCounters, RunKey, RunStatus};
use super::{Runs, TRIES, explain, kinds};
use crate::text::sha256_hex;

impl Runs {
    /// Starts a run, or returns the one that the same idempotency key started before.
    ///
    /// One commit point: the record, the record of the key, the configuration if it is new, and `run.started`.
    ///
    /// # Errors
    /// `Invalid` when the key was used for another request; `Conflict` when the id is taken; `NotFound` when the
    /// parent or the named configuration does not exist. `Conflict`, too, when an execution of this id was written off.
    pub async fn start(&self, new: NewRun) -> Result<Versioned<Run>> {
        self.start_or_find(new).await.map_err(|e| e.during("runs.start"))
    }

    async fn start_or_find(&self, new: NewRun) -> Result<Versioned<Run>> {
        for _ in 0..TRIES {
            let (run, part) = self.start_part(&new).await?;
            let error = match self.store.commit(part).await {
                Ok(receipt) => return Ok(started(run, &receipt)),
                Err(error) => error,
            };
            match refusal(&error) {
                Some(Refusal::KeyTaken) => {
                    if let Some(run) = self.started_before(&new).await? {
                        return Ok(run);
                    }
                }
                Some(Refusal::ConfigChanged) => {}
                Some(Refusal::IdTaken) => {
                    let message = format!("run id {:?} is or was in use, and an id is never used twice", run.id);
                    return Err(Error::conflict(message).with_next("leave the id out, or make another"));
                }
                None => return Err(crate::prune::explain(explain(error))),
            }
        }
        Err(Error::conflict(format!("the same run was started and deleted by others {TRIES} times")))
    }

    /// The run and the part of a commit that [`Runs::start`] makes. It reads the configuration, if there is one.
    ///
    /// # Errors
    /// `Invalid` when a part of the request cannot be kept; `NotFound` when the named configuration does not exist.
    pub async fn start_part(&self, new: &NewRun) -> Result<(Run, Commit)> {
        let now = self.store.now();
        let run = self.new_run(new, now)?;
        let stream = run.stream();
        let mut part = Commit::new().trusted().expect(Expectation::Absent(Records::<Run>::id(&run.id)?));
        if let Some(key) = &new.idempotency_key {
            let record = RunKey { key: key.clone(), run: run.id.clone(), request: new.request_digest()?, extra: BTreeMap::new() };
            let id = Records::<RunKey>::id(record.key()?.as_str())?;
            // First, so that a repeated request is told apart from an id that somebody else took.
            part.expect.insert(0, Expectation::Absent(id));
            part = part.write(Records::put(&record)?);
        }
        if let Some(parent) = &new.parent {
            part = part.expect(Expectation::Exists(Records::<Run>::id(parent)?));
        }
        part.expect.extend(self.not_written_off(&run.id).await?);
        part = self.config_part(part, new, now).await?;
        // The record comes last of the writes: started() relies on it.
        part = part.write(Records::put(&run)?);
        let body = serde_json::json!({
            "workflow": run.workflow, "version": run.version, "parent": run.parent, "config": run.config,
        });
        let part = part.append(&stream, NewEvent::of(kinds::RUN_STARTED, &body)?)?;
        Ok((run, part))
    }

    fn new_run(&self, new: &NewRun, now: Timestamp) -> Result<Run> {
        if new.workflow.is_empty() {
            return Err(Error::invalid("a run needs the name of its workflow"));
        }
        let id = match &new.id {
            Some(id) => id.clone(),
            None => uuid_v7(self.store.host()).to_string(),
        };
        Ok(Run {
            id,
            workflow: new.workflow.clone(),
            version: new.version,
            status: RunStatus::Running,
            started_at: now,
            finished_at: None,
            parent: new.parent.clone(),
            idempotency_key: new.idempotency_key.clone(),
            config: new.config_key()?,
            tags: new.tags.clone(),
            labels: new.labels.clone(),
            input: new.input.clone(),
            output: Value::Null,
            error: None,
            metadata: new.metadata.clone(),
            counters: RunCounters::default(),
            extra: BTreeMap::new(),
        })
    }

    async fn config_part(&self, part: Commit, new: &NewRun, now: Timestamp) -> Result<Commit> {
        let (Some(choice), Some(hash)) = (&new.config, new.config_key()?) else { return Ok(part) };
        let id = Records::<RunConfig>::id(&hash)?;
        if self.config(&hash).await?.is_some() {
            return Ok(part.expect(Expectation::Exists(id)));
        }
        match choice {
            ConfigChoice::Snapshot(config) => {
                let record = RunConfig { hash, config: config.clone(), created_at: now, extra: BTreeMap::new() };
                Ok(part.expect(Expectation::Absent(id)).write(Records::put(&record)?))
            }
            ConfigChoice::Known(hash) => Err(Error::not_found(format!("configuration {hash} does not exist"))
                .with_next("give the configuration itself; it is kept once")),
        }
    }

    /// The run an idempotency key started; `None` when it was deleted meanwhile.
    async fn started_before(&self, new: &NewRun) -> Result<Option<Versioned<Run>>> {
        let Some(key) = &new.idempotency_key else { return Ok(None) };
        let keys = Records::<RunKey>::new(self.store.clone());
        let Some(found) = keys.get(&sha256_hex(key.as_bytes())).await? else { return Ok(None) };
        if found.request != new.request_digest()? {
            return Err(Error::invalid(format!("idempotency key {key:?} started run {} with another request", found.run))
                .with_next("use a new key for a new request"));
        }
        self.get(&found.run).await
    }
}

/// The run as the commit left it: its record is the last change before the one event.
fn started(run: Run, receipt: &Receipt) -> Versioned<Run> {
    let position = millpond_core::Position(receipt.position.0.saturating_sub(1));
    let revision = receipt.revisions.last().copied().unwrap_or(1);
    Versioned { value: run, revision, position, time: receipt.time, by: None }
}

enum Refusal {
    KeyTaken,
    IdTaken,
    ConfigChanged,
}

fn refusal(error: &Error) -> Option<Refusal> {
    match &error.as_conflict()?.expected {
        Expected::Stated(Expectation::Absent(id) | Expectation::Exists(id)) | Expected::CreateOnly(id) => {
            let collection = id.collection.as_str();
            let absent = !matches!(&error.as_conflict()?.expected, Expected::Stated(Expectation::Exists(_)));
            match collection {
                _ if collection == RunKey::COLLECTION.name() => Some(Refusal::KeyTaken),
                _ if collection == RunConfig::COLLECTION.name() => Some(Refusal::ConfigChanged),
                _ if collection == Run::COLLECTION.name() && absent => Some(Refusal::IdTaken),
                _ => None,
            }
        }
        Expected::Open(stream) if stream.as_str().starts_with(model::STREAM_PREFIX) => Some(Refusal::IdTaken),
        _ => None,
    }
}
