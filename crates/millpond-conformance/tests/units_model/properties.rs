//! What is promised, and what has to be possible so that the promises say something.

use stateright::Property;

use crate::model::{Fate, Question, UnitsModel};
use crate::scenario::{PATHS, Scenario, UNITS, What, bit, members};
use crate::state::{Collector, Standing, State, Undoing, Worker};

/// What holds in every state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    BytesAreThere,
    DecidedOnce,
    AllOrNothing,
    OneHolder,
    NothingLeft,
    LiveBytesStay,
    NobodyTrespasses,
}

impl Promise {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BytesAreThere => "no record names bytes that are not there",
            Self::DecidedOnce => "what was aborted is not decided, and what was decided is not aborted",
            Self::AllOrNothing => "a unit's paths change all at once or not at all",
            Self::OneHolder => "no two units that can still decide hold one path",
            Self::NothingLeft => "whoever comes last finds everything, and leaves nothing over",
            Self::LiveBytesStay => "the collector takes no bytes of a unit that is being worked on",
            Self::NobodyTrespasses => "nobody writes a path that a unit holds",
        }
    }
}

/// The promises, and the sights that a scenario has to offer.
pub(crate) fn of(scenario: &Scenario) -> Vec<Property<UnitsModel>> {
    let mut all = vec![
        Property::always(Promise::BytesAreThere.name(), |model: &UnitsModel, state: &State| {
            state.named_now(&model.scenario) & !state.objects == 0
        }),
        Property::always(Promise::DecidedOnce.name(), |_, state: &State| !state.decided_twice),
        Property::always(Promise::AllOrNothing.name(), all_or_nothing),
        Property::always(Promise::OneHolder.name(), one_holder),
        Property::always(Promise::NothingLeft.name(), nothing_left),
        Property::always(Promise::LiveBytesStay.name(), |_, state: &State| !state.live_bytes_gone),
        Property::always(Promise::NobodyTrespasses.name(), |_, state: &State| !state.trespassed),
        Property::sometimes("two units are committed", |_, state: &State| {
            (1..UNITS).all(|unit| state.units[unit].standing == Standing::Committed)
        }),
        Property::sometimes("bytes arrived after their unit was undone", |model: &UnitsModel, state: &State| {
            state.units[1].standing == Standing::Aborted && state.objects & model.scenario.of(1) != 0
        }),
    ];
    if scenario.takers > 0 {
        all.push(Property::sometimes("a unit was taken over before its decision arrived", |_, state: &State| {
            (1..UNITS).any(|unit| state.units[unit].standing == Standing::Aborted && state.workers[unit] == Worker::Unsure)
        }));
    }
    if scenario.takers > 1 {
        all.push(Property::sometimes("one path went from a unit that was undone to another", |_, state: &State| {
            state.units[1].standing == Standing::Aborting && state.units[2].standing == Standing::Committed
        }));
    }
    if scenario.collectors > 0 {
        all.push(Property::sometimes("the floor shut a unit out", |_, state: &State| {
            state.units[1].standing == Standing::Unknown && state.floor > 1
        }));
        all.push(Property::sometimes("the collector removes bytes that came late", |model: &UnitsModel, state: &State| {
            let sweeping = |collector: &Collector| {
                matches!(collector, Collector::Sweep { left, asked } if asked.all() && left & model.scenario.of(1) & state.objects != 0)
            };
            state.units[1].standing == Standing::Aborted && state.collectors.iter().any(sweeping)
        }));
    }
    if scenario.short != 0 {
        all.push(Property::sometimes("bytes of a short put whose process died are collected", |model: &UnitsModel, state: &State| {
            let sweeping = |collector: &Collector| {
                matches!(collector, Collector::Sweep { left, asked } if asked.all() && left & model.scenario.of(1) & state.objects != 0)
            };
            state.units[1].standing == Standing::Unknown && state.collectors.iter().any(sweeping)
        }));
        all.push(Property::sometimes("a short put was aborted, and its bytes removed", |_, state: &State| {
            state.units[1].standing == Standing::Aborted && state.objects & bit(1) == 0
        }));
    }
    if scenario.operations.iter().any(|operation| operation.what != What::Put) {
        all.push(Property::sometimes("a copy outlives the version that it was made of", |_, state: &State| {
            state.units[2].standing == Standing::Committed
                && state.seen.is_some_and(|seen| state.versions & bit(seen.into()) == 0)
        }));
        all.push(Property::sometimes("a copy came too late", |_, state: &State| {
            matches!(state.workers[2], Worker::Undoing(_, Undoing::Abort)) && state.objects & 1 == 0
        }));
    }
    all
}

/// Only what was decided is named, and all of it.
fn all_or_nothing(model: &UnitsModel, state: &State) -> bool {
    members(model.scenario.of(1) | model.scenario.of(2)).all(|number| {
        let operation = model.scenario.operations[number];
        let is_named = state.versions & bit(number) != 0;
        let newest = state.artifacts[operation.path];
        match state.units[operation.unit].standing {
            // Unless somebody wrote after it, and the purge was there.
            Standing::Committed => is_named || newest.is_some_and(|newest| usize::from(newest) != number),
            _ => !is_named,
        }
    })
}

fn one_holder(model: &UnitsModel, state: &State) -> bool {
    (0..PATHS).all(|path| {
        let on_it = |unit: &usize| {
            members(model.scenario.of(*unit) & state.registered).any(|number| model.scenario.operations[number].path == path)
        };
        let can_decide = |unit: &usize| state.units[*unit].standing == Standing::Pending;
        (0..UNITS).filter(can_decide).filter(on_it).count() < 2
    })
}

/// Everybody is dead, all bytes that were on their way have arrived, and one process comes that recovers and collects.
fn nothing_left(model: &UnitsModel, state: &State) -> bool {
    let mut end = state.clone();
    end.objects |= end.registered & model.scenario.puts() & !model.scenario.of(0);
    for unit in state.open_units() {
        let token = end.take_lease(unit);
        let mut at = model.first_step(&end, unit);
        while let Some(Some(next)) = model.undo(&mut end, unit, token, at, Fate::Heard) {
            at = next;
        }
    }
    end.collectors[0] = Collector::Idle;
    while end.collectors[0] != Collector::Over {
        // Whichever it may ask now.
        let has_asked = model.question(&mut end, 0, Question::Units) || model.question(&mut end, 0, Question::Names);
        if !has_asked {
            model.collect(&mut end, 0);
        }
    }
    let is_free = end.claims.iter().all(Option::is_none);
    is_free && end.open_units().next().is_none() && end.objects & !end.named_now(&model.scenario) == 0
}
