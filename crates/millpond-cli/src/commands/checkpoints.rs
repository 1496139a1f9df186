//! `millpond checkpoints …`: numbered states of a session, a workflow or a run.

use clap::{Args, Subcommand};
use millpond::{Checkpoint, Error, NewCheckpoint, Payload, Result, Scope, Timestamp};
use serde_json::{Value, json};

use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value};

/// Commands on checkpoints. A scope is session/ID, workflow/ID or run/ID.
#[derive(Debug, Subcommand)]
pub enum CheckpointsCommand {
    /// Save the next version
    Save(SaveArgs),
    /// Show one version with its payload; the newest if none is named
    #[command(alias = "get", alias = "show")]
    Load {
        /// The scope: session/ID, workflow/ID or run/ID
        #[arg(value_parser = input::scope)]
        scope: Scope,
        /// The version
        version: Option<i64>,
        /// Print the payload alone, as it was saved
        #[arg(long)]
        payload: bool,
    },
    /// List a scope's versions, newest first
    #[command(alias = "ls")]
    List {
        /// The scope: session/ID, workflow/ID or run/ID
        #[arg(value_parser = input::scope)]
        scope: Scope,
        #[command(flatten)]
        page: PageArgs,
    },
    /// List scopes
    Scopes {
        /// Only names that begin with this, such as session/
        #[arg(long, value_name = "TEXT", default_value = "")]
        prefix: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Save a version that goes on from an old one
    Branch {
        /// The version to go on from
        #[arg(long, value_name = "VERSION")]
        from: i64,
        #[command(flatten)]
        save: SaveArgs,
    },
    /// Make an old version the current one again
    Restore {
        /// The scope: session/ID, workflow/ID or run/ID
        #[arg(value_parser = input::scope)]
        scope: Scope,
        /// The version
        version: i64,
    },
    /// Delete old versions; the newest stays
    Prune {
        /// The scope: session/ID, workflow/ID or run/ID
        #[arg(value_parser = input::scope)]
        scope: Scope,
        /// Keep so many
        #[arg(long, value_name = "N", required_unless_present = "older_than")]
        keep: Option<u32>,
        /// Delete those saved before this moment, or so long ago
        #[arg(long, value_name = "WHEN", value_parser = input::moment, conflicts_with = "keep")]
        older_than: Option<Timestamp>,
    },
    /// Delete all versions of a scope
    #[command(alias = "rm")]
    DeleteAll {
        /// The scope: session/ID, workflow/ID or run/ID
        #[arg(value_parser = input::scope)]
        scope: Scope,
    },
}

/// What is saved.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// The scope: session/ID, workflow/ID or run/ID
    #[arg(value_parser = input::scope)]
    scope: Scope,
    /// The payload as JSON; @FILE reads a file, - stdin
    payload: String,
    /// The payload is bytes, not JSON; then it is @FILE
    #[arg(long)]
    bytes: bool,
    /// Why, in words
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Anything else to keep with it
    #[arg(long, value_name = "NAME=JSON", value_parser = input::pair)]
    metadata: Vec<(String, String)>,
}

impl SaveArgs {
    fn build(self) -> Result<(Scope, NewCheckpoint)> {
        let mut new = if self.bytes {
            let file = self.payload.strip_prefix('@').ok_or_else(|| {
                Error::invalid("--bytes takes a file").with_next("name it with an @ before it, such as @state.bin")
            })?;
            let bytes = std::fs::read(file).map_err(|e| Error::unavailable(format!("cannot read {file}")).with_source(e))?;
            NewCheckpoint::bytes(bytes)
        } else {
            NewCheckpoint::json(&input::json(&self.payload)?)?
        };
        new = self.note.into_iter().fold(new, NewCheckpoint::note);
        new = input::json_map(self.metadata).into_iter().fold(new, |n, (name, value)| n.metadata(name, value));
        Ok((self.scope, new))
    }
}

const COLUMNS: [Column; 7] = [
    Column::new("version", "/version"),
    Column::new("saved", "/created_at"),
    Column::new("parent", "/parent"),
    Column::new("restored", "/restored_from"),
    Column::new("kind", "/kind"),
    Column::new("bytes", "/size"),
    Column::new("note", "/note"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: CheckpointsCommand) -> Result<Exit> {
    let pond = match &command {
        CheckpointsCommand::Save(_) => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let checkpoints = pond.checkpoints();
    match command {
        CheckpointsCommand::Save(args) => {
            let (scope, new) = args.build()?;
            let info = checkpoints.save_new(scope, new).await?;
            ctx.out.say(format_args!("{} is at version {}", info.scope, info.version), &value(&info)?)?;
        }
        CheckpointsCommand::Load { scope, version, payload } => {
            let found = match version {
                Some(version) => checkpoints.load(&scope, version).await?,
                None => checkpoints.latest(&scope).await?,
            };
            let found = found.ok_or_else(|| match version {
                Some(version) => Error::not_found(format!("checkpoint {version} of {scope} does not exist")),
                None => Error::not_found(format!("{scope} has no checkpoint")),
            })?;
            show(ctx, &found, payload)?;
        }
        CheckpointsCommand::List { scope, page } => {
            let page = checkpoints.list(scope.clone(), page.limit, page.after).await?;
            if page.items.is_empty() && page.damaged.is_empty() && checkpoints.latest(&scope).await?.is_none() {
                return Err(Error::not_found(format!("{scope} has no checkpoint"))
                    .with_next("see what there is: millpond checkpoints scopes"));
            }
            ctx.out.found(&COLUMNS, &page)?;
        }
        CheckpointsCommand::Scopes { prefix, page } => {
            let columns = [Column::new("scope", "/scope"), Column::new("since", "/created_at")];
            ctx.out.found(&columns, &checkpoints.scopes(&prefix, page.limit, page.after).await?)?;
        }
        CheckpointsCommand::Branch { from, save } => {
            let (scope, new) = save.build()?;
            let info = checkpoints.branch(scope, from, new).await?;
            ctx.out.say(format_args!("{} is at version {}, from {from}", info.scope, info.version), &value(&info)?)?;
        }
        CheckpointsCommand::Restore { scope, version } => {
            let info = checkpoints.restore(scope, version).await?;
            ctx.out.say(format_args!("{} is at version {}, as it was at {version}", info.scope, info.version), &value(&info)?)?;
        }
        CheckpointsCommand::Prune { scope, keep, older_than } => {
            let gone = match (keep, older_than) {
                (Some(keep), _) => checkpoints.keep_newest(&scope, keep).await?,
                (None, Some(time)) => checkpoints.delete_older_than(&scope, time).await?,
                (None, None) => 0,
            };
            ctx.out.say(format_args!("{} of {scope} deleted", counted(gone, "version")), &json!({ "deleted": gone }))?;
        }
        CheckpointsCommand::DeleteAll { scope } => {
            if !ctx.yes() {
                crate::report::confirm(&format!("deleting every checkpoint of {scope}"), &scope.name())?;
            }
            let gone = checkpoints.delete_all(&scope).await?;
            ctx.out.say(format_args!("{} of {scope} deleted", counted(gone, "version")), &json!({ "deleted": gone }))?;
        }
    }
    pond.close().await?;
    Ok(Exit::Ok)
}

fn show(ctx: &Context, found: &Checkpoint, payload_only: bool) -> Result<()> {
    if payload_only {
        crate::output::write_bytes(&found.bytes()?)?;
        // Bytes are given back to the byte; JSON ends with a line of its own.
        return if matches!(found.payload, Payload::Json(_)) { crate::output::write("\n") } else { Ok(()) };
    }
    let mut item = value(&found.info)?;
    item["payload"] = match &found.payload {
        Payload::Json(json) => json.clone(),
        Payload::Bytes(bytes) => Value::from(format!("{} bytes; print them with --payload", bytes.len())),
    };
    ctx.out.item(&item)
}
