//! `millpond patterns …`: what was seen again and again.

use clap::{Args, Subcommand};
use millpond::{NewPattern, PatternFilter, Result, Timestamp};

use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value, write_moments};

/// Commands on patterns.
#[derive(Debug, Subcommand)]
pub enum PatternsCommand {
    /// Record that a pattern was seen; its counters grow
    Record(RecordArgs),
    /// Show one
    #[command(alias = "show")]
    Get {
        /// The workflow
        workflow: String,
        /// The pattern's id
        id: String,
    },
    /// List patterns
    #[command(alias = "ls")]
    List(ListArgs),
}

/// Flags of `patterns record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The workflow
    workflow: String,
    /// The pattern's id
    id: String,
    /// What kind, such as bottleneck
    kind: String,
    /// How sure, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    confidence: f64,
    /// In words
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How often it was seen
    #[arg(long, value_name = "N", default_value_t = 1)]
    occurrences: i64,
    /// When; now if left out
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    seen_at: Option<Timestamp>,
    /// More about it
    #[arg(long, value_name = "NAME=JSON", value_parser = input::pair)]
    detail: Vec<(String, String)>,
}

/// Conditions on patterns.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// Of this kind
    #[arg(long)]
    kind: Option<String>,
    /// At least this sure
    #[arg(long, value_name = "SHARE")]
    min_confidence: Option<f64>,
    /// Seen at least this often
    #[arg(long, value_name = "N")]
    min_occurrences: Option<i64>,
    #[command(flatten)]
    page: PageArgs,
}

const COLUMNS: [Column; 7] = [
    Column::new("workflow", "/workflow"),
    Column::new("pattern", "/id"),
    Column::new("kind", "/type"),
    Column::new("seen", "/occurrences"),
    Column::new("confidence", "/confidence"),
    Column::new("last", "/last_seen"),
    Column::new("description", "/description"),
];

const MOMENTS: [&str; 2] = ["/first_seen", "/last_seen"];

/// Runs one.
pub async fn run(ctx: &Context, command: PatternsCommand) -> Result<Exit> {
    let pond = match &command {
        PatternsCommand::Record(_) => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let metrics = pond.metrics();
    match command {
        PatternsCommand::Record(args) => {
            let text = format!("{} of {} recorded", args.id, args.workflow);
            let mut new = NewPattern::of(args.workflow, args.id, args.kind, args.confidence).occurrences(args.occurrences);
            new = args.description.into_iter().fold(new, NewPattern::description);
            new = args.seen_at.into_iter().fold(new, NewPattern::seen_at);
            new = input::json_map(args.detail).into_iter().fold(new, |n, (name, value)| n.detail(name, value));
            ctx.out.say(text, &value(&metrics.record_pattern(new).await?)?)?;
        }
        PatternsCommand::Get { workflow, id } => {
            let found = metrics.pattern(&workflow, &id).await?;
            let mut item = found.as_ref().map(value).transpose()?;
            item.iter_mut().for_each(|i| write_moments(i, &MOMENTS));
            ctx.out.one(format_args!("pattern {id:?} of {workflow}"), item.as_ref())?;
        }
        PatternsCommand::List(args) => {
            let filter = PatternFilter {
                workflow: args.workflow,
                kind: args.kind,
                min_confidence: args.min_confidence,
                min_occurrences: args.min_occurrences,
                limit: Some(args.page.limit),
                after: args.page.after,
            };
            ctx.out.found_with_moments(&COLUMNS, &metrics.patterns(&filter).await?, &MOMENTS)?;
        }
    }
    pond.close().await?;
    Ok(Exit::Ok)
}
