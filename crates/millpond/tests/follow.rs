//! Two processes on one store: one writes, one follows; both are killed at random and go on.
//!
//! Every acknowledged event is seen once a position, in order, and soon after its commit: a subscription that were a
//! timer over a list would be too late, one that forgot its cursor would repeat, one that trusted hints would miss.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libtest_mimic::{Arguments, Failed, Trial};
use millpond::{Change, Commit, Cursor, Delivery, NewEvent, Selector, StartAt};

const ROLE: &str = "MILLPOND_TEST_ROLE";
const STORE: &str = "MILLPOND_TEST_STORE";
const AFTER: &str = "MILLPOND_TEST_AFTER";
const ROUNDS: usize = 12;

fn main() -> ExitCode {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
    match std::env::var(ROLE).as_deref() {
        Ok("writer") => runtime().block_on(write()),
        Ok("follower") => runtime().block_on(follow()),
        _ => {
            let trial = Trial::test("a_follower_in_another_process_misses_nothing", two_processes);
            return libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code();
        }
    }
    ExitCode::SUCCESS
}

#[allow(clippy::disallowed_methods)] // Two processes of one machine compare its clock.
fn micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

async fn write() {
    let pond = millpond::open(&std::env::var(STORE).expect("store")).await.expect("opens");
    for n in 0u64.. {
        let stream = format!("stream/{}", n % 5);
        let commit = Commit::new().append(&stream, NewEvent::of("tick", &n).expect("json")).expect("name");
        let receipt = pond.commit(commit).await.expect("commits");
        say(&format!("{} {}", receipt.position, micros()));
        tokio::time::sleep(Duration::from_millis(n * 7 % 11)).await;
    }
}

async fn follow() {
    let pond = millpond::open(&std::env::var(STORE).expect("store")).await.expect("opens");
    let start = match std::env::var(AFTER) {
        Ok(cursor) => StartAt::After(cursor.parse::<Cursor>().expect("a cursor")),
        Err(_) => StartAt::Oldest,
    };
    let mut feed = pond.subscribe(Selector::types("tick"), start).expect("one store");
    while let Some(delivery) = feed.next().await {
        let delivery = delivery.expect("a delivery");
        if let Delivery::Change(Change::Event(event), cursor) = &delivery {
            say(&format!("{} {} {cursor}", event.position, micros()));
        }
    }
}

/// A child whose lines are collected as they come.
struct Watched {
    child: Child,
    reader: std::thread::JoinHandle<()>,
}

fn start(role: &str, store: &str, after: Option<&str>, lines: &Arc<Mutex<Vec<String>>>) -> Result<Watched, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(ROLE, role).env(STORE, store).stdout(Stdio::piped());
    if let Some(after) = after {
        command.env(AFTER, after);
    }
    let mut child = command.spawn()?;
    let out = child.stdout.take().ok_or("no pipe")?;
    let lines = Arc::clone(lines);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            lines.lock().expect("lines").push(line);
        }
    });
    Ok(Watched { child, reader })
}

impl Watched {
    /// Kills it as a power switch would, and takes what it had said.
    fn kill(mut self) -> Result<(), Failed> {
        self.child.kill()?;
        self.child.wait()?;
        self.reader.join().map_err(|_| "the reader panicked")?;
        Ok(())
    }
}

fn two_processes() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let store = format!("sqlite:{}", folder.path().join("follow.db").display());
    let (written, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::<String>::new())));
    let mut writer = start("writer", &store, None, &written)?;
    let mut follower = start("follower", &store, None, &seen)?;
    let mut pauses = Vec::new();
    for round in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(150 + (round as u64 * 37) % 120));
        if round % 3 == 2 {
            writer.kill()?;
            writer = start("writer", &store, None, &written)?;
            continue;
        }
        let stopped = micros();
        follower.kill()?;
        let cursor = seen.lock().map_err(|_| "lines")?.last().and_then(|l| l.split(' ').nth(2).map(str::to_owned));
        follower = start("follower", &store, cursor.as_deref(), &seen)?;
        // Until the follower is back it cannot see anything; its first line tells when it was.
        let before = seen.lock().map_err(|_| "lines")?.len();
        let end = Instant::now() + Duration::from_secs(20);
        while seen.lock().map_err(|_| "lines")?.len() == before {
            if Instant::now() > end {
                return Err("the follower did not come back".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        pauses.push((stopped, micros()));
    }
    writer.kill()?;
    let written: BTreeMap<u64, u128> = numbers(&written)?.into_iter().collect();
    let last = *written.keys().last().ok_or("nothing was written")?;
    let end = Instant::now() + Duration::from_secs(20);
    while numbers(&seen)?.last().is_none_or(|(p, _)| *p < last) {
        if Instant::now() > end {
            return Err(format!("the follower never saw position {last}").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    follower.kill()?;
    judge(&written, &numbers(&seen)?, &pauses)
}

/// Position and time of each line.
fn numbers(lines: &Arc<Mutex<Vec<String>>>) -> Result<Vec<(u64, u128)>, Failed> {
    let lines = lines.lock().map_err(|_| "lines")?;
    lines
        .iter()
        .map(|line| {
            let mut parts = line.split(' ');
            let position = parts.next().and_then(|p| p.parse().ok()).ok_or("a position")?;
            let time = parts.next().and_then(|p| p.parse().ok()).ok_or("a time")?;
            Ok((position, time))
        })
        .collect()
}

fn judge(written: &BTreeMap<u64, u128>, seen: &[(u64, u128)], pauses: &[(u128, u128)]) -> Result<(), Failed> {
    if let Some(pair) = seen.windows(2).find(|w| w[1].0 <= w[0].0) {
        return Err(format!("position {} came after position {}", pair[1].0, pair[0].0).into());
    }
    let seen: BTreeMap<u64, u128> = seen.iter().copied().collect();
    let missed: Vec<u64> = written.keys().filter(|p| !seen.contains_key(p)).copied().collect();
    if !missed.is_empty() {
        return Err(format!("{} acknowledged events were never seen: {missed:?}", missed.len()).into());
    }
    let awake = |t: u128| !pauses.iter().any(|(from, to)| t + 1_000 >= *from && t <= *to);
    let mut delays: Vec<u128> =
        written.iter().filter(|(_, t)| awake(**t)).filter_map(|(p, t)| Some(seen.get(p)?.saturating_sub(*t))).collect();
    delays.sort_unstable();
    let at = |q: usize| delays.get((delays.len().saturating_sub(1)) * q / 100).copied().unwrap_or(u128::MAX) / 1_000;
    println!("{} written, {} seen; delay p50 {} ms, p90 {} ms, p99 {} ms", written.len(), seen.len(), at(50), at(90), at(99));
    if delays.len() < 100 {
        return Err(format!("only {} events were written while the follower was there", delays.len()).into());
    }
    if at(90) > 50 {
        return Err(format!("nine in ten events should be seen within 50 ms of their commit; it took {} ms", at(90)).into());
    }
    Ok(())
}
