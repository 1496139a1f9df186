//! Journals that are gone although the store is not: named by everybody who can know, and nothing is removed or made anew.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millpond_core::{Engine as _, Error, ErrorKind, Namespace};
use support::memory::{Fault, Memory};
use support::{digest, engine_on, step, steps, store};

/// A reader compares what it has seen with the journal once in a second.
const COMPARED: Duration = Duration::from_millis(1_100);

/// The error says what was lost, and names it.
fn names_the_loss(error: &Error, names: &[&str]) {
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let text = error.to_string();
    assert!(text.contains("lost history"), "{text}");
    names.iter().for_each(|name| assert!(text.contains(name), "{name} is not in: {text}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_journal_is_named_and_nothing_is_removed_or_made_anew() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let memory = Memory::default();
    let place = || Arc::new(memory.clone());
    let first = store(engine_on(place(), folders[0].path()).await).await.unwrap();
    steps(&first, 0..5).await;
    let seen = digest(&first).await;
    let name = memory.names().into_iter().find(|n| n.starts_with("default.")).unwrap();
    let content = memory.default_journal().content();
    // As a slot of a cluster that restarts without its data; the register is in another slot.
    memory.default_journal().lose();
    let engine = engine_on(place(), folders[1].path()).await;
    let default = Namespace::default();
    names_the_loss(&engine.namespace(&default).await.expect_err("a look"), &["\"default\"", &name]);
    names_the_loss(&engine.namespaces().await.expect_err("a list"), &["\"default\"", &name]);
    names_the_loss(&engine.create_namespace(&default).await.expect_err("a new one"), &["\"default\"", &name]);
    names_the_loss(&engine.catalog(&default).await.expect_err("a read"), &["\"default\"", &name]);
    names_the_loss(&engine.set_status(&default, millpond_core::NamespaceStatus::Open).await.expect_err("a write"), &[&name]);
    names_the_loss(&engine.delete_namespace(&default, first.store_id()).await.expect_err("a deletion"), &[&name]);
    names_the_loss(&engine.check(&default).await.expect_err("a check"), &["\"default\"", &name]);
    names_the_loss(&store(engine).await.expect_err("a newcomer"), &["\"default\"", &name]);
    // And who had seen what was lost, once the comparison is due again.
    tokio::time::sleep(COMPARED).await;
    names_the_loss(&first.get("work", "key-1").await.expect_err("a read"), &[]);
    assert_eq!(memory.removed(), Vec::<String>::new());
    // Restored from a copy, all is as it was.
    memory.default_journal().exchange(content);
    let again = store(engine_on(place(), folders[2].path()).await).await.unwrap();
    assert_eq!((again.store_id(), digest(&again).await), (first.store_id(), seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_not_finished_is_finished_by_the_next() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let memory = Memory::default();
    let first = store(engine_on(Arc::new(memory.clone()), folders[0].path()).await).await.unwrap();
    steps(&first, 0..2).await;
    memory.journal("namespaces").fail([Fault::NothingTold]);
    first.engine().delete_namespace(first.namespace(), first.store_id()).await.expect_err("the register is away");
    let engine = engine_on(Arc::new(memory.clone()), folders[1].path()).await;
    assert!(engine.namespace(&Namespace::default()).await.unwrap().is_none());
    assert_eq!(memory.removed().len(), 1);
    assert_ne!(store(engine).await.unwrap().store_id(), first.store_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_lost_everything_is_not_taken_for_a_new_one_by_who_had_seen_it() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let memory = Memory::default();
    let first = store(engine_on(Arc::new(memory.clone()), folders[0].path()).await).await.unwrap();
    steps(&first, 0..5).await;
    // Still open: the register is compared, too.
    memory.journal("namespaces").lose();
    tokio::time::sleep(COMPARED).await;
    names_the_loss(&first.engine().namespaces().await.expect_err("a list"), &["namespaces"]);
    first.engine().close().await.unwrap();
    memory.lose_everything();
    let warm = engine_on(Arc::new(memory.clone()), folders[0].path()).await;
    names_the_loss(&store(warm).await.expect_err("a cache that knows more"), &["namespaces", "entry 1"]);
    assert_eq!(memory.journal("namespaces").last(), 0, "nothing was made anew");
    // Another machine has never seen it.
    let other = store(engine_on(Arc::new(memory.clone()), folders[1].path()).await).await.unwrap();
    assert_ne!(other.store_id(), first.store_id());
    // Now it is a fork, as long as the register was.
    let warm = engine_on(Arc::new(memory.clone()), folders[0].path()).await;
    let error = store(warm).await.expect_err("another register");
    assert!(error.to_string().contains("forked"), "{error}");
}

#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_folder_that_is_gone_is_no_deletion() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let caches = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let first = store(support::files(folder.path(), caches[0].path()).await).await.unwrap();
    steps(&first, 0..5).await;
    let seen = digest(&first).await;
    let journal = support::journal_folder(folder.path());
    support::copy_folder(&journal, &other.path().join("copy"));
    std::fs::remove_dir_all(&journal).unwrap();
    let open = |cache: &Path| {
        let (folder, cache) = (folder.path().to_owned(), cache.to_owned());
        async move { store(support::files(&folder, &cache).await).await }
    };
    let default = ["\"default\""];
    names_the_loss(&open(caches[1].path()).await.expect_err("another cache"), &default);
    names_the_loss(&first.get("work", "key-1").await.expect_err("a read"), &default);
    names_the_loss(&first.commit(step(9)).await.expect_err("a commit"), &default);
    names_the_loss(&first.info().await.expect_err("a look"), &default);
    first.engine().close().await.unwrap();
    names_the_loss(&open(caches[0].path()).await.expect_err("the same cache"), &default);
    assert!(!journal.exists(), "nothing was made anew");
    support::copy_folder(&other.path().join("copy"), &journal);
    for cache in &caches {
        let again = open(cache.path()).await.unwrap();
        assert_eq!((again.store_id(), digest(&again).await), (first.store_id(), seen.clone()));
    }
}
