//! Counted, not timed: what ten thousand concurrent commits cost in flushes, as the kernel sees it.
//!
//! The test starts itself again under strace, and counts fsync and fdatasync between two marks.

#[path = "support/strace.rs"]
mod strace;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use millpond_core::{Commit, Engine, Front, Namespace, NewEvent, Store};
use millpond_sqlite::{SqliteEngine, SqliteOptions};

const CALLERS: usize = 10_000;
const MOST_FLUSHES: usize = 40;
const CHILD: &str = "MILLPOND_TEST_BURST";

fn main() -> ExitCode {
    if let Some(path) = std::env::var_os(CHILD) {
        burst(Path::new(&path));
        return ExitCode::SUCCESS;
    }
    let trial = Trial::test("ten_thousand_concurrent_commits_cost_at_most_forty_flushes", count);
    libtest_mimic::run(&Arguments::from_args(), strace::need_strace(vec![trial])).exit_code()
}

/// What the traced process does.
fn burst(path: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("runtime");
    runtime.block_on(async {
        let engine: Arc<dyn Engine> = Arc::new(SqliteEngine::open(path, SqliteOptions::default()).await.expect("opens"));
        let store = Store::open(Arc::new(Front::new(engine)), Namespace::default()).await.expect("opens");
        // Everybody is ready before anybody begins: the claim is about concurrent callers, not about spawning them.
        let ready = Arc::new(tokio::sync::Barrier::new(CALLERS + 1));
        let tasks: Vec<_> = (0..CALLERS)
            .map(|i| {
                let (store, ready) = (store.clone(), Arc::clone(&ready));
                tokio::spawn(async move {
                    let commit = Commit::new()
                        .put("work", &format!("k{i}"), &i)
                        .and_then(|c| c.append("log", NewEvent::of("made", &i)?))
                        .expect("valid");
                    ready.wait().await;
                    store.commit(commit).await.expect("commits").position
                })
            })
            .collect();
        eprintln!("burst-begins");
        ready.wait().await;
        let mut last = 0;
        for task in tasks {
            last = last.max(task.await.expect("task").0);
        }
        eprintln!("burst-ends");
        assert_eq!(last, 2 * CALLERS as u64);
    });
}

fn count() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-s", "32", "-e", "trace=write,fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe()?)
        .env(CHILD, folder.path().join("burst.db"))
        .output()
        .map_err(|error| format!("strace cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("the traced process failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let trace = std::fs::read_to_string(trace)?;
    let burst: Vec<&str> =
        trace.lines().skip_while(|l| !l.contains("burst-begins")).take_while(|l| !l.contains("burst-ends")).collect();
    let flushes = burst.iter().filter(|l| l.contains(" fsync(") || l.contains(" fdatasync(")).count();
    println!("{CALLERS} commits, {flushes} flushes");
    if flushes == 0 {
        return Err("no flush was seen: the commits were not durable, or the trace is empty".into());
    }
    if flushes > MOST_FLUSHES {
        return Err(format!("{CALLERS} concurrent commits cost {flushes} flushes; at most {MOST_FLUSHES} are allowed").into());
    }
    Ok(())
}
