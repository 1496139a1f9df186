//! A process that commits and says so, to be killed at any moment; and what must be there afterwards.
//!
//! Each of its callers has a stream and a counter of its own. A commit appends the next number to the stream, adds one to
//! the counter and writes the number under a key, so that half a commit or a lost one cannot hide.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use millpond::{Commit, ErrorKind, EventFilter, EventQuery, Front, MergeOp, Namespace, NewEvent, OpenOptions, Store, StreamName};
use serde_json::json;

use crate::Failure;

/// Callers at a time.
const CALLERS: u64 = 8;
/// Keys that each caller writes in turn.
const KEYS: u64 = 16;
/// How long a writer may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a store for writing or looking.
///
/// # Errors
/// What opening fails with.
pub async fn open(url: &str) -> millpond::Result<Store> {
    Store::open(Arc::new(Front::new(OpenOptions::new().engine(url).await?)), Namespace::default()).await
}

/// As [`open`], for a server that was started a moment ago and may have parts that are not ready.
async fn open_soon(url: &str) -> millpond::Result<Store> {
    let mut tries = 0;
    loop {
        match open(url).await {
            Err(error) if error.kind() == ErrorKind::Unavailable && tries < 30 => tries += 1,
            other => return other,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn stream(caller: u64) -> String {
    format!("log-{caller}")
}

/// What the process does: commits until it is killed, and says each acknowledgement as a line.
///
/// # Errors
/// When a commit fails otherwise than for a server that is away.
pub async fn write(url: &str, careless: bool) -> Result<(), Failure> {
    let store = open(url).await?;
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        callers.push(tokio::spawn(one(store.clone(), caller, careless)));
    }
    for caller in callers {
        caller.await??;
    }
    Ok(())
}

async fn one(store: Store, caller: u64, careless: bool) -> Result<(), Failure> {
    let mut n = store.stream(&stream(caller)).await?.map_or(0, |s| s.head);
    loop {
        let commit = Commit::new()
            .append(&stream(caller), NewEvent::of("written", &json!({ "n": n }))?)?
            .merge("totals", &format!("total-{caller}"), vec![MergeOp::Add("/n".to_owned(), 1)])?
            .put("values", &format!("value-{caller}-{}", n % KEYS), &json!({ "n": n }))?;
        // One system call for a line: a kill leaves it whole or not said.
        let say = || std::io::stdout().lock().write_all(format!("ack {caller} {n}\n").as_bytes());
        if careless {
            say()?;
        }
        store.commit(commit).await?;
        if !careless {
            say()?;
        }
        n += 1;
    }
}

/// How far each caller got, by its acknowledgements.
#[derive(Debug, Clone, Default)]
pub struct Acknowledged(BTreeMap<u64, u64>);

impl Acknowledged {
    fn hear(&mut self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        let numbers = (words.next(), words.next().and_then(|w| w.parse().ok()), words.next().and_then(|w| w.parse::<u64>().ok()));
        let (Some("ack"), Some(caller), Some(n)) = numbers else { return false };
        let count = self.0.entry(caller).or_default();
        *count = (*count).max(n + 1);
        true
    }

    /// Acknowledged commits in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// A running writer in a process group of its own. Dropped, it is killed.
pub struct Writer {
    child: Child,
    lines: Receiver<String>,
    acknowledged: Acknowledged,
}

impl Writer {
    /// Starts this program as a writer on a store, after these words, such as `strace` and its options.
    ///
    /// # Errors
    /// What starting fails with.
    pub fn start(url: &str, before: &[&str], careless: bool, acknowledged: Acknowledged) -> Result<Self, Failure> {
        use std::os::unix::process::CommandExt as _;
        let program = std::env::current_exe()?;
        let mut command = match before {
            [] => Command::new(&program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        command.args(["write", url]);
        if careless {
            command.arg("--careless");
        }
        command.stdout(Stdio::piped()).stdin(Stdio::null()).process_group(0);
        let mut child = command.spawn()?;
        let out = child.stdout.take().ok_or("the writer has no output")?;
        Ok(Self { child, lines: lines(out), acknowledged })
    }

    /// Reads acknowledgements until there are so many more.
    ///
    /// # Errors
    /// When the writer ends or falls silent.
    pub fn until(&mut self, more: u64) -> Result<(), Failure> {
        let wanted = self.acknowledged.total() + more;
        while self.acknowledged.total() < wanted {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => drop(self.acknowledged.hear(&line)),
                Err(RecvTimeoutError::Timeout) => return Err("the writer fell silent".into()),
                Err(RecvTimeoutError::Disconnected) => return Err("the writer ended by itself".into()),
            }
        }
        Ok(())
    }

    /// Sends a signal to the writer and everything it started.
    pub fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        // A group that is gone already is what was asked for.
        let _ = Command::new("kill").arg(format!("-{name}")).arg("--").arg(group).stderr(Stdio::null()).status();
    }

    /// Stops it, and waits until each of its threads stands still. A signal alone only asks for that: until the thread
    /// that gets it has run, the others go on, and acknowledge.
    ///
    /// # Errors
    /// When one of them still runs after ten seconds.
    pub fn stand_still(&self) -> Result<(), Failure> {
        self.signal("STOP");
        let begin = Instant::now();
        while !group_stands_still(self.child.id()) {
            if begin.elapsed() > Duration::from_secs(10) {
                return Err("the writer does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Kills it and gives everything that it had acknowledged.
    pub fn kill(mut self) -> Acknowledged {
        self.signal("KILL");
        let _ = self.child.wait();
        let mut acknowledged = std::mem::take(&mut self.acknowledged);
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            acknowledged.hear(&line);
        }
        acknowledged
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
    }
}

/// Whether no thread of a process group runs or is inside of a call of the system.
fn group_stands_still(group: u32) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    let pids = processes.filter_map(|p| p.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_member = |pid: &u32| state_and_group(&format!("/proc/{pid}/stat")).is_some_and(|(_, found)| found == group);
    pids.filter(is_member).all(|pid| {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
        threads.filter_map(std::result::Result::ok).all(|thread| {
            let state = state_and_group(&thread.path().join("stat").display().to_string());
            state.is_none_or(|(state, _)| matches!(state, 'T' | 't' | 'Z' | 'X'))
        })
    })
}

/// The state of a thread and the group of its process, by the system's line about it.
fn state_and_group(stat: &str) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(stat).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(1)?.parse().ok()?))
}

fn lines(out: ChildStdout) -> Receiver<String> {
    let (say, hear) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if say.send(line).is_err() {
                return;
            }
        }
    });
    hear
}

/// What a look at the store found.
#[derive(Debug, Default, Clone, Copy)]
pub struct Found {
    /// Acknowledged commits that are not there.
    pub lost: u64,
    /// Commits that are there.
    pub present: u64,
    /// Commits that are there and were never acknowledged: the kill fell between.
    pub ahead: u64,
}

/// Looks whether everything acknowledged is there, each commit whole.
///
/// # Errors
/// When a commit is there by half, or the store does not open or finds fault with itself.
pub async fn look(url: &str, acknowledged: &Acknowledged) -> Result<Found, Failure> {
    let store = open_soon(url).await?;
    let mut found = Found::default();
    for caller in 0..CALLERS {
        let present = whole(&store, caller).await?;
        let told = acknowledged.0.get(&caller).copied().unwrap_or(0);
        found.present += present;
        found.lost += told.saturating_sub(present);
        found.ahead += present.saturating_sub(told);
    }
    let faults = store.engine().check(store.namespace()).await?;
    if !faults.is_empty() {
        return Err(format!("the store finds fault with itself: {}", faults.join("; ")).into());
    }
    store.engine().close().await?;
    Ok(found)
}

/// How many commits of a caller are there; each of them whole.
async fn whole(store: &Store, caller: u64) -> Result<u64, Failure> {
    let (mut numbers, mut after) = (Vec::new(), None);
    loop {
        let filter = EventFilter::stream(StreamName::new(stream(caller))?);
        let page = store.events(EventQuery::new(filter).after(after).limit(10_000)).await?;
        for event in &page.items {
            numbers.push(event.data.value()?["n"].as_u64().unwrap_or(u64::MAX));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let count = numbers.len() as u64;
    if !numbers.iter().copied().eq(0..count) {
        return Err(format!("{}: its numbers are {numbers:?}", stream(caller)).into());
    }
    let total = number(store, "totals", &format!("total-{caller}")).await?.unwrap_or(0);
    if total != count {
        return Err(format!("half a commit: {} holds {count} events and the counter says {total}", stream(caller)).into());
    }
    for key in 0..KEYS.min(count) {
        let last = (count - 1) - (count - 1 - key) % KEYS;
        let value = number(store, "values", &format!("value-{caller}-{key}")).await?;
        if value != Some(last) {
            return Err(format!("half a commit: value-{caller}-{key} is {value:?}, and the stream says {last}").into());
        }
    }
    Ok(count)
}

async fn number(store: &Store, collection: &str, key: &str) -> Result<Option<u64>, Failure> {
    let Some(record) = store.get(collection, key).await? else { return Ok(None) };
    Ok(record.value.value()?["n"].as_u64())
}
