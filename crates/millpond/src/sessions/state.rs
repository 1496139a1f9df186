//! The states of a session and the steps between them.
//!
//! ```text
//!  Initializing ──► Running ◄──► Paused          every state that is not terminal may also go
//!       │            │  ▲          │             to Cancelled; a session may always stay as it is
//!       ├────────────┤  └─ Failed ◄┤
//!       ▼            ▼             ▼
//!     Paused, Completed, Failed (from all three); Completed and Cancelled are terminal
//! ```

use millpond_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SessionStatus {
    /// It is being set up.
    Initializing,
    /// It goes on.
    Running,
    /// It was interrupted and can go on.
    Paused,
    /// It reached its end. Terminal.
    Completed,
    /// It ended with an error, and can be taken up again.
    Failed,
    /// Somebody ended it. Terminal.
    Cancelled,
}

impl SessionStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [Self::Initializing, Self::Running, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled];

    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "Initializing",
            Self::Running => "Running",
            Self::Paused => "Paused",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Where a session of this status may go, other than staying as it is.
    pub fn allowed(self) -> &'static [Self] {
        use SessionStatus::{Cancelled, Completed, Failed, Paused, Running};
        match self {
            Self::Initializing => &[Running, Paused, Completed, Failed, Cancelled],
            Self::Running => &[Paused, Completed, Failed, Cancelled],
            Self::Paused => &[Running, Completed, Failed, Cancelled],
            Self::Failed => &[Running, Cancelled],
            Self::Completed | Self::Cancelled => &[],
        }
    }

    /// Whether nothing comes after it.
    pub fn is_terminal(self) -> bool {
        self.allowed().is_empty()
    }

    /// Whether the work is over for now: `completed_at` is set.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Checks a step.
    ///
    /// # Errors
    /// `Conflict`, naming both states and what is allowed.
    pub fn check_step(self, session: &str, to: Self) -> Result<()> {
        if self == to || self.allowed().contains(&to) {
            return Ok(());
        }
        let allowed: Vec<_> = self.allowed().iter().map(|s| s.as_str()).collect();
        let allowed = if allowed.is_empty() { "nothing: it is terminal".to_owned() } else { allowed.join(", ") };
        Err(Error::conflict(format!("session {session} cannot go from {self} to {to}; allowed from {self}: {allowed}"))
            .with_next("read the session again and decide from the state it is in now"))
    }
}

impl std::fmt::Display for SessionStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for SessionStatus {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|s| s.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Error::invalid(format!("{text:?} is not the status of a session"))
                .with_next("use initializing, running, paused, completed, failed or cancelled")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_of_steps() {
        use SessionStatus::{Cancelled, Completed, Failed, Initializing, Paused, Running};
        let legal = [
            (Initializing, Running),
            (Initializing, Paused),
            (Initializing, Completed),
            (Initializing, Failed),
            (Initializing, Cancelled),
            (Running, Paused),
            (Running, Completed),
            (Running, Failed),
            (Running, Cancelled),
            (Paused, Running),
            (Paused, Completed),
            (Paused, Failed),
            (Paused, Cancelled),
            (Failed, Running),
            (Failed, Cancelled),
        ];
        for from in SessionStatus::ALL {
            for to in SessionStatus::ALL {
                let expected = from == to || legal.contains(&(from, to));
                assert_eq!(from.check_step("s", to).is_ok(), expected, "{from} to {to}");
            }
        }
        let refused = Completed.check_step("s9", Running).expect_err("terminal").to_string();
        assert!(refused.contains("s9 cannot go from Completed to Running") && refused.contains("terminal"), "{refused}");
        let refused = Failed.check_step("s9", Paused).expect_err("not allowed").to_string();
        assert!(refused.contains("allowed from Failed: Running, Cancelled"), "{refused}");
    }
}
