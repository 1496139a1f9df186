//! The steps, put together: any process may make its next one at any moment, or never.

use stateright::{Model, Property};

use crate::defect::Defect;
use crate::properties;
use crate::scenario::{Scenario, UNITS, bit, members};
use crate::state::{OWN, Standing, State, Worker};

/// What a process knows of a commit that it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was decided, and the answer came back.
    Heard,
    /// It was decided, or will be, or never is.
    Unheard,
}

/// What the collector asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Which units are not over?
    Units,
    /// Which locations do records name?
    Names,
}

/// One step of one process, or of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Begin(usize),
    Register(usize),
    Look(usize),
    Arrive(usize),
    Decide(usize, Fate),
    DecideHalf(usize),
    DecisionArrives(usize),
    Ask(usize),
    GiveUp(usize),
    Undo(usize, Fate),
    Tidy(usize),
    Take(usize, usize),
    Step(usize, Fate),
    Purge(usize),
    Collect(usize),
    Question(usize, Question),
}

/// The protocol of a unit, with one cast and at most one defect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitsModel {
    pub(crate) scenario: Scenario,
    pub(crate) defect: Option<Defect>,
}

impl UnitsModel {
    pub(crate) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// Makes a step; false where it cannot be made.
    fn make(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::Begin(unit) => self.begin(state, unit),
            Action::Register(unit) => self.register(state, unit),
            Action::Look(unit) => self.look(state, unit),
            Action::Arrive(number) => self.arrive(state, number),
            Action::Decide(unit, fate) => self.decide(state, unit, fate),
            Action::DecideHalf(unit) => self.decide_half(state, unit),
            Action::DecisionArrives(unit) => self.decision_arrives(state, unit),
            Action::Ask(unit) => self.ask(state, unit),
            Action::GiveUp(unit) => self.give_up(state, unit),
            Action::Undo(unit, fate) => self.undo_own(state, unit, fate),
            Action::Tidy(unit) => self.tidy(state, unit),
            Action::Take(taker, unit) => self.take(state, taker, unit),
            Action::Step(taker, fate) => self.step(state, taker, fate),
            Action::Purge(version) => self.purge(state, version),
            Action::Collect(collector) => self.collect(state, collector),
            Action::Question(collector, question) => self.question(state, collector, question),
        }
    }

    /// Forgets what can make no difference any more, so that states that differ in nothing else are one.
    fn forget(&self, state: &mut State) {
        for unit in 1..UNITS {
            if !matches!(state.workers[unit], Worker::Working | Worker::Unsure) {
                state.arrived &= !self.scenario.of(unit);
            }
            let is_refused = if self.scenario.is_short(unit) {
                state.units[unit].standing == Standing::Aborted && !self.has(Defect::ShortAbortsUnderAnotherId)
            } else {
                !state.has_lease(unit, OWN) && !self.has(Defect::DecidesWithoutFence)
            };
            if state.units[unit].standing == Standing::Committed || is_refused {
                state.decisions &= !bit(unit);
            }
        }
    }
}

impl Model for UnitsModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(&self.scenario)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for unit in 1..UNITS {
            self.worker_actions(state, unit, actions);
        }
        // Those of what was there before arrived long ago.
        let on_their_way = state.registered & self.scenario.puts() & !self.scenario.of(0);
        actions.extend(members(on_their_way).map(Action::Arrive));
        for taker in 0..self.scenario.takers {
            self.taker_actions(state, taker, actions);
        }
        for collector in 0..self.scenario.collectors {
            self.collector_actions(state, collector, actions);
        }
        if self.scenario.purges {
            actions.extend(members(state.versions).map(Action::Purge));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let made = self.make(&mut next, action);
        self.forget(&mut next);
        (made && next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(&self.scenario)
    }
}
