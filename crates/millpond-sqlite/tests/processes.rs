//! Racers as processes: two children on one file fight for one stream, one lease and the same commit ids, while the
//! parent follows the feed.
//!
//! The children are this test program again: the parent starts it with the name of the child's test and a variable
//! that says where the file is.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use millpond_core::{
    Acquire, Commit, CommitId, Delivery, EventFilter, Front, Holder, Key, ManualHost, MergeOp, Namespace, NewEvent, Outcome,
    Pace, Selector, StartAt, Store, StreamName, Timestamp, Write,
};
use millpond_sqlite::{SqliteEngine, SqliteOptions};
use serde_json::json;

/// Where a child finds the file; nothing where this is no child.
const FILE: &str = "MILLPOND_TEST_FILE";
/// When the first shared commit id was made, in microseconds.
const FIRST_ID: &str = "MILLPOND_TEST_FIRST_ID";
const CHILDREN: u64 = 2;
const APPENDS: u64 = 60;
const TURNS: u64 = 25;
const SHARED_COMMITS: u64 = 40;

async fn open(file: &Path) -> Store {
    let engine = SqliteEngine::open(file, SqliteOptions::default()).await.unwrap();
    Store::open(Arc::new(Front::new(Arc::new(engine))), Namespace::default()).await.unwrap()
}

/// The ids that every child uses: made one after another from a moment the parent chose.
fn shared_ids(first: i64) -> Vec<CommitId> {
    let host = ManualHost::at(Timestamp::from_micros(first));
    (0..SHARED_COMMITS).map(|_| CommitId::generate(&host)).collect()
}

#[test]
fn child() {
    let (Ok(file), Ok(first)) = (std::env::var(FILE), std::env::var(FIRST_ID)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&file)).await;
        println!("@ready");
        let mut go = String::new();
        std::io::stdin().read_line(&mut go).unwrap();
        append(&store).await;
        send_shared(&store, &shared_ids(first.parse().unwrap())).await;
        take_turns(&store).await;
    });
}

async fn append(store: &Store) {
    for n in 0..APPENDS {
        let event = NewEvent::of("raced", &json!({"by": std::process::id(), "n": n})).unwrap();
        let receipt = store.commit(Commit::new().append("race", event).unwrap()).await.unwrap();
        println!("@sequence {}", receipt.sequences[0].first);
    }
}

async fn send_shared(store: &Store, ids: &[CommitId]) {
    for id in ids {
        let add = vec![MergeOp::Add("/n".to_owned(), 1)];
        let commit = Commit::new().id(*id).merge("totals", "shared", add).unwrap();
        let receipt = store.commit(commit).await.unwrap();
        println!("@{}", if receipt.replayed { "replayed" } else { "fresh" });
    }
}

/// Adds one to a number that only whoever holds the lease may change: read, then put under the fence.
async fn take_turns(store: &Store) {
    let lease = Key::new("turn").unwrap();
    let mut turns = 0;
    while turns < TURNS {
        let holder = Holder { name: format!("child {}", std::process::id()), ..Holder::default() };
        let ttl = Duration::from_secs(600);
        let acquire = Acquire { lease: lease.clone(), holder, ttl, purpose: None, dead: None };
        let Outcome::Committed(receipt) = store.try_commit(Commit::new().write(Write::Acquire(acquire))).await.unwrap() else {
            std::thread::yield_now();
            continue;
        };
        let token = receipt.revisions[0];
        println!("@token {token}");
        let before = store.get("totals", "turns").await.unwrap().map_or(0, |r| r.value.decode::<u64>().unwrap());
        let put = Commit::new().put("totals", "turns", &(before + 1)).unwrap().fenced(lease.clone(), token);
        store.commit(put.write(Write::Release { lease: lease.clone(), token })).await.unwrap();
        turns += 1;
    }
}

fn start(file: &Path, first_id: i64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(FIRST_ID, first_id.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a child said, a line each, without the words of the test runner around it.
fn said(lines: impl Iterator<Item = std::io::Result<String>>) -> Vec<String> {
    let said = lines.map(Result::unwrap).filter_map(|l| l.split_once('@').map(|(_, word)| word.to_owned()));
    said.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("millpond.db");
    let store = open(&file).await;
    let first_id = store.now().as_micros();
    let mut children: Vec<Child> = (0..CHILDREN).map(|_| start(&file, first_id)).collect();
    let mut outputs: Vec<_> = children.iter_mut().map(|c| BufReader::new(c.stdout.take().unwrap()).lines()).collect();
    for output in &mut outputs {
        assert!(output.any(|line| line.unwrap().contains("@ready")), "a child ended before it was ready");
    }
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let followed = tokio::spawn(follow(store.clone()));
    let reading = outputs.into_iter().map(|output| std::thread::spawn(move || said(output)));
    let reading: Vec<_> = reading.collect();
    let words: Vec<Vec<String>> =
        tokio::task::spawn_blocking(move || reading.into_iter().map(|t| t.join().unwrap()).collect()).await.unwrap();
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "a child failed");
    }

    let numbers = |word: &str| -> Vec<u64> {
        let all = words.iter().flatten().filter_map(|w| w.strip_prefix(word));
        all.map(|n| n.trim().parse().unwrap()).collect()
    };
    let sequences = numbers("sequence ");
    assert_eq!(sequences.len() as u64, CHILDREN * APPENDS);
    let distinct: BTreeSet<u64> = sequences.into_iter().collect();
    assert_eq!(distinct, (1..=CHILDREN * APPENDS).collect(), "each acknowledged event has a sequence of its own");

    let fresh = words.iter().flatten().filter(|w| *w == "fresh").count() as u64;
    assert_eq!(fresh, SHARED_COMMITS, "each shared id was applied once");
    let shared = store.get("totals", "shared").await.unwrap().unwrap();
    assert_eq!((shared.value.as_str(), shared.revision), (format!("{{\"n\":{SHARED_COMMITS}}}").as_str(), SHARED_COMMITS));

    let tokens = numbers("token ");
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len() as u64, CHILDREN * TURNS, "no token was given out twice");
    let turns = store.get("totals", "turns").await.unwrap().unwrap();
    assert_eq!(turns.value.decode::<u64>().unwrap(), CHILDREN * TURNS, "two children were never in the same turn");

    let seen = followed.await.unwrap();
    assert_eq!(seen, (1..=CHILDREN * APPENDS).collect::<Vec<_>>(), "the follower saw each event once, in order");
    assert_eq!(store.engine().check(store.namespace()).await.unwrap(), Vec::<String>::new());
}

/// Every event of the race, as another process sees it: by hints alone, because it never looks by itself in time.
async fn follow(store: Store) -> Vec<u64> {
    let selector = Selector::Events(EventFilter::stream(StreamName::new("race").unwrap()));
    let mut feed = store.subscribe_with(selector, StartAt::Oldest, Pace { page: 16, poll: Duration::from_secs(3_600) });
    let mut seen = Vec::new();
    while (seen.len() as u64) < CHILDREN * APPENDS {
        let next = tokio::time::timeout(Duration::from_secs(60), feed.next()).await;
        if let Delivery::Change(millpond_core::Change::Event(event), _) =
            next.expect("a hint from another process").unwrap().unwrap()
        {
            seen.push(event.sequence);
        }
    }
    seen
}
