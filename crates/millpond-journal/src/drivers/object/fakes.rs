//! Object stores that do not keep the promise that a journal rests on.

use std::fmt;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not know the condition, and overwrites.
    Ignores,
    /// It looks whether the object is there, and then writes.
    LooksThenWrites,
    /// As [`Fault::LooksThenWrites`], but the first race gets no answer at all.
    FailsInOneRace,
    /// As [`Fault::LooksThenWrites`], but the first writer of each race gets no answer.
    FailsOneWriter,
    /// It creates, and says that somebody else did: as a client hears that lost the answer and asked again.
    LosesEveryAnswer,
    /// It creates, or compares and sets, and the answer is lost. Refusals are told.
    LosesFirstAnswers,
    /// It writes nothing, and is always about to.
    TakesNothing,
    /// An answer longer than a piece of a snapshot breaks off.
    CutsLongAnswers,
    /// It lets nobody write into the folder of the probe.
    Forbids,
    /// It does not tell what it knows of an object.
    HeadsFail,
}

impl Fault {
    fn looks_then_writes(self) -> bool {
        matches!(self, Self::LooksThenWrites | Self::FailsInOneRace | Self::FailsOneWriter)
    }
}

/// A store with a fault.
#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) inner: InMemory,
    pub(super) fault: Fault,
}

impl Faulty {
    fn is_silent_to(&self, location: &Path, payload: &PutPayload) -> bool {
        match self.fault {
            Fault::FailsInOneRace => location.filename() == Some("race-0"),
            Fault::FailsOneWriter => payload.iter().next().is_some_and(|bytes| bytes.starts_with(b"writer 0 ")),
            _ => false,
        }
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
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        if self.is_silent_to(location, &payload) {
            return Err(overloaded());
        }
        if self.fault.looks_then_writes() && options.mode == PutMode::Create {
            if self.inner.head(location).await.is_ok() {
                return Err(object_store::Error::AlreadyExists { path: location.to_string(), source: "it is there".into() });
            }
            // All who race have looked by then.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        if self.fault == Fault::LosesEveryAnswer && options.mode == PutMode::Create {
            self.inner.put_opts(location, payload, options).await?;
            return Err(object_store::Error::AlreadyExists { path: location.to_string(), source: "it is there".into() });
        }
        if self.fault == Fault::LosesFirstAnswers && options.mode != PutMode::Overwrite {
            self.inner.put_opts(location, payload, options).await?;
            return Err(overloaded());
        }
        if self.fault == Fault::TakesNothing {
            return Err(overloaded());
        }
        if self.fault == Fault::Forbids && location.as_ref().contains("probe") {
            return Err(object_store::Error::PermissionDenied { path: location.to_string(), source: "this key may not".into() });
        }
        if self.fault == Fault::Ignores || self.fault.looks_then_writes() {
            options.mode = PutMode::Overwrite;
        }
        self.inner.put_opts(location, payload, options).await
    }
    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.fault == Fault::HeadsFail && options.head {
            return Err(object_store::Error::Generic { store: "fake", source: "it does not say".into() });
        }
        let found = self.inner.get_opts(location, options).await?;
        if self.fault == Fault::CutsLongAnswers && found.range.end - found.range.start > super::snapshots::ASKED {
            return Err(object_store::Error::Generic { store: "fake", source: "the answer broke off".into() });
        }
        Ok(found)
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
