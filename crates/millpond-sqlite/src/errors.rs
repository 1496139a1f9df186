//! SQLite's errors as Millpond's: what the caller can do about them.

use std::io::ErrorKind as IoKind;
use std::path::Path;

use millpond_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// Turns an error into Millpond's. `operation` is what was being done.
pub(crate) fn sql(operation: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |error| convert(operation, error)
}

pub(crate) fn convert(operation: &'static str, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let (kind, message, next) = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Unavailable,
            "the database stayed locked by another process",
            "try again; if it stays so, see which process holds it",
        ),
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::Unavailable, "the disk is full; nothing was applied", "make room and send it again")
        }
        Some(ErrorCode::ReadOnly) => {
            (ErrorKind::Unavailable, "the database is read-only", "check the permissions of its file and folder")
        }
        Some(ErrorCode::CannotOpen) => {
            (ErrorKind::Unavailable, "the database cannot be opened", "check that its folder exists and can be written")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            (ErrorKind::Corrupt, "the database file is damaged", "run `millpond store check`, and restore a copy if it confirms")
        }
        Some(ErrorCode::SystemIoFailure) => {
            (ErrorKind::Unavailable, "the disk reported an error", "check the disk, then open the store again")
        }
        _ if too_complex(&error) => (
            ErrorKind::Invalid,
            "the request is larger than one SQLite statement can be",
            "ask for less at once: fewer filters, or fewer values in one of them",
        ),
        Some(ErrorCode::TooBig) => (ErrorKind::Invalid, "a value is larger than SQLite takes", "split it"),
        _ => (ErrorKind::Corrupt, "SQLite refused a statement", "run `millpond store check`"),
    };
    let made = Error::new(kind, message).during(operation).with_source(without_sql(error)).with_next(next);
    match code {
        Some(ErrorCode::ReadOnly) => made.in_check("write"),
        Some(ErrorCode::DiskFull) => made.in_check("space"),
        _ => made,
    }
}

/// Says that a file may not be written where that is why SQLite could not open it: it names no reason itself.
pub(crate) fn opening(error: Error, file: &Path) -> Error {
    let tried = std::fs::OpenOptions::new().append(true).open(file);
    match tried {
        Err(why) if matches!(why.kind(), IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem) => {
            Error::unavailable("the database is read-only")
                .during("open")
                .with_source(why)
                .with_next("check the permissions of its file and folder")
                .in_check("write")
        }
        _ => error,
    }
}

/// SQLite's plain "error" with one of the words it has for "too much": it tells them apart by nothing else.
fn too_complex(error: &rusqlite::Error) -> bool {
    let (code, message) = match error {
        rusqlite::Error::SqlInputError { error, msg, .. } => (error.extended_code, msg.as_str()),
        rusqlite::Error::SqliteFailure(error, message) => (error.extended_code, message.as_deref().unwrap_or_default()),
        _ => return false,
    };
    code == rusqlite::ffi::SQLITE_RANGE
        || code == rusqlite::ffi::SQLITE_ERROR
            && ["too many", "too large", "stack overflow", "variable number"].iter().any(|words| message.contains(words))
}

/// The same error without the statement's text, which says nothing to the caller and may be very long.
fn without_sql(error: rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqlInputError { error, msg, .. } => rusqlite::Error::SqliteFailure(error, Some(msg)),
        other => other,
    }
}

/// An error of COMMIT itself: the disk may hold the commit or not.
pub(crate) fn unknown(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull) => convert("commit", error),
        _ => Error::new(ErrorKind::UnknownOutcome, "the disk reported an error while the commit was being made durable")
            .with_source(error)
            .with_next("check the disk, open the store again, and ask for the commit by its id"),
    }
}

/// What is said about a commit that may be the one whose flush failed.
pub(crate) fn undecided() -> Error {
    Error::new(ErrorKind::UnknownOutcome, "an earlier flush failed, so it is unknown whether this commit was applied")
        .with_next("check the disk, open the store again, and send the same commit again")
}

#[cfg(test)]
mod tests {
    use millpond_core::ErrorKind;
    use rusqlite::Connection;

    #[test]
    fn a_statement_that_is_too_large_is_the_requests_fault_and_is_not_shown() {
        let connection = Connection::open_in_memory().unwrap();
        let deep = format!("SELECT 1 WHERE {}", vec!["1"; 5_000].join(" AND "));
        let many = format!("SELECT {}", (1..40_000).map(|i| format!("?{i}")).collect::<Vec<_>>().join(","));
        for text in [deep, many] {
            let error = super::convert("query", connection.prepare(&text).unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(!error.to_string().contains("SELECT"), "{error}");
        }
    }

    #[test]
    fn a_statement_on_a_missing_table_is_not_shown_either() {
        let connection = Connection::open_in_memory().unwrap();
        let error = super::convert("query", connection.prepare("SELECT 1 FROM missing").unwrap_err());
        assert!(!error.to_string().contains("SELECT"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}
