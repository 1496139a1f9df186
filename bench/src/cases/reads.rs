//! Reads: one record, and all events of a run.

use std::cell::RefCell;
use std::time::Instant;

use millpond_core::{EventFilter, EventQuery, StreamName};

use crate::hand::Hand;
use crate::report::Report;
use crate::rounds::{Figure, interleave, rate};
use crate::world::{self, Done};

const RECORDS: usize = 20_000;
const EVENTS: i64 = 10_000;

/// All lines.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    if report.wants("sqlite.get1") {
        point(args, report)?;
    }
    if report.wants("sqlite.range10k") {
        range(args, report)?;
    }
    Ok(())
}

fn point(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("read one record by key (sqlite.get1)");
    let (folder, runtime) = (world::folder(args)?, world::runtime()?);
    let path = folder.path().join("ours.db");
    let pond = millpond::blocking::open(&format!("sqlite:{}", path.display()))?;
    pond.store().declare(&[world::WORK.spec()?])?;
    for chunk in (1..=RECORDS as u64).collect::<Vec<_>>().chunks(500) {
        let mut commit = millpond_core::Commit::new();
        for n in chunk {
            commit = commit.and(world::step(*n)?);
        }
        pond.commit(commit)?;
    }
    let mut hand = Hand::open(&folder.path().join("hand.db"))?;
    hand.steps(RECORDS)?;
    let store = runtime.block_on(world::store(folder.path(), "ours.db"))?;
    let (n, records) = (RefCell::new(0u64), pond.store());
    let next = || {
        let mut n = n.borrow_mut();
        *n = (*n * 6_364_136 + 1_442_695) % RECORDS as u64;
        format!("k{}", *n + 1)
    };
    let figures = interleave(
        args.rounds,
        &mut [
            (
                "millpond, blocking",
                Box::new(|| rate(args.secs, || records.get("work", &next())?.map(drop).ok_or_else(|| "missing".into()))),
            ),
            (
                "millpond, async",
                Box::new(|| {
                    runtime.block_on(async {
                        let (begin, mut done) = (Instant::now(), 0u64);
                        while begin.elapsed().as_secs_f64() < args.secs {
                            store.get("work", &next()).await?.ok_or("missing")?;
                            done += 1;
                        }
                        Ok(done as f64 / begin.elapsed().as_secs_f64())
                    })
                }),
            ),
            ("by hand", Box::new(|| rate(args.secs, || hand.get(&next())?.map(drop).ok_or_else(|| "missing".into())))),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "reads/s"));
    let (ours, hopped, hand) = (figures[0].1, figures[1].1, figures[2].1);
    report.ratio("millpond, blocking / by hand", ours.median / hand.median, 0.8);
    report.ratio("millpond, async / by hand", hopped.median / hand.median, 0.25);
    hop(args, &pond, &store, &runtime)?;
    report.peer("LangGraph get latest", ours.median, ("langgraph", "sqlite: get latest"), None, false);
    report.peer("Dagster get_run_by_id", ours.median, ("dagster", "sqlite: get_run_by_id"), None, false);
    report.peer("MLflow get_run", ours.median, ("mlflow", "sqlite: get_run"), None, false);
    report.product("sqlite.get1", ours, "ops/s")
}

/// What it costs an async caller that a read goes to another thread: the same small read there and here.
fn hop(
    args: &crate::Args,
    pond: &millpond::blocking::Pond,
    store: &millpond_core::Store,
    runtime: &tokio::runtime::Runtime,
) -> Done {
    let records = pond.store();
    let figures = interleave(
        args.rounds,
        &mut [
            ("here", Box::new(|| rate(args.secs / 2.0, || Ok(records.stream("runs/1").map(drop)?)))),
            ("there", Box::new(|| rate(args.secs / 2.0, || Ok(runtime.block_on(store.stream("runs/1")).map(drop)?)))),
        ],
    )?;
    let (here, there) = (1e6 / figures[0].1.median, 1e6 / figures[1].1.median);
    println!(
        "  a small read on the caller's thread takes {here:.1} us, through another thread {there:.1} us: the hop costs {:.1} us",
        there - here
    );
    println!("  (a record by key is read without it, also by async callers)");
    Ok(())
}

fn range(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("read 10,000 events of a run (sqlite.range10k)");
    let folder = world::folder(args)?;
    let runtime = world::runtime()?;
    let store = runtime.block_on(world::store(folder.path(), "ours.db"))?.inline();
    for _ in 0..EVENTS / 1_000 {
        let events = (0..1_000).map(|_| world::event()).collect::<millpond_core::Result<Vec<_>>>()?;
        runtime.block_on(store.commit(millpond_core::Commit::new().append_all("runs/1", events)?))?;
    }
    let mut hand = Hand::open(&folder.path().join("hand.db"))?;
    hand.events("runs/1", EVENTS)?;
    let first = RefCell::new(Vec::new());
    let ours = || -> Done<f64> {
        let begin = Instant::now();
        let mut query = EventQuery::new(EventFilter::stream(StreamName::new("runs/1")?)).limit(100);
        let mut seen = 0;
        loop {
            let page = runtime.block_on(store.events(query.clone()))?;
            if seen == 0 {
                first.borrow_mut().push(begin.elapsed().as_secs_f64() * 1e3);
            }
            seen += page.items.len();
            let Some(next) = page.next else { break };
            // A small page first, then larger ones.
            query = query.after(Some(next)).limit(2_000);
        }
        if seen as i64 != EVENTS {
            return Err(format!("{seen} events instead of {EVENTS}").into());
        }
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    };
    let figures = interleave(
        args.rounds * 3,
        &mut [
            ("millpond, blocking, in pages", Box::new(ours)),
            (
                "by hand, one statement",
                Box::new(|| {
                    let begin = Instant::now();
                    if hand.range("runs/1")? as i64 != EVENTS {
                        return Err("events are missing".into());
                    }
                    Ok(begin.elapsed().as_secs_f64() * 1e3)
                }),
            ),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "ms"));
    let ours = figures[0].1;
    report.at_most("millpond / by hand", ours.median / figures[1].1.median, 2.0);
    let first = Figure::of(first.into_inner());
    report.at_most("first event, ms", first.median, 5.0);
    report.peer("MLflow get_metric_history", ours.median, ("mlflow", "sqlite: get_metric_history, 10k points"), Some(8.0), true);
    report.peer(
        "Dagster get_records_for_run",
        ours.median,
        ("dagster", "sqlite: get_records_for_run, 10k events"),
        Some(8.0),
        true,
    );
    report.product("sqlite.range10k", ours, "ms")
}
