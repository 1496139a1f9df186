//! The suite as a test program: what a third party's one short test file calls.
//!
//! ```ignore
//! // tests/conformance.rs, with `[[test]] name = "conformance"` and `harness = false` in Cargo.toml
//! millpond_conformance::main!(|place| async move { MyEngine::open(place).await });
//! ```
//!
//! Each clause is a test of its own, named `group::name`; the usual arguments of `cargo test` and `cargo nextest`
//! apply. With `MILLPOND_CONFORMANCE_REPORT=table` or `=json` the suite runs whole and prints its report instead.
//! With `MILLPOND_CONFORMANCE_FAULTS=SEED` calls are refused and answers are lost, see [`crate::faults`].

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use async_trait::async_trait;
use libtest_mimic::{Arguments, Failed, Trial};
use millpond::{Engine, Error, Result};

use crate::faults::{self, Retry};
use crate::{Clause, Place, Suite, processes};

/// The variable that asks for a report in place of tests.
const REPORT: &str = "MILLPOND_CONFORMANCE_REPORT";

/// A folder, and what opens an engine on it.
struct FolderPlace<F> {
    folder: PathBuf,
    open: F,
}

impl<F> std::fmt::Debug for FolderPlace<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.folder.display())
    }
}

#[async_trait]
impl<F, Opening, E> Place for FolderPlace<F>
where
    F: Fn(PathBuf) -> Opening + Send + Sync,
    Opening: Future<Output = Result<E>> + Send,
    E: Engine + 'static,
{
    async fn open(&self) -> Result<Arc<dyn Engine>> {
        Ok(Arc::new((self.open)(self.folder.clone()).await?))
    }

    fn process(&self) -> Option<Result<Command>> {
        Some(process(&self.folder))
    }
}

/// Runs the suite on an engine that a factory opens on a fresh folder. Called again with the same folder, the
/// factory opens another, independent handle on the same data. The program also starts itself again, as a racing
/// process on that folder.
pub fn main<F, Opening, E>(open: F) -> ExitCode
where
    F: Fn(PathBuf) -> Opening + Send + Sync + 'static,
    Opening: Future<Output = Result<E>> + Send,
    E: Engine + 'static,
{
    let open = Arc::new(open);
    let again = Arc::clone(&open);
    if let Some(code) = as_process(move |folder| again(folder)) {
        return code;
    }
    let folder = match tempfile::Builder::new().prefix("millpond-conformance").tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("cannot make a folder for the engine's data: {error}");
            return ExitCode::FAILURE;
        }
    };
    main_on(folder_place(folder.path().to_owned(), move |folder| open(folder)))
}

/// The place of an engine that a factory opens on a folder, as [`main`] makes it. Its processes are this program
/// started again, so the program has to begin with [`as_process`].
pub fn folder_place<F, Opening, E>(folder: PathBuf, open: F) -> Arc<dyn Place>
where
    F: Fn(PathBuf) -> Opening + Send + Sync + 'static,
    Opening: Future<Output = Result<E>> + Send,
    E: Engine + 'static,
{
    Arc::new(FolderPlace { folder, open })
}

/// Where this program was started as a racing process on a folder: does the work of one and says how it ended.
pub fn as_process<F, Opening, E>(open: F) -> Option<ExitCode>
where
    F: Fn(PathBuf) -> Opening + Send + Sync + 'static,
    Opening: Future<Output = Result<E>> + Send,
    E: Engine + 'static,
{
    as_process_of(move |folder| folder_place(folder.into(), open))
}

/// As [`as_process`], for places that are not folders: what [`process`] was given comes back here.
pub fn as_process_of(place: impl FnOnce(OsString) -> Arc<dyn Place>) -> Option<ExitCode> {
    let named = std::env::var_os(processes::PLACE)?;
    Some(child(place(named)))
}

/// This program again, as a racing process on a place that it finds by these words: what a [`Place::process`] answers
/// whose program begins with [`as_process_of`].
///
/// # Errors
/// When this program's own file is not known.
pub fn process(named: impl AsRef<OsStr>) -> Result<Command> {
    let unknown = |e| Error::unavailable("the file of this program is not known").with_source(e);
    processes::command(Path::new(&named)).map_err(unknown)
}

fn child(place: Arc<dyn Place>) -> ExitCode {
    match on_runtime(processes::child(faults::of_process(place))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs the suite on a place, without the clauses about processes unless the place offers some.
pub fn main_on(place: Arc<dyn Place>) -> ExitCode {
    match std::env::var(REPORT) {
        Ok(format) => report(place, &format),
        Err(_) => {
            let arguments = Arguments::from_args();
            let (suite, left_out) = suite().fitting(&*place);
            if !left_out.is_empty() && !arguments.list {
                println!("left out, because the data lives in one process: {}", left_out.join(", "));
            }
            let trials = suite.clauses().iter().map(|c| trial(*c, Arc::clone(&place))).collect();
            libtest_mimic::run(&arguments, trials).exit_code()
        }
    }
}

/// The suite, under faults where they are asked for.
fn suite() -> Suite {
    match faults::asked_for() {
        Some(faults) => Suite::new().under(faults, Retry::UnderTheSameId),
        None => Suite::new(),
    }
}

fn trial(clause: Clause, place: Arc<dyn Place>) -> Trial {
    Trial::test(clause.title(), move || {
        let result = on_runtime(async move { suite().run_one(&clause, place).await })?;
        match result.failure {
            None => Ok(()),
            Some(failure) => Err(format!("promised: {}\n{failure}", clause.promise).into()),
        }
    })
}

fn report(place: Arc<dyn Place>, format: &str) -> ExitCode {
    let report = match on_runtime(async move { suite().run(place).await }) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{}", error.message().unwrap_or("the suite could not be started"));
            return ExitCode::FAILURE;
        }
    };
    match format {
        "json" => println!("{}", report.to_json()),
        "table" => println!("{report}"),
        other => {
            eprintln!("{REPORT}={other:?} is neither table nor json");
            return ExitCode::from(2);
        }
    }
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a future on a runtime that does not wait for what a failed clause left behind.
fn on_runtime<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> std::result::Result<T, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Error::unavailable("cannot start a runtime").with_source(e).to_string())?;
    let answer = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(answer)
}

/// Writes the `main` function of a conformance test: see [`crate::harness`].
#[macro_export]
macro_rules! main {
    ($factory:expr) => {
        fn main() -> std::process::ExitCode {
            $crate::harness::main($factory)
        }
    };
}
