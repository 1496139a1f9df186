//! Snapshots: when they are made, by whom, and what is compared before one is followed.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_core::{Engine, ErrorKind, Front, Host as _, ManualHost, Namespace, Store, SystemHost};
use millpond_journal::{JournalEngine, JournalOptions};
use support::memory::Memory;
use support::{digest, steps};

async fn open(memory: &Memory, cache: &Path, snapshot_bytes: u64) -> Store {
    opened(memory, JournalOptions { cache: Some(cache.to_owned()), snapshot_bytes, ..JournalOptions::default() }).await.unwrap()
}

async fn opened(memory: &Memory, options: JournalOptions) -> millpond_core::Result<Store> {
    let engine: Arc<dyn Engine> = Arc::new(JournalEngine::open(Arc::new(memory.clone()), options).await?);
    Store::open(Arc::new(Front::new(engine)), Namespace::default()).await
}

/// Waits for what another thread does.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Each round is what a process does that lives for five commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_only_short_processes_use_gets_its_snapshots() {
    const BYTES: u64 = 30_000;
    for keeps_its_cache in [true, false] {
        let kept = tempfile::tempdir().unwrap();
        let memory = Memory::default();
        let mut appended = 0;
        for round in 0..40 {
            let own = tempfile::tempdir().unwrap();
            let store = open(&memory, if keeps_its_cache { kept.path() } else { own.path() }, BYTES).await;
            let before: usize = memory.default_journal().entries().iter().map(|e| e.len()).sum();
            steps(&store, round * 5..round * 5 + 5).await;
            store.engine().close().await.unwrap();
            let after: usize = memory.default_journal().entries().iter().map(|e| e.len()).sum();
            appended += after.saturating_sub(before) as u64;
        }
        let made = memory.default_journal().snapshots_brought();
        println!("{made} snapshots for {appended} bytes of journal, cache kept: {keeps_its_cache}");
        // One whenever that much was written since the last, or half of the last snapshot, which is larger here.
        assert!(made >= 2, "{made} snapshots for {appended} bytes of journal");
        assert!(made <= appended / BYTES + 1, "{made} snapshots for {appended} bytes of journal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_maker_failed_is_made_when_its_lease_has_run_out() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let memory = Memory::default();
    let host = Arc::new(ManualHost::at(SystemHost.now()));
    let options = |at: usize| JournalOptions {
        host: Arc::clone(&host) as _,
        cache: Some(folders[at].path().to_owned()),
        snapshot_bytes: 30_000,
        ..JournalOptions::default()
    };
    let (maker, other) = (opened(&memory, options(0)).await.unwrap(), opened(&memory, options(1)).await.unwrap());
    let journal = memory.default_journal();
    journal.fail_snapshots(1);
    let mut n = 0;
    while journal.snapshots_brought() == 0 {
        steps(&maker, n..n + 1).await;
        n += 1;
        assert!(n < 1_000, "no snapshot was tried");
    }
    // Its lease holds for ten minutes, for itself, for others, and for whoever comes later.
    host.advance(Duration::from_secs(595));
    steps(&maker, n..n + 5).await;
    steps(&other, n..n + 5).await;
    other.engine().close().await.unwrap();
    let later = opened(&memory, options(1)).await.unwrap();
    steps(&later, n..n + 5).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(journal.snapshots_brought(), 1, "under a lease");
    host.advance(Duration::from_secs(10));
    steps(&later, n..n + 1).await;
    until("the next snapshot", || journal.snapshots_brought() == 2 && journal.snapshot().is_some()).await;
    // Once it is made, nobody makes another for the same entries.
    later.engine().close().await.unwrap();
    host.advance(Duration::from_secs(700));
    steps(&maker, n..n + 5).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(journal.snapshots_brought(), 2);
}

/// A journal that forked and was trimmed beyond the fork, with what a replica had seen of the first history.
async fn forked_and_trimmed(memory: &Memory, cache: &Path, number: u64) -> Store {
    let seen = open(memory, cache, u64::MAX).await;
    steps(&seen, 0..number - 11).await;
    let fork = memory.default_journal().content();
    steps(&seen, number - 11..number - 1).await;
    assert_eq!(memory.default_journal().last(), number);
    memory.default_journal().exchange(fork);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(memory, elsewhere.path(), 200_000).await;
    let mut n = 1_000;
    while memory.default_journal().trimmed() <= number {
        steps(&other, n..n + 1).await;
        n += 1;
        assert!(n < 5_000, "nothing was trimmed");
    }
    other.engine().close().await.unwrap();
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_named_across_a_trim() {
    let (cache, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let memory = Memory::default();
    let seen = forked_and_trimmed(&memory, cache.path(), 50).await;
    let named = |error: millpond_core::Error| {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("forked: its entry 50 "), "{error}");
    };
    for _ in 0..2 {
        named(seen.get("work", "key-1").await.expect_err("a read follows another history"));
        named(seen.commit(support::step(9)).await.expect_err("a commit follows another history"));
    }
    seen.engine().close().await.unwrap();
    support::copy_folder(cache.path(), kept.path());
    let options = JournalOptions { cache: Some(kept.path().to_owned()), ..JournalOptions::default() };
    named(opened(&memory, options).await.expect_err("a warm replica follows another history"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_far_behind_goes_on_from_a_snapshot_of_its_own_history() {
    let folders = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let memory = Memory::default();
    let behind = open(&memory, folders[0].path(), u64::MAX).await;
    steps(&behind, 0..20).await;
    let also_behind = open(&memory, folders[1].path(), u64::MAX).await;
    assert_eq!(digest(&also_behind).await, digest(&behind).await);
    let writer = open(&memory, folders[2].path(), 200_000).await;
    let mut n = 1_000;
    while memory.default_journal().trimmed() <= 20 {
        steps(&writer, n..n + 1).await;
        n += 1;
        assert!(n < 5_000, "nothing was trimmed");
    }
    writer.engine().close().await.unwrap();
    let seen = digest(&behind).await;
    // As an earlier version made it: not packed, without digests, and without a note. It is followed, with a warning.
    let file = folders[3].path().join("snapshot.db");
    let packed = memory.default_journal().snapshot().unwrap();
    let mut unpacked = std::fs::File::create(&file).unwrap();
    std::io::copy(&mut lz4_flex::frame::FrameDecoder::new(packed.as_slice()), &mut unpacked).unwrap();
    assert!(packed.len() as u64 * 2 < unpacked.metadata().unwrap().len(), "it is packed");
    let first = "DROP TABLE \"journal:digests\"; ALTER TABLE \"journal:tail\" DROP COLUMN note";
    rusqlite::Connection::open(&file).unwrap().execute_batch(first).unwrap();
    memory.default_journal().exchange_snapshot(std::fs::read(&file).unwrap());
    assert_eq!(digest(&also_behind).await, seen);
    steps(&also_behind, 0..2).await;
    assert_eq!(digest(&behind).await, digest(&also_behind).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_did_not_count_goes_by_the_journals_size() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::default();
    for noted in [true, false] {
        let store = open(&memory, folder.path(), u64::MAX).await;
        steps(&store, 0..100).await;
        store.engine().close().await.unwrap();
        if !noted {
            let slot = folder.path().join(store.store_id()).join("0").join("replica.db");
            rusqlite::Connection::open(slot).unwrap().execute_batch("UPDATE \"journal:tail\" SET note = NULL").unwrap();
        }
        let store = open(&memory, folder.path(), 30_000).await;
        steps(&store, 0..1).await;
        store.engine().close().await.unwrap();
        assert_eq!(memory.default_journal().snapshots_brought(), if noted { 1 } else { 2 });
    }
}
