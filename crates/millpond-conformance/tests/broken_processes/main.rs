//! The suite of the suite, processes: each clause on processes fails on a SQLite store that every process opens with
//! the same rule broken, and on that one only.
//!
//! The program starts itself again as racing processes. Which rule they break stands in an environment variable.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use async_trait::async_trait;
use libtest_mimic::{Arguments, Failed, Trial};
use millpond::{Engine, OpenOptions, Result};
use millpond_conformance::{Place, Suite, harness};

mod flaw;

use flaw::{Flaw, Flawed};

/// Which rule a racing process breaks.
const FLAW: &str = "MILLPOND_CONFORMANCE_FLAW";

async fn open(folder: PathBuf, flaw: Flaw) -> Result<Flawed> {
    let engine = OpenOptions::new().engine(&folder.to_string_lossy()).await?;
    Ok(Flawed::new(engine, flaw))
}

/// A folder whose processes all break one rule.
#[derive(Debug)]
struct FlawedPlace {
    folder: Arc<dyn Place>,
    flaw: Flaw,
}

#[async_trait]
impl Place for FlawedPlace {
    async fn open(&self) -> Result<Arc<dyn Engine>> {
        self.folder.open().await
    }

    fn process(&self) -> Option<Result<Command>> {
        let told = |mut command: Command| {
            command.env(FLAW, self.flaw.name());
            command
        };
        Some(self.folder.process()?.map(told))
    }
}

/// Runs the clauses on processes with a flaw and fails unless exactly those fail that should.
fn try_flaw(flaw: Flaw) -> std::result::Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let inner = harness::folder_place(folder.path().to_owned(), move |folder| open(folder, flaw));
    let place = Arc::new(FlawedPlace { folder: inner, flaw });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(Suite::new().matching("processes::").run(place));
    runtime.shutdown_background();
    let failed: Vec<&str> = report.results.iter().filter(|r| r.failure.is_some()).map(|r| r.name).collect();
    let expected: Vec<&str> = flaw.breaks().into_iter().collect();
    if failed != expected || report.results.len() != Flaw::ALL.len() - 1 {
        return Err(format!("{flaw:?} should fail {expected:?} and nothing else:\n{report}").into());
    }
    Ok(())
}

fn main() -> ExitCode {
    let named = std::env::var(FLAW).unwrap_or_default();
    let flaw = Flaw::ALL.into_iter().find(|flaw| flaw.name() == named).unwrap_or(Flaw::None);
    if let Some(code) = harness::as_process(move |folder| open(folder, flaw)) {
        return code;
    }
    let trials = Flaw::ALL.into_iter().map(|flaw| Trial::test(flaw.name(), move || try_flaw(flaw))).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
