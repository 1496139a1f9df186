//! What a demo says when it is done: what it stored, how to look at it, the digest.

use millpond::{Pond, Query, Result};
use serde_json::json;

use super::documents::OUTPUTS;
use super::state::State;
use super::{begin, digest};
use crate::context::Context;
use crate::output::{self, Column};

/// Prints it.
///
/// # Errors
/// What the store fails with.
pub async fn print(ctx: &Context, pond: &Pond, state: &State) -> Result<()> {
    let digest = digest::digest(pond, state).await?;
    let mut stored = Vec::new();
    for collection in OUTPUTS {
        let count = pond.store().count(Query::new(collection.name())?).await?;
        stored.push(json!({ "what": collection.name(), "count": count }));
    }
    let log = pond.store().stream(&millpond::Runs::stream(&state.run)).await?.map_or(0, |s| s.head);
    stored.push(json!({ "what": "events of the run", "count": log }));
    stored.push(json!({ "what": "dead letters", "count": state.counts.unreadable }));
    let look = commands(ctx, state);
    if ctx.out.is_table() {
        ctx.out.list(&[Column::new("stored", "/what"), Column::new("count", "/count")], &stored)?;
        output::write(&format!("\nlook at it:\n{}\n\n", look.iter().map(|c| format!("  {c}")).collect::<Vec<_>>().join("\n")))?;
        return output::write(&format!("demo digest: {digest}\n"));
    }
    ctx.out.item(&json!({
        "run": state.run, "corpus": state.corpus, "workflow": begin::WORKFLOW, "counts": state.counts,
        "stored": stored, "commands": look, "digest": digest,
    }))
}

/// Commands that show what was stored. They name the store if it is not the usual one.
fn commands(ctx: &Context, state: &State) -> Vec<String> {
    let store = ctx.flags();
    let run = &state.run;
    let letters = (state.counts.unreadable > 0).then(|| format!("dead-letters list --job {run}"));
    [
        format!("runs show {run}"),
        format!("events list --stream {}", millpond::Runs::stream(run)),
        "records query demo_terms --order occurrences --desc --limit 10".to_owned(),
        "records query demo_segments --limit 3".to_owned(),
        format!("metrics nodes {}@{}", begin::WORKFLOW, state.version),
        format!("workflows get {}@{} --yaml", begin::WORKFLOW, state.version),
        format!("checkpoints list {}", begin::scope()),
        "store digest --content".to_owned(),
    ]
    .into_iter()
    .chain(letters)
    .map(|c| format!("millpond{store} {c}"))
    .collect()
}
