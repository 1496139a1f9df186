//! Giving way: an operation that reads before it writes begins again when somebody else was faster, and lets go of the
//! crowd the longer, the more often that happened.

use std::time::Duration;

use millpond_core::Store;

/// How often an operation begins again.
pub(super) const TRIES: u32 = 64;
/// Losses that are answered at once.
const AT_ONCE: u32 = 3;
/// The longest pause.
const LONGEST: Duration = Duration::from_millis(100);

/// Waits after the n-th loss, counted from one: a random part of what doubles from a millisecond on.
pub(super) async fn give_way(store: &Store, losses: u32) {
    let most = most(losses);
    if !most.is_zero() {
        let part = u32::try_from(store.host().random() % 1_001).unwrap_or(0);
        tokio::time::sleep(most * part / 1_000).await;
    }
}

fn most(losses: u32) -> Duration {
    let doublings = losses.saturating_sub(AT_ONCE);
    if doublings == 0 { Duration::ZERO } else { Duration::from_millis(1 << (doublings - 1).min(16)).min(LONGEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let millis: Vec<u128> = [1, 3, 4, 5, 6, 10, 11, 64, u32::MAX].map(|n| most(n).as_millis()).into();
        assert_eq!(millis, [0, 0, 1, 2, 4, 64, 100, 100, 100]);
    }
}
