//! `millpond replay …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use millpond::{Pond, Replay, ReplayFilter, ReplayRequest, ReplayStatus, Result};

use super::bar::Bar;
use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};
use crate::report;

/// Commands on replays.
#[derive(Debug, Subcommand)]
pub enum ReplayCommand {
    /// Publish the artifacts of a stage anew, each once, in the order of their keys
    Start(RequestArgs),
    /// What that would publish, and what is missing or damaged; nothing is written. Exit code 5 when it would be refused
    Plan {
        #[command(flatten)]
        request: RequestArgs,
        /// Messages that are listed
        #[arg(long, value_name = "N", default_value_t = 20)]
        show: usize,
    },
    /// List replays
    #[command(alias = "ls")]
    List(ListArgs),
    /// A replay: how far it is, or what was missing or damaged
    #[command(alias = "get")]
    Show {
        /// The replay
        id: String,
    },
    /// Go on with a replay from where it stands
    Resume {
        /// The replay
        id: String,
    },
    /// End a replay: what was published stays published
    Cancel {
        /// The replay
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "it was cancelled")]
        reason: String,
    },
}

/// Flags of `replay start` and `replay plan`.
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// The execution whose artifacts are published anew
    execution: String,
    /// The route
    #[arg(long, value_name = "NAME")]
    route: String,
    /// The stage
    #[arg(long, value_name = "NAME")]
    stage: String,
    /// The stream that the messages go to
    #[arg(long, value_name = "STREAM")]
    to: String,
    /// Only keys that go on so below the stage, without /: what lies in a folder there is of the stage STAGE/FOLDER
    #[arg(long, value_name = "TEXT")]
    path: Option<String>,
    /// What all messages carry; a batch is published into a stream once [default: a fresh id]
    #[arg(long, value_name = "ID")]
    batch: Option<String>,
    /// A key that has to be there; may be said again
    #[arg(long, value_name = "KEY")]
    expect: Vec<String>,
    /// How long expected keys are waited for
    #[arg(long, value_name = "LENGTH", value_parser = input::duration, default_value = "0s", requires = "expect")]
    wait: Duration,
    /// Only look whether every object is there with its length, and read none
    #[arg(long)]
    no_read_data: bool,
    /// Messages of one commit at most
    #[arg(long, value_name = "N", default_value_t = millpond::MESSAGES_AT_ONCE)]
    per_commit: u32,
}

impl From<RequestArgs> for ReplayRequest {
    fn from(args: RequestArgs) -> Self {
        Self {
            path: args.path,
            batch: args.batch,
            expect: args.expect,
            wait: args.wait,
            read_data: !args.no_read_data,
            per_commit: args.per_commit,
            ..Self::of(args.execution, args.route, args.stage, args.to)
        }
    }
}

/// Flags of `replay list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of this execution's artifacts
    #[arg(long, value_name = "ID")]
    execution: Option<String>,
    /// With this batch
    #[arg(long, value_name = "ID")]
    batch: Option<String>,
    /// preparing, publishing, ending, completed, refused or cancelled; may be said again
    #[arg(long, value_name = "STATUS")]
    status: Vec<ReplayStatus>,
    #[command(flatten)]
    page: PageArgs,
}

const REPLAYS: [Column; 8] = [
    Column::new("replay", "/id"),
    Column::new("status", "/status"),
    Column::new("from", "/prefix"),
    Column::new("to", "/to_stream"),
    Column::new("batch", "/batch"),
    Column::new("objects", "/objects"),
    Column::new("published", "/published"),
    Column::new("began", "/began"),
];

const MESSAGES: [Column; 3] = [Column::new("key", "/key"), Column::new("bytes", "/length"), Column::new("sha256", "/sha256")];

const PROBLEMS: [Column; 3] = [Column::new("problem", "/kind"), Column::new("key", "/key"), Column::new("why", "/why")];

/// Runs one.
pub async fn run(ctx: &Context, command: ReplayCommand) -> Result<Exit> {
    let pond = ctx.existing().await?;
    let replays = pond.replays();
    let mut exit = Exit::Ok;
    match command {
        ReplayCommand::Start(args) => {
            let replay = replays.begin(&args.into()).await?;
            report::note(format_args!(
                "replay {} begins; if it is stopped: millpond replay resume {0}{}",
                replay.id,
                ctx.flags()
            ));
            work(ctx, &pond, &replay.id).await?;
        }
        ReplayCommand::Resume { id } => work(ctx, &pond, &id).await?,
        ReplayCommand::Plan { request, show } => {
            let plan = replays.plan(&request.into(), show).await?;
            exit = if plan.can_start() { Exit::Ok } else { Exit::Unhealthy };
            if !ctx.out.is_table() {
                ctx.out.item(&value(&plan)?)?;
            } else {
                if !plan.messages.is_empty() {
                    ctx.out.list(&MESSAGES, &values(&plan.messages)?)?;
                }
                if !plan.problems.is_empty() {
                    ctx.out.list(&PROBLEMS, &values(&plan.problems)?)?;
                }
                report::note(format_args!(
                    "{} with {} from {} to {}; {}; {}{}",
                    counted(plan.objects, "message"),
                    counted(plan.bytes, "byte"),
                    plan.prefix,
                    plan.to_stream,
                    counted(plan.problems_in_all, "problem"),
                    looked_at(plan.read_data),
                    left_out(plan.left_out)
                ));
            }
        }
        ReplayCommand::List(args) => {
            let filter = ReplayFilter {
                execution: args.execution,
                batch: args.batch,
                statuses: args.status,
                limit: args.page.limit,
                after: args.page.after,
                ..ReplayFilter::default()
            };
            ctx.out.found(&REPLAYS, &replays.list(&filter).await?)?;
        }
        ReplayCommand::Show { id } => ctx.out.one(format_args!("replay {id}"), replays.get(&id).await?.as_ref())?,
        ReplayCommand::Cancel { id, reason } => {
            let replay = replays.cancel(&id, &reason).await?;
            let published = counted(replay.published, "message");
            ctx.out.say(format_args!("replay {id} is ended; {published} had been published"), &value(&replay)?)?;
        }
    }
    pond.close().await?;
    Ok(exit)
}

/// Works on a replay to its end, and tells how it came out.
async fn work(ctx: &Context, pond: &Pond, id: &str) -> Result<()> {
    let mut bar = Bar::new();
    let told = |replay: &Replay| match replay.status {
        ReplayStatus::Preparing if replay.objects == 0 && !replay.expect.is_empty() => {
            bar.at("waiting", 0, Some(replay.expect.len() as u64), "expected objects");
        }
        ReplayStatus::Preparing => bar.at("looking at objects", replay.objects, None, looked_at(replay.read_data)),
        ReplayStatus::Publishing => bar.at("publishing", replay.published, Some(replay.objects), &replay.to_stream),
        _ => {}
    };
    let replay = pond.replays().resume_with(id, told).await?;
    drop(bar);
    let Replay { published, to_stream, batch, status, .. } = &replay;
    let text = format!("replay {id} is {status}: {} in {to_stream}, batch {batch}", counted(*published, "message"));
    ctx.out.say(format_args!("{text}; {}{}", looked_at(replay.read_data), left_out(replay.left_out)), &value(&replay)?)
}

/// What lies below the stage and is not part of it.
fn left_out(many: u64) -> String {
    match many {
        0 => String::new(),
        many => format!("; {} below it left out: of other stages, or said to belong elsewhere", counted(many, "artifact")),
    }
}

fn looked_at(read_data: bool) -> &'static str {
    if read_data { "every byte was read and compared" } else { "only lengths were compared, no byte was read" }
}
