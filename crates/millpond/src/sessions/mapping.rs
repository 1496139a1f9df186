//! Which session runs which job: one session has at most one job, one job at most one session.
//!
//! Each mapping is two records, one under either id, always written in one commit: that makes both directions a read
//! by key and both unique.

use millpond_core::{
    Collection, Commit, Document, Error, Expectation, FieldKind, Key, Page, PageCursor, Query, Records, Result, Timestamp,
    Versioned, Write,
};
use serde::{Deserialize, Serialize};

use super::{Sessions, TRIES};
use crate::extra::Extra;

/// A session and its job, as Prodigy keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionJobMapping {
    /// The session.
    pub session_id: String,
    /// The job.
    pub job_id: String,
    /// The workflow's name.
    pub workflow_name: String,
    /// When the two were brought together; set by the store's clock.
    pub created_at: Timestamp,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Document for SessionJobMapping {
    const COLLECTION: Collection = Collection::new("session_jobs").version(1).index("created_at", FieldKind::Timestamp).owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.session_id.as_str()).map_err(|e| e.with("session", &self.session_id))
    }
}

/// The same mapping under the job's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobSessionMapping(pub SessionJobMapping);

impl Document for JobSessionMapping {
    const COLLECTION: Collection = Collection::new("job_sessions").version(1).owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.0.job_id.as_str()).map_err(|e| e.with("job", &self.0.job_id))
    }
}

impl Sessions {
    fn by_session(&self) -> Records<SessionJobMapping> {
        Records::new(self.store.clone())
    }

    fn by_job(&self) -> Records<JobSessionMapping> {
        Records::new(self.store.clone())
    }

    /// Brings a session and a job together. The same two again change nothing. One commit point: both directions.
    ///
    /// # Errors
    /// `Conflict` when either belongs to another already; the message says to which.
    pub async fn map_job(&self, session: &str, job: &str, workflow_name: &str) -> Result<SessionJobMapping> {
        self.map(session, job, workflow_name).await.map_err(|e| e.during("sessions.map_job"))
    }

    async fn map(&self, session: &str, job: &str, workflow_name: &str) -> Result<SessionJobMapping> {
        for _ in 0..TRIES {
            if let Some(found) = self.by_session().get(session).await? {
                return found.value.same_or_refused(session, job);
            }
            if let Some(found) = self.by_job().get(job).await? {
                return found.value.0.same_or_refused(session, job);
            }
            let mapping = self.mapping(session, job, workflow_name);
            match self.store.commit(Self::put_mapping(&mapping)?).await {
                Ok(_) => return Ok(mapping),
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::conflict(format!("the mapping of session {session} and job {job} changed {TRIES} times meanwhile"))
            .with_next("try again"))
    }

    /// The commit that brings a session and a job together; refused when either belongs to another, or to each other.
    ///
    /// # Errors
    /// `Invalid` when an id cannot be a key.
    pub fn map_job_part(&self, session: &str, job: &str, workflow_name: &str) -> Result<Commit> {
        Self::put_mapping(&self.mapping(session, job, workflow_name))
    }

    fn mapping(&self, session: &str, job: &str, workflow_name: &str) -> SessionJobMapping {
        SessionJobMapping {
            session_id: session.to_owned(),
            job_id: job.to_owned(),
            workflow_name: workflow_name.to_owned(),
            created_at: self.store.now(),
            extra: Extra::new(),
        }
    }

    fn put_mapping(mapping: &SessionJobMapping) -> Result<Commit> {
        let back = JobSessionMapping(mapping.clone());
        Ok(Commit::new()
            .trusted()
            .expect(Expectation::Absent(Records::<SessionJobMapping>::id(&mapping.session_id)?))
            .expect(Expectation::Absent(Records::<JobSessionMapping>::id(&mapping.job_id)?))
            .write(Records::put(mapping)?)
            .write(Records::put(&back)?))
    }

    /// The job of a session.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn job_of(&self, session: &str) -> Result<Option<SessionJobMapping>> {
        let found = self.by_session().get(session).await.map_err(|e| e.during("sessions.job_of"))?;
        Ok(found.map(|m| m.value))
    }

    /// The session of a job.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn session_of(&self, job: &str) -> Result<Option<SessionJobMapping>> {
        let found = self.by_job().get(job).await.map_err(|e| e.during("sessions.session_of"))?;
        Ok(found.map(|m| m.value.0))
    }

    /// Parts a session from its job; true if it had one. One commit point: both directions.
    ///
    /// # Errors
    /// `Conflict` when the mapping changed again and again meanwhile.
    pub async fn unmap_job(&self, session: &str) -> Result<bool> {
        self.unmap(session).await.map_err(|e| e.during("sessions.unmap_job"))
    }

    async fn unmap(&self, session: &str) -> Result<bool> {
        let mut last = None;
        for _ in 0..TRIES {
            let Some(part) = self.unmap_job_part(session).await? else { return Ok(false) };
            match self.store.commit(part).await {
                Ok(_) => return Ok(true),
                Err(e) if e.is_conflict() => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| Error::conflict(format!("the mapping of session {session} keeps changing"))))
    }

    /// The commit that parts a session from its job as it is now, or `None` when it has none.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn unmap_job_part(&self, session: &str) -> Result<Option<Commit>> {
        let Some(found) = self.by_session().get(session).await? else { return Ok(None) };
        let id = Records::<SessionJobMapping>::id(session)?;
        Ok(Some(
            Commit::new()
                .trusted()
                .expect(Expectation::Revision(id.clone(), found.revision))
                .write(Write::Delete(id))
                .write(Write::Delete(Records::<JobSessionMapping>::id(&found.job_id)?)),
        ))
    }

    /// A page of mappings, newest first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn mappings(&self, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<SessionJobMapping>>> {
        let query = Query::new(SessionJobMapping::COLLECTION.name())?.order_desc("created_at").limit(limit).after(after);
        self.by_session().page(query).await.map_err(|e| e.during("sessions.mappings"))
    }
}

impl SessionJobMapping {
    /// The mapping when it is the one that was asked for; otherwise one of the two is taken.
    fn same_or_refused(self, session: &str, job: &str) -> Result<Self> {
        if self.session_id == session && self.job_id == job {
            return Ok(self);
        }
        let taken = if self.session_id == session {
            format!("session {session} has job {} already", self.job_id)
        } else {
            format!("job {job} belongs to session {} already", self.session_id)
        };
        Err(Error::conflict(taken).with_next("unmap it first, or use another id"))
    }
}
