//! `millpond runs …`: executions of workflow versions and their logs.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use millpond::{
    Action, Cursor, Error, NewRun, Pond, Result, RunEnd, RunFilter, RunOrder, RunStatus, Selector, StartAt, Step, StreamName,
    Timestamp, VersionRef, run_events,
};
use serde_json::json;

use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value, values};

/// Commands on runs.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// Start a run of a workflow's version
    Start(Box<StartArgs>),
    /// Say that a step began, completed or failed
    Step(StepArgs),
    /// Say that a step did something
    Action(ActionArgs),
    /// End a run; its log is sealed
    Finish(FinishArgs),
    /// List runs
    #[command(alias = "ls")]
    List(Box<ListArgs>),
    /// Count runs
    Count(Box<ListArgs>),
    /// Show a run
    #[command(alias = "get")]
    Show {
        /// The run's id
        run: String,
        /// Follow its log until it ends
        #[arg(long)]
        follow: bool,
    },
    /// The run that an idempotency key started
    ByKey {
        /// The key
        key: String,
    },
    /// The configuration that runs were started with, by its hash
    Config {
        /// The hash
        hash: String,
    },
    /// The runs of a workflow that started last
    Recent {
        /// The workflow
        workflow: String,
        /// Only of this version
        #[arg(long, value_name = "N")]
        of_version: Option<u32>,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 10)]
        limit: usize,
    },
    /// The runs that came from a run
    Children {
        /// The run's id
        run: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// A page of a run's log
    Log {
        /// The run's id
        run: String,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Continue after this cursor or position
        #[arg(long, value_name = "CURSOR")]
        after: Option<Cursor>,
    },
    /// Delete a finished run with its log; its metrics stay counted
    #[command(alias = "rm")]
    Delete {
        /// The run's id
        run: String,
    },
}

/// Flags of `runs start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The workflow's version, such as etl@3
    workflow: VersionRef,
    /// An id of your own
    #[arg(long)]
    id: Option<String>,
    /// Started again with the same key, the first run is answered
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
    /// The run it came from
    #[arg(long, value_name = "RUN")]
    parent: Option<String>,
    /// The configuration as JSON; @FILE reads a file, - stdin
    #[arg(long = "run-config", id = "run_config", value_name = "JSON", conflicts_with = "config_hash")]
    config: Option<String>,
    /// A configuration that was kept before
    #[arg(long, value_name = "HASH")]
    config_hash: Option<String>,
    /// A tag
    #[arg(long)]
    tag: Vec<String>,
    /// A label
    #[arg(long, value_name = "NAME=VALUE", value_parser = input::pair)]
    label: Vec<(String, String)>,
    /// What it is given, as JSON; @FILE reads a file, - stdin
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// Anything else to keep with it
    #[arg(long, value_name = "NAME=JSON", value_parser = input::pair)]
    metadata: Vec<(String, String)>,
}

/// What happened to a step.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum StepState {
    /// It began
    Started,
    /// It reached its end
    Completed,
    /// It ended with an error
    Failed,
}

/// Flags of `runs step`.
#[derive(Debug, Args)]
pub struct StepArgs {
    /// The run's id
    run: String,
    /// The step's id
    step: String,
    /// What happened to it
    #[arg(value_enum)]
    state: StepState,
    /// The workflow's node it stands for
    #[arg(long)]
    node: Option<String>,
    /// The node's type
    #[arg(long, value_name = "TYPE")]
    node_type: Option<String>,
    /// What it was given, as JSON
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// What it gave back, as JSON
    #[arg(long, value_name = "JSON")]
    result: Option<String>,
    /// Why it failed
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// How long it took
    #[arg(long, value_name = "LENGTH", value_parser = input::duration)]
    took: Option<Duration>,
    /// Anything else to keep with it
    #[arg(long, value_name = "NAME=JSON", value_parser = input::pair)]
    metadata: Vec<(String, String)>,
}

/// Flags of `runs action`.
#[derive(Debug, Args)]
pub struct ActionArgs {
    /// The run's id
    run: String,
    /// What was done, such as tool_call
    kind: String,
    /// The step that did it
    #[arg(long)]
    step: Option<String>,
    /// The workflow's node
    #[arg(long)]
    node: Option<String>,
    /// More about it
    #[arg(long, value_name = "NAME=JSON", value_parser = input::pair)]
    detail: Vec<(String, String)>,
}

/// Flags of `runs finish`.
#[derive(Debug, Args)]
pub struct FinishArgs {
    /// The run's id
    run: String,
    /// How it ended: completed, failed, cancelled or interrupted
    status: RunStatus,
    /// What it gave back, as JSON; @FILE reads a file, - stdin
    #[arg(long, value_name = "JSON")]
    result: Option<String>,
    /// Why it ended so
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

/// How a list of runs is ordered.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Order {
    /// Started last
    Newest,
    /// Started first
    Oldest,
    /// Finished last
    Finished,
}

/// Conditions on runs.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// Of this version
    #[arg(long, value_name = "N")]
    of_version: Option<u32>,
    /// In this state: running, completed, failed, cancelled or interrupted
    #[arg(long)]
    status: Option<RunStatus>,
    /// Started since this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    since: Option<Timestamp>,
    /// Started before this moment
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    until: Option<Timestamp>,
    /// Finished since this moment
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    finished_since: Option<Timestamp>,
    /// Finished before this moment
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    finished_until: Option<Timestamp>,
    /// That came from this run
    #[arg(long, value_name = "RUN")]
    parent: Option<String>,
    /// With this configuration
    #[arg(long = "run-config", id = "run_config", value_name = "HASH")]
    config: Option<String>,
    /// With this tag
    #[arg(long)]
    tag: Vec<String>,
    /// With this label
    #[arg(long, value_name = "NAME=VALUE", value_parser = input::pair)]
    label: Vec<(String, String)>,
    /// In this order
    #[arg(long, value_enum, default_value_t = Order::Newest)]
    order: Order,
    #[command(flatten)]
    page: PageArgs,
}

impl ListArgs {
    fn filter(self) -> Result<RunFilter> {
        let (workflow, version) = match self.workflow {
            Some(named) => input::workflow(named, self.of_version).map(|(id, version)| (Some(id), version))?,
            None => (None, self.of_version),
        };
        Ok(RunFilter {
            workflow,
            version,
            status: self.status,
            started_from: self.since,
            started_to: self.until,
            finished_from: self.finished_since,
            finished_to: self.finished_until,
            parent: self.parent,
            config: self.config,
            tags: self.tag.into_iter().collect(),
            labels: input::map(self.label),
            order: match self.order {
                Order::Newest => RunOrder::NewestFirst,
                Order::Oldest => RunOrder::OldestFirst,
                Order::Finished => RunOrder::LastFinished,
            },
            limit: self.page.limit,
            after: self.page.after,
        })
    }
}

const COLUMNS: [Column; 7] = [
    Column::new("run", "/id"),
    Column::new("workflow", "/workflow"),
    Column::new("version", "/version"),
    Column::new("status", "/status"),
    Column::new("started", "/started_at"),
    Column::new("finished", "/finished_at"),
    Column::new("steps", "/counters/steps_completed"),
];

const LOG: [Column; 4] =
    [Column::new("seq", "/sequence"), Column::new("when", "/time"), Column::new("type", "/type"), Column::new("data", "/data")];

/// Runs one.
pub async fn run(ctx: &Context, command: RunsCommand) -> Result<Exit> {
    let pond = match &command {
        RunsCommand::Start(_) => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let runs = pond.runs();
    match command {
        RunsCommand::Start(args) => {
            let run = runs.start(new_run(*args)?).await?;
            ctx.out.say(&run.id, &value(&run)?)?;
        }
        RunsCommand::Step(args) => step(ctx, &pond, args).await?,
        RunsCommand::Action(args) => {
            let action =
                Action { step: args.step, node: args.node, details: input::json_map(args.detail), ..Action::new(args.kind) };
            let receipt = runs.action(&args.run, &action).await?;
            ctx.out.say(format_args!("{}: {}", args.run, action.kind), &value(&receipt)?)?;
        }
        RunsCommand::Finish(args) => {
            let end = RunEnd::new(args.status, input::json_or_null(args.result.as_deref())?);
            let end = args.error.into_iter().fold(end, RunEnd::error);
            let receipt = runs.finish(&args.run, end).await?;
            ctx.out.say(format_args!("{} is {}", args.run, args.status), &value(&receipt)?)?;
        }
        RunsCommand::List(args) => ctx.out.found(&COLUMNS, &runs.list(&args.filter()?).await?)?,
        RunsCommand::Count(args) => {
            let count = runs.count(&args.filter()?).await?;
            ctx.out.say(count, &json!({ "count": count }))?;
        }
        RunsCommand::Show { run, follow } => {
            let found = runs.get(&run).await?;
            if !follow {
                ctx.out.one(format_args!("run {run:?}"), found.as_ref())?;
            } else if found.is_some() {
                self::follow(ctx, &pond, &run).await?;
            } else {
                return Err(Error::not_found(format!("run {run:?} does not exist")));
            }
        }
        RunsCommand::ByKey { key } => {
            ctx.out.one(format_args!("a run of key {key:?}"), runs.by_idempotency_key(&key).await?.as_ref())?;
        }
        RunsCommand::Config { hash } => {
            ctx.out.one(format_args!("configuration {hash:?}"), runs.config(&hash).await?.as_ref())?;
        }
        RunsCommand::Recent { workflow, of_version, limit } => {
            let (workflow, of_version) = input::workflow(workflow, of_version)?;
            ctx.out.found(&COLUMNS, &runs.recent(&workflow, of_version, limit).await?)?;
        }
        RunsCommand::Children { run, page } => {
            let page = runs.children(&run, page.limit, page.after).await?;
            if page.items.is_empty() && page.damaged.is_empty() {
                require_run(&pond, &run).await?;
            }
            ctx.out.found(&COLUMNS, &page)?;
        }
        RunsCommand::Log { run, limit, after } => {
            let after = after.as_ref().map(|c| pond.store_of(millpond::Domain::Runs).resume(c)).transpose()?;
            let page = runs.log(&run, after, limit).await?;
            if page.items.is_empty() && page.damaged.is_empty() {
                require_run(&pond, &run).await?;
            }
            let next = page.next.map(|p| pond.store_of(millpond::Domain::Runs).cursor(p).to_string());
            ctx.out.page(&LOG, &values(&page.items)?, next, &page.damaged)?;
        }
        RunsCommand::Delete { run } => {
            require_run(&pond, &run).await?;
            ctx.confirm(format_args!("deleting run {run} with its log"), &run)?;
            ctx.out.deleted(format_args!("run {run}"), runs.delete(&run).await?)?;
        }
    }
    pond.close().await?;
    Ok(Exit::Ok)
}

async fn require_run(pond: &Pond, run: &str) -> Result<()> {
    match pond.runs().get(run).await? {
        Some(_) => Ok(()),
        None => Err(Error::not_found(format!("run {run:?} does not exist")).with_next("see what there is: millpond runs list")),
    }
}

fn new_run(args: StartArgs) -> Result<NewRun> {
    let mut new = NewRun::of(args.workflow.id, args.workflow.version).input(input::json_or_null(args.input.as_deref())?);
    if let Some(id) = args.id {
        new = new.id(id);
    }
    if let Some(key) = args.idempotency_key {
        new = new.idempotency_key(key);
    }
    if let Some(parent) = args.parent {
        new = new.parent(parent);
    }
    if let Some(config) = args.config {
        new = new.config(input::json(&config)?);
    }
    if let Some(hash) = args.config_hash {
        new = new.config_hash(hash);
    }
    new = args.tag.into_iter().fold(new, NewRun::tag);
    new = args.label.into_iter().fold(new, |n, (name, value)| n.label(name, value));
    Ok(input::json_map(args.metadata).into_iter().fold(new, |n, (name, value)| n.metadata(name, value)))
}

async fn step(ctx: &Context, pond: &Pond, args: StepArgs) -> Result<()> {
    let step = Step {
        node: args.node,
        node_type: args.node_type,
        input: input::json_or_null(args.input.as_deref())?,
        output: input::json_or_null(args.result.as_deref())?,
        error: args.error,
        metadata: input::json_map(args.metadata),
        ..Step::new(args.step)
    };
    let step = args.took.into_iter().fold(step, Step::took);
    let runs = pond.runs();
    let receipt = match args.state {
        StepState::Started => runs.step_started(&args.run, &step).await?,
        StepState::Completed => runs.step_completed(&args.run, &step).await?,
        StepState::Failed => runs.step_failed(&args.run, &step).await?,
    };
    let state = format!("{:?}", args.state).to_lowercase();
    ctx.out.say(format_args!("{}: {} {state}", args.run, step.step), &value(&receipt)?)
}

/// Prints a run's log from the beginning and goes on until the run ends. A finished run's log is sealed, so the event
/// that ends it is always the last.
async fn follow(ctx: &Context, pond: &Pond, run: &str) -> Result<()> {
    let stream = StreamName::new(millpond::Runs::stream(run))?;
    let mut feed = pond.subscribe(Selector::stream(stream), StartAt::Oldest)?;
    while let Some(delivery) = feed.next().await.transpose()? {
        let millpond::Delivery::Change(millpond::Change::Event(event), cursor) = delivery else { continue };
        let mut item = value(&event)?;
        item["cursor"] = cursor.to_string().into();
        ctx.out.line(&LOG, &item)?;
        if event.kind == run_events::RUN_FINISHED {
            break;
        }
    }
    Ok(())
}
