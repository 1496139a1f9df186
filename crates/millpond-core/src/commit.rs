//! The one verb: a commit of expectations, writes and appends, applied at once or not at all.

use std::sync::Arc;
use std::time::Duration;

use crate::body::digest;
use crate::collection::{Catalog, CollectionSpec, FieldValue};
use crate::error::{Error, Result};
use crate::event::NewEvent;
use crate::id::CommitId;
use crate::json::Json;
use crate::lease::{Holder, TTL_MAX_US, TTL_MIN_US};
use crate::limits;
use crate::merge::MergeOp;
use crate::name::{Key, RecordId, StreamName};
use crate::time::Host;

/// What must be true for the commit to be applied. Checked by the store, against the state before the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// The record does not exist.
    Absent(RecordId),
    /// The record exists.
    Exists(RecordId),
    /// The record is at this revision.
    Revision(RecordId, u64),
    /// The integer at this JSON pointer of the record is at most this: a quota the store checks. An absent record,
    /// or nothing at the pointer, counts as 0.
    AtMost(RecordId, String, i64),
    /// The stream's last sequence is this one (0: nothing was ever appended).
    StreamAt(StreamName, u64),
    /// The lease still carries this token: the fence.
    Lease(Key, u64),
}

/// A change of one record, or of a lease.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Creates or replaces a record.
    Put(RecordId, Json),
    /// Deletes a record. Deleting an absent one changes nothing and is no error.
    Delete(RecordId),
    /// Changes parts of a record; an absent one starts as `{}`.
    Merge(RecordId, Vec<MergeOp>),
    /// Takes a lease that is free, past its deadline, or whose holder is known to be dead.
    Acquire(Acquire),
    /// Moves the deadline of a lease that still carries the token.
    Renew {
        /// The lease.
        lease: Key,
        /// The token it must still carry.
        token: u64,
        /// The new length, from now on.
        ttl: Duration,
    },
    /// Gives a lease back that still carries the token.
    Release {
        /// The lease.
        lease: Key,
        /// The token it must still carry.
        token: u64,
    },
    /// Takes a lease away from whoever holds it. Its token is void at once.
    Break {
        /// The lease.
        lease: Key,
    },
}

/// The terms under which a lease is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Acquire {
    /// The lease.
    pub lease: Key,
    /// Who asks.
    pub holder: Holder,
    /// How long, on the store's clock.
    pub ttl: Duration,
    /// What for, in words.
    pub purpose: Option<String>,
    /// The caller has seen that the holder of this token is dead: it may be taken over before its deadline.
    pub dead: Option<u64>,
}

/// Events for one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The stream; it comes into being with its first event.
    pub stream: StreamName,
    /// The events, in order.
    pub events: Vec<NewEvent>,
}

/// Forgets the events of a stream before a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trim {
    /// The stream.
    pub stream: StreamName,
    /// The oldest sequence to keep.
    pub before: u64,
}

/// Everything one step did. Applied at once or not at all, inside one namespace.
///
/// ```
/// use millpond_core::{Commit, Json, NewEvent};
/// let commit = Commit::new()
///     .expect_absent("tenants", "t1")?
///     .put("tenants", "t1", &serde_json::json!({"plan": "pro"}))?
///     .append("audit", NewEvent::of("tenant.created", &serde_json::json!({"id": "t1"}))?)?;
/// assert_eq!(commit.operations(), 3);
/// # Ok::<(), millpond_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commit {
    /// Makes a retry safe: sent again, the same id returns the first receipt.
    pub id: Option<CommitId>,
    /// Who commits, shown to whoever meets a conflict with it.
    pub by: Option<String>,
    /// What must be true.
    pub expect: Vec<Expectation>,
    /// Changes of records, applied in order.
    pub writes: Vec<Write>,
    /// Events, appended in order.
    pub appends: Vec<Append>,
    /// Streams to trim, after the appends.
    pub trims: Vec<Trim>,
    /// Streams to seal, after the appends.
    pub seals: Vec<StreamName>,
    pub(crate) trusted: bool,
}

impl Commit {
    /// An empty commit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets this commit write into owned collections and trim sealed streams. For the code that owns them:
    /// a domain that keeps its own rules. Everything else goes through that domain.
    #[must_use]
    pub fn trusted(mut self) -> Self {
        self.trusted = true;
        self
    }

    /// Whether [`Commit::trusted`] was called.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: CommitId) -> Self {
        self.id = Some(id);
        self
    }

    /// Says who commits.
    #[must_use]
    pub fn by(mut self, by: impl Into<String>) -> Self {
        self.by = Some(by.into());
        self
    }

    /// Adds an expectation.
    #[must_use]
    pub fn expect(mut self, expectation: Expectation) -> Self {
        self.expect.push(expectation);
        self
    }

    /// Expects a record not to exist.
    ///
    /// # Errors
    /// `Invalid` when a name breaks a rule.
    pub fn expect_absent(self, collection: &str, key: &str) -> Result<Self> {
        Ok(self.expect(Expectation::Absent(RecordId::new(collection, key)?)))
    }

    /// Expects a record to be at a revision.
    ///
    /// # Errors
    /// `Invalid` when a name breaks a rule.
    pub fn expect_revision(self, collection: &str, key: &str, revision: u64) -> Result<Self> {
        Ok(self.expect(Expectation::Revision(RecordId::new(collection, key)?, revision)))
    }

    /// Expects a lease to still carry a token: the store refuses the commit once it has moved on.
    #[must_use]
    pub fn fenced(self, lease: Key, token: u64) -> Self {
        self.expect(Expectation::Lease(lease, token))
    }

    /// Adds a write.
    #[must_use]
    pub fn write(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// Puts a record.
    ///
    /// # Errors
    /// `Invalid` when a name or the document breaks a rule.
    pub fn put<T: serde::Serialize + ?Sized>(self, collection: &str, key: &str, value: &T) -> Result<Self> {
        Ok(self.write(Write::Put(RecordId::new(collection, key)?, Json::of(value)?)))
    }

    /// Deletes a record.
    ///
    /// # Errors
    /// `Invalid` when a name breaks a rule.
    pub fn delete(self, collection: &str, key: &str) -> Result<Self> {
        Ok(self.write(Write::Delete(RecordId::new(collection, key)?)))
    }

    /// Merges into a record.
    ///
    /// # Errors
    /// `Invalid` when a name breaks a rule.
    pub fn merge(self, collection: &str, key: &str, ops: Vec<MergeOp>) -> Result<Self> {
        Ok(self.write(Write::Merge(RecordId::new(collection, key)?, ops)))
    }

    /// Appends one event. Events for one stream that follow each other travel together.
    ///
    /// # Errors
    /// `Invalid` when the stream's name breaks a rule.
    pub fn append(self, stream: &str, event: NewEvent) -> Result<Self> {
        self.append_all(stream, vec![event])
    }

    /// Appends events.
    ///
    /// # Errors
    /// `Invalid` when the stream's name breaks a rule.
    pub fn append_all(mut self, stream: &str, events: Vec<NewEvent>) -> Result<Self> {
        match self.appends.last_mut() {
            Some(last) if last.stream.as_str() == stream => last.events.extend(events),
            _ => self.appends.push(Append { stream: StreamName::new(stream)?, events }),
        }
        Ok(self)
    }

    /// Forgets a stream's events before a sequence.
    ///
    /// # Errors
    /// `Invalid` when the stream's name breaks a rule.
    pub fn trim(mut self, stream: &str, before: u64) -> Result<Self> {
        self.trims.push(Trim { stream: StreamName::new(stream)?, before });
        Ok(self)
    }

    /// Closes a stream for good.
    ///
    /// # Errors
    /// `Invalid` when the stream's name breaks a rule.
    pub fn seal(mut self, stream: &str) -> Result<Self> {
        self.seals.push(StreamName::new(stream)?);
        Ok(self)
    }

    /// Takes everything from another commit into this one, after what is already here.
    ///
    /// Whether this commit is trusted does not change.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.id = self.id.or(other.id);
        self.by = self.by.or(other.by);
        self.expect.extend(other.expect);
        self.writes.extend(other.writes);
        self.appends.extend(other.appends);
        self.trims.extend(other.trims);
        self.seals.extend(other.seals);
        self
    }

    /// Operations that count against the limit.
    pub fn operations(&self) -> usize {
        let events: usize = self.appends.iter().map(|a| a.events.len()).sum();
        let writes: usize = self.writes.iter().map(|w| if let Write::Merge(_, ops) = w { ops.len().max(1) } else { 1 }).sum();
        self.expect.len() + writes + events + self.trims.len() + self.seals.len()
    }

    /// Checks every limit, fixes the id, and takes out the index fields: all the work that needs no store.
    ///
    /// # Errors
    /// `Invalid`, naming the limit and what was found. Nothing was applied.
    pub fn prepare(mut self, host: &dyn Host, catalog: &Catalog) -> Result<PreparedCommit> {
        check_sizes(&self)?;
        let fields = self.writes.iter().map(|w| prepared_fields(w, catalog)).collect::<Result<Vec<_>>>()?;
        let fresh = self.id.is_none();
        let id = self.id.unwrap_or_else(|| CommitId::generate(host));
        let (digest, bytes) = digest(&self);
        if bytes > limits::COMMIT_BYTES {
            return Err(Error::invalid(format!("the commit has {bytes} bytes; the limit is {}", limits::COMMIT_BYTES))
                .with_next("split it"));
        }
        self.forget_parsed();
        Ok(PreparedCommit { parts: Arc::new(Parts { id, digest, bytes, commit: self, fields }), fresh })
    }
}

impl Commit {
    /// Lets go of parsed values: a waiting commit keeps only its text.
    fn forget_parsed(&mut self) {
        for write in &mut self.writes {
            if let Write::Put(_, value) = write {
                value.forget_parsed();
            }
        }
        for event in self.appends.iter_mut().flat_map(|a| &mut a.events) {
            event.data.forget_parsed();
        }
    }
}

fn check_sizes(commit: &Commit) -> Result<()> {
    let operations = commit.operations();
    if operations > limits::COMMIT_OPERATIONS {
        return Err(Error::invalid(format!(
            "the commit has {operations} operations; the limit is {}",
            limits::COMMIT_OPERATIONS
        ))
        .with_next("split it"));
    }
    if let Some(by) = &commit.by
        && (by.len() > limits::INDEXED_TEXT_BYTES || by.chars().any(char::is_control))
    {
        return Err(Error::invalid(format!(
            "'by' has {} bytes or a control character; the limit is {} bytes",
            by.len(),
            limits::INDEXED_TEXT_BYTES
        )));
    }
    for write in &commit.writes {
        match write {
            Write::Put(record, value) if value.len() > limits::DOCUMENT_BYTES => {
                return Err(Error::invalid(format!(
                    "document {record} has {} bytes; the limit is {}",
                    value.len(),
                    limits::DOCUMENT_BYTES
                ))
                .with_next("split it, or keep the bytes as an artifact"));
            }
            Write::Merge(record, ops) => ops.iter().try_for_each(|op| check_pointer(record, op.path()))?,
            Write::Acquire(acquire) => {
                check_ttl(&acquire.lease, acquire.ttl)?;
                check_holder(acquire)?;
            }
            Write::Renew { lease, ttl, .. } => check_ttl(lease, *ttl)?,
            _ => {}
        }
    }
    commit.appends.iter().flat_map(|a| &a.events).try_for_each(NewEvent::check)
}

/// A merge's path is bounded before it is walked: it makes an object for each of its segments.
fn check_pointer(record: &RecordId, pointer: &str) -> Result<()> {
    let segments = pointer.split('/').count() - 1;
    if pointer.len() > limits::NAME_BYTES || segments > limits::JSON_DEPTH {
        return Err(Error::invalid(format!(
            "a merge path of {record} has {} bytes and {segments} segments; the limits are {} and {}",
            pointer.len(),
            limits::NAME_BYTES,
            limits::JSON_DEPTH
        )));
    }
    Ok(())
}

fn check_ttl(lease: &Key, ttl: Duration) -> Result<()> {
    let micros = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
    if (TTL_MIN_US..=TTL_MAX_US).contains(&micros) {
        return Ok(());
    }
    Err(Error::invalid(format!("lease {lease}: a ttl of {ttl:?} is not between 1 ms and 24 h")))
}

fn check_holder(acquire: &Acquire) -> Result<()> {
    let holder = &acquire.holder;
    let texts = [
        ("holder", Some(&holder.name)),
        ("host", holder.host.as_ref()),
        ("boot id", holder.boot.as_ref()),
        ("purpose", acquire.purpose.as_ref()),
    ];
    for (what, text) in texts {
        if let Some(text) = text
            && (text.len() > limits::INDEXED_TEXT_BYTES || text.chars().any(char::is_control))
        {
            return Err(Error::invalid(format!(
                "lease {}: the {what} has {} bytes or a control character; the limit is {} bytes",
                acquire.lease,
                text.len(),
                limits::INDEXED_TEXT_BYTES
            )));
        }
    }
    Ok(())
}

fn prepared_fields(write: &Write, catalog: &Catalog) -> Result<Option<PreparedFields>> {
    let Write::Put(record, value) = write else { return Ok(None) };
    let Some(spec) = catalog.get(record.collection.as_str()) else { return Ok(None) };
    if spec.fields.is_empty() {
        return Ok(Some(PreparedFields { spec: Arc::clone(spec), values: Vec::new() }));
    }
    Ok(Some(PreparedFields { spec: Arc::clone(spec), values: value.with_value(|v| spec.extract(v))?? }))
}

/// Index fields taken out before the commit reached the store, with the declaration they were taken out under.
#[derive(Debug, Clone)]
pub struct PreparedFields {
    pub(crate) spec: Arc<CollectionSpec>,
    pub(crate) values: Vec<FieldValue>,
}

/// A commit whose limits were checked. Only [`Commit::prepare`] makes one, so an engine never sees an unchecked one.
///
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct PreparedCommit {
    parts: Arc<Parts>,
    fresh: bool,
}

#[derive(Debug)]
struct Parts {
    id: CommitId,
    digest: [u8; 16],
    bytes: usize,
    commit: Commit,
    fields: Vec<Option<PreparedFields>>,
}

impl PreparedCommit {
    /// The commit's id, given or made.
    pub fn id(&self) -> CommitId {
        self.parts.id
    }

    /// True when the id was made for this very submission, so that no receipt of it can exist.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The same commit for another submission: now a receipt may exist.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { parts: Arc::clone(&self.parts), fresh: false }
    }

    pub(crate) fn fields(&self) -> &[Option<PreparedFields>] {
        &self.parts.fields
    }

    /// Bytes that count against the limits of the commit and of the queue.
    pub fn bytes(&self) -> usize {
        self.parts.bytes
    }

    /// The commit itself.
    pub fn commit(&self) -> &Commit {
        &self.parts.commit
    }

    /// The digest of the body: the first 16 bytes of SHA-256 over everything but the id.
    pub fn digest(&self) -> &[u8; 16] {
        &self.parts.digest
    }
}
