//! PostgreSQL's errors as Millpond's: what the caller can do about them, and whether trying again can help.

use millpond_core::{Error, ErrorKind};
use tokio_postgres::Error as PgError;
use tokio_postgres::error::{DbError, SqlState};

/// Why something did not succeed, for whoever may try again.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The answer is final: trying again gives the same.
    Final(Error),
    /// The server or the connection went away, or asked to be tried again. Nothing was applied.
    Lost(Error),
    /// COMMIT was sent, and its answer never came.
    Unknown(Error),
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Final(error) | Self::Lost(error) | Self::Unknown(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// What an error of the driver means.
pub(crate) fn failure(error: PgError) -> Failure {
    let Some(db) = error.as_db_error() else { return Failure::Lost(connection(error)) };
    let code = db.code().clone();
    let class = code.code().get(..2).unwrap_or_default().to_owned();
    let said = said(db);
    let make = |kind, message: &str, next: &str| Error::new(kind, message.to_owned()).with_source(said.clone()).with_next(next);
    if is_passing(&code, &class) {
        return Failure::Lost(make(
            ErrorKind::Unavailable,
            "PostgreSQL cannot take this now",
            "try again; if it stays so, look at the server's log",
        ));
    }
    Failure::Final(match class.as_str() {
        _ if code == SqlState::INSUFFICIENT_PRIVILEGE => make(
            ErrorKind::Unsupported,
            "the database role may not do this",
            "grant it the rights that docs/postgres.md lists, or run `millpond::postgres::migrate` with a role that has them",
        ),
        "28" => make(ErrorKind::Unavailable, "PostgreSQL refused the role or its password", "check user and password"),
        "3D" => make(ErrorKind::NotFound, "the database does not exist", "create it, or give another one in the URL"),
        "53" => make(ErrorKind::Unavailable, "PostgreSQL has run out of a resource", "make room (disk, memory, connections)"),
        "54" => make(ErrorKind::Invalid, "the request is larger than PostgreSQL takes", "ask for less at once"),
        "22" => make(ErrorKind::Invalid, "PostgreSQL cannot compute this", "narrow the question"),
        "XX" | "58" => {
            make(ErrorKind::Corrupt, "PostgreSQL reports damage", "look at the server's log and restore a copy if it confirms")
        }
        "42" | "3F" => make(
            ErrorKind::Corrupt,
            "a table or column that Millpond needs is not there",
            "run `millpond store check`; was the schema changed by hand?",
        ),
        _ => make(ErrorKind::Corrupt, "PostgreSQL refused a statement", "run `millpond store check`"),
    })
}

/// What it means that a transaction which wants to write could not begin. A server in recovery says that it does not
/// support that (0A000), and not that it is read-only; behind a pool it is met in the middle of a fail-over.
pub(crate) fn beginning(error: PgError) -> Failure {
    match error.as_db_error() {
        Some(db) if *db.code() == SqlState::FEATURE_NOT_SUPPORTED => Failure::Lost(
            Error::unavailable("this server is a standby and takes no writes")
                .with_source(said(db))
                .with_next("connect to the primary, or try again when a fail-over is over"),
        ),
        _ => failure(error),
    }
}

/// States that pass: a restart, a fail-over, a lock, a deadlock with somebody else's session.
fn is_passing(code: &SqlState, class: &str) -> bool {
    let others = [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    class == "08" || class == "57" || others.contains(code)
}

/// The server's own words without the statement and without the values of rows.
fn said(db: &DbError) -> String {
    format!("{} ({})", db.message(), db.code().code())
}

/// An error of the connection itself. The driver's words hold addresses, never a password.
pub(crate) fn connection(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    let mut words = error.to_string();
    if let Some(source) = error.source() {
        words = format!("{words}: {source}");
    }
    Error::unavailable("the connection to PostgreSQL failed")
        .with_source(words)
        .with_next("check that the server runs and takes connections, then try again")
}

/// A row that does not read back as what was written.
pub(crate) fn unreadable(what: &'static str) -> impl Fn(PgError) -> Error {
    move |error| Error::corrupt(format!("a row of {what} does not read back")).with_source(error.to_string())
}
