//! Which artifacts a replay is about, in the order of their keys by bytes, and whether each can be had.

use std::collections::BTreeMap;

use futures_util::stream::{StreamExt as _, iter};
use millpond_core::{Answer, Document, ErrorKind, KEY_FIELD, Key, Query, Read, Records, Result, Store};

use super::model::{PlannedMessage, ProblemKind, Replay, ReplayProblem};
use super::request::ReplayRequest;
use crate::{Artifact, Artifacts};

/// Objects that are looked at side by side.
const TOGETHER: usize = 4;
/// Bytes of the words about one problem.
const WORDS: usize = 500;

/// Which artifacts.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    execution: String,
    route: String,
    stage: String,
    prefix: String,
}

impl From<&ReplayRequest> for Selection {
    fn from(request: &ReplayRequest) -> Self {
        let ReplayRequest { execution, route, stage, .. } = request.clone();
        Self { execution, route, stage, prefix: request.prefix() }
    }
}

impl From<&Replay> for Selection {
    fn from(replay: &Replay) -> Self {
        let Replay { execution, route, stage, prefix, .. } = replay.clone();
        Self { execution, route, stage, prefix }
    }
}

/// Some of them, looked at.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Those that are present and intact, or all that were listed where nothing is wrong.
    pub(super) messages: Vec<PlannedMessage>,
    /// Those that are not.
    pub(super) problems: Vec<ReplayProblem>,
    /// The last key of them, whatever is wrong with it; `None` when there was none.
    pub(super) last: Option<String>,
}

impl Selection {
    fn takes(&self, artifact: &Artifact) -> bool {
        let provenance = &artifact.provenance;
        artifact.key.starts_with(&self.prefix)
            && provenance.execution.as_ref() == Some(&self.execution)
            && provenance.route.as_ref() == Some(&self.route)
            && provenance.stage.as_ref() == Some(&self.stage)
    }

    fn below(&self) -> Result<Query> {
        Ok(Query::new(Artifact::COLLECTION.name())?.prefix(KEY_FIELD, self.prefix.as_str()))
    }

    fn query(&self) -> Result<Query> {
        let query = self.below()?.eq("execution", self.execution.as_str());
        Ok(query.eq("route", self.route.as_str()).eq("stage", self.stage.as_str()))
    }

    /// How many artifacts have keys that begin the same and are not of the selection.
    pub(super) async fn left_out(&self, store: &Store) -> Result<u64> {
        let (below, taken) = (store.count(self.below()?).await?, store.count(self.query()?).await?);
        Ok(below.saturating_sub(taken))
    }

    /// The next artifacts after a key, at most `limit`, each looked at.
    ///
    /// # Errors
    /// What the store or the place of the bytes fails with; that an object is missing or damaged is an answer.
    pub(super) async fn look(&self, artifacts: &Artifacts, after: Option<&str>, limit: usize, read_data: bool) -> Result<Looked> {
        let query = self.query()?.limit(limit);
        let after = after.map(|after| Ok::<_, millpond_core::Error>(query.cursor_after(None, &Key::new(after)?))).transpose()?;
        let page = Records::<Artifact>::new(artifacts.store().clone()).page(query.after(after)).await?;
        let mut looked = Looked { last: page.items.last().map(|item| item.value.key.clone()), ..Looked::default() };
        // A page of nothing but damage still goes on behind it.
        looked.last = looked.last.max(page.next.as_ref().map(|next| next.key.as_str().to_owned()));
        for damaged in page.damaged {
            let key = damaged.what.split_once('/').map_or(damaged.what.as_str(), |(_, key)| key).to_owned();
            // Looked at, too: it is not found again, and it is not the end.
            looked.last = looked.last.max(Some(key.clone()));
            looked.problems.push(ReplayProblem { key, kind: ProblemKind::Unreadable, why: shortened(&damaged.why) });
        }
        let looking = page.items.into_iter().map(|item| async move {
            let problem = problem_of(artifacts, &item.value, read_data).await?;
            Ok::<_, millpond_core::Error>((item.value, problem))
        });
        let mut looking = iter(looking.collect::<Vec<_>>()).buffered(TOGETHER);
        while let Some(done) = looking.next().await {
            match done? {
                (artifact, None) => looked.messages.push(PlannedMessage::of(&artifact)),
                (_, Some(problem)) => looked.problems.push(problem),
            }
        }
        Ok(looked)
    }

    /// Which of the expected keys are not there as artifacts of the selection, with what is there instead.
    pub(super) async fn absent(&self, store: &Store, expected: &[String]) -> Result<BTreeMap<String, String>> {
        let mut absent = BTreeMap::new();
        for keys in expected.chunks(millpond_core::limits::READS) {
            let reads = keys.iter().map(|key| Ok(Read::Get(Records::<Artifact>::id(key)?))).collect::<Result<Vec<_>>>()?;
            for (key, answer) in keys.iter().zip(store.read(reads).await?) {
                let Answer::Record(Some(record)) = answer else {
                    absent.insert(key.clone(), "there is no such artifact".to_owned());
                    continue;
                };
                // One that does not read back is found, and told, where everything is looked at.
                if let Ok(artifact) = record.value.decode::<Artifact>()
                    && !self.takes(&artifact)
                {
                    let why = "its record says that it belongs to another execution, route or stage";
                    absent.insert(key.clone(), why.to_owned());
                }
            }
        }
        Ok(absent)
    }
}

async fn problem_of(artifacts: &Artifacts, artifact: &Artifact, read_data: bool) -> Result<Option<ReplayProblem>> {
    let Err(error) = artifacts.verify(artifact, read_data).await else { return Ok(None) };
    if error.kind() != ErrorKind::Corrupt {
        return Err(error);
    }
    if artifacts.purged_since(artifact).await? {
        let why = "it was deleted or written anew, and this version purged, while it was looked at: look again".to_owned();
        return Ok(Some(ReplayProblem { key: artifact.key.clone(), kind: ProblemKind::Absent, why }));
    }
    let objects = artifacts.objects().await?;
    let is_there = objects.length(&artifact.location.parse()?).await?.is_some();
    let kind = if is_there { ProblemKind::Damaged } else { ProblemKind::Missing };
    let facts: Vec<String> = error.context().filter(|(name, _)| *name != "key").map(|(n, v)| format!("{n}: {v}")).collect();
    let why = [vec![error.message().to_owned()], facts].concat().join(", ");
    Ok(Some(ReplayProblem { key: artifact.key.clone(), kind, why: shortened(&why) }))
}

/// Cut where a character ends.
fn shortened(words: &str) -> String {
    words[..words.floor_char_boundary(WORDS)].to_owned()
}
