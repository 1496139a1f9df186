//! Millpond's SQLite engine: one database file, WAL, `synchronous=FULL`.
//!
//! ```text
//!   commits ─► one writer connection ─► BEGIN IMMEDIATE · load · plan · apply · COMMIT (one flush)
//!   reads   ─► a pool of reader connections, each answer from one snapshot
//! ```
//!
//! The tables are meant to be read by people: see `docs/sqlite.md`. Several processes may open one file; SQLite's own
//! locks keep them apart and every rule is checked inside the write transaction.

mod apply;
mod catalog;
mod check;
mod connect;
mod engine;
mod errors;
mod events;
mod examine;
mod explain;
mod feed;
mod filesystem;
mod held;
mod hint;
mod load;
mod namespaces;
mod path;
mod purge;
mod query;
mod read;
mod schema;
mod table;
mod transaction;

pub use engine::{Copied, Replica, ReplicaWrite, SqliteEngine, SqliteOptions, SqliteStats, Tail, Verdict};
pub use explain::PageCost;
pub use filesystem::FileSystem;
