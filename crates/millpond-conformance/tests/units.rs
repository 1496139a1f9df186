//! Units that end at any of their calls, in any way, and recoveries that end at any of their own: all or nothing.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millpond::{
    Body, CHECKPOINT_BYTES, CollectRequest, DeadLetteredItem, Document as _, Engine, ErrorKind, ErrorType, FailureDetail, Front,
    Host, ManualHost, Namespace, NewArtifact, NewCheckpoint, OperationKind, OperationStatus, PathClaim, Payload, Pond, Query,
    Record, Scope, StepToUndo, Store, Timestamp, UnitInfo, UnitState,
};
use millpond_conformance::ReferencePlace;
use millpond_conformance::faults::{Fault, Faults, FaultyEngine, FaultyObjects};
use millpond_objects::{Folder, Listed, Location, Note, Objects, Writing};
use serde_json::json;

/// Longer than what of a stream is written at once, so that it goes in pieces.
const LONG: usize = (1 << 20) + 10;

/// How a call ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// This call fails, and the next ones do not: refused, timed out before it happened, timed out after.
    Unheard(Fault),
    /// The store is gone from this call on, with it or before it; the program hears that.
    StoreGone(Fault),
    /// The process ends with the call.
    Killed(Fault),
}

const ENDS: [End; 7] = [
    End::Unheard(Fault::Refused),
    End::Unheard(Fault::RequestLost),
    End::Unheard(Fault::AnswerLost),
    End::StoreGone(Fault::RequestLost),
    End::StoreGone(Fault::AnswerLost),
    End::Killed(Fault::RequestLost),
    End::Killed(Fault::AnswerLost),
];

impl End {
    fn at(self, call: u64) -> Faults {
        match self {
            Self::Unheard(fault) => Faults::at(call, fault),
            Self::StoreGone(fault) | Self::Killed(fault) => Faults::ending_at(call, fault),
        }
    }
}

/// Where a world begins: made once, copied for each run.
struct Base {
    folder: tempfile::TempDir,
    place: ReferencePlace,
    /// Calls of opening a store.
    opening: u64,
}

struct World {
    folder: tempfile::TempDir,
    host: Arc<ManualHost>,
    place: ReferencePlace,
    /// Which steps were compensated, each time anew.
    compensated: Arc<Mutex<Vec<i64>>>,
}

/// A folder that takes no time to flush: what files promise is another test's concern.
fn in_memory() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn clock() -> Arc<ManualHost> {
    Arc::new(ManualHost::at(Timestamp::parse("2026-01-05T09:00:00Z").unwrap()))
}

impl Base {
    async fn new() -> Self {
        let world = World { folder: in_memory(), host: clock(), place: ReferencePlace::new(), compensated: Arc::default() };
        let world = World { place: world.place.host(Arc::<ManualHost>::clone(&world.host) as Arc<dyn Host>), ..world };
        let pond = world.pond(None).await;
        for key in ["k", "gone", "source"] {
            pond.artifacts().write(key, format!("{key} before"), NewArtifact::default()).await.unwrap();
        }
        let faults = Faults::at(u64::MAX, Fault::Refused);
        world.pond(Some(&faults)).await;
        Self { folder: world.folder, place: world.place, opening: faults.calls() }
    }

    fn world(&self) -> World {
        let (folder, host) = (in_memory(), clock());
        for part in std::fs::read_dir(self.folder.path()).unwrap() {
            let part = part.unwrap();
            std::fs::create_dir(folder.path().join(part.file_name())).unwrap();
            for file in std::fs::read_dir(part.path()).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), folder.path().join(part.file_name()).join(file.file_name())).unwrap();
            }
        }
        let place = self.place.copied().host(Arc::<ManualHost>::clone(&host) as Arc<dyn Host>);
        World { folder, host, place, compensated: Arc::default() }
    }
}

impl World {
    async fn pond(&self, faults: Option<&Faults>) -> Pond {
        let engine: Arc<dyn Engine> = Arc::new(self.place.engine());
        let objects: Arc<dyn Objects> = Arc::new(Folder::new(self.folder.path()).unwrap());
        let none = Faults::at(u64::MAX, Fault::Refused);
        let faults = faults.unwrap_or(&none).clone();
        let engine = Arc::new(FaultyEngine::new(engine, faults.clone()));
        let objects = Arc::new(FaultyObjects::new(objects, faults).named("the folder of this world"));
        let store = Store::open(Arc::new(Front::new(engine)), Namespace::default()).await.unwrap();
        let pond = Pond::new(store).await.unwrap().with_objects(objects);
        let compensated = Arc::clone(&self.compensated);
        pond.units().compensations().register("undo", move |step: StepToUndo| {
            compensated.lock().unwrap().push(step.args["n"].as_i64().unwrap());
            async { Ok(()) }
        });
        pond
    }

    /// Who heard why a short put failed, and lives, has removed its bytes; the collector is for the others.
    async fn whoever_hears_leaves_nothing(&self, done: &Result<(), ErrorKind>, what: &str) {
        if !matches!(done, Err(ErrorKind::UnknownOutcome)) {
            let objects = Folder::new(self.folder.path()).unwrap().list(None, 1_000).await.unwrap();
            assert_eq!(objects.len(), 3 + usize::from(done.is_ok()), "{what}: objects");
        }
    }

    /// Everything is as before, or everything is as after; what the caller was told is true; and nothing is left over.
    /// Up to `lives` processes had worked on it, one after the other.
    async fn check(&self, work: Work, done: &Result<(), ErrorKind>, lives: usize, what: &str) {
        let pond = self.pond(None).await;
        let artifacts = pond.artifacts();
        let (mut before, mut after) = (true, true);
        for (key, old, new) in work.keys() {
            let found = match artifacts.read(key).await {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => panic!("{what}: {key}: {error}"),
            };
            before &= found == old;
            after &= found == new;
        }
        if work.writes_records() {
            let head = pond.store().stream("audit").await.unwrap().map_or(0, |stream| stream.head);
            let record = pond.store().get("notes", "n").await.unwrap();
            before &= head == 0 && record.is_none();
            after &= head == 1 && record.is_some();
        }
        match work {
            Work::Checkpoint => {
                let latest = pond.checkpoints().latest(&scope()).await.unwrap();
                before &= latest.is_none();
                after &= latest.is_some_and(|found| found.payload == Payload::Bytes(longer()));
            }
            Work::DeadLetter => {
                let letter = pond.dead_letters().get("job", "i1").await.unwrap();
                before &= letter.is_none();
                after &= letter.is_some_and(|found| found.value.item.item_data == letter_data());
            }
            _ => {}
        }
        assert!(before != after, "{what}: half of it happened");
        match done {
            Ok(()) => assert!(after, "{what}: it was said to have happened"),
            Err(ErrorKind::UnknownOutcome) => {}
            Err(kind) => assert!(before, "{what}: it was said not to have happened: {kind:?}"),
        }
        let all = async |collection: &str| -> Vec<Record> {
            pond.store().query(Query::new(collection).unwrap().limit(1_000)).await.unwrap().items
        };
        assert!(all(PathClaim::COLLECTION.name()).await.is_empty(), "{what}: claims");
        let mut undone = BTreeSet::new();
        for unit in all(UnitInfo::COLLECTION.name()).await {
            let detail = pond.units().get(unit.key.as_str()).await.unwrap().unwrap();
            assert!(matches!(detail.unit.state, UnitState::Committed | UnitState::Aborted), "{what}: {detail:?}");
            let over = |o: &millpond::UnitOperation| o.status != OperationStatus::Pending;
            assert!(detail.operations.iter().all(over), "{what}: {detail:?}");
            let steps = detail.operations.iter().filter(|o| o.kind == OperationKind::Step);
            undone.extend(steps.filter(|o| o.status == OperationStatus::Compensated).map(|o| o.path.clone()));
        }
        // Whoever compensated may have ended before that was noted: then the next one does it again, and nobody does it a
        // second time. No step is undone again once the one before it was begun with.
        let compensated = self.compensated.lock().unwrap().clone();
        assert!(compensated.is_sorted_by(|a, b| a >= b), "{what}: compensated as {compensated:?}");
        for n in 1..=2 {
            let times = compensated.iter().filter(|step| **step == n).count();
            let expected = if undone.contains(&step(n)) { 1..=lives } else { 0..=0 };
            assert!(expected.contains(&times), "{what}: step {n} was compensated {times} times in {lives} lives: {undone:?}");
        }
        let compared = pond.units().reconcile(10).await.unwrap();
        assert_eq!((compared.missing_in_all, compared.unused.unused), (0, 0), "{what}: {compared:?}");
        // A collection sees only what is below its floor, so the objects are counted, too.
        let versions = [all("artifact_versions").await, all("payload_objects").await].concat();
        let named: BTreeSet<String> =
            versions.iter().filter_map(|v| v.value.value().unwrap()["location"].as_str().map(str::to_owned)).collect();
        let objects = Folder::new(self.folder.path()).unwrap().list(None, 1_000).await.unwrap();
        let kept: BTreeSet<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
        assert_eq!(kept, named, "{what}: objects, and what names them");
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Bytes at hand: one commit.
    Write,
    Stream,
    Delete,
    Copy,
    /// Puts, a delete, a copy, two steps outside, an event and a record, committed together.
    Unit,
    /// The same, rolled back.
    Rollback,
    /// A checkpoint whose payload is an object.
    Checkpoint,
    /// A dead letter whose data is an object.
    DeadLetter,
}

const WORKS: [Work; 8] =
    [Work::Write, Work::Stream, Work::Delete, Work::Copy, Work::Unit, Work::Rollback, Work::Checkpoint, Work::DeadLetter];

impl Work {
    /// The keys it touches, with what a reader finds before and after.
    fn keys(self) -> Vec<(&'static str, Option<Bytes>, Option<Bytes>)> {
        let (k, gone, source) = (Bytes::from("k before"), Bytes::from("gone before"), Bytes::from("source before"));
        let new = Bytes::from("after");
        match self {
            Self::Write => vec![("k", Some(k), Some(new))],
            Self::Stream => vec![("k", Some(k), Some(long()))],
            Self::Delete => vec![("gone", Some(gone), None)],
            Self::Copy => vec![("copy", None, Some(source))],
            Self::Checkpoint | Self::DeadLetter => Vec::new(),
            Self::Unit | Self::Rollback => vec![
                ("k", Some(k), Some(new.clone())),
                ("new", None, Some(new)),
                ("gone", Some(gone), None),
                ("copy", None, Some(source)),
            ],
        }
    }

    fn writes_records(self) -> bool {
        matches!(self, Self::Unit | Self::Rollback)
    }

    /// Recovers what is left of it. A short put leaves nothing that a recovery knows of, only bytes: they are the
    /// collector's, when they are old enough.
    async fn recovered(self, world: &World, faults: Option<&Faults>) -> millpond::Result<()> {
        let units = world.pond(faults).await.units();
        units.recover().await?;
        if self == Self::Write {
            world.host.advance(Duration::from_secs(2 * 60 * 60));
            units.collect(&CollectRequest { remove: true, ..CollectRequest::default() }).await?;
        }
        Ok(())
    }

    async fn done(self, pond: &Pond) -> Result<(), ErrorKind> {
        let artifacts = pond.artifacts();
        let done = match self {
            Self::Write => artifacts.write("k", "after", NewArtifact::default()).await.map(drop),
            Self::Stream => {
                let pieces = [long().slice(..LONG - 5), long().slice(LONG - 5..)].map(Ok);
                let body = Body::stream(futures_util::stream::iter(pieces));
                artifacts.write("k", body, NewArtifact::default()).await.map(drop)
            }
            Self::Delete => artifacts.delete("gone").await.map(drop),
            Self::Copy => artifacts.copy("source", "copy").await.map(drop),
            Self::Unit | Self::Rollback => whole(pond, self == Self::Unit).await,
            Self::Checkpoint => pond.checkpoints().save_new(scope(), NewCheckpoint::bytes(longer())).await.map(drop),
            Self::DeadLetter => {
                let failure = FailureDetail::of(Timestamp::from_micros(0), ErrorType::Timeout, "slow");
                let item = DeadLetteredItem::of("i1", letter_data(), failure);
                pond.dead_letters().add("job", item).await.map(drop)
            }
        };
        done.map_err(|error| error.kind())
    }
}

fn long() -> Bytes {
    static BYTES: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| (0..LONG).map(|n| (n % 251) as u8).collect::<Vec<_>>().into()).clone()
}

/// What a checkpoint does not keep in records.
fn longer() -> Vec<u8> {
    vec![7; CHECKPOINT_BYTES + 1]
}

/// What a dead letter does not keep in its record.
fn letter_data() -> serde_json::Value {
    json!("x".repeat(LONG))
}

fn scope() -> Scope {
    Scope::Run("r".to_owned())
}

/// What a step of a whole unit is called.
fn step(n: i64) -> String {
    format!("outside {n}")
}

async fn whole(pond: &Pond, commits: bool) -> millpond::Result<()> {
    let mut unit = pond.unit();
    let artifacts = unit.artifacts();
    let (k, new) = tokio::join!(artifacts.put("k", "after").into_future(), artifacts.put("new", "after").into_future());
    k.and(new)?;
    unit.step(&step(1), "undo", &json!({"n": 1})).await?;
    artifacts.delete("gone").await?;
    unit.step(&step(2), "undo", &json!({"n": 2})).await?;
    artifacts.copy("source", "copy").await?;
    unit.events("audit").append("unit.done", &json!({}));
    unit.part(millpond::Commit::new().put("notes", "n", &json!({"n": 1}))?);
    if commits {
        unit.commit().await.map(drop)
    } else {
        unit.rollback().await?;
        // Nothing happened, which is what was asked for.
        Err(millpond::Error::invalid("it was rolled back"))
    }
}

impl Base {
    /// Whether the fault was met by the work, and by the recovery.
    async fn run(&self, work: Work, (call, end): (u64, End), recovery: Option<(u64, End)>) -> (bool, bool) {
        let world = self.world();
        let faults = end.at(self.opening + call);
        let done = work.done(&world.pond(Some(&faults)).await).await;
        // What is undone in the background, as after an error, ends before the clock goes on.
        tokio::task::yield_now().await;
        let done = if matches!(end, End::Killed(_)) && !faults.met().is_empty() { Err(ErrorKind::UnknownOutcome) } else { done };
        let (mut met, mut lives) = (false, 2);
        if let Some((call, end)) = recovery {
            world.host.advance(Duration::from_secs(31));
            let faults = end.at(self.opening + call);
            let _ = work.recovered(&world, Some(&faults)).await;
            met = !faults.met().is_empty();
            lives += 1;
        }
        if work == Work::Write && recovery.is_none() && matches!(end, End::Unheard(_)) {
            world.whoever_hears_leaves_nothing(&done, &format!("{work:?}, call {call} {end:?}")).await;
        }
        // Those that a recovery had taken have to run out, too.
        world.host.advance(Duration::from_secs(61));
        work.recovered(&world, None).await.unwrap();
        world.check(work, &done, lives, &format!("{work:?}, call {call} {end:?}, recovery {recovery:?}")).await;
        (!faults.met().is_empty(), met)
    }
}

// Pauses between tries take no time: the clock of the runtime goes on whenever everything waits.
#[tokio::test(start_paused = true)]
async fn all_or_nothing_whatever_ends_where() {
    let base = Base::new().await;
    let (mut pairs, mut with_recovery) = (0, 0);
    for work in WORKS {
        let mut steps = 0;
        for end in ENDS {
            for call in 1.. {
                assert!(call < 200, "it never ends");
                let (met, _) = base.run(work, (call, end), None).await;
                if !met {
                    steps = steps.max(call - 1);
                    break;
                }
                pairs += 1;
                // The other ends of a recovery's calls are those of the two simplest works. A large checkpoint is undone as a
                // large dead letter is, and takes longer.
                let short = matches!(work, Work::Write | Work::Delete);
                let long = work == Work::Checkpoint;
                for recovery in ENDS.into_iter().filter(|end| short || !long && matches!(end, End::Killed(_))) {
                    for at in 1.. {
                        assert!(at < 200, "it never ends");
                        if !base.run(work, (call, end), Some((at, recovery))).await.1 {
                            break;
                        }
                        with_recovery += 1;
                    }
                }
            }
        }
        println!("{work:?}: {steps} calls");
    }
    println!("{pairs} pairs of call and end, all of them; {with_recovery} with a recovery that ended at a call of its own");
    assert!(pairs >= 250 && with_recovery >= 3_000, "{pairs} pairs, {with_recovery} with a recovery: too few to tell");
}

/// What is registered at once is registered together, however many ask.
#[tokio::test]
async fn a_hundred_puts_at_once_are_three_commits() {
    let base = Base::new().await;
    let world = base.world();
    let faults = Faults::at(u64::MAX, Fault::Refused);
    let pond = world.pond(Some(&faults)).await;
    let before = faults.calls_by_name();
    let mut unit = pond.unit();
    let artifacts = unit.artifacts();
    let puts = (0..100).map(|n| artifacts.put(format!("many/{n:03}"), format!("number {n}")).into_future());
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    unit.commit().await.unwrap();
    let made = |name: &str| faults.calls_by_name().get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0);
    println!("100 puts at once: {} commits, {} uploads", made("commit"), made("objects.put"));
    assert_eq!((made("commit"), made("objects.put")), (3, 100), "two registrations and the one that decides");
    assert_eq!(pond.artifacts().read("many/007").await.unwrap(), "number 7");
}

/// Removing takes longer than the lease lasts: whoever undoes renews it until the last object is gone.
#[tokio::test(start_paused = true)]
async fn undoing_keeps_its_lease_until_the_last_object_is_gone() {
    let base = Base::new().await;
    let world = base.world();
    let slow = Arc::new(Slow { folder: Folder::new(world.folder.path()).unwrap() });
    let pond = world.pond(None).await.with_objects(slow);
    let mut unit = pond.unit();
    for n in 0..40 {
        unit.artifacts().put(format!("many/{n}"), "x").await.unwrap();
    }
    let id = unit.unit_id().unwrap().to_owned();
    let other = world.pond(None).await;
    let looks = async {
        // The three rounds of removals take two minutes and a half. The store's clock goes with the runtime's.
        for _ in 0..12 {
            for _ in 0..12 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                world.host.advance(Duration::from_secs(1));
            }
            let seen = other.units().recover().await.unwrap();
            assert_eq!((seen.left.as_slice(), seen.undone.len()), (std::slice::from_ref(&id), 0), "{seen:?}");
        }
    };
    let (undone, ()) = tokio::join!(unit.rollback(), looks);
    undone.unwrap();
    assert_eq!(other.units().get(&id).await.unwrap().unwrap().unit.state, UnitState::Aborted);
}

/// A folder that takes fifty seconds to remove something.
#[derive(Debug)]
struct Slow {
    folder: Folder,
}

#[async_trait::async_trait]
impl Objects for Slow {
    fn place(&self) -> &str {
        "the folder of this world"
    }
    async fn put(&self, at: &Location, bytes: Bytes, note: Option<&Note>) -> millpond::Result<()> {
        self.folder.put(at, bytes, note).await
    }
    async fn begin(&self, at: &Location, note: Option<&Note>) -> millpond::Result<Box<dyn Writing>> {
        self.folder.begin(at, note).await
    }
    async fn read(&self, at: &Location, range: Range<u64>) -> millpond::Result<Option<Bytes>> {
        self.folder.read(at, range).await
    }
    async fn length(&self, at: &Location) -> millpond::Result<Option<u64>> {
        self.folder.length(at).await
    }
    async fn remove(&self, at: &Location) -> millpond::Result<()> {
        tokio::time::sleep(Duration::from_secs(50)).await;
        self.folder.remove(at).await
    }
    async fn list(&self, after: Option<&Location>, most: usize) -> millpond::Result<Vec<Listed>> {
        self.folder.list(after, most).await
    }
    async fn address(&self, at: &Location, lasting: Duration) -> millpond::Result<String> {
        self.folder.address(at, lasting).await
    }
}
