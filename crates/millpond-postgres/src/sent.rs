//! Whether an attempt has sent a COMMIT: what tells "nothing was applied" from "nobody knows" when it is cut off.
//!
//! ```text
//!   attempt ── BEGIN, statements ── nothing is noted ──────────► cut off here: lost, nothing was applied
//!           ── COMMIT ── noted when it is sent ────────────────► cut off here: unknown
//!           ── answered: refused ── no longer noted ───────────► lost
//!           ── answered: applied ── stays noted ── next step ──► cut off here: unknown, a part of the work is there
//! ```
//!
//! An attempt is dropped when its time is up and cannot say any more how far it had come, so its task keeps that.

use std::cell::Cell;
use std::future::Future;

use crate::errors::Failure;

tokio::task_local! {
    static SENT: Cell<bool>;
}

/// Runs an attempt, its time limit included. Lost after a COMMIT was sent, it is unknown.
pub(crate) async fn watched<T>(attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let watch = async {
        match attempt.await {
            Err(Failure::Lost(error)) if SENT.with(Cell::get) => Err(Failure::Unknown(error)),
            other => other,
        }
    };
    SENT.scope(Cell::new(false), watch).await
}

/// COMMIT is on its way.
pub(crate) fn commit() {
    set(true);
}

/// Whether an earlier COMMIT of this attempt was sent.
pub(crate) fn before() -> bool {
    SENT.try_with(Cell::get).unwrap_or(false)
}

/// The server said that the last COMMIT applied nothing.
pub(crate) fn refused(before: bool) {
    set(before);
}

/// Batches of commits are not watched: they remember themselves what they sent.
fn set(sent: bool) {
    let _ = SENT.try_with(|cell| cell.set(sent));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millpond_core::Error;

    use super::*;

    async fn cut(what: impl FnOnce()) -> Result<(), Failure> {
        let attempt = async {
            what();
            std::future::pending::<()>().await;
        };
        let limited = async {
            let ended = tokio::time::timeout(Duration::from_millis(1), attempt).await;
            ended.map_err(|_| Failure::Lost(Error::unavailable("too late")))
        };
        watched(limited).await
    }

    #[tokio::test]
    async fn an_attempt_cut_off_after_commit_is_unknown() {
        assert!(matches!(cut(|| ()).await, Err(Failure::Lost(_))));
        assert!(matches!(cut(commit).await, Err(Failure::Unknown(_))));
        let refused_one = || {
            commit();
            refused(false);
        };
        assert!(matches!(cut(refused_one).await, Err(Failure::Lost(_))));
    }
}
