//! What a store finds when it looks at itself. An engine tells what is; what that means for people is said here, once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::engine::Durability;
use crate::error::Error;
use crate::time::Timestamp;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// As it should be.
    Ok,
    /// It works, but somebody should look.
    Warning,
    /// It does not work, or not as asked for.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// What, such as `write`, `file_system` or `fsync`.
    pub name: &'static str,
    /// How it is.
    pub finding: Finding,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl HealthCheck {
    /// As it should be.
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, finding: Finding::Ok, found: found.into(), next: None }
    }

    /// It works, but somebody should look.
    pub fn warning(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, finding: Finding::Warning, found: found.into(), next: Some(next.into()) }
    }

    /// It does not work, for this reason and what lies under it.
    pub fn problem(name: &'static str, error: &Error) -> Self {
        let mut found = error.message().to_owned();
        let mut under = std::error::Error::source(error);
        while let Some(reason) = under {
            let reason_text = reason.to_string();
            // Many libraries repeat what lies under them.
            if !found.contains(&reason_text) {
                found.push_str(": ");
                found.push_str(&reason_text.replace('\n', " "));
            }
            under = reason.source();
        }
        Self { name, finding: Finding::Problem, found, next: error.next().map(str::to_owned) }
    }

    /// It was refused: under the name of the check that refused it, or this one where the error names none.
    pub fn refused(otherwise: &'static str, error: &Error) -> Self {
        Self::problem(error.check().unwrap_or(otherwise), error)
    }

    /// Whether the format that was found is the one that this program reads and writes.
    pub fn schema(found: u64, known: u64) -> Self {
        const NAME: &str = "schema";
        let text = format!("the store has format {found}; this program writes {known}");
        let (text, next) = match found.cmp(&known) {
            std::cmp::Ordering::Equal => return Self::ok(NAME, text),
            std::cmp::Ordering::Greater => (text, "use a newer millpond"),
            std::cmp::Ordering::Less => {
                (format!("{text}: migrations are outstanding"), "open it once with a role that may migrate")
            }
        };
        Self { name: NAME, finding: Finding::Problem, found: text, next: Some(next.to_owned()) }
    }
}

/// Whether an engine may write while it looks at itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    /// It only reads.
    ReadOnly,
    /// It may write something of its own that it removes again.
    Writing,
}

/// What a server's clock showed while it was asked. It read it at some moment between question and answer: a slow
/// answer is no wrong clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerClock {
    /// What it showed, cut to its resolution.
    pub shows: Timestamp,
    /// How finely it says it: zero, or a second.
    pub resolution: Duration,
    /// When it was asked.
    pub asked: Instant,
    /// When the answer was there.
    pub answered: Instant,
}

impl ServerClock {
    /// What a server just answered to a question asked then.
    pub fn answered(shows: Timestamp, resolution: Duration, asked: Instant) -> Self {
        Self { shows, resolution, asked, answered: Instant::now() }
    }

    /// How far it is from a host's clock at least, whenever in between it was read. `now` is what that clock shows now.
    pub fn apart(&self, now: Timestamp) -> Duration {
        let host = (now.minus(self.asked.elapsed()), now.minus(self.answered.elapsed()));
        apart((self.shows, self.shows.plus(self.resolution)), host)
    }
}

/// How far two spans of time are apart; zero where they touch.
pub fn apart(a: (Timestamp, Timestamp), b: (Timestamp, Timestamp)) -> Duration {
    let gap = |end: Timestamp, begin: Timestamp| begin.as_micros().saturating_sub(end.as_micros()).max(0).unsigned_abs();
    Duration::from_micros(gap(a.1, b.0).max(gap(b.1, a.0)))
}

/// What an engine found when it looked at itself, just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// What an acknowledgement survives, as the settings are now. They may have changed since the store was opened.
    pub durability: Durability,
    /// What may be lost, where the class's own sentence does not say enough.
    pub sentence: Option<String>,
    /// A server's clock, if it has one of its own that commits do not take their time from.
    pub clock: Option<ServerClock>,
    /// Where the data is, if it is on this machine.
    pub folder: Option<PathBuf>,
    /// Versions and settings as they are now.
    pub facts: Vec<(&'static str, String)>,
    /// Settings and conditions that promises rest on: one for each, silent or not.
    pub checks: Vec<HealthCheck>,
}

impl Examination {
    /// Nothing to look at but what an acknowledgement survives.
    pub fn of(durability: Durability) -> Self {
        Self { durability, sentence: None, clock: None, folder: None, facts: Vec::new(), checks: Vec::new() }
    }

    /// Adds a check.
    #[must_use]
    pub fn with(mut self, check: HealthCheck) -> Self {
        self.checks.push(check);
        self
    }

    /// What may be lost, in one plain sentence of its own.
    #[must_use]
    pub fn saying(mut self, sentence: impl Into<String>) -> Self {
        self.sentence = Some(sentence.into());
        self
    }

    /// Versions and settings as they are now.
    #[must_use]
    pub fn telling(mut self, facts: Vec<(&'static str, String)>) -> Self {
        self.facts = facts;
        self
    }

    /// The data is here, on this machine.
    #[must_use]
    pub fn at(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// A server's clock, read just now.
    #[must_use]
    pub fn reading(mut self, clock: Option<ServerClock>) -> Self {
        self.clock = clock;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_only_beyond_the_round_trip() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let asked = Instant::now();
        let slow = |shows, resolution: u64| ServerClock {
            shows: at(shows),
            resolution: Duration::from_secs(resolution),
            asked,
            answered: asked + Duration::from_secs(5),
        };
        // The host's clock showed 100 when the question was asked and 105 when the answer came.
        let apart = |clock: ServerClock| {
            let host = (at(100), at(105));
            super::apart((clock.shows, clock.shows.plus(clock.resolution)), host).as_secs()
        };
        assert_eq!(apart(slow(100, 0)), 0);
        assert_eq!(apart(slow(105, 0)), 0);
        assert_eq!(apart(slow(110, 0)), 5);
        assert_eq!((apart(slow(97, 0)), apart(slow(97, 1))), (3, 2));
    }

    #[test]
    fn formats_are_compared() {
        let found = |found, known| HealthCheck::schema(found, known).finding;
        assert_eq!((found(1, 1), found(2, 1), found(0, 1)), (Finding::Ok, Finding::Problem, Finding::Problem));
    }

    #[test]
    fn a_problem_tells_what_lies_under_it() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = Error::unavailable("cannot connect").with_source(refused).in_check("connect");
        let check = HealthCheck::refused("settings", &error);
        assert_eq!((check.name, check.found.as_str()), ("connect", "cannot connect: connection refused"));
        assert_eq!(HealthCheck::refused("settings", &Error::unavailable("x")).name, "settings");
    }
}
