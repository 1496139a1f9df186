//! Callers in a closed loop: one beside one write of the server's own, a thousand beside the SQLite engine.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{Ground, bare, place};
use crate::cases::crowd::{at_once, closed_loop, ours};
use crate::report::Report;
use crate::rounds::{Variant, interleave};
use crate::world::{self, Done};

/// One caller, one record and one event a commit.
pub fn one_caller(ground: &Ground<'_>, args: &crate::Args, report: &mut Report) -> Done {
    let driver = ground.driver;
    report.heading(&format!("{driver}, one caller, one record and one event a commit ({driver}.append1)"));
    let (store, engine) = ground.runtime.block_on(place::open(&ground.running.store("single")?, u64::MAX))?;
    let mine = ours(&store);
    at_once(ground.runtime, 1, 1, &mine)?;
    let before = engine.stats();
    at_once(ground.runtime, 1, 2, &mine)?;
    let bytes = usize::try_from(engine.stats().appended_bytes - before.appended_bytes)?;
    let theirs = bare::write(ground, "single", bytes)?;
    let trip = if driver == "s3" { bare::trip(ground)? } else { None };
    let counter = Arc::new(AtomicU64::new(3));
    let mut variants: Vec<Variant<'_>> =
        vec![("millpond", Box::new(|| closed_loop(ground.runtime, 1, args.secs, &counter, &mine)))];
    if let Some(theirs) = &theirs {
        let name = "one write of the server's own, of the same bytes";
        variants.push((name, Box::new(|| closed_loop(ground.runtime, 1, args.secs, &counter, theirs))));
    }
    if let Some(trip) = &trip {
        variants.push(("one GET of what is not there", Box::new(|| closed_loop(ground.runtime, 1, args.secs, &counter, trip))));
    }
    let figures = interleave(args.rounds, &mut variants)?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "a second"));
    match figures[..] {
        [_] => {}
        [(_, ours), (_, write)] => report.ratio("millpond / one write", ours.median / write.median, 0.55),
        [(_, ours), (_, put), (_, get), ..] => {
            let floor = 1.0 / put.median + 1.0 / get.median;
            report.at_most("time of one commit / (one PUT + one GET)", 1.0 / ours.median / floor, 1.3);
        }
        [] => return Err("nothing was measured".into()),
    }
    report.product(&format!("{driver}.append1"), figures[0].1, "ops/s")
}

/// A thousand callers.
pub fn a_thousand(ground: &Ground<'_>, args: &crate::Args, report: &mut Report) -> Done {
    let driver = ground.driver;
    report.heading(&format!("{driver}, 1,000 callers in a closed loop, beside the SQLite engine ({driver}.loop1000)"));
    let folder = world::folder(args)?;
    let (store, _) = ground.runtime.block_on(place::open(&ground.running.store("crowd")?, u64::MAX))?;
    let sqlite = ground.runtime.block_on(world::store(folder.path(), "ours.db"))?;
    let (mine, theirs) = (ours(&store), ours(&sqlite));
    let counter = Arc::new(AtomicU64::new(1));
    let figures = interleave(
        args.rounds,
        &mut [
            ("millpond", Box::new(|| closed_loop(ground.runtime, 1_000, args.secs, &counter, &mine))),
            ("millpond on SQLite", Box::new(|| closed_loop(ground.runtime, 1_000, args.secs, &counter, &theirs))),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    let (what, ratio) = (format!("{driver} / SQLite"), figures[0].1.median / figures[1].1.median);
    match driver {
        // An object store's round trips are its own; what it can do is the line beside its PUT.
        "s3" => report.shown(&what, ratio),
        _ => report.ratio(&what, ratio, 0.6),
    }
    report.product(&format!("{driver}.loop1000"), figures[0].1, "ops/s")
}
