//! The commit queue: what a caller may rely on, whatever the engine is doing.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "front/gate.rs"]
mod gate;

use std::sync::Arc;
use std::time::Duration;

use millpond_core::{Catalog, Commit, Engine, ErrorKind, Front, Namespace, PreparedCommit, QueueLimits, SystemHost};

use gate::{Answers, Gate};

fn commit(text: &str) -> PreparedCommit {
    Commit::new().put("notes", "a", text).unwrap().prepare(&SystemHost, &Catalog::default()).unwrap()
}

fn front(gate: &Arc<Gate>, commits: usize, bytes: usize) -> Arc<Front> {
    let limits = QueueLimits { commits, bytes, patience: Duration::from_millis(50) };
    Arc::new(Front::with_limits(Arc::clone(gate) as Arc<dyn Engine>, limits))
}

/// Submits a commit on a task of its own, and returns when it is in the queue.
async fn submit(front: &Arc<Front>, commit: &PreparedCommit) -> tokio::task::JoinHandle<Result<(), ErrorKind>> {
    let (front, commit) = (Arc::clone(front), commit.clone());
    let task = tokio::spawn(async move {
        let answer = front.submit(&Namespace::default(), commit, false).await;
        answer.map(|_| ()).map_err(|e| e.kind())
    });
    // One turn of a runtime with one thread: the task has run up to where it waits.
    tokio::task::yield_now().await;
    task
}

#[tokio::test]
async fn a_dropped_caller_changes_nothing() {
    let gate = Arc::new(Gate::closed(Answers::Commit));
    let front = front(&gate, 100, 1 << 20);
    let (waiting, flushing) = (commit("waiting"), commit("flushing"));
    // Each is polled once, then dropped: the first is with the engine by then, the second in the queue.
    let namespace = Namespace::default();
    for prepared in [&flushing, &waiting] {
        let submitted = front.submit(&namespace, prepared.clone(), false);
        assert!(tokio::time::timeout(Duration::ZERO, submitted).await.is_err(), "nothing is decided behind a closed gate");
        tokio::task::yield_now().await;
    }
    gate.open();
    let last = submit(&front, &commit("last")).await;
    last.await.unwrap().unwrap();
    assert_eq!(gate.seen().concat()[..2], [flushing.id(), waiting.id()]);
}

#[tokio::test]
async fn batches_form_while_one_is_flushed_and_keep_their_order() {
    let gate = Arc::new(Gate::closed(Answers::Commit));
    let front = front(&gate, 1_000, 1 << 20);
    let commits: Vec<PreparedCommit> = (0..200).map(|n| commit(&n.to_string())).collect();
    let mut tasks = Vec::new();
    for prepared in &commits {
        tasks.push(submit(&front, prepared).await);
    }
    gate.open();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let seen = gate.seen();
    let sizes: Vec<usize> = seen.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 199], "one flush for the first, one for all that came meanwhile");
    let expected: Vec<_> = commits.iter().map(PreparedCommit::id).collect();
    assert_eq!(seen.concat(), expected, "first come, first served");
    assert_eq!((front.stats().batches(), front.stats().commits()), (2, 200));
}

#[tokio::test]
async fn a_full_queue_says_so_and_applies_nothing() {
    let gate = Arc::new(Gate::closed(Answers::Commit));
    let front = front(&gate, 4, 1 << 20);
    let mut tasks = Vec::new();
    for n in 0..4 {
        tasks.push(submit(&front, &commit(&n.to_string())).await);
    }
    let refused = commit("one too many");
    let answer = front.submit(&Namespace::default(), refused.clone(), false).await.unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::Unavailable);
    assert!(answer.message().contains("not applied"), "{answer}");
    gate.open();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(!gate.seen().concat().contains(&refused.id()), "a refused commit reached the engine");
    front.submit(&Namespace::default(), refused, false).await.unwrap();
}

#[tokio::test]
async fn bytes_fill_the_queue_too() {
    let gate = Arc::new(Gate::closed(Answers::Commit));
    let front = front(&gate, 1_000, 64 << 10);
    let large = submit(&front, &commit(&"x".repeat(50 << 10))).await;
    let answer = front.submit(&Namespace::default(), commit(&"y".repeat(50 << 10)), false).await.unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::Unavailable);
    let small = submit(&front, &commit("small")).await;
    gate.open();
    large.await.unwrap().unwrap();
    small.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_waits_for_room() {
    let gate = Arc::new(Gate::closed(Answers::Commit));
    let limits = QueueLimits { commits: 1, bytes: 1 << 20, patience: Duration::from_secs(60) };
    let front = Arc::new(Front::with_limits(Arc::clone(&gate) as Arc<dyn Engine>, limits));
    let first = submit(&front, &commit("first")).await;
    let second = submit(&front, &commit("second")).await;
    assert_eq!(gate.seen().len(), 1, "the second has no room yet");
    gate.open();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(gate.seen().len(), 2);
}

#[tokio::test]
async fn every_caller_of_a_failed_batch_hears_why() {
    for (answers, expected) in [
        (Answers::Fail(ErrorKind::Unavailable), ErrorKind::Unavailable),
        (Answers::Fail(ErrorKind::UnknownOutcome), ErrorKind::UnknownOutcome),
        // An engine that answers too few leaves it open which ones it answered.
        (Answers::OneTooFew, ErrorKind::UnknownOutcome),
    ] {
        let gate = Arc::new(Gate::closed(answers));
        let front = front(&gate, 100, 1 << 20);
        let mut tasks = Vec::new();
        for n in 0..5 {
            tasks.push(submit(&front, &commit(&n.to_string())).await);
        }
        gate.open();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Err(expected));
        }
        // The room of the failed ones is free again, and the lane is led again.
        assert_eq!(submit(&front, &commit("next")).await.await.unwrap(), Err(expected));
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_under_the_same_id() {
    let gate = Arc::new(Gate::open_with(Answers::UnknownOnce));
    let store = millpond_core::Store::open(front(&gate, 100, 1 << 20), Namespace::default()).await.unwrap();
    store.commit(Commit::new().put("notes", "a", "x").unwrap()).await.unwrap();
    let seen = gate.seen().concat();
    assert_eq!(seen.len(), 2, "sent twice");
    assert_eq!(seen[0], seen[1], "under one id");
}

#[tokio::test]
async fn namespaces_have_queues_of_their_own() {
    let gate = Arc::new(Gate::closed(Answers::Commit));
    let front = front(&gate, 100, 1 << 20);
    let here = submit(&front, &commit("here")).await;
    let (other, there) = (Namespace::new("other").unwrap(), commit("there"));
    let (front_there, prepared) = (Arc::clone(&front), there.clone());
    let task = tokio::spawn(async move { front_there.submit(&other, prepared, false).await.map(|_| ()) });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(gate.seen().len(), 2, "both namespaces are with the engine at once");
    gate.open();
    here.await.unwrap().unwrap();
    task.await.unwrap().unwrap();
}

/// Submits a commit and fails the test if nobody answers it.
async fn answered(front: &Front, commit: PreparedCommit, inline: bool) -> Result<(), ErrorKind> {
    let namespace = Namespace::default();
    let answer = tokio::time::timeout(Duration::from_secs(10), front.submit(&namespace, commit, inline)).await;
    answer.expect("nobody answered the commit").map(|_| ()).map_err(|e| e.kind())
}

#[tokio::test]
async fn an_engine_that_panics_leaves_its_lane_in_order() {
    for local in [true, false] {
        for inline in [true, false] {
            let gate = Gate::open_with(Answers::PanicOnce);
            let front = front(&Arc::new(if local { gate.local() } else { gate }), 100, 1 << 20);
            let path = format!("local: {local}, inline: {inline}");
            assert_eq!(answered(&front, commit("panics"), inline).await, Err(ErrorKind::UnknownOutcome), "{path}");
            assert_eq!(answered(&front, commit("next"), inline).await, Ok(()), "{path}");
            assert_eq!(answered(&front, commit("by the writer"), false).await, Ok(()), "{path}");
        }
    }
}

#[tokio::test]
async fn a_leader_that_goes_away_with_its_runtime_leaves_nobody_waiting() {
    let gate = Arc::new(Gate::closed(Answers::Commit));
    let front = front(&gate, 100, 1 << 20);
    let leading = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let (theirs, first) = (Arc::clone(&front), commit("first"));
    drop(leading.spawn(async move { theirs.submit(&Namespace::default(), first, false).await.map(|_| ()) }));
    while gate.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let waiting = commit("waiting");
    let task = submit(&front, &waiting).await;
    leading.shutdown_background();
    let answer = tokio::time::timeout(Duration::from_secs(10), task).await.expect("nobody answered the commit");
    assert_eq!(answer.unwrap(), Err(ErrorKind::Unavailable));
    gate.open();
    assert_eq!(answered(&front, commit("next"), false).await, Ok(()));
    assert!(!gate.seen().concat().contains(&waiting.id()), "what was answered as not applied reached the engine");
}

/// Blocking callers have runtimes that run only while they wait.
#[test]
fn a_runtime_that_stands_still_keeps_no_lane() {
    let gate = Arc::new(Gate::open_with(Answers::Commit));
    let front = front(&gate, 100, 1 << 20);
    let runtimes: Vec<_> = (0..2).map(|_| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()).collect();
    for n in 0..6 {
        let prepared = commit(&n.to_string());
        let answer = runtimes[n % 2].block_on(async {
            tokio::time::timeout(Duration::from_secs(10), answered(&front, prepared, false)).await.expect("nobody led the lane")
        });
        assert_eq!(answer, Ok(()));
    }
}
