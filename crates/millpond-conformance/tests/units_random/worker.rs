//! One worker: units and looks as a seed has them, until it has done enough.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use millpond::{
    ArtifactFilter, CollectRequest, CommitId, Document as _, ErrorKind, NewArtifact, OperationStatus, PathClaim, Result, Unit,
    UnitArtifacts, UnitState, uuid_v7,
};
use millpond_objects::Sums;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::history::{Content, Look, Script, Seen, Told};
use crate::world::{Process, World};

/// The artifacts that everybody wants.
const PATHS: [&str; 4] = ["a/1", "a/2", "b/1", "b/2"];
/// What a worker does before it is done.
const TURNS: u64 = 8;

/// What a unit did so far, also if whoever did it is given up in the middle.
type Noted = std::sync::Mutex<Script>;

/// The digest by which contents are told apart.
pub(crate) fn content(bytes: &Bytes) -> Content {
    Sums::of(bytes).sha256.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A worker of a process that is begun anew when it has ended.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Mutex<Process>>,
    pub(crate) name: String,
    pub(crate) written: u64,
}

impl Worker {
    pub(crate) async fn work(mut self) {
        for _ in 0..TURNS {
            let process = self.process.lock().await.clone();
            match self.world.below(16) {
                0..7 => self.unit(&process).await,
                7..11 => self.write_alone(&process).await,
                11 | 12 => self.look(&process).await,
                13 => drop(process.pond.units().recover().await),
                14 => {
                    let request = CollectRequest { remove: true, grace: Duration::from_millis(self.world.below(50)) };
                    drop(process.pond.units().collect(&request).await);
                }
                _ => self.world.clock.jump(Duration::from_secs(31)),
            }
        }
    }

    fn path(&self) -> &'static str {
        PATHS[usize::try_from(self.world.below(4)).unwrap()]
    }

    /// Bytes that nobody else writes.
    fn bytes(&mut self) -> Bytes {
        self.written += 1;
        format!("{}.{}", self.name, self.written).into()
    }

    async fn write_alone(&mut self, process: &Process) {
        let (path, bytes) = (self.path(), self.bytes());
        let artifacts = process.pond.artifacts();
        let patience = if self.world.once_in(4) { self.world.below(40) } else { 1 << 20 };
        let writing = artifacts.write(path, bytes.clone(), NewArtifact::default());
        let error = match timeout(Duration::from_millis(patience), writing).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.kind()),
            // Dropped in the middle: it may have happened.
            Err(_) => Some(ErrorKind::UnknownOutcome),
        };
        self.world.history.lock().unwrap().alone.push((path.to_owned(), content(&bytes), error));
    }

    /// Reads one artifact or lists them all, without a unit.
    async fn look(&self, process: &Process) {
        let from = self.world.head().await;
        let artifacts = process.pond.artifacts();
        let seen = if self.world.once_in(2) {
            let path = self.path();
            found(artifacts.read(path).await).map(|found| Seen::One(path.to_owned(), found))
        } else {
            let page = artifacts.list(&ArtifactFilter::default()).await;
            page.ok().map(|page| {
                let all = page.items.into_iter().map(|item| (item.value.key.clone(), item.value.sha256)).collect();
                Seen::All(all, BTreeMap::new())
            })
        };
        self.saw(from, seen).await;
    }

    async fn saw(&self, from: millpond::Position, seen: Option<Seen>) {
        let to = self.world.head().await;
        if let Some(seen) = seen {
            self.world.history.lock().unwrap().looks.push(Look { from, to, seen });
        }
    }

    /// A unit of some operations, and one of its ends.
    async fn unit(&mut self, process: &Process) {
        let commit = CommitId::from_uuid(uuid_v7(process.pond.store().host())).unwrap();
        let id = commit.to_string();
        let mut unit = process.pond.unit();
        unit.id(commit);
        if self.world.once_in(3) {
            unit.wait(Duration::from_millis(self.world.below(400)));
        }
        let script =
            Noted::new(Script { effects: BTreeMap::new(), was_there: Vec::new(), lost_bytes: false, told: Told::Nothing });
        let patience = if self.world.once_in(8) { self.world.below(60) } else { 1 << 20 };
        let working = self.operations(&id, &mut unit, &script);
        let is_cancelled = timeout(Duration::from_millis(patience), working).await.is_err();
        let told = match self.world.below(12) {
            // Dropped without a word.
            _ if is_cancelled => Told::Nothing,
            0 => Told::Nothing,
            1 => {
                let _ = unit.rollback().await;
                Told::Refused(ErrorKind::Conflict)
            }
            2 => {
                // The process ends.
                process.faults.end();
                *self.process.lock().await = self.world.process().await;
                let _ = unit.commit().await;
                Told::Nothing
            }
            3 => match timeout(Duration::from_millis(self.world.below(40)), unit.commit()).await {
                Ok(committed) => told(&committed),
                Err(_) => Told::Nothing,
            },
            _ => told(&unit.commit().await),
        };
        let script = Script { told, ..script.into_inner().unwrap() };
        self.world.history.lock().unwrap().units.insert(id, script);
    }

    async fn operations(&mut self, id: &str, unit: &mut Unit, script: &Noted) {
        let artifacts = unit.artifacts();
        for _ in 0..=self.world.below(4) {
            let patience = if self.world.once_in(8) { self.world.below(30) } else { 1 << 20 };
            let one = self.operation(id, &artifacts, script);
            // What is given up in the middle is no part of the unit.
            let _ = timeout(Duration::from_millis(patience), one).await;
        }
    }

    async fn operation(&mut self, id: &str, artifacts: &UnitArtifacts, script: &Noted) {
        match self.world.below(10) {
            0..4 => {
                let (path, bytes) = (self.path(), self.bytes());
                self.put(id, artifacts, script, path, bytes, 1 << 20).await;
            }
            4 | 5 => self.put_together(id, artifacts, script).await,
            6 => {
                let path = self.path();
                if let Ok(was_there) = artifacts.delete(path).await {
                    match note(script, path, None) {
                        Some(own) => assert_eq!(own.is_some(), was_there, "a unit deletes what it wrote itself: {path}"),
                        None => script.lock().unwrap().was_there.push((path.to_owned(), was_there)),
                    }
                }
            }
            7 => {
                let (from, to) = (self.path(), self.path());
                if let Ok(copy) = artifacts.copy(from, to).await {
                    note(script, to, Some(copy.sha256));
                }
            }
            8 => self.read_inside(artifacts, script).await,
            _ => self.list_inside(artifacts, script).await,
        }
    }

    /// Several at once, which are registered together; one of them may be given up.
    async fn put_together(&mut self, id: &str, artifacts: &UnitArtifacts, script: &Noted) {
        let first = self.world.below(4);
        let all: Vec<(&'static str, Bytes, u64)> = (first..4)
            .map(|at| {
                let patience = if self.world.once_in(4) { self.world.below(30) } else { 1 << 20 };
                (PATHS[usize::try_from(at).unwrap()], self.bytes(), patience)
            })
            .collect();
        let this = &*self;
        let put = |(path, bytes, patience): &(&'static str, Bytes, u64)| {
            this.put(id, artifacts, script, path, bytes.clone(), *patience)
        };
        join_all(all.iter().map(put)).await;
    }

    /// Writes one artifact, or gives up waiting for that.
    async fn put(&self, id: &str, artifacts: &UnitArtifacts, script: &Noted, path: &'static str, bytes: Bytes, patience: u64) {
        let written = content(&bytes);
        let putting = async { artifacts.put(path, bytes).await };
        if let Ok(Ok(_)) = timeout(Duration::from_millis(patience), putting).await {
            note(script, path, Some(written));
            self.is_claimed(id, path).await;
        }
    }

    /// What a unit put is registered, and its path is nobody else's, as long as the unit is pending.
    async fn is_claimed(&self, id: &str, path: &str) {
        // The unit is looked at last: if it is pending then, it was when its claim was looked at.
        let claims = self.world.sight.store().get(PathClaim::COLLECTION.name(), path).await.unwrap();
        let unit = self.world.sight.units().get(id).await.unwrap().unwrap();
        if unit.unit.state != UnitState::Pending {
            return;
        }
        let holder = claims.map(|claim| claim.value.value().unwrap()["unit"].clone());
        assert_eq!(holder, Some(id.into()), "who has {path}, which unit {id} wrote: {unit:?}");
        let is_registered = |o: &millpond::UnitOperation| o.path == path && o.status == OperationStatus::Pending;
        assert!(unit.operations.iter().any(is_registered), "unit {id} wrote {path} without an operation: {unit:?}");
    }

    async fn read_inside(&self, artifacts: &UnitArtifacts, script: &Noted) {
        let path = self.path();
        let from = self.world.head().await;
        let read = artifacts.read(path).await;
        let own = script.lock().unwrap().effects.get(path).cloned();
        match (own, found_or_gone(read)) {
            (Some(own), Ok(Some(found))) => assert_eq!(own, found, "a unit reads what it made of {path}"),
            (None, Ok(Some(found))) => self.saw(from, Some(Seen::One(path.to_owned(), found))).await,
            // It was undone by somebody else: it will not be committed.
            (Some(_), Err(_)) => script.lock().unwrap().lost_bytes = true,
            (None, Err(error)) => panic!("{path} was read: {error}"),
            (_, Ok(None)) => {}
        }
    }

    async fn list_inside(&self, artifacts: &UnitArtifacts, script: &Noted) {
        let from = self.world.head().await;
        let Ok(page) = artifacts.list("", 100, None).await else { return };
        let own = script.lock().unwrap().effects.clone();
        let seen = page.into_iter().map(|artifact| (artifact.key, artifact.sha256)).collect();
        self.saw(from, Some(Seen::All(seen, own))).await;
    }
}

/// Notes what a unit made of a path, and answers what it had made of it before.
fn note(script: &Noted, path: &str, made: Option<Content>) -> Option<Option<Content>> {
    script.lock().unwrap().effects.insert(path.to_owned(), made)
}

fn told(committed: &Result<millpond::Receipt>) -> Told {
    match committed {
        Ok(receipt) => Told::Committed(receipt.position),
        Err(error) if error.kind() == ErrorKind::UnknownOutcome => Told::Nothing,
        Err(error) => Told::Refused(error.kind()),
    }
}

/// What was found, or that nothing was; `None` when the question was not answered.
fn found(read: Result<Bytes>) -> Option<Option<Content>> {
    found_or_gone(read).unwrap_or_else(|error| panic!("{error}"))
}

/// The same, or that bytes were gone.
fn found_or_gone(read: Result<Bytes>) -> Result<Option<Option<Content>>> {
    match read {
        Ok(bytes) => Ok(Some(Some(content(&bytes)))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(None)),
        Err(error) if error.kind() == ErrorKind::Corrupt => Err(error),
        Err(_) => Ok(None),
    }
}
