//! The pure core: every rule of Millpond, in one deterministic function.
//!
//! ```text
//!   commits ──► Touched::of ──► engine loads State ──► plan ──► outcomes + Mutations ──► engine applies
//! ```
//!
//! Engines load what [`Touched`] names, call [`plan`], apply the [`Mutations`] atomically and durably, and answer.
//! No engine holds a rule; a journal keeps the mutations, so replaying them needs no rule either.

mod apply;
mod check;
mod current;
mod documents;
mod finish;
mod lease;
mod mutations;
mod retention;
mod state;
mod streams;
mod touched;
mod work;

pub use apply::plan;
pub use mutations::{EventMutation, Mutations, Plan, RecordMutation, StreamMutation};
pub use retention::purge_before;
pub use state::{NamespaceHead, RecordState, State, StoredReceipt, StreamState};
pub use touched::Touched;
