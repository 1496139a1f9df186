//! An entry as text: one line of JSON, readable, with everything a replica needs and nothing to decide.
//!
//! ```text
//!   {"v":1,"n":17,"prev":"<digest of 16>","id":"…","by":"…", "change":{…}             ,"sum":"<digest of this>"}
//!   {"v":1,"n":18,"prev":"<digest of 17>","id":"…","by":"…", "part":1,"of":2,"text":"…","sum":"…"}
//! ```
//!
//! The digest of an entry covers its bytes up to `,"sum"`, and so the digest of the entry before it, and so the whole
//! history. A change that does not fit into one entry goes as contiguous parts of its text; the last is its commit point.

mod change;
mod commit;
mod parts;
mod wire;

pub(crate) use change::{Change, Micros, Named, Other};
pub(crate) use commit::write_commit;
pub(crate) use parts::Parts;
pub(crate) use wire::{Entry, Signature, encode};
