//! One store and one place for bytes, and the processes that share them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millpond::{Engine, Front, Host, Namespace, Pond, Position, Store, Timestamp};
use millpond_conformance::ReferencePlace;
use millpond_conformance::faults::{Fault, Faults, FaultyEngine, FaultyObjects};
use tokio::time::Instant;

use crate::history::History;
use millpond_conformance::random::Random;
use millpond_objects::Memory;

/// Time as the runtime has it, which a test may let jump; numbers that a counter decides.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    jumped: AtomicI64,
    counter: AtomicU64,
}

impl Clock {
    fn new() -> Self {
        Self { began: Instant::now(), jumped: 0.into(), counter: 1.into() }
    }

    /// Everybody's clock jumps: leases run out whose holders live.
    pub(crate) fn jump(&self, by: Duration) {
        self.jumped.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Host for Clock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_micros()).unwrap() + self.jumped.load(Ordering::SeqCst);
        Timestamp::parse("2026-01-05T09:00:00Z").unwrap().plus(Duration::from_micros(passed.unsigned_abs()))
    }

    fn random(&self) -> u128 {
        let n = self.counter.fetch_add(1, Ordering::SeqCst);
        (u128::from(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64) | u128::from(n)
    }
}

/// A process: its own handle on the store, its own connections, its own faults.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pond: Pond,
    pub(crate) faults: Faults,
}

/// Everything that processes share.
#[derive(Debug)]
pub(crate) struct World {
    place: ReferencePlace,
    pub(crate) clock: Arc<Clock>,
    pub(crate) memory: Memory,
    /// A handle that meets no faults and takes no time: how the test itself looks.
    pub(crate) sight: Pond,
    pub(crate) history: Mutex<History>,
    pub(crate) random: Mutex<Random>,
}

impl World {
    pub(crate) async fn new(seed: u64) -> Self {
        let clock = Arc::new(Clock::new());
        let place = ReferencePlace::new().host(Arc::<Clock>::clone(&clock) as Arc<dyn Host>);
        let memory = Memory::default();
        let sight = Pond::new(store(Arc::new(place.engine())).await).await.unwrap().with_objects(Arc::new(memory.clone()));
        Self { place, clock, memory, sight, history: Mutex::default(), random: Mutex::new(Random::new(seed)) }
    }

    /// A process that begins.
    pub(crate) async fn process(&self) -> Process {
        let seed = self.below(u64::from(u32::MAX));
        let kinds = [Fault::Refused, Fault::RequestLost, Fault::AnswerLost, Fault::Late];
        let faults =
            Faults::seeded(seed).one_in(24).of_kinds(&kinds).slow(Duration::from_millis(8)).late(Duration::from_secs(40));
        loop {
            let engine = FaultyEngine::new(Arc::new(self.place.engine()), faults.clone());
            let opened = Store::open(Arc::new(Front::new(Arc::new(engine))), Namespace::default()).await;
            let Ok(store) = opened else { continue };
            let Ok(pond) = Pond::new(store).await else { continue };
            let objects = FaultyObjects::new(Arc::new(self.memory.clone()), faults.clone());
            return Process { pond: pond.with_objects(Arc::new(objects)), faults };
        }
    }

    pub(crate) async fn head(&self) -> Position {
        self.sight.store().head().await.unwrap()
    }

    /// A number below `n`.
    pub(crate) fn below(&self, n: u64) -> u64 {
        self.random.lock().unwrap().below(n)
    }

    /// True once in so many times.
    pub(crate) fn once_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

async fn store(engine: Arc<dyn Engine>) -> Store {
    Store::open(Arc::new(Front::new(engine)), Namespace::default()).await.unwrap()
}
