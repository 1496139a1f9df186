//! Lease writes: acquire, renew, release, break.

use std::time::Duration;

use crate::commit::{Acquire, Expectation, Write};
use crate::error::Result;
use crate::json::Json;
use crate::lease::LeaseState;
use crate::name::Key;
use crate::outcome::{Conflict, Expected, Found};
use crate::plan::apply::Refusal;
use crate::plan::current::{Current, Document};
use crate::plan::touched::lease_record;
use crate::plan::work::Work;

/// The lease a record holds, if it holds one.
pub(super) fn held(current: &Current) -> Result<Option<LeaseState>> {
    match current.value()? {
        None => Ok(None),
        Some(value) => serde_json::from_value(value)
            .map(Some)
            .map_err(|e| crate::Error::corrupt("a lease record does not read back as a lease").with_source(e)),
    }
}

fn micros(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX)
}

impl Work {
    /// Applies one lease write and returns the record's revision after it.
    pub(super) fn lease_write(&mut self, write: &Write) -> Result<u64, Refusal> {
        match write {
            Write::Acquire(acquire) => self.acquire(acquire),
            Write::Renew { lease, token, ttl } => {
                let (before, mut state) = self.held_with(lease, *token)?;
                // A renewal counts from now, so a shorter ttl moves the deadline nearer.
                state.deadline = self.now.plus(*ttl);
                state.ttl_us = micros(*ttl);
                self.put_lease(lease, &before, &state)
            }
            Write::Release { lease, token } => {
                let (before, _) = self.held_with(lease, *token)?;
                Ok(self.set(&lease_record(lease), before.last_revision(), None))
            }
            Write::Break { lease } => match self.record(&lease_record(lease)) {
                before @ Current::Live { .. } => Ok(self.set(&lease_record(lease), before.last_revision(), None)),
                _ => Ok(0),
            },
            Write::Put(..) | Write::Delete(_) | Write::Merge(..) => Ok(0),
        }
    }

    fn acquire(&mut self, acquire: &Acquire) -> Result<u64, Refusal> {
        let before = self.record(&lease_record(&acquire.lease));
        if let Some(state) = held(&before)? {
            let free = state.deadline < self.now || acquire.dead == Some(state.token);
            if !free {
                let found = Found::Lease { holder: state.holder.name, token: state.token, deadline: state.deadline };
                return Err(Conflict { index: None, expected: Expected::LeaseFree(acquire.lease.clone()), found }.into());
            }
        }
        let token = self.next_revision(&lease_record(&acquire.lease), before.last_revision());
        let state = LeaseState {
            holder: acquire.holder.clone(),
            token,
            acquired_at: self.now,
            deadline: self.now.plus(acquire.ttl),
            ttl_us: micros(acquire.ttl),
            purpose: acquire.purpose.clone(),
        };
        self.put_lease(&acquire.lease, &before, &state)
    }

    fn put_lease(&mut self, lease: &Key, before: &Current, state: &LeaseState) -> Result<u64, Refusal> {
        let id = lease_record(lease);
        let json = Json::of(state)?;
        let fields = self.lease_fields(&id, &json)?;
        Ok(self.set(&id, before.last_revision(), Some(Document::Text(json, fields))))
    }

    fn held_with(&self, lease: &Key, token: u64) -> Result<(Current, LeaseState), Refusal> {
        let before = self.record(&lease_record(lease));
        let found = match held(&before)? {
            Some(state) if state.token == token => return Ok((before, state)),
            Some(state) => Found::Lease { holder: state.holder.name, token: state.token, deadline: state.deadline },
            None => Found::NoLease,
        };
        Err(Conflict { index: None, expected: Expected::Stated(Expectation::Lease(lease.clone(), token)), found }.into())
    }
}
