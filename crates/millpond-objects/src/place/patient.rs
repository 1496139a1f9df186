//! An object store that is asked again, with a deadline and pauses, where that is safe.
//!
//! ```text
//!   read, list, overwrite        again until answered: the second does what the first did
//!   create, compare and set      once: only a look at the object tells what became of it (the journal's `create.rs`, `floor.rs`)
//!   uploads in parts, listings,  by the client, which knows where it was; as often and as long as the others
//!   bodies of large objects
//! ```

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use millpond_core::{CallPolicy, Host};
use object_store::client::HttpError;
use object_store::path::Path as Location;
use object_store::{
    BackoffConfig, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, RetryConfig,
};
use tokio::time::{Instant, timeout_at};

/// Bodies up to this size are part of the call that asks for them: every entry, and no snapshot of any size.
const BODY: u64 = 32 << 20;

/// One place, reached in two ways.
#[derive(Debug, Clone)]
pub(crate) struct Ways {
    /// Asks once. Whoever calls knows what may be asked again.
    pub(crate) once: Arc<dyn ObjectStore>,
    /// Asks again by itself.
    pub(crate) again: Arc<dyn ObjectStore>,
}

/// How the client asks again by itself.
pub(super) fn client_retries(calls: &CallPolicy) -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: calls.retry_first, max_backoff: calls.retry_max, ..BackoffConfig::default() };
    // Without a number the time decides; the client wants one all the same.
    let max_retries = calls.retries.map_or(usize::MAX, |retries| retries as usize);
    RetryConfig { backoff, max_retries, retry_timeout: calls.timeout }
}

/// How long and how often a store is asked.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Deadline, tries and pauses.
    pub calls: CallPolicy,
    /// Randomness, for the pauses.
    pub host: Arc<dyn Host>,
}

impl Patience {
    /// The same for finding out what became of something: until the time is over, however often that takes.
    #[must_use]
    pub fn settling(&self) -> Self {
        Self { calls: self.calls.settling(self.calls.timeout), host: Arc::clone(&self.host) }
    }

    /// Asks until there is an answer that stays.
    ///
    /// # Errors
    /// The last one, when it stays or the time is over.
    pub async fn repeat<T, F>(&self, mut ask: impl FnMut() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut pauses = self.calls.pauses(&*self.host);
        // One that is never answered leaves time for another.
        let most = if self.calls.retries == Some(0) { self.calls.timeout } else { self.calls.timeout / 2 };
        loop {
            let error = match timeout_at(pauses.deadline().min(Instant::now() + most), ask()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => silence(most),
            };
            let Some(pause) = passes(&error).then(|| pauses.next_pause()).flatten() else { return Err(error) };
            tokio::time::sleep(pause).await;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Patient {
    ways: Ways,
    patience: Patience,
}

impl Patient {
    pub(crate) fn new(ways: Ways, patience: Patience) -> Self {
        Self { ways, patience }
    }

    /// Asks once, within the deadline.
    async fn once<T>(&self, ask: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let most = self.patience.calls.timeout;
        tokio::time::timeout(most, ask).await.unwrap_or_else(|_| Err(silence(most)))
    }

    async fn with_body(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let found = self.ways.once.get_opts(location, options).await?;
        let size = found.range.end.saturating_sub(found.range.start);
        if head || size > BODY || matches!(found.payload, GetResultPayload::File(..)) {
            return Ok(found);
        }
        let (meta, range, attributes, extensions) =
            (found.meta.clone(), found.range.clone(), found.attributes.clone(), found.extensions.clone());
        let body: Bytes = found.bytes().await?;
        let payload = GetResultPayload::Stream(stream::once(async { Ok(body) }).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }
}

fn silence(after: Duration) -> Error {
    let text =
        format!("no answer within {} s: look at the store and the network, or raise timeout in the URL", after.as_secs_f64());
    Error::Generic { store: "object store", source: text.into() }
}

/// Whether an error says that the same may go well in a while: no connection, a broken one, silence, a server that is
/// overloaded or ill. What a server refuses it will refuse again.
pub(crate) fn passes(error: &Error) -> bool {
    let Error::Generic { source, .. } = error else { return false };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**source);
    let mut text = source.to_string();
    while let Some(found) = cause {
        if found.is::<HttpError>() {
            return true;
        }
        text = found.to_string();
        cause = found.source();
        // The client does not export the type that holds the status, only its words.
        if ["status code: 5", "status code: 429", "returned error response"].iter().any(|words| text.contains(words)) {
            return true;
        }
    }
    text.starts_with("no answer within") || error.source().is_some_and(|s| s.is::<std::io::Error>())
}

impl fmt::Display for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ways.once)
    }
}

#[async_trait]
impl ObjectStore for Patient {
    async fn put_opts(&self, location: &Location, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = || self.ways.once.put_opts(location, payload.clone(), options.clone());
        match options.mode {
            PutMode::Overwrite => self.patience.repeat(put).await,
            PutMode::Create | PutMode::Update(_) => self.once(put()).await,
        }
    }

    async fn put_multipart_opts(&self, location: &Location, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.ways.again.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        let found = self.patience.repeat(|| self.with_body(location, options.clone())).await?;
        let size = found.range.end.saturating_sub(found.range.start);
        if options.head || size <= BODY || matches!(found.payload, GetResultPayload::File(..)) {
            return Ok(found);
        }
        drop(found);
        self.ways.again.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Location>>) -> BoxStream<'static, Result<Location>> {
        self.ways.again.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.ways.again.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Location>, offset: &Location) -> BoxStream<'static, Result<ObjectMeta>> {
        self.ways.again.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> Result<ListResult> {
        self.patience.repeat(|| self.ways.once.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Location, to: &Location, options: CopyOptions) -> Result<()> {
        self.ways.again.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use millpond_core::SystemHost;
    use object_store::ObjectStoreExt as _;

    use super::*;
    use crate::fakes::{Fault, Faulty};

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    /// Sent again, a create that was carried out would be told that somebody else was first.
    #[tokio::test(start_paused = true)]
    async fn a_create_is_sent_once_and_what_does_the_same_twice_as_often_as_asked_for() {
        let faulty = Faulty::new(Fault::Overloaded);
        let (inner, once): (_, Arc<dyn ObjectStore>) = (Arc::clone(&faulty.inner), Arc::new(faulty));
        let calls = CallPolicy { retries: Some(3), ..CallPolicy::within(Duration::from_secs(60)) };
        let calls = CallPolicy { retry_first: Duration::from_secs(2), retry_max: Duration::from_secs(2), ..calls };
        let store = Patient::new(Ways { again: Arc::clone(&once), once }, Patience { calls, host: Arc::new(SystemHost) });
        let at = |name: &str| Location::from(name);
        let began = Instant::now();
        let created = store.put_opts(&at("a"), "1".into(), PutOptions { mode: PutMode::Create, ..PutOptions::default() }).await;
        assert!(matches!(created, Err(Error::Generic { .. })), "nobody else was first: {created:?}");
        assert!(inner.head(&at("a")).await.is_ok() && began.elapsed().is_zero(), "it was carried out, and not sent again");
        let began = Instant::now();
        store.put(&at("b"), "1".into()).await.unwrap_err();
        // Three pauses, each between half of two seconds and all of it.
        assert!((3..=6).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        let began = Instant::now();
        store.get(&at("b")).await.unwrap_err();
        assert!((3..=6).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[test]
    fn a_refusal_is_not_asked_for_again() {
        for text in ["503 Service Unavailable", "500 Internal Server Error: x", "429 Too Many Requests"] {
            assert!(passes(&generic(&format!("Server returned non-2xx status code: {text}"))), "{text}");
        }
        assert!(passes(&silence(Duration::from_secs(1))));
        for text in ["400 Bad Request: a wrong region, 500 m away", "301 Moved Permanently"] {
            assert!(!passes(&generic(&format!("Server returned non-2xx status code: {text}"))), "{text}");
        }
        assert!(!passes(&Error::NotFound { path: "a".to_owned(), source: "x".into() }));
    }
}
