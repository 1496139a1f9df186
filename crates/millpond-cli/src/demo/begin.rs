//! The parts of commits that are not a stage's own: beginning, resuming, the checkpoint, the end.

use millpond::{Collection, Commit, Document, Key, NewRun, Pond, Query, Records, Result, RunEnd, Store, Write};
use serde::{Deserialize, Serialize};

use super::corpus::Corpus;
use super::documents::{Group, OUTPUTS};
use super::state::{Counts, Stage, State};

/// The workflow that the demo runs.
pub const WORKFLOW: &str = "document-pipeline";
/// Its only version.
pub const VERSION: u32 = 1;
/// Records removed in one commit.
const REMOVED_AT_ONCE: usize = 1_000;

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    state: State,
}

impl Document for Saved {
    const COLLECTION: Collection = Collection::new("demo_state");
    fn key(&self) -> Result<Key> {
        Key::new("state")
    }
}

/// Declares the demo's own collections.
pub async fn declare(store: &Store) -> Result<()> {
    let mut specs = OUTPUTS.iter().map(|c| c.spec()).collect::<Result<Vec<_>>>()?;
    specs.push(Group::COLLECTION.spec()?);
    specs.push(Saved::COLLECTION.spec()?);
    store.declare(&specs).await
}

/// Where the last demo on this store stands, if there was one.
pub async fn saved(pond: &Pond) -> Result<Option<State>> {
    Ok(Records::<Saved>::new(pond.store().clone()).get("state").await?.map(|s| s.value.state))
}

/// Saves where it stands.
pub async fn save_part(_pond: &Pond, state: &State) -> Result<Commit> {
    Ok(Commit::new().write(Records::put(&Saved { state: state.clone() })?))
}

/// The first commit of a run: the workflow if it is not stored yet, the run, the checkpoint.
pub async fn begin_part(pond: &Pond, corpus: &Corpus, last: Option<&State>) -> Result<(State, Commit)> {
    let new = NewRun::of(WORKFLOW, VERSION).tag("demo").input(serde_json::json!({ "corpus": corpus.name() }));
    let (run, part) = pond.runs().start_part(&new).await?;
    let state =
        State { corpus: corpus.name(), run: run.id, stage: Stage::Prepare, step: 0, groups: 0, counts: Counts::default() };
    let mut part = part.and(save_part(pond, &state).await?);
    if let Some(last) = last.filter(|l| l.stage != Stage::Done) {
        let end = RunEnd::cancelled(format!("started over as {}", state.run));
        part = part.and(pond.runs().finish_part(&last.run, end)?);
    }
    Ok((state, part))
}

/// Removes a part of what an earlier run left; `None` when nothing is left.
pub async fn leftovers(store: &Store) -> Result<Option<Commit>> {
    for collection in OUTPUTS.into_iter().chain([&Group::COLLECTION]) {
        let page = store.query(Query::new(collection.name())?.limit(REMOVED_AT_ONCE)).await?;
        if page.items.is_empty() {
            continue;
        }
        let mut part = Commit::new();
        part.writes = page
            .items
            .into_iter()
            .map(|r| Ok(Write::Delete(millpond::RecordId { collection: r.collection, key: r.key })))
            .collect::<Result<_>>()?;
        return Ok(Some(part));
    }
    Ok(None)
}

/// Writes which files each step takes.
pub fn groups_part(groups: &[Group]) -> Result<Commit> {
    let mut part = Commit::new();
    part.writes = groups.iter().map(Records::put).collect::<Result<_>>()?;
    Ok(part)
}

/// The end of a run, part of its last step's commit: the final record and the seal of its log.
pub fn finish_part(pond: &Pond, state: &State) -> Result<Commit> {
    let output = serde_json::to_value(state.counts).unwrap_or_default();
    pond.runs().finish_part(&state.run, RunEnd::completed(output))
}

/// The stored definition, as YAML.
pub async fn definition(_pond: &Pond) -> Result<String> {
    Ok(include_str!("pipeline.yaml").to_owned())
}

/// The run's dead letters, one text each, in an order of their own.
pub async fn letters(_pond: &Pond, _run: &str) -> Result<Vec<String>> {
    Ok(Vec::new())
}
