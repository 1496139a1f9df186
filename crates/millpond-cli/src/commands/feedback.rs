//! `millpond feedback …`: what people or agents say about runs.

use clap::{Args, Subcommand};
use millpond::{FeedbackFilter, NewFeedback, Result};

use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value};

/// Commands on feedback.
#[derive(Debug, Subcommand)]
pub enum FeedbackCommand {
    /// Say something about a run
    Add(AddArgs),
    /// List what was said
    #[command(alias = "ls")]
    List(ListArgs),
}

/// Flags of `feedback add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The run's id
    run: String,
    /// What kind, such as praise or defect
    kind: String,
    /// What there is to say
    message: String,
    /// The node it is about
    #[arg(long)]
    node: Option<String>,
    /// Who says it
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Anything else to keep with it
    #[arg(long, value_name = "NAME=JSON", value_parser = input::pair)]
    metadata: Vec<(String, String)>,
}

/// Conditions on feedback.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// About this run
    #[arg(long)]
    run: Option<String>,
    /// About this node
    #[arg(long)]
    node: Option<String>,
    /// Of this kind
    #[arg(long)]
    kind: Option<String>,
    /// By this author
    #[arg(long)]
    author: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

const COLUMNS: [Column; 6] = [
    Column::new("run", "/run"),
    Column::new("node", "/node"),
    Column::new("kind", "/type"),
    Column::new("author", "/author"),
    Column::new("when", "/at"),
    Column::new("message", "/message"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: FeedbackCommand) -> Result<Exit> {
    let pond = match &command {
        FeedbackCommand::Add(_) => ctx.open().await?,
        FeedbackCommand::List(_) => ctx.existing().await?,
    };
    match command {
        FeedbackCommand::Add(args) => {
            let mut new = NewFeedback::of(args.run, args.kind, args.message);
            new = args.node.into_iter().fold(new, NewFeedback::node);
            new = args.author.into_iter().fold(new, NewFeedback::author);
            new = input::json_map(args.metadata).into_iter().fold(new, |n, (name, value)| n.metadata(name, value));
            let added = pond.metrics().add_feedback(new).await?;
            ctx.out.say(&added.id, &value(&added)?)?;
        }
        FeedbackCommand::List(args) => {
            let filter = FeedbackFilter {
                run: args.run,
                node: args.node,
                kind: args.kind,
                author: args.author,
                limit: Some(args.page.limit),
                after: args.page.after,
            };
            ctx.out.found(&COLUMNS, &pond.metrics().feedback(&filter).await?)?;
        }
    }
    pond.close().await?;
    Ok(Exit::Ok)
}
