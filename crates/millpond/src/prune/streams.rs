//! Events of a stream: how many are kept, and a bounded number of them forgotten.

use millpond_core::{Result, Store};

/// Events that one commit forgets.
const TOGETHER: u64 = 5_000;

/// How many events a stream keeps.
pub(super) async fn kept(store: &Store, stream: &str) -> Result<u64> {
    Ok(store.stream(stream).await?.map_or(0, |info| (info.head + 1).saturating_sub(info.oldest)))
}

/// The next events to be forgotten: how many, and the sequence before which they are. `None` when none is kept.
pub(super) async fn next(store: &Store, stream: &str) -> Result<Option<(u64, u64)>> {
    let Some(info) = store.stream(stream).await? else { return Ok(None) };
    let before = (info.oldest + TOGETHER).min(info.head + 1);
    let events = before.saturating_sub(info.oldest);
    Ok((events > 0).then_some((events, before)))
}
