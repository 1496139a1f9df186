//! `millpond commit` and `millpond outcome`: one raw commit, and what became of it.

use clap::Args;
use millpond::{Commit, CommitId, Error, Outcome, Result};

use super::input;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::value;

/// Flags of `commit`.
#[derive(Debug, Args)]
pub struct CommitArgs {
    /// The commit as JSON (see docs/raw-commit.md); - is stdin
    #[arg(long, value_name = "FILE")]
    file: String,
}

/// Applies the commit. The receipt goes to stdout; a failed expectation does too, with exit code 4.
pub async fn run(ctx: &Context, args: CommitArgs) -> Result<Exit> {
    // Read first: a commit that cannot be understood makes no store.
    let commit = Commit::from_json(&input::read_text(&args.file)?)?;
    let pond = ctx.open().await?;
    let outcome = pond.try_commit(commit).await?;
    pond.close().await?;
    match outcome {
        Outcome::Committed(receipt) => {
            ctx.out.item(&value(&receipt)?)?;
            Ok(Exit::Ok)
        }
        Outcome::Conflict(conflict) => {
            ctx.out.item(&serde_json::json!({ "conflict": conflict.to_json() }))?;
            let error = Error::from_conflict(conflict);
            crate::report::error(&error);
            Ok(Exit::of(&error))
        }
    }
}

/// Flags of `outcome`.
#[derive(Debug, Args)]
pub struct OutcomeArgs {
    /// The commit's id
    id: String,
}

/// Shows a receipt.
pub async fn outcome(ctx: &Context, args: OutcomeArgs) -> Result<Exit> {
    let id = CommitId::parse(&args.id)?;
    let pond = ctx.existing().await?;
    let mut receipt = None;
    for store in pond.stores() {
        receipt = store.outcome(id).await?.or(receipt);
    }
    let receipt =
        receipt.ok_or_else(|| Error::not_found(format!("commit {id} was not applied, or its receipt is no longer kept")))?;
    ctx.out.item(&value(&receipt)?)?;
    Ok(Exit::Ok)
}
