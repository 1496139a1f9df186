//! `millpond doctor`: how the store is, before something goes wrong with it.

use clap::Args;
use millpond::{Finding, Health, HealthRequest, Result};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value, values};

/// What to look at.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Write nothing; otherwise a lease of its own is taken and given back
    #[arg(long)]
    read_only: bool,
}

/// Looks at the stores, also at one that cannot be opened; exit code 5 when one is not as it should be.
pub async fn run(ctx: &Context, args: DoctorArgs) -> Result<Exit> {
    let mut request = HealthRequest::new();
    if args.read_only {
        request = request.read_only();
    }
    if let Some(durability) = ctx.required() {
        request = request.require(durability);
    }
    let options = ctx.options(false).adopt_edits(false);
    let all = options.health(ctx.config(), request).await.map_err(|e| ctx.explain(e))?;
    for health in &all {
        if ctx.out.is_table() {
            show(ctx, health)?;
        } else {
            ctx.out.item(&value(health)?)?;
        }
    }
    let unhealthy = all.iter().any(|health| health.worst() == Finding::Problem);
    Ok(if unhealthy { Exit::Unhealthy } else { Exit::Ok })
}

fn show(ctx: &Context, health: &Health) -> Result<()> {
    let columns = [
        Column::new("check", "/name"),
        Column::new("finding", "/finding"),
        Column::new("found", "/found"),
        Column::new("next", "/next"),
    ];
    ctx.out.list(&columns, &values(&health.checks)?)?;
    let versions: Vec<String> = health.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let location = format!("{} at {}", health.engine, health.location);
    crate::output::write(&format!("\nversions: {}\n{location}: {}\n", versions.join(", "), health.sentence))
}
