//! A point read that asks for the tail beside one round trip, and one that does not ask.

use std::sync::Arc;

use millpond_core::{Commit, Store};

use super::{Ground, bare, place};
use crate::cases::crowd::Step;
use crate::report::Report;
use crate::rounds::{Figure, Variant, interleave};
use crate::world::Done;

/// The line.
pub fn run(ground: &Ground<'_>, args: &crate::Args, report: &mut Report) -> Done {
    let driver = ground.driver;
    report.heading(&format!("{driver}, one record by key ({driver}.reads)"));
    let (store, _) = ground.runtime.block_on(place::open(&ground.running.store("reads")?, u64::MAX))?;
    let record = serde_json::json!({"status": "x", "ts": 1});
    ground.runtime.block_on(store.commit(Commit::new().put("work", "read", &record)?))?;
    let (fresh, stale) = (reading(&store), reading(&store.stale()));
    let trip = bare::trip(ground)?;
    let mut variants: Vec<Variant<'_>> = vec![
        ("asking for the tail", Box::new(|| micros(ground, args.secs, &fresh))),
        ("stale", Box::new(|| micros(ground, args.secs, &stale))),
    ];
    if let Some(trip) = &trip {
        variants.push(("one round trip of the server's own", Box::new(|| micros(ground, args.secs, trip))));
    }
    let figures = interleave(args.rounds, &mut variants)?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "us"));
    let trip = figures.get(2).map_or(0.0, |(_, f)| f.median);
    report.at_most("asking for the tail - one round trip, us", figures[0].1.median - trip, 100.0);
    Ok(())
}

fn reading(store: &Store) -> Step {
    let store = store.clone();
    Arc::new(move |_| {
        let store = store.clone();
        Box::pin(async move { store.get("work", "read").await.is_ok_and(|found| found.is_some()) })
    })
}

/// Microseconds of a call, the median over some time.
fn micros(ground: &Ground<'_>, secs: f64, call: &Step) -> Done<f64> {
    let begin = std::time::Instant::now();
    let mut times = Vec::new();
    while begin.elapsed().as_secs_f64() < secs || times.len() < 20 {
        let one = std::time::Instant::now();
        if !ground.runtime.block_on(call(0)) {
            return Err("a read failed".into());
        }
        times.push(one.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Figure::of(times).median)
}
