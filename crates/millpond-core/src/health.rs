//! What a store finds when it looks at itself. An engine tells what is; what that means for people is said here, once.

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

    /// It does not work.
    pub fn problem(name: &'static str, error: &Error) -> Self {
        let next = error.next().map(str::to_owned);
        Self { name, finding: Finding::Problem, found: error.message().to_owned(), next }
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

/// What an engine found when it looked at itself, just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// What an acknowledgement survives, as the settings are now. They may have changed since the store was opened.
    pub durability: Durability,
    /// A server's clock, if it has one of its own that commits do not take their time from. Read last.
    pub clock: Option<Timestamp>,
    /// Settings and conditions that promises rest on: one for each, silent or not.
    pub checks: Vec<HealthCheck>,
}

impl Examination {
    /// Nothing to look at but what an acknowledgement survives.
    pub fn of(durability: Durability) -> Self {
        Self { durability, clock: None, checks: Vec::new() }
    }

    /// Adds a check.
    #[must_use]
    pub fn with(mut self, check: HealthCheck) -> Self {
        self.checks.push(check);
        self
    }
}
