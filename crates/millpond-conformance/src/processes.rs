//! Racers as processes: this program started again as a child, what a child does, and how its parent hears of it.
//!
//! A child says `ready`, waits for a line on its standard input, does its work and says what it was told by the
//! store, a line each behind an `@`. What else the program prints is nobody's word.

use std::io::{BufRead, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Acquire, Commit, CommitId, Front, Holder, Key, ManualHost, MergeOp, Namespace, NewEvent, Outcome, Store, Timestamp, Write,
};
use serde_json::json;

use crate::{Failure, Ground, Place, Verdict};

/// Where a child finds the data; not set where this is no child.
pub(crate) const PLACE: &str = "MILLPOND_CONFORMANCE_PLACE";
/// The child's namespace.
const NAMESPACE: &str = "MILLPOND_CONFORMANCE_NAMESPACE";
/// What the child does.
const ROLE: &str = "MILLPOND_CONFORMANCE_ROLE";
/// When the first shared commit id was made, in microseconds.
const FIRST_ID: &str = "MILLPOND_CONFORMANCE_FIRST_ID";

/// Children of one clause.
pub(crate) const CHILDREN: u64 = 2;
/// Events each child appends.
pub(crate) const APPENDS: u64 = 60;
/// Turns each child takes.
pub(crate) const TURNS: u64 = 25;
/// Commit ids that every child uses.
pub(crate) const SHARED: u64 = 40;

/// This program again, on the data of a folder.
pub(crate) fn command(folder: &Path) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(PLACE, folder);
    Ok(command)
}

/// What a child does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    /// Appends to one stream and says the sequence and position of each event.
    Append,
    /// Sends commits under ids that its siblings use, too, and says which were fresh.
    SendShared,
    /// Adds to a number that only whoever holds the lease may change, and says its tokens.
    TakeTurns,
}

impl Role {
    const ALL: [Self; 3] = [Self::Append, Self::SendShared, Self::TakeTurns];

    fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::SendShared => "send-shared",
            Self::TakeTurns => "take-turns",
        }
    }
}

/// Does a child's work, from its first word to its last.
pub(crate) async fn child(place: Arc<dyn Place>) -> Verdict {
    let done = work(place).await;
    if let Err(failure) = &done {
        say(&format!("failed {failure}"));
    }
    done
}

async fn work(place: Arc<dyn Place>) -> Verdict {
    let named = variable(ROLE)?;
    let role = Role::ALL.into_iter().find(|r| r.name() == named);
    let role = role.ok_or_else(|| Failure(format!("{named:?} is no role of a child")))?;
    let namespace = Namespace::new(variable(NAMESPACE)?)?;
    let store = Store::open(Arc::new(Front::new(place.open().await?)), namespace).await?;
    say("ready");
    std::io::stdin().read_line(&mut String::new()).map_err(|e| Failure(format!("nobody said go: {e}")))?;
    match role {
        Role::Append => append(&store).await,
        Role::SendShared => send_shared(&store).await,
        Role::TakeTurns => take_turns(&store).await,
    }
}

fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|e| Failure(format!("{name}: {e}")))
}

fn say(word: &str) {
    println!("@{}", word.replace('\n', " "));
}

async fn append(store: &Store) -> Verdict {
    for n in 0..APPENDS {
        let event = NewEvent::of("raced", &json!({"by": std::process::id(), "n": n}))?;
        let receipt = store.commit(Commit::new().append("race", event)?).await?;
        let sequence = receipt.sequences.first().map_or(0, |s| s.first);
        say(&format!("sequence {sequence}"));
    }
    Ok(())
}

async fn send_shared(store: &Store) -> Verdict {
    let first = variable(FIRST_ID)?.parse().map_err(|e| Failure(format!("{FIRST_ID}: {e}")))?;
    let host = ManualHost::at(Timestamp::from_micros(first));
    for _ in 0..SHARED {
        let add = vec![MergeOp::Add("/n".to_owned(), 1)];
        let commit = Commit::new().id(CommitId::generate(&host)).merge("totals", "shared", add)?;
        let replayed = store.commit(commit).await?.replayed;
        say(if replayed { "replayed" } else { "fresh" });
    }
    Ok(())
}

async fn take_turns(store: &Store) -> Verdict {
    let lease = Key::new("turn")?;
    let mut turns = 0;
    while turns < TURNS {
        let holder = Holder { name: format!("child {}", std::process::id()), ..Holder::default() };
        let ttl = Duration::from_secs(600);
        let acquire = Acquire { lease: lease.clone(), holder, ttl, purpose: None, dead: None };
        let Outcome::Committed(receipt) = store.try_commit(Commit::new().write(Write::Acquire(acquire))).await? else {
            std::thread::yield_now();
            continue;
        };
        let token = receipt.revisions.first().copied().unwrap_or(0);
        let before: u64 = store.get("totals", "turns").await?.map(|r| r.value.decode()).transpose()?.unwrap_or(0);

        say(&format!("turn {before} {token}"));
        let put = Commit::new().put("totals", "turns", &(before + 1))?.fenced(lease.clone(), token);
        store.commit(put.write(Write::Release { lease: lease.clone(), token })).await?;
        turns += 1;
    }
    Ok(())
}

/// Running children. Dropped before their end, they are ended.
pub(crate) struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended cannot be ended; either way it is waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn io(error: std::io::Error) -> Failure {
    Failure(format!("a child process: {error}"))
}

type Output = Lines<BufReader<ChildStdout>>;

/// Starts children in one role on the ground's namespace, lets them go at once and gathers what each said.
pub(crate) async fn race(ground: &Ground, role: Role) -> Result<Vec<Vec<String>>, Failure> {
    let first_id = ground.engine().host().now().as_micros();
    let mut children = Children(Vec::new());
    let mut outputs = Vec::new();
    for _ in 0..CHILDREN {
        let command = ground.place().process().ok_or_else(|| Failure("this place lives in one process".to_owned()))?;
        let mut command = command?;
        command.env(ROLE, role.name()).env(NAMESPACE, ground.namespace().as_str()).env(FIRST_ID, first_id.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(io)?;
        outputs.extend(child.stdout.take().map(|out| BufReader::new(out).lines()));
        children.0.push(child);
    }
    let mut ready = Vec::new();
    for output in outputs {
        ready.push(blocking(move || until_ready(output)).await?);
    }
    for child in &mut children.0 {
        if let Some(mut input) = child.stdin.take() {
            input.write_all(b"go\n").map_err(io)?;
        }
    }
    let reading: Vec<_> = ready.into_iter().map(|output| tokio::spawn(blocking(move || words(output)))).collect();
    let mut said = Vec::new();
    for reading in reading {
        said.push(reading.await.map_err(|e| Failure(format!("reading a child: {e}")))??);
    }
    for (child, said) in children.0.iter_mut().zip(&said) {
        if !child.wait().map_err(io)?.success() {
            return Err(Failure(format!("a child failed; its last word: {:?}", said.last())));
        }
    }
    Ok(said)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Failure(format!("reading a child: {e}")))?
}

fn until_ready(mut output: Output) -> Result<Output, Failure> {
    for line in output.by_ref() {
        match word(&line.map_err(io)?) {
            Some("ready") => return Ok(output),
            Some(other) => return Err(Failure(format!("a child did not get ready: {other}"))),
            None => {}
        }
    }
    Err(Failure("a child ended before it was ready".to_owned()))
}

fn words(output: Output) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    for line in output {
        words.extend(word(&line.map_err(io)?).map(str::to_owned));
    }
    Ok(words)
}

fn word(line: &str) -> Option<&str> {
    line.strip_prefix('@')
}
