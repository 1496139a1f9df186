//! The lines of the table, a file for each kind of work.

pub mod artifacts;
pub mod batch;
pub mod crowd;
pub mod growth;
pub mod journals;
pub mod postgres;
pub mod processes;
pub mod reads;
pub mod single;
pub mod slow;
