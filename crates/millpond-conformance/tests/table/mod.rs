//! A table of broken engines and the clauses that fail on each, and the golden file it is held against.
//!
//! A golden file has a line `engine: its defect` for each engine and below it, indented, the clauses that fail.
//! `UPDATE_GOLDEN=1 cargo test -p millpond-conformance --test broken --test broken_domains` writes the files anew; look
//! at what changed before you keep it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millpond_conformance::{BrokenEngine, Clause, Place, Suite};
use tokio::sync::Semaphore;

/// Engines that are looked at at once. Their clauses wait as often as they work.
const ENGINES_AT_ONCE: usize = 3;

/// Clauses of one engine that run at once.
const CLAUSES_AT_ONCE: usize = 8;

/// A hang counts as caught. Nothing honest takes this long on an engine in memory, unless the whole machine stands still:
/// where no hang is expected, the clause is run once more, see [`confirmed`].
const DEADLINE: Duration = Duration::from_secs(30);

/// The deadline of a clause that runs alone because it did not end beside others.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the threads that clauses run on are called.
const CLAUSE_THREAD: &str = "clause";

/// Which clauses fail on which engines, in the order of both.
pub struct Table(Vec<Row>);

struct Row {
    engine: BrokenEngine,
    failures: Vec<Failed>,
}

/// A clause that failed, and what it said.
pub struct Failed {
    clause: Clause,
    title: String,
    failure: String,
    /// It did not end in time.
    late: bool,
}

impl std::fmt::Debug for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.title, self.failure)
    }
}

impl Row {
    fn line(&self) -> String {
        format!("{}: {}", self.engine.name, self.engine.defect)
    }
}

impl Table {
    /// Runs the suite on every engine, without the pairs of engine and clause that are left out.
    pub fn of(engines: Vec<BrokenEngine>, suite: &Suite, left_out: fn(&BrokenEngine, &Clause) -> bool) -> Self {
        let left = Mutex::new(engines.iter().enumerate().rev().collect::<Vec<_>>());
        let rows = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..ENGINES_AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let next = left.lock().unwrap().pop();
                        let Some((n, engine)) = next else { break };
                        let clauses = suite.clauses().iter().filter(|clause| !left_out(engine, clause));
                        let failures = failures(|| engine.place(), clauses.copied());
                        rows.lock().unwrap().push((n, Row { engine: engine.clone(), failures }));
                    }
                });
            }
        });
        let mut rows = rows.into_inner().unwrap();
        rows.sort_by_key(|(n, _)| *n);
        Self(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// Fails unless the table is that of the golden file; says what changed, and what new failures say.
    pub fn assert_golden(&mut self, name: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        self.confirm(&std::fs::read_to_string(&path).unwrap_or_default());
        let found = self.text();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        let (expected, found) = (pairs(&expected), pairs(&found));
        let missing = expected.difference(&found).map(|(engine, clause)| format!("no longer: {engine} / {clause}"));
        let fresh = found.difference(&expected).map(|(engine, clause)| {
            let said = self.failure(engine, clause).map(|said| format!(": {said}")).unwrap_or_default();
            format!("new: {engine} / {clause}{said}")
        });
        let changed: Vec<String> = missing.chain(fresh).collect();
        assert!(changed.is_empty(), "{name} changed; see the head of tests/table/mod.rs:\n{}", changed.join("\n"));
    }

    /// Fails unless each clause fails on some engine, but for the untested ones, which fail on none, and each engine
    /// fails some clause.
    pub fn assert_covers(&self, suite: &Suite, untested: &[&str]) {
        let caught: BTreeSet<&str> = self.0.iter().flat_map(|row| &row.failures).map(|f| f.title.as_str()).collect();
        for clause in suite.clauses() {
            let title = clause.title();
            let expected = !untested.contains(&title.as_str());
            assert_eq!(caught.contains(title.as_str()), expected, "whether a broken engine fails {title}");
        }
        for row in &self.0 {
            assert!(!row.failures.is_empty(), "no clause catches the engine {}", row.engine.name);
        }
    }

    /// Takes out what only took too long and is not in the golden file.
    fn confirm(&mut self, golden: &str) {
        let golden = pairs(golden);
        for row in &mut self.0 {
            let line = row.line();
            let expected = |failed: &Failed| golden.contains(&(line.as_str(), failed.title.as_str()));
            row.failures = confirmed(|| row.engine.place(), std::mem::take(&mut row.failures), expected);
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.0 {
            text.push_str(&format!("{}\n", row.line()));
            for failed in &row.failures {
                text.push_str(&format!("    {}\n", failed.title));
            }
        }
        text
    }

    fn failure(&self, engine: &str, clause: &str) -> Option<&str> {
        let row = self.0.iter().find(|row| engine.starts_with(&format!("{}:", row.engine.name)))?;
        row.failures.iter().find(|failed| failed.title == clause).map(|failed| failed.failure.as_str())
    }
}

/// Each line of a table with the line of the engine it stands under.
fn pairs(text: &str) -> BTreeSet<(&str, &str)> {
    let mut engine = "";
    let mut pairs = BTreeSet::new();
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(clause) => pairs.insert((engine, clause)),
            None => {
                engine = line;
                pairs.insert((engine, ""))
            }
        };
    }
    pairs
}

/// The clauses that fail, each at a place of its own. What a failed clause left running ends with them.
pub fn failures(place: impl Fn() -> Arc<dyn Place>, clauses: impl Iterator<Item = Clause>) -> Vec<Failed> {
    failures_within(DEADLINE, place, clauses)
}

/// What a clause leaves behind that did not end in time.
#[allow(dead_code)] // Each test that uses this module is a program of its own.
pub fn too_late(clause: Clause) -> Failed {
    Failed { clause, title: clause.title(), failure: "it did not end".to_owned(), late: true }
}

fn failures_within(deadline: Duration, place: impl Fn() -> Arc<dyn Place>, clauses: impl Iterator<Item = Clause>) -> Vec<Failed> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name(CLAUSE_THREAD).enable_all().build().unwrap();
    let room = Arc::new(Semaphore::new(CLAUSES_AT_ONCE));
    let running: Vec<_> = clauses.map(|clause| runtime.spawn(failed(place(), clause, deadline, Arc::clone(&room)))).collect();
    let mut failures = Vec::new();
    for run in running {
        failures.extend(runtime.block_on(run).unwrap());
    }
    runtime.shutdown_background();
    failures
}

/// The failures without those that a stalled machine made: a clause that did not end in time, where that is not expected,
/// is run again, alone and with patience. What it says then counts.
pub fn confirmed(place: impl Fn() -> Arc<dyn Place>, failures: Vec<Failed>, expected: impl Fn(&Failed) -> bool) -> Vec<Failed> {
    let again = |failed: Failed| {
        if !failed.late || expected(&failed) {
            return Some(failed);
        }
        println!("once more, alone: {failed:?}");
        failures_within(PATIENCE, &place, std::iter::once(failed.clause)).pop()
    };
    failures.into_iter().filter_map(again).collect()
}

async fn failed(place: Arc<dyn Place>, clause: Clause, deadline: Duration, room: Arc<Semaphore>) -> Option<Failed> {
    let _room = room.acquire_owned().await.unwrap();
    let report = Suite::new().deadline(deadline).run_one(&clause, place).await;
    let late = report.took >= deadline;
    report.failure.map(|failure| Failed { clause, title: clause.title(), failure, late })
}

/// Clauses may panic where an answer is far from what they expect. Their backtraces would take longer than the clauses.
pub fn silence_clauses() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(CLAUSE_THREAD) {
            loud(panic);
        }
    }));
}
