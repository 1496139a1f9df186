//! `millpond pins …`.

use clap::{Args, Subcommand};
use millpond::{Error, PinFilter, Result};
use serde_json::Value;

use super::input::PageArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value};

/// Commands on pins.
#[derive(Debug, Subcommand)]
pub enum PinsCommand {
    /// Pin an execution: nothing of it is deleted, pruned or purged until the pin is out; prints the pin's id
    Pin {
        /// The execution
        execution: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who needs it
        #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "someone")]
        holder: String,
    },
    /// Take a pin out
    Unpin {
        /// The execution
        execution: String,
        /// The pin's id
        id: String,
    },
    /// The pins of an execution. Exit code 3 when it has none
    #[command(alias = "get")]
    Show {
        /// The execution
        execution: String,
    },
    /// List executions that are pinned
    #[command(alias = "ls")]
    List(ListArgs),
}

/// Flags of `pins list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Executions that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// With a pin of this holder
    #[arg(long, value_name = "NAME")]
    holder: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

const PINS: [Column; 4] =
    [Column::new("pin", "/id"), Column::new("holder", "/holder"), Column::new("since", "/at"), Column::new("reason", "/reason")];

const EXECUTIONS: [Column; 3] =
    [Column::new("execution", "/execution"), Column::new("holders", "/holders"), Column::new("pins", "/pins")];

/// Runs one.
pub async fn run(ctx: &Context, command: PinsCommand) -> Result<Exit> {
    let pond = match &command {
        PinsCommand::Pin { .. } => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let pins = pond.pins();
    match command {
        PinsCommand::Pin { execution, reason, holder } => {
            let pin = pins.pin(&execution, &holder, &reason).await?;
            ctx.out.say(format_args!("{execution} is pinned: {}", pin.id), &value(&pin)?)?;
        }
        PinsCommand::Unpin { execution, id } => {
            let pin = pins.unpin(&execution, &id).await?;
            ctx.out.say(format_args!("pin {id} of {execution} is out"), &value(&pin)?)?;
        }
        PinsCommand::Show { execution } => {
            let found = pins.get(&execution).await?;
            let found = found.ok_or_else(|| Error::not_found(format!("execution {execution} is not pinned")))?;
            let each = found.value.pins.iter().map(value).collect::<Result<Vec<Value>>>()?;
            if ctx.out.is_table() { ctx.out.list(&PINS, &each)? } else { ctx.out.item(&value(&found)?)? }
        }
        PinsCommand::List(args) => {
            let filter = PinFilter { prefix: args.prefix, holder: args.holder, limit: args.page.limit, after: args.page.after };
            let page = pins.list(&filter).await?;
            if ctx.out.is_table() {
                let counted = page.try_map(|found| {
                    let mut shown = value(&found)?;
                    shown["pins"] = found.value.pins.len().into();
                    Ok(shown)
                })?;
                ctx.out.found(&EXECUTIONS, &counted)?;
            } else {
                ctx.out.found(&EXECUTIONS, &page)?;
            }
        }
    }
    pond.close().await?;
    Ok(Exit::Ok)
}
