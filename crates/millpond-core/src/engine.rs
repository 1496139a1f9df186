//! What an engine is: load what a batch touches, plan, apply atomically and durably, answer; and read.
//!
//! An engine holds no rule. Its reads are linearised: they show every commit acknowledged before they began.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::collection::{Catalog, CollectionSpec};
use crate::commit::PreparedCommit;
use crate::error::{Error, Result};
use crate::event::StreamInfo;
use crate::feed::{EventFilter, EventGroup, EventGroupBy, EventPage, EventQuery, FeedPage, FeedRequest};
use crate::health::{Examination, Probing};
use crate::id::CommitId;
use crate::name::{CollectionName, Namespace, RecordId, StreamName};
use crate::outcome::{Outcome, Receipt};
use crate::position::Position;
use crate::query::{Group, Page, Query};
use crate::record::Record;
use crate::time::{Host, Timestamp};

/// Whether a namespace takes commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceStatus {
    /// It does.
    Open,
    /// It is read-only until opened again.
    Frozen,
    /// It lives elsewhere now.
    MovedTo(String),
}

/// What is known about a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceInfo {
    /// Its name.
    pub name: Namespace,
    /// Made when the namespace was made; a namespace deleted and made again has another one.
    pub store_id: String,
    /// Whether it takes commits.
    pub status: NamespaceStatus,
    /// The last position given out.
    pub position: Position,
    /// The time of the last commit.
    pub time: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// Its kind, such as `sqlite`.
    pub kind: &'static str,
    /// Where it keeps its data, without secrets.
    pub location: String,
    /// What an acknowledgement survives.
    pub durability: Durability,
    /// Named facts for people: versions, settings.
    pub facts: Vec<(&'static str, String)>,
}

/// What an acknowledged commit survives, worst case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Nothing: it is gone with the process.
    Memory,
    /// A crash of the process.
    ProcessCrash,
    /// A power cut.
    PowerLoss,
    /// The loss of a machine: it is on more than one before it is acknowledged.
    Replicated,
}

impl Durability {
    /// What may be lost, in one plain sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Memory => "if this process or its server ends now, everything is lost",
            Self::ProcessCrash => "if power fails now, you may lose commits that were acknowledged in the last moments",
            Self::PowerLoss => "if power fails now, you lose nothing that was acknowledged",
            Self::Replicated => "if a machine is lost now, you lose nothing that was acknowledged",
        }
    }

    /// The name by which it is asked for: `memory`, `process-crash`, `power-loss`, `replicated`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::ProcessCrash => "process-crash",
            Self::PowerLoss => "power-loss",
            Self::Replicated => "replicated",
        }
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Durability {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        let all = [Self::Memory, Self::ProcessCrash, Self::PowerLoss, Self::Replicated];
        all.into_iter().find(|d| d.name() == name).ok_or_else(|| {
            Error::invalid(format!("{name:?} is no class of durability"))
                .with_next("write memory, process-crash, power-loss or replicated")
        })
    }
}

/// One read. Several in one call are answered from one snapshot.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    /// A record by key.
    Get(RecordId),
    /// A page of records.
    Query(Query),
    /// How many records a query's filters take; its order, limit and cursor play no part.
    Count(Query),
    /// Groups of the records a query's filters take, by a field's value, in the value's order.
    GroupBy {
        /// Filters, and the limit: more groups than that are `Invalid`.
        query: Query,
        /// The field; no set.
        field: String,
        /// Cuts a timestamp field into buckets of this length.
        bucket: Option<Duration>,
        /// The field to take min, max and (for integers) sum of.
        measure: Option<String>,
    },
    /// What is known about a stream.
    Stream(StreamName),
    /// Streams that hold events, by name.
    Streams {
        /// Names that begin with this, by bytes.
        prefix: String,
        /// Continue after this name.
        after: Option<StreamName>,
        /// At most this many.
        limit: usize,
    },
    /// A page of events.
    Events(EventQuery),
    /// Counts of events.
    EventGroups {
        /// Which events.
        filter: EventFilter,
        /// By what.
        by: EventGroupBy,
        /// At most this many groups, in the value's order.
        limit: usize,
    },
    /// Every collection that holds records or is declared.
    Collections,
}

/// What a read answers, in kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To [`Read::Get`]. An engine need not have looked inside the document: whoever reads its value hears `Corrupt`.
    Record(Option<Record>),
    /// To [`Read::Query`].
    Page(Page),
    /// To [`Read::Count`].
    Count(u64),
    /// To [`Read::GroupBy`].
    Groups(Vec<Group>),
    /// To [`Read::Stream`].
    Stream(Option<StreamInfo>),
    /// To [`Read::Streams`].
    Streams(Vec<StreamInfo>),
    /// To [`Read::Events`].
    Events(EventPage),
    /// To [`Read::EventGroups`].
    EventGroups(Vec<EventGroup>),
    /// To [`Read::Collections`].
    Collections(Vec<CollectionInfo>),
}

/// A collection and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CollectionInfo {
    /// Its name.
    pub name: CollectionName,
    /// Whether it is declared.
    pub declared: bool,
    /// Its records, tombstones not counted.
    pub records: u64,
}

/// What a purge removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Purged {
    /// Receipts.
    pub receipts: u64,
    /// Tombstones.
    pub tombstones: u64,
}

/// A place that keeps namespaces. Implementations hold no rule: they load, [`crate::plan::plan`], apply, answer.
///
/// Every method may be called from many tasks at once. Errors are *not applied* unless their kind is
/// `UnknownOutcome`.
#[async_trait]
pub trait Engine: std::fmt::Debug + Send + Sync {
    /// What it is and what its acknowledgements survive, from the live settings.
    fn info(&self) -> EngineInfo;

    /// Looks at the settings and conditions that its promises rest on, as they are now.
    async fn examine(&self, probing: Probing) -> Result<Examination>;

    /// Its clock and randomness.
    fn host(&self) -> Arc<dyn Host>;

    /// All namespaces, by name.
    async fn namespaces(&self) -> Result<Vec<NamespaceInfo>>;

    /// One namespace, if it exists.
    async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceInfo>>;

    /// Makes a namespace. `Conflict` if it exists.
    async fn create_namespace(&self, namespace: &Namespace) -> Result<NamespaceInfo>;

    /// Opens, freezes or marks a namespace as moved. When it returns, no commit of the old status is still to come.
    async fn set_status(&self, namespace: &Namespace, status: NamespaceStatus) -> Result<NamespaceInfo>;

    /// Deletes a namespace whole, at once. The caller confirms with its store id; another id is `Conflict`.
    async fn delete_namespace(&self, namespace: &Namespace, store_id: &str) -> Result<()>;

    /// Adds or extends declarations. Rows of a collection that was undeclared move, new fields are filled in from
    /// the documents; all of it at once. Returns everything that is declared.
    async fn declare(&self, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Arc<Catalog>>;

    /// Everything that is declared.
    async fn catalog(&self, namespace: &Namespace) -> Result<Arc<Catalog>>;

    /// Decides and applies a batch: one answer for each commit, in order. One flush for all of them.
    /// An outer error stands for every commit of the batch.
    async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>>;

    /// The receipt of a commit, if it was applied and is still remembered.
    async fn outcome(&self, namespace: &Namespace, id: CommitId) -> Result<Option<Receipt>>;

    /// Answers several reads from one snapshot.
    async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>>;

    /// One page of a feed. `CursorExpired` when something the selector takes was forgotten after the cursor.
    async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage>;

    /// Returns when something may have been committed after a position. A hint: it may return early, late, or never.
    async fn changed(&self, namespace: &Namespace, after: Position);

    /// Forgets receipts of ids made before a moment and tombstones left before it, raising the floors that keep
    /// their ids and revisions from coming again.
    ///
    /// An engine forgets up to whatever moment it is given; safety does not depend on which. The promise to keep
    /// receipts for seven days is made by [`crate::plan::purge_before`], and [`crate::Store::purge`] is its only door:
    /// call that one. Going round it, as the conformance suite does instead of waiting a week, lets a retried commit
    /// be refused for its age, never applied twice.
    async fn purge(&self, namespace: &Namespace, before: Timestamp) -> Result<Purged>;

    /// Checks what is stored: format, indexes, sequences. Each finding is one line.
    async fn check(&self, namespace: &Namespace) -> Result<Vec<String>>;

    /// Finishes what is under way and lets go of files and connections.
    async fn close(&self) -> Result<()>;

    /// The same engine without async, where a call is short and local: lets a synchronous caller do the work on its
    /// own thread.
    fn local(&self) -> Option<&dyn LocalEngine>;

    /// Answers from what this process holds already, for callers that said they take a stale one. `None`, as here, where
    /// a fresh read costs no more.
    fn stale(&self) -> Option<&dyn StaleReads> {
        None
    }
}

/// An engine that holds a copy of what is stored elsewhere.
#[async_trait]
pub trait StaleReads: Send + Sync {
    /// As [`Engine::read`], from the copy as it is: it may lack what others were told lately, and never what this
    /// process itself was told. What it shows was true together, at one moment.
    ///
    /// # Errors
    /// As [`Engine::read`], but it does not notice that the place cannot be reached.
    async fn read_stale(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Answer>>;
}

/// An engine whose calls can run on the caller's own thread.
pub trait LocalEngine: Send + Sync {
    /// As [`Engine::commit`].
    ///
    /// # Errors
    /// As [`Engine::commit`].
    fn commit_now(&self, namespace: &Namespace, batch: &[PreparedCommit]) -> Result<Vec<Result<Outcome>>>;

    /// As [`Engine::read`].
    ///
    /// # Errors
    /// As [`Engine::read`].
    fn read_now(&self, namespace: &Namespace, reads: &[Read]) -> Result<Vec<Answer>>;

    /// As [`Engine::feed`].
    ///
    /// # Errors
    /// As [`Engine::feed`].
    fn feed_now(&self, namespace: &Namespace, request: &FeedRequest) -> Result<FeedPage>;
}

macro_rules! answer_as {
    ($(#[$doc:meta] $name:ident, $variant:ident, $type:ty;)*) => {
        impl Answer {
            $(#[$doc]
            ///
            /// # Errors
            /// `Corrupt` when the engine answered something else than was asked.
            pub fn $name(self) -> Result<$type> {
                match self {
                    Self::$variant(value) => Ok(value),
                    other => Err(Error::corrupt(format!("the engine answered {other:?} to another question"))),
                }
            })*
        }
    };
}

answer_as! {
    /// The record.
    into_record, Record, Option<Record>;
    /// The page.
    into_page, Page, Page;
    /// The count.
    into_count, Count, u64;
    /// The groups.
    into_groups, Groups, Vec<Group>;
    /// The stream.
    into_stream, Stream, Option<StreamInfo>;
    /// The streams.
    into_streams, Streams, Vec<StreamInfo>;
    /// The events.
    into_events, Events, EventPage;
    /// The counts of events.
    into_event_groups, EventGroups, Vec<EventGroup>;
    /// The collections.
    into_collections, Collections, Vec<CollectionInfo>;
}
