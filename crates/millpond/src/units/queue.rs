//! What a unit wants to register, and what it has registered.
//!
//! Everything that waits goes in one commit. Its caller may be dropped before it hears the answer: the entries of that
//! commit stay *unheard* until the store was asked, and until then nothing is decided for the unit.

use std::collections::{BTreeMap, BTreeSet};

use millpond_core::{Error, ErrorKind};

use super::model::{OperationStatus, UnitOperation};
use super::steps::Entry;
use crate::text;

/// Operations that are registered with one commit: each is up to three of its 4,096 operations.
const TOGETHER: usize = 1_000;

/// Operations of a unit. Its decision has at most 4,096, and so has the commit that aborts it: each puts back a claim.
pub(super) const OPERATIONS: u32 = 1_000;

/// Bytes of arguments of steps that are registered with one commit, which has 8 MiB for all there is.
const TOGETHER_BYTES: usize = 4 << 20;

/// Bytes that are kept of why an operation brought nothing: a thousand of them fit the deciding commit beside their paths.
const REASON_BYTES: usize = 1 << 10;

/// What waits and what is registered.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
    registered: Vec<UnitOperation>,
    /// Paths that the unit has a claim on.
    claimed: BTreeSet<String>,
    /// The number that was given out last.
    last: u32,
    /// Operations that were refused, for those who asked for them.
    refused: BTreeMap<u32, Error>,
    /// Operations that did all they have to do before the decision.
    finished: BTreeSet<u32>,
    /// Why others brought nothing.
    failures: BTreeMap<u32, String>,
    /// It is being decided, or undone: nothing joins it any more.
    closed: bool,
    /// Why the unit cannot be committed any more.
    pub(super) failed: Option<Error>,
}

#[derive(Debug)]
struct Waiting {
    operation: UnitOperation,
    /// It was sent, and nobody stayed for the answer.
    unheard: bool,
}

/// What is sent together.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Numbers of those that were sent before.
    pub(super) unheard: BTreeSet<u32>,
}

impl Queue {
    /// Nothing joins the unit from here on.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether nothing joins it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// An operation did what it has to do before the decision. False when that began without it.
    pub(super) fn finish(&mut self, number: u32) -> bool {
        if !self.closed {
            self.finished.insert(number);
        }
        !self.closed
    }

    /// An operation brought nothing, and why.
    pub(super) fn fail(&mut self, number: u32, error: &Error) {
        self.failures.insert(number, text::cut(&error.to_string(), REASON_BYTES).to_owned());
    }

    /// Operations that are registered and are no part of what is decided, as they stand then.
    pub(super) fn left_out(&self) -> Vec<UnitOperation> {
        let left_out = self.registered.iter().filter(|operation| !self.finished.contains(&operation.number));
        let failed = left_out.map(|operation| {
            let why = self.failures.get(&operation.number).cloned();
            let error = why.unwrap_or_else(|| "its unit was decided before it was finished".to_owned());
            UnitOperation { status: OperationStatus::Failed, error: Some(error), ..operation.clone() }
        });
        failed.collect()
    }

    /// Refuses what waits and was never sent. Only who has the turn may: what is on its way is counted from the front.
    pub(super) fn refuse_waiting(&mut self, error: &Error) {
        let refused = self.waiting.iter().filter(|waiting| !waiting.unheard).map(|waiting| waiting.operation.number);
        self.refused.extend(refused.map(|number| (number, error.duplicate())));
        self.waiting.retain(|waiting| waiting.unheard);
    }

    /// Whether there is no room for a further operation.
    pub(super) fn is_full(&self) -> bool {
        self.last >= OPERATIONS
    }

    /// The number of the next operation.
    pub(super) fn next_number(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    /// An operation waits.
    pub(super) fn push(&mut self, operation: UnitOperation) {
        self.waiting.push(Waiting { operation, unheard: false });
    }

    /// An operation that is registered; `None` while it waits.
    ///
    /// # Errors
    /// Why it was refused.
    pub(super) fn done(&mut self, number: u32) -> Result<Option<UnitOperation>, Error> {
        if let Some(error) = self.refused.remove(&number) {
            return Err(error);
        }
        Ok(self.registered.iter().rev().find(|o| o.number == number).cloned())
    }

    /// Whether something waits, or the answer to it.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the answer to something that was sent is not known.
    pub(super) fn is_unheard(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.unheard)
    }

    /// Paths that the unit has a claim on.
    pub(super) fn claimed(&self) -> Vec<String> {
        self.claimed.iter().cloned().collect()
    }

    /// What is to be sent now. The first operation of a path claims it, unless the unit has it.
    pub(super) fn send(&mut self) -> Batch {
        let mut paths: BTreeSet<&str> = BTreeSet::new();
        let mut batch = Batch { entries: Vec::new(), unheard: BTreeSet::new() };
        let mut room = TOGETHER_BYTES;
        for Waiting { operation, unheard } in self.waiting.iter().take(TOGETHER) {
            let bytes = operation.args.as_ref().map_or(0, |args| args.to_string().len());
            if bytes > room && !batch.entries.is_empty() {
                break;
            }
            room = room.saturating_sub(bytes);
            let path = operation.path.as_str();
            let claims = operation.kind.claims() && !self.claimed.contains(path) && paths.insert(path);
            batch.entries.push(Entry { operation: operation.clone(), claims });
            if *unheard {
                batch.unheard.insert(operation.number);
            }
        }
        batch
    }

    /// It is being sent: until there is an answer nobody knows whether it arrived.
    pub(super) fn sent(&mut self, batch: &Batch) {
        self.mark(batch, true);
    }

    /// There was an answer: what was sent for the first time is as if it had not been sent.
    pub(super) fn heard(&mut self, batch: &Batch) {
        self.mark(batch, false);
    }

    fn mark(&mut self, batch: &Batch, unheard: bool) {
        for waiting in self.waiting.iter_mut().take(batch.entries.len()) {
            waiting.unheard = unheard || batch.unheard.contains(&waiting.operation.number);
        }
    }

    /// These are in the store.
    pub(super) fn register(&mut self, batch: Batch, numbers: &BTreeSet<u32>) {
        self.waiting.retain(|waiting| !numbers.contains(&waiting.operation.number));
        for Entry { operation, claims } in batch.entries {
            if numbers.contains(&operation.number) {
                if claims {
                    self.claimed.insert(operation.path.clone());
                }
                self.registered.push(operation);
            }
        }
    }

    /// Refuses the operation that an error names, or, where it names none, all of the batch; none whose first sending
    /// may have arrived.
    pub(super) fn refuse(&mut self, batch: &Batch, error: &Error) {
        let path = error.context().find(|(name, _)| *name == "path").map(|(_, path)| path.to_owned());
        let named = path.and_then(|path| batch.entries.iter().find(|e| e.claims && e.operation.path == path));
        let refused: BTreeSet<u32> = match named {
            Some(entry) => BTreeSet::from([entry.operation.number]),
            None => batch.entries.iter().map(|entry| entry.operation.number).collect(),
        };
        // Whether something was registered is not known, or the unit is another's: it will not be committed.
        let is_over = matches!(error.kind(), ErrorKind::UnknownOutcome | ErrorKind::Fenced);
        if is_over {
            self.failed.get_or_insert_with(|| error.duplicate());
        }
        for number in &refused {
            self.refused.insert(*number, error.duplicate());
        }
        self.waiting.retain(|waiting| !refused.contains(&waiting.operation.number) || (waiting.unheard && !is_over));
    }
}
