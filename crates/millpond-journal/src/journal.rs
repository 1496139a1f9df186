//! What a driver is: an ordered, durable row of entries that grows at its end, and a place that keeps several.
//!
//! ```text
//!   append(after n, entry) ─► Written      the tail was n; the entry is n + 1 and survives what the driver promises
//!                          └► Overtaken    somebody else's entry is n + 1; nothing was written
//!   read(after n)          ─► n + 1, n + 2 …   linearised: nothing means "you stand at the tail"
//! ```
//!
//! A driver knows nothing of what entries hold. `docs/journal.md` shows how one is written and what it has to prove.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::{Durability, Error, Examination, Probing, Result};

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Append {
    /// The entry is the next one, and is as durable as the driver promises.
    Written,
    /// Another entry is the next one. It may be this very entry, when the driver sends again by itself.
    Overtaken,
}

/// An entry as the journal holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number: 1, 2, 3 …
    pub number: u64,
    /// What was appended.
    pub bytes: Bytes,
}

/// What follows an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// The entries, in order and without a gap. Only none means that there are no more: a page may be short for any reason.
    Entries(Vec<Stored>),
    /// The next entry was trimmed away; a snapshot holds what it did.
    Trimmed,
}

/// How much one read brings at most. It brings at least one entry if there is one, and may bring less than there is.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Entries.
    pub entries: usize,
    /// Bytes after which no further entry is added.
    pub bytes: usize,
}

impl Default for Limit {
    fn default() -> Self {
        Self { entries: 64, bytes: 16 << 20 }
    }
}

/// The right to append that nobody else has until this is dropped.
pub trait Exclusive: Send {}

/// One journal.
///
/// Every method may be called from many tasks at once and from any runtime. An error is *not written* unless its kind
/// is `UnknownOutcome`. A journal that was removed answers `NotFound`.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// Appends an entry if `after` is the last number, and answers `Overtaken` if there is a later one. Returns once
    /// the entry is durable.
    ///
    /// # Errors
    /// `Corrupt` when the journal is known to end before `after`, see [`lost`]; `UnknownOutcome` when the entry may
    /// have been written or may still be.
    async fn append(&self, after: u64, entry: Bytes) -> Result<Append>;

    /// What follows an entry. Linearised: "nothing" means that no append after it was answered before this call began.
    /// It shows no entry that is not durable.
    ///
    /// # Errors
    /// `Corrupt` when the journal is known to end before `after`, see [`lost`].
    async fn read(&self, after: u64, limit: Limit) -> Result<After>;

    /// Returns when there may be something after an entry. A hint: it may return early, late, or never.
    async fn changed(&self, after: u64);

    /// The largest entry that can be appended, in bytes; at least 64 KiB.
    fn max_entry_bytes(&self) -> usize;

    /// Waits for the right to append, where the driver can lock: then planning under it wins every time. `None` where
    /// it cannot.
    async fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>>;

    /// Keeps a file as the snapshot of everything up to an entry. An older snapshot may be dropped.
    async fn put_snapshot(&self, upto: u64, file: &Path) -> Result<()>;

    /// Writes the newest snapshot into a new file and tells up to which entry it goes. `None` when there is none.
    async fn get_snapshot(&self, file: &Path) -> Result<Option<u64>>;

    /// Forgets entries up to a number, at most; a driver may keep more. From then on no writer that stands before
    /// that number can append.
    async fn trim(&self, upto: u64) -> Result<()>;

    /// Bytes of the entries that are kept, as well as the driver knows.
    async fn size(&self) -> Result<u64>;
}

/// A place that keeps journals, each under a name.
#[async_trait]
pub trait Journals: fmt::Debug + Send + Sync {
    /// What it is.
    fn info(&self) -> PlaceInfo;

    /// Looks at the settings that its promises rest on, as they are now. A place with nothing to ask answers
    /// [`Examination::of`] what it promises.
    async fn examine(&self, probing: Probing) -> Result<Examination>;

    /// The journal of a name. One that was never written is empty, and comes into being with its first entry.
    async fn open(&self, name: &str) -> Result<std::sync::Arc<dyn Journal>>;

    /// Removes a journal with everything of it. From then on nothing can be appended to it.
    async fn remove(&self, name: &str) -> Result<()>;

    /// Where this place wants its replicas to be, if it has an opinion.
    fn cache(&self) -> Option<&Path>;
}

/// What a place says about itself.
#[derive(Debug, Clone)]
pub struct PlaceInfo {
    /// Its kind, such as `file`.
    pub kind: &'static str,
    /// Where it is, without secrets.
    pub location: String,
    /// What an answered append survives.
    pub durability: Durability,
    /// Named facts for people.
    pub facts: Vec<(&'static str, String)>,
}

/// The error of a journal that ends before an entry that was seen in it.
pub fn lost(seen: u64, found: u64) -> Error {
    Error::corrupt(format!("the journal ends at entry {found}, but entry {} was acknowledged: it lost history", found + 1))
        .with("seen", seen)
        .with_next("restore the journal from a copy that holds that entry; until then nothing is written")
}
