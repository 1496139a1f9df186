//! What callers are told when the disk fails.
//!
//! The test starts itself again under strace, which makes chosen system calls fail.

#[path = "support/strace.rs"]
mod strace;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use millpond_core::{Commit, CommitId, Engine, Front, Namespace, Result, Store, SystemHost};
use millpond_sqlite::{SqliteEngine, SqliteOptions};

const CHILD: &str = "MILLPOND_TEST_FAILURES";

fn main() -> ExitCode {
    if let Some(path) = std::env::var_os(CHILD) {
        wait(tell(Path::new(&path)));
        return ExitCode::SUCCESS;
    }
    let trials = vec![
        Trial::test("after_a_failed_flush_nothing_is_called_not_applied", || wait(failed_flush())),
        Trial::test("a_full_disk_is_unavailable_and_nothing_was_applied", || wait(full_disk())),
        Trial::test("a_read_only_file_can_be_read_and_refuses_commits", || wait(read_only())),
    ];
    libtest_mimic::run(&Arguments::from_args(), strace::need_strace(trials)).exit_code()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

/// The ids of the commit before the fault and of the one that meets it. The process that is traced is given them.
const IDS: &str = "MILLPOND_TEST_FAILURES_IDS";

fn ids_given() -> [CommitId; 2] {
    let text = std::env::var(IDS).expect("two ids");
    let (before, met) = text.split_once(' ').expect("two ids");
    [CommitId::parse(before).expect("an id"), CommitId::parse(met).expect("an id")]
}

async fn open(path: &Path) -> Result<(SqliteEngine, Store)> {
    let engine = SqliteEngine::open(path, SqliteOptions::default()).await?;
    let shared: Arc<dyn Engine> = Arc::new(engine.clone());
    let store = Store::open(Arc::new(Front::new(shared)), Namespace::default()).await?;
    Ok((engine, store))
}

fn put(key: &str) -> Commit {
    Commit::new().put("work", key, &1).expect("valid")
}

/// What the traced process does: tries each thing once and says what it was told.
async fn tell(path: &Path) {
    let (_engine, store) = open(path).await.expect("opens");
    let [before, met] = ids_given();
    let word = |answer: Result<String>| answer.unwrap_or_else(|e| e.kind().as_str().to_owned());
    let applied = |answer: Result<millpond_core::Receipt>| word(answer.map(|_| "applied".to_owned()));
    let found =
        |answer: Result<Option<millpond_core::Receipt>>| word(answer.map(|r| if r.is_some() { "found" } else { "none" }.into()));
    let mut said = String::new();
    let _ = writeln!(said, "first {}", applied(store.commit(put("b").id(met)).await));
    let _ = writeln!(said, "outcome {}", found(store.outcome(met).await));
    let _ = writeln!(said, "resent {}", applied(store.commit(put("b").id(met)).await));
    let _ = writeln!(said, "fresh {}", applied(store.commit(put("c")).await));
    let _ = writeln!(said, "earlier {}", found(store.outcome(before).await));
    let _ =
        writeln!(said, "read {}", word(store.get("work", "a").await.map(|r| if r.is_some() { "found" } else { "none" }.into())));
    println!("{said}");
}

/// Runs the other process on a store that holds one commit, with these faults.
async fn told(path: &Path, faults: &[&str]) -> std::result::Result<(String, CommitId), Failed> {
    let (engine, store) = open(path).await?;
    let [before, met] = [CommitId::generate(&SystemHost), CommitId::generate(&SystemHost)];
    store.commit(put("a").id(before)).await?;
    drop(store);
    engine.close().await?;
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null"])
        .args(faults)
        .arg(std::env::current_exe()?)
        .env(CHILD, path)
        .env(IDS, format!("{before} {met}"))
        .output()
        .map_err(|error| format!("strace cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("the traced process failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok((String::from_utf8_lossy(&output.stdout).trim().to_owned(), met))
}

fn expect(said: &str, expected: &str) -> std::result::Result<(), Failed> {
    if said.lines().collect::<Vec<_>>().join(", ") == expected {
        return Ok(());
    }
    Err(format!("expected {expected:?}, was told {said:?}").into())
}

async fn failed_flush() -> std::result::Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.db");
    let faults = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=1+"];
    let (said, met) = told(&path, &faults).await?;
    expect(
        &said,
        "first unknown_outcome, outcome unknown_outcome, resent unknown_outcome, fresh unavailable, earlier found, read found",
    )?;
    // Opened again, the same commit settles it.
    let (engine, store) = open(&path).await?;
    store.commit(put("b").id(met)).await?;
    if store.get("work", "b").await?.is_none_or(|r| r.revision != 1) {
        return Err("the commit is not there exactly once".into());
    }
    engine.close().await?;
    Ok(())
}

async fn full_disk() -> std::result::Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.db");
    let log = path.with_extension("db-wal").display().to_string();
    let faults = ["-P", &log, "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC:when=1+"];
    let (said, _) = told(&path, &faults).await?;
    expect(&said, "first unavailable, outcome none, resent unavailable, fresh unavailable, earlier found, read found")?;
    let (engine, store) = open(&path).await?;
    if store.get("work", "b").await?.is_some() {
        return Err("a commit that was answered \"nothing was applied\" is there".into());
    }
    engine.close().await?;
    Ok(())
}

async fn read_only() -> std::result::Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.db");
    // The first opening of the file on each thread is refused, so that SQLite opens it for reading only.
    let only = path.display().to_string();
    let faults = ["-P", &only, "-e", "trace=openat", "-e", "inject=openat:error=EROFS:when=1"];
    let (said, _) = told(&path, &faults).await?;
    expect(&said, "first unavailable, outcome none, resent unavailable, fresh unavailable, earlier found, read found")
}
