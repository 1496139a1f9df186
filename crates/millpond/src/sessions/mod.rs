//! Sessions: what an engine remembers about one piece of work that may be interrupted and taken up again.
//!
//! States and their steps are in [`SessionStatus`]; counters, metadata and timings are merges, which never conflict.

mod filter;
mod mapping;
mod model;
mod state;

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{
    Commit, Document, Error, Expectation, Json, MergeOp, Page, PageCursor, Query, Read, Receipt, Records, Result, Scalar, Store,
    Versioned, Write, limits, pointer_segment, uuid_v7,
};
use serde_json::Value;

use crate::extra;

pub use filter::SessionFilter;
pub use mapping::{JobSessionMapping, SessionJobMapping};
pub use model::{
    MapReduceData, MapReducePhase, NewSession, Session, SessionCheckpoint, SessionCounts, SessionStats, SessionTotals,
    SessionType, WorkflowData,
};
pub use state::SessionStatus;

/// How often an operation that reads before it writes begins again when somebody else was faster.
const TRIES: u32 = 16;

/// Every status a session can be taken up from.
const RESUMABLE: [SessionStatus; 2] = [SessionStatus::Paused, SessionStatus::Failed];

/// The sessions of a namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions {
    store: Store,
}

impl Sessions {
    /// The sessions of a store.
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    fn records(&self) -> Records<Session> {
        Records::new(self.store.clone())
    }

    /// Creates a session in the state `Initializing`. One commit point: the record.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub async fn create(&self, new: NewSession) -> Result<Versioned<Session>> {
        let (session, commit) = self.create_part(new).map_err(|e| e.during("sessions.create"))?;
        let receipt = self.store.commit(commit).await.map_err(|e| e.during("sessions.create"))?;
        Ok(written(session, &receipt))
    }

    /// The session that [`Sessions::create`] makes and the commit that makes it.
    ///
    /// # Errors
    /// `Invalid` when the id cannot be a key, or the document breaks a rule.
    pub fn create_part(&self, new: NewSession) -> Result<(Session, Commit)> {
        let now = self.store.now();
        let session = Session {
            id: new.id.unwrap_or_else(|| format!("session-{}", uuid_v7(self.store.host()))),
            session_type: new.session_type,
            status: SessionStatus::Initializing,
            started_at: now,
            updated_at: now,
            completed_at: None,
            metadata: new.metadata,
            checkpoints: Vec::new(),
            timings: BTreeMap::new(),
            error: None,
            workflow_data: new.workflow_data,
            mapreduce_data: new.mapreduce_data,
            extra: BTreeMap::new(),
        };
        extra::check(&format!("session {:?}", session.id), &session)?;
        let absent = Expectation::Absent(Records::<Session>::id(&session.id)?);
        let commit = Commit::new().trusted().expect(absent).write(Records::put(&session)?);
        Ok((session, commit))
    }

    /// Creates or replaces a session, whoever changed it meanwhile. A session that exists may only take a legal step
    /// of its status; one that is new may have any. `updated_at` is set. One commit point: the record.
    ///
    /// # Errors
    /// `Conflict` when the step is not allowed.
    pub async fn save(&self, session: &Session) -> Result<Versioned<Session>> {
        let mut last = None;
        for _ in 0..TRIES {
            match self.put(session, None).await {
                Err(e) if e.as_conflict().is_some() => last = Some(e),
                other => return other.map_err(|e| e.during("sessions.save")),
            }
        }
        Err(last.unwrap_or_else(|| Error::conflict("the session keeps changing")).during("sessions.save"))
    }

    /// Replaces a session if it is still at the revision it was read at. The status may only take a legal step.
    /// One commit point: the record.
    ///
    /// # Errors
    /// `Conflict` when somebody else changed it, or the step is not allowed; `NotFound` when it is gone.
    pub async fn update(&self, session: &Versioned<Session>) -> Result<Versioned<Session>> {
        self.put(&session.value, Some(session.revision)).await.map_err(|e| e.during("sessions.update"))
    }

    async fn put(&self, session: &Session, revision: Option<u64>) -> Result<Versioned<Session>> {
        let id = Records::<Session>::id(&session.id)?;
        let stored = self.records().get(&session.id).await?;
        let mut session = session.clone();
        match &stored {
            Some(stored) if stored.status != session.status => session.touch(&self.store),
            _ => session.updated_at = self.store.now(),
        }
        let expect = match (&stored, revision) {
            // What was changed since it was read is the store's to refuse: it tells the revision it holds.
            (Some(stored), Some(seen)) if stored.revision != seen => Expectation::Revision(id, seen),
            (Some(stored), _) => {
                stored.status.check_step(&session.id, session.status)?;
                Expectation::Revision(id, stored.revision)
            }
            (None, Some(_)) => return Err(missing(&session.id)),
            (None, None) => Expectation::Absent(id),
        };
        extra::check(&format!("session {:?}", session.id), &session)?;
        let receipt = self.store.commit(Commit::new().trusted().expect(expect).write(Records::put(&session)?)).await?;
        Ok(written(session, &receipt))
    }

    /// One session.
    ///
    /// # Errors
    /// `Corrupt` when it does not read back.
    pub async fn load(&self, id: &str) -> Result<Option<Versioned<Session>>> {
        self.records().get(id).await.map_err(|e| e.during("sessions.load"))
    }

    /// A page of sessions, newest started first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn list(&self, filter: &SessionFilter) -> Result<Page<Versioned<Session>>> {
        let query = filter.query().map_err(|e| e.during("sessions.list"))?;
        self.records().page(query).await.map_err(|e| e.during("sessions.list"))
    }

    /// How many sessions a filter takes; its limit and cursor play no part.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn count(&self, filter: &SessionFilter) -> Result<u64> {
        let query = filter.query().map_err(|e| e.during("sessions.count"))?;
        self.store.count(query).await.map_err(|e| e.during("sessions.count"))
    }

    /// Deletes a session; true if it was there. Its job mapping stays. One commit point: the record.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn delete(&self, id: &str) -> Result<bool> {
        self.records().delete(id).await.map_err(|e| e.during("sessions.delete"))
    }

    /// Deletes a session together with its job mapping; true if the session was there. One commit point: all of it.
    ///
    /// # Errors
    /// `Conflict` when the mapping changed again and again meanwhile.
    pub async fn delete_with_mapping(&self, id: &str) -> Result<bool> {
        let mut last = None;
        for _ in 0..TRIES {
            let part = self.delete_with_mapping_part(id).await.map_err(|e| e.during("sessions.delete_with_mapping"))?;
            match self.store.commit(part).await {
                Ok(receipt) => return Ok(receipt.revisions.first().is_some_and(|r| *r > 0)),
                Err(e) if e.is_conflict() => last = Some(e),
                Err(e) => return Err(e.during("sessions.delete_with_mapping")),
            }
        }
        Err(last.unwrap_or_else(|| Error::conflict("the mapping keeps changing")).during("sessions.delete_with_mapping"))
    }

    /// The commit that [`Sessions::delete_with_mapping`] makes, with the mapping as it is now.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn delete_with_mapping_part(&self, id: &str) -> Result<Commit> {
        let commit = Commit::new().trusted().write(Write::Delete(Records::<Session>::id(id)?));
        Ok(match self.unmap_job_part(id).await? {
            Some(unmap) => commit.and(unmap),
            None => commit.expect(Expectation::Absent(Records::<SessionJobMapping>::id(id)?)),
        })
    }

    /// Takes a session to another state. Into `Completed`, `Failed` or `Cancelled` sets `completed_at`, back to
    /// `Running` clears it. One commit point: the record.
    ///
    /// # Errors
    /// `NotFound`; `Conflict`, naming both states and what is allowed, when the step is not.
    pub async fn update_state(&self, id: &str, to: SessionStatus) -> Result<Versioned<Session>> {
        self.change(id, |s| s.step(to)).await.map_err(|e| e.during("sessions.update_state"))
    }

    /// The commit that takes a session to another state from the one it is in now.
    ///
    /// # Errors
    /// As [`Sessions::update_state`].
    pub async fn update_state_part(&self, id: &str, to: SessionStatus) -> Result<Commit> {
        let mut session = self.records().get(id).await?.ok_or_else(|| missing(id))?;
        session.value.step(to)?;
        session.value.touch(&self.store);
        let expect = Expectation::Revision(Records::<Session>::id(id)?, session.revision);
        Ok(Commit::new().trusted().expect(expect).write(Records::put(&session.value)?))
    }

    /// Records an error and takes the session to `Failed`. One commit point: the record.
    ///
    /// # Errors
    /// As [`Sessions::update_state`].
    pub async fn fail(&self, id: &str, error: &str) -> Result<Versioned<Session>> {
        let failed = self.change(id, |s| {
            s.error = Some(error.to_owned());
            s.step(SessionStatus::Failed)
        });
        failed.await.map_err(|e| e.during("sessions.fail"))
    }

    /// Says how far the work is: the current and all steps of a workflow, or processed and all items of a job.
    /// One commit point: the record.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when the session has neither workflow nor job.
    pub async fn set_progress(&self, id: &str, current: u64, total: u64) -> Result<Versioned<Session>> {
        let changed = self.change(id, |s| match (&mut s.workflow_data, &mut s.mapreduce_data) {
            (Some(w), _) => {
                (w.current_step, w.total_steps) = (current, total);
                Ok(())
            }
            (None, Some(j)) => {
                (j.processed_items, j.total_items) = (current, total);
                Ok(())
            }
            (None, None) => Err(Error::invalid(format!("session {id} has neither workflow_data nor mapreduce_data"))
                .with_next("save it with one of the two first")),
        });
        changed.await.map_err(|e| e.during("sessions.set_progress"))
    }

    async fn change(&self, id: &str, mut change: impl FnMut(&mut Session) -> Result<()> + Send) -> Result<Versioned<Session>> {
        let store = &self.store;
        self.records()
            .modify(id, |session| {
                change(session)?;
                session.touch(store);
                Ok(())
            })
            .await
    }

    /// Merges metadata: each name given replaces the value under that name, all others stay. Callers that change
    /// different names never conflict. One commit point: the record.
    ///
    /// # Errors
    /// `NotFound` when there is no such session.
    pub async fn merge_metadata(&self, id: &str, metadata: &BTreeMap<String, Value>) -> Result<Receipt> {
        let part = self.merge_metadata_part(id, metadata);
        self.merge(id, part).await.map_err(|e| e.during("sessions.merge_metadata"))
    }

    /// The commit that [`Sessions::merge_metadata`] makes.
    ///
    /// # Errors
    /// `Invalid` when a value cannot be kept.
    pub fn merge_metadata_part(&self, id: &str, metadata: &BTreeMap<String, Value>) -> Result<Commit> {
        let set = |(name, value): (&String, &Value)| {
            Ok(MergeOp::Set(format!("/metadata/{}", pointer_segment(name)), Json::from_value(value)?))
        };
        self.merge_part(id, metadata.iter().map(set).collect::<Result<_>>()?)
    }

    /// Keeps how long an operation took, in place of what was kept under its name. One commit point: the record.
    ///
    /// # Errors
    /// `NotFound` when there is no such session.
    pub async fn set_timing(&self, id: &str, operation: &str, took: Duration) -> Result<Receipt> {
        self.merge(id, self.set_timing_part(id, operation, took)).await.map_err(|e| e.during("sessions.set_timing"))
    }

    /// The commit that [`Sessions::set_timing`] makes.
    ///
    /// # Errors
    /// `Invalid` when the id cannot be a key.
    pub fn set_timing_part(&self, id: &str, operation: &str, took: Duration) -> Result<Commit> {
        let path = format!("/timings/{}", pointer_segment(operation));
        self.merge_part(id, vec![MergeOp::Set(path, Json::of(&took)?)])
    }

    /// Adds to the counters of a workflow session. A merge: a thousand callers never conflict. One commit point: the
    /// record.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when the session has no workflow.
    pub async fn add_counts(&self, id: &str, counts: SessionCounts) -> Result<Receipt> {
        let session = self.load(id).await?.ok_or_else(|| missing(id).during("sessions.add_counts"))?;
        if session.workflow_data.is_none() {
            let message = format!("session {id} has no workflow_data, which holds the counters");
            return Err(Error::invalid(message).with_next("save it with workflow_data first").during("sessions.add_counts"));
        }
        self.merge(id, self.add_counts_part(id, counts)).await.map_err(|e| e.during("sessions.add_counts"))
    }

    /// The commit that [`Sessions::add_counts`] makes; for sessions that have a workflow.
    ///
    /// # Errors
    /// `Invalid` when the id cannot be a key.
    pub fn add_counts_part(&self, id: &str, counts: SessionCounts) -> Result<Commit> {
        self.merge_part(
            id,
            vec![
                MergeOp::Add("/workflow_data/files_changed".into(), counts.files_changed.into()),
                MergeOp::Add("/workflow_data/iterations_completed".into(), counts.iterations.into()),
            ],
        )
    }

    fn merge_part(&self, id: &str, mut ops: Vec<MergeOp>) -> Result<Commit> {
        let record = Records::<Session>::id(id)?;
        ops.push(MergeOp::Set("/updated_at".into(), Json::of(&self.store.now())?));
        Ok(Commit::new().trusted().expect(Expectation::Exists(record.clone())).write(Write::Merge(record, ops)))
    }

    async fn merge(&self, id: &str, part: Result<Commit>) -> Result<Receipt> {
        // The only expectation of these commits is that the session exists.
        self.store.commit(part?).await.map_err(|e| if e.is_conflict() { missing(id).with_source(e) } else { e })
    }

    /// A page of sessions that can be taken up again: `Paused` or `Failed`, last changed first. A session whose
    /// process died still says `Running`; whoever knows that takes it to `Paused` first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn resumable(&self, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<Session>>> {
        let page = self.by_change(&RESUMABLE, limit, after).await;
        page.map_err(|e| e.during("sessions.resumable"))
    }

    /// The interrupted (`Paused`) session that was changed last.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn last_interrupted(&self) -> Result<Option<Versioned<Session>>> {
        let page = self.by_change(&[SessionStatus::Paused], 1, None).await;
        Ok(page.map_err(|e| e.during("sessions.last_interrupted"))?.items.pop())
    }

    async fn by_change(
        &self,
        statuses: &[SessionStatus],
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<Page<Versioned<Session>>> {
        let query = Query::new(Session::COLLECTION.name())?.one_of("status", statuses.iter().map(|s| s.as_str()));
        self.records().page(query.order_desc("updated_at").limit(limit).after(after)).await
    }

    /// What one session did, in numbers.
    ///
    /// # Errors
    /// `NotFound` when there is no such session.
    pub async fn stats(&self, id: &str) -> Result<SessionStats> {
        let session = self.load(id).await?.ok_or_else(|| missing(id).during("sessions.stats"))?;
        Ok(SessionStats::of(&session.value))
    }

    /// How many sessions there are, by status and by type, counted by the store in one snapshot.
    ///
    /// # Errors
    /// `Invalid` when there are more than 10,000 types; what the store fails with.
    pub async fn totals(&self) -> Result<SessionTotals> {
        self.count_all().await.map_err(|e| e.during("sessions.totals"))
    }

    async fn count_all(&self) -> Result<SessionTotals> {
        let group = |field: &str| -> Result<Read> {
            let query = Query::new(Session::COLLECTION.name())?.limit(limits::PAGE_ROWS);
            Ok(Read::GroupBy { query, field: field.into(), bucket: None, measure: Some("started_at".into()) })
        };
        let mut totals = SessionTotals::default();
        let mut answers = self.store.read(vec![group("status")?, group("session_type")?]).await?.into_iter();
        for group in answers.next().map(millpond_core::Answer::into_groups).transpose()?.unwrap_or_default() {
            totals.total += group.count;
            let moment = |s: Option<Scalar>| if let Some(Scalar::Timestamp(t)) = s { Some(t) } else { None };
            let (first, last) = (moment(group.min), moment(group.max));
            totals.first_started_at = totals.first_started_at.into_iter().chain(first).min();
            totals.last_started_at = totals.last_started_at.max(last);
            totals.by_status.insert(text(group.value), group.count);
        }
        for group in answers.next().map(millpond_core::Answer::into_groups).transpose()?.unwrap_or_default() {
            totals.by_type.insert(text(group.value), group.count);
        }
        Ok(totals)
    }
}

impl Session {
    fn step(&mut self, to: SessionStatus) -> Result<()> {
        self.status.check_step(&self.id, to)?;
        self.status = to;
        Ok(())
    }

    /// Sets what the store owns: when the session was changed, and when it was over.
    fn touch(&mut self, store: &Store) {
        self.updated_at = store.now();
        if self.status.is_over() {
            self.completed_at.get_or_insert(self.updated_at);
        } else {
            self.completed_at = None;
        }
    }
}

fn text(value: Option<Scalar>) -> String {
    match value {
        Some(Scalar::Text(text)) => text,
        _ => String::new(),
    }
}

fn missing(id: &str) -> Error {
    Error::not_found(format!("session {id} does not exist")).with_next("see which there are: millpond sessions list")
}

/// A document as the store holds it after a commit whose first write put it.
fn written(session: Session, receipt: &Receipt) -> Versioned<Session> {
    Versioned {
        value: session,
        revision: receipt.revisions.first().copied().unwrap_or_default(),
        position: receipt.position,
        time: receipt.time,
        by: None,
    }
}

pub mod blocking {
    //! The sessions for synchronous callers.
    use super::*;

    blocking_api! {
        /// The sessions of a namespace, for synchronous callers.
        Sessions of super::Sessions {
            fn create(new: NewSession) -> Result<Versioned<Session>>;
            fn save(session: &Session) -> Result<Versioned<Session>>;
            fn update(session: &Versioned<Session>) -> Result<Versioned<Session>>;
            fn load(id: &str) -> Result<Option<Versioned<Session>>>;
            fn list(filter: &SessionFilter) -> Result<Page<Versioned<Session>>>;
            fn count(filter: &SessionFilter) -> Result<u64>;
            fn delete(id: &str) -> Result<bool>;
            fn delete_with_mapping(id: &str) -> Result<bool>;
            fn update_state(id: &str, to: SessionStatus) -> Result<Versioned<Session>>;
            fn fail(id: &str, error: &str) -> Result<Versioned<Session>>;
            fn set_progress(id: &str, current: u64, total: u64) -> Result<Versioned<Session>>;
            fn merge_metadata(id: &str, metadata: &BTreeMap<String, Value>) -> Result<Receipt>;
            fn set_timing(id: &str, operation: &str, took: Duration) -> Result<Receipt>;
            fn add_counts(id: &str, counts: SessionCounts) -> Result<Receipt>;
            fn resumable(limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<Session>>>;
            fn last_interrupted() -> Result<Option<Versioned<Session>>>;
            fn stats(id: &str) -> Result<SessionStats>;
            fn totals() -> Result<SessionTotals>;
            fn map_job(session: &str, job: &str, workflow_name: &str) -> Result<SessionJobMapping>;
            fn job_of(session: &str) -> Result<Option<SessionJobMapping>>;
            fn session_of(job: &str) -> Result<Option<SessionJobMapping>>;
            fn unmap_job(session: &str) -> Result<bool>;
            fn mappings(limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<SessionJobMapping>>>;
        }
    }
}
