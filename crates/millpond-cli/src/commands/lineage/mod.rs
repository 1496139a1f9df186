//! `millpond lineage …`: what became of what.

mod flags;

use millpond::{
    ArtifactRef, LineageEnd, LineageFilter, LineageRow, LineageRows, LineageStatus, LineageWalk, NewLineage, Page, Result,
    Versioned,
};
use serde_json::{Value, json};

use super::input;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value, values};
pub use flags::LineageCommand;
use flags::{EndArgs, EndOf, NewArgs, RecordArgs};

const COLUMNS: [Column; 8] = [
    Column::new("row", "/id"),
    Column::new("execution", "/execution"),
    Column::new("route", "/route"),
    Column::new("adapter", "/adapter"),
    Column::new("stage", "/stage"),
    Column::new("status", "/status"),
    Column::new("started", "/started_at"),
    Column::micros("took", "/duration_us"),
];

const WALKED: [Column; 7] = [
    Column::new("depth", "/depth"),
    Column::new("row", "/id"),
    Column::new("route", "/route"),
    Column::new("adapter", "/adapter"),
    Column::new("stage", "/stage"),
    Column::new("status", "/status"),
    Column::new("artifact", "/artifact/key"),
];

const RELATIVES: [Column; 6] = [
    Column::new("row", "/id"),
    Column::new("edge", "/kind"),
    Column::new("route", "/row/route"),
    Column::new("adapter", "/row/adapter"),
    Column::new("stage", "/row/stage"),
    Column::new("status", "/row/status"),
];

const COUNTS: [Column; 5] = [
    Column::new("route", "/route"),
    Column::new("adapter", "/adapter"),
    Column::new("rows", "/count"),
    Column::new("completed", "/completed"),
    Column::new("failed", "/failed"),
];

const EVENTS: [Column; 4] = [
    Column::new("when", "/eventTime"),
    Column::new("type", "/eventType"),
    Column::new("job", "/job/name"),
    Column::new("run", "/run/runId"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: LineageCommand) -> Result<Exit> {
    let pond = match &command {
        LineageCommand::Start(_) | LineageCommand::Record(_) => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let lineage = pond.lineage();
    match command {
        LineageCommand::Start(args) => said(ctx, &lineage.start(new_row(*args)).await?)?,
        LineageCommand::Record(args) => {
            let RecordArgs { new, end } = *args;
            said(ctx, &lineage.record(new_row(new).end(end_of(end, Vec::new()))).await?)?;
        }
        LineageCommand::Advance { row, status } => said(ctx, &lineage.advance(&row, status).await?)?,
        LineageCommand::Complete(end) => ended(ctx, &lineage, end, LineageStatus::Completed).await?,
        LineageCommand::Fail(end) => ended(ctx, &lineage, end, LineageStatus::Failed).await?,
        LineageCommand::Cancel(end) => ended(ctx, &lineage, end, LineageStatus::Cancelled).await?,
        LineageCommand::Link { child, parent, kind } => {
            let receipt = lineage.link(&child, &parent, &kind).await?;
            ctx.out.say(format_args!("{child} came from {parent} ({kind})"), &value(&receipt)?)?;
        }
        LineageCommand::Get { row } => {
            let found = lineage.get(&row).await?.map(|row| shown(&row)).transpose()?;
            ctx.out.one(format_args!("row {row:?} of lineage"), found.as_ref())?;
        }
        LineageCommand::List(args) => listed(ctx, &lineage.list(&args.build()).await?)?,
        LineageCommand::Count(args) => {
            let count = lineage.count(&args.build()).await?;
            ctx.out.say(count, &json!({ "count": count }))?;
        }
        LineageCommand::Chain(args) => {
            let chain = lineage.chain(&args.row, args.limits()).await?;
            if !ctx.out.is_table() {
                ctx.out.item(&clean(value(&chain)?))?;
            } else {
                let itself = clean(with_depth(value(&chain.row)?, 0));
                // What it came from stands above it, the farthest first.
                let above = rows(&chain.ancestors, true)?.into_iter().rev();
                let all: Vec<Value> = above.chain([itself]).chain(rows(&chain.descendants, false)?).collect();
                ctx.out.list(&WALKED, &all)?;
                notes(&chain.ancestors);
                notes(&chain.descendants);
            }
        }
        LineageCommand::Ancestors(args) => walked(ctx, &lineage.ancestors(&args.row, args.limits()).await?)?,
        LineageCommand::Descendants(args) => walked(ctx, &lineage.descendants(&args.row, args.limits()).await?)?,
        LineageCommand::Children(near) => {
            let page = lineage.children(&near.row, near.limit, near.after).await?;
            ctx.out.found(&RELATIVES, &page.try_map(|relative| Ok(clean(value(&relative)?)))?)?;
        }
        LineageCommand::Parents(near) => {
            let page = lineage.parents(&near.row, near.limit, near.after).await?;
            ctx.out.found(&RELATIVES, &page.try_map(|relative| Ok(clean(value(&relative)?)))?)?;
        }
        LineageCommand::Roots(args) => listed(ctx, &lineage.roots(&args.build()).await?)?,
        LineageCommand::Failures(args) => listed(ctx, &lineage.failures(&args.build()).await?)?,
        LineageCommand::Batch { batch, page } => listed(ctx, &lineage.batch(&batch, page.limit, page.after).await?)?,
        LineageCommand::Stats(args) => {
            let stats = lineage.stats(&args.build()).await?;
            if ctx.out.is_table() {
                ctx.out.list(&COUNTS, &values(&stats.adapters)?)?;
            } else {
                ctx.out.item(&value(&stats)?)?;
            }
        }
        LineageCommand::Export(args) if args.all => export_all(ctx, &lineage, args.filter.build()).await?,
        LineageCommand::Export(args) => {
            let page = lineage.open_lineage(&args.filter.build()).await?;
            ctx.out.page(&EVENTS, &page.events, page.next.map(|next| next.to_string()), &page.damaged)?;
        }
    }
    pond.close().await?;
    Ok(Exit::Ok)
}

fn new_row(args: NewArgs) -> NewLineage {
    let mut new = NewLineage::of(args.execution, args.route, args.adapter);
    new = args.id.into_iter().fold(new, NewLineage::id);
    new = args.adapter_index.into_iter().fold(new, NewLineage::adapter_index);
    new = args.stage.into_iter().fold(new, NewLineage::stage);
    new = args.status.into_iter().fold(new, NewLineage::status);
    new = args.correlation.into_iter().fold(new, NewLineage::correlation);
    new = args.parent.into_iter().fold(new, NewLineage::parent);
    new = args.derived_from.into_iter().fold(new, NewLineage::derived_from);
    new = args.batch.into_iter().fold(new, NewLineage::batch);
    new = args.document.into_iter().fold(new, NewLineage::document);
    new = args.input_hash.into_iter().fold(new, NewLineage::input_hash);
    new = args.started.into_iter().fold(new, NewLineage::started_at);
    input::json_map(args.metadata).into_iter().fold(new, |new, (name, value)| new.metadata(name, value))
}

fn end_of(args: EndArgs, metadata: Vec<(String, String)>) -> LineageEnd {
    let artifact = args.artifact.map(|key| args.artifact_version.into_iter().fold(ArtifactRef::new(key), ArtifactRef::version));
    LineageEnd {
        output_hash: args.output_hash,
        artifact,
        unit: args.unit,
        completed_at: args.completed,
        error: args.error.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap_or(Value::String(text))),
        metadata: input::json_map(metadata),
    }
}

async fn ended(ctx: &Context, lineage: &LineageRows, end: EndOf, status: LineageStatus) -> Result<()> {
    let EndOf { row, end, metadata } = end;
    let end = end_of(end, metadata);
    let row = match status {
        LineageStatus::Completed => lineage.complete(&row, end).await?,
        LineageStatus::Failed => lineage.fail(&row, end).await?,
        _ => lineage.cancel(&row, end).await?,
    };
    said(ctx, &row)
}

fn said(ctx: &Context, row: &Versioned<LineageRow>) -> Result<()> {
    ctx.out.say(format_args!("{} is {}", row.id, row.status), &shown(row)?)
}

/// A row as people and programs see it: with how long it took, without what only lists look at.
fn shown(row: &Versioned<LineageRow>) -> Result<Value> {
    value(row).map(clean)
}

/// What [`shown`] says, for every row inside.
fn clean(mut item: Value) -> Value {
    match &mut item {
        Value::Object(fields) => {
            if fields.remove("found_by").is_some()
                && let Some(took) = took(fields)
            {
                fields.insert("duration_us".to_owned(), took.into());
            }
            for name in ["row", "rows", "ancestors", "descendants"] {
                if let Some(inside) = fields.get_mut(name) {
                    *inside = clean(inside.take());
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = clean(item.take())),
        _ => {}
    }
    item
}

fn took(row: &serde_json::Map<String, Value>) -> Option<i64> {
    let at = |name: &str| row.get(name)?.as_str()?.parse::<millpond::Timestamp>().ok();
    Some(at("completed_at")?.as_micros() - at("started_at")?.as_micros())
}

fn listed(ctx: &Context, page: &Page<Versioned<LineageRow>>) -> Result<()> {
    let items = page.items.iter().map(shown).collect::<Result<Vec<_>>>()?;
    ctx.out.page(&COLUMNS, &items, page.next.as_ref().map(ToString::to_string), &page.damaged)
}

fn with_depth(mut row: Value, depth: i64) -> Value {
    row["depth"] = depth.into();
    row
}

/// The rows of a walk; those above are counted downwards from 0.
fn rows(walk: &LineageWalk, above: bool) -> Result<Vec<Value>> {
    let sign = if above { -1 } else { 1 };
    walk.rows.iter().map(|row| Ok(clean(with_depth(value(row)?, sign * i64::from(row.depth))))).collect()
}

fn walked(ctx: &Context, walk: &LineageWalk) -> Result<()> {
    if !ctx.out.is_table() {
        return ctx.out.item(&clean(value(walk)?));
    }
    ctx.out.list(&WALKED, &rows(walk, false)?)?;
    notes(walk);
    Ok(())
}

/// What a table has no place for.
fn notes(walk: &LineageWalk) {
    for missing in &walk.missing {
        crate::report::note(format_args!("row {:?} is named by an edge and is not there", missing.id));
    }
    for damaged in &walk.damaged {
        crate::report::note(format_args!("damaged: {}: {}", damaged.what, damaged.why));
    }
    if walk.more {
        crate::report::note("there is more: raise --depth or --limit");
    }
}

async fn export_all(ctx: &Context, lineage: &LineageRows, mut filter: LineageFilter) -> Result<()> {
    loop {
        let page = lineage.open_lineage(&filter).await?;
        page.events.iter().try_for_each(|event| ctx.out.line(&EVENTS, event))?;
        for damaged in &page.damaged {
            crate::report::note(format_args!("damaged: {}: {}", damaged.what, damaged.why));
        }
        if page.next.is_none() {
            return Ok(());
        }
        filter.after = page.next;
    }
}
