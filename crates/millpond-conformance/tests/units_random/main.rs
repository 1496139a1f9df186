//! Units of several workers at once, under lost answers, ends of processes and jumps of the clock, against one order.
//!
//! ```text
//!   world.rs     one store, one place for bytes, and processes, each with faults of its own
//!   worker.rs    units, looks, recoveries and collections, as a seed has them
//!   history.rs   what everybody was told and saw; the order of the receipts has to explain it
//! ```
//!
//! Time is the runtime's, which stands still while anybody can go on: a seed has one run, on every machine.
//!
//!     MILLPOND_UNITS_SEED=17 cargo test -p millpond-conformance --test units_random       one seed
//!     MILLPOND_UNITS_SEEDS=5000 cargo test -p millpond-conformance --test units_random    so many, from 1
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod history;
mod worker;
mod world;

use std::sync::Arc;
use std::time::Duration;

use millpond::CollectRequest;
use tokio::sync::Mutex;

use crate::history::Tally;
use crate::worker::Worker;
use crate::world::World;

/// Seeds that are tried if nobody says which.
const SEEDS: u64 = 150;
/// Processes, and workers of each.
const PROCESSES: u64 = 2;
const WORKERS: u64 = 2;
/// After this long everything that came late has come, and every lease that nobody renews has run out.
const LONG: Duration = Duration::from_secs(600);

async fn run(seed: u64) -> Tally {
    let world = Arc::new(World::new(seed).await);
    let mut working = Vec::new();
    for at in 0..PROCESSES {
        let process = Arc::new(Mutex::new(world.process().await));
        for worker in 0..WORKERS {
            let name = format!("{at}.{worker}");
            let worker = Worker { world: Arc::clone(&world), process: Arc::clone(&process), name, written: 0 };
            working.push(tokio::spawn(worker.work()));
        }
    }
    for worker in working {
        worker.await.unwrap();
    }
    tokio::time::sleep(LONG).await;
    let recovered = world.sight.units().recover().await.unwrap();
    assert_eq!(recovered.left, [""; 0], "units that nobody can be working on");
    let request = CollectRequest { remove: true, grace: Duration::ZERO };
    world.sight.units().collect(&request).await.unwrap();
    let history = std::mem::take(&mut *world.history.lock().unwrap());
    history.check(&world).await
}

#[test]
fn every_seed_has_one_order_that_explains_it() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seeds = match number("MILLPOND_UNITS_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("MILLPOND_UNITS_SEEDS").unwrap_or(SEEDS),
    };
    let mut tally = Tally::default();
    for seed in seeds.clone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed))));
        match done {
            Ok(done) => tally += done,
            Err(_) => panic!("seed {seed} failed; MILLPOND_UNITS_SEED={seed} repeats it"),
        }
    }
    println!("seeds {seeds:?}: {tally:?}");
    assert!(
        seeds.start() == seeds.end() || tally.committed > 100 && tally.refused > 10 && tally.looks > 50,
        "{tally:?}: too few"
    );
}
