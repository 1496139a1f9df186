//! `millpond demo replay`: the index stage once more, from what is kept alone. No file is read, and no record of the
//! demo's own collections.
//!
//! ```text
//!  executions/RUN/documents/segment/* ─► replay: one message each ─► the stream demo/AGAIN
//!                                                                        │ read from its beginning
//!  executions/AGAIN/documents/index/* ◄─ a unit each ◄─ index ◄──────────┘
//! ```
//!
//! AGAIN is a run of its own, and its id is the batch of the replay. Killed at any moment, the next one finds both by the
//! checkpoint and goes on.

use std::time::Instant;

use millpond::{
    Artifact, Error, EventFilter, Lease, NewRun, Pond, Replay, ReplayFilter, ReplayRequest, ReplayStatus, Result, RunEnd, Scope,
    Step, StreamName, Versioned,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::begin::{self, WORKFLOW};
use super::documents::Segment;
use super::index::{Index, SHARDS};
use super::keep::{self, Kept, ROUTE};
use super::progress::Progress;
use super::state::{Counts, Stage, State};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, value};
use crate::report;

/// Where its checkpoints are.
const SCOPE: &str = "document-pipeline/replay";

/// Where a replay of the demo stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Again {
    /// The run whose segments are read.
    of: String,
    /// The run that makes the index again; its stage is `index`, or `done`.
    state: State,
}

/// Only what is needed of a message.
#[derive(Debug, Deserialize)]
struct Message {
    key: String,
    version: String,
}

/// Makes the index again, or goes on with it, and compares it with the first one. Exit code 5 when they differ.
///
/// # Errors
/// `Conflict` without a complete demo; `Corrupt`, naming them, when segments are missing or damaged.
pub async fn run(ctx: &Context, pond: &Pond, lease: &Lease) -> Result<Exit> {
    let first = begin::saved(pond).await?;
    let first = first.filter(|state| state.stage == Stage::Done).ok_or_else(|| {
        Error::conflict("this store holds no complete demo, so there is nothing to make an index of again")
            .with_next(format!("run it to its end: millpond{} demo", ctx.flags()))
    })?;
    let again = Replaying { pond, lease: lease.clone(), renewed: Instant::now() }.drive(&first).await?;
    told(ctx, pond, &first, &again).await
}

/// One process's part of it.
struct Replaying<'a> {
    pond: &'a Pond,
    lease: Lease,
    renewed: Instant,
}

impl Replaying<'_> {
    async fn drive(&mut self, first: &State) -> Result<Again> {
        let saved: Option<Again> = self.pond.checkpoints().latest(scope()).await?.map(|c| c.json()).transpose()?;
        let mut again = match saved.filter(|again| again.state.stage != Stage::Done) {
            Some(other) if other.of != first.run => {
                self.give_up(&other, &format!("the demo was started over as {}", first.run)).await?;
                self.begin(first).await?
            }
            Some(again) => {
                report::note(format_args!("going on with run {}, step {}", again.state.run, again.state.step + 1));
                again
            }
            None => self.begin(first).await?,
        };
        let (pond, lease) = (self.pond, self.lease.clone());
        let published = match begin::keeping(pond, &lease, self.publish(&again)).await {
            Ok(published) => published,
            Err(error) => return Err(self.refused(&again, error).await?),
        };
        report::note(format_args!("replay {} put {} messages into {}", published.id, published.published, published.to_stream));
        let index = begin::keeping(pond, &lease, self.read(&published)).await?;
        let mut progress = Progress::new();
        while again.state.stage != Stage::Done {
            progress.at(&again.state);
            again = self.step(&again, &index).await?;
        }
        progress.finish();
        Ok(again)
    }

    /// A run of its own, and the first checkpoint.
    async fn begin(&mut self, first: &State) -> Result<Again> {
        let new = NewRun::of(WORKFLOW, first.version).tag("demo").tag("replay").input(json!({ "replays": first.run }));
        let (run, part) = self.pond.runs().start_part(&new).await?;
        let counts = Counts { terms: 0, ..first.counts };
        let state = State { run: run.id, stage: Stage::Index, step: 0, counts, ..first.clone() };
        let again = Again { of: first.run.clone(), state };
        let mut unit = self.unit();
        unit.part(part).checkpoints(scope()).save(&again);
        unit.commit().await?;
        Ok(again)
    }

    /// Ends one of an earlier demo, whose replay would keep that one pinned.
    async fn give_up(&mut self, other: &Again, reason: &str) -> Result<()> {
        if let Some(replay) = self.begun(other).await?.filter(|replay| !replay.status.is_over()) {
            self.pond.replays().cancel(&replay.id, reason).await?;
        }
        let mut unit = self.unit();
        unit.runs().finish(&other.state.run, RunEnd::cancelled(reason));
        unit.checkpoints(scope()).save(&over(other));
        unit.commit().await.map(drop)
    }

    /// The replay of a batch, if it was begun.
    async fn begun(&self, again: &Again) -> Result<Option<Versioned<Replay>>> {
        let filter = ReplayFilter { batch: Some(again.state.run.clone()), limit: 1, ..ReplayFilter::default() };
        Ok(self.pond.replays().list(&filter).await?.items.into_iter().next())
    }

    /// Every segment as a message, each once, in the order of the keys.
    async fn publish(&self, again: &Again) -> Result<Replay> {
        let replays = self.pond.replays();
        let batch = &again.state.run;
        let id = match self.begun(again).await? {
            Some(replay) => replay.value.id,
            None => {
                let request = ReplayRequest::of(&again.of, ROUTE, Stage::Segment.name(), format!("demo/{batch}"));
                replays.begin(&request.batch(batch)).await?.id
            }
        };
        let replay = replays.resume(&id).await?;
        match replay.status {
            ReplayStatus::Completed => Ok(replay),
            status => Err(Error::conflict(format!("replay {id} is {status}")).with_next("begin anew: millpond demo replay")),
        }
    }

    /// Ends the run of a replay that will never be published, so that the next one begins anew. Any other error leaves
    /// it to be gone on with.
    async fn refused(&mut self, again: &Again, error: Error) -> Result<Error> {
        let begun = self.begun(again).await?;
        if !begun.is_some_and(|replay| matches!(replay.status, ReplayStatus::Refused | ReplayStatus::Cancelled)) {
            return Ok(error);
        }
        let mut unit = self.unit();
        unit.runs().finish(&again.state.run, RunEnd::failed(error.to_string()));
        unit.checkpoints(scope()).save(&over(again));
        unit.commit().await?;
        Ok(error)
    }

    /// The index of what the messages name. It is read whole by each process that goes on: it is in memory only.
    async fn read(&self, replay: &Replay) -> Result<Index> {
        let mut index = Index::new();
        let mut messages = self.pond.events().query(EventFilter::stream(StreamName::new(replay.to_stream.as_str())?));
        let mut read = 0;
        while let Some(event) = messages.next().await? {
            let Message { key, version } = serde_json::from_str(event.data.as_str())
                .map_err(|e| Error::corrupt(format!("a message in {} does not read back: {e}", replay.to_stream)))?;
            let bytes = self.pond.artifacts().read_version(&key, &version).await?;
            for segment in keep::read_lines::<Segment>(&key, &bytes)? {
                index.add(&segment.id(), &segment.text);
            }
            read += 1;
        }
        if read != replay.published {
            return Err(Error::corrupt(format!("{} has {read} of {} messages", replay.to_stream, replay.published))
                .with_next(format!("see which do not read back: millpond events list --stream {}", replay.to_stream)));
        }
        Ok(index)
    }

    /// A part of the index, in one unit.
    async fn step(&mut self, again: &Again, index: &Index) -> Result<Again> {
        let began = Instant::now();
        let state = &again.state;
        let terms = index.shard(state.step);
        let kept = Kept::shard(&state.run, state.step, &terms, keep::all_segments(&again.of))?;
        let counts = Counts { terms: terms.len() as u64, ..Counts::default() };
        let next = Again { of: again.of.clone(), state: state.after_step(counts) };
        let mut unit = self.unit();
        keep::keep(&mut unit, &state.run, &[kept]).await?;
        let step = Step::new(format!("index-{:05}", state.step + 1)).node(state.stage.name()).node_type("TOOL_CALL");
        let outcome = step.clone().took(began.elapsed()).output(json!({ "terms": terms.len() }));
        unit.runs().step_started(&state.run, step).step_completed(&state.run, outcome);
        if next.state.stage == Stage::Done {
            unit.runs().finish(&state.run, RunEnd::completed(value(&next.state.counts)?));
        }
        unit.checkpoints(scope()).save(&next);
        unit.commit().await?;
        Ok(next)
    }

    /// A unit under the lock, which it renews now and then.
    fn unit(&mut self) -> millpond::Unit {
        begin::unit(self.pond, &self.lease, &mut self.renewed)
    }
}

/// The same, with nothing left to be done.
fn over(again: &Again) -> Again {
    Again { of: again.of.clone(), state: State { stage: Stage::Done, ..again.state.clone() } }
}

fn scope() -> Scope {
    Scope::Workflow(SCOPE.to_owned())
}

/// Says how the two indexes compare.
async fn told(ctx: &Context, pond: &Pond, first: &State, again: &Again) -> Result<Exit> {
    let mut different = Vec::new();
    for shard in 0..SHARDS {
        let (one, other) = (keep::shard_key(&first.run, shard), keep::shard_key(&again.state.run, shard));
        let sum = async |key: &str| {
            Ok::<_, Error>(pond.artifacts().info(key).await?.map(|found: Versioned<Artifact>| found.value.sha256))
        };
        let (one, other) = (sum(&one).await?, sum(&other).await?);
        if one.is_none() || one != other {
            different.push(shard);
        }
    }
    let same = SHARDS - different.len() as u64;
    let (run, flags) = (&again.state.run, ctx.flags());
    let look = [
        format!("millpond{flags} replay list --execution {}", first.run),
        format!("millpond{flags} events list --stream demo/{run} --limit 3"),
        format!("millpond{flags} artifacts list executions/{run}/ --limit 3"),
        format!("millpond{flags} lineage ancestors {} --depth 2 --limit 3", keep::shard_key(run, 0)),
    ];
    if ctx.out.is_table() {
        let look =
            if ctx.place().starts_with("memory:") { String::new() } else { format!("look at it:\n  {}\n\n", look.join("\n  ")) };
        output::write(&format!("{look}run {run} made the index of run {} again, from storage alone\n", first.run))?;
        output::write(&format!("{same} of {SHARDS} parts have the same bytes\n"))?;
    } else {
        ctx.out.item(&json!({
            "run": run, "replays": first.run, "parts": SHARDS, "same": same, "different": different, "commands": look,
        }))?;
    }
    Ok(if different.is_empty() { Exit::Ok } else { Exit::Unhealthy })
}
