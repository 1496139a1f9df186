//! Workflows: immutable versions of definitions, with their lineage.
//!
//! ```text
//! workflows/etl            one row a workflow: latest version, highest ever, name, tags …
//! workflow_versions/etl@3  the version: definition, hash, parent, reasoning. Created once, never changed.
//! workflow_lineage/etl@3   its place among parents and children. Stays when the version is deleted.
//! ```
//!
//! A version number is used once: also after its version was deleted, the next one stored is above it. So a run that
//! names `etl@3` and a hash names one content for ever. There is no implied latest: it is asked for by name.

mod definition;
mod given_back;
mod model;

use millpond_core::{
    Collection, Commit, Document, Error, Expectation, Filter, Page, PageCursor, Query, Read, Records, Result, Store, Timestamp,
    Versioned, Write,
};

use crate::conditions::Conditions;

pub use model::{Lineage, NewWorkflow, Tags, VersionRef, WorkflowHead, WorkflowVersion};

/// The collections of this domain.
pub(crate) const COLLECTIONS: [Collection; 3] = [WorkflowVersion::COLLECTION, Lineage::COLLECTION, WorkflowHead::COLLECTION];

/// How often an operation reads again after somebody else was faster.
const TRIES: u32 = 16;

/// Ancestors shown at once.
const ANCESTORS: usize = 1_000;

/// The workflows of a pond.
#[derive(Clone, Debug)]
pub struct Workflows {
    store: Store,
}

/// Which workflows or versions a list takes. Everything that is given holds.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowFilter {
    /// The id begins with this.
    pub id_prefix: Option<String>,
    /// The name holds this; case-sensitive.
    pub name_contains: Option<String>,
    /// It has this tag: a word, or `name=value`.
    pub tag: Option<String>,
    /// This author made it.
    pub author: Option<String>,
    /// Stored at or after this.
    pub from: Option<Timestamp>,
    /// Stored before this.
    pub to: Option<Timestamp>,
    /// Also workflows of which every version was deleted (lists of workflows only).
    pub deleted: bool,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
    /// Continue after a page.
    pub after: Option<PageCursor>,
}

impl Default for WorkflowFilter {
    fn default() -> Self {
        Self {
            id_prefix: None,
            name_contains: None,
            tag: None,
            author: None,
            from: None,
            to: None,
            deleted: false,
            limit: 100,
            after: None,
        }
    }
}

impl WorkflowFilter {
    fn query(&self, collection: &str) -> Result<Query> {
        Ok(Query::new(collection)?
            .given_prefix("id", self.id_prefix.as_ref())
            .given_part("name", self.name_contains.as_ref())
            .has_each("tags", &self.tag)
            .given("author", self.author.as_ref())
            .between("created_at", self.from, self.to)
            .limit(self.limit)
            .after(self.after.clone()))
    }
}

/// A version's ancestors, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Ancestors {
    /// The ancestors. Deleted ones are here too, marked as deleted.
    pub items: Vec<Lineage>,
    /// The last one shown, if there are more above it: ask for its ancestors.
    pub next: Option<VersionRef>,
}

impl Workflows {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    fn versions(&self) -> Records<WorkflowVersion> {
        Records::new(self.store.clone())
    }

    fn lineages(&self) -> Records<Lineage> {
        Records::new(self.store.clone())
    }

    fn heads(&self) -> Records<WorkflowHead> {
        Records::new(self.store.clone())
    }

    /// Stores a version: the one asked for, or the next. One commit point: the version, its lineage and the head.
    ///
    /// # Errors
    /// `Conflict` when the version asked for exists or existed (the message says which is next); `NotFound` when the
    /// parent never existed; `Invalid` when there is no id or the definition breaks a rule.
    pub async fn store(&self, new: &NewWorkflow) -> Result<WorkflowVersion> {
        let mut tries = 0;
        loop {
            let (commit, version) = self.store_part(new).await?;
            match self.store.commit(commit.trusted()).await {
                Ok(_) => return Ok(version),
                Err(e) if e.is_conflict() && tries < TRIES => tries += 1,
                Err(e) => return Err(e.during("workflows.store")),
            }
        }
    }

    /// What [`Workflows::store`] commits, for a larger commit. The commit conflicts when another version was stored
    /// meanwhile.
    ///
    /// # Errors
    /// As [`Workflows::store`].
    pub async fn store_part(&self, new: &NewWorkflow) -> Result<(Commit, WorkflowVersion)> {
        self.plan_store(new).await.map_err(|e| e.during("workflows.store"))
    }

    async fn plan_store(&self, new: &NewWorkflow) -> Result<(Commit, WorkflowVersion)> {
        let id = definition::id_of(new)?;
        if new.version == Some(0) {
            return Err(Error::invalid("a workflow's versions begin at 1, not 0"));
        }
        // A part that nothing asks for is read as the head once more; its answer is not looked at.
        let head_id = Records::<WorkflowHead>::id(&id)?;
        let lineage_id = |r: &VersionRef| Records::<Lineage>::id(r.key()?.as_str());
        let wished = new.version.map(|v| VersionRef::new(&id, v));
        let reads = [Some(head_id.clone()), wished.as_ref().map(lineage_id).transpose()?];
        let parent_id = new.parent.as_ref().map(lineage_id).transpose()?;
        let reads = reads.into_iter().chain([parent_id.clone()]).map(|r| Read::Get(r.unwrap_or_else(|| head_id.clone())));
        let mut answers = self.store.read(reads.collect()).await?.into_iter().map(millpond_core::Answer::into_record);
        let mut next = || answers.next().transpose().map(Option::flatten);
        let (head, taken, parent) = (next()?, next()?, next()?);

        let head = head.map(|r| r.decode::<WorkflowHead>()).transpose()?;
        let highest = head.as_ref().map_or(0, |h| h.highest);
        let next_version = highest.checked_add(1).ok_or_else(|| Error::invalid(format!("{id} has no version left")))?;
        if let (Some(wished), Some(taken)) = (&wished, taken) {
            let lineage = taken.decode::<Lineage>()?;
            let state =
                if lineage.is_deleted() { "existed and was deleted; a version is never used again" } else { "exists already" };
            return Err(Error::conflict(format!("{wished} {state}"))
                .with_next(format!("the next version is {next_version}; leave the version out to take it")));
        }
        if let (Some(wanted), None) = (&new.parent, parent) {
            return Err(Error::not_found(format!("the parent {wanted} never existed")).with_next("store the parent first"));
        }
        let at = VersionRef::new(&id, new.version.unwrap_or(next_version));
        let version = definition::stored(new, at, self.store.now())?;

        let expect_head = match &head {
            Some(head) => Expectation::Revision(head_id, head.revision),
            None => Expectation::Absent(head_id),
        };
        let mut head = head.map_or_else(|| WorkflowHead::empty(&id), |h| h.value);
        head.highest = head.highest.max(version.version);
        head.versions += 1;
        if head.latest.is_none_or(|latest| version.version > latest) {
            head.show(Some(&version));
        }
        let lineage = Lineage::of(&version);
        let mut commit = Commit::new()
            .expect(expect_head)
            .expect(Expectation::Absent(lineage_id(&version.reference())?))
            .write(Records::put(&version)?)
            .write(Records::put(&lineage)?)
            .write(Records::put(&head)?);
        if let Some(parent) = parent_id {
            commit = commit.expect(Expectation::Exists(parent));
        }
        if let Some(author) = &version.author {
            commit = commit.by(author);
        }
        Ok((commit, version))
    }

    /// One version.
    ///
    /// # Errors
    /// `Corrupt` when it does not read back.
    pub async fn get(&self, id: &str, version: u32) -> Result<Option<Versioned<WorkflowVersion>>> {
        let key = VersionRef::new(id, version).key()?;
        self.versions().get(key.as_str()).await.map_err(|e| e.during("workflows.get"))
    }

    /// One version that has to be there.
    ///
    /// # Errors
    /// `NotFound`, saying whether it was deleted or never existed; as [`Workflows::get`].
    pub async fn require(&self, id: &str, version: u32) -> Result<Versioned<WorkflowVersion>> {
        if let Some(found) = self.get(id, version).await? {
            return Ok(found);
        }
        let reference = VersionRef::new(id, version);
        let gone = self.lineage(&reference).await?.and_then(|l| l.deleted_at);
        let error = match gone {
            Some(at) => Error::not_found(format!("workflow {reference} was deleted at {at}")),
            None => Error::not_found(format!("workflow {reference} does not exist")),
        };
        Err(error.with_next(format!("list the versions of {id:?}")).during("workflows.get"))
    }

    /// The latest version that exists.
    ///
    /// # Errors
    /// `Corrupt` when it does not read back.
    pub async fn latest(&self, id: &str) -> Result<Option<Versioned<WorkflowVersion>>> {
        let query = Query::new(WorkflowVersion::COLLECTION.name())?.eq("id", id).order_desc("version").limit(1);
        let mut page = self.versions().page(query).await.map_err(|e| e.during("workflows.latest"))?;
        match (page.items.pop(), page.damaged.pop()) {
            // An older version must not pass for the latest because the latest does not read back.
            (None, Some(damaged)) => Err(Error::corrupt(format!("{}: {}", damaged.what, damaged.why)).during("workflows.latest")),
            (found, _) => Ok(found),
        }
    }

    /// The versions of one workflow, newest first.
    ///
    /// # Errors
    /// `Invalid` for a limit out of range or a cursor of another list.
    pub async fn list(&self, id: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<WorkflowVersion>>> {
        let query = Query::new(WorkflowVersion::COLLECTION.name())?.eq("id", id).order_desc("version").limit(limit);
        self.versions().page(query.after(after)).await.map_err(|e| e.during("workflows.list"))
    }

    /// One row a workflow, by id. The filter is about what its latest version says.
    ///
    /// # Errors
    /// `Invalid` for a limit out of range or a cursor of another list.
    pub async fn list_all(&self, filter: &WorkflowFilter) -> Result<Page<Versioned<WorkflowHead>>> {
        let mut query = filter.query(WorkflowHead::COLLECTION.name())?;
        if !filter.deleted {
            query = query.filter(Filter::Present("latest".to_owned()));
        }
        self.heads().page(query).await.map_err(|e| e.during("workflows.list_all"))
    }

    /// Versions of any workflow that the filter takes, newest first.
    ///
    /// # Errors
    /// `Invalid` for a limit out of range or a cursor of another list.
    pub async fn find(&self, filter: &WorkflowFilter) -> Result<Page<Versioned<WorkflowVersion>>> {
        let query = filter.query(WorkflowVersion::COLLECTION.name())?.order_desc("created_at");
        self.versions().page(query).await.map_err(|e| e.during("workflows.find"))
    }

    /// What is known about a workflow as a whole.
    ///
    /// # Errors
    /// `Corrupt` when it does not read back.
    pub async fn head(&self, id: &str) -> Result<Option<Versioned<WorkflowHead>>> {
        self.heads().get(id).await.map_err(|e| e.during("workflows.head"))
    }

    /// Deletes a version; true if it was there. Its place in the lineage stays, and its number is never used again.
    /// One commit point: the version, its lineage and the head.
    ///
    /// # Errors
    /// `NotFound` when it never existed.
    pub async fn delete(&self, id: &str, version: u32, by: Option<&str>) -> Result<bool> {
        let mut tries = 0;
        loop {
            let Some(commit) = self.delete_part(id, version, by).await? else { return Ok(false) };
            match self.store.commit(commit.trusted()).await {
                Ok(_) => return Ok(true),
                Err(e) if e.is_conflict() && tries < TRIES => tries += 1,
                Err(e) => return Err(e.during("workflows.delete")),
            }
        }
    }

    /// What [`Workflows::delete`] commits, for a larger commit; `None` when the version was deleted before.
    ///
    /// # Errors
    /// As [`Workflows::delete`].
    pub async fn delete_part(&self, id: &str, version: u32, by: Option<&str>) -> Result<Option<Commit>> {
        self.plan_delete(&VersionRef::new(id, version), by).await.map_err(|e| e.during("workflows.delete"))
    }

    async fn plan_delete(&self, reference: &VersionRef, by: Option<&str>) -> Result<Option<Commit>> {
        let (key, id) = (reference.key()?, &reference.id);
        let two_newest = Query::new(WorkflowVersion::COLLECTION.name())?.eq("id", id).order_desc("version").limit(2);
        let reads = vec![
            Read::Get(Records::<Lineage>::id(key.as_str())?),
            Read::Get(Records::<WorkflowHead>::id(id)?),
            Read::Query(two_newest),
        ];
        let mut answers = self.store.read(reads).await?.into_iter();
        let missing = || Error::corrupt("the engine answered too little");
        let lineage = answers.next().ok_or_else(missing)?.into_record()?;
        let head = answers.next().ok_or_else(missing)?.into_record()?;
        let newest = answers.next().ok_or_else(missing)?.into_page()?;

        let never =
            || Error::not_found(format!("workflow {reference} does not exist")).with_next(format!("list the versions of {id:?}"));
        let mut lineage = lineage.ok_or_else(never)?.decode::<Lineage>()?;
        if lineage.is_deleted() {
            return Ok(None);
        }
        let mut head = head.ok_or_else(never)?.decode::<WorkflowHead>()?;
        head.value.versions = head.versions.saturating_sub(1);
        if head.latest == Some(reference.version) {
            let next = newest.items.iter().find(|r| r.key != key).map(|r| r.decode::<WorkflowVersion>()).transpose()?;
            head.value.show(next.as_ref().map(|n| &n.value));
        }
        lineage.value.deleted_at = Some(self.store.now());
        lineage.value.deleted_by = by.map(str::to_owned);
        let mut commit = Commit::new()
            .expect(Expectation::Revision(Records::<Lineage>::id(key.as_str())?, lineage.revision))
            .expect(Expectation::Revision(Records::<WorkflowHead>::id(id)?, head.revision))
            .write(Write::Delete(Records::<WorkflowVersion>::id(key.as_str())?))
            .write(Records::put(&lineage.value)?)
            .write(Records::put(&head.value)?);
        if let Some(by) = by {
            commit = commit.by(by);
        }
        Ok(Some(commit))
    }

    /// A version's place in the lineage, also when the version was deleted.
    ///
    /// # Errors
    /// `Corrupt` when it does not read back.
    pub async fn lineage(&self, version: &VersionRef) -> Result<Option<Versioned<Lineage>>> {
        self.lineages().get(version.key()?.as_str()).await.map_err(|e| e.during("workflows.lineage"))
    }

    /// The parent, its parent, and so on, through deleted ones; up to 1,000 at once.
    ///
    /// # Errors
    /// `NotFound` when the version never existed; `Invalid` for a limit out of range.
    pub async fn ancestors(&self, version: &VersionRef, limit: usize) -> Result<Ancestors> {
        if limit == 0 || limit > ANCESTORS {
            return Err(
                Error::invalid(format!("a limit of {limit} is not between 1 and {ANCESTORS}")).during("workflows.ancestors")
            );
        }
        let never = || Error::not_found(format!("workflow {version} never existed")).during("workflows.ancestors");
        let mut parent = self.lineage(version).await?.ok_or_else(never)?.value.parent;
        let mut items = Vec::new();
        while let Some(reference) = parent.take() {
            if items.len() == limit {
                return Ok(Ancestors { next: items.last().map(Lineage::reference), items });
            }
            let found = self.lineage(&reference).await?;
            let found = found.ok_or_else(|| Error::corrupt(format!("the lineage of {version} breaks off at {reference}")))?;
            parent = found.parent.clone();
            items.push(found.value);
        }
        Ok(Ancestors { items, next: None })
    }

    /// The versions made from this one, oldest first; deleted ones are marked.
    ///
    /// # Errors
    /// `Invalid` for a limit out of range or a cursor of another list.
    pub async fn children(&self, of: &VersionRef, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<Lineage>>> {
        let query = Query::new(Lineage::COLLECTION.name())?.eq("parent_ref", of.to_string()).order_asc("created_at");
        self.lineages().page(query.limit(limit).after(after)).await.map_err(|e| e.during("workflows.children"))
    }

    /// The unified diff of two versions' definitions as canonical YAML; empty when they are equal.
    ///
    /// # Errors
    /// `NotFound` when one does not exist.
    pub async fn diff(&self, old: &VersionRef, new: &VersionRef) -> Result<String> {
        let before = self.require(&old.id, old.version).await.map_err(|e| e.during("workflows.diff"))?.to_yaml()?;
        let after = self.require(&new.id, new.version).await.map_err(|e| e.during("workflows.diff"))?.to_yaml()?;
        Ok(crate::diff::unified(&old.to_string(), &before, &new.to_string(), &after))
    }
}

/// The same for synchronous callers.
pub mod blocking {
    use super::{
        Ancestors, Commit, Lineage, NewWorkflow, Page, PageCursor, Result, VersionRef, Versioned, WorkflowFilter, WorkflowHead,
        WorkflowVersion,
    };

    blocking_api! {
        /// The workflows, for synchronous callers.
        Workflows of super::Workflows {
            fn store(new: &NewWorkflow) -> Result<WorkflowVersion>;
            fn store_part(new: &NewWorkflow) -> Result<(Commit, WorkflowVersion)>;
            fn get(id: &str, version: u32) -> Result<Option<Versioned<WorkflowVersion>>>;
            fn require(id: &str, version: u32) -> Result<Versioned<WorkflowVersion>>;
            fn latest(id: &str) -> Result<Option<Versioned<WorkflowVersion>>>;
            fn list(id: &str, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<WorkflowVersion>>>;
            fn list_all(filter: &WorkflowFilter) -> Result<Page<Versioned<WorkflowHead>>>;
            fn find(filter: &WorkflowFilter) -> Result<Page<Versioned<WorkflowVersion>>>;
            fn head(id: &str) -> Result<Option<Versioned<WorkflowHead>>>;
            fn delete(id: &str, version: u32, by: Option<&str>) -> Result<bool>;
            fn delete_part(id: &str, version: u32, by: Option<&str>) -> Result<Option<Commit>>;
            fn lineage(version: &VersionRef) -> Result<Option<Versioned<Lineage>>>;
            fn ancestors(version: &VersionRef, limit: usize) -> Result<Ancestors>;
            fn children(of: &VersionRef, limit: usize, after: Option<PageCursor>) -> Result<Page<Versioned<Lineage>>>;
            fn diff(old: &VersionRef, new: &VersionRef) -> Result<String>;
        }
    }
}
