//! `millpond config`: what counts, and who said it.

use clap::Subcommand;
use millpond::Result;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, values};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every value; passwords are masked
    Show {
        /// Say who said each: a flag, a variable, a line of the file, or nobody
        #[arg(long)]
        origin: bool,
    },
    /// Open every store that the configuration names, without making any
    Check,
}

/// Runs one.
pub async fn run(ctx: &Context, command: ConfigCommand) -> Result<Exit> {
    match command {
        ConfigCommand::Show { origin } => {
            let mut columns = vec![Column::new("key", "/key"), Column::new("value", "/value")];
            let mut lines = values(ctx.config().lines())?;
            if origin {
                columns.push(Column::new("origin", "/origin"));
            } else {
                for line in &mut lines {
                    line.as_object_mut().and_then(|line| line.remove("origin"));
                }
            }
            ctx.out.list(&columns, &lines)?;
        }
        ConfigCommand::Check => {
            let pond = ctx.existing().await?;
            let opened: Vec<_> = pond.stores().iter().map(|store| store.engine().info()).collect();
            ctx.out.list(&[Column::new("engine", "/kind"), Column::new("location", "/location")], &values(&opened)?)?;
        }
    }
    Ok(Exit::Ok)
}
