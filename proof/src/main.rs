//! What Millpond promises, tried on every backend.
//!
//! ```text
//!   millpond-proof ──► backends.rs   a line for each backend: how to start one of one's own
//!        │
//!        ├─► conformance       every clause on every backend, as a table; writes docs/conformance.md
//!        ├─► linearizability   concurrent histories, with and without lost answers
//!        ├─► same-answers      one random list of operations, the same answers everywhere
//!        ├─► lost-answers      a proxy swallows a request or only its answer
//!        ├─► kill              kill -9 of the writer at many points, and of the server under load
//!        ├─► power-cut         what was not flushed is gone
//!        └─► unfit-servers     two S3 servers that must be refused
//! ```

mod backends;
mod conformance;
mod kill;
mod linearizability;
mod lost_answers;
mod place;
mod power;
mod same_answers;
mod unfit_servers;
mod writer;

use std::process::{Command, ExitCode};
use std::sync::Arc;

use clap::{Parser, Subcommand};
use millpond_testservers::{S3_ACCESS_KEY, S3_SECRET_KEY};

/// What a command failed with, in words for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Millpond's promises, tried on every backend. Servers are started from the installed programs and end with the command.
#[derive(Debug, Parser)]
#[command(name = "millpond-proof")]
struct Arguments {
    #[command(subcommand)]
    command: Proof,
    /// Only these backends, by name.
    #[arg(long = "on", global = true, value_name = "BACKEND")]
    on: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Proof {
    /// Every clause of the suite on every backend.
    Conformance(conformance::Arguments),
    /// Concurrent histories: is there an order that explains every answer?
    Linearizability(linearizability::Arguments),
    /// One random list of operations: are the answers those of the reference engine?
    SameAnswers(same_answers::Arguments),
    /// Connections lost at any flight of a commit.
    LostAnswers(lost_answers::Arguments),
    /// kill -9 of the writing process, and of the server.
    Kill(kill::Arguments),
    /// Power cuts, with flushes and without. Needs root and a loop device.
    PowerCut(power::Arguments),
    /// A store on Garage and on s3s-fs, which is refused. `.ci/long-servers` builds them.
    UnfitServers,
    /// Opens a store, with the credentials that it was given.
    #[command(hide = true)]
    OpenOne {
        /// The store.
        url: String,
    },
    /// One power cut, on a mounted image.
    #[command(hide = true)]
    PowerCutOne(power::Cut),
    /// Commits until it is killed.
    #[command(hide = true)]
    Write {
        /// The store.
        url: String,
        /// Acknowledges first and commits then.
        #[arg(long)]
        careless: bool,
    },
}

fn main() -> ExitCode {
    if let Some(code) = harness_process() {
        return code;
    }
    let arguments = Arguments::parse();
    // The test server's own user, so that no command ever uses the credentials of the person who runs it. A program's own
    // variables cannot be changed safely, so it starts itself once more.
    let has_its_own = matches!(arguments.command, Proof::OpenOne { .. });
    if !has_its_own && std::env::var("AWS_ACCESS_KEY_ID").as_deref() != Ok(S3_ACCESS_KEY) {
        return again();
    }
    let done = match &arguments.command {
        Proof::Conformance(options) => conformance::run(&arguments.on, options),
        Proof::Linearizability(options) => linearizability::run(&arguments.on, options),
        Proof::SameAnswers(options) => same_answers::run(&arguments.on, options),
        Proof::LostAnswers(options) => lost_answers::run(&arguments.on, options),
        Proof::Kill(options) => kill::run(&arguments.on, options),
        Proof::PowerCut(options) => power::run(&arguments.on, options),
        Proof::UnfitServers => unfit_servers::run(),
        Proof::OpenOne { url } => block_on(unfit_servers::open_one(url)).and_then(|done| done),
        Proof::PowerCutOne(options) => power::cut(options),
        Proof::Write { url, careless } => block_on(writer::write(url, *careless)).and_then(|done| done),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Where this program was started by a clause as a racing process.
fn harness_process() -> Option<ExitCode> {
    millpond_conformance::harness::as_process_of(|url| Arc::new(place::UrlPlace::new(url.to_string_lossy())))
}

fn again() -> ExitCode {
    let started = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .args(std::env::args_os().skip(1))
            .env("AWS_ACCESS_KEY_ID", S3_ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", S3_SECRET_KEY)
            .env("AWS_REGION", "us-east-1")
            .status()
    });
    match started {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("this program cannot start itself: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a future to its end.
///
/// # Errors
/// When no runtime can be started.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let answer = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(answer)
}
