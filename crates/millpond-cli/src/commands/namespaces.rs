//! `millpond namespaces …`.

use std::sync::Arc;

use clap::Subcommand;
use millpond::{Engine, Error, Namespace, NamespaceInfo, NamespaceStatus, Result};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value, values};

/// Commands on namespaces.
#[derive(Debug, Subcommand)]
pub enum NamespacesCommand {
    /// List them
    #[command(alias = "ls")]
    List,
    /// Make one
    Create {
        /// Its name
        name: String,
    },
    /// Make one read-only
    Freeze {
        /// Its name
        name: String,
    },
    /// Make a frozen one writable again
    Open {
        /// Its name
        name: String,
    },
    /// Delete one with everything in it
    #[command(alias = "rm")]
    Delete {
        /// Its name
        name: String,
    },
}

const COLUMNS: [Column; 5] = [
    Column::new("name", "/name"),
    Column::new("status", "/status"),
    Column::new("position", "/position"),
    Column::new("created", "/created_at"),
    Column::new("store id", "/store_id"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: NamespacesCommand) -> Result<Exit> {
    match command {
        NamespacesCommand::List => {
            let engine = engine(ctx, false).await?;
            ctx.out.list(&COLUMNS, &values(engine.namespaces().await?)?)?;
        }
        NamespacesCommand::Create { name } => {
            let name = Namespace::new(name)?;
            let info = engine(ctx, true).await?.create_namespace(&name).await?;
            ctx.out.say(format_args!("namespace {name} made"), &value(&info)?)?;
        }
        NamespacesCommand::Freeze { name } => {
            let info = set_status(ctx, &name, NamespaceStatus::Frozen).await?;
            ctx.out.say(format_args!("namespace {name} is read-only now"), &value(&info)?)?;
        }
        NamespacesCommand::Open { name } => {
            let info = set_status(ctx, &name, NamespaceStatus::Open).await?;
            ctx.out.say(format_args!("namespace {name} is open"), &value(&info)?)?;
        }
        NamespacesCommand::Delete { name } => delete(ctx, &name).await?,
    }
    Ok(Exit::Ok)
}

async fn engine(ctx: &Context, create: bool) -> Result<Arc<dyn Engine>> {
    ctx.options(create).engine(ctx.place()).await.map_err(|e| ctx.explain(e))
}

async fn set_status(ctx: &Context, name: &str, status: NamespaceStatus) -> Result<NamespaceInfo> {
    engine(ctx, false).await?.set_status(&Namespace::new(name)?, status).await
}

/// The name is asked for, and the namespace that is deleted is the very one that was shown: another made meanwhile
/// under the same name has another id and stays.
async fn delete(ctx: &Context, name: &str) -> Result<()> {
    let engine = engine(ctx, false).await?;
    let namespace = Namespace::new(name)?;
    let info = engine.namespace(&namespace).await?;
    let info = info.ok_or_else(|| Error::not_found(format!("namespace {name:?} does not exist")))?;
    if !ctx.yes() {
        crate::report::confirm(&format!("deleting namespace {name} with everything in it"), name)?;
    }
    engine.delete_namespace(&namespace, &info.store_id).await?;
    ctx.out.say(format_args!("namespace {name} deleted"), &value(&info)?)
}
