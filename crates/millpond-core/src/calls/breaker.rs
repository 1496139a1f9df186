//! A circuit breaker: calls to a server that keeps failing are refused at once, until one of them finds it well again.
//!
//! ```text
//!   closed ──N failed calls in a row──► open ──pause──► one call tries ──answered──► closed
//!                                         ▲                    └──failed──┐
//!                                         └───────────────────────────────┘
//! ```

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::CallPolicy;
use crate::{Error, ErrorKind, Result};

/// Refuses calls to a server that keeps failing. Clones are one breaker.
#[derive(Debug, Clone)]
pub struct Breaker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: String,
    opens_after: Option<u32>,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Calls go through; so many failed since the last that did not.
    Closed { failed: u32 },
    /// Calls are refused until then.
    Open { until: Instant, failed: u32, last: String },
    /// One call tries, and the others are refused.
    Trying { failed: u32, last: String },
}

impl Breaker {
    /// The breaker of a place, which is named without its secrets.
    pub fn new(place: impl Into<String>, policy: &CallPolicy) -> Self {
        Self(Arc::new(Inner {
            place: place.into(),
            opens_after: policy.breaker,
            pause: policy.breaker_pause,
            state: Mutex::new(State::Closed { failed: 0 }),
        }))
    }

    /// Runs a call, if it may be made. It failed if it ends `Unavailable` or with an unknown outcome; every other
    /// answer came from a server that works.
    ///
    /// # Errors
    /// `Unavailable` when the breaker is open: nothing was sent then. Otherwise what the call ends with.
    pub async fn guard<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let permit = self.admit()?;
        let result = call.await;
        permit.end(result.as_ref().err());
        result
    }

    /// Lets a call through, or refuses it.
    ///
    /// # Errors
    /// `Unavailable`, with when one call may try again.
    pub fn admit(&self) -> Result<Permit> {
        let permit = |tries| Permit { breaker: self.clone(), tries, ended: false };
        if self.0.opens_after.is_none() {
            return Ok(permit(false));
        }
        let mut state = self.0.lock();
        let (failed, last) = match &*state {
            State::Closed { .. } => return Ok(permit(false)),
            State::Open { until, failed, last } => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    let when = format!("one call will try again in {:.1} s", left.as_secs_f64());
                    return Err(self.0.refusal(*failed, &when, last));
                }
                (*failed, last.clone())
            }
            State::Trying { failed, last } => return Err(self.0.refusal(*failed, "one call is trying again now", last)),
        };
        *state = State::Trying { failed, last };
        Ok(permit(true))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, failed: u32, when: &str, last: &str) -> Error {
        Error::unavailable(format!("the circuit breaker of {} is open after {failed} failed calls in a row; {when}", self.place))
            .with_source(last.to_owned())
            .with_next("look at the server; breaker and breaker_pause in the URL say when calls are refused, and for how long")
    }

    fn ended(&self, tries: bool, error: Option<&Error>) {
        let Some(opens_after) = self.opens_after else { return };
        let failure = error.filter(|e| matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::UnknownOutcome));
        let mut state = self.lock();
        let failed = match &*state {
            State::Closed { failed } => *failed,
            State::Trying { failed, .. } if tries => *failed,
            // It began before the breaker opened, and says nothing about now.
            State::Open { .. } | State::Trying { .. } => return,
        };
        *state = match failure {
            None => State::Closed { failed: 0 },
            Some(error) if tries || failed + 1 >= opens_after => State::Open {
                until: Instant::now() + self.pause,
                failed: failed.saturating_add(1),
                last: error.message().to_owned(),
            },
            Some(_) => State::Closed { failed: failed + 1 },
        };
    }
}

/// The right to make one call, whose end is to be told.
#[derive(Debug)]
#[must_use = "the breaker waits to hear how the call ended"]
pub struct Permit {
    breaker: Breaker,
    /// It is the one call that tries an open breaker.
    tries: bool,
    ended: bool,
}

impl Permit {
    /// The call was answered, or failed with this error.
    pub fn end(mut self, error: Option<&Error>) {
        self.ended = true;
        self.breaker.0.ended(self.tries, error);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.ended || !self.tries {
            return;
        }
        // Its caller went away, so nobody knows more than before: the next call may try.
        let mut state = self.breaker.0.lock();
        if let State::Trying { failed, last } = &*state {
            *state = State::Open { until: Instant::now(), failed: *failed, last: last.clone() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(opens_after: Option<u32>) -> Breaker {
        let policy = CallPolicy { breaker: opens_after, ..CallPolicy::within(Duration::from_secs(1)) };
        Breaker::new("redis://h", &policy)
    }

    async fn call(breaker: &Breaker, end: Option<ErrorKind>) -> Result<()> {
        breaker.guard(async { end.map_or(Ok(()), |kind| Err(Error::new(kind, "it ended"))) }).await
    }

    /// Whether a call that would succeed is refused instead.
    fn refusal(breaker: &Breaker) -> Option<Error> {
        match breaker.admit() {
            Ok(permit) => {
                drop(permit);
                None
            }
            Err(error) => Some(error),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_so_many_failed_calls_in_a_row_and_one_call_closes_it() {
        let breaker = breaker(Some(3));
        for end in [Some(ErrorKind::Unavailable), Some(ErrorKind::UnknownOutcome), None] {
            let _ = call(&breaker, end).await;
        }
        for _ in 0..3 {
            assert!(refusal(&breaker).is_none(), "the answered call begins the count anew");
            let _ = call(&breaker, Some(ErrorKind::Unavailable)).await;
        }
        let refused = refusal(&breaker).expect("open");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        for part in ["circuit breaker of redis://h", "after 3 failed calls", "try again in 10.0 s"] {
            assert!(refused.message().contains(part), "{refused}");
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        let trying = breaker.admit().expect("one call");
        assert!(refusal(&breaker).is_some_and(|e| e.message().contains("is trying again now")), "and one only");
        trying.end(Some(&Error::unavailable("still gone")));
        assert!(refusal(&breaker).is_some_and(|e| e.message().contains("after 4 failed calls")));
        tokio::time::advance(Duration::from_secs(10)).await;
        call(&breaker, None).await.expect("it is well again");
        for _ in 0..2 {
            let _ = call(&breaker, Some(ErrorKind::Unavailable)).await;
        }
        assert!(refusal(&breaker).is_none(), "closed, and counting from nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_no_failure_whatever_it_says() {
        let breaker = breaker(Some(1));
        for kind in [ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Invalid, ErrorKind::Corrupt, ErrorKind::Unsupported] {
            let _ = call(&breaker, Some(kind)).await;
            assert!(refusal(&breaker).is_none(), "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_given_up_leaves_the_next_one_to_try() {
        let breaker = breaker(Some(1));
        let _ = call(&breaker, Some(ErrorKind::Unavailable)).await;
        tokio::time::advance(Duration::from_secs(10)).await;
        drop(breaker.admit().expect("one call"));
        call(&breaker, None).await.expect("the next one tries");
        assert!(refusal(&breaker).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_began_before_it_opened_neither_opens_nor_closes_it() {
        let breaker = breaker(Some(1));
        let slow = [breaker.admit().expect("closed"), breaker.admit().expect("closed")];
        let _ = call(&breaker, Some(ErrorKind::Unavailable)).await;
        tokio::time::advance(Duration::from_secs(6)).await;
        let [answered, failed] = slow;
        answered.end(None);
        assert!(refusal(&breaker).is_some(), "an old answer closes nothing");
        failed.end(Some(&Error::unavailable("late")));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(refusal(&breaker).is_none(), "an old failure begins no new pause");
    }

    #[tokio::test]
    async fn without_one_nothing_is_refused() {
        let breaker = breaker(None);
        for _ in 0..100 {
            let failed = call(&breaker, Some(ErrorKind::Unavailable)).await.unwrap_err();
            assert_eq!(failed.message(), "it ended");
        }
    }
}
