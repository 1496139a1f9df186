//! Dead letters under load: how often workers get in each other's way, and how much each call reads.

mod support;

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    AnalysisRequest, ClaimRequest, DeadLetterFilter, DeadLetterState, DeadLetteredItem, DeadLetters, ErrorKind, ErrorType,
    FailureDetail, LetterRef, OpenOptions, Timestamp,
};
use serde_json::json;
use support::CountingEngine;

const LONG: Duration = Duration::from_secs(3_600);

fn item(n: u32) -> DeadLetteredItem {
    let at = Timestamp::from_micros(1_700_000_000_000_000 + i64::from(n) * 1_000_000);
    let message = format!("cause {} struck", ["a", "b", "c"][n as usize % 3]);
    DeadLetteredItem::of(format!("item {n}"), json!({ "n": n }), FailureDetail::of(at, ErrorType::Timeout, message))
}

/// Adds letters through many callers at once.
async fn fill(letters: &DeadLetters, count: u32) {
    let next = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let adders: Vec<_> = (0..256)
        .map(|_| {
            let (letters, next) = (letters.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    if n >= count {
                        return;
                    }
                    letters.add("job", item(n)).await.expect("adds");
                }
            })
        })
        .collect();
    for adder in adders {
        adder.await.expect("an adder ends");
    }
}

/// One worker: claims and completes until there is nothing left. Counts letters, and commits that were applied.
async fn drain(letters: DeadLetters, worker: usize, each: usize) -> (u64, u64) {
    let (mut done, mut commits) = (0, 0);
    loop {
        let request = ClaimRequest::of(format!("worker {worker}"), each, LONG);
        let claims = letters.claim(&request).await.expect("claims");
        if claims.is_empty() {
            return (done, commits);
        }
        letters.complete_all(&claims).await.expect("no other worker can have these letters");
        done += claims.len() as u64;
        commits += 2;
    }
}

/// Drains letters by sixteen workers over two handles on one store; gives back the conflicts.
async fn conflicts_of_a_drain(count: u32, each: usize) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("a path in Unicode");
    let ponds = [millpond::open(place).await.expect("opens"), millpond::open(place).await.expect("opens again")];
    let commits = || ponds.iter().map(|pond| pond.store().front().stats().commits()).sum::<u64>();
    let letters: Vec<DeadLetters> = ponds.iter().map(|pond| pond.dead_letters().with_capacity(count)).collect();
    fill(&letters[0], count).await;
    let before = commits();
    let workers: Vec<_> = (0..16).map(|n| tokio::spawn(drain(letters[n % 2].clone(), n, each))).collect();
    let (mut done, mut applied) = (0, 0);
    for worker in workers {
        let (letters, commits) = worker.await.expect("a worker ends");
        done += letters;
        applied += commits;
    }
    assert_eq!(done, u64::from(count), "letters that workers completed");
    let completed = DeadLetterFilter::all().state(DeadLetterState::Completed);
    assert_eq!(letters[0].count(&completed).await.expect("counts"), u64::from(count), "letters that are completed");
    let page = letters[1].list(&DeadLetterFilter::all().limit(10_000)).await.expect("lists");
    assert_eq!(page.items.len(), count as usize);
    assert!(page.items.iter().all(|l| l.claims == 1), "a letter was claimed more than once");
    commits() - before - applied
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_workers_drain_ten_thousand_letters_with_few_conflicts() {
    let conflicts = conflicts_of_a_drain(10_000, 10).await;
    println!("{conflicts} conflicts over 10,000 letters, ten a claim");
    // Fewer than one a letter, as promised; workers that all began with the oldest letters would have twice as many.
    assert!(conflicts <= 3_000, "{conflicts} conflicts over 10,000 letters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_letter_a_claim_conflicts_no_more() {
    let conflicts = conflicts_of_a_drain(1_000, 1).await;
    println!("{conflicts} conflicts over 1,000 letters, one a claim");
    assert!(conflicts <= 1_000, "{conflicts} conflicts over 1,000 letters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_read_what_they_answer() {
    let options = OpenOptions::new();
    let counting = CountingEngine::on(options.engine("memory:").await.expect("opens"));
    let pond = options.open_engine(counting.clone()).await.expect("opens");
    let letters = pond.dead_letters().with_capacity(3_000);
    fill(&letters, 3_000).await;
    counting.take_rows();

    let page = letters.list(&DeadLetterFilter::all().job("job").limit(50)).await.expect("lists");
    assert_eq!((page.items.len(), page.next.is_some()), (50, true));
    assert!(counting.take_rows() <= 200, "a page of 50");

    assert_eq!(letters.stats(None).await.expect("counts").total, 3_000);
    let rows = counting.take_rows();
    assert!(rows <= 20, "statistics over 3,000 letters moved {rows} rows");

    let analysis = letters.analyse(&AnalysisRequest::default()).await.expect("analyses");
    assert_eq!((analysis.patterns.len(), analysis.patterns[0].count), (3, 1_000));
    let rows = counting.take_rows();
    assert!(rows <= 30, "an analysis of three patterns moved {rows} rows");

    let claims = letters.claim(&ClaimRequest::of("w", 5, LONG)).await.expect("claims");
    assert_eq!(claims.len(), 5);
    let rows = counting.take_rows();
    assert!(rows <= 200, "a claim of five moved {rows} rows");

    letters.complete_all(&claims).await.expect("completes");
    assert_eq!(counting.take_rows(), 0, "completing reads nothing");

    let full = letters.clone().with_capacity(100).add("job", item(9_999)).await.expect("adds");
    assert_eq!(full.evicted.len(), 1_000, "what one commit evicts at most");
}

#[test]
fn the_same_in_a_program_without_a_runtime() {
    let pond = millpond::blocking::open("memory:").expect("opens");
    let letters = pond.dead_letters().with_capacity(2);
    for n in 0..3 {
        letters.add("job", item(n)).expect("adds");
    }
    assert_eq!(letters.jobs(true, 10, None).expect("lists").items[0].open, 2, "two open letters in a job that holds two");
    let claim = letters.claim(&ClaimRequest::of("w", 1, LONG)).expect("claims").remove(0);
    let claim = letters.extend(&claim, LONG).expect("extends");
    letters.complete(&claim).expect("completes");
    assert_eq!(letters.complete(&claim).expect_err("twice").kind(), ErrorKind::Conflict);
    let left = letters.list(&DeadLetterFilter::all().state(DeadLetterState::Pending)).expect("lists").items.remove(0);
    letters.discard(&LetterRef::from(&left), "not needed", "ops").expect("discards");
    let stats = letters.stats(Some("job")).expect("counts");
    assert_eq!((stats.total, stats.by_state["discarded"], stats.by_state["completed"]), (2, 1, 1));
}

#[test]
fn how_long_an_attempt_took_is_read_from_milliseconds_too() {
    let mut letter: serde_json::Value = serde_json::from_str(include_str!("golden/dead_letter-v1.json")).expect("JSON");
    let failure = letter["failure_history"][0].as_object_mut().expect("an attempt");
    let micros = failure.remove("duration_us").and_then(|n| n.as_u64()).expect("microseconds");
    assert!(micros > 0 && micros.is_multiple_of(1_000), "{micros}");
    failure.insert("duration_ms".to_owned(), (micros / 1_000).into());
    let item: DeadLetteredItem = serde_json::from_value(letter.clone()).expect("an item as it was written earlier");
    let read = &item.failure_history[0];
    assert_eq!((read.duration_us, read.extra.get("duration_ms")), (micros, None));
    // Written again, it is in microseconds, once.
    let written = serde_json::to_value(read).expect("JSON");
    assert_eq!((written["duration_us"].as_u64(), written.get("duration_ms")), (Some(micros), None));
    // Where both are there, the microseconds count and the other field is kept as it is.
    letter["failure_history"][0]["duration_us"] = 7.into();
    let item: DeadLetteredItem = serde_json::from_value(letter).expect("an item");
    assert_eq!((item.failure_history[0].duration_us, item.failure_history[0].extra.contains_key("duration_ms")), (7, true));
}
