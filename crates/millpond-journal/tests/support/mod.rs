//! What the tests of this crate share.

#![allow(dead_code)] // Each test program uses its part.

#[cfg(feature = "object")]
pub mod fake_s3;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millpond_core::{Commit, DigestOptions, Engine, Front, Namespace, NewEvent, Store};
use millpond_journal::drivers::file::{FileJournals, FileOptions};
use millpond_journal::{JournalEngine, JournalOptions, Journals};

/// An engine on a place, with its replicas in a folder.
pub async fn engine_on(place: Arc<dyn Journals>, cache: &Path) -> Arc<JournalEngine> {
    let options = JournalOptions { cache: Some(cache.to_owned()), ..JournalOptions::default() };
    Arc::new(JournalEngine::open(place, options).await.expect("the engine opens"))
}

/// An engine on files, with small segments so that there are several.
pub async fn files(folder: &Path, cache: &Path) -> Arc<JournalEngine> {
    let options = FileOptions { segment_bytes: 4_000, ..FileOptions::default() };
    engine_on(Arc::new(FileJournals::open(folder, options).expect("the folder opens")), cache).await
}

/// The default namespace through an engine.
pub async fn store(engine: Arc<JournalEngine>) -> millpond_core::Result<Store> {
    let engine: Arc<dyn Engine> = engine;
    Store::open(Arc::new(Front::new(engine)), Namespace::default()).await
}

/// A record and an event in one commit.
pub fn step(n: u64) -> Commit {
    let event = NewEvent::of("step", &serde_json::json!({"n": n, "text": "x".repeat(100)})).expect("an event");
    let commit = Commit::new().put("work", &format!("key-{}", n % 7), &n).expect("a record");
    commit.append("log", event).expect("an event's stream")
}

/// Commits steps, one after another.
pub async fn steps(store: &Store, numbers: std::ops::Range<u64>) {
    for n in numbers {
        store.commit(step(n)).await.expect("a commit");
    }
}

/// Everything in the namespace, as one digest.
pub async fn digest(store: &Store) -> String {
    store.digest(DigestOptions::default()).await.expect("a digest").digest
}

/// The folder of the default namespace's journal.
pub fn journal_folder(folder: &Path) -> PathBuf {
    let mut found = std::fs::read_dir(folder.join("journals")).expect("journals").map(|e| e.expect("an entry").path());
    found.find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("default."))).expect("the default journal")
}

/// Its segments, in order.
pub fn segments(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(journal_folder(folder)).expect("segments").map(|e| e.expect("an entry").path());
    let mut found: Vec<PathBuf> = found.filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect();
    found.sort();
    found
}

/// Copies a folder with everything in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|e| e.expect("an entry")) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}
