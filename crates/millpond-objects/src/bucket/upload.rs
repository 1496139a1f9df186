//! An object that is sent while its bytes come.
//!
//! ```text
//!   pieces ─► a part is gathered ─► [part][part][part][part]  under way ─► put together: now it is there
//!                   └─ ended before it was full ─► one put
//! ```
//!
//! So there are never more bytes in memory than five parts, however long the object is. An upload that is given up is
//! aborted in the background; what a killed process had sent stays until a lifecycle rule of the bucket removes it.

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::{Error, Result};
use object_store::path::Path;
use object_store::{MultipartUpload, PutMultipartOptions, PutPayload, PutPayloadMut};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::Bucket;
use crate::{Note, Writing};

/// Bytes of a part; only the last is shorter.
pub(super) const PART: usize = 8 << 20;
/// Parts that are under way at once.
const AT_ONCE: usize = 4;
/// Parts of an object: S3 and Google Cloud Storage take no more.
const MOST: usize = 10_000;
/// Pieces up to this size are copied: a part of many small ones would be longer in its list than in its bytes.
const SMALL: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Growing {
    bucket: Bucket,
    path: Path,
    note: Option<Note>,
    gathered: PutPayloadMut,
    length: u64,
    /// `None` as long as everything fits a part.
    upload: Option<Upload>,
    failed: bool,
    /// Where parts are sent, and an upload is aborted, also when this is dropped outside.
    runtime: Handle,
}

/// An upload that the store knows of.
#[derive(Debug)]
struct Upload {
    remote: Box<dyn MultipartUpload>,
    under_way: JoinSet<object_store::Result<()>>,
    parts: usize,
}

impl Growing {
    pub(super) fn new(bucket: Bucket, path: Path, note: Option<Note>) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|e| {
            Error::invalid("objects are written inside a Tokio runtime")
                .with_source(e)
                .with_next("use the blocking API elsewhere")
        })?;
        let gathered = PutPayloadMut::new().with_block_size(PART / 8);
        Ok(Self { bucket, path, note, gathered, length: 0, upload: None, failed: false, runtime })
    }

    async fn take(&mut self, mut piece: Bytes) -> Result<()> {
        while !piece.is_empty() {
            let room = PART - self.gathered.content_length();
            let now = piece.split_to(room.min(piece.len()));
            self.length += now.len() as u64;
            if now.len() > SMALL {
                self.gathered.push(now);
            } else {
                self.gathered.extend_from_slice(&now);
            }
            if self.gathered.content_length() == PART {
                self.send().await?;
            }
        }
        Ok(())
    }

    fn gathered(&mut self) -> PutPayload {
        std::mem::replace(&mut self.gathered, PutPayloadMut::new().with_block_size(PART / 8)).freeze()
    }

    /// Sends what was gathered as the next part, once there is room for it.
    async fn send(&mut self) -> Result<()> {
        let part = self.gathered();
        if self.upload.is_none() {
            self.upload = Some(self.begin().await?);
        }
        let Some(upload) = &mut self.upload else { return Ok(()) };
        if upload.parts == MOST {
            let most = MOST as u64 * PART as u64;
            return Err(Error::invalid(format!("an object in an object store has at most {most} bytes")).with_next("divide it"));
        }
        while upload.under_way.len() >= AT_ONCE {
            self.bucket.call("write", &self.path, upload.one()).await?;
        }
        upload.parts += 1;
        upload.under_way.spawn_on(upload.remote.put_part(part), &self.runtime);
        Ok(())
    }

    async fn begin(&mut self) -> Result<Upload> {
        let attributes = self.bucket.attributes(self.note.as_ref());
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let begun = self.bucket.store.put_multipart_opts(&self.path, options);
        let remote = self.bucket.call("write", &self.path, begun).await?;
        Ok(Upload { remote, under_way: JoinSet::new(), parts: 0 })
    }

    async fn complete(&mut self, note: Option<&Note>) -> Result<()> {
        if self.upload.is_none() {
            let whole = self.gathered();
            return self.bucket.put_whole(&self.path, whole, note.or(self.note.as_ref())).await;
        }
        if !self.gathered.is_empty() {
            self.send().await?;
        }
        let Some(upload) = &mut self.upload else { return Ok(()) };
        while !upload.under_way.is_empty() {
            self.bucket.call("write", &self.path, upload.one()).await?;
        }
        let together = async {
            let Err(error) = upload.remote.complete().await else { return Ok(()) };
            // Its answer may have been lost; who asks again is told that there is no such upload. Nobody else writes here.
            let found = self.bucket.length_of(&self.path).await;
            if found.is_ok_and(|found| found == Some(self.length)) { Ok(()) } else { Err(error) }
        };
        self.bucket.call("write", &self.path, together).await?;
        self.upload = None;
        Ok(())
    }

    /// Aborts what the store knows of.
    fn give_up(&mut self) {
        let Some(Upload { mut remote, mut under_way, .. }) = self.upload.take() else { return };
        let path = self.path.clone();
        self.runtime.spawn(async move {
            // A part that arrives after the end of its upload would stay.
            under_way.shutdown().await;
            if let Err(error) = remote.abort().await {
                tracing::warn!(%path, %error, "the parts of an upload that was given up stay until a lifecycle rule removes them");
            }
        });
    }
}

impl Upload {
    /// Waits until one of the parts has arrived.
    async fn one(&mut self) -> object_store::Result<()> {
        match self.under_way.join_next().await {
            Some(sent) => sent.unwrap_or_else(|source| Err(object_store::Error::JoinError { source })),
            None => Ok(()),
        }
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[async_trait]
impl Writing for Growing {
    async fn write(&mut self, piece: Bytes) -> Result<()> {
        if self.failed {
            return Err(Error::invalid("nothing is written to an object after an error"));
        }
        let taken = self.take(piece).await;
        if taken.is_err() {
            self.failed = true;
            self.give_up();
        }
        taken
    }

    async fn finish(mut self: Box<Self>, note: Option<&Note>) -> Result<()> {
        if self.failed {
            return Err(Error::invalid("nothing is written to an object after an error"));
        }
        self.complete(note).await
    }
}
