//! The suite of the suite: every broken engine is caught, by exactly the clauses on engines that its defect breaks.
//!
//! The table engine × clause is `golden/broken.txt`. `UPDATE_GOLDEN=1 cargo test -p millpond-conformance --test broken`
//! writes it anew; look at what changed before you keep it.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millpond_conformance::{BrokenEngine, Clause, Suite};
use tokio::sync::Semaphore;

/// Pairs of engine and clause that run at once. Some wait for what never comes, so there are more than processors.
const AT_ONCE: usize = 24;

/// A hang counts as caught; nothing honest takes this long on an engine in memory.
const DEADLINE: Duration = Duration::from_secs(30);

/// Clauses that no engine can break, because what they ask is decided before a commit reaches one.
const UNTESTED: [&str; 1] = ["limits::leases"];

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/broken.txt")
}

/// The clauses that fail on each engine, as lines `engine: clause`, and what is wrong with the engine above them.
async fn table() -> String {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = Vec::new();
    for engine in BrokenEngine::all() {
        for clause in Suite::of_engine().clauses() {
            tasks.push((engine.name, tokio::spawn(fails(engine.clone(), *clause, Arc::clone(&room)))));
        }
    }
    let mut caught = BTreeSet::new();
    for (name, task) in tasks {
        if let Some(title) = task.await.unwrap() {
            caught.insert((name, title));
        }
    }
    let mut text = String::new();
    for engine in BrokenEngine::all() {
        text.push_str(&format!("{}: {}\n", engine.name, engine.defect));
        for clause in Suite::of_engine().clauses() {
            if caught.contains(&(engine.name, clause.title())) {
                text.push_str(&format!("    {}\n", clause.title()));
            }
        }
    }
    text
}

async fn fails(engine: BrokenEngine, clause: Clause, room: Arc<Semaphore>) -> Option<String> {
    let _room = room.acquire_owned().await.unwrap();
    let report = Suite::new().deadline(DEADLINE).run_one(&clause, engine.place()).await;
    report.failure.map(|_| clause.title())
}

/// The lines that only one of two tables has, each with the engine it stands under.
fn differences(expected: &str, found: &str) -> Vec<String> {
    let pairs = |text: &str| {
        let mut engine = String::new();
        let mut pairs = BTreeSet::new();
        for line in text.lines() {
            if !line.starts_with(' ') {
                engine = line.to_owned();
            }
            pairs.insert(format!("{engine} / {}", line.trim_start()));
        }
        pairs
    };
    let (expected, found) = (pairs(expected), pairs(found));
    let missing = expected.difference(&found).map(|l| format!("no longer: {l}"));
    let fresh = found.difference(&expected).map(|l| format!("new: {l}"));
    missing.chain(fresh).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broken_engine_fails_exactly_its_own_clauses() {
    let found = table().await;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden().parent().unwrap()).unwrap();
        std::fs::write(golden(), &found).unwrap();
    }
    let expected = std::fs::read_to_string(golden()).unwrap();
    let changed = differences(&expected, &found);
    assert!(changed.is_empty(), "the table changed; see the head of this file:\n{}", changed.join("\n"));
    let found: Vec<&str> = found.lines().collect();
    for clause in Suite::of_engine().clauses() {
        let caught = found.iter().any(|line| line.trim_start() == clause.title());
        assert!(caught || UNTESTED.contains(&clause.title().as_str()), "no broken engine fails {}", clause.title());
    }
    for (line, next) in found.iter().zip(found.iter().skip(1).chain([&""])) {
        assert!(line.starts_with(' ') || next.starts_with(' '), "no clause catches the engine {line:?}");
    }
}
