//! Exit codes: a contract with scripts. `docs/cli.md` lists them.

use millpond::{Error, ErrorKind, Expected};

/// What the program tells the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something failed that no other code names.
    Error = 1,
    /// The request itself is wrong: an argument, or a document that breaks a rule.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// Somebody else changed what this depended on; nothing was applied.
    Conflict = 4,
    /// The store was looked at and found wanting.
    Unhealthy = 5,
    /// Somebody else holds the lock.
    Locked = 11,
}

impl Exit {
    /// The code an error ends with.
    pub fn of(error: &Error) -> Self {
        if error.as_conflict().is_some_and(|c| matches!(c.expected, Expected::LeaseFree(_))) {
            return Self::Locked;
        }
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Conflict | ErrorKind::Fenced => Self::Conflict,
            ErrorKind::Invalid => Self::Usage,
            ErrorKind::Corrupt => Self::Unhealthy,
            _ => Self::Error,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
