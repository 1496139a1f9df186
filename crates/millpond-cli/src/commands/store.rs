//! `millpond store …`: the store as a whole.

use std::time::Duration;

use clap::Subcommand;
use millpond::{CollectionSpec, DigestOptions, Error, Result};
use serde_json::json;

use super::input;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};

const DECLARATION: &str = r#"The declaration as JSON; @FILE reads a file, - stdin. For example:

{"name": "tenants", "version": 1,
 "fields": [{"name": "plan", "path": "/plan", "kind": "text"},
            {"name": "seats", "path": "/limits/seats", "kind": "integer"}],
 "indexes": [["plan", "seats"]]}

Kinds: text, integer, real, bool, timestamp, text_set. A path is a JSON pointer into the document. An index over several
fields is equal on all but the last and ordered by the last."#;

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
    /// Make the tables, every domain's included, or bring them up to date; a database role without the right to change
    /// tables can use the store afterwards
    Migrate,
    /// List collections
    Collections,
    /// Declare a collection's fields, so that they can be asked; declarations only grow
    Declare {
        /// The declaration as JSON; @FILE reads a file, - stdin
        #[arg(long_help = DECLARATION)]
        declaration: String,
    },
}

/// Runs one.
pub async fn run(ctx: &Context, command: StoreCommand) -> Result<Exit> {
    if matches!(command, StoreCommand::Migrate) {
        ctx.options(true)?.migrate(ctx.place()).await?;
        ctx.out.say("the tables are up to date", &json!({ "migrated": true }))?;
        return Ok(Exit::Ok);
    }
    let pond = match &command {
        StoreCommand::Declare { .. } => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let store = pond.store();
    match command {
        // Answered above, without opening a namespace.
        StoreCommand::Migrate => {}
        StoreCommand::Declare { declaration } => {
            let spec = declared(&input::json(&declaration)?)?;
            store.declare(std::slice::from_ref(&spec)).await?;
            ctx.out.say(format_args!("{} is declared", spec.name), &value(&spec)?)?;
        }
        StoreCommand::Info => {
            let engine = store.engine().info();
            let facts: serde_json::Map<_, _> = engine.facts.iter().map(|(k, v)| ((*k).to_owned(), v.as_str().into())).collect();
            let mut item = json!({
                "engine": engine.kind,
                "location": engine.location,
                "survives": engine.durability,
                "facts": facts,
                "namespace": value(&store.info().await?)?,
            });
            if let Some(tree) = pond.tree() {
                item["tree"] = value(&tree.status().await?)?;
            }
            ctx.out.item(&item)?;
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
            let purged = store.purge(older_than).await?;
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

fn declared(json: &serde_json::Value) -> Result<CollectionSpec> {
    let spec: CollectionSpec = serde_json::from_value(json.clone())
        .map_err(|e| Error::invalid("not a declaration").with_source(e).with_next("see: millpond store declare --help"))?;
    if spec.owned {
        return Err(Error::invalid("only Millpond's own domains own collections").with_next("leave \"owned\" out"));
    }
    Ok(spec)
}
