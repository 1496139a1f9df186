//! The bridge from synchronous callers to the async domains.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use millpond_core::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime that can be dropped anywhere, also inside another runtime.
#[derive(Debug)]
struct Owned(Option<Runtime>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs futures to their end on the caller's thread.
#[derive(Debug, Clone)]
pub(crate) struct Bridge(Arc<Owned>);

impl Bridge {
    /// Starts the one background thread that keeps time.
    pub(crate) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("millpond-blocking")
            // Bytes may be kept behind a network.
            .enable_all()
            .build()
            .map_err(|e| Error::unavailable("cannot start the thread of the blocking API").with_source(e))?;
        Ok(Self(Arc::new(Owned(Some(runtime)))))
    }

    /// Waits for a future.
    pub(crate) fn run<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        if Handle::try_current().is_ok() {
            return Err(Error::invalid("the blocking API was called inside an async runtime; nothing was done")
                .with_next("use millpond::open and await, or call from a thread made with std::thread::spawn"));
        }
        let Some(runtime) = &self.0.0 else { return Err(Error::unavailable("the blocking API is shutting down")) };
        let mut future = pin!(future);
        // Most calls do their work on this thread and never wait: those need no parking, which is dearer than a read.
        {
            let _timers = runtime.enter();
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return done;
            }
        }
        runtime.block_on(future)
    }
}

/// Writes the synchronous twin of a domain: a type of the same name whose methods wait for the async ones.
///
/// ```text
/// pub mod blocking {
///     use super::*;
///     blocking_api! {
///         /// The locks, for synchronous callers.
///         Locks of super::Locks {
///             fn try_acquire(name: &str, ttl: Duration) -> Result<Option<Lease>>;
///         }
///     }
/// }
/// ```
macro_rules! blocking_api {
    ($(#[$doc:meta])* $name:ident of $domain:ty { $( fn $method:ident ( $($arg:ident : $ty:ty),* $(,)? ) -> $ret:ty; )* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            domain: $domain,
            bridge: crate::bridge::Bridge,
        }

        impl $name {
            pub(crate) fn new(domain: $domain, bridge: crate::bridge::Bridge) -> Self {
                Self { domain, bridge }
            }

            $(
                #[doc = concat!("Waits for [`", stringify!($domain), "::", stringify!($method), "`].")]
                ///
                /// # Errors
                /// Those of the async operation; `Invalid` when called inside an async runtime.
                pub fn $method(&self, $($arg: $ty),*) -> $ret {
                    self.bridge.run(self.domain.$method($($arg),*))
                }
            )*
        }
    };
}
