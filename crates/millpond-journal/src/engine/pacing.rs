//! How writers of one journal take turns: the loser tries again at once, the winner waits.
//!
//! The winner of an append is always at the tail, so it would win again, and again: the usual back-off of losers starves
//! them. So whoever has just appended pauses for about as long as its rivals need for an append each, and then reads.
//! A writer that never loses never reads, and would not know that it has rivals: so it looks round now and then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Own appends after which a writer looks round, even when alone.
const LOOK_EVERY: u32 = 32;
/// How long a rival counts after its last entry.
const MEMORY: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_millis(250);
/// Rivals that are counted at most.
const RIVALS: usize = 64;

/// One writer's view of the others.
#[derive(Debug, Default)]
pub(crate) struct Pacing {
    rivals: HashMap<String, Instant>,
    smoothed: Duration,
    since_look: u32,
    won: bool,
}

impl Pacing {
    /// Another writer's entry was seen.
    pub(crate) fn rival(&mut self, who: &str, now: Instant) {
        if self.rivals.len() < RIVALS || self.rivals.contains_key(who) {
            self.rivals.insert(who.to_owned(), now);
        }
    }

    /// An own append took this long and won.
    pub(crate) fn won(&mut self, took: Duration) {
        self.smoothed = if self.smoothed.is_zero() { took } else { (self.smoothed * 7 + took) / 8 };
        self.since_look += 1;
        self.won = true;
    }

    /// The tail was read.
    pub(crate) fn looked(&mut self) {
        self.since_look = 0;
        self.won = false;
    }

    /// How long to wait before the next append, and whether to read before it. `random` is anything.
    pub(crate) fn turn(&mut self, now: Instant, random: u128) -> (Duration, bool) {
        self.rivals.retain(|_, seen| now.saturating_duration_since(*seen) < MEMORY);
        let rivals = u32::try_from(self.rivals.len()).unwrap_or(u32::MAX);
        if !self.won || rivals == 0 {
            return (Duration::ZERO, self.since_look >= LOOK_EVERY);
        }
        // Between half and one and a half, in steps of a thousandth.
        let factor = 500 + u32::try_from(random % 1_000).unwrap_or(500);
        ((self.smoothed * rivals * factor / 1_000).min(LONGEST), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_winner_with_rivals_waits_and_reads() {
        let mut pacing = Pacing::default();
        let now = Instant::now();
        assert_eq!(pacing.turn(now, 0), (Duration::ZERO, false));
        pacing.rival("other", now);
        assert_eq!(pacing.turn(now, 0), (Duration::ZERO, false), "a loser tries at once");
        pacing.won(Duration::from_millis(2));
        assert_eq!(pacing.turn(now, 0), (Duration::from_millis(1), true));
        assert_eq!(pacing.turn(now, 999).0, Duration::from_micros(2_998));
        assert_eq!(pacing.turn(now + MEMORY, 0), (Duration::ZERO, false), "rivals are forgotten");
    }

    #[test]
    fn a_lonely_writer_looks_round_now_and_then() {
        let mut pacing = Pacing::default();
        for _ in 0..LOOK_EVERY {
            assert!(!pacing.turn(Instant::now(), 7).1);
            pacing.won(Duration::from_millis(1));
        }
        assert!(pacing.turn(Instant::now(), 7).1);
        pacing.looked();
        assert!(!pacing.turn(Instant::now(), 7).1);
    }
}
