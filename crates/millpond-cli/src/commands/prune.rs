//! `millpond prune …`.

use clap::Args;
use millpond::{Error, PageCursor, Prune, PruneCounts, PruneFilter, PrunePhase, PruneStatus, Result};

use super::bar::Bar;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};
use crate::report;

/// Flags of `prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// The execution that was written off
    #[arg(required_unless_present = "list")]
    execution: Option<String>,
    /// Only count what would be deleted, and tell what stands against it. Exit code 4 when it would be refused
    #[arg(long, conflicts_with_all = ["show", "forget", "list"])]
    dry_run: bool,
    /// How far the prune of the execution is
    #[arg(long, conflicts_with_all = ["forget", "list"])]
    show: bool,
    /// Take the mark off an execution whose prune is done, so that its name can be used again
    #[arg(long, conflicts_with = "list")]
    forget: bool,
    /// List prunes, those that began last first
    #[arg(long, conflicts_with = "execution")]
    list: bool,
    /// Of the list, only those that stand so: running or done
    #[arg(long, value_name = "STATUS", conflicts_with = "execution")]
    status: Option<PruneStatus>,
    /// Of the list, at most this many
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "execution")]
    limit: usize,
    /// Continue the list after the page that gave out this cursor
    #[arg(long, value_name = "CURSOR", conflicts_with = "execution")]
    after: Option<PageCursor>,
}

const PRUNES: [Column; 6] = [
    Column::new("execution", "/execution"),
    Column::new("status", "/status"),
    Column::new("phase", "/phase"),
    Column::new("artifacts", "/deleted/artifacts"),
    Column::new("bytes", "/deleted/bytes"),
    Column::new("began", "/began"),
];

const REASONS: [Column; 3] = [Column::new("it is", "/obstacle"), Column::new("by", "/by"), Column::new("why", "/why")];

/// Runs it.
pub async fn run(ctx: &Context, args: PruneArgs) -> Result<Exit> {
    let pond = ctx.existing().await?;
    let prunes = pond.prunes();
    let execution = args.execution.as_deref().unwrap_or_default();
    let mut exit = Exit::Ok;
    if args.list {
        let filter = PruneFilter { status: args.status, limit: args.limit, after: args.after };
        ctx.out.found(&PRUNES, &prunes.list(&filter).await?)?;
    } else if args.show {
        ctx.out.one(format_args!("a prune of {execution}"), prunes.get(execution).await?.as_ref())?;
    } else if args.forget {
        let forgotten = prunes.forget(execution).await?;
        ctx.out.say(format_args!("{execution} may be written into again"), &value(&forgotten)?)?;
    } else {
        let plan = prunes.plan(execution).await?;
        if args.dry_run {
            exit = if plan.reasons_in_all == 0 { Exit::Ok } else { Exit::Conflict };
            if ctx.out.is_table() && !plan.reasons.is_empty() {
                ctx.out.list(&REASONS, &values(&plan.reasons)?)?;
            }
            let would = format!("{execution}: {} would be deleted", told(&plan.would_delete));
            let elsewhere = match plan.elsewhere {
                0 => String::new(),
                many => format!("; of the artifacts, {many} are not below executions/{execution}/"),
            };
            ctx.out.say(would + &elsewhere, &value(&plan)?)?;
        } else {
            // Asked also where there is a reason against it now: it may be gone a moment later.
            if plan.begun.is_none() {
                nothing(execution, &plan.would_delete)?;
                ctx.confirm(format_args!("deleting {} of execution {execution}", told(&plan.would_delete)), execution)?;
            }
            let done = work(&prunes, execution, &plan.would_delete).await?;
            ctx.out.say(format_args!("{execution} is gone: {} deleted", told(&done.deleted)), &value(&done)?)?;
        }
    }
    pond.close().await?;
    Ok(exit)
}

/// A name that nothing is known of is a slip of the hand, not an execution that was written off.
fn nothing(execution: &str, counts: &PruneCounts) -> Result<()> {
    if *counts != PruneCounts::default() {
        return Ok(());
    }
    Err(Error::not_found(format!("there is nothing of an execution {execution}"))
        .with_next("see which there are: millpond artifacts browse executions/"))
}

async fn work(prunes: &millpond::Prunes, execution: &str, planned: &PruneCounts) -> Result<Prune> {
    let mut bar = Bar::new();
    let before = *planned;
    let mut from = None;
    prunes
        .run_with(execution, |job| {
            // A prune that goes on had deleted something before.
            let from: PruneCounts = *from.get_or_insert(job.deleted);
            let at = |phase: &str, bar: &mut Bar, done: u64, had: u64, left: u64| bar.at(phase, done, Some(had + left), "");
            let now = job.deleted;
            match job.phase {
                PrunePhase::Artifacts => at("artifacts", &mut bar, now.artifacts, from.artifacts, before.artifacts),
                PrunePhase::Versions => at("versions", &mut bar, now.versions, from.versions, before.versions),
                PrunePhase::Lineage => at("lineage", &mut bar, now.lineage_rows, from.lineage_rows, before.lineage_rows),
                PrunePhase::Marked | PrunePhase::Run | PrunePhase::Done => {}
            }
        })
        .await
        .inspect_err(|error| {
            if !error.is_conflict() {
                report::note(format_args!("what was deleted is deleted; to go on: millpond prune {execution}"));
            }
        })
}

fn told(counts: &PruneCounts) -> String {
    let parts = [
        (counts.artifacts, "artifact"),
        (counts.versions, "version"),
        (counts.objects, "object"),
        (counts.bytes, "byte"),
        (counts.lineage_rows, "row of lineage"),
        (counts.lineage_edges, "edge"),
        (counts.log_events, "event of the log"),
        (counts.runs, "run"),
    ];
    let parts: Vec<String> = parts.into_iter().map(|(many, thing)| plural(many, thing)).collect();
    let kept = if counts.kept_objects > 0 {
        format!(
            " ({} with {} stay: others name them)",
            counted(counts.kept_objects, "object"),
            counted(counts.kept_bytes, "byte")
        )
    } else {
        String::new()
    };
    parts.join(", ") + &kept
}

fn plural(many: u64, thing: &str) -> String {
    match thing.split_once(' ') {
        Some((first, rest)) => format!("{} {rest}", counted(many, first)),
        None => counted(many, thing),
    }
}
