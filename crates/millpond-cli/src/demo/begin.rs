//! What a demo keeps beside its stages' documents: the workflow, the run, where it stands.

use std::time::{Duration, Instant};

use millpond::{
    Commit, Document, Error, Lease, NewRun, NewWorkflow, Pond, Query, Records, Result, RunEnd, Scope, Store, Unit, Write,
};

use super::corpus::Corpus;
use super::documents::{Group, OUTPUTS};
use super::state::{Counts, Stage, State};

/// The workflow that the demo runs.
pub const WORKFLOW: &str = "document-pipeline";
/// Its definition.
const DEFINITION: &str = include_str!("pipeline.yaml");
/// Who the demo's commits say they are by.
const BY: &str = "millpond demo";
/// Records removed in one commit.
const REMOVED_AT_ONCE: usize = 1_000;

/// The lock that keeps two demos on one store apart.
pub const LOCK: &str = "demo";
/// How long it is held without a sign of life. A holder known to be dead is taken over at once.
pub const LOCK_TTL: Duration = Duration::from_secs(60);

/// A unit under the lock, which it renews now and then.
pub fn unit(pond: &Pond, lease: &Lease, renewed: &mut Instant) -> Unit {
    let mut unit = pond.unit();
    unit.by(BY).fenced_by(lease);
    if renewed.elapsed() > LOCK_TTL / 3 {
        unit.part(pond.locks().renew_part(lease, LOCK_TTL));
        *renewed = Instant::now();
    }
    unit
}

/// Does work that commits nothing for long, while the lock is renewed.
///
/// # Errors
/// `Fenced` once the lock is another's.
pub async fn keeping<T>(pond: &Pond, lease: &Lease, work: impl Future<Output = Result<T>>) -> Result<T> {
    let locks = pond.locks();
    tokio::select! {
        done = work => done,
        lost = locks.keep(lease) => Err(lost.err().unwrap_or_else(|| Error::unavailable("the lock of the demo was lost"))),
    }
}

/// Where the checkpoints are.
pub fn scope() -> Scope {
    Scope::Workflow(WORKFLOW.to_owned())
}

/// Declares the demo's own collections.
///
/// # Errors
/// `Invalid` when a newer program declared them otherwise.
pub async fn declare(store: &Store) -> Result<()> {
    let mut specs = OUTPUTS.iter().map(|c| c.spec()).collect::<Result<Vec<_>>>()?;
    specs.push(Group::COLLECTION.spec()?);
    store.declare(&specs).await
}

/// Where the last demo on this store stands, if there was one: its latest checkpoint.
///
/// # Errors
/// `Corrupt` when it does not read back.
pub async fn saved(pond: &Pond) -> Result<Option<State>> {
    pond.checkpoints().latest(scope()).await?.map(|c| c.json()).transpose()
}

/// A new run: the workflow if this version of it is not stored yet, the run, the first checkpoint. A run that was not
/// finished ends as cancelled in the same unit.
///
/// # Errors
/// What the store fails with.
pub async fn begin(pond: &Pond, unit: &mut Unit, corpus: &Corpus, last: Option<&State>) -> Result<State> {
    let version = workflow(pond, unit).await?;
    let new = NewRun::of(WORKFLOW, version).tag("demo").input(serde_json::json!({ "corpus": corpus.name() }));
    let (run, part) = pond.runs().start_part(&new).await?;
    unit.part(part);
    if let Some(last) = last.filter(|l| l.stage != Stage::Done) {
        unit.runs().finish(&last.run, RunEnd::cancelled(format!("started over as {}", run.id)));
    }
    let state = State {
        corpus: corpus.name(),
        run: run.id,
        version,
        stage: Stage::Prepare,
        step: 0,
        groups: 0,
        counts: Counts::default(),
    };
    unit.checkpoints(scope()).save(&state);
    Ok(state)
}

/// The version of the workflow whose definition is this program's; stored by the unit if it is not there yet.
async fn workflow(pond: &Pond, unit: &mut Unit) -> Result<u32> {
    let new = NewWorkflow::from_yaml(DEFINITION)?.author("millpond demo");
    let latest = pond.workflows().latest(WORKFLOW).await?;
    if let Some(same) = latest.filter(|l| l.definition == new.definition) {
        return Ok(same.version);
    }
    let (part, version) = pond.workflows().store_part(&new.next()).await?;
    unit.part(part.trusted());
    Ok(version.version)
}

/// The definition of a run's workflow, as YAML.
///
/// # Errors
/// `NotFound` when that version was deleted.
pub async fn definition(pond: &Pond, state: &State) -> Result<String> {
    pond.workflows().require(WORKFLOW, state.version).await?.to_yaml()
}

/// Removes a part of what an earlier run left; `None` when nothing is left.
///
/// # Errors
/// What the store fails with.
pub async fn leftovers(store: &Store) -> Result<Option<Commit>> {
    for collection in OUTPUTS.into_iter().chain([&Group::COLLECTION]) {
        let page = store.query(Query::new(collection.name())?.limit(REMOVED_AT_ONCE)).await?;
        // What does not read back would be left out of the list and stay for ever.
        if let Some(damaged) = page.damaged.first() {
            return Err(Error::corrupt(format!("{} does not read back: {}", damaged.what, damaged.why)));
        }
        if !page.items.is_empty() {
            let mut part = Commit::new();
            part.writes = page
                .items
                .into_iter()
                .map(|r| Write::Delete(millpond::RecordId { collection: r.collection, key: r.key }))
                .collect();
            return Ok(Some(part));
        }
    }
    Ok(None)
}

/// Writes which files each step takes.
///
/// # Errors
/// `Invalid` when a group cannot be kept.
pub fn groups_part(groups: &[Group]) -> Result<Commit> {
    let mut part = Commit::new();
    part.writes = groups.iter().map(Records::put).collect::<Result<_>>()?;
    Ok(part)
}
