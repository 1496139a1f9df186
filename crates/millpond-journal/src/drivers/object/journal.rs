//! One journal in an object store.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};
use millpond_core::{Error, ErrorKind, Result};
use millpond_objects::place::{Patience, failed, get};
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::create::create_only;
use super::errors::{is_there_already, of_create};
use super::floor::Floor;
use super::{ObjectOptions, snapshots};
use crate::journal::{After, Append, Exclusive, Journal, Limit, Stored, lost};

/// The largest entry: sent in one request, and held in memory.
const ENTRY_BYTES: usize = 16 << 20;
/// Entries that are asked for at once.
const AT_ONCE: u64 = 32;

/// See the module of the driver.
#[derive(Debug)]
pub(super) struct ObjectJournal {
    inner: Arc<Inner>,
    /// Where requests run: connections belong to a runtime, and callers come from several.
    runtime: Handle,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    patience: Patience,
    folder: Location,
    floor: Location,
    grace: Duration,
    poll: Duration,
}

/// What a request said beside the floor that was read with it.
struct Beside<T> {
    answer: T,
    floor: Floor,
}

impl ObjectJournal {
    /// To be called on the runtime that requests shall run on.
    pub(super) fn new(store: Arc<dyn ObjectStore>, patience: Patience, folder: Location, options: &ObjectOptions) -> Self {
        let floor = folder.clone().join("floor");
        let inner = Inner { store, patience, folder, floor, grace: options.grace, poll: options.poll };
        Self { inner: Arc::new(inner), runtime: Handle::current() }
    }

    async fn run<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        match self.runtime.spawn(work(Arc::clone(&self.inner))).await {
            Ok(result) => result,
            Err(error) => Err(Error::new(ErrorKind::UnknownOutcome, "the store was closed during a request").with_source(error)),
        }
    }
}

impl Inner {
    fn entry(&self, number: u64) -> Location {
        entry(&self.folder, number)
    }

    fn removed(&self) -> Error {
        Error::not_found(format!("the journal {} was removed", self.folder))
    }

    /// Runs a request and reads the floor, both at once; the floor again when that took long.
    async fn beside<T>(&self, request: impl Future<Output = T> + Send) -> Result<Beside<T>>
    where
        T: Send,
    {
        let began = Instant::now();
        let (answer, floor) = tokio::join!(request, Floor::read(&*self.store, &self.floor));
        let mut floor = floor?;
        if began.elapsed() >= self.grace / 2 {
            floor = Floor::read(&*self.store, &self.floor).await?;
        }
        Ok(Beside { answer, floor })
    }

    /// The entries that follow a number that is there, as many as come without a gap.
    async fn following(&self, first: Stored, limit: Limit) -> Result<Vec<Stored>> {
        let mut bytes = first.bytes.len();
        let mut entries = vec![first];
        let mut width = 1;
        loop {
            let next = entries.last().map_or(0, |e| e.number) + 1;
            let room = limit.entries.saturating_sub(entries.len()) as u64;
            if room == 0 || bytes >= limit.bytes {
                return Ok(entries);
            }
            let numbers = next..next + room.min(width);
            let found = join_all(numbers.clone().map(|n| {
                let location = self.entry(n);
                async move { get(&*self.store, &location).await }
            }))
            .await;
            for (number, found) in numbers.zip(found) {
                let Some(found) = found? else { return Ok(entries) };
                bytes += found.len();
                entries.push(Stored { number, bytes: found });
            }
            width = (width * 4).min(AT_ONCE);
        }
    }
}

fn entry(folder: &Location, number: u64) -> Location {
    folder.clone().join("entries").join(format!("{number:020}.json"))
}

impl Inner {
    async fn append(&self, after: u64, bytes: Bytes) -> Result<Append> {
        let number = after + 1;
        let location = self.entry(number);
        let before = self.entry(after);
        // Beside the create, because it costs no time there: is the entry that this one follows still there? A store would
        // as gladly create one behind a gap.
        let (answer, before) =
            tokio::join!(self.store.put_opts(&location, bytes.into(), create_only()), self.store.head(&before));
        let unknown = |error: Error| {
            Error::new(ErrorKind::UnknownOutcome, "the entry may have been created, but the floor could not be read")
                .with_source(error.to_string())
                .with_next("send the same commit again under the same id")
        };
        // After the create, never beside it: a machine that is suspended between the two does not notice by its clock.
        match Floor::read(&*self.store, &self.floor).await.map_err(unknown)? {
            Floor::Removed => return Err(self.removed()),
            // Whatever was created there does not count; nobody reads below the floor.
            Floor::At(floor) if number <= floor => return Ok(Append::Overtaken),
            Floor::At(floor) if after > floor && matches!(before, Err(object_store::Error::NotFound { .. })) => {
                if answer.is_ok() {
                    self.store.delete(&location).await.map_err(failed("take back", &location))?;
                }
                return Err(lost(after, after - 1));
            }
            Floor::At(_) => {}
        }
        match answer {
            Ok(_) => Ok(Append::Written),
            Err(error) if is_there_already(&error) => Ok(Append::Overtaken),
            Err(error) => Err(of_create(&location, error)),
        }
    }

    async fn read(&self, after: u64, limit: Limit) -> Result<After> {
        let location = self.entry(after + 1);
        let Beside { answer, floor } = self.beside(get(&*self.store, &location)).await?;
        match floor {
            Floor::Removed => return Err(self.removed()),
            Floor::At(floor) if after < floor => return Ok(After::Trimmed),
            Floor::At(_) => {}
        }
        match answer? {
            None => Ok(After::Entries(Vec::new())),
            Some(bytes) => {
                let first = Stored { number: after + 1, bytes };
                self.following(first, limit).await.map(After::Entries)
            }
        }
    }

    async fn trim(&self, upto: u64) -> Result<()> {
        Floor::At(upto).raise(&*self.store, &self.patience, &self.floor).await?;
        tokio::time::sleep(self.grace).await;
        let mut listed = self.store.list(Some(&self.folder.clone().join("entries")));
        while let Some(found) = listed.next().await {
            let found = found.map_err(failed("list", &self.folder))?.location;
            let number = found.filename().and_then(|n| n.strip_suffix(".json")?.parse::<u64>().ok());
            if number.is_none_or(|n| n > upto) {
                continue;
            }
            match self.store.delete(&found).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed("delete", &found)(error)),
            }
        }
        Ok(())
    }

    async fn size(&self) -> Result<u64> {
        let entries = self.folder.clone().join("entries");
        let sizes = self.store.list(Some(&entries)).map_ok(|found| found.size);
        sizes.try_fold(0, |sum, size| async move { Ok(sum + size) }).await.map_err(failed("list", &entries))
    }
}

#[async_trait]
impl Journal for ObjectJournal {
    async fn append(&self, after: u64, entry: Bytes) -> Result<Append> {
        self.run(|inner| async move { inner.append(after, entry).await }).await
    }

    async fn read(&self, after: u64, limit: Limit) -> Result<After> {
        self.run(|inner| async move { inner.read(after, limit).await }).await
    }

    async fn changed(&self, after: u64) {
        let inner = Arc::clone(&self.inner);
        // Ends with this future, so that nobody polls for a waiter that went away.
        let mut looking = JoinSet::new();
        let look = async move {
            let location = inner.entry(after + 1);
            while let Err(object_store::Error::NotFound { .. }) = inner.store.head(&location).await {
                tokio::time::sleep(inner.poll).await;
            }
        };
        looking.spawn_on(look, &self.runtime);
        looking.join_next().await;
    }

    fn max_entry_bytes(&self) -> usize {
        ENTRY_BYTES
    }

    async fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>> {
        Ok(None)
    }

    async fn put_snapshot(&self, upto: u64, file: &Path) -> Result<()> {
        let file = file.to_owned();
        self.run(|inner| async move { snapshots::put(&inner.store, &inner.folder, upto, &file).await }).await
    }

    async fn get_snapshot(&self, file: &Path) -> Result<Option<u64>> {
        let file = file.to_owned();
        self.run(|inner| async move { snapshots::get(&inner.store, &inner.folder, &file).await }).await
    }

    async fn trim(&self, upto: u64) -> Result<()> {
        self.run(|inner| async move { inner.trim(upto).await }).await
    }

    async fn size(&self) -> Result<u64> {
        self.run(|inner| async move { inner.size().await }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn nothing_is_acknowledged_behind_a_gap() {
        let store = Arc::new(InMemory::new());
        let journal = ObjectJournal::new(
            Arc::clone(&store) as _,
            Patience { calls: millpond_objects::place::CALLS, host: Arc::new(millpond_core::SystemHost) },
            Location::from("j"),
            &ObjectOptions::default(),
        );
        for after in 0..3 {
            assert_eq!(journal.append(after, "{}".into()).await.unwrap(), Append::Written);
        }
        store.delete(&entry(&Location::from("j"), 3)).await.unwrap();
        let error = journal.append(3, "{}".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("entry 3 was acknowledged"), "{error}");
        let taken_back = store.head(&entry(&Location::from("j"), 4)).await;
        assert!(matches!(taken_back, Err(object_store::Error::NotFound { .. })));
        assert_eq!(journal.append(2, "{}".into()).await.unwrap(), Append::Written, "where the journal does end");
    }
}
