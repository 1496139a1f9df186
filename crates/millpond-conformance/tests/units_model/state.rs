//! What there is: the store, the place of the bytes, what is on its way, and where each process stands.

use crate::scenario::{Bits, PATHS, Scenario, UNITS, What, bit, members};

/// The token of whoever began a unit.
pub(crate) const OWN: u8 = 1;
/// The most processes of one kind.
pub(crate) const CREW: usize = 2;

/// How a unit stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    Unknown,
    Pending,
    Committed,
    Aborting,
    Aborted,
}

impl Standing {
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Aborting)
    }
}

/// The records of a unit: the unit and its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Unit {
    pub(crate) standing: Standing,
    /// The token that was given last.
    pub(crate) token: u8,
    /// Somebody has the lease, or had it when its time ran out.
    pub(crate) held: bool,
}

/// Where somebody stands who undoes a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Undoing {
    /// About to see how the unit stands, and to commit the abort.
    Abort,
    /// Removes these bytes.
    Remove(Bits),
    /// Removes these bytes; the abort is still to come.
    RemoveFirst(Bits),
    /// About to say that nothing is left.
    Say,
}

/// The process that works on a unit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Worker {
    Idle,
    Working,
    /// It did not hear what became of its decision.
    Unsure,
    /// Undoes its unit under this token.
    Undoing(u8, Undoing),
    /// The claims are still to go.
    Tidying,
    Over,
}

/// A process that undoes the units of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Taker {
    Idle,
    /// Has the lease of a unit under a token.
    Holding {
        unit: usize,
        token: u8,
        at: Undoing,
    },
}

/// What the collector has asked for so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Asked {
    pub(crate) units: bool,
    pub(crate) names: bool,
}

/// The collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Collector {
    Idle,
    /// Has the lease, and knows the oldest unit that is not over: about to raise the floor so far. What it may remove as
    /// far as it knows, and what it asked.
    Raise {
        token: u8,
        floor: u8,
        left: Bits,
        asked: Asked,
    },
    /// Asks how the units stand, and who names what; removes what is left, one by one.
    Sweep {
        left: Bits,
        asked: Asked,
    },
    Over,
}

/// Everything. A process that crashed is one that makes no more steps, so that no state is needed to say it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    // The store. Operations of short puts are in no record: these are the ones whose bytes were sent.
    pub(crate) units: [Unit; UNITS],
    pub(crate) registered: Bits,
    pub(crate) claims: [Option<u8>; PATHS],
    pub(crate) artifacts: [Option<u8>; PATHS],
    pub(crate) versions: Bits,
    /// The version that a copy names: what it saw when it looked.
    pub(crate) seen: Option<u8>,
    pub(crate) floor: u8,
    pub(crate) collecting: u8,

    // The place of the bytes.
    pub(crate) objects: Bits,

    /// Decisions that are on their way, whatever becomes of who sent them.
    pub(crate) decisions: Bits,

    // Where each process stands.
    pub(crate) workers: [Worker; UNITS],
    /// Bytes that their worker knows to have arrived.
    pub(crate) arrived: Bits,
    pub(crate) takers: [Taker; CREW],
    pub(crate) collectors: [Collector; CREW],

    // What was seen to go wrong.
    pub(crate) decided_twice: bool,
    pub(crate) live_bytes_gone: bool,
    pub(crate) trespassed: bool,
}

impl State {
    /// One unit is over and wrote what is there; nothing else has begun.
    pub(crate) fn first(scenario: &Scenario) -> Self {
        let before = scenario.of(0);
        let mut artifacts = [None; PATHS];
        for number in members(before) {
            artifacts[scenario.operations[number].path] = u8::try_from(number).ok();
        }
        let nobody = Unit { standing: Standing::Unknown, token: 0, held: false };
        let mut units = [nobody; UNITS];
        units[0] = Unit { standing: Standing::Committed, token: OWN, held: false };
        let mut workers = [Worker::Idle; UNITS];
        workers[0] = Worker::Over;
        Self {
            units,
            registered: before,
            claims: [None; PATHS],
            artifacts,
            versions: before,
            seen: None,
            floor: 0,
            collecting: 0,
            objects: before,
            decisions: 0,
            workers,
            arrived: 0,
            takers: [Taker::Idle; CREW],
            collectors: [Collector::Idle; CREW],
            decided_twice: false,
            live_bytes_gone: false,
            trespassed: false,
        }
    }

    /// Whether a token still opens a unit.
    pub(crate) fn has_lease(&self, unit: usize, token: u8) -> bool {
        self.units[unit].held && self.units[unit].token == token
    }

    /// Locations that records name.
    pub(crate) fn named_now(&self, scenario: &Scenario) -> Bits {
        members(self.versions).fold(0, |all, version| {
            let location = match scenario.operations[version].what {
                What::Put => bit(version),
                What::Copy(_) => self.seen.map_or(0, |seen| bit(seen.into())),
            };
            all | location
        })
    }

    /// Operations of units that are pending or being undone.
    pub(crate) fn of_open_units(&self, scenario: &Scenario) -> Bits {
        self.open_units().fold(0, |all, unit| all | scenario.of(unit))
    }

    /// Operations of units that have a record.
    pub(crate) fn of_known_units(&self, scenario: &Scenario) -> Bits {
        let has_record = |unit: &usize| match self.units[*unit].standing {
            Standing::Unknown => false,
            Standing::Committed => !scenario.is_short(*unit),
            _ => true,
        };
        let known = (0..UNITS).filter(has_record);
        known.fold(0, |all, unit| all | scenario.of(unit))
    }

    /// Units that can still be decided, the oldest first.
    pub(crate) fn pending_units(&self) -> impl Iterator<Item = usize> {
        let units = self.units;
        (0..UNITS).filter(move |unit| units[*unit].standing == Standing::Pending)
    }

    /// Units that are pending or being undone, the oldest first.
    pub(crate) fn open_units(&self) -> impl Iterator<Item = usize> {
        let units = self.units;
        (0..UNITS).filter(move |unit| units[*unit].standing.is_open())
    }

    /// Takes the claims of a unit away.
    pub(crate) fn free_claims(&mut self, unit: usize) {
        for claim in &mut self.claims {
            if claim.is_some_and(|holder| usize::from(holder) == unit) {
                *claim = None;
            }
        }
    }
}

/// The moment in a unit's id.
pub(crate) fn moment(unit: usize) -> u8 {
    u8::try_from(unit).unwrap_or(u8::MAX)
}
