//! What a server's refusal, or its silence, means for the call that met it.

use millpond_core::{Error, ErrorKind};
use redis::{ErrorKind as Kind, RedisError, ServerErrorKind};

/// A failed try.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// The server itself refused, before it changed anything.
    pub(super) refused: bool,
    /// Whether trying again, in a while, may help.
    pub(super) retry: bool,
    /// Whether the connection is of no more use.
    pub(super) disconnect: bool,
}

impl Failure {
    /// No connection came about, so nothing was sent.
    pub(super) fn connecting(error: &RedisError) -> Self {
        let mut failure = Self::of(error);
        failure.refused = true;
        failure.retry |= error.is_io_error() || error.kind() == Kind::ClusterConnectionNotFound;
        failure
    }

    /// The server answered, and is no master.
    pub(super) fn no_master() -> Self {
        let error =
            unavailable("the Redis server is a replica", "give the address of the master, or wait until the failover is done");
        Self { error, refused: true, retry: true, disconnect: true }
    }

    /// The answer did not come in time.
    pub(super) fn silence() -> Self {
        let error = unavailable("Redis did not answer in time", "check the server and the network, or raise timeout in the URL");
        Self { error, refused: false, retry: false, disconnect: true }
    }

    /// Reads an error of the client library.
    pub(super) fn of(error: &RedisError) -> Self {
        let refused = matches!(error.kind(), Kind::Server(_) | Kind::Extension | Kind::AuthenticationFailed);
        let (kind, message, next, retry, disconnect) = words(error);
        let error = Error::new(kind, message).with_source(shown(error)).with_next(next);
        Self { error, refused, retry, disconnect }
    }
}

/// The kind, what was wrong, what to do, whether to try again, and whether on another connection.
fn words(error: &RedisError) -> (ErrorKind, &'static str, &'static str, bool, bool) {
    use ErrorKind::{NotFound, Unavailable, Unsupported};
    let code = error.code().unwrap_or_default();
    match (error.kind(), code) {
        (Kind::Server(ServerErrorKind::BusyLoading), _) => {
            (Unavailable, "Redis is still reading its data", "wait until it has started", true, false)
        }
        (Kind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown), _) => (
            Unavailable,
            "the Redis server is a replica",
            "give the address of the master, or wait until the failover is done",
            true,
            true,
        ),
        (Kind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::TryAgain), _) | (Kind::ClusterConnectionNotFound, _) => (
            Unavailable,
            "the Redis cluster does not serve this slot now",
            "wait until it has healed: see CLUSTER INFO",
            true,
            false,
        ),
        (Kind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask), _) => {
            (Unavailable, "the server is one of a Redis cluster", "add cluster=true to the URL", false, false)
        }
        (Kind::Server(ServerErrorKind::NoPerm), _) => (
            Unsupported,
            "this user may not run a command that a store needs",
            "allow it the commands that docs/redis.md lists",
            false,
            false,
        ),
        (Kind::AuthenticationFailed, _) | (_, "NOAUTH" | "WRONGPASS") => {
            (Unavailable, "Redis refused the user or the password", "check both in the URL", false, true)
        }
        (_, "OOM") => (
            Unavailable,
            "Redis has no memory left",
            "raise maxmemory, or take a snapshot so that entries are trimmed",
            false,
            false,
        ),
        (_, "MISCONF") => {
            (Unavailable, "Redis cannot write to its disk", "make room on the server's disk and look at its log", false, false)
        }
        (_, "NOREPLICAS") => {
            (Unavailable, "too few replicas of this Redis server are connected", "check its replicas", true, false)
        }
        (_, "BUSY") => (Unavailable, "Redis is busy with a script of somebody else", "wait until it has ended", true, false),
        (_, "WRONGTYPE") => (NotFound, "the journal was removed", "open the store again", false, false),
        (Kind::Server(_) | Kind::Extension, _) => {
            (Unavailable, "Redis refused a command", "see the reason, and the server's log", false, false)
        }
        (Kind::InvalidClientConfig, _) => {
            (ErrorKind::Invalid, "the connection to Redis cannot be set up", "check the URL", false, true)
        }
        _ => (Unavailable, "the connection to Redis failed", "check that the server runs and can be reached", true, true),
    }
}

fn unavailable(message: &str, next: &str) -> Error {
    Error::unavailable(message).with_next(next)
}

/// The library's text. It never holds the password, but may hold an address.
fn shown(error: &RedisError) -> String {
    error.to_string()
}

/// A write whose answer did not come.
pub(super) fn unknown(error: &Error) -> Error {
    Error::new(ErrorKind::UnknownOutcome, "Redis did not say whether the entry was written")
        .with_source(error.to_string())
        .with_next("send the same commit again under the same id")
}

/// An answer that no server of this protocol gives.
pub(super) fn unreadable(what: &str) -> Error {
    Error::corrupt(format!("Redis answered {what} in a form that cannot be read"))
        .with_next("check what stands between here and the server")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str) -> Failure {
        Failure::of(&redis::make_extension_error(code.to_owned(), Some("…".to_owned())))
    }

    #[test]
    fn refusals_say_what_to_do() {
        assert_eq!(failure("WRONGTYPE").error.kind(), ErrorKind::NotFound);
        assert!(failure("OOM").error.next().unwrap().contains("maxmemory"));
        assert!(failure("NOREPLICAS").retry);
        for code in ["OOM", "MISCONF", "WRONGPASS", "WRONGTYPE", "ELSE"] {
            let failure = failure(code);
            assert!(failure.refused && !failure.retry, "{code}");
        }
    }

    #[test]
    fn a_broken_connection_is_no_refusal() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let failure = Failure::of(&broken.into());
        assert!(!failure.refused && failure.retry && failure.disconnect);
    }
}
