//! One file a noun: its flags, its calls of the library, its columns.

pub mod adopt;
pub mod artifacts;
pub mod bar;
pub mod checkpoints;
pub mod commit;
pub mod completions;
pub mod config;
pub mod dead_letters;
pub mod doctor;
pub mod events;
pub mod feedback;
pub mod flows;
pub mod input;
pub mod lineage;
pub mod locks;
pub mod metrics;
pub mod namespaces;
pub mod patterns;
pub mod pins;
pub mod prune;
pub mod query;
pub mod records;
pub mod replay;
pub mod runs;
pub mod sessions;
pub mod store;
pub mod units;
pub mod workflows;

use millpond::Result;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::exit::Exit;

/// Runs one command.
pub async fn run(cli: Cli) -> Result<Exit> {
    // A configuration that cannot be read is no reason to print no script.
    if let Command::Completions(args) = &cli.command {
        return completions::run(args);
    }
    let ctx = Context::new(cli.global)?;
    let answer = run_on(&ctx, cli.command).await;
    ctx.end().await;
    answer
}

async fn run_on(ctx: &Context, command: Command) -> Result<Exit> {
    match command {
        Command::Demo(args) => crate::demo::run(ctx, args).await,
        Command::Workflows(command) => workflows::run(ctx, command).await,
        Command::Flows(args) => flows::run(ctx, args).await,
        Command::Runs(command) => runs::run(ctx, command).await,
        Command::Sessions(command) => sessions::run(ctx, command).await,
        Command::Events(command) => events::run(ctx, command).await,
        Command::Artifacts(command) => artifacts::run(ctx, command).await,
        Command::Units(command) => units::run(ctx, command).await,
        Command::Checkpoints(command) => checkpoints::run(ctx, command).await,
        Command::DeadLetters(command) => dead_letters::run(ctx, command).await,
        Command::Metrics(command) => metrics::run(ctx, command).await,
        Command::Patterns(command) => patterns::run(ctx, command).await,
        Command::Feedback(command) => feedback::run(ctx, command).await,
        Command::Lineage(command) => lineage::run(ctx, command).await,
        Command::Pins(command) => pins::run(ctx, command).await,
        Command::Replay(command) => replay::run(ctx, command).await,
        Command::Prune(args) => prune::run(ctx, args).await,
        Command::Locks(command) => locks::run(ctx, command).await,
        Command::Commit(args) => commit::run(ctx, args).await,
        Command::Outcome(args) => commit::outcome(ctx, args).await,
        Command::Records(command) => records::run(ctx, command).await,
        Command::Namespaces(command) => namespaces::run(ctx, command).await,
        Command::Store(command) => store::run(ctx, command).await,
        Command::Doctor(args) => doctor::run(ctx, args).await,
        Command::Adopt(args) => adopt::run(ctx, args).await,
        Command::Config(command) => config::run(ctx, command).await,
        Command::Completions(args) => completions::run(&args),
    }
}
