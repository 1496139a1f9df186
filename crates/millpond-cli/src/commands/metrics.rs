//! `millpond metrics …`: what executions add up to.

use std::time::Duration;

use clap::{Args, Subcommand};
use millpond::{Error, Execution, Result, Summary, Timestamp, VersionRef};
use serde_json::json;

use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value, values};

/// Commands on metrics.
#[derive(Debug, Subcommand)]
pub enum MetricsCommand {
    /// Record the figures of an execution; the same id is counted once
    Record(RecordArgs),
    /// Show the figures of one execution
    Execution {
        /// The run's id
        run: String,
    },
    /// What all executions of a workflow's version add up to
    Summary {
        /// The workflow's version, such as etl@3
        workflow: VersionRef,
    },
    /// What the last executions of a workflow add up to
    Recent {
        /// The workflow
        workflow: String,
        /// Only of this version
        #[arg(long, value_name = "N")]
        of_version: Option<u32>,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// List totals of workflows and versions
    #[command(alias = "ls")]
    List {
        /// Only of this workflow
        #[arg(long)]
        workflow: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// What was done most often
    Operations {
        /// The workflow's version, such as etl@3
        workflow: VersionRef,
        #[command(flatten)]
        page: PageArgs,
    },
    /// How long each node took
    Nodes {
        /// The workflow's version, such as etl@3
        workflow: VersionRef,
        #[command(flatten)]
        page: PageArgs,
    },
    /// How the figures went over time
    Trend {
        /// The workflow
        workflow: String,
        /// Only of this version
        #[arg(long, value_name = "N")]
        of_version: Option<u32>,
        /// From this moment, or so long ago
        #[arg(long, value_name = "WHEN", value_parser = input::moment, default_value = "1d")]
        since: Timestamp,
        /// Before this moment, or so long ago; now if left out
        #[arg(long, value_name = "WHEN", value_parser = input::moment)]
        until: Option<Timestamp>,
        /// In pieces of this length
        #[arg(long, value_name = "LENGTH", value_parser = input::duration, default_value = "1h")]
        bucket: Duration,
    },
}

/// Flags of `metrics record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The run's id
    run: String,
    /// The workflow's version, such as etl@3
    workflow: VersionRef,
    /// It did not reach its end
    #[arg(long)]
    failed: bool,
    /// How long it took
    #[arg(long, value_name = "LENGTH", value_parser = input::duration, default_value = "0s")]
    took: Duration,
    /// When it ended; now if left out
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    at: Option<Timestamp>,
    /// Tokens used
    #[arg(long, value_name = "N", default_value_t = 0)]
    tokens: i64,
    /// Cost in millionths
    #[arg(long, value_name = "N", default_value_t = 0)]
    cost_micros: i64,
    /// How often it did something
    #[arg(long, value_name = "NAME=TIMES", value_parser = input::pair)]
    operation: Vec<(String, String)>,
    /// How long a node took
    #[arg(long, value_name = "NODE=LENGTH", value_parser = input::pair)]
    node: Vec<(String, String)>,
    /// How long a node took that did not reach its end
    #[arg(long, value_name = "NODE=LENGTH", value_parser = input::pair)]
    failed_node: Vec<(String, String)>,
}

impl RecordArgs {
    fn build(self) -> Result<Execution> {
        let mut figures = Execution::new(self.run, self.workflow.id, self.workflow.version)
            .succeeded(!self.failed)
            .took(self.took)
            .tokens(self.tokens)
            .cost_micros(self.cost_micros);
        figures.at = self.at;
        for (name, times) in self.operation {
            let times = times.parse().map_err(|_| Error::invalid(format!("--operation {name}={times} is not a number")))?;
            figures = figures.operation(name, times);
        }
        for (nodes, success) in [(self.node, true), (self.failed_node, false)] {
            for (node, took) in nodes {
                let took = input::duration(&took).map_err(Error::invalid)?;
                figures = figures.node_execution(node, took, success);
            }
        }
        Ok(figures)
    }
}

const TOTALS: [Column; 6] = [
    Column::new("workflow", "/workflow"),
    Column::new("version", "/version"),
    Column::new("executions", "/executions"),
    Column::new("failed", "/failed"),
    Column::micros("time", "/duration_us/sum"),
    Column::new("tokens", "/tokens/sum"),
];

const OPERATIONS: [Column; 3] =
    [Column::new("operation", "/operation"), Column::new("count", "/count"), Column::new("executions", "/runs")];

const NODES: [Column; 6] = [
    Column::new("node", "/node"),
    Column::new("executions", "/executions"),
    Column::new("failed", "/failed"),
    Column::micros("total", "/duration_us/sum"),
    Column::micros("shortest", "/duration_us/min"),
    Column::micros("longest", "/duration_us/max"),
];

const TREND: [Column; 6] = [
    Column::new("from", "/at"),
    Column::new("executions", "/executions"),
    Column::new("succeeded", "/succeeded"),
    Column::micros("time", "/duration_us/sum"),
    Column::micros("longest", "/duration_us/max"),
    Column::new("tokens", "/tokens"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: MetricsCommand) -> Result<Exit> {
    let pond = match &command {
        MetricsCommand::Record(_) => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let metrics = pond.metrics();
    match command {
        MetricsCommand::Record(args) => {
            let run = args.run.clone();
            let new = metrics.record_execution(args.build()?).await?;
            let text = if new { "recorded" } else { "recorded before; not counted again" };
            ctx.out.say(format_args!("{run}: {text}"), &json!({ "run": run, "recorded": new }))?;
        }
        MetricsCommand::Execution { run } => {
            ctx.out.one(format_args!("execution {run:?}"), metrics.execution(&run).await?.as_ref())?;
        }
        MetricsCommand::Summary { workflow } => {
            summary(ctx, &workflow, metrics.summary(&workflow.id, workflow.version).await?)?;
        }
        MetricsCommand::Recent { workflow, of_version, limit } => {
            let (workflow, of_version) = input::workflow(workflow, of_version)?;
            let named = of_version.map_or(workflow.clone(), |version| VersionRef::new(&workflow, version).to_string());
            summary(ctx, &named, metrics.recent_summary(&workflow, of_version, limit).await?)?;
        }
        MetricsCommand::List { workflow, page } => {
            let workflow = workflow.map(|w| input::whole_workflow(w, "metrics summary")).transpose()?;
            let found = metrics.summaries(workflow.as_deref(), page.limit, page.after).await?;
            ctx.out.found_with_moments(&TOTALS, &found, &["/first_at", "/last_at"])?;
        }
        MetricsCommand::Operations { workflow, page } => {
            let page = metrics.operations(&workflow.id, workflow.version, page.limit, page.after).await?;
            ctx.out.found(&OPERATIONS, &page)?;
        }
        MetricsCommand::Nodes { workflow, page } => {
            ctx.out.found(&NODES, &metrics.nodes(&workflow.id, workflow.version, page.limit, page.after).await?)?;
        }
        MetricsCommand::Trend { workflow, of_version, since, until, bucket } => {
            let (workflow, of_version) = input::workflow(workflow, of_version)?;
            let until = until.unwrap_or_else(|| pond.store().now());
            ctx.out.list(&TREND, &values(metrics.trend(&workflow, of_version, since, until, bucket).await?)?)?;
        }
    }
    pond.close().await?;
    Ok(Exit::Ok)
}

fn summary(ctx: &Context, workflow: &impl std::fmt::Display, summary: Option<Summary>) -> Result<()> {
    let summary = summary.ok_or_else(|| {
        Error::not_found(format!("no execution of {workflow} was recorded")).with_next("see what there is: millpond metrics list")
    })?;
    ctx.out.item(&value(&summary)?)
}
