//! `millpond artifacts purge-versions`.

use std::time::Duration;

use clap::Args;
use millpond::{Artifacts, PurgeVersions, PurgedVersions, Result};

use super::super::input;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};

/// Flags of `artifacts purge-versions`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// Only versions written longer ago than this
    #[arg(long, value_name = "LENGTH", value_parser = input::duration)]
    older_than: Duration,
    /// Versions of each artifact that stay, the newest ones; what is read now stays in any case
    #[arg(long, value_name = "N", default_value_t = 1)]
    keep_newest: usize,
    /// Only count what would be forgotten
    #[arg(long)]
    dry_run: bool,
}

const NEEDED: [Column; 4] = [
    Column::new("kept of", "/execution"),
    Column::new("it is", "/because"),
    Column::new("by", "/by"),
    Column::new("why", "/why"),
];

/// Runs it.
pub async fn purge(ctx: &Context, artifacts: &Artifacts, args: &PurgeArgs) -> Result<Exit> {
    let request = PurgeVersions::new(args.older_than, args.keep_newest);
    let would = artifacts.purge_versions(&request.clone().dry_run()).await?;
    if args.dry_run || would.purged == 0 {
        return say(ctx, &would, "would be forgotten");
    }
    ctx.confirm(format_args!("forgetting {}", counted(would.purged, "version")), "purge")?;
    let done = artifacts.purge_versions(&request).await?;
    say(ctx, &done, "forgotten; their bytes go with: millpond units collect --remove")
}

/// What went or would go, and by whom the rest is needed.
fn say(ctx: &Context, purged: &PurgedVersions, what: &str) -> Result<Exit> {
    if ctx.out.is_table() && !purged.needed.is_empty() {
        ctx.out.list(&NEEDED, &values(&purged.needed)?)?;
    }
    ctx.out.say(told(purged, what), &value(purged)?)?;
    crate::report::stay(&purged.damaged, purged.kept_damaged);
    Ok(if purged.kept_damaged > 0 { Exit::Unhealthy } else { Exit::Ok })
}

fn told(purged: &PurgedVersions, what: &str) -> String {
    let mut kept = Vec::new();
    if purged.kept_newest > 0 {
        kept.push(format!("{} among the newest", purged.kept_newest));
    }
    let needed = [
        (purged.kept_pinned, "pinned"),
        (purged.kept_running, "running"),
        (purged.kept_referenced, "referenced"),
        (purged.kept_damaged, "damaged, or judged by what is"),
    ];
    kept.extend(needed.into_iter().filter(|(many, _)| *many > 0).map(|(many, because)| format!("{many} {because}")));
    let kept = if kept.is_empty() { String::new() } else { format!("; kept: {}", kept.join(", ")) };
    format!("{} with {} {what}{kept}", counted(purged.purged, "version"), counted(purged.bytes, "byte"))
}
