//! The collector: raises the floor, asks how the units stand and who names what, and removes the rest.
//!
//! It asks who names an object after it knows how the object's unit stands, and nothing that it relies on is older than
//! its own raising of the floor. The floor is for units without a record; one that has a record is judged by that. When it
//! listed the objects plays no part: here it may try any location, listed or not, at any time, which is more than a
//! collector does that tries what it listed.

use crate::defect::Defect;
use crate::model::{Action, Question, UnitsModel};
use crate::scenario::{Bits, UNITS, bit, members};
use crate::state::{Asked, Collector, Standing, State, moment};

impl UnitsModel {
    pub(crate) fn collector_actions(&self, state: &State, collector: usize, actions: &mut Vec<Action>) {
        match state.collectors[collector] {
            Collector::Over => {}
            Collector::Sweep { asked, .. } if !asked.all() => {
                actions.extend([Question::Units, Question::Names].map(|question| Action::Question(collector, question)));
            }
            _ => actions.push(Action::Collect(collector)),
        }
    }

    /// The next step that is not a question.
    pub(crate) fn collect(&self, state: &mut State, collector: usize) -> bool {
        state.collectors[collector] = match state.collectors[collector] {
            // One commit: the lease, whoever had it. And a look at the units.
            Collector::Idle => {
                state.collecting += 1;
                self.measured(state)
            }
            // One commit, fenced.
            Collector::Raise { token, floor, left, asked } => {
                if token != state.collecting && !self.has(Defect::RaisesWithoutFence) {
                    state.collectors[collector] = Collector::Over;
                    return true;
                }
                // Who has no fence cannot know that another raised it further.
                state.floor = if self.has(Defect::RaisesWithoutFence) { floor } else { state.floor.max(floor) };
                // What a unit without a record wrote is told apart once it is asked how the units stand.
                if asked.units { swept(left & self.below_floor(state), asked) } else { swept(left, asked) }
            }
            Collector::Sweep { left, asked } => {
                let first = members(left).next().map_or(0, bit);
                self.remove(state, first);
                swept(left & !first, asked)
            }
            Collector::Over => return false,
        };
        true
    }

    /// What it takes with it to the raising of the floor.
    fn measured(&self, state: &State) -> Collector {
        let floor = state.pending_units().next().map_or_else(|| moment(UNITS), moment);
        let all = self.scenario.puts();
        let (left, units, names) = match self.defect {
            Some(Defect::LooksBeforeTheFloor | Defect::LooksBeforeTheFloorAndDecidesBelowIt) => {
                (all & !state.of_open_units(&self.scenario) & !state.named_now(&self.scenario), true, true)
            }
            Some(Defect::TrustsItsListing) => (all & state.objects, true, true),
            Some(Defect::AsksOnlyForNames) => (all, true, false),
            _ => (all, false, false),
        };
        Collector::Raise { token: state.collecting, floor, left, asked: Asked { units, names } }
    }

    /// Operations of units that can neither begin nor be decided any more, if they are not known.
    fn below_floor(&self, state: &State) -> Bits {
        let is_below = |number: &usize| moment(self.scenario.operations[*number].unit) < state.floor;
        members(self.scenario.puts()).filter(is_below).fold(0, |all, number| all | bit(number))
    }

    /// Asks one thing of all that is left.
    pub(crate) fn question(&self, state: &mut State, collector: usize, question: Question) -> bool {
        let Collector::Sweep { left, asked } = state.collectors[collector] else { return false };
        let is_names_first = self.defect.is_some_and(Defect::asks_for_names_first);
        let (can, left, asked) = match question {
            Question::Units => (
                !asked.units && asked.names == is_names_first,
                left & !state.of_open_units(&self.scenario) & (state.of_known_units(&self.scenario) | self.below_floor(state)),
                Asked { units: true, ..asked },
            ),
            Question::Names => (
                !asked.names && asked.units != is_names_first,
                left & !state.named_now(&self.scenario),
                Asked { names: true, ..asked },
            ),
        };
        if can {
            state.collectors[collector] = swept(left, asked);
        }
        can
    }

    fn remove(&self, state: &mut State, location: Bits) {
        for number in members(location & state.objects) {
            let unit = self.scenario.operations[number].unit;
            state.live_bytes_gone |= state.units[unit].standing == Standing::Pending;
        }
        state.objects &= !location;
    }

    /// One commit that expects that this is not the newest version: an old version is forgotten.
    pub(crate) fn purge(&self, state: &mut State, version: usize) -> bool {
        let is_newest = state.artifacts.iter().any(|newest| newest.is_some_and(|newest| usize::from(newest) == version));
        state.versions &= !bit(version);
        !is_newest
    }
}

/// Where the collector is with this much left.
fn swept(left: Bits, asked: Asked) -> Collector {
    if left == 0 { Collector::Over } else { Collector::Sweep { left, asked } }
}

impl Asked {
    pub(crate) fn all(self) -> bool {
        self.units && self.names
    }
}
