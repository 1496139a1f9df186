//! Objects in an object store: S3 and what speaks as it does, Google Cloud Storage, Azure, or a folder through the same
//! client.
//!
//! ```text
//!   PREFIX/ROOT/c7/0198f3…c7.12       the bytes of an object; its note is the metadata header `millpond`
//! ```
//!
//! A location is fresh, so a put needs no condition: one whose answer is lost is sent again, and does the same. What is
//! long goes in parts, and is there once all of them were put together.

mod header;
mod upload;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use millpond_core::{Breaker, Error, ErrorKind, Host, Result};
use object_store::path::Path;
use object_store::signer::{Method, Signer};
use object_store::{Attribute, Attributes, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutOptions, PutPayload};

use crate::place::{ObjectPlace, failed, passes};
use crate::{Listed, Location, Note, Objects, Writing};

/// Bytes up to which a put is one request. Longer ones go in parts: a request has a deadline.
const WHOLE: usize = 4 * upload::PART;
/// How long an address may be used, at most: the stores themselves allow no more.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);
/// No object is as long as this. Some servers count in signed numbers and refuse ranges that end higher.
const END: u64 = 1 << 50;
/// The name of a note among an object's metadata.
const NOTE: &str = "millpond";

/// See the module.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// Who signs addresses, where that can be done.
    signer: Option<Arc<dyn Signer>>,
    root: Path,
    shown: Arc<str>,
    /// Whether objects have metadata.
    has_notes: bool,
    /// Whether lists come in the order of their names.
    is_ordered: bool,
    /// Refuses calls for a while when the server fails, if the URL asks for it.
    breaker: Option<Breaker>,
}

impl Bucket {
    /// Objects below `root` in a place. Nothing is asked of the store yet.
    pub fn new(place: ObjectPlace, root: &str, host: Arc<dyn Host>) -> Self {
        let shown = place.named_below(root).into();
        let (root, signer) = (place.location(root), place.signer().cloned());
        let is_folder = place.kind() == ObjectPlace::FOLDER;
        let (place, patience) = place.patient(host);
        let breaker = patience.calls.breaker.map(|_| Breaker::new(place.shown(), &patience.calls));
        let store = Arc::clone(place.store());
        Self { store, signer, root, shown, has_notes: !is_folder, is_ordered: !is_folder, breaker }
    }

    fn path(&self, at: &Location) -> Path {
        Path::from(format!("{}/{at}", self.root))
    }

    /// Which object is at a path; `None` for what is no object.
    fn location(&self, path: &Path) -> Option<Location> {
        path.as_ref().strip_prefix(self.root.as_ref())?.strip_prefix('/')?.parse().ok()
    }

    /// A call of the server, of which whoever waits hears in Millpond's words.
    async fn call<T>(
        &self,
        what: &'static str,
        path: &Path,
        work: impl Future<Output = object_store::Result<T>> + Send,
    ) -> Result<T> {
        let work = async { work.await.map_err(|error| failed(what, path)(error).with("place", &self.shown)) };
        match &self.breaker {
            Some(breaker) => breaker.guard(work).await,
            None => work.await,
        }
    }

    fn attributes(&self, note: Option<&Note>) -> Attributes {
        let note = note.filter(|_| self.has_notes);
        note.map(|note| (Attribute::Metadata(NOTE.into()), header::of(note))).into_iter().collect()
    }

    async fn put_whole(&self, path: &Path, payload: PutPayload, note: Option<&Note>) -> Result<()> {
        let options = PutOptions { attributes: self.attributes(note), ..PutOptions::default() };
        self.call("write", path, self.store.put_opts(path, payload, options)).await.map(drop)
    }

    async fn length_of(&self, path: &Path) -> object_store::Result<Option<u64>> {
        match self.store.head(path).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for a range. Stores refuse one that begins where the object has ended.
    async fn read_range(&self, path: &Path, range: Range<u64>) -> object_store::Result<Option<Bytes>> {
        let start = range.start;
        let range = GetRange::Bounded(start..range.end.min(END.max(start + 1)));
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let found = async { self.store.get_opts(path, options).await?.bytes().await };
        match found.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) if passes(&error) => Err(error),
            Err(error) => match self.length_of(path).await? {
                Some(length) if length <= start => Ok(Some(Bytes::new())),
                _ => Err(error),
            },
        }
    }

    async fn list_after(&self, after: Option<&Location>, most: usize) -> object_store::Result<Vec<Listed>> {
        let listing = match after {
            Some(after) => self.store.list_with_offset(Some(&self.root), &self.path(after)),
            None => self.store.list(Some(&self.root)),
        };
        let objects = listing.try_filter_map(|found| async move {
            let listed = self.location(&found.location).map(|location| Listed { location, length: found.size });
            Ok(listed.filter(|listed| after.is_none_or(|after| listed.location > *after)))
        });
        if self.is_ordered {
            return objects.take(most).try_collect().await;
        }
        first(objects, most).await
    }
}

/// The first of objects that come in any order, with no more than those in memory.
async fn first(
    objects: impl futures_util::Stream<Item = object_store::Result<Listed>>,
    most: usize,
) -> object_store::Result<Vec<Listed>> {
    let mut objects = std::pin::pin!(objects);
    let mut found = std::collections::BTreeMap::new();
    while let Some(listed) = objects.try_next().await? {
        found.insert(listed.location, listed.length);
        if found.len() > most {
            found.pop_last();
        }
    }
    Ok(found.into_iter().map(|(location, length)| Listed { location, length }).collect())
}

#[async_trait]
impl Objects for Bucket {
    fn place(&self) -> &str {
        &self.shown
    }

    async fn put(&self, at: &Location, bytes: Bytes, note: Option<&Note>) -> Result<()> {
        if bytes.len() <= WHOLE {
            return self.put_whole(&self.path(at), bytes.into(), note).await;
        }
        let mut writing = self.begin(at, note).await?;
        writing.write(bytes).await?;
        writing.finish(note).await
    }

    async fn begin(&self, at: &Location, note: Option<&Note>) -> Result<Box<dyn Writing>> {
        Ok(Box::new(upload::Growing::new(self.clone(), self.path(at), note.cloned())?))
    }

    async fn read(&self, at: &Location, range: Range<u64>) -> Result<Option<Bytes>> {
        if range.is_empty() {
            return Ok(self.length(at).await?.map(|_| Bytes::new()));
        }
        let path = self.path(at);
        self.call("read", &path, self.read_range(&path, range)).await
    }

    async fn length(&self, at: &Location) -> Result<Option<u64>> {
        let path = self.path(at);
        self.call("look at", &path, self.length_of(&path)).await
    }

    async fn remove(&self, at: &Location) -> Result<()> {
        let path = self.path(at);
        let removed = async {
            match self.store.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                other => other,
            }
        };
        self.call("remove", &path, removed).await
    }

    async fn list(&self, after: Option<&Location>, most: usize) -> Result<Vec<Listed>> {
        self.call("list", &self.root, self.list_after(after, most)).await
    }

    async fn address(&self, at: &Location, lasting: Duration) -> Result<String> {
        let Some(signer) = &self.signer else {
            return Err(Error::new(ErrorKind::Unsupported, "this place signs no addresses")
                .with("place", self.place())
                .with_next("keep objects in S3, Google Cloud Storage or Azure, or read them through Millpond"));
        };
        if lasting < Duration::from_secs(1) || lasting > LONGEST {
            return Err(Error::invalid(format!("an address cannot last {} s", lasting.as_secs_f64()))
                .with_next("let it last between a second and seven days"));
        }
        let path = self.path(at);
        self.call("sign an address of", &path, signer.signed_url(Method::GET, &path, lasting)).await.map(String::from)
    }
}

#[cfg(test)]
mod tests;
