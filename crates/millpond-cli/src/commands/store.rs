//! `millpond store …`: the store as a whole.

use std::time::Duration;

use clap::Subcommand;
use millpond::{DigestOptions, Result};
use serde_json::json;

use super::input;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};

/// Commands on the store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// What and where it is, and what an acknowledged commit survives
    Info,
    /// A digest of the namespace's content, the same on every backend
    Digest {
        /// Only what was stored, not when: leaves times, revisions and leases out
        #[arg(long)]
        content: bool,
    },
    /// Check what is stored; exit code 5 when something is wrong
    Check,
    /// Forget old receipts and the traces of deleted records
    Purge {
        /// Those older than this
        #[arg(long, value_name = "AGE", value_parser = input::duration, default_value = "7d")]
        older_than: Duration,
    },
    /// List collections
    Collections,
}

/// Runs one.
pub async fn run(ctx: &Context, command: StoreCommand) -> Result<Exit> {
    let pond = ctx.existing().await?;
    let store = pond.store();
    match command {
        StoreCommand::Info => {
            let engine = store.engine().info();
            let facts: serde_json::Map<_, _> = engine.facts.iter().map(|(k, v)| ((*k).to_owned(), v.as_str().into())).collect();
            ctx.out.item(&json!({
                "engine": engine.kind,
                "location": engine.location,
                "survives": engine.durability,
                "facts": facts,
                "namespace": value(&store.info().await?)?,
            }))?;
        }
        StoreCommand::Digest { content } => {
            let digest = store.digest(DigestOptions { content_only: content }).await?;
            let damaged = digest.damaged.len();
            ctx.out.item(&value(&digest)?)?;
            if damaged > 0 {
                crate::report::note(format_args!(
                    "{} back; see: millpond store check",
                    if damaged == 1 { "1 thing does not read".to_owned() } else { format!("{damaged} things do not read") }
                ));
                return Ok(Exit::Unhealthy);
            }
        }
        StoreCommand::Check => {
            let findings = store.engine().check(store.namespace()).await?;
            ctx.out.say(
                if findings.is_empty() { "ok: nothing is wrong".to_owned() } else { findings.join("\n") },
                &json!({ "findings": findings }),
            )?;
            if !findings.is_empty() {
                crate::report::note(counted(findings.len() as u64, "finding"));
                return Ok(Exit::Unhealthy);
            }
        }
        StoreCommand::Purge { older_than } => {
            let purged = store.engine().purge(store.namespace(), store.now().minus(older_than)).await?;
            let text =
                format!("{} and {} forgotten", counted(purged.receipts, "receipt"), counted(purged.tombstones, "tombstone"));
            ctx.out.say(text, &value(&purged)?)?;
        }
        StoreCommand::Collections => {
            let columns =
                [Column::new("name", "/name"), Column::new("records", "/records"), Column::new("declared", "/declared")];
            ctx.out.list(&columns, &values(store.collections().await?)?)?;
        }
    }
    Ok(Exit::Ok)
}
