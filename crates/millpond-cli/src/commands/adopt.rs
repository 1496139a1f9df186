//! `millpond adopt`: what was edited by hand in the readable tree, and what became of it.

use clap::Args;
use millpond::{Adoption, Error, ErrorKind, Fate, OpenOptions, Result};
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};

/// What to do with edits.
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// Only say what would become of each file
    #[arg(long)]
    dry_run: bool,
}

/// One edited file in a line.
pub fn told(found: &Adoption) -> String {
    let fate = fate(found.fate);
    let kept = found.kept.as_ref().map_or_else(String::new, |place| format!("; see {place}"));
    format!("{}: {fate}: {}{kept}", found.file, found.detail)
}

fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Adopted => "adopted",
        Fate::Kept => "kept aside",
        Fate::Restored => "restored",
        Fate::Waiting => "waiting",
        Fate::Removed => "removed",
    }
}

/// Adopts what was edited; exit code 4 when something could not be.
pub async fn run(ctx: &Context, args: AdoptArgs) -> Result<Exit> {
    let options = OpenOptions::new().namespace(ctx.namespace()?).create(false).adopt_edits(false);
    let pond = options.open(ctx.place()).await.map_err(|e| ctx.explain(e))?;
    let tree = pond.tree().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("{} has no readable tree", ctx.place()))
            .with_next("only file: stores have one, unless they are opened with tree=off")
    })?;
    let found = tree.adopt(args.dry_run).await?;
    if ctx.out.is_table() {
        let columns = [
            Column::new("file", "/file"),
            Column::new("fate", "/fate"),
            Column::new("detail", "/detail"),
            Column::new("kept", "/kept"),
        ];
        ctx.out.list(&columns, &values(&found)?)?;
        if args.dry_run && !found.is_empty() {
            crate::report::note("nothing was changed");
        }
    } else {
        ctx.out.item(&json!({ "dry_run": args.dry_run, "items": value(&found)? }))?;
    }
    if !args.dry_run {
        pond.close().await?;
    }
    let refused = found.iter().filter(|f| matches!(f.fate, Fate::Kept | Fate::Waiting)).count();
    if refused == 0 {
        return Ok(Exit::Ok);
    }
    crate::report::note(format_args!("{} could not be adopted", counted(refused as u64, "file")));
    Ok(Exit::Conflict)
}
