//! Pins as parts of commits: set, taken out, and expected not to be there.

use millpond_core::{Commit, Document, Error, Expectation, Expected, Records, Result, Store, Versioned, Write};

use super::model::{ExecutionPins, PINS_OF_EXECUTION, Pin};
use crate::text::key_segment;

/// What a commit expects that takes something away from an execution.
pub(crate) fn unpinned(execution: &str) -> Result<Expectation> {
    Ok(Expectation::Absent(Records::<ExecutionPins>::id(&key_segment(execution))?))
}

/// Sets a pin, beside those that were found.
///
/// # Errors
/// `Invalid` when the pin breaks a rule; `Conflict` when there are too many.
pub(crate) fn with(execution: &str, found: Option<&Versioned<ExecutionPins>>, pin: Pin) -> Result<Commit> {
    pin.check()?;
    let id = Records::<ExecutionPins>::id(&key_segment(execution))?;
    let commit = Commit::new().trusted().expect(crate::prune::open(execution)?);
    let (commit, mut pins, extra) = match found {
        None => (commit.expect(Expectation::Absent(id)), Vec::new(), crate::extra::Extra::new()),
        Some(found) => {
            let ExecutionPins { pins, extra, .. } = found.value.clone();
            (commit.expect(Expectation::Revision(id, found.revision)), pins, extra)
        }
    };
    if pins.len() >= PINS_OF_EXECUTION {
        return Err(Error::conflict(format!("execution {execution} has {} pins already; more are not kept", pins.len()))
            .with_next(format!("take out those that nobody needs: millpond pins show {execution}")));
    }
    pins.push(pin);
    Ok(commit.write(Records::put(&ExecutionPins::of(execution, pins, extra))?))
}

/// Takes a pin out of those that were found, and the record with the last one. `None` when it is not among them.
///
/// # Errors
/// `Invalid` when the name of the execution breaks a rule.
pub(crate) fn without(found: &Versioned<ExecutionPins>, pin: &str) -> Result<Option<(Pin, Commit)>> {
    let execution = &found.value.execution;
    let id = Records::<ExecutionPins>::id(&key_segment(execution))?;
    let (out, left): (Vec<Pin>, Vec<Pin>) = found.value.pins.iter().cloned().partition(|p| p.id == pin);
    let Some(out) = out.into_iter().next() else { return Ok(None) };
    let commit = Commit::new().trusted().expect(Expectation::Revision(id.clone(), found.revision));
    let write = if left.is_empty() {
        Write::Delete(id)
    } else {
        Records::put(&ExecutionPins::of(execution, left, found.value.extra.clone()))?
    };
    Ok(Some((out, commit.write(write))))
}

/// Whether a commit was refused because somebody else changed the pins of an execution meanwhile.
pub(crate) fn changed(error: &Error) -> bool {
    error.as_conflict().is_some_and(|conflict| match &conflict.expected {
        Expected::Stated(Expectation::Absent(record) | Expectation::Revision(record, _)) => {
            record.collection.as_str() == ExecutionPins::COLLECTION.name()
        }
        _ => false,
    })
}

/// Says of a refusal that a pin was the reason, whose it is and what for, or that the execution was written off. The
/// store is that of the pins: a conflict only says that there is one.
pub(crate) async fn explained(store: &Store, error: Error) -> Error {
    let execution = match error.as_conflict().map(|conflict| &conflict.expected) {
        Some(Expected::Stated(Expectation::Absent(record))) if record.collection.as_str() == ExecutionPins::COLLECTION.name() => {
            crate::text::of_key_segment(record.key.as_str())
        }
        _ => return crate::prune::explain(error),
    };
    match Records::<ExecutionPins>::new(store.clone()).get(&key_segment(&execution)).await {
        Ok(Some(pins)) => said(error, &pins.value),
        // Taken out since, or not to be had: what was refused stays the error.
        _ => error
            .saying(format!("execution {execution} is pinned, or was a moment ago: nothing of it was deleted"))
            .with("execution", &execution)
            .with_next(format!("see by whom, or try again: millpond pins show {execution}")),
    }
}

/// The refusal to take something away from an execution with these pins.
pub(crate) fn refusal(pins: &ExecutionPins) -> Error {
    said(Error::conflict("it is pinned"), pins)
}

/// What an error about these pins says: the oldest one, its holder and reason, and how many more there are.
fn said(error: Error, pins: &ExecutionPins) -> Error {
    let execution = &pins.execution;
    let Some(first) = pins.pins.first() else { return error };
    let more = match pins.pins.len() {
        1 => String::new(),
        many => format!(", and {} more", many - 1),
    };
    let Pin { id, holder, reason, at } = first;
    error
        .saying(format!("execution {execution} is pinned by {holder} ({reason}){more}: nothing of it is deleted"))
        .with("execution", execution)
        .with("pin", id)
        .with("by", holder)
        .with("since", at)
        .with_next(format!("ask {holder}, or see all its pins: millpond pins show {execution}"))
}
