//! What a refused commit means in the words of runs.

use millpond_core::{Document, Error, Expectation, Expected, Found};

use super::model::{Run, STREAM_PREFIX};

/// Turns the store's conflict about a run into a sentence about the run; any other error passes through.
pub(crate) fn explain(error: Error) -> Error {
    let Some(conflict) = error.as_conflict() else { return error };
    match (&conflict.expected, &conflict.found) {
        (Expected::Open(stream), _) => match stream.as_str().strip_prefix(STREAM_PREFIX) {
            Some(run) => {
                let message = format!("run {run} is finished: its log is sealed and never changes");
                error.saying(message).with_next("start a new run; name this one as its parent if it goes on from there")
            }
            None => error,
        },
        (Expected::Stated(Expectation::Exists(id)), Found::Absent { .. }) if id.collection.as_str() == Run::COLLECTION.name() => {
            Error::not_found(format!("run {} does not exist", id.key))
                .with_next("start it first; millpond runs list shows what there is")
        }
        _ => error,
    }
}

/// True when a run's log was found sealed.
pub(super) fn is_sealed(error: &Error) -> bool {
    error.as_conflict().is_some_and(|c| matches!(c.expected, Expected::Open(_)))
}
