//! One error type for every engine and every domain.
//!
//! The kind says what a caller can do about it, never where it happened. Two kinds speak about a write:
//! everything except [`ErrorKind::UnknownOutcome`] means *nothing was applied*; `UnknownOutcome` means the
//! store may or may not have applied it, and sending the same commit again under the same id settles it.

use std::fmt;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for by key does not exist.
    NotFound,
    /// Somebody else changed what this call depended on. Read again, then decide again.
    Conflict,
    /// The lease this write was made under is no longer ours. Stop; do not retry.
    Fenced,
    /// The request itself is wrong: nothing was applied, and the same request will fail again.
    Invalid,
    /// This engine cannot do what was asked. Nothing was applied.
    Unsupported,
    /// The store cannot take this now (full queue, busy, frozen, gone). Nothing was applied; try later.
    Unavailable,
    /// The store may or may not have applied the write. Send the same commit again under the same id.
    UnknownOutcome,
    /// The cursor points before what is retained, or into another store. Start again from the oldest.
    CursorExpired,
    /// Stored data does not read back as what was written.
    Corrupt,
}

impl ErrorKind {
    /// The stable lower-case name, as printed by the program and used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Fenced => "fenced",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::UnknownOutcome => "unknown_outcome",
            Self::CursorExpired => "cursor_expired",
            Self::Corrupt => "corrupt",
        }
    }
}

/// The class of an error in the words of engines that sort errors three ways (SemStreams).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Worth retrying.
    Transient,
    /// The request is wrong or out of date; retrying it unchanged fails again.
    Invalid,
    /// Data or program are broken; a person has to look.
    Fatal,
}

impl ErrorClass {
    /// `transient`, `invalid` or `fatal`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Invalid => "invalid",
            Self::Fatal => "fatal",
        }
    }
}

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    message: String,
    context: Vec<(&'static str, String)>,
    next: Option<String>,
    check: Option<&'static str>,
    conflict: Option<crate::Conflict>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// An error with its kind, the operation, a message, what was found and what to do next.
///
/// ```
/// use millpond_core::{Error, ErrorKind};
/// let e = Error::invalid("key \"a//b\" has an empty segment").with_next("remove the second slash");
/// assert_eq!(e.kind(), ErrorKind::Invalid);
/// assert_eq!(e.to_string(), "key \"a//b\" has an empty segment\n  next: remove the second slash");
/// ```
pub struct Error(Box<Inner>);

/// The result of everything that can fail in Millpond.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: "",
            message: message.into(),
            context: Vec::new(),
            next: None,
            check: None,
            conflict: None,
            source: None,
        }))
    }

    /// [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::Conflict`] without a structured [`crate::Conflict`] (a domain's own state machine).
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// [`ErrorKind::Unavailable`]: nothing was applied.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// The error a [`crate::Conflict`] becomes when the caller wanted success or nothing:
    /// `Fenced` when a lease was lost, `Conflict` otherwise.
    pub fn from_conflict(conflict: crate::Conflict) -> Self {
        let kind = if conflict.is_fence() { ErrorKind::Fenced } else { ErrorKind::Conflict };
        let mut error = Self::new(kind, conflict.to_string());
        error.0.conflict = Some(conflict);
        error
    }

    /// Keeps what the store held when it refused, beside a message in the domain's own words.
    #[must_use]
    pub fn with_conflict(mut self, conflict: crate::Conflict) -> Self {
        self.0.conflict = Some(conflict);
        self
    }

    /// Names the operation (`"runs.finish"`). The innermost name given stays.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        if self.0.operation.is_empty() {
            self.0.operation = operation;
        }
        self
    }

    /// Says the same in a domain's own words; kind, facts and the failed expectation stay.
    #[must_use]
    pub fn saying(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// Adds a named fact (`collection=runs`).
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<String>) -> Self {
        self.0.next = Some(next.into());
        self
    }

    /// Names the health check that refused, such as `fsync`.
    #[must_use]
    pub fn in_check(mut self, name: &'static str) -> Self {
        self.0.check = Some(name);
        self
    }

    /// Keeps the error underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The same error seen three ways. An unknown outcome is transient: retried under the same id it is settled.
    pub fn class(&self) -> ErrorClass {
        match self.0.kind {
            ErrorKind::Unavailable | ErrorKind::UnknownOutcome => ErrorClass::Transient,
            ErrorKind::Corrupt => ErrorClass::Fatal,
            _ => ErrorClass::Invalid,
        }
    }

    /// The operation that failed, or `""`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The message alone, without context or advice.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The advice, if there is any.
    pub fn next(&self) -> Option<&str> {
        self.0.next.as_deref()
    }

    /// The health check that refused, where one did.
    pub fn check(&self) -> Option<&'static str> {
        self.0.check
    }

    /// Named facts, in the order they were added.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(n, v)| (*n, v.as_str()))
    }

    /// The failed expectation, when the store refused the commit because of one.
    pub fn as_conflict(&self) -> Option<&crate::Conflict> {
        self.0.conflict.as_ref()
    }

    /// True for `Conflict` and `Fenced`.
    pub fn is_conflict(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Conflict | ErrorKind::Fenced)
    }

    /// True for `NotFound`.
    pub fn is_not_found(&self) -> bool {
        self.0.kind == ErrorKind::NotFound
    }

    /// The revision the store held when it refused, if the conflict was about a record.
    pub fn found_revision(&self) -> Option<u64> {
        self.0.conflict.as_ref().and_then(|c| c.found.revision())
    }

    /// A copy for another caller of the same failed batch. The source stays with the original.
    pub fn duplicate(&self) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            operation: self.0.operation,
            message: self.0.message.clone(),
            context: self.0.context.clone(),
            next: self.0.next.clone(),
            check: self.0.check,
            conflict: self.0.conflict.clone(),
            source: self.0.source.as_ref().map(|s| s.to_string().into()),
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.operation.is_empty() {
            write!(f, "{}: ", self.0.operation)?;
        }
        f.write_str(&self.0.message)?;
        if !self.0.context.is_empty() {
            f.write_str(" (")?;
            for (i, (name, value)) in self.0.context.iter().enumerate() {
                write!(f, "{}{name}={value}", if i > 0 { ", " } else { "" })?;
            }
            f.write_str(")")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        if let Some(next) = &self.0.next {
            write!(f, "\n  next: {next}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.kind.as_str())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}
