//! Millpond's core: the nouns, the one verb, the rules, and what an engine has to do. No I/O, no driver.
//!
//! ```text
//!  record  JSON document, revision      ┐
//!  event   JSON document, sequence      ├─ commit ─► plan (pure) ─► engine applies ─► position, receipt
//!  lease   holder, token, deadline      ┘
//! ```
//!
//! * [`Commit`] is everything one step did, with what it expects; [`Store::commit`] applies it at once or not at all.
//! * [`plan::plan`] holds every rule. An [`Engine`] loads what a batch touches, plans, applies, answers.
//! * [`CallPolicy`] and [`Breaker`] say how long, how often and whether a server is asked.
//! * [`Front`] gathers concurrent callers into one batch; [`Subscription`] is the one read loop of all feeds.

mod body;
mod calls;
mod canonical;
mod collection;
mod commit;
mod digest;
mod engine;
mod error;
mod event;
mod feed;
mod front;
mod health;
mod id;
mod json;
mod lease;
pub mod limits;
mod merge;
mod name;
mod outcome;
pub mod plan;
mod position;
mod query;
mod raw;
mod record;
mod store;
mod subscribe;
mod time;
mod typed;

pub use calls::{Breaker, CallPolicy, Pauses, Permit, unknown_parameter};
pub use collection::{Catalog, Collection, CollectionSpec, Field, FieldKind, FieldValue, RESERVED_FIELDS, Scalar};
pub use commit::{Acquire, Append, Commit, Expectation, PreparedCommit, PreparedFields, Trim, Write};
pub use digest::{ContentDigest, DigestOptions};
pub use engine::{
    Answer, CollectionInfo, Durability, Engine, EngineInfo, LocalEngine, NamespaceInfo, NamespaceStatus, Purged, Read, StaleReads,
};
pub use error::{Error, ErrorClass, ErrorKind, Result};
pub use event::{Event, NewEvent, StreamInfo};
pub use feed::{
    Change, EventFilter, EventGroup, EventGroupBy, EventPage, EventQuery, FeedPage, FeedRequest, Selector, StreamSelect, glob,
};
pub use front::{Front, FrontStats, QueueLimits};
pub use health::{Examination, Finding, HealthCheck, Probing, ServerClock, apart};
pub use id::{CommitId, uuid_v7};
pub use json::{Json, at, number_survives};
pub use lease::{Holder, LEASES, LeaseState, TTL_MAX_US, TTL_MIN_US};
pub use merge::{MergeOp, pointer_segment};
pub use name::{CollectionName, Key, Namespace, RecordId, StreamName};
pub use outcome::{Appended, Conflict, Expected, Found, Outcome, Receipt};
pub use position::{Cursor, Position};
pub use query::{Damaged, Direction, Filter, Group, KEY_FIELD, Page, PageCursor, Query, check_groups};
pub use record::{Deleted, Document, Record, STORE_FIELD, Versioned};
pub use store::Store;
pub use subscribe::{Delivery, Pace, StartAt, Subscription};
pub use time::{Host, ManualHost, SystemHost, Timestamp};
pub use typed::{Records, TypedQuery};
