//! Waiting for a lock: woken by changes of its record, and looking by itself in growing pauses.

use std::time::Duration;

use millpond_core::{Conflict, Error, Expected, Found, LEASES, Result, Selector, StartAt};

use super::{Attempt, Lease, LockInfo, LockRequest, Locks};

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause: what a waiter loses when a hint never comes.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn acquire(locks: &Locks, request: &LockRequest) -> Result<Lease> {
    let give_up = tokio::time::Instant::now() + request.wait;
    let selector =
        Selector::Records { collection: millpond_core::CollectionName::new(LEASES.name())?, key_prefix: request.name.clone() };
    // Made before the first attempt: a release between the two is seen.
    let mut changes = locks.store.subscribe(selector, StartAt::Now);
    let mut watching = false;
    let mut pause = FIRST_PAUSE;
    loop {
        let held = match locks.attempt(request).await? {
            Attempt::Acquired(lease) => return Ok(lease),
            Attempt::Held(info) => info,
        };
        let left = give_up.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            return Err(still_held(*held, request.wait));
        }
        if !watching {
            // Fixes where the feed begins; the next attempt then sees what happened before that. A feed that fails
            // costs only the hint.
            let _ = changes.try_next().await;
            watching = true;
            continue;
        }
        let until_deadline = held.lease.deadline.since(locks.store.now()) + Duration::from_millis(1);
        let longest = jittered(locks, pause).min(until_deadline).min(left);
        match tokio::time::timeout(longest, changes.next()).await {
            // Several waiters are woken at once: a short, uneven pause lets one of them go first.
            Ok(Some(Ok(_))) => {
                while matches!(changes.try_next().await, Ok(Some(_))) {}
                tokio::time::sleep(jittered(locks, Duration::from_millis(2)).min(left)).await;
                pause = FIRST_PAUSE;
            }
            Ok(_) => tokio::time::sleep(longest).await,
            Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Between half of a pause and the whole of it.
fn jittered(locks: &Locks, pause: Duration) -> Duration {
    let thousandths = u32::try_from(locks.store.host().random() % 501).unwrap_or(0);
    pause * (500 + thousandths) / 1_000
}

fn still_held(info: LockInfo, waited: Duration) -> Error {
    let found = Found::Lease { holder: info.lease.holder.name, token: info.lease.token, deadline: info.lease.deadline };
    let conflict = Conflict { index: None, expected: Expected::LeaseFree(info.name.clone()), found };
    Error::from_conflict(conflict)
        .with("waited", format!("{waited:?}"))
        .with_next(format!("wait longer, or see who holds it: millpond locks show {}", info.name))
}
