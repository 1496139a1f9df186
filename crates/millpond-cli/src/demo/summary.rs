//! What a demo says when it is done: what it stored, how to look at it, the digest.

use millpond::{ArtifactFilter, ArtifactKey, DeadLetterFilter, LineageFilter, Pond, Query, Result, WalkLimits};
use serde_json::json;

use super::documents::OUTPUTS;
use super::state::{Stage, State};
use super::{begin, digest, keep};
use crate::context::{Context, shell_word};
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
    let artifacts = pond.artifacts().count(&ArtifactFilter::prefix(ArtifactKey::of_execution(&state.run))).await?;
    stored.push(json!({ "what": "artifacts", "count": artifacts }));
    let rows = pond.lineage().count(&LineageFilter::all().execution(&state.run)).await?;
    stored.push(json!({ "what": "rows of lineage", "count": rows }));
    let way = way_back(pond, &state.run).await?;
    let look = commands(ctx, state, letters > 0, way.first());
    if ctx.out.is_table() {
        ctx.out.list(&[Column::new("stored", "/what"), Column::new("count", "/count")], &stored)?;
        let look: String = look.iter().map(|c| format!("  {c}\n")).collect();
        let look = if look.is_empty() { "this store ends with the program".to_owned() } else { format!("look at it:\n{look}") };
        if !way.is_empty() {
            let way: String = way.iter().enumerate().map(|(depth, key)| format!("  {}{key}\n", "  ".repeat(depth))).collect();
            output::write(&format!("\na file's segments, and what they came from:\n{way}"))?;
        }
        output::write(&format!("\n{look}\n"))?;
        return output::write(&format!("demo digest: {digest}\n"));
    }
    ctx.out.item(&json!({
        "run": state.run, "corpus": state.corpus, "workflow": begin::WORKFLOW, "counts": state.counts,
        "stored": stored, "lineage": way, "commands": look, "digest": digest,
    }))
}

/// The artifact of one file's segments, and those it came from, back to the file; none of a run without segments.
async fn way_back(pond: &Pond, run: &str) -> Result<Vec<String>> {
    let segments = ArtifactKey::of_stage(run, keep::ROUTE, Stage::Segment.name());
    let one = pond.artifacts().list(&ArtifactFilter::prefix(segments).limit(1)).await?;
    let Some(row) = one.items.into_iter().next().and_then(|found| found.value.lineage) else { return Ok(Vec::new()) };
    let came_from = pond.lineage().ancestors(&row, WalkLimits::default()).await?;
    Ok(std::iter::once(row).chain(came_from.rows.into_iter().map(|walked| walked.row.value.id)).collect())
}

/// Commands that show what was stored; none for a store that ends with this program. They name the store if it is not
/// the usual one.
fn commands(ctx: &Context, state: &State, letters: bool, segments: Option<&String>) -> Vec<String> {
    if ctx.place().starts_with("memory:") {
        return Vec::new();
    }
    let store = ctx.flags();
    let run = &state.run;
    let letters = letters.then(|| format!("dead-letters list --job {run}"));
    let lineage = segments.map(|row| format!("lineage ancestors {}", shell_word(row)));
    [
        format!("runs show {run}"),
        format!("events list --stream {}", millpond::Runs::stream(run)),
        "records query demo_terms --order occurrences --desc --limit 10".to_owned(),
        "records query demo_segments --limit 3".to_owned(),
        format!("metrics nodes {}@{}", begin::WORKFLOW, state.version),
        format!("workflows get {}@{} --yaml", begin::WORKFLOW, state.version),
        format!("checkpoints list {}", begin::scope()),
        format!("artifacts list {} --limit 3", ArtifactKey::of_execution(run)),
        "demo replay".to_owned(),
        "store digest --content".to_owned(),
    ]
    .into_iter()
    .chain(lineage)
    .chain(letters)
    .map(|c| format!("millpond{store} {c}"))
    .collect()
}
