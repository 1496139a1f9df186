//! Files that were torn, damaged, cut or exchanged: reported, never followed, and nothing acknowledged is lost.
#![cfg(feature = "file")]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use millpond_core::ErrorKind;
use support::{digest, files, journal_folder, segments, step, steps, store};

/// Opens the store with a fresh replica and reads everything.
async fn replayed(folder: &Path) -> millpond_core::Result<String> {
    let cache = tempfile::tempdir().expect("a folder");
    let store = store(files(folder, cache.path()).await).await?;
    Ok(store.digest(millpond_core::DigestOptions::default()).await?.digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_can_be_kept_or_deleted() {
    let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = store(files(folder.path(), cache.path()).await).await.expect("opens");
    steps(&store, 0..50).await;
    let seen = digest(&store).await;
    assert!(segments(folder.path()).len() > 3, "several segments");
    store.engine().close().await.expect("closes");
    let kept = support::store(files(folder.path(), cache.path()).await).await.expect("opens");
    assert_eq!(digest(&kept).await, seen);
    kept.engine().close().await.expect("closes");
    fs::remove_dir_all(cache.path()).expect("the cache goes");
    let anew = support::store(files(folder.path(), cache.path()).await).await.expect("opens");
    assert_eq!(digest(&anew).await, seen);
    steps(&anew, 50..60).await;
    assert_eq!(replayed(folder.path()).await.expect("replays"), digest(&anew).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_is_put_aside_and_cut_off() {
    let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = store(files(folder.path(), cache.path()).await).await.expect("opens");
    steps(&store, 0..5).await;
    let seen = digest(&store).await;
    let last = segments(folder.path()).pop().expect("a segment");
    // Half a line, as a writer leaves it that ended inside its write; and one with an end that was never flushed whole.
    for torn in ["{\"v\":1,\"n\":99,\"prev\":\"", "\0\0\0\0\0\0\n"] {
        fs::OpenOptions::new().append(true).open(&last).expect("opens").write_all(torn.as_bytes()).expect("writes");
        assert_eq!(digest(&store).await, seen, "a reader shows nothing of it");
        assert_eq!(replayed(folder.path()).await.expect("replays"), seen);
        let aside = fs::read_dir(journal_folder(folder.path())).expect("a folder").filter_map(Result::ok);
        let mut aside = aside.filter(|e| e.path().extension().is_some_and(|e| e == "torn"));
        let found = aside.next().expect("what was torn is kept aside");
        assert_eq!(fs::read(found.path()).expect("reads"), torn.as_bytes());
        fs::remove_file(found.path()).expect("goes");
    }
    steps(&store, 5..10).await;
    assert_eq!(replayed(folder.path()).await.expect("replays"), digest(&store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_continues_over_a_torn_end() {
    let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = store(files(folder.path(), cache.path()).await).await.expect("opens");
    steps(&store, 0..5).await;
    let last = segments(folder.path()).pop().expect("a segment");
    fs::OpenOptions::new().append(true).open(&last).expect("opens").write_all(b"{\"v\":1").expect("writes");
    steps(&store, 5..10).await;
    assert_eq!(replayed(folder.path()).await.expect("replays"), digest(&store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_entry_that_was_never_answered_is_kept() {
    let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = store(files(folder.path(), cache.path()).await).await.expect("opens");
    steps(&store, 0..2).await;
    // The mark goes back, as after a power cut: the entries behind it may have been answered.
    let mark = journal_folder(folder.path()).join("tail");
    let before = fs::read(&mark).expect("the mark");
    steps(&store, 2..4).await;
    let seen = digest(&store).await;
    store.engine().close().await.expect("closes");
    fs::write(&mark, before).expect("writes");
    assert_eq!(replayed(folder.path()).await.expect("replays"), seen);
    fs::remove_file(&mark).expect("goes");
    assert_eq!(replayed(folder.path()).await.expect("replays"), seen, "without any mark");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_is_named() {
    let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = store(files(folder.path(), cache.path()).await).await.expect("opens");
    steps(&store, 0..20).await;
    let path = &segments(folder.path())[1];
    let number: u64 = path.file_stem().expect("a name").to_string_lossy().parse().expect("a number");
    let mut text = fs::read_to_string(path).expect("reads");
    let at = text.find("xxx").expect("an event's text");
    text.replace_range(at..at + 1, "y");
    fs::write(path, text).expect("writes");
    let error = replayed(folder.path()).await.expect_err("a damaged entry");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(&format!("entry {number} is damaged")), "{error}");
    // Who has read past it already goes on.
    steps(&store, 20..22).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_cut_behind_a_replica_is_refused() {
    let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = store(files(folder.path(), cache.path()).await).await.expect("opens");
    steps(&store, 0..5).await;
    let last = segments(folder.path()).pop().expect("a segment");
    let text = fs::read_to_string(&last).expect("reads");
    let cut = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
    fs::write(&last, &text[..cut]).expect("writes");
    for error in [
        store.get("work", "key-1").await.expect_err("a read"),
        store.commit(step(9)).await.expect_err("a commit"),
        support::store(files(folder.path(), cache.path()).await).await.expect_err("opening"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("lost history"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_exchanged_for_an_older_copy_is_refused() {
    let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let copy = tempfile::tempdir().expect("a folder");
    let one = store(files(folder.path(), cache.path()).await).await.expect("opens");
    steps(&one, 0..5).await;
    copy_folder(folder.path(), copy.path());
    steps(&one, 5..10).await;
    one.engine().close().await.expect("closes");
    // On the copy another history is written, as long as the first.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let fork = store(files(copy.path(), elsewhere.path()).await).await.expect("opens");
    steps(&fork, 20..25).await;
    fork.engine().close().await.expect("closes");
    let error = store(files(copy.path(), cache.path()).await).await.expect_err("the replica has seen another history");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("forked"), "{error}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copies");
        }
    }
}

/// A file system of one megabyte, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this may not be done, which is said loudly.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("\n*** SKIPPED: a full disk needs the right to mount one: {mounted:?} ***\n");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_nothing_and_loses_nothing_and_its_store_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let cache = tempfile::tempdir().expect("a folder");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 300_000]).expect("writes");
    let store = store(files(&disk.0.path().join("pond"), cache.path()).await).await.expect("opens");
    let mut n = 0;
    let full = loop {
        match store.commit(step(n)).await {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
        assert!(n < 10_000, "the disk never fills");
    };
    assert_eq!(full.kind(), ErrorKind::Unavailable, "nothing was written, and that is known: {full}");
    assert!(full.to_string().contains("No space left") || format!("{full:?}").contains("StorageFull"), "{full:?}");
    let seen = digest(&store).await;
    fs::remove_file(&ballast).expect("room");
    store.commit(step(n)).await.expect("the same handle goes on");
    assert_ne!(digest(&store).await, seen);
    assert_eq!(replayed(&disk.0.path().join("pond")).await.expect("replays"), digest(&store).await);
    store.engine().close().await.expect("closes");
}
