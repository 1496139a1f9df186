//! The runtime on which drivers talk to their servers.
//!
//! Connections outlive the runtime of whoever opened the store, and the thread that writes has none of its own.

use std::future::Future;

use millpond_core::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime that can be dropped anywhere, also inside another one.
#[derive(Debug)]
pub(crate) struct Io(Option<Runtime>);

impl Io {
    pub(crate) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("millpond-journal")
            .enable_all()
            .build()
            .map_err(|e| Error::unavailable("cannot start the journal's thread").with_source(e))?;
        Ok(Self(Some(runtime)))
    }

    /// `None` while the runtime goes away.
    pub(crate) fn handle(&self) -> Result<Handle> {
        self.0.as_ref().map(|r| r.handle().clone()).ok_or_else(|| Error::unavailable("the store is closed"))
    }

    /// Runs a future here and waits for it elsewhere.
    pub(crate) async fn run<T: Send + 'static>(&self, future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        match self.handle()?.spawn(future).await {
            Ok(result) => result,
            Err(error) => Err(Error::new(ErrorKind::UnknownOutcome, "the journal's thread went away").with_source(error)),
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
