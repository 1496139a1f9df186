//! Many events in one commit, and the making of a run.

use std::cell::RefCell;

use millpond_core::Commit;

use crate::hand::Hand;
use crate::report::Report;
use crate::rounds::{Figure, interleave, rate};
use crate::world::{self, Done};

/// All lines.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    for (count, item) in [(100, "sqlite.append100"), (1_000, "sqlite.append1000")] {
        if report.wants(item) {
            events(args, report, count, item)?;
        }
    }
    if report.wants("sqlite.create_run") {
        create_run(args, report)?;
    }
    Ok(())
}

fn events(args: &crate::Args, report: &mut Report, count: usize, item: &'static str) -> Done {
    report.heading(&format!("{count} events a commit ({item})"));
    let folder = world::folder(args)?;
    let pond = millpond::blocking::open(&format!("sqlite:{}", folder.path().join("ours.db").display()))?;
    let hand = RefCell::new(Hand::open(&folder.path().join("hand.db"))?);
    let figures = interleave(
        args.rounds,
        &mut [
            (
                "millpond, blocking",
                Box::new(|| {
                    rate(args.secs, || {
                        let events = (0..count).map(|_| world::event()).collect::<millpond_core::Result<Vec<_>>>()?;
                        pond.commit(Commit::new().append_all("runs/1", events)?)?;
                        Ok(())
                    })
                }),
            ),
            ("by hand, multi-insert", Box::new(|| rate(args.secs, || hand.borrow_mut().events("runs/1", count as i64)))),
        ],
    )?;
    let scale = |f: Figure| Figure { median: f.median * count as f64, min: f.min * count as f64, max: f.max * count as f64 };
    figures.iter().for_each(|(name, f)| report.figure(name, scale(*f), "events/s"));
    report.ratio("millpond / by hand", figures[0].1.median / figures[1].1.median, 0.5);
    let ours = scale(figures[0].1);
    if count == 100 {
        report.peer(
            "Dagster store_event_batch",
            ours.median,
            ("dagster", "sqlite: store_event_batch of 100 (planned events)"),
            Some(10.0),
            false,
        );
    } else {
        report.peer("MLflow log_batch", ours.median, ("mlflow", "sqlite: log_batch of 1000"), Some(10.0), false);
    }
    report.product(item, ours, "ops/s")
}

fn create_run(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("create a run (sqlite.create_run)");
    let folder = world::folder(args)?;
    let pond = millpond::blocking::open(&format!("sqlite:{}", folder.path().join("ours.db").display()))?;
    let mut figures = interleave(
        args.rounds,
        &mut [(
            "millpond, blocking",
            Box::new(|| {
                rate(args.secs, || {
                    pond.runs().start(millpond::NewRun::of("etl", 3))?;
                    Ok(())
                })
            }),
        )],
    )?;
    let Some((name, ours)) = figures.pop() else { return Ok(()) };
    report.figure(name, ours, "runs/s");
    report.peer("Dagster create_run", ours.median, ("dagster", "sqlite: create_run"), Some(20.0), false);
    report.peer("MLflow create_run", ours.median, ("mlflow", "sqlite: create_run"), Some(20.0), false);
    report.peer("DBOS workflow of one step", ours.median, ("dbos", "sqlite: workflow of 1 step"), Some(20.0), false);
    report.product("sqlite.create_run", ours, "ops/s")
}
