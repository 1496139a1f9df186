//! The mark on an execution that was written off: commits that write into it expect it not to be there.

use millpond_core::{Document, Error, Expectation, Expected, Records, Result};

use super::model::Prune;
use crate::text::key_segment;

/// What a commit expects that writes something into an execution, or refers to something of it.
pub(crate) fn open(execution: &str) -> Result<Expectation> {
    Ok(Expectation::Absent(Records::<Prune>::id(&key_segment(execution))?))
}

/// Says of a refusal that the execution was written off.
pub(crate) fn explain(error: Error) -> Error {
    let execution = match error.as_conflict().map(|conflict| &conflict.expected) {
        Some(Expected::Stated(Expectation::Absent(record))) if record.collection.as_str() == Prune::COLLECTION.name() => {
            crate::text::of_key_segment(record.key.as_str())
        }
        _ => return error,
    };
    written_off(error, &execution)
}

/// What an error says about an execution that was written off.
pub(crate) fn written_off(error: Error, execution: &str) -> Error {
    error
        .saying(format!("execution {execution} was written off: nothing is written into it any more, nor comes from it"))
        .with("execution", execution)
        .with_next(format!("write under another execution, or see what became of this one: millpond prune {execution} --show"))
}
