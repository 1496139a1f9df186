//! Undoing: what anybody may do who has the lease, and those who take it.

use crate::defect::Defect;
use crate::model::{Action, Fate, UnitsModel};
use crate::scenario::{Bits, UNITS, bit, members};
use crate::state::{Standing, State, Taker, Undoing};

impl UnitsModel {
    pub(crate) fn taker_actions(&self, state: &State, taker: usize, actions: &mut Vec<Action>) {
        match state.takers[taker] {
            Taker::Idle => actions.extend((1..UNITS).map(|unit| Action::Take(taker, unit))),
            Taker::Holding { .. } => actions.extend([Action::Step(taker, Fate::Heard), Action::Step(taker, Fate::Unheard)]),
        }
    }

    /// One commit: the lease. Clocks are not to be relied on, so its time may have run out at any moment; and the unit may
    /// have been decided since it was seen to be pending.
    pub(crate) fn take(&self, state: &mut State, taker: usize, unit: usize) -> bool {
        let is_nothing_to_undo = matches!(state.units[unit].standing, Standing::Unknown | Standing::Aborted);
        if is_nothing_to_undo || self.scenario.is_short(unit) || state.units[unit].token >= self.scenario.tokens {
            return false;
        }
        let bytes = self.bytes(state, unit);
        if self.has(Defect::BytesGoBeforeTheLease) && state.objects & bytes != 0 {
            state.objects &= !bytes;
            return state.units[unit].standing == Standing::Pending;
        }
        let token = state.take_lease(unit);
        let at = self.first_step(state, unit);
        state.takers[taker] = Taker::Holding { unit, token, at };
        true
    }

    pub(crate) fn step(&self, state: &mut State, taker: usize, fate: Fate) -> bool {
        let Taker::Holding { unit, token, at } = state.takers[taker] else { return false };
        let Some(next) = self.undo(state, unit, token, at, fate) else { return false };
        state.takers[taker] = next.map_or(Taker::Idle, |at| Taker::Holding { unit, token, at });
        true
    }

    /// Where undoing begins.
    pub(crate) fn first_step(&self, state: &State, unit: usize) -> Undoing {
        let removes = self.has(Defect::BytesGoBeforeTheAbort) && state.units[unit].standing == Standing::Pending;
        if removes { Undoing::RemoveFirst(self.bytes(state, unit)) } else { Undoing::Abort }
    }

    /// Locations at which a unit may have written.
    fn bytes(&self, state: &State, unit: usize) -> Bits {
        self.scenario.of(unit) & self.scenario.puts() & state.registered
    }

    /// One step of undoing a unit under a token: what comes next, or that nothing does. `None` where this step cannot
    /// end that way.
    #[allow(clippy::option_option)] // No step; a last step; a step after which there is more.
    pub(crate) fn undo(&self, state: &mut State, unit: usize, token: u8, at: Undoing, fate: Fate) -> Option<Option<Undoing>> {
        let next = match (at, fate) {
            (Undoing::Abort, _) => self.abort(state, unit, token, fate),
            (_, Fate::Unheard) => return None,
            (Undoing::Remove(bytes), _) => Some(removing(removed(state, bytes))),
            (Undoing::RemoveFirst(bytes), _) => match removed(state, bytes) {
                0 => Some(Undoing::Abort),
                left => Some(Undoing::RemoveFirst(left)),
            },
            // One commit, fenced.
            (Undoing::Say, _) => {
                if state.has_lease(unit, token) {
                    state.units[unit].standing = Standing::Aborted;
                    state.units[unit].held = false;
                }
                None
            }
        };
        Some(next)
    }

    /// Sees how the unit stands, and aborts it unless that was done: one commit, fenced. Whatever could come between the
    /// look and the commit needs the lease, so they are one step. Who does not hear looks again.
    fn abort(&self, state: &mut State, unit: usize, token: u8, fate: Fate) -> Option<Undoing> {
        if !state.has_lease(unit, token) {
            return None;
        }
        match state.units[unit].standing {
            Standing::Aborting => return Some(removing(self.bytes(state, unit))),
            Standing::Committed if self.has(Defect::LooksBeforeTheLease) => state.decided_twice = true,
            Standing::Pending => {}
            _ => {
                state.units[unit].held = false;
                return None;
            }
        }
        state.units[unit].standing = Standing::Aborting;
        state.free_claims(unit);
        Some(if fate == Fate::Heard { removing(self.bytes(state, unit)) } else { Undoing::Abort })
    }
}

impl State {
    /// Takes a unit's lease, whoever has it.
    pub(crate) fn take_lease(&mut self, unit: usize) -> u8 {
        self.units[unit].token += 1;
        self.units[unit].held = true;
        self.units[unit].token
    }
}

fn removing(bytes: Bits) -> Undoing {
    if bytes == 0 { Undoing::Say } else { Undoing::Remove(bytes) }
}

/// Removes the first of these, and answers the others.
fn removed(state: &mut State, bytes: Bits) -> Bits {
    let first = members(bytes).next().map_or(0, bit);
    state.objects &= !first;
    bytes & !first
}
