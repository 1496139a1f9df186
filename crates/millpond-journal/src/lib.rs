//! Millpond's journal engine: an ordered, durable journal is the truth, a SQLite replica answers questions.
//!
//! ```text
//!   commit ─► plan on the replica at entry n ─► append entry n + 1 if nobody else did ─► answer
//!                     ▲                              │ overtaken
//!                     └── read after n, replay ◄─────┘
//!   read   ─► read after n (one round trip, brings what is missing) ─► the replica
//! ```
//!
//! * [`Journal`] and [`Journals`] are what a driver is: a few hundred lines that know nothing of entries' contents.
//! * [`JournalEngine`] is everything else, once for all drivers.

pub mod drivers;
mod engine;
mod entry;
mod hex;
mod journal;

pub use engine::{JournalEngine, JournalOptions, JournalStats};
pub use journal::{After, Append, Exclusive, Journal, Journals, Limit, PlaceInfo, Stored, lost};
