//! Several writer processes on one journal: each one's share, and that nothing acknowledged is lost, doubled or moved,
//! also when writers are killed.
//!
//! The program starts itself again for each writer.

mod support;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use millpond_core::{Commit, EventFilter, EventQuery, MergeOp, NewEvent, Store, StreamName};
use support::{digest, files, store};

/// Where a writer finds the store; not set where this is no writer.
const PLACE: &str = "MILLPOND_TEST_WRITER_PLACE";
/// Its name.
const NAME: &str = "MILLPOND_TEST_WRITER_NAME";
/// How long it writes, in milliseconds.
const LENGTH: &str = "MILLPOND_TEST_WRITER_LENGTH";
/// Callers in each writer.
const CALLERS: usize = 16;

fn main() -> ExitCode {
    if let Some(place) = std::env::var_os(PLACE) {
        return runtime().block_on(write(Path::new(&place)));
    }
    let trials = vec![
        Trial::test("eight_writers_share_one_journal", || runtime().block_on(share())),
        Trial::test("killed_writers_lose_nothing_that_was_acknowledged", || runtime().block_on(killed())),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A writer: says "ready", waits for a line, then writes and says what it was told.
async fn write(place: &Path) -> ExitCode {
    let name = std::env::var(NAME).expect("a name");
    let length = Duration::from_millis(std::env::var(LENGTH).expect("a length").parse().expect("a number"));
    let store = store(files(&place.join("store"), &place.join("cache")).await).await.expect("opens");
    say("ready");
    std::io::stdin().read_line(&mut String::new()).expect("go");
    let began = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (store, name) = (store.clone(), name.clone());
            tokio::spawn(async move {
                let mut n = 0;
                while began.elapsed() < length {
                    let id = format!("{name}/{caller}/{n}");
                    let receipt = store.commit(step(&id)).await.unwrap_or_else(|e| panic!("{id}: {e}"));
                    say(&format!("ack {id} {} {}", receipt.sequences[0].first, receipt.position));
                    n += 1;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("a caller");
    }
    ExitCode::SUCCESS
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{word}").and_then(|()| out.flush()).expect("the parent listens");
}

/// An event in a stream that all share, a record of its own, and a sum that all share.
fn step(id: &str) -> Commit {
    let mut event = NewEvent::of("step", &serde_json::json!({"text": "x".repeat(150)})).expect("an event");
    event.id = Some(id.to_owned());
    let commit = Commit::new().put("work", id, &serde_json::json!({"text": "y".repeat(200)})).expect("a record");
    let commit = commit.merge("totals", "all", vec![MergeOp::Add("/n".to_owned(), 1)]).expect("a sum");
    commit.append("shared", event).expect("a stream")
}

/// What one writer was told, and the process.
struct Writer {
    child: Child,
    told: std::thread::JoinHandle<Vec<String>>,
}

fn start(place: &Path, name: &str, length: Duration, ready: &std::sync::mpsc::Sender<()>) -> Writer {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env(PLACE, place).env(NAME, name).env(LENGTH, length.as_millis().to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a writer starts");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let ready = ready.clone();
    let told = std::thread::spawn(move || {
        let mut told = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            match line.strip_prefix('@') {
                Some("ready") => ready.send(()).expect("the parent waits"),
                Some(word) => told.extend(word.strip_prefix("ack ").map(str::to_owned)),
                None => {}
            }
        }
        told
    });
    Writer { child, told }
}

/// Starts writers and lets them go at once.
fn race(place: &Path, round: usize, writers: usize, length: Duration) -> Vec<Writer> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let mut running: Vec<_> = (0..writers).map(|w| start(place, &format!("{round}.{w}"), length, &ready)).collect();
    for _ in 0..writers {
        is_ready.recv_timeout(Duration::from_secs(60)).expect("every writer gets ready");
    }
    for writer in &mut running {
        writer.child.stdin.take().expect("its input").write_all(b"go\n").expect("it listens");
    }
    running
}

async fn opened(place: &Path, cache: &str) -> Store {
    store(files(&place.join("store"), &place.join(cache)).await).await.expect("opens")
}

async fn share() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    opened(folder.path(), "cache").await;
    let length = Duration::from_secs(4);
    let mut told = Vec::new();
    let mut shares = Vec::new();
    for mut writer in race(folder.path(), 0, 8, length) {
        assert!(writer.child.wait()?.success(), "a writer failed");
        let words = writer.told.join().expect("what it was told");
        shares.push(words.len());
        told.extend(words);
    }
    let (least, most) = (*shares.iter().min().expect("shares"), *shares.iter().max().expect("shares"));
    println!("commits of each of 8 writers in {length:?}: {shares:?}; smallest / largest {:.2}", least as f64 / most as f64);
    // The benchmark asks for 0.7 over ten seconds on a machine of its own.
    assert!(least * 10 >= most * 3, "the smallest share is less than 0.3 of the largest: {shares:?}");
    verify(folder.path(), &told, 0).await
}

async fn killed() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    opened(folder.path(), "cache").await;
    let mut told = Vec::new();
    const ROUNDS: usize = 6;
    const WRITERS: usize = 3;
    for round in 0..ROUNDS {
        let running = race(folder.path(), round, WRITERS, Duration::from_secs(60));
        for (at, mut writer) in running.into_iter().enumerate() {
            // Another moment in each round, so that all the steps of a commit are met.
            std::thread::sleep(Duration::from_millis(100 + 37 * round as u64 + 11 * at as u64));
            writer.child.kill()?;
            writer.child.wait()?;
            told.extend(writer.told.join().expect("what it was told"));
        }
    }
    println!("{} commits were acknowledged by writers that were killed", told.len());
    verify(folder.path(), &told, ROUNDS * WRITERS * CALLERS).await
}

/// Each acknowledged commit is there once, where it was said to be; at most `more` others are, and everything is dense.
async fn verify(place: &Path, told: &[String], more: usize) -> Result<(), Failed> {
    let store = opened(place, "cache").await;
    let stream = StreamName::new("shared")?;
    let mut found = HashMap::new();
    let (mut next, mut after) = (1, None);
    loop {
        let query = EventQuery::new(EventFilter::stream(stream.clone())).limit(5_000).after(after);
        let page = store.events(query).await?.items;
        let Some(last) = page.last() else { break };
        after = Some(last.position);
        for event in page {
            assert_eq!(event.sequence, next, "sequences are dense");
            next += 1;
            let id = event.id.expect("an id");
            assert!(found.insert(id.clone(), (event.sequence, event.position.0)).is_none(), "{id} is there twice");
        }
    }
    for word in told {
        let mut parts = word.split(' ');
        let id = parts.next().unwrap_or_default();
        let at = found.get(id).copied();
        let sequence: u64 = parts.next().unwrap_or_default().parse()?;
        let position: u64 = parts.next().unwrap_or_default().parse()?;
        let (sequence_found, position_found) = at.unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
        assert_eq!(sequence_found, sequence, "{id}");
        // A commit's position is its last; the event comes after the two records.
        assert_eq!(position_found, position, "{id}");
    }
    assert!(found.len() >= told.len() && found.len() - told.len() <= more, "{} found, {} acknowledged", found.len(), told.len());
    let sum = store.get("totals", "all").await?.expect("the sum").value.value()?["n"].as_u64();
    assert_eq!(sum, Some(found.len() as u64), "the sum that all share");
    assert_eq!(store.info().await?.position.0, 2 * found.len() as u64 + merges(&store).await?, "positions are dense");
    assert_eq!(store.engine().check(store.namespace()).await?, Vec::<String>::new());
    assert_eq!(digest(&opened(place, "another").await).await, digest(&store).await, "a fresh replay");
    Ok(())
}

/// Changes of the shared sum.
async fn merges(store: &Store) -> millpond_core::Result<u64> {
    Ok(store.get("totals", "all").await?.map_or(0, |r| r.revision))
}
