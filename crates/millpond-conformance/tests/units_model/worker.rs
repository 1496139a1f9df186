//! The process that works on a unit: begin, register, upload, decide, hear or not hear, undo.

use crate::defect::Defect;
use crate::model::{Action, Fate, UnitsModel};
use crate::scenario::{Bits, bit, members};
use crate::state::{OWN, Standing, State, Undoing, Unit, Worker, moment};

/// What the store answers to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Committed,
    Refused,
}

impl UnitsModel {
    pub(crate) fn worker_actions(&self, state: &State, unit: usize, actions: &mut Vec<Action>) {
        match state.workers[unit] {
            Worker::Idle => actions.push(Action::Begin(unit)),
            Worker::Working => {
                actions.extend([Action::Register(unit), Action::Look(unit), Action::GiveUp(unit)]);
                actions.extend([Action::Decide(unit, Fate::Heard), Action::Decide(unit, Fate::Unheard)]);
                match self.defect {
                    Some(Defect::ClaimsGoBeforeTheDecision) => actions.push(Action::Tidy(unit)),
                    Some(Defect::DecidesTwice) => actions.push(Action::DecideHalf(unit)),
                    _ => {}
                }
            }
            Worker::Unsure => actions.extend([Action::Ask(unit), Action::GiveUp(unit), Action::Decide(unit, Fate::Heard)]),
            Worker::Undoing(..) => actions.extend([Action::Undo(unit, Fate::Heard), Action::Undo(unit, Fate::Unheard)]),
            Worker::Tidying => actions.push(Action::Tidy(unit)),
            Worker::Over => {}
        }
        if state.decisions & bit(unit) != 0 {
            actions.push(Action::DecisionArrives(unit));
        }
    }

    /// One commit: the lease, the unit, its first operations and their claims, expecting the floor and free paths. Bytes
    /// are on their way from here on. Without its answer nobody could go on, so a lost one is a process that waits.
    ///
    /// Of a short put only the bytes are on their way: no record, no claim, and no look at the floor.
    pub(crate) fn begin(&self, state: &mut State, unit: usize) -> bool {
        if self.scenario.is_short(unit) {
            state.registered |= self.scenario.of(unit);
            state.workers[unit] = Worker::Working;
            return true;
        }
        let operations = self.scenario.of(unit) & self.scenario.at_once();
        let minds_the_floor = !self.has(Defect::BeginsBelowTheFloor) && !self.has(Defect::MindsNoFloor);
        let is_late = state.floor > moment(unit) && minds_the_floor;
        if operations == 0 || state.units[unit].standing != Standing::Unknown || is_late {
            return false;
        }
        state.units[unit] = Unit { standing: Standing::Pending, token: OWN, held: true };
        state.workers[unit] = Worker::Working;
        self.claim(state, unit, operations)
    }

    /// One commit, fenced: the operations that were not registered at once, and their claims.
    pub(crate) fn register(&self, state: &mut State, unit: usize) -> bool {
        let operations = self.scenario.of(unit) & !state.registered;
        let is_refused = !state.has_lease(unit, OWN) && !self.has(Defect::RegistersWithoutFence);
        operations != 0 && !is_refused && self.claim(state, unit, operations)
    }

    fn claim(&self, state: &mut State, unit: usize, operations: Bits) -> bool {
        let paths = || members(operations).map(|number| self.scenario.operations[number].path);
        if paths().any(|path| state.claims[path].is_some()) && !self.has(Defect::ClaimsAreNotExclusive) {
            return false;
        }
        for path in paths() {
            state.claims[path] = u8::try_from(unit).ok();
        }
        state.registered |= operations;
        true
    }

    /// A copy reads which version its source has.
    pub(crate) fn look(&self, state: &mut State, unit: usize) -> bool {
        let Some(path) = self.scenario.copied_by(unit) else { return false };
        if state.seen.is_some() {
            return false;
        }
        state.seen = state.artifacts[path];
        true
    }

    /// Bytes of an operation arrive: for the first time, or once more, whatever became of their unit.
    pub(crate) fn arrive(&self, state: &mut State, number: usize) -> bool {
        let unit = self.scenario.operations[number].unit;
        state.objects |= bit(number);
        if state.workers[unit] == Worker::Working {
            state.arrived |= bit(number);
        }
        true
    }

    /// One commit, or the sending of it: what is not heard of may be decided at any later time.
    pub(crate) fn decide(&self, state: &mut State, unit: usize, fate: Fate) -> bool {
        if !self.is_ready(state, unit) {
            return false;
        }
        state.workers[unit] = match fate {
            Fate::Unheard => {
                state.decisions |= bit(unit);
                Worker::Unsure
            }
            Fate::Heard => match self.decision(state, unit) {
                Answer::Committed if self.has(Defect::ClaimsGoAfterTheDecision) => Worker::Tidying,
                Answer::Committed => Worker::Over,
                Answer::Refused => self.undoing_own(state, unit),
            },
        };
        true
    }

    /// A decision that was on its way is decided.
    pub(crate) fn decision_arrives(&self, state: &mut State, unit: usize) -> bool {
        self.decision(state, unit) == Answer::Committed
    }

    /// Everything is registered, every byte has arrived, and what is copied is known.
    fn is_ready(&self, state: &State, unit: usize) -> bool {
        let operations = self.scenario.of(unit);
        let has_looked = self.scenario.copied_by(unit).is_none() || state.seen.is_some();
        operations & !state.registered == 0 && operations & self.scenario.puts() & !state.arrived == 0 && has_looked
    }

    /// What the store makes of a decision.
    fn decision(&self, state: &mut State, unit: usize) -> Answer {
        let standing = state.units[unit].standing;
        // Its id is the unit's: what was applied is answered again.
        if standing == Standing::Committed {
            return Answer::Committed;
        }
        if self.scenario.is_short(unit) {
            return self.short_decision(state, unit);
        }
        let is_taken_over = !state.has_lease(unit, OWN) && !self.has(Defect::DecidesWithoutFence);
        let is_source_gone = self.scenario.copied_by(unit).is_some()
            && state.seen.is_none_or(|seen| state.versions & bit(seen.into()) == 0)
            && !self.has(Defect::CopiesBlindly);
        let is_late = state.floor > moment(unit) && !self.defect.is_some_and(Defect::decides_below_the_floor);
        if is_taken_over || is_source_gone || is_late {
            return Answer::Refused;
        }
        state.decided_twice |= standing != Standing::Pending;
        state.units[unit].standing = Standing::Committed;
        state.units[unit].held = false;
        self.publish(state, self.scenario.of(unit));
        if !self.has(Defect::ClaimsGoAfterTheDecision) {
            state.free_claims(unit);
        }
        Answer::Committed
    }

    /// The same for a short put: it expects that nobody has the path, and the floor. An abort has used its id.
    fn short_decision(&self, state: &mut State, unit: usize) -> Answer {
        let is_aborted = state.units[unit].standing == Standing::Aborted;
        let is_claimed = members(self.scenario.of(unit)).any(|put| state.claims[self.scenario.operations[put].path].is_some());
        let is_late = state.floor > moment(unit) && !self.defect.is_some_and(Defect::decides_below_the_floor);
        let is_refused = is_aborted && !self.has(Defect::ShortAbortsUnderAnotherId)
            || is_claimed && !self.has(Defect::ShortMindsNoClaim)
            || is_late;
        if is_refused {
            return Answer::Refused;
        }
        state.trespassed |= is_claimed;
        state.decided_twice |= is_aborted;
        state.units[unit].standing = Standing::Committed;
        self.publish(state, self.scenario.of(unit));
        Answer::Committed
    }

    fn publish(&self, state: &mut State, operations: Bits) {
        for number in members(operations) {
            state.artifacts[self.scenario.operations[number].path] = u8::try_from(number).ok();
        }
        state.versions |= operations;
    }

    /// Defective: the first of a unit's operations is published by a commit of its own.
    pub(crate) fn decide_half(&self, state: &mut State, unit: usize) -> bool {
        let can = self.is_ready(state, unit) && state.has_lease(unit, OWN);
        let first = members(self.scenario.of(unit)).next().map_or(0, bit);
        if can {
            self.publish(state, first);
        }
        can
    }

    /// Asks for the receipt. Where there is none, the decision is sent again, or the unit given up.
    pub(crate) fn ask(&self, state: &mut State, unit: usize) -> bool {
        state.workers[unit] = Worker::Over;
        state.units[unit].standing == Standing::Committed
    }

    /// Rolls back, also when it did not hear what became of its decision.
    pub(crate) fn give_up(&self, state: &mut State, unit: usize) -> bool {
        state.workers[unit] = self.undoing_own(state, unit);
        true
    }

    /// One commit: the lease anew, from its own token, so that what it sent under that is refused however late it comes.
    ///
    /// Of a short put, under the id of its decision, unless no decision was sent: that it was aborted.
    fn undoing_own(&self, state: &mut State, unit: usize) -> Worker {
        let is_committed = state.units[unit].standing == Standing::Committed;
        if self.scenario.is_short(unit) {
            let was_sent = state.workers[unit] == Worker::Unsure || state.decisions & bit(unit) != 0;
            if self.has(Defect::ShortGoesWithoutAbort) {
                return Worker::Undoing(OWN, Undoing::Remove(self.scenario.of(unit)));
            }
            if is_committed {
                return Worker::Over;
            }
            if was_sent {
                state.units[unit].standing = Standing::Aborted;
            }
            return Worker::Undoing(OWN, Undoing::Remove(self.scenario.of(unit)));
        }
        if is_committed || !state.has_lease(unit, OWN) {
            return Worker::Over;
        }
        let token = if self.has(Defect::UndoesUnderTheOldToken) { OWN } else { state.take_lease(unit) };
        Worker::Undoing(token, self.first_step(state, unit))
    }

    /// One more step of undoing its own unit.
    pub(crate) fn undo_own(&self, state: &mut State, unit: usize, fate: Fate) -> bool {
        let Worker::Undoing(token, at) = state.workers[unit] else { return false };
        let Some(next) = self.undo(state, unit, token, at, fate) else { return false };
        state.workers[unit] = next.map_or(Worker::Over, |at| Worker::Undoing(token, at));
        true
    }

    /// Defective: the claims go in a commit of their own.
    pub(crate) fn tidy(&self, state: &mut State, unit: usize) -> bool {
        if state.workers[unit] == Worker::Tidying {
            state.workers[unit] = Worker::Over;
        } else if !self.is_ready(state, unit) {
            return false;
        }
        state.free_claims(unit);
        true
    }
}
