//! The rules once more, as plainly as they can be said: one commit at a time, on a copy that is kept or thrown away.

use std::collections::BTreeMap;

use millpond_core::{Commit, CommitId, ErrorKind, Expectation, MergeOp, Write};
use serde_json::{Map, Value};

/// What a commit is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Committed { position: u64, revisions: Vec<u64>, sequences: Vec<Vec<u64>>, replayed: bool },
    Conflict,
    Error(ErrorKind),
}

/// Everything that is stored, as text: `record REVISION VALUE` and `stream HEAD OLDEST SEALED IDS`.
pub type Content = BTreeMap<String, String>;

#[derive(Debug, Clone, Default)]
struct Stream {
    /// Every event ever appended: its id.
    events: Vec<Option<String>>,
    trimmed: usize,
    sealed: bool,
}

#[derive(Debug, Clone, Default)]
struct World {
    /// Per record, how often it was changed, and its value now.
    records: BTreeMap<String, (u64, Option<Value>)>,
    streams: BTreeMap<String, Stream>,
    position: u64,
}

/// The world, and what was committed so far.
#[derive(Debug, Default)]
pub struct Model {
    world: World,
    known: BTreeMap<CommitId, (Commit, Answer)>,
}

impl Model {
    /// Decides one commit.
    pub fn commit(&mut self, commit: &Commit) -> Answer {
        let id = commit.id.unwrap();
        if let Some((body, answer)) = self.known.get(&id) {
            if body != commit {
                return Answer::Error(ErrorKind::Invalid);
            }
            let Answer::Committed { position, revisions, sequences, .. } = answer.clone() else { unreachable!() };
            return Answer::Committed { position, revisions, sequences, replayed: true };
        }
        let mut world = self.world.clone();
        match world.live(commit) {
            Ok(answer) => {
                self.world = world;
                self.known.insert(id, (commit.clone(), answer.clone()));
                answer
            }
            Err(refusal) => refusal,
        }
    }

    /// What is stored now.
    pub fn content(&self) -> Content {
        let records = self.world.records.iter().map(|(name, (revision, value))| {
            let value = value.as_ref().map_or("gone".to_owned(), Value::to_string);
            (name.clone(), format!("{revision} {value}"))
        });
        let streams = self.world.streams.iter().map(|(name, s)| {
            let ids: Vec<_> = s.events[s.trimmed..].iter().collect();
            (format!("stream {name}"), format!("{} {} {} {ids:?}", s.events.len(), s.trimmed + 1, s.sealed))
        });
        records.chain(streams).collect()
    }
}

impl World {
    fn live(&mut self, commit: &Commit) -> Result<Answer, Answer> {
        for expectation in &commit.expect {
            if !self.holds(expectation)? {
                return Err(Answer::Conflict);
            }
        }
        let revisions = commit.writes.iter().map(|w| self.write(w)).collect::<Result<_, _>>()?;
        let mut sequences = Vec::new();
        for append in &commit.appends {
            sequences.push(self.append(append.stream.as_str(), &append.events)?);
        }
        for trim in &commit.trims {
            let stream = self.streams.get(trim.stream.as_str()).cloned().unwrap_or_default();
            if stream.sealed || trim.before as usize > stream.events.len() + 1 {
                return Err(Answer::Error(ErrorKind::Invalid));
            }
            if trim.before as usize > stream.trimmed + 1 {
                self.streams.get_mut(trim.stream.as_str()).unwrap().trimmed = trim.before as usize - 1;
            }
        }
        for seal in &commit.seals {
            self.streams.entry(seal.to_string()).or_default().sealed = true;
        }
        Ok(Answer::Committed { position: self.position, revisions, sequences, replayed: false })
    }

    fn holds(&self, expectation: &Expectation) -> Result<bool, Answer> {
        let value = |r: &millpond_core::RecordId| self.records.get(&r.to_string()).filter(|(_, value)| value.is_some());
        Ok(match expectation {
            Expectation::Absent(r) => value(r).is_none(),
            Expectation::Exists(r) => value(r).is_some(),
            Expectation::Revision(r, n) => value(r).is_some_and(|(revision, _)| revision == n),
            Expectation::AtMost(r, path, most) => {
                let document = value(r).and_then(|(_, value)| value.as_ref());
                match document.and_then(|d| d.pointer(path)) {
                    None | Some(Value::Null) => 0 <= *most,
                    Some(found) => found.as_i64().ok_or(Answer::Error(ErrorKind::Invalid))? <= *most,
                }
            }
            Expectation::StreamAt(s, n) => self.streams.get(s.as_str()).map_or(0, |s| s.events.len() as u64) == *n,
            Expectation::Lease(..) => unreachable!("scripts hold no leases"),
        })
    }

    fn write(&mut self, write: &Write) -> Result<u64, Answer> {
        let (record, after) = match write {
            Write::Put(r, json) => (r, Some(json.value().unwrap())),
            Write::Delete(r) => match self.records.get(&r.to_string()) {
                Some((_, Some(_))) => (r, None),
                _ => return Ok(0),
            },
            Write::Merge(r, ops) => {
                let before = self.records.get(&r.to_string()).and_then(|(_, value)| value.clone());
                let mut value = before.unwrap_or_else(|| Value::Object(Map::new()));
                for op in ops {
                    merge(&mut value, op).ok_or(Answer::Error(ErrorKind::Invalid))?;
                }
                (r, Some(value))
            }
            other => unreachable!("scripts hold no {other:?}"),
        };
        let (revision, value) = self.records.entry(record.to_string()).or_default();
        *revision += 1;
        *value = after;
        self.position += 1;
        Ok(*revision)
    }

    fn append(&mut self, name: &str, events: &[millpond_core::NewEvent]) -> Result<Vec<u64>, Answer> {
        let mut placed = Vec::new();
        for event in events {
            let stream = self.streams.get(name).cloned().unwrap_or_default();
            let kept = stream.events.iter().enumerate().skip(stream.trimmed);
            let there = event.id.as_ref().and_then(|id| kept.into_iter().find(|(_, known)| known.as_ref() == Some(id)));
            if let Some((at, _)) = there {
                placed.push(at as u64 + 1);
                continue;
            }
            if stream.sealed {
                return Err(Answer::Conflict);
            }
            let stream = self.streams.entry(name.to_owned()).or_default();
            stream.events.push(event.id.clone());
            placed.push(stream.events.len() as u64);
            self.position += 1;
        }
        Ok(placed)
    }
}

/// Applies one merge; `None` where it cannot be.
fn merge(document: &mut Value, op: &MergeOp) -> Option<()> {
    let mut at = document;
    for name in op.path().trim_start_matches('/').split('/') {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        at = at.as_object_mut()?.entry(name).or_insert(Value::Null);
    }
    let number = |at: &Value| if at.is_null() { Some(None) } else { at.as_i64().map(Some) };
    *at = match op {
        MergeOp::Add(_, n) => Value::from(number(at)?.unwrap_or(0).checked_add(*n)?),
        MergeOp::Min(_, n) => Value::from(number(at)?.map_or(*n, |old| old.min(*n))),
        MergeOp::Max(_, n) => Value::from(number(at)?.map_or(*n, |old| old.max(*n))),
        MergeOp::Set(_, value) => value.value().unwrap(),
        MergeOp::SetIfAbsent(_, value) if at.is_null() => value.value().unwrap(),
        MergeOp::SetIfAbsent(..) => at.clone(),
    };
    Some(())
}
