//! Snapshots and trims on files and in an object store, through the engine: what starts from one, what was behind it, and
//! one that is damaged.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use millpond_core::{ErrorKind, Store};
use millpond_journal::drivers::file::{FileJournals, FileOptions};
use millpond_journal::drivers::object::{ObjectJournals, ObjectOptions, ObjectPlace};
use millpond_journal::{JournalEngine, JournalOptions, Journals};
use object_store::ObjectStore as _;
use object_store::memory::InMemory;
use support::{copy_folder, digest, journal_folder, segments, step, steps, store};

/// Bytes of journal after which there is a snapshot.
const SMALL: u64 = 200_000;

async fn opened(
    place: Arc<dyn Journals>,
    cache: &Path,
    snapshot_bytes: u64,
) -> millpond_core::Result<(Store, Arc<JournalEngine>)> {
    let options = JournalOptions { cache: Some(cache.to_owned()), snapshot_bytes, ..JournalOptions::default() };
    let engine = Arc::new(JournalEngine::open(place, options).await?);
    Ok((store(Arc::clone(&engine)).await?, engine))
}

/// Commits until a snapshot was made and `trimmed` says that entries went.
async fn until_trimmed(store: &Store, engine: &JournalEngine, trimmed: impl AsyncFn() -> bool) {
    let begin = Instant::now();
    let mut n = 1_000;
    while engine.stats().snapshots == 0 || !trimmed().await {
        assert!(begin.elapsed() < Duration::from_secs(120), "nothing was trimmed");
        store.commit(step(n)).await.expect("a commit");
        n += 1;
    }
}

/// One with an empty cache, and one that was far behind, end where the writer is, and write.
async fn everybody_goes_on(place: impl Fn() -> Arc<dyn Journals>, trimmed: impl AsyncFn() -> bool) {
    let caches: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let (behind, _) = opened(place(), caches[0].path(), u64::MAX).await.expect("opens");
    steps(&behind, 0..3).await;
    let (writer, engine) = opened(place(), caches[1].path(), SMALL).await.expect("opens");
    until_trimmed(&writer, &engine, trimmed).await;
    let (fresh, _) = opened(place(), caches[2].path(), u64::MAX).await.expect("opens");
    assert_eq!(digest(&fresh).await, digest(&writer).await, "from the snapshot");
    assert_eq!(digest(&behind).await, digest(&writer).await, "one that was far behind");
    steps(&behind, 3..6).await;
    steps(&fresh, 6..9).await;
    assert_eq!(digest(&behind).await, digest(&fresh).await);
    assert_eq!(fresh.engine().check(fresh.namespace()).await.expect("a check"), Vec::<String>::new());
    for store in [behind, writer, fresh] {
        store.engine().close().await.expect("closes");
    }
}

fn files(folder: &Path) -> Arc<dyn Journals> {
    let options = FileOptions { segment_bytes: 20_000, ..FileOptions::default() };
    Arc::new(FileJournals::open(folder, options).expect("the folder opens"))
}

fn first_segment(folder: &Path) -> bool {
    let first = segments(folder).into_iter().next().expect("a segment");
    first.file_name().is_some_and(|name| name.to_string_lossy().starts_with("00000000000000000001."))
}

#[tokio::test(flavor = "multi_thread")]
async fn on_files() {
    let folder = tempfile::tempdir().expect("a folder");
    everybody_goes_on(|| files(folder.path()), async || !first_segment(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_object_store() {
    let objects = Arc::new(InMemory::new());
    let place = ObjectPlace::of(Arc::clone(&objects) as _, "pond");
    let options = ObjectOptions { grace: Duration::from_millis(200), ..ObjectOptions::default() };
    let journals = Arc::new(ObjectJournals::open(place, options).await.expect("opens"));
    let is_trimmed = async || {
        let all: Vec<_> = objects.list(None).map(|found| found.expect("an object").location.to_string()).collect().await;
        !all.iter().any(|name| name.contains("/default.") && name.ends_with("/00000000000000000001.json"))
    };
    everybody_goes_on(|| Arc::clone(&journals) as _, is_trimmed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_named_and_nothing_is_made_of_it() {
    let (folder, copy) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let caches: Vec<_> = (0..2).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let (writer, engine) = opened(files(folder.path()), caches[0].path(), SMALL).await.expect("opens");
    until_trimmed(&writer, &engine, async || !first_segment(folder.path())).await;
    writer.engine().close().await.expect("closes");
    copy_folder(folder.path(), copy.path());
    let found = std::fs::read_dir(journal_folder(copy.path())).expect("the journal").map(|e| e.expect("an entry").path());
    let snapshot = found.into_iter().find(|p| p.extension().is_some_and(|e| e == "lz4")).expect("a snapshot");
    let mut bytes = std::fs::read(&snapshot).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshot, bytes).expect("writes");
    let error = opened(files(copy.path()), caches[1].path(), SMALL).await.expect_err("it is damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(&snapshot.display().to_string()), "{error}");
}
