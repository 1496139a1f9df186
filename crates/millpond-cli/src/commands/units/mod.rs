//! `millpond units …`: what happens whole or not at all, and what has to be undone of it.

mod compensation;

use std::time::Duration;

use clap::{Args, Subcommand};
use millpond::{
    CollectRequest, Collected, Error, ForgottenUnits, Pond, Reconciled, Recovered, Result, Timestamp, UnitDetail, UnitFilter,
    UnitState, Units,
};
use serde_json::{Value, json};

use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};
use compensation::Compensation;

/// Commands on units.
#[derive(Debug, Subcommand)]
pub enum UnitsCommand {
    /// List units, those that began last first
    #[command(alias = "ls")]
    List(ListArgs),
    /// Show one unit with its operations, each as it stands
    #[command(alias = "get")]
    Show {
        /// The unit
        unit: String,
    },
    /// Try again to undo the steps of a unit that failed; undo one whose process is gone
    Resume {
        /// The unit
        unit: String,
        #[command(flatten)]
        known: KnownArgs,
    },
    /// Decide against a unit whose process is gone or whose time has run out, and undo it
    Abort {
        /// The unit
        unit: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        known: KnownArgs,
    },
    /// Undo every unit whose process is gone or whose time has run out; exit code 1 when one needs somebody, 5 when one
    /// could not be looked at
    Recover {
        #[command(flatten)]
        known: KnownArgs,
    },
    /// Find bytes that no record names; they are removed only with --remove. Exit code 5 when a record does not read back
    Collect {
        /// Remove them
        #[arg(long)]
        remove: bool,
        /// How young units are left open for machines whose clocks are behind
        #[arg(long, value_name = "LENGTH", value_parser = input::duration, default_value = "1h")]
        grace: Duration,
    },
    /// Forget units that have been over for long; what they wrote stays. Exit code 5 when a record does not read back
    Forget {
        /// Only units that have been over for longer than this
        #[arg(long, value_name = "LENGTH", value_parser = input::duration)]
        older_than: Duration,
        /// Only count what would be forgotten
        #[arg(long)]
        dry_run: bool,
        /// Forget at most this many
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        limit: usize,
    },
    /// Compare the records with the bytes both ways, and change nothing; exit code 5 when bytes are missing or a record
    /// does not read back
    Reconcile {
        /// Name at most this many missing objects
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
}

/// Which units.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// In one of these states: pending, committed, aborting, aborted or failed
    #[arg(long, value_delimiter = ',', value_parser = state)]
    state: Vec<UnitState>,
    /// Worked on by this process or person
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// Begun since this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    since: Option<Timestamp>,
    /// Begun before this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    until: Option<Timestamp>,
    #[command(flatten)]
    page: PageArgs,
}

/// What undoes steps outside of the store.
#[derive(Debug, Args)]
pub struct KnownArgs {
    /// The program that undoes steps of this compensation: it gets the step as JSON on stdin, and ends with 0 when the
    /// step is undone or was never done
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = input::pair)]
    compensation: Vec<(String, String)>,
}

const COLUMNS: [Column; 6] = [
    Column::new("unit", "/id"),
    Column::new("state", "/state"),
    Column::new("worker", "/worker"),
    Column::new("began", "/began"),
    Column::new("ended", "/ended"),
    Column::new("reason", "/reason"),
];

const OPERATIONS: [Column; 6] = [
    Column::new("n", "/number"),
    Column::new("kind", "/kind"),
    Column::new("path", "/path"),
    Column::new("status", "/status"),
    Column::new("undone by", "/compensation"),
    Column::new("error", "/error"),
];

const UNUSED: [Column; 3] =
    [Column::new("location", "/location"), Column::new("length", "/length"), Column::new("unit", "/unit")];

const MISSING: [Column; 4] = [
    Column::new("record", "/record"),
    Column::new("location", "/location"),
    Column::new("expected", "/expected"),
    Column::new("found", "/found"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: UnitsCommand) -> Result<Exit> {
    let pond = ctx.existing().await?;
    let units = pond.units();
    let exit = match command {
        UnitsCommand::List(args) => {
            let filter = UnitFilter {
                states: args.state,
                worker: args.worker,
                began_from: args.since,
                began_before: args.until,
                limit: args.page.limit,
                after: args.page.after,
            };
            ctx.out.found(&COLUMNS, &units.list(&filter).await?)?;
            Exit::Ok
        }
        UnitsCommand::Show { unit } => show(ctx, &units, &unit).await?,
        UnitsCommand::Resume { unit, known } => {
            known.register(&pond)?;
            stands(ctx, &unit, units.resume(&unit).await?)?
        }
        UnitsCommand::Abort { unit, reason, known } => {
            known.register(&pond)?;
            stands(ctx, &unit, units.abort(&unit, &reason).await?)?
        }
        UnitsCommand::Recover { known } => {
            known.register(&pond)?;
            recovered(ctx, &units.recover().await?)?
        }
        UnitsCommand::Collect { remove, grace } => {
            if remove {
                ctx.confirm("removing the bytes that no record names", "remove")?;
            }
            collected(ctx, &units.collect(&CollectRequest { remove, grace }).await?, remove)?
        }
        UnitsCommand::Forget { older_than, dry_run, limit } => forget(ctx, &units, older_than, limit, dry_run).await?,
        UnitsCommand::Reconcile { limit } => reconciled(ctx, &units.reconcile(limit).await?)?,
    };
    pond.close().await?;
    Ok(exit)
}

fn state(text: &str) -> Result<UnitState, String> {
    let known = UnitState::ALL.map(UnitState::as_str);
    UnitState::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| format!("{text:?} is no state; states are {}", known.join(", ")))
}

impl KnownArgs {
    fn register(self, pond: &Pond) -> Result<()> {
        let units = pond.units();
        for (name, program) in self.compensation {
            let compensation = Compensation::new(&program)?;
            units.compensations().register(name, move |step| compensation.clone().run(step));
        }
        Ok(())
    }
}

async fn show(ctx: &Context, units: &Units, unit: &str) -> Result<Exit> {
    let found: Option<UnitDetail> = units.get(unit).await?;
    let found = found.ok_or_else(|| {
        Error::not_found(format!("unit {unit:?} does not exist")).with_next("see what there is: millpond units list")
    })?;
    let mut item = value(&found)?;
    if !ctx.out.is_table() {
        ctx.out.item(&item)?;
        return Ok(Exit::Ok);
    }
    let operations = item.as_object_mut().and_then(|fields| fields.remove("operations"));
    ctx.out.item(&item)?;
    if let Some(Value::Array(operations)) = operations.filter(|operations| *operations != json!([])) {
        crate::output::write("\n")?;
        ctx.out.list(&OPERATIONS, &operations)?;
    }
    Ok(Exit::Ok)
}

/// Says how a unit stands; that a person has to look is no success.
fn stands(ctx: &Context, unit: &str, state: UnitState) -> Result<Exit> {
    ctx.out.say(format_args!("unit {unit} is {state}"), &json!({ "unit": unit, "state": state }))?;
    if state == UnitState::Failed {
        crate::report::note(format_args!("a step of it could not be undone; see: millpond units show {unit}"));
        return Ok(Exit::Error);
    }
    Ok(Exit::Ok)
}

fn recovered(ctx: &Context, done: &Recovered) -> Result<Exit> {
    let text = format!("{} undone, {} being worked on", counted(done.counts.undone, "unit"), done.counts.left);
    ctx.out.say(text, &value(done)?)?;
    Ok(told(done))
}

/// Tells of units that need somebody.
fn told(done: &Recovered) -> Exit {
    for (unit, name) in &done.needing {
        crate::report::note(format_args!(
            "unit {unit} needs what undoes {name:?}: millpond units resume {unit} --compensation {name}=PROGRAM"
        ));
    }
    for unit in &done.failed {
        crate::report::note(format_args!("unit {unit} has a step that could not be undone; see: millpond units show {unit}"));
    }
    for (unit, why) in &done.errors {
        crate::report::note(format_args!("unit {unit} could not be looked at or undone: {why}"));
    }
    crate::report::unnamed(done.counts.needing, done.needing.len(), "units that need a compensation");
    crate::report::unnamed(done.counts.failed, done.failed.len(), "units with a step that could not be undone");
    crate::report::unnamed(done.counts.errors, done.errors.len(), "units that could not be looked at or undone");
    match (done.errors.is_empty(), done.needing.is_empty() && done.failed.is_empty()) {
        (false, _) => Exit::Unhealthy,
        (true, true) => Exit::Ok,
        (true, false) => Exit::Error,
    }
}

fn collected(ctx: &Context, done: &Collected, remove: bool) -> Result<Exit> {
    if !ctx.out.is_table() {
        ctx.out.item(&value(done)?)?;
        return Ok(looked_past(done));
    }
    if !done.named.is_empty() {
        ctx.out.list(&UNUSED, &values(&done.named)?)?;
    }
    let unused = format!("{} of {} that no record names", counted(done.unused_bytes, "byte"), counted(done.unused, "object"));
    crate::report::note(format_args!(
        "{} looked at, {} undone",
        counted(done.objects, "object"),
        counted(done.units.counts.undone, "unit")
    ));
    crate::report::note(if remove { format!("{unused}: removed") } else { format!("{unused}; remove them with --remove") });
    Ok(looked_past(done))
}

/// Tells of units that need somebody, and of bytes that stay because a record does not read back.
fn looked_past(done: &Collected) -> Exit {
    crate::report::stay(&done.damaged, done.kept_damaged);
    let told = told(&done.units);
    if done.kept_damaged > 0 { Exit::Unhealthy } else { told }
}

async fn forget(ctx: &Context, units: &Units, older_than: Duration, limit: usize, dry_run: bool) -> Result<Exit> {
    let would = units.would_forget(older_than, limit).await?;
    if dry_run || would.units == 0 {
        return tell_forgotten(ctx, &would, "would be forgotten");
    }
    ctx.confirm(format_args!("forgetting {}", counted(would.units, "unit")), "forget")?;
    let done = units.forget(older_than, limit).await?;
    tell_forgotten(ctx, &done, "forgotten")
}

fn tell_forgotten(ctx: &Context, done: &ForgottenUnits, what: &str) -> Result<Exit> {
    ctx.out.say(forgotten(done, what), &value(done)?)?;
    for damaged in &done.damaged {
        crate::report::note(format_args!("{} does not read back: {}", damaged.what, damaged.why));
    }
    Ok(if done.kept_damaged > 0 || !done.damaged.is_empty() { Exit::Unhealthy } else { Exit::Ok })
}

fn forgotten(done: &ForgottenUnits, what: &str) -> String {
    let mut text = format!("{} with {} {what}", counted(done.units, "unit"), counted(done.operations, "operation"));
    if done.kept_failed > 0 {
        text += &format!("; {} failed: close their dead letters in the job units first", counted(done.kept_failed, "unit"));
    }
    if done.kept_young > 0 {
        text += &format!("; {} not older than one that is being worked on", counted(done.kept_young, "unit"));
    }
    if done.kept_damaged > 0 {
        text += &format!("; {} with a record that does not read back", counted(done.kept_damaged, "unit"));
    }
    if done.more { text + "; there are more" } else { text }
}

fn reconciled(ctx: &Context, done: &Reconciled) -> Result<Exit> {
    if ctx.out.is_table() {
        if !done.missing.is_empty() {
            ctx.out.list(&MISSING, &values(&done.missing)?)?;
        }
        crate::report::note(format_args!(
            "{} compared, {} missing or of another length; {} of {} that no record names",
            counted(done.records, "record"),
            counted(done.missing_in_all, "object"),
            counted(done.unused.unused_bytes, "byte"),
            counted(done.unused.unused, "object"),
        ));
    } else {
        ctx.out.item(&value(done)?)?;
    }
    for damaged in &done.damaged {
        crate::report::note(format_args!("{} does not read back, and may name bytes: {}", damaged.what, damaged.why));
    }
    crate::report::unnamed(done.damaged_in_all, done.damaged.len(), "records that do not read back");
    let told = looked_past(&done.unused);
    Ok(if done.missing_in_all > 0 || done.damaged_in_all > 0 { Exit::Unhealthy } else { told })
}
