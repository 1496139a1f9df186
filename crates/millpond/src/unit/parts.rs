//! The domains as a unit sees them: each call adds a part, none reaches the store.

use millpond_core::{Commit, NewEvent, Result, Versioned};
use serde::Serialize;

use super::Unit;
use crate::{
    Action, Execution, LineageEnd, LineageRow, LineageStatus, NewCheckpoint, NewFeedback, NewLineage, NewPattern, RunEnd, Scope,
    Step,
};

/// One part of a unit.
#[derive(Debug)]
pub(super) enum Part {
    /// Worked out already.
    Ready(Commit),
    /// Gets its number when the unit is committed.
    Checkpoint(String, NewCheckpoint),
    /// Left out if the store counted it before.
    Execution(Execution),
}

/// Events of one stream.
#[derive(Debug)]
pub struct UnitEvents<'u> {
    unit: &'u mut Unit,
    stream: String,
}

impl<'u> UnitEvents<'u> {
    pub(super) fn new(unit: &'u mut Unit, stream: String) -> Self {
        Self { unit, stream }
    }

    /// Appends an event of a type, with a body.
    pub fn append(&mut self, kind: impl Into<String>, data: &(impl Serialize + ?Sized)) -> &mut Self {
        match NewEvent::of(kind, data) {
            Ok(event) => self.event(event),
            Err(error) => {
                self.unit.fail(error);
                self
            }
        }
    }

    /// Appends an event.
    pub fn event(&mut self, event: NewEvent) -> &mut Self {
        let part = event.check().and_then(|()| Commit::new().trusted().append(&self.stream, event));
        self.unit.push(part);
        self
    }
}

/// What happened in runs.
#[derive(Debug)]
pub struct UnitRuns<'u> {
    unit: &'u mut Unit,
}

impl<'u> UnitRuns<'u> {
    pub(super) fn new(unit: &'u mut Unit) -> Self {
        Self { unit }
    }

    /// A step began.
    pub fn step_started(&mut self, run: &str, step: impl Into<Step>) -> &mut Self {
        let part = self.unit.pond.runs().step_started_part(run, &step.into());
        self.unit.push(part);
        self
    }

    /// A step reached its end.
    pub fn step_completed(&mut self, run: &str, step: impl Into<Step>) -> &mut Self {
        let part = self.unit.pond.runs().step_completed_part(run, &step.into());
        self.unit.push(part);
        self
    }

    /// A step ended with an error.
    pub fn step_failed(&mut self, run: &str, step: impl Into<Step>) -> &mut Self {
        let part = self.unit.pond.runs().step_failed_part(run, &step.into());
        self.unit.push(part);
        self
    }

    /// A step did something.
    pub fn action(&mut self, run: &str, action: &Action) -> &mut Self {
        let part = self.unit.pond.runs().action_part(run, action);
        self.unit.push(part);
        self
    }

    /// The run ends with this unit.
    pub fn finish(&mut self, run: &str, end: RunEnd) -> &mut Self {
        let part = self.unit.pond.runs().finish_part(run, end);
        self.unit.push(part);
        self
    }
}

/// Checkpoints of one scope.
#[derive(Debug)]
pub struct UnitCheckpoints<'u> {
    unit: &'u mut Unit,
    scope: Scope,
}

impl<'u> UnitCheckpoints<'u> {
    pub(super) fn new(unit: &'u mut Unit, scope: Scope) -> Self {
        Self { unit, scope }
    }

    /// Saves anything serialisable as the next version.
    pub fn save(&mut self, payload: &(impl Serialize + ?Sized)) -> &mut Self {
        match NewCheckpoint::json(payload) {
            Ok(new) => self.save_new(new),
            Err(error) => {
                self.unit.fail(error);
                self
            }
        }
    }

    /// Saves a checkpoint with a note or metadata, or one of bytes.
    pub fn save_new(&mut self, new: NewCheckpoint) -> &mut Self {
        self.unit.parts.push(Part::Checkpoint(self.scope.name(), new));
        self
    }
}

/// Figures, patterns and feedback.
#[derive(Debug)]
pub struct UnitMetrics<'u> {
    unit: &'u mut Unit,
}

impl<'u> UnitMetrics<'u> {
    pub(super) fn new(unit: &'u mut Unit) -> Self {
        Self { unit }
    }

    /// Counts a run, once.
    pub fn record(&mut self, execution: Execution) -> &mut Self {
        self.unit.parts.push(Part::Execution(execution));
        self
    }

    /// Records an observation of a pattern.
    pub fn pattern(&mut self, pattern: &NewPattern) -> &mut Self {
        let part = self.unit.pond.metrics().record_pattern_part(pattern);
        self.unit.push(part);
        self
    }

    /// Adds feedback.
    pub fn feedback(&mut self, feedback: NewFeedback) -> &mut Self {
        let part = self.unit.pond.metrics().add_feedback_part(feedback).map(|(_, part)| part);
        self.unit.push(part);
        self
    }
}

/// Lineage: rows of what was done, and what they came from.
#[derive(Debug)]
pub struct UnitLineage<'u> {
    unit: &'u mut Unit,
}

impl<'u> UnitLineage<'u> {
    pub(super) fn new(unit: &'u mut Unit) -> Self {
        Self { unit }
    }

    /// A piece of work begins with this unit.
    pub fn start(&mut self, new: NewLineage) -> &mut Self {
        let part = self.unit.pond.lineage().start_part(new);
        self.row(part)
    }

    /// A row that is written all at once.
    pub fn record(&mut self, new: NewLineage) -> &mut Self {
        let part = self.unit.pond.lineage().record_part(new);
        self.row(part)
    }

    /// A piece of work was done; the unit is refused unless its row is still as it was read.
    pub fn complete(&mut self, row: &Versioned<LineageRow>, end: LineageEnd) -> &mut Self {
        self.moved(row, LineageStatus::Completed, end)
    }

    /// A piece of work failed.
    pub fn fail(&mut self, row: &Versioned<LineageRow>, end: LineageEnd) -> &mut Self {
        self.moved(row, LineageStatus::Failed, end)
    }

    /// A piece of work was given up.
    pub fn cancel(&mut self, row: &Versioned<LineageRow>, end: LineageEnd) -> &mut Self {
        self.moved(row, LineageStatus::Cancelled, end)
    }

    /// A row that is there already came from another one, too. One that this unit records says so itself, with
    /// [`NewLineage::derived_from`].
    pub fn link(&mut self, child: &str, parent: &str, kind: &str) -> &mut Self {
        let part = self.unit.pond.lineage().link_part(child, parent, kind);
        self.unit.push(part);
        self
    }

    fn moved(&mut self, row: &Versioned<LineageRow>, status: LineageStatus, end: LineageEnd) -> &mut Self {
        let part = self.unit.pond.lineage().move_part(row, status, end);
        self.row(part)
    }

    fn row(&mut self, part: Result<(LineageRow, Commit)>) -> &mut Self {
        self.unit.push(part.map(|(_, part)| part));
        self
    }
}
