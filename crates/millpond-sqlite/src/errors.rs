//! SQLite's errors as Millpond's: what the caller can do about them.

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
        Some(ErrorCode::TooBig) => (ErrorKind::Invalid, "a value is larger than SQLite takes", "split it"),
        _ => (ErrorKind::Corrupt, "SQLite refused a statement", "run `millpond store check`"),
    };
    Error::new(kind, message).during(operation).with_source(error).with_next(next)
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
