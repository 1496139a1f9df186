//! `millpond artifacts …`, or `storage …`: bytes under keys, with what is known of where they come from.

mod flags;
mod get;
mod many;
mod purge;

use std::fs::File;

use millpond::{Artifact, ArtifactVersion, Artifacts, Body, Error, ErrorKind, Listed, Page, Result, Versioned};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};
pub use flags::ArtifactsCommand;
use flags::{BrowseArgs, PutArgs, WatchArgs};

const COLUMNS: [Column; 5] = [
    Column::new("key", "/key"),
    Column::new("length", "/length"),
    Column::new("type", "/content_type"),
    Column::new("written", "/created"),
    Column::new("sha-256", "/sha256"),
];

const FOLDER: [Column; 4] = [
    Column::new("name", "/name"),
    Column::new("length", "/length"),
    Column::new("type", "/content_type"),
    Column::new("written", "/created"),
];

const VERSIONS: [Column; 6] = [
    Column::new("version", "/version"),
    Column::new("when", "/created"),
    Column::new("what", "/what"),
    Column::new("length", "/artifact/length"),
    Column::new("type", "/artifact/content_type"),
    Column::new("sha-256", "/artifact/sha256"),
];

/// A storage event as one line.
const LINE: [Column; 5] = [
    Column::new("cursor", "/cursor"),
    Column::new("type", "/type"),
    Column::new("key", "/key"),
    Column::new("length", "/length"),
    Column::new("content type", "/content_type"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: ArtifactsCommand) -> Result<Exit> {
    // A file that cannot be read is no reason to make a store.
    let body = match &command {
        ArtifactsCommand::Put(args) => Some(body(&args.file)?),
        _ => None,
    };
    let pond = match &command {
        ArtifactsCommand::Put(_) => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let artifacts = pond.artifacts();
    let mut exit = Exit::Ok;
    match command {
        ArtifactsCommand::Put(args) => put(ctx, &artifacts, *args, body.unwrap_or_else(|| Body::from(""))).await?,
        ArtifactsCommand::Get(args) => get::get(ctx, &artifacts, &args).await?,
        ArtifactsCommand::Metadata { key } => ctx.out.item(&value(&require(&artifacts, &key).await?)?)?,
        ArtifactsCommand::List(args) => ctx.out.found(&COLUMNS, &artifacts.list(&args.filter()).await?)?,
        ArtifactsCommand::Browse(args) => browse(ctx, &artifacts, &args).await?,
        ArtifactsCommand::Copy { from, to } => {
            let copy = artifacts.copy(&from, &to).await?;
            ctx.out.say(format_args!("{to} has the bytes of {from}"), &value(&copy)?)?;
        }
        ArtifactsCommand::Delete { key } => {
            require(&artifacts, &key).await?;
            ctx.confirm(format_args!("deleting artifact {key}"), &key)?;
            ctx.out.deleted(format_args!("artifact {key}"), artifacts.delete(&key).await?)?;
        }
        ArtifactsCommand::History { key, page } => {
            let first = page.after.is_none();
            let versions = artifacts.history(&key, page.limit, page.after).await?;
            if first && versions.items.is_empty() && versions.damaged.is_empty() {
                return Err(missing(&key));
            }
            history(ctx, &versions)?;
        }
        ArtifactsCommand::Url { key, lasting } => {
            let url = artifacts.address(&key, lasting).await?;
            ctx.out.say(&url, &json!({ "key": key, "url": url, "lasting_us": u64::try_from(lasting.as_micros()).ok() }))?;
        }
        ArtifactsCommand::Download { execution, output_dir } => {
            exit = many::download(ctx, &artifacts, &execution, &output_dir).await?;
        }
        ArtifactsCommand::Watch(args) => exit = watch(ctx, &artifacts, &args).await?,
        ArtifactsCommand::Verify(args) => exit = many::verify(ctx, &artifacts, &args.request()).await?,
        ArtifactsCommand::PurgeVersions(args) => exit = purge::purge(ctx, &artifacts, &args).await?,
        ArtifactsCommand::Place { moved } => place(ctx, &artifacts, moved.as_deref()).await?,
    }
    pond.close().await?;
    Ok(exit)
}

/// What a file or stdin holds, read while it is written.
fn body(file: &str) -> Result<Body> {
    if file == "-" {
        return Ok(Body::reader(std::io::stdin()));
    }
    let opened = File::open(file).map_err(|e| Error::unavailable(format!("cannot read {file}")).with_source(e))?;
    Ok(Body::reader(opened))
}

async fn put(ctx: &Context, artifacts: &Artifacts, args: PutArgs, body: Body) -> Result<()> {
    let key = args.key.clone();
    let written = artifacts.write(&key, body, args.new_artifact()).await?;
    let text = format!("{key}: {} of {}, sha-256 {}", counted(written.length, "byte"), written.content_type, written.sha256);
    ctx.out.say(text, &value(&written)?)
}

/// What is known of an artifact that has to be there.
async fn require(artifacts: &Artifacts, key: &str) -> Result<Versioned<Artifact>> {
    artifacts.info(key).await?.ok_or_else(|| missing(key))
}

fn missing(key: &str) -> Error {
    Error::not_found(format!("artifact {key:?} does not exist")).with_next("see what there is: millpond artifacts list")
}

/// For people each version says what it is; for programs a deletion is one without an artifact.
fn history(ctx: &Context, versions: &Page<Versioned<ArtifactVersion>>) -> Result<()> {
    let mut items = values(&versions.items)?;
    if ctx.out.is_table() {
        for item in &mut items {
            item["what"] = if item["artifact"].is_null() { "deleted" } else { "written" }.into();
        }
    }
    ctx.out.page(&VERSIONS, &items, versions.next.as_ref().map(ToString::to_string), &versions.damaged)
}

async fn browse(ctx: &Context, artifacts: &Artifacts, args: &BrowseArgs) -> Result<()> {
    let page = artifacts.list_folder(&args.prefix, &args.delimiter, args.limit, args.after.as_deref()).await?;
    let items = page.items.iter().map(|listed| folder_line(ctx, listed)).collect::<Result<Vec<_>>>()?;
    ctx.out.page(&FOLDER, &items, page.next, &[])
}

/// A line of a folder: for people everything has a name, for programs an artifact is what it is everywhere.
fn folder_line(ctx: &Context, listed: &Listed) -> Result<Value> {
    let mut line = match listed {
        Listed::Artifact(artifact) => value(artifact)?,
        Listed::Prefix(prefix) => json!({ "prefix": prefix }),
    };
    if ctx.out.is_table() {
        line["name"] = listed.name().into();
    }
    Ok(line)
}

/// Events as they come. One that does not read back is told and passed over; the exit code remembers it.
async fn watch(ctx: &Context, artifacts: &Artifacts, args: &WatchArgs) -> Result<Exit> {
    let mut exit = Exit::Ok;
    let mut watch = artifacts.watch(args.request()).await?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let event = if args.once { watch.try_next().await } else { watch.next().await };
        match event {
            Ok(Some(event)) => ctx.out.line(&LINE, &value(&event)?)?,
            Ok(None) => break,
            // One event that does not read back, and the cursor behind it. Without a cursor the next look fails the same.
            Err(error) if error.kind() == ErrorKind::Corrupt && error.context().any(|(name, _)| name == "cursor") => {
                crate::report::error(&error);
                exit = Exit::Unhealthy;
            }
            Err(error) => return Err(super::records::expired(error)),
        }
        left -= 1;
    }
    if let (true, Some(cursor)) = (ctx.out.is_table(), watch.cursor()) {
        crate::report::note(format_args!("resume with: --after {cursor}"));
    }
    Ok(exit)
}

async fn place(ctx: &Context, artifacts: &Artifacts, moved: Option<&str>) -> Result<()> {
    if let Some(to) = moved {
        let moved = artifacts.place_moved(to).await?;
        let text = format!("the bytes are in {} from here on; {} looked at there", moved.to, counted(moved.looked_at, "object"));
        return ctx.out.say(text, &value(&moved)?);
    }
    let place = artifacts.place().await?;
    let text = place.as_deref().unwrap_or("no artifact was written yet: there is no place");
    ctx.out.say(text, &json!({ "place": place }))
}
