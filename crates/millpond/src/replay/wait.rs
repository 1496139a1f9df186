//! Waiting for expected objects that arrive late: woken by the storage events of their execution.

use std::collections::BTreeMap;

use millpond_core::{Result, Selector, StartAt, StreamName};

use super::Replays;
use super::model::Replay;
use super::select::Selection;
use crate::artifacts::stream_of_execution;

impl Replays {
    /// Waits until everything that is expected is there, or the time for it has run out. Answers what is not there, and
    /// why.
    ///
    /// An artifact and its storage event are one commit. So whoever begins to listen, then looks, and looks again after
    /// each event, misses none.
    pub(super) async fn await_expected(&self, replay: &Replay, selection: &Selection) -> Result<BTreeMap<String, String>> {
        let store = self.store();
        let stream = StreamName::new(stream_of_execution(Some(&replay.execution)))?;
        let mut events = store.subscribe(Selector::stream(stream), StartAt::Now);
        // Fixes where the feed begins.
        events.try_next().await?;
        loop {
            let absent = selection.absent(store, &replay.expect).await?;
            let left = replay.wait_until.since(store.now());
            if absent.is_empty() || left.is_zero() {
                return Ok(absent);
            }
            match tokio::time::timeout(left, events.next()).await {
                Ok(Some(Ok(_))) => while events.try_next().await?.is_some() {},
                Ok(Some(Err(error))) => return Err(error),
                // The time has run out on this machine's clock; the store's decides.
                Ok(None) | Err(_) => {}
            }
        }
    }
}
