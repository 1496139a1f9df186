//! `millpond locks …`.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use millpond::locks::{ProcFiles, ProcessState, Processes};
use millpond::{Error, Holder, LockFilter, LockRequest, Locks, Result};
use serde_json::json;

use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value};

/// Commands on locks.
#[derive(Debug, Subcommand)]
pub enum LocksCommand {
    /// Take a lock; prints its token. Exit code 11 when somebody else holds it
    Acquire(AcquireArgs),
    /// Move a lock's deadline
    Renew {
        /// The lock
        name: String,
        /// The token it was taken with
        #[arg(long, value_name = "N")]
        token: u64,
        /// How long from now
        #[arg(long, value_name = "LENGTH", value_parser = input::duration)]
        ttl: Duration,
    },
    /// Give a lock back
    Release {
        /// The lock
        name: String,
        /// The token it was taken with
        #[arg(long, value_name = "N")]
        token: u64,
    },
    /// Take a lock away from whoever holds it; the reason is kept in the stream locks/NAME
    Break {
        /// The lock
        name: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who does it
        #[arg(long, value_name = "NAME")]
        by: String,
    },
    /// Who holds a lock
    #[command(alias = "show", alias = "get")]
    Info {
        /// The lock
        name: String,
    },
    /// List locks that are held
    #[command(alias = "ls")]
    List(ListArgs),
}

/// Flags of `locks acquire`.
#[derive(Debug, Args)]
pub struct AcquireArgs {
    /// The lock
    name: String,
    /// How long it is held without a renewal
    #[arg(long, value_name = "LENGTH", value_parser = input::duration, default_value = "30s")]
    ttl: Duration,
    /// How long to wait for it
    #[arg(long, value_name = "LENGTH", value_parser = input::duration, default_value = "0s")]
    wait: Duration,
    /// Who holds it, by name
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "someone")]
    holder: String,
    /// What for
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
}

/// Flags of `locks list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Names that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Held under this name
    #[arg(long, value_name = "NAME")]
    holder: Option<String>,
    /// Only those whose deadline has passed
    #[arg(long)]
    expired: bool,
    #[command(flatten)]
    page: PageArgs,
}

const COLUMNS: [Column; 7] = [
    Column::new("lock", "/name"),
    Column::new("holder", "/holder/name"),
    Column::new("token", "/token"),
    Column::new("since", "/acquired_at"),
    Column::new("until", "/deadline"),
    Column::new("dead", "/dead"),
    Column::new("purpose", "/purpose"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: LocksCommand) -> Result<Exit> {
    let pond = match &command {
        LocksCommand::Acquire(_) => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let locks = pond.locks();
    match command {
        LocksCommand::Acquire(args) => {
            let mut request = LockRequest::of(&args.name, args.ttl).wait(args.wait).holder(args.holder);
            request.purpose = args.purpose;
            let locks =
                Locks::with_processes(pond.store_of(millpond::Domain::Locks).clone(), Arc::new(Outlived(ProcFiles::default())));
            let lease = locks.acquire(&request).await?;
            ctx.out.say(format_args!("{} is yours with token {}", lease.name, lease.token), &value(&lease)?)?;
        }
        LocksCommand::Renew { name, token, ttl } => {
            let lease = locks.renew(&locks.resume(&name, token).await?, ttl).await?;
            ctx.out.say(format_args!("{name} is yours until {}", lease.deadline), &value(&lease)?)?;
        }
        LocksCommand::Release { name, token } => {
            locks.release(&locks.resume(&name, token).await?).await?;
            ctx.out.say(format_args!("{name} is free"), &json!({ "released": name, "token": token }))?;
        }
        LocksCommand::Break { name, reason, by } => {
            let held = locks.force_release(&name, &reason, &by).await?;
            let held = held.ok_or_else(|| Error::not_found(format!("nobody holds lock {name:?}")))?;
            let text = format!("{name} was taken away from {} (token {})", held.lease.holder.name, held.lease.token);
            ctx.out.say(text, &value(&held)?)?;
        }
        LocksCommand::Info { name } => {
            let info = locks.info(&name).await?;
            let info = info.ok_or_else(|| Error::not_found(format!("nobody holds lock {name:?}")))?;
            ctx.out.item(&value(&info)?)?;
        }
        LocksCommand::List(args) => {
            let filter = LockFilter {
                prefix: args.prefix,
                holder: args.holder,
                deadline_before: args.expired.then(|| pond.store().now()),
                limit: args.page.limit,
                after: args.page.after,
                ..LockFilter::default()
            };
            ctx.out.found(&COLUMNS, &locks.list(&filter).await?)?;
        }
    }
    pond.close().await?;
    Ok(Exit::Ok)
}

/// This program ends as soon as it has the lock, and the lock is to outlive it: so it is taken without the facts about
/// a process by which others would see that the holder is dead.
#[derive(Debug)]
struct Outlived(ProcFiles);

impl Processes for Outlived {
    fn this_process(&self) -> Holder {
        Holder::default()
    }

    fn state(&self, pid: u32) -> ProcessState {
        self.0.state(pid)
    }

    fn is_dead(&self, holder: &Holder) -> bool {
        self.0.is_dead(holder)
    }
}
