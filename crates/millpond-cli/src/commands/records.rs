//! `millpond records …`: documents by collection and key.

use clap::{Args, Subcommand};
use millpond::{
    Change, CollectionName, Commit, Cursor, Delivery, Error, ErrorKind, Expectation, Json, Read, RecordId, Result, Selector,
    StartAt, Write,
};
use serde_json::{Value, json};

use super::input;
use super::query::QueryArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value, values};

/// Commands on records.
#[derive(Debug, Subcommand)]
pub enum RecordsCommand {
    /// Show one
    Get {
        /// The collection
        collection: String,
        /// The key
        key: String,
    },
    /// Ask for those that meet conditions on declared fields
    #[command(alias = "list", alias = "ls")]
    Query(Box<QueryArgs>),
    /// Follow changes, deletes included
    Watch(WatchArgs),
    /// Create or replace one
    Put(PutArgs),
    /// Delete one
    #[command(alias = "rm")]
    Delete {
        /// The collection
        collection: String,
        /// The key
        key: String,
        /// Only if it is at this revision
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
        /// Who deletes it
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

/// Flags of `records put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The collection
    collection: String,
    /// The key
    key: String,
    /// The document as JSON; @FILE reads a file, - stdin
    value: String,
    /// Only if it does not exist yet
    #[arg(long, conflicts_with = "revision")]
    create: bool,
    /// Only if it is at this revision
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    /// Who writes it
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Flags of `records watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The collection
    collection: String,
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Where to begin, and when to stop
    #[command(flatten)]
    span: WatchSpan,
}

/// Where a watch begins and ends. Shared by all watches.
#[derive(Debug, Args)]
pub struct WatchSpan {
    /// Resume after this cursor or position; without it everything kept is shown first
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// Show only what is committed from now on
    #[arg(long, conflicts_with = "after")]
    now: bool,
    /// Stop when everything committed so far was shown
    #[arg(long)]
    once: bool,
    /// Stop after so many changes
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

const COLUMNS: [Column; 4] = [
    Column::new("key", "/key"),
    Column::new("revision", "/revision"),
    Column::new("changed", "/time"),
    Column::new("value", "/value"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: RecordsCommand) -> Result<Exit> {
    match command {
        RecordsCommand::Get { collection, key } => {
            let record = ctx.existing().await?.store().get(&collection, &key).await?;
            let record = record.ok_or_else(|| Error::not_found(format!("{collection}/{key} does not exist")))?;
            ctx.out.item(&value(&record)?)?;
        }
        RecordsCommand::Query(args) => query(ctx, &args).await?,
        RecordsCommand::Watch(args) => {
            let collection = CollectionName::new(args.collection)?;
            watch(ctx, Selector::Records { collection, key_prefix: args.prefix }, args.span).await?;
        }
        RecordsCommand::Put(args) => put(ctx, args).await?,
        RecordsCommand::Delete { collection, key, revision, by } => {
            let id = RecordId::new(&collection, &key)?;
            let mut commit = Commit::new().write(Write::Delete(id.clone()));
            commit.by = by;
            commit.expect = revision.map(|n| Expectation::Revision(id.clone(), n)).into_iter().collect();
            let receipt = ctx.existing().await?.commit(commit).await?;
            if receipt.revisions.first() == Some(&0) {
                return Err(Error::not_found(format!("{id} does not exist")));
            }
            ctx.out.say(format_args!("{id} deleted"), &value(&receipt)?)?;
        }
    }
    Ok(Exit::Ok)
}

async fn put(ctx: &Context, args: PutArgs) -> Result<()> {
    let id = RecordId::new(&args.collection, &args.key)?;
    let document = Json::parse(&input::inline_or_file(&args.value)?)?;
    let mut commit = Commit::new().write(Write::Put(id.clone(), document));
    commit.by = args.by;
    commit.expect.extend(args.revision.map(|n| Expectation::Revision(id.clone(), n)));
    commit.expect.extend(args.create.then(|| Expectation::Absent(id.clone())));
    let pond = ctx.open().await?;
    let receipt = pond.commit(commit).await?;
    pond.close().await?;
    ctx.out.say(format_args!("{id} is at revision {}", receipt.revisions.first().unwrap_or(&0)), &value(&receipt)?)
}

async fn query(ctx: &Context, args: &QueryArgs) -> Result<()> {
    let pond = ctx.existing().await?;
    let query = args.build(&pond.store().catalog())?;
    if args.count {
        let count = pond.store().count(query).await?;
        return ctx.out.say(count, &json!({ "count": count }));
    }
    if let Some(field) = &args.group_by {
        let read = Read::GroupBy { query, field: field.clone(), bucket: args.bucket, measure: args.measure.clone() };
        let mut groups = Vec::new();
        for answer in pond.store().read(vec![read]).await? {
            groups.extend(answer.into_groups()?.iter().map(super::query::group_json));
        }
        let columns = [
            Column::new("value", "/value"),
            Column::new("count", "/count"),
            Column::new("min", "/min"),
            Column::new("max", "/max"),
            Column::new("sum", "/sum"),
        ];
        return ctx.out.list(&columns, &groups);
    }
    let page = pond.store().query(query).await?;
    ctx.out.page(&COLUMNS, &values(&page.items)?, page.next.map(|c| c.to_string()), &page.damaged)
}

/// Follows a feed and prints each change with the cursor that resumes after it. Shared by all watches.
pub async fn watch(ctx: &Context, selector: Selector, span: WatchSpan) -> Result<()> {
    let pond = ctx.existing().await?;
    let start = match span.after {
        Some(cursor) => StartAt::After(cursor),
        None if span.now => StartAt::Now,
        None => StartAt::Oldest,
    };
    let mut feed = pond.subscribe(selector, start)?;
    let mut left = span.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let delivery = if span.once { feed.try_next().await } else { feed.next().await.transpose() };
        let delivery = delivery.map_err(expired)?;
        let Some(delivery) = delivery else { break };
        left -= u64::from(print_delivery(ctx, &delivery)?);
    }
    if let (true, Some(cursor)) = (ctx.out.is_table(), feed.cursor()) {
        crate::report::note(format_args!("resume with: --after {cursor}"));
    }
    Ok(())
}

/// Says what to do about a cursor whose history is gone. Shared by all watches.
pub fn expired(error: Error) -> Error {
    if error.kind() == ErrorKind::CursorExpired {
        return error.with_next("leave --after out to begin at the oldest that is kept");
    }
    error
}

/// Prints one delivery. True when it was a change.
fn print_delivery(ctx: &Context, delivery: &Delivery) -> Result<bool> {
    let cursor = delivery.cursor();
    match delivery {
        Delivery::Change(change, _) => {
            let (columns, mut item): (&[Column], Value) = match change {
                Change::Event(event) => (&super::events::LINE, value(event)?),
                Change::Record(record) => (&COLUMNS, value(record)?),
                Change::Deleted(deleted) => {
                    let mut item = value(deleted)?;
                    item["deleted"] = true.into();
                    (&DELETED, item)
                }
            };
            item["cursor"] = cursor.to_string().into();
            ctx.out.line(columns, &item)?;
            return Ok(true);
        }
        Delivery::SnapshotEnd(_) if ctx.out.is_table() => crate::report::note("— that is what is there; changes follow —"),
        Delivery::SnapshotEnd(_) => ctx.out.line(&[], &json!({ "snapshot_end": true, "cursor": cursor }))?,
        Delivery::Damaged(damaged, _) => {
            crate::report::note(format_args!("damaged: {}: {}", damaged.what, damaged.why));
        }
    }
    Ok(false)
}

const DELETED: [Column; 3] = [Column::new("key", "/key"), Column::new("revision", "/revision"), Column::word("deleted")];
