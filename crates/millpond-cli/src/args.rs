//! The command line: global flags and the list of commands. Each command's own flags stand beside its code.

use clap::{Args, Parser, Subcommand};

use crate::commands as c;
use crate::output::Format;

/// Millpond keeps a workflow engine's state: records, events, runs, checkpoints, locks.
///
/// With no configuration the store is the folder ./millpond-data. A flag counts before the environment, the environment
/// before ./millpond.yaml.
/// Data goes to stdout, everything else to stderr.
#[derive(Debug, Parser)]
#[command(name = "millpond", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// Flags every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 conflict, 5 unhealthy, 11 locked.
Start with: millpond demo";

/// Flags every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The store: a folder, sqlite:FILE, memory:, file:DIR, postgres://USER@HOST/DATABASE, redis://HOST:PORT/NUMBER
    /// (rediss: with TLS), nats://HOST:PORT (tls: with TLS), s3://BUCKET/PREFIX, minio://HOST:PORT/BUCKET/PREFIX,
    /// gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or object-file:DIR [env: MILLPOND_STORE=] [default: ./millpond-data]
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// The configuration file [env: MILLPOND_CONFIG=] [default: ./millpond.yaml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// Take the store from DATABASE_URL, NATS_URL, REDIS_URL or AWS_S3_BUCKET
    #[arg(long, global = true)]
    pub discover: bool,
    /// The namespace inside the store [env: MILLPOND_NAMESPACE=] [default: default]
    #[arg(long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Refuse a store that keeps less: memory, process-crash, power-loss or replicated [env: MILLPOND_REQUIRE=]
    #[arg(long, global = true, value_name = "CLASS")]
    pub require: Option<String>,
    /// Where the bytes of artifacts go: a folder, s3://BUCKET/PREFIX (or minio:, gs:, az:) [env: MILLPOND_OBJECTS=]
    #[arg(long, global = true, value_name = "PLACE")]
    pub objects: Option<String>,
    /// Do not ask before something is destroyed
    #[arg(long, global = true)]
    pub yes: bool,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a document pipeline over your files; killed at any moment, it goes on where it was
    Demo(crate::demo::DemoArgs),
    /// Workflows: immutable versions of definitions
    #[command(subcommand)]
    Workflows(c::workflows::WorkflowsCommand),
    /// Flows: visual flows, their versions, what is deployed of them
    Flows(c::flows::FlowsArgs),
    /// Runs: executions of workflows, and their logs
    #[command(subcommand)]
    Runs(c::runs::RunsCommand),
    /// Sessions: long-running work that can be paused and resumed
    #[command(subcommand)]
    Sessions(c::sessions::SessionsCommand),
    /// Events: what happened, in streams
    #[command(subcommand)]
    Events(c::events::EventsCommand),
    /// Artifacts: bytes under keys, with what is known of where they come from
    #[command(subcommand, visible_alias = "storage")]
    Artifacts(c::artifacts::ArtifactsCommand),
    /// Units of work: what happens whole or not at all, bytes included
    #[command(subcommand)]
    Units(c::units::UnitsCommand),
    /// Checkpoints: numbered states to resume from
    #[command(subcommand)]
    Checkpoints(c::checkpoints::CheckpointsCommand),
    /// Dead letters: what failed too often
    #[command(subcommand)]
    DeadLetters(c::dead_letters::DeadLettersCommand),
    /// Metrics: what executions add up to
    #[command(subcommand)]
    Metrics(c::metrics::MetricsCommand),
    /// Patterns: what was seen again and again
    #[command(subcommand)]
    Patterns(c::patterns::PatternsCommand),
    /// Feedback: what was said about runs
    #[command(subcommand)]
    Feedback(c::feedback::FeedbackCommand),
    /// Lineage: what became of what
    #[command(subcommand)]
    Lineage(c::lineage::LineageCommand),
    /// Pins: executions whose artifacts have to stay
    #[command(subcommand)]
    Pins(c::pins::PinsCommand),
    /// Replays: artifacts of a stage, published anew, each once
    #[command(subcommand)]
    Replay(c::replay::ReplayCommand),
    /// Delete everything of an execution that was written off
    Prune(c::prune::PruneArgs),
    /// Locks with fencing tokens
    #[command(subcommand)]
    Locks(c::locks::LocksCommand),
    /// Apply one raw commit, given as JSON
    Commit(c::commit::CommitArgs),
    /// Show the receipt of a commit by its id
    Outcome(c::commit::OutcomeArgs),
    /// Records: JSON documents by collection and key
    #[command(subcommand)]
    Records(c::records::RecordsCommand),
    /// Namespaces: units of atomicity, order and deletion
    #[command(subcommand)]
    Namespaces(c::namespaces::NamespacesCommand),
    /// The store as a whole
    #[command(subcommand)]
    Store(c::store::StoreCommand),
    /// Look at the store's health: can it be written, how long that takes, what an acknowledgement survives
    Doctor(c::doctor::DoctorArgs),
    /// Take over what was edited by hand in a store of files
    Adopt(c::adopt::AdoptArgs),
    /// The configuration: what counts, who said it, whether it can be used
    #[command(subcommand)]
    Config(c::config::ConfigCommand),
    /// Print a completion script for a shell
    Completions(c::completions::CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// Two flags of one name, a default that does not parse and the like are found by looking at all commands.
    #[test]
    fn every_command_can_be_parsed() {
        super::Cli::command().debug_assert();
    }
}
