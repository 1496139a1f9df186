//! Answers that are lost, entries that arrive late, followers that are behind.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::sync::Arc;
use std::time::Duration;

use millpond_core::{Commit, CommitId, Engine, ErrorKind, Front, Namespace, Outcome, Store, SystemHost};
use millpond_journal::{JournalEngine, JournalOptions};
use support::memory::{Fault, Memory};
use support::{digest, engine_on, step, steps, store};

/// Adds one to a number, so that a commit that is applied twice shows.
fn add(id: CommitId) -> Commit {
    Commit::new().id(id).merge("totals", "n", vec![millpond_core::MergeOp::Add("/n".to_owned(), 1)]).expect("a merge")
}

async fn total(store: &Store) -> u64 {
    let record = store.get("totals", "n").await.expect("a read");
    record.map_or(0, |r| r.value.value().expect("a document")["n"].as_u64().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_settled_whatever_happened() {
    for fault in [Fault::DoneNotTold, Fault::NothingNotTold, Fault::DoneToldOvertaken, Fault::Late] {
        let cache = tempfile::tempdir().expect("a folder");
        let memory = Memory::default();
        let store = store(engine_on(Arc::new(memory.clone()), cache.path()).await).await.expect("opens");
        steps(&store, 0..3).await;
        memory.default_journal().fail([fault]);
        store.commit(add(CommitId::generate(&SystemHost))).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert_eq!(memory.default_journal().faults_left(), 0, "{fault:?} did not happen");
        assert_eq!(total(&store).await, 1, "{fault:?}");
        steps(&store, 3..6).await;
        let again = tempfile::tempdir().expect("a folder");
        let replayed = support::store(engine_on(Arc::new(memory.clone()), again.path()).await).await.expect("opens");
        assert_eq!(digest(&replayed).await, digest(&store).await, "{fault:?}");
        assert_eq!(total(&replayed).await, 1, "{fault:?}");
    }
}

/// Who slept for so long that its own entry was trimmed cannot compare it any more: the receipt tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_entry_was_trimmed_before_it_was_compared_is_applied_once() {
    let cache = tempfile::tempdir().expect("a folder");
    let memory = Memory::default();
    let store = store(engine_on(Arc::new(memory.clone()), cache.path()).await).await.expect("opens");
    steps(&store, 0..3).await;
    memory.default_journal().fail([Fault::DoneTrimmedToldOvertaken]);
    // Without an id of its own: the store takes it that no receipt of it can exist.
    let add = Commit::new().merge("totals", "n", vec![millpond_core::MergeOp::Add("/n".to_owned(), 1)]).expect("a merge");
    store.commit(add).await.expect("it is there");
    assert_eq!(memory.default_journal().faults_left(), 0, "the fault did not happen");
    assert_eq!(total(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_done_is_said_to_be_not_applied() {
    let cache = tempfile::tempdir().expect("a folder");
    let memory = Memory::default();
    let store = store(engine_on(Arc::new(memory.clone()), cache.path()).await).await.expect("opens");
    memory.default_journal().fail([Fault::NothingTold]);
    let id = CommitId::generate(&SystemHost);
    assert_eq!(store.commit(add(id)).await.expect_err("a fault").kind(), ErrorKind::Unavailable);
    assert_eq!(total(&store).await, 0);
    assert!(!store.commit(add(id)).await.expect("the second try").replayed);
    assert_eq!(total(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_stays_unknown_is_right_when_the_commit_is_sent_again() {
    let cache = tempfile::tempdir().expect("a folder");
    let memory = Memory::default();
    let options = JournalOptions { cache: Some(cache.path().to_owned()), patience: Duration::ZERO, ..JournalOptions::default() };
    let engine = Arc::new(JournalEngine::open(Arc::new(memory.clone()), options).await.expect("opens"));
    let store = store(Arc::clone(&engine)).await.expect("opens");
    let bound = store.namespace().clone().bound(store.store_id());
    for fault in [Fault::DoneNotTold, Fault::NothingNotTold, Fault::Late] {
        let before = total(&store).await;
        let id = CommitId::generate(&SystemHost);
        let prepared = add(id).prepare(&SystemHost, &store.catalog()).expect("a commit");
        memory.default_journal().fail([fault]);
        // Not through the store, which would send it again by itself.
        let first = engine.commit(&bound, vec![prepared.clone()]).await.expect_err("no patience");
        assert_eq!(first.kind(), ErrorKind::UnknownOutcome, "{fault:?}");
        let mut second = engine.commit(&bound, vec![prepared.again()]).await.expect("an answer");
        let Outcome::Committed(receipt) = second.remove(0).expect("decided") else { panic!("a conflict") };
        assert_eq!(receipt.replayed, fault == Fault::DoneNotTold, "{fault:?}");
        assert_eq!(total(&store).await, before + 1, "{fault:?}");
        // What comes late finds its place taken.
        steps(&store, 0..4).await;
        assert_eq!(total(&store).await, before + 1, "{fault:?} arrived late");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_decided_on_the_tail() {
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let memory = Memory::default();
    let one = store(engine_on(Arc::new(memory.clone()), first.path()).await).await.expect("opens");
    let other = store(engine_on(Arc::new(memory.clone()), second.path()).await).await.expect("opens");
    other.commit(Commit::new().put("work", "a", &1).expect("a record")).await.expect("a commit");
    // To a replica that stands before that entry the record does not exist.
    let update = Commit::new().expect_revision("work", "a", 1).expect("a name").put("work", "a", &2).expect("a record");
    let outcome = one.try_commit(update).await.expect("decided");
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_show_what_another_handle_was_told() {
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let memory = Memory::default();
    let one = store(engine_on(Arc::new(memory.clone()), first.path()).await).await.expect("opens");
    let other = store(engine_on(Arc::new(memory.clone()), second.path()).await).await.expect("opens");
    for n in 0..20 {
        one.commit(step(n)).await.expect("a commit");
        let seen = other.get("work", &format!("key-{}", n % 7)).await.expect("a read").expect("the record");
        assert_eq!(seen.value.decode::<u64>().expect("a number"), n);
    }
    // The defect: a tail that is read from a follower which is behind. The read below must be able to notice.
    memory.default_journal().answer_stale(true);
    one.commit(step(100)).await.expect("a commit");
    let stale = other.get("work", "key-2").await.expect("a read").expect("the record");
    assert_ne!(stale.value.decode::<u64>().expect("a number"), 100, "this check cannot fail");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_read_asks_nobody_and_lacks_nothing_that_was_told_here() {
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let memory = Memory::default();
    let one = store(engine_on(Arc::new(memory.clone()), first.path()).await).await.expect("opens");
    let other = store(engine_on(Arc::new(memory.clone()), second.path()).await).await.expect("opens");
    one.commit(step(0)).await.expect("a commit");
    assert!(other.get("work", "key-0").await.expect("a read").is_some());
    let before = memory.default_journal().reads();
    one.commit(step(1)).await.expect("a commit");
    assert!(one.stale().get("work", "key-1").await.expect("a read").is_some(), "one's own commit");
    assert!(other.stale().get("work", "key-1").await.expect("a read").is_none(), "another's, not yet heard of");
    assert!(other.stale().get("work", "key-0").await.expect("a read").is_some());
    assert_eq!(memory.default_journal().reads(), before, "the journal was not asked");
    assert!(other.get("work", "key-1").await.expect("a read").is_some(), "a fresh read");
    assert!(memory.default_journal().reads() > before, "this count can rise");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_larger_than_an_entry_goes_in_parts() {
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let memory = Memory::with_limit(64 << 10);
    let one = store(engine_on(Arc::new(memory.clone()), first.path()).await).await.expect("opens");
    let other = store(engine_on(Arc::new(memory.clone()), second.path()).await).await.expect("opens");
    let before = memory.default_journal().last();
    let large = "ä\"\\ ".repeat(60_000);
    one.commit(Commit::new().put("work", "large", &large).expect("a record")).await.expect("a commit");
    assert!(memory.default_journal().last() - before > 4, "it was cut into parts");
    steps(&one, 0..3).await;
    let read = other.get("work", "large").await.expect("a read").expect("the record");
    assert_eq!(read.value.decode::<String>().expect("text"), large);
    assert_eq!(digest(&one).await, digest(&other).await);
    // A part in the middle whose answer is lost, and one that never went: all or nothing.
    memory.default_journal().fail([Fault::DoneNotTold, Fault::NothingNotTold, Fault::DoneNotTold]);
    one.commit(Commit::new().put("work", "second", &large).expect("a record")).await.expect("a commit");
    memory.default_journal().fail([Fault::DoneNotTold, Fault::NothingTold]);
    let answer = one.commit(Commit::new().put("work", "third", &large).expect("a record")).await;
    assert!(other.get("work", "third").await.expect("a read").is_none() == answer.is_err());
    steps(&other, 3..6).await;
    assert_eq!(digest(&one).await, digest(&other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_a_failover_lost_is_noticed_by_everybody_who_saw_it() {
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let memory = Memory::default();
    let one = store(engine_on(Arc::new(memory.clone()), first.path()).await).await.expect("opens");
    steps(&one, 0..10).await;
    let last = memory.default_journal().last();
    memory.default_journal().lose_after(last - 3);
    // A process that never saw the end goes on from where the journal stands now.
    let newcomer = store(engine_on(Arc::new(memory.clone()), second.path()).await).await.expect("opens");
    steps(&newcomer, 20..30).await;
    let error = one.commit(step(99)).await.expect_err("a fork");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(&format!("entry {}", last + 1)), "{error}");
    one.engine().close().await.expect("closes");
    // The replica that had seen it, in a folder where nobody holds its slot.
    let kept = tempfile::tempdir().expect("a folder");
    support::copy_folder(first.path(), kept.path());
    let again = store(engine_on(Arc::new(memory.clone()), kept.path()).await).await.err();
    let error = again.expect("a replica that had seen it does not open on the fork");
    assert!(error.to_string().contains("forked"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_stands_for_what_was_trimmed() {
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let memory = Memory::default();
    let open = |at: usize, snapshot_bytes| {
        let options = JournalOptions { cache: Some(folders[at].path().to_owned()), snapshot_bytes, ..JournalOptions::default() };
        let place = Arc::new(memory.clone());
        async move {
            let engine: Arc<dyn Engine> = Arc::new(JournalEngine::open(place, options).await.expect("opens"));
            Store::open(Arc::new(Front::new(engine)), Namespace::default()).await.expect("opens")
        }
    };
    let one = open(0, 200_000).await;
    let behind = open(1, u64::MAX).await;
    steps(&behind, 0..3).await;
    let mut n = 3;
    while memory.default_journal().trimmed() < 300 {
        one.commit(step(n)).await.expect("a commit");
        n += 1;
        assert!(n < 20_000, "nothing was trimmed");
    }
    let fresh = open(2, u64::MAX).await;
    assert_eq!(digest(&fresh).await, digest(&one).await);
    assert_eq!(digest(&behind).await, digest(&one).await, "one that was far behind");
    // And it writes: with a stale replica that was restarted, and with a fresh one.
    steps(&behind, 0..3).await;
    steps(&fresh, 3..6).await;
    assert_eq!(digest(&fresh).await, digest(&one).await);
    assert_eq!(one.engine().check(one.namespace()).await.expect("a check"), Vec::<String>::new());
}

/// An append that is held up: what the replica does meanwhile is counted, and readers see nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_applied_while_its_entry_travels() {
    let cache = tempfile::tempdir().expect("a folder");
    let memory = Memory::default();
    let engine = engine_on(Arc::new(memory.clone()), cache.path()).await;
    let store = store(Arc::clone(&engine)).await.expect("opens");
    let before = engine.stats().applied_ahead;
    memory.default_journal().hold(true);
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.commit(step(1)).await }
    });
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while engine.stats().applied_ahead == before {
        assert!(std::time::Instant::now() < deadline, "nothing was applied while the entry travelled");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!writing.is_finished(), "it was answered before its entry was written");
    assert!(store.stale().get("work", "key-1").await.expect("a read").is_none(), "it is seen before it is written");
    memory.default_journal().hold(false);
    writing.await.expect("the writer").expect("a commit");
    assert!(store.get("work", "key-1").await.expect("a read").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_namespaces_leaves_open_what_was_open() {
    let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let memory = Memory::default();
    let maker = engine_on(Arc::new(memory.clone()), one.path()).await;
    for n in 0..12 {
        maker.create_namespace(&Namespace::new(format!("space-{n}")).expect("a name")).await.expect("is made");
    }
    let engine = engine_on(Arc::new(memory.clone()), other.path()).await;
    let store = store(Arc::clone(&engine)).await.expect("opens");
    assert_eq!(engine.stats().open, 1);
    for _ in 0..2 {
        assert_eq!(engine.namespaces().await.expect("a list").len(), 13);
        assert_eq!(engine.stats().open, 1, "replicas that nobody uses stay open");
    }
    // One that is being used at the same time is not closed under its user.
    let name = Namespace::new("space-3").expect("a name");
    let used = millpond_core::Store::open(Arc::new(Front::new(Arc::clone(&engine) as Arc<dyn Engine>)), name).await;
    let used = used.expect("opens");
    let (listed, written) = tokio::join!(engine.namespaces(), used.commit(step(1)));
    assert_eq!(listed.expect("a list").len(), 13);
    written.expect("a commit");
    assert_eq!(engine.stats().open, 2);
    assert!(used.stale().get("work", "key-1").await.expect("a read").is_some());
    steps(&store, 0..2).await;
}
