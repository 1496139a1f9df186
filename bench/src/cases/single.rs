//! One caller: one durable commit after the other.

use std::cell::RefCell;

use millpond_core::{Commit, Expectation, Json, RecordId, Write};

use crate::hand::{Hand, HandWriter};
use crate::report::Report;
use crate::rounds::{interleave, rate};
use crate::world::{self, Done};

/// All lines.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    if report.wants("single.step.async") {
        through_a_writer(args, report)?;
    }
    if report.wants("single.step.blocking") {
        on_the_callers_thread(args, report)?;
    }
    if report.wants("sqlite.append1") {
        an_event_alone(args, report)?;
    }
    if report.wants("sqlite.cas") {
        compare_and_set(args, report)?;
    }
    if report.wants("sqlite.checkpoint4k") {
        a_checkpoint(args, report)?;
    }
    Ok(())
}

fn through_a_writer(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("one caller, one record and one event a commit, through a writer thread (single.step.async)");
    let (folder, runtime) = (world::folder(args)?, world::runtime()?);
    let store = runtime.block_on(world::store(folder.path(), "ours.db"))?;
    let hand = HandWriter::start(Hand::open(&folder.path().join("hand.db"))?, 1);
    let n = RefCell::new(0u64);
    let figures = interleave(
        args.rounds,
        &mut [
            (
                "millpond, async",
                Box::new(|| {
                    rate(args.secs, || {
                        *n.borrow_mut() += 1;
                        runtime.block_on(store.commit(world::step(*n.borrow())?))?;
                        Ok(())
                    })
                }),
            ),
            ("by hand, own writer thread", Box::new(|| rate(args.secs, || Ok(runtime.block_on(hand.step())?)))),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    report.ratio("millpond / by hand", figures[0].1.median / figures[1].1.median, 0.95);
    Ok(())
}

fn on_the_callers_thread(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("one caller, one record and one event a commit, on the caller's thread (single.step.blocking)");
    let folder = world::folder(args)?;
    let pond = millpond::blocking::open(&format!("sqlite:{}", folder.path().join("ours.db").display()))?;
    pond.store().declare(&[world::WORK.spec()?])?;
    let hand = RefCell::new(Hand::open(&folder.path().join("hand.db"))?);
    let n = RefCell::new(0u64);
    let figures = interleave(
        args.rounds,
        &mut [
            (
                "millpond, blocking",
                Box::new(|| {
                    rate(args.secs, || {
                        *n.borrow_mut() += 1;
                        pond.commit(world::step(*n.borrow())?)?;
                        Ok(())
                    })
                }),
            ),
            ("by hand", Box::new(|| rate(args.secs, || hand.borrow_mut().one_step()))),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    let ours = figures[0].1.median;
    report.ratio("millpond / by hand", ours / figures[1].1.median, 0.9);
    report.peer("Dagster store_event", ours, ("dagster", "sqlite: store_event, one run"), Some(20.0), false);
    report.peer("MLflow log_metric", ours, ("mlflow", "sqlite: log_metric"), Some(20.0), false);
    report.peer("DBOS step", ours, ("dbos", "sqlite: steps in workflows of 100"), Some(12.0), false);
    Ok(())
}

fn an_event_alone(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("one caller, an event alone (sqlite.append1)");
    let folder = world::folder(args)?;
    let pond = millpond::blocking::open(&format!("sqlite:{}", folder.path().join("ours.db").display()))?;
    let hand = RefCell::new(Hand::open(&folder.path().join("hand.db"))?);
    let n = RefCell::new(0u64);
    let figures = interleave(
        args.rounds,
        &mut [
            (
                "millpond, blocking",
                Box::new(|| {
                    rate(args.secs, || {
                        *n.borrow_mut() += 1;
                        pond.commit(Commit::new().append(&world::stream(*n.borrow()), world::event()?)?)?;
                        Ok(())
                    })
                }),
            ),
            ("by hand, same rows", Box::new(|| rate(args.secs, || hand.borrow_mut().one_event()))),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "events/s"));
    let ours = figures[0].1;
    report.ratio("millpond / by hand", ours.median / figures[1].1.median, 0.9);
    report.peer("LangGraph put_writes (one row)", ours.median, ("langgraph", "sqlite: put_writes 1"), None, false);
    report.product("sqlite.append1", ours, "ops/s")
}

fn a_checkpoint(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("one caller, a checkpoint of 4 KiB (sqlite.checkpoint4k)");
    let folder = world::folder(args)?;
    let pond = millpond::blocking::open(&format!("sqlite:{}", folder.path().join("ours.db").display()))?;
    let checkpoints = pond.checkpoints();
    let hand = RefCell::new(Hand::open(&folder.path().join("hand.db"))?);
    let saver = RefCell::new(Hand::open(&folder.path().join("saver.db"))?);
    let payload = serde_json::json!({ "state": "x".repeat(4_060), "step": 1 });
    let text = payload.to_string();
    let figures = interleave(
        args.rounds,
        &mut [
            (
                "millpond, blocking",
                Box::new(|| {
                    rate(args.secs, || Ok(checkpoints.save(millpond::Scope::Workflow("w".into()), &payload).map(drop)?))
                }),
            ),
            ("by hand, same rows", Box::new(|| rate(args.secs, || hand.borrow_mut().one_checkpoint(&text)))),
            (
                "one row as LangGraph's saver keeps it, by hand",
                Box::new(|| rate(args.secs, || saver.borrow_mut().saver_row(&text))),
            ),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    let ours = figures[0].1;
    report.ratio("millpond / by hand", ours.median / figures[1].1.median, 0.9);
    report.peer("LangGraph put 4 KiB checkpoint", ours.median, ("langgraph", "sqlite: put 4 KiB checkpoint"), None, false);
    report.product("sqlite.checkpoint4k", ours, "ops/s")
}

fn compare_and_set(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("one caller, a record changed if it is at the revision expected (sqlite.cas)");
    let folder = world::folder(args)?;
    let pond = millpond::blocking::open(&format!("sqlite:{}", folder.path().join("ours.db").display()))?;
    pond.store().declare(&[world::WORK.spec()?])?;
    pond.commit(world::step(1)?)?;
    let hand = RefCell::new(Hand::open(&folder.path().join("hand.db"))?);
    hand.borrow_mut().one_step()?;
    let (ours, theirs) = (RefCell::new(1u64), RefCell::new(1i64));
    let id = RecordId::new("work", "k1")?;
    let figures = interleave(
        args.rounds,
        &mut [
            (
                "millpond, blocking",
                Box::new(|| {
                    rate(args.secs, || {
                        let mut revision = ours.borrow_mut();
                        let commit = Commit::new()
                            .expect(Expectation::Revision(id.clone(), *revision))
                            .write(Write::Put(id.clone(), Json::parse(&world::document(*revision))?));
                        pond.commit(commit)?;
                        *revision += 1;
                        Ok(())
                    })
                }),
            ),
            (
                "by hand",
                Box::new(|| {
                    rate(args.secs, || {
                        let mut revision = theirs.borrow_mut();
                        hand.borrow_mut().compare_and_set("k1", *revision)?;
                        *revision += 1;
                        Ok(())
                    })
                }),
            ),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    report.ratio("millpond / by hand", figures[0].1.median / figures[1].1.median, 0.8);
    report.product("sqlite.cas", figures[0].1, "ops/s")
}
