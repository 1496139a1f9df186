//! What a demo says when it is done: what it stored, how to look at it, the digest.

use millpond::{DeadLetterFilter, Pond, Query, Result};
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
    let letters = pond.dead_letters().count(&DeadLetterFilter::all().job(&state.run)).await?;
    stored.push(json!({ "what": "dead letters", "count": letters }));
    let figures = pond.metrics().summary(begin::WORKFLOW, state.version).await?.map_or(0, |s| s.executions);
    stored.push(json!({ "what": "steps in the metrics (each counts as one execution)", "count": figures }));
    let look = commands(ctx, state, letters > 0);
    if ctx.out.is_table() {
        ctx.out.list(&[Column::new("stored", "/what"), Column::new("count", "/count")], &stored)?;
        let look: String = look.iter().map(|c| format!("  {c}\n")).collect();
        let look = if look.is_empty() { "this store ends with the program".to_owned() } else { format!("look at it:\n{look}") };
        output::write(&format!("\n{look}\n"))?;
        return output::write(&format!("demo digest: {digest}\n"));
    }
    ctx.out.item(&json!({
        "run": state.run, "corpus": state.corpus, "workflow": begin::WORKFLOW, "counts": state.counts,
        "stored": stored, "commands": look, "digest": digest,
    }))
}

/// Commands that show what was stored; none for a store that ends with this program. They name the store if it is not
/// the usual one.
fn commands(ctx: &Context, state: &State, letters: bool) -> Vec<String> {
    if ctx.place().starts_with("memory:") {
        return Vec::new();
    }
    let store = ctx.flags();
    let run = &state.run;
    let letters = letters.then(|| format!("dead-letters list --job {run}"));
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
