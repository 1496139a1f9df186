//! The PostgreSQL engine: real tables, and one set-based transaction for each batch of commits.
//!
//! ```text
//!   client                                   server
//!     BEGIN · lock the namespace's row · read what the batch touches  ──►      first round trip
//!     plan                                                            ◄──
//!     write with arrays · COMMIT                                      ──►      second round trip
//!     look at every result                                            ◄──
//! ```
//!
//! Positions are given out under the namespace's row, which is locked to the end of the commit: they are dense and in
//! commit order, so a reader has nothing to skip. The lock and the reads are different statements, because a statement
//! takes its snapshot before it waits for a lock. No rule lives here: [`millpond_core::plan`] decides.

mod apply;
mod arrays;
mod call;
mod catalog;
mod check;
mod commit;
mod connect;
mod declare;
mod engine;
mod errors;
mod events;
mod feed;
mod fill;
mod hint;
mod hosts;
mod load;
mod long;
mod names;
mod namespaces;
mod nobody;
mod path;
mod purge;
mod query;
mod read;
mod retry;
mod schema;
mod sent;
mod server;
mod session;
mod settings;
mod table;
mod tls;
mod wire;

pub use engine::{PostgresEngine, PostgresOptions, PostgresStats, migrate};
