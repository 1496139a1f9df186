//! Object stores with a fault, for tests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, UploadPart,
};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It is overloaded, and says so to each request: it writes all the same, and keeps to its conditions.
    Overloaded,
    /// It puts, and the first answer is lost.
    LosesFirstAnswer,
    /// It puts uploads together, and says that it knows no such upload: as one hears who lost the answer and asked again.
    ForgetsUploads,
    /// It puts no upload together.
    LosesUploads,
    /// It takes no part but the first.
    TakesOnePart,
}

/// A store with a fault, which counts what it is asked.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    pub(crate) inner: Arc<InMemory>,
    pub(crate) fault: Fault,
    pub(crate) counts: Arc<Counts>,
}

/// What a store was asked so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) puts: AtomicUsize,
    pub(crate) parts: AtomicUsize,
    /// Parts that are under way, and the most of them at one moment.
    under_way: AtomicUsize,
    pub(crate) most: AtomicUsize,
    pub(crate) aborts: AtomicUsize,
}

impl Faulty {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { inner: Arc::default(), fault, counts: Arc::default() }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.fault)
    }
}

fn overloaded() -> object_store::Error {
    let source = "Server returned non-2xx status code: 503 Service Unavailable: SlowDown".into();
    object_store::Error::Generic { store: "S3", source }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let earlier = self.counts.puts.fetch_add(1, Ordering::SeqCst);
        let put = self.inner.put_opts(location, payload, options).await?;
        match self.fault {
            Fault::Overloaded => Err(overloaded()),
            Fault::LosesFirstAnswer if earlier == 0 => Err(overloaded()),
            _ => Ok(put),
        }
    }
    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(FaultyUpload { inner, fault: self.fault, counts: Arc::clone(&self.counts) }))
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.fault == Fault::Overloaded {
            return Err(overloaded());
        }
        self.inner.get_opts(location, options).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    fault: Fault,
    counts: Arc<Counts>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, counts, fault) = (self.inner.put_part(data), Arc::clone(&self.counts), self.fault);
        Box::pin(async move {
            let earlier = counts.parts.fetch_add(1, Ordering::SeqCst);
            let now = counts.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            counts.most.fetch_max(now, Ordering::SeqCst);
            // Long enough for everything that may be sent meanwhile to be sent.
            for _ in 0..64 {
                tokio::task::yield_now().await;
            }
            counts.under_way.fetch_sub(1, Ordering::SeqCst);
            match fault {
                Fault::TakesOnePart if earlier > 0 => Err(overloaded()),
                _ => part.await,
            }
        })
    }
    async fn complete(&mut self) -> Result<PutResult> {
        if self.fault == Fault::LosesUploads {
            return Err(overloaded());
        }
        let put = self.inner.complete().await?;
        match self.fault {
            Fault::ForgetsUploads => {
                Err(object_store::Error::NotFound { path: "upload".to_owned(), source: "NoSuchUpload".into() })
            }
            _ => Ok(put),
        }
    }
    async fn abort(&mut self) -> Result<()> {
        self.counts.aborts.fetch_add(1, Ordering::SeqCst);
        self.inner.abort().await
    }
}
