//! Snapshots as objects, named after the entry that they go up to and their own digest.
//!
//! They are larger than one request may take time for, so they go and come in pieces, each a request that is tried again
//! by itself. Files are touched on threads for that.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use millpond_core::{Error, Result};
use millpond_objects::place::failed;
use object_store::buffered::BufWriter;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::io::AsyncWriteExt as _;

use crate::drivers::{pieces, whole};

/// Bytes of a piece that is sent.
const PIECE: usize = 8 << 20;

/// Bytes of a piece that is asked for, and how many of them at once. Together no more than a slow link brings within the
/// time of one request.
pub(super) const ASKED: u64 = 2 << 20;
const AHEAD: usize = 4;

/// Snapshots that may be removed under a reader before it gives up.
const TRIES: usize = 16;

/// A snapshot in the store.
struct Kept {
    upto: u64,
    digest: String,
    size: u64,
    location: Location,
}

fn folder(journal: &Location) -> Location {
    journal.clone().join("snapshots")
}

async fn list(store: &Arc<dyn ObjectStore>, journal: &Location) -> Result<Vec<Kept>> {
    let folder = folder(journal);
    let found: Vec<_> = store.list(Some(&folder)).try_collect().await.map_err(failed("list", &folder))?;
    let kept = |m: object_store::ObjectMeta| {
        let (upto, digest) = whole::parse(m.location.filename()?)?;
        Some(Kept { upto, digest, size: m.size, location: m.location })
    };
    let mut found: Vec<Kept> = found.into_iter().filter_map(kept).collect();
    found.sort_unstable_by(|a, b| (a.upto, &a.digest).cmp(&(b.upto, &b.digest)));
    Ok(found)
}

/// Sends a file as the snapshot up to an entry; the older ones go.
pub(super) async fn put(store: &Arc<dyn ObjectStore>, journal: &Location, upto: u64, file: &Path) -> Result<()> {
    let digest = pieces::off(file, whole::digest).await?;
    let mut source = pieces::open(file).await?;
    let location = folder(journal).join(whole::name(upto, &digest));
    let sending = |e: std::io::Error| Error::unavailable(format!("cannot write {location}")).with_source(e);
    let mut writer = BufWriter::with_capacity(Arc::clone(store), location.clone(), PIECE);
    loop {
        let (rest, piece) = pieces::next(source, PIECE).await?;
        if piece.is_empty() {
            break;
        }
        source = rest;
        writer.write_all(&piece).await.map_err(sending)?;
    }
    writer.shutdown().await.map_err(sending)?;
    for older in list(store, journal).await?.into_iter().filter(|kept| kept.upto < upto) {
        match store.delete(&older.location).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(failed("delete", &older.location)(error)),
        }
    }
    Ok(())
}

/// Writes the newest snapshot into a file.
pub(super) async fn get(store: &Arc<dyn ObjectStore>, journal: &Location, file: &Path) -> Result<Option<u64>> {
    // One that is removed while it is being read has a newer one.
    for _ in 0..TRIES {
        let Some(newest) = list(store, journal).await?.pop() else { return Ok(None) };
        if fetch(store, &newest, file).await? {
            whole::compare(&pieces::off(file, whole::digest).await?, newest.location, &newest.digest)?;
            return Ok(Some(newest.upto));
        }
    }
    Err(Error::unavailable(format!("{TRIES} snapshots in {} were removed while they were read", folder(journal)))
        .with_next("open the store again; if that goes on, look for a process that makes snapshots without end"))
}

/// Copies a snapshot piece by piece. False when it is gone.
async fn fetch(store: &Arc<dyn ObjectStore>, kept: &Kept, file: &Path) -> Result<bool> {
    let mut target = pieces::create(file).await?;
    let starts = (0..kept.size.div_ceil(ASKED)).map(|n| n * ASKED);
    let requests = starts.map(|at| store.get_range(&kept.location, at..kept.size.min(at + ASKED)));
    let mut answers = stream::iter(requests).buffered(AHEAD);
    while let Some(answer) = answers.next().await {
        let piece = match answer {
            Ok(piece) => piece,
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(failed("read", &kept.location)(error)),
        };
        target = pieces::append(target, piece).await?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::object::fakes::{Fault, Faulty};
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn a_snapshot_of_any_size_comes_back_piece_by_piece_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (made, copy) = (folder.path().join("made"), folder.path().join("copy"));
        let bytes: Vec<u8> = (0..2 * PIECE as u64 + 17).map(|n| (n * n % 251) as u8).collect();
        std::fs::write(&made, &bytes).unwrap();
        let faulty = Arc::new(Faulty { inner: InMemory::new(), fault: Fault::CutsLongAnswers });
        let (store, journal): (Arc<dyn ObjectStore>, _) = (Arc::clone(&faulty) as _, Location::from("j"));
        // As it was called before snapshots were packed.
        let digest = whole::digest(&made).unwrap();
        let old = super::folder(&journal).join(format!("{:020}-{digest}.db", 7));
        faulty.inner.put(&old, bytes.clone().into()).await.unwrap();
        assert_eq!(get(&store, &journal, &copy).await.unwrap(), Some(7));
        assert_eq!(std::fs::read(&copy).unwrap(), bytes);
        put(&store, &journal, 9, &made).await.unwrap();
        assert_eq!(get(&store, &journal, &copy).await.unwrap(), Some(9));
        assert_eq!(std::fs::read(&copy).unwrap(), bytes);
        let kept = list(&store, &journal).await.unwrap();
        assert_eq!(kept.iter().map(|k| k.upto).collect::<Vec<_>>(), [9], "the older one is gone");
        faulty.inner.put(&kept[0].location, vec![0; bytes.len()].into()).await.unwrap();
        let damaged = get(&store, &journal, &copy).await.unwrap_err();
        assert!(damaged.to_string().contains(kept[0].location.as_ref()), "{damaged}");
    }
}
