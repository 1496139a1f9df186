//! Many callers at once, one durable commit each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Ground, bare, place};
use crate::cases::crowd::{at_once, ours};
use crate::report::Report;
use crate::rounds::{Figure, Variant, interleave};
use crate::world::{self, Done};

const CALLERS: u64 = 10_000;
/// Writes that carry a burst in as few messages as the smallest usual limit of a server, 1 MB, takes.
const LARGE: u64 = 10;

/// Ten thousand at once, beside as many pipelined writes of the server's own and beside the same bytes in a few; files
/// beside the SQLite engine.
pub fn ten_thousand(ground: &Ground<'_>, args: &crate::Args, report: &mut Report) -> Done {
    let (driver, runtime) = (ground.driver, ground.runtime);
    if driver == "s3" {
        return Ok(());
    }
    report.heading(&format!("{driver}, 10,000 callers at once, one durable commit each ({driver}.burst10k)"));
    let folder = world::folder(args)?;
    let (store, engine) = runtime.block_on(place::open(&ground.running.store("burst")?, u64::MAX))?;
    let mine = ours(&store);
    let counter = AtomicU64::new(1);
    let next = || counter.fetch_add(CALLERS, Ordering::Relaxed);
    let before = engine.stats().appended_bytes;
    at_once(runtime, CALLERS, next(), &mine)?;
    let bytes = usize::try_from((engine.stats().appended_bytes - before) / CALLERS)?;
    let sqlite = ours(&runtime.block_on(world::store(folder.path(), "ours.db"))?);
    let in_large = CALLERS / LARGE;
    let single = bare::write(ground, "burst", bytes)?;
    let large = bare::write(ground, "large", bytes * usize::try_from(in_large)?)?;
    let mut variants: Vec<Variant<'_>> = vec![("millpond", Box::new(|| at_once(runtime, CALLERS, next(), &mine)))];
    match (&single, &large) {
        (Some(single), Some(large)) => {
            let name = "10,000 pipelined writes of the server's own";
            variants.push((name, Box::new(|| at_once(runtime, CALLERS, next(), single))));
            let name = "the same bytes in 10 pipelined writes";
            variants.push((name, Box::new(|| Ok(at_once(runtime, LARGE, next(), large)? * in_large as f64))));
        }
        _ => variants.push(("millpond on SQLite", Box::new(|| at_once(runtime, CALLERS, next(), &sqlite)))),
    }
    let figures = interleave(args.rounds, &mut variants)?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    let ours = figures[0].1;
    if driver == "file" {
        report.ratio("file / SQLite", ours.median / figures[1].1.median, 0.8);
    } else {
        report.ratio("millpond / 10,000 writes", ours.median / figures[1].1.median, 0.3);
        report.shown("millpond / the same bytes in 10", ours.median / figures[2].1.median);
    }
    report.product(&format!("{driver}.burst10k"), ours, "ops/s")
}

/// Entries of a thousand concurrent commits, which on an object store are its PUTs.
pub fn puts(ground: &Ground<'_>, args: &crate::Args, report: &mut Report) -> Done {
    let driver = ground.driver;
    report.heading(&format!("{driver}, 1,000 concurrent commits ({driver}.puts1000)"));
    let (store, engine) = ground.runtime.block_on(place::open(&ground.running.store("puts")?, u64::MAX))?;
    let (mine, counter) = (ours(&store), Arc::new(AtomicU64::new(1)));
    let (mut entries, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let before = engine.stats().appended;
        rates.push(at_once(ground.runtime, 1_000, counter.fetch_add(1_000, Ordering::Relaxed), &mine)?);
        entries.push((engine.stats().appended - before) as f64);
    }
    report.figure("1,000 at once", Figure::of(rates), "commits/s");
    report.at_most("entries of 1,000 commits, the most of a round", Figure::of(entries).max, 4.99);
    Ok(())
}
