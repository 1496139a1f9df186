//! Snapshots as objects, named after the entry that they go up to.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use millpond_core::{Error, Result};
use object_store::buffered::BufWriter;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::io::AsyncWriteExt as _;

use super::errors::failed;

/// Bytes that are read and sent at once.
const CHUNK: usize = 8 << 20;

fn folder(journal: &Location) -> Location {
    journal.clone().join("snapshots")
}

fn local(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::unavailable(format!("cannot use the snapshot's file {path}")).with_source(e)
}

async fn list(store: &Arc<dyn ObjectStore>, journal: &Location) -> Result<Vec<(u64, Location)>> {
    let folder = folder(journal);
    let found: Vec<_> = store.list(Some(&folder)).try_collect().await.map_err(failed("list", &folder))?;
    let number = |l: &Location| l.filename().and_then(|n| n.strip_suffix(".db")?.parse::<u64>().ok());
    let mut found: Vec<_> = found.into_iter().filter_map(|m| Some((number(&m.location)?, m.location))).collect();
    found.sort_unstable();
    Ok(found)
}

/// Sends a file as the snapshot up to an entry; the older ones go.
pub(super) async fn put(store: &Arc<dyn ObjectStore>, journal: &Location, upto: u64, file: &Path) -> Result<()> {
    let location = folder(journal).join(format!("{upto:020}.db"));
    let mut writer = BufWriter::with_capacity(Arc::clone(store), location.clone(), CHUNK);
    let sending = |e: std::io::Error| Error::unavailable(format!("cannot write {location}")).with_source(e);
    let mut source = std::fs::File::open(file).map_err(local(file))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = std::io::Read::read(&mut source, &mut chunk).map_err(local(file))?;
        if read == 0 {
            break;
        }
        writer.write_all(&chunk[..read]).await.map_err(sending)?;
    }
    writer.shutdown().await.map_err(sending)?;
    for (_, older) in list(store, journal).await?.into_iter().filter(|(n, _)| *n < upto) {
        match store.delete(&older).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(failed("delete", &older)(error)),
        }
    }
    Ok(())
}

/// Writes the newest snapshot into a file.
pub(super) async fn get(store: &Arc<dyn ObjectStore>, journal: &Location, file: &Path) -> Result<Option<u64>> {
    // One that is removed while it is being read has a newer one.
    loop {
        let Some((upto, location)) = list(store, journal).await?.pop() else { return Ok(None) };
        let found = match store.get(&location).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => continue,
            Err(error) => return Err(failed("read", &location)(error)),
        };
        let mut target = std::fs::File::create(file).map_err(local(file))?;
        let mut bytes = found.into_stream();
        while let Some(chunk) = bytes.next().await {
            target.write_all(&chunk.map_err(failed("read", &location))?).map_err(local(file))?;
        }
        return Ok(Some(upto));
    }
}
