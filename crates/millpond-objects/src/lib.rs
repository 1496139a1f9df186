//! Objects: immutable bytes, each written once under a fresh location and never changed. Only records name them.
//!
//! ```text
//!   bytes ─► Summing (sha-256 of all, one sum per MiB) ─► Objects::begin … finish     durable, and nobody knows of it
//!                                                              │
//!   record {location, Sums} ◄── the commit that decides ───────┘
//!      │
//!      └─► Verified: reads whole blocks, compares each with its sum, and hands out only what is right
//! ```
//!
//! Nothing here knows artifacts, units or metadata, but for the names of the fields that a short note keeps
//! (`bucket/header.rs`). An object that no record names is of nobody's concern but the
//! collector's, which finds it by the unit in its location.

#[cfg(feature = "object")]
mod bucket;
#[cfg(all(test, feature = "object"))]
mod fakes;
mod folder;
mod location;
mod memory;
mod note;
mod objects;
mod open;
#[cfg(feature = "object")]
pub mod place;
mod sums;
mod verified;

#[cfg(feature = "object")]
pub use bucket::Bucket;
pub use folder::Folder;
pub use location::Location;
pub use memory::Memory;
pub use note::Note;
pub use objects::{Listed, Objects, Writing};
pub use open::open;
pub use sums::{BLOCK, Summing, Sums};
pub use verified::Verified;
