//! A write of bytes that are at hand: one commit, and whatever ends it, it happened or nothing of it is left.
//!
//! `units.rs` ends it at each of its calls, `units_random` runs it beside units, `units_model` has it in every interleaving.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millpond::{
    CollectRequest, CommitId, Document as _, Engine, ErrorKind, Front, Host, ManualHost, Namespace, NewArtifact, Only, Pond,
    Query, Store, Timestamp, UnitInfo, UnitState,
};
use millpond_conformance::ReferencePlace;
use millpond_conformance::faults::{Fault, Faults, FaultyEngine};
use millpond_objects::{Listed, Location, Memory, Note, Objects, Writing};

type Meanwhile = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = millpond::Result<()>> + Send>> + Send>;

/// Bytes in memory; the next put is followed by something else before it is answered.
#[derive(Clone, Default)]
struct Place {
    memory: Memory,
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.memory.fmt(f)
    }
}

#[async_trait::async_trait]
impl Objects for Place {
    fn place(&self) -> &str {
        self.memory.place()
    }
    async fn put(&self, at: &Location, bytes: Bytes, note: Option<&Note>) -> millpond::Result<()> {
        self.memory.put(at, bytes, note).await?;
        let meanwhile = self.meanwhile.lock().unwrap().take();
        match meanwhile {
            Some(meanwhile) => meanwhile().await,
            None => Ok(()),
        }
    }
    async fn begin(&self, at: &Location, note: Option<&Note>) -> millpond::Result<Box<dyn Writing>> {
        self.memory.begin(at, note).await
    }
    async fn read(&self, at: &Location, range: Range<u64>) -> millpond::Result<Option<Bytes>> {
        self.memory.read(at, range).await
    }
    async fn length(&self, at: &Location) -> millpond::Result<Option<u64>> {
        self.memory.length(at).await
    }
    async fn remove(&self, at: &Location) -> millpond::Result<()> {
        self.memory.remove(at).await
    }
    async fn list(&self, after: Option<&Location>, most: usize) -> millpond::Result<Vec<Listed>> {
        self.memory.list(after, most).await
    }
    async fn address(&self, at: &Location, lasting: Duration) -> millpond::Result<String> {
        self.memory.address(at, lasting).await
    }
}

#[derive(Clone)]
struct World {
    host: Arc<ManualHost>,
    pond: Pond,
    /// Another process, which meets no faults.
    sight: Pond,
    place: Place,
    calls: Faults,
}

async fn world() -> World {
    world_with(Faults::at(u64::MAX, Fault::Refused)).await
}

/// The calls of opening it, and of its first write, count.
async fn world_with(calls: Faults) -> World {
    let host = Arc::new(ManualHost::at(Timestamp::parse("2026-01-05T09:00:00Z").unwrap()));
    let reference = ReferencePlace::new().host(Arc::<ManualHost>::clone(&host) as Arc<dyn Host>);
    let place = Place::default();
    let opened = async |engine: Arc<dyn Engine>| {
        let store = Store::open(Arc::new(Front::new(engine)), Namespace::default()).await.unwrap();
        Pond::new(store).await.unwrap().with_objects(Arc::new(place.clone()))
    };
    let pond = opened(Arc::new(FaultyEngine::new(Arc::new(reference.engine()), calls.clone()))).await;
    let sight = opened(Arc::new(reference.engine())).await;
    let world = World { host, pond, sight, place: place.clone(), calls };
    world.write("k", "before").await.unwrap();
    world
}

impl World {
    async fn write(&self, key: &str, text: &'static str) -> millpond::Result<()> {
        self.pond.artifacts().write(key, text, NewArtifact::default()).await.map(drop)
    }

    async fn read(&self, key: &str) -> Bytes {
        self.sight.artifacts().read(key).await.unwrap()
    }

    /// What happens after the next bytes arrived, and before that is said.
    fn meanwhile<F: Future<Output = millpond::Result<()>> + Send + 'static>(
        &self,
        what: impl FnOnce(Self) -> F + Send + 'static,
    ) {
        let this = self.clone();
        *self.place.meanwhile.lock().unwrap() = Some(Box::new(move || Box::pin(what(this))));
    }

    async fn objects(&self) -> usize {
        self.place.list(None, 1_000).await.unwrap().len()
    }

    /// The units that have a record.
    async fn units(&self) -> Vec<UnitInfo> {
        let found = self.sight.store().query(Query::new(UnitInfo::COLLECTION.name()).unwrap().limit(100)).await.unwrap();
        found.items.iter().map(|unit| unit.value.decode().unwrap()).collect()
    }

    /// Nothing came of it, and nothing of it is left: neither bytes nor a record.
    async fn is_as_before(&self) {
        assert_eq!((self.read("k").await, self.objects().await), ("before".into(), 1));
        assert_eq!(self.units().await, []);
    }
}

#[tokio::test]
async fn it_is_one_commit_and_one_upload() {
    let world = world().await;
    let before = world.calls.calls_by_name();
    world.write("k", "after").await.unwrap();
    let made = |name: &str| world.calls.calls_by_name().get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0);
    assert_eq!((made("commit"), world.objects().await), (1, 2));
    assert_eq!((world.read("k").await, world.units().await), ("after".into(), vec![]));
    for owned in ["artifact_claims", "unit_operations"] {
        assert_eq!(world.pond.store().count(Query::new(owned).unwrap()).await.unwrap(), 0, "{owned}");
    }
}

/// What is longer than one call writes is registered, so that others can see what it leaves if it ends.
#[tokio::test]
async fn what_is_long_is_a_unit() {
    let world = world().await;
    let long = vec![1; (4 << 20) + 1];
    world.pond.artifacts().write("long", long, NewArtifact::default()).await.unwrap();
    let units = world.units().await;
    assert_eq!(units.iter().map(|unit| unit.state).collect::<Vec<_>>(), [UnitState::Committed], "{units:?}");
}

#[tokio::test]
async fn a_path_that_a_unit_has_is_not_written() {
    let world = world().await;
    let mut unit = world.pond.unit();
    unit.artifacts().put("k", "the unit's").await.unwrap();
    let refused = world.write("k", "after").await.unwrap_err();
    let said: Vec<_> = refused.context().map(|(name, _)| name).collect();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert!(said.contains(&"holder") && said.contains(&"unit") && said.contains(&"path"), "{refused:?}");
    assert_eq!((world.read("k").await, world.objects().await, world.units().await.len()), ("before".into(), 2, 1));
    unit.commit().await.unwrap();
    assert_eq!(world.read("k").await, "the unit's");
    world.write("k", "after").await.unwrap();
}

/// A unit takes the path while the bytes are on their way: it was free when that was looked at.
#[tokio::test]
async fn a_unit_that_comes_meanwhile_is_not_written_over() {
    let world = world().await;
    let unit = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&unit);
    world.meanwhile(async move |world| {
        let mut unit = world.pond.unit();
        unit.artifacts().put("k", "the unit's").await?;
        *kept.lock().unwrap() = Some(unit);
        Ok(())
    });
    let refused = world.write("k", "after").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert!(refused.context().any(|(name, _)| name == "holder"), "{refused:?}");
    assert_eq!((world.read("k").await, world.objects().await), ("before".into(), 2), "its bytes, and the unit's");
    let aborted: Vec<UnitInfo> = world.units().await.into_iter().filter(|unit| unit.state == UnitState::Aborted).collect();
    assert_eq!(aborted.len(), 1, "the decision was sent, so there is a record that it came to nothing");
    assert!(aborted[0].reason.as_ref().unwrap().contains("is being worked on"), "{aborted:?}");
    let shown = world.pond.units().get(&aborted[0].id).await.unwrap().unwrap();
    let operations: Vec<_> = shown.operations.iter().map(|o| (o.path.as_str(), o.status_in(shown.unit.state).as_str())).collect();
    assert_eq!(operations, [("k", "COMPENSATED")]);

    // Its id is good for nothing else.
    let mut again = world.pond.unit();
    again.id(CommitId::parse(&aborted[0].id).unwrap());
    let taken = again.artifacts().put("other", "x").await.unwrap_err();
    assert!(taken.to_string().contains("was aborted"), "{taken}");
    let mut of_events = world.pond.unit();
    of_events.id(CommitId::parse(&aborted[0].id).unwrap());
    of_events.events("audit").append("never", &1);
    let taken = of_events.commit().await.unwrap_err();
    assert!(taken.to_string().contains("was aborted"), "{taken}");
    let unit = unit.lock().unwrap().take().unwrap();
    unit.commit().await.unwrap();
    assert_eq!(world.read("k").await, "the unit's");
}

/// A unit in the way whose time has run out is undone first, also one that came meanwhile.
#[tokio::test]
async fn a_unit_that_died_makes_way() {
    for comes_meanwhile in [false, true] {
        let world = world().await;
        let dies = async |world: World| {
            let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let pond = world.pond.clone();
            let died = process.spawn(async move {
                let mut unit = pond.unit();
                unit.artifacts().put("k", "never").await.unwrap();
                std::mem::forget(unit);
            });
            died.await.unwrap();
            process.shutdown_background();
            world.host.advance(Duration::from_secs(31));
            Ok(())
        };
        if comes_meanwhile {
            world.meanwhile(dies);
        } else {
            dies(world.clone()).await.unwrap();
        }
        world.write("k", "after").await.unwrap();
        assert_eq!((world.read("k").await, world.objects().await), ("after".into(), 2), "meanwhile: {comes_meanwhile}");
        let states: Vec<UnitState> = world.units().await.iter().map(|unit| unit.state).collect();
        assert_eq!(states, [UnitState::Aborted], "meanwhile: {comes_meanwhile}");
    }
}

/// The collector takes bytes of a unit that nobody knows, when they are old enough; the decision hears of it.
#[tokio::test]
async fn what_the_collector_took_is_not_decided() {
    let world = world().await;
    world.meanwhile(async |world| {
        let request = CollectRequest { remove: true, ..CollectRequest::default() };
        assert_eq!(world.pond.units().collect(&request).await?.unused, 0, "it is younger than the grace");
        world.host.advance(Duration::from_secs(2 * 60 * 60));
        assert_eq!(world.pond.units().collect(&request).await?.removed, 1);
        Ok(())
    });
    let refused = world.write("k", "after").await.unwrap_err();
    assert!(refused.is_conflict() && refused.to_string().contains("collector"), "{refused}");
    assert_eq!((world.read("k").await, world.objects().await), ("before".into(), 1));
    world.write("k", "after").await.unwrap();
}

/// The decision is sent, nobody hears of it, and it arrives a minute later. The second sending is refused, because a unit
/// has the path by then; the unit gives it back, so that nothing but the abort is in the way of the first one.
#[tokio::test(start_paused = true)]
async fn a_decision_that_comes_after_the_abort_is_refused() {
    let quiet = world().await;
    let opening = quiet.calls.calls();
    let mut late = 0;
    for call in 1..8 {
        let faults = Faults::at(opening + call, Fault::Late).late(Duration::from_secs(60));
        let world = world_with(faults).await;
        let unit = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&unit);
        // After the first sending, before the second.
        let other = world.clone();
        let comes = async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut unit = other.sight.unit();
            if unit.artifacts().put("k", "the unit's").await.is_ok() {
                *kept.lock().unwrap() = Some(unit);
            }
        };
        let (written, ()) = tokio::join!(world.write("k", "after"), comes);
        let unit = unit.lock().unwrap().take();
        if let Some(unit) = unit {
            unit.rollback().await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
        let is_late = world.calls.met().keys().any(|(name, fault)| *name == "commit" && *fault == Fault::Late);
        late += u32::from(is_late && written.as_ref().is_err_and(millpond::Error::is_conflict));
        let expected = if written.is_ok() { "after" } else { "before" };
        if !written.as_ref().is_err_and(|error| error.kind() == ErrorKind::UnknownOutcome) {
            assert_eq!(world.read("k").await, expected, "call {call}: {written:?}");
            assert_eq!(world.objects().await, 1 + usize::from(written.is_ok()), "call {call}: {written:?}");
        }
    }
    assert!(late > 0, "no decision came late");
}

/// Its caller is dropped while nobody knows what became of the decision: it is aborted in the background, once it can be.
#[tokio::test(start_paused = true)]
async fn who_drops_it_unheard_leaves_what_was_decided_or_nothing() {
    let opening = world().await.calls.calls();
    let mut met = 0;
    for (call, fault) in (1..6).flat_map(|call| [Fault::Late, Fault::AnswerLost, Fault::RequestLost].map(|fault| (call, fault))) {
        let world = world_with(Faults::at(opening + call, fault).late(Duration::from_secs(60))).await;
        let written = tokio::time::timeout(Duration::from_millis(20), world.write("k", "after")).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        met += u32::from(written.is_err());
        let read = world.read("k").await;
        let named = world.sight.store().count(Query::new("artifact_versions").unwrap()).await.unwrap();
        assert_eq!(named, if read == "after" { 2 } else { 1 }, "call {call} {fault:?}");
        // Bytes are there for whatever is read; of what was not decided none, unless they came late.
        assert!(world.objects().await <= 2, "call {call} {fault:?}");
        if written.is_err() && read == "before" {
            assert_eq!(world.objects().await, 1, "call {call} {fault:?}");
        }
    }
    assert!(met > 0, "nobody was dropped in the middle");
}

/// The bytes were moved elsewhere in the meantime: what is written to the old place would be missing.
#[tokio::test]
async fn a_place_that_is_moved_meanwhile_refuses_it() {
    let world = world().await;
    let mut unit = world.pond.unit();
    unit.artifacts().put("other", "the unit's").await.unwrap();
    world.meanwhile(async |world| {
        let moved = serde_json::json!({"place": "memory:elsewhere"});
        let commit = millpond::Commit::new().trusted().put("objects_place", "place", &moved)?;
        world.sight.store().commit(commit).await.map(drop)
    });
    let of_the_write = world.write("k", "after").await.unwrap_err();
    let of_the_unit = unit.commit().await.unwrap_err();
    for refused in [of_the_write, of_the_unit] {
        assert!(refused.is_conflict() && refused.next().is_some_and(|next| next.contains("moved")), "{refused:?}");
    }
    assert_eq!(world.objects().await, 1);
}

#[tokio::test]
async fn bytes_that_fail_to_arrive_are_not_left() {
    let world = world().await;
    world.meanwhile(async |_| Err(millpond::Error::unavailable("no answer")));
    let failed = world.write("k", "after").await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed}");
    world.is_as_before().await;
}

#[tokio::test]
async fn who_drops_it_leaves_nothing() {
    let world = world().await;
    world.meanwhile(|_| std::future::pending());
    let writing = world.write("k", "after");
    let there = async {
        while world.objects().await < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        written = writing => panic!("it ended: {written:?}"),
        () = there => {}
    }
    let gone = async {
        while world.objects().await > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("its bytes are removed");
    world.is_as_before().await;
}

#[tokio::test]
async fn its_condition_holds_before_the_bytes_and_after_them() {
    let world = world().await;
    let at = world.pond.artifacts().info("k").await.unwrap().unwrap().revision;
    let only = |only: Only| NewArtifact { only, ..NewArtifact::default() };
    for (key, condition) in [("k", Only::New), ("k", Only::Revision(at + 7)), ("none", Only::Revision(at))] {
        let refused = world.pond.artifacts().write(key, "after", only(condition)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{key} {condition:?}: {refused}");
        world.is_as_before().await;
    }
    world.pond.artifacts().write("k", "second", only(Only::Revision(at))).await.unwrap();
    world.pond.artifacts().write("new", "first", only(Only::New)).await.unwrap();
    // Somebody else writes it while the bytes are on their way.
    for (key, condition) in [("late", Only::New), ("k", Only::Revision(at + 1))] {
        let at = world.pond.artifacts().info(key).await.unwrap().map_or(at, |found| found.revision);
        let condition = if condition == Only::New { condition } else { Only::Revision(at) };
        world.meanwhile(async move |world| world.write(key, "somebody's").await);
        let refused = world.pond.artifacts().write(key, "after", only(condition)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{key}: {refused}");
        assert_eq!(world.read(key).await, "somebody's");
    }
    assert_eq!(world.units().await.iter().filter(|unit| unit.state == UnitState::Aborted).count(), 2);
    assert_eq!(world.objects().await, 5, "before, second, first, and somebody's two");
}
