//! `millpond demo [DIR]`: the main job on real input.
//!
//! ```text
//!  files ─► collect ─► convert ─► segment ─► index        each step ONE commit; killed at any moment, it goes on
//!             │                                           after the last one
//!             └─► dead letters (files that cannot be read)
//! ```
//!
//! Each stage leaves records, which are searched, and artifacts with their lineage, from which `demo replay` makes the
//! index again.

mod ack;
mod begin;
mod convert;
mod corpus;
mod digest;
mod documents;
mod index;
mod keep;
mod letters;
mod progress;
mod replay;
mod run;
mod segment;
mod state;
mod summary;
mod work;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use millpond::{Error, Lease, LockRequest, Pond, Result};

use crate::context::Context;
use crate::exit::Exit;
use crate::report;
use ack::Ack;
use begin::{LOCK, LOCK_TTL};
use corpus::Corpus;
use run::Runner;
use state::{Stage, State};

/// Flags of `demo`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DemoArgs {
    #[command(subcommand)]
    command: Option<DemoCommand>,
    /// A folder with .md and .txt files [default: ./docs, else a sample inside the program]
    dir: Option<PathBuf>,
    /// Start a new run, and remove what the last one made
    #[arg(long)]
    fresh: bool,
    /// Write one line for each acknowledged commit to this file, FIFO or /dev/fd/N
    #[arg(long, hide = true, env = "MILLPOND_DEMO_ACK", value_name = "PATH")]
    ack: Option<PathBuf>,
}

/// What else there is.
#[derive(Debug, Subcommand)]
enum DemoCommand {
    /// Make the index of the complete demo again, from its artifacts alone, and compare it with the first one. Exit code 5
    /// when they differ. (A folder of this name is ./replay)
    Replay,
}

/// Runs the pipeline, or goes on with it; or makes its index again.
pub async fn run(ctx: &Context, args: DemoArgs) -> Result<Exit> {
    if let Some(DemoCommand::Replay) = args.command {
        let pond = ctx.existing().await?;
        begin::declare(pond.store()).await?;
        let lease = lock(ctx, &pond).await?;
        let exit = unlocked(&pond, &lease, replay::run(ctx, &pond, &lease).await).await?;
        pond.close().await?;
        return Ok(exit);
    }
    let ack = Ack::open(args.ack.as_deref())?;
    let pond = match ctx.existing().await {
        Ok(pond) => pond,
        Err(e) if e.is_not_found() => {
            // Looked at before anything is made: a folder without documents leaves no store behind.
            Corpus::choose(args.dir.as_deref(), None)?.groups()?;
            ctx.open().await?
        }
        Err(e) => return Err(e),
    };
    begin::declare(pond.store()).await?;
    let lease = lock(ctx, &pond).await?;
    unlocked(&pond, &lease, under_lock(ctx, &pond, &lease, ack, &args).await).await?;
    pond.close().await?;
    Ok(Exit::Ok)
}

/// Whatever happened, the next demo need not wait. If the lock is lost already, there is nothing to give back.
async fn unlocked<T>(pond: &Pond, lease: &Lease, done: Result<T>) -> Result<T> {
    let released = pond.locks().release(lease).await;
    let done = done?;
    released?;
    Ok(done)
}

async fn lock(ctx: &Context, pond: &Pond) -> Result<Lease> {
    let request = LockRequest::of(LOCK, LOCK_TTL).purpose("millpond demo");
    let error = match pond.locks().acquire(&request).await {
        Ok(lease) => return Ok(lease),
        Err(e) if e.as_conflict().is_none() => return Err(e),
        Err(e) => e,
    };
    // Who it is may have changed since; then the error names whoever has it now.
    let pid =
        pond.locks().info(LOCK).await?.and_then(|i| i.lease.holder.pid).map_or(String::new(), |pid| format!(" (pid {pid})"));
    Err(error
        .saying(format!("another demo{pid} is running on this store"))
        .with_next(format!("wait until it is done, or see who it is: millpond{} locks info {LOCK}", ctx.flags())))
}

async fn under_lock(ctx: &Context, pond: &Pond, lease: &Lease, ack: Ack, args: &DemoArgs) -> Result<()> {
    let fresh = args.fresh;
    let saved = begin::saved(pond).await?;
    let last = saved.as_ref().filter(|_| !fresh).map(|s| s.corpus.as_str());
    let corpus = Corpus::choose(args.dir.as_deref(), last)?;
    let mut runner = Runner::new(pond, lease.clone(), corpus.clone(), ack);
    let state = match saved {
        Some(state) if !fresh && state.corpus == corpus.name() => {
            match state.stage {
                Stage::Done => report::note(format_args!("this demo is complete (run {}); --fresh starts a new run", state.run)),
                stage => {
                    // What comes after collect is made of what the store holds; the files may be gone.
                    if matches!(stage, Stage::Prepare | Stage::Collect) {
                        corpus.require()?;
                    }
                    report::note(format_args!("going on with run {} in {}, step {}", state.run, stage.name(), state.step + 1))
                }
            }
            state
        }
        Some(state) if !fresh && state.stage != Stage::Done => return Err(unfinished(&state, &corpus)),
        last => {
            // Looked at before the last run's documents are given up.
            corpus.groups()?;
            report::note(format_args!("reading {}", corpus.name()));
            runner.begin(last.as_ref()).await?
        }
    };
    let state = runner.drive(state).await?;
    summary::print(ctx, pond, &state).await
}

fn unfinished(state: &State, corpus: &Corpus) -> Error {
    Error::conflict(format!("this store holds an unfinished demo over {}", state.corpus))
        .with("run", &state.run)
        .with("stage", state.stage.name())
        .with_next(format!("finish it by naming that folder, or start over with {}: add --fresh", corpus.name()))
}
