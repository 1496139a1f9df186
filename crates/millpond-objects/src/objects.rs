//! What a place for objects can do.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::Result;

use crate::{Location, Note};

/// A place where objects are.
///
/// Operations on different locations never meet. Nobody writes one location twice, so there is nothing to be
/// conditional about: what is there was put there by the one who was given the location.
#[async_trait]
pub trait Objects: fmt::Debug + Send + Sync {
    /// Where this is, without secrets: what a namespace remembers, to refuse a process that looks elsewhere.
    fn place(&self) -> &str;

    /// Writes an object whose bytes are at hand, and its note beside them. It is durable when this returns; the note is a
    /// copy for people, and need not be.
    ///
    /// # Errors
    /// `Invalid` when something is at the location, where that is seen: it was given out twice. `Unavailable` when the bytes could not be
    /// kept; some of them may be there, and nobody will name them.
    async fn put(&self, at: &Location, bytes: Bytes, note: Option<&Note>) -> Result<()>;

    /// Begins an object whose bytes come piece by piece. A place that has to be told the note before the bytes takes this
    /// one; the others take the one of [`Writing::finish`], which can know the sums. Whoever has a note gives it to both.
    ///
    /// # Errors
    /// As [`Objects::put`].
    async fn begin(&self, at: &Location, note: Option<&Note>) -> Result<Box<dyn Writing>>;

    /// Bytes of an object, fewer where it ends before the range does; `None` when it is not there. They are what the
    /// place says they are: see [`crate::Verified`].
    ///
    /// # Errors
    /// `Unavailable` when the place cannot be read.
    async fn read(&self, at: &Location, range: Range<u64>) -> Result<Option<Bytes>>;

    /// How long an object is; `None` when it is not there.
    ///
    /// # Errors
    /// `Unavailable` when the place cannot be read.
    async fn length(&self, at: &Location) -> Result<Option<u64>>;

    /// Removes an object and its note. One that is not there is removed already.
    ///
    /// # Errors
    /// `Unavailable` when the place does not take it.
    async fn remove(&self, at: &Location) -> Result<()>;

    /// At most `most` objects after a location, in the order of their locations. What is no object is left out.
    ///
    /// # Errors
    /// `Unavailable` when the place cannot be listed.
    async fn list(&self, after: Option<&Location>, most: usize) -> Result<Vec<Listed>>;

    /// An address from which whoever has it may read the object for this long.
    ///
    /// # Errors
    /// `Unsupported` where the place gives out no addresses.
    async fn address(&self, at: &Location, lasting: Duration) -> Result<String>;
}

/// An object that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub location: Location,
    /// Its bytes.
    pub length: u64,
}

/// An object that is being written. One that is dropped before [`Writing::finish`] is removed, as far as that can be
/// done; what stays is found by its location.
#[async_trait]
pub trait Writing: fmt::Debug + Send {
    /// Takes the next piece. Waits while the place is behind.
    ///
    /// # Errors
    /// As [`Objects::put`]; the object does not come about then.
    async fn write(&mut self, piece: Bytes) -> Result<()>;

    /// Makes it durable, with a note beside it where notes are written after the bytes.
    ///
    /// # Errors
    /// As [`Objects::put`].
    async fn finish(self: Box<Self>, note: Option<&Note>) -> Result<()>;
}
