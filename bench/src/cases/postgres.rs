//! PostgreSQL: Millpond beside one hand-written `unnest` statement that writes the same rows and plans nothing.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millpond_core::{Commit, Engine, Front, Namespace, Store};
use millpond_postgres::{PostgresEngine, PostgresOptions};
use millpond_testservers::PostgresServer;
use tokio::runtime::Runtime;

use super::crowd::{Step, at_once, closed_loop, ours};
use crate::hand_pg::{Grouped, Hand, Numbers};
use crate::report::Report;
use crate::rounds::{Figure, Variant, interleave, rate};
use crate::world::{self, Done};

/// Commits a statement takes at most, as the store does.
const GROUP: usize = 1_024;
/// Connections of the variant with one transaction each.
const POOL: usize = 16;

/// All lines, on a private server; nothing where PostgreSQL is not installed.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    let wanted = ["pg.append1", "pg.append1x16", "pg.append1x64", "pg.burst10k", "pg.append1000", "pg.get1", "pg.processes4"];
    if !wanted.iter().any(|item| report.wants(item)) {
        return Ok(());
    }
    let Some(server) = PostgresServer::start()? else { return Ok(()) };
    let runtime = world::runtime()?;
    let bench = Bench { url: server.create("bench")?, runtime: &runtime, made: Cell::new(0) };
    for (callers, item, goal) in [(1, "pg.append1", Some(0.6)), (16, "pg.append1x16", None), (64, "pg.append1x64", Some(0.75))] {
        if report.wants(item) {
            bench.loops(args, report, callers, item, goal)?;
        }
    }
    if report.wants("pg.burst10k") {
        bench.burst(args, report)?;
    }
    if report.wants("pg.append1000") {
        bench.events(args, report)?;
    }
    if report.wants("pg.get1") {
        bench.get(args, report)?;
    }
    if report.wants("pg.processes4") {
        super::processes::run(args, report, &server.create("processes")?)?;
    }
    Ok(())
}

struct Bench<'r> {
    url: String,
    runtime: &'r Runtime,
    made: Cell<u32>,
}

impl Bench<'_> {
    /// A store in a fresh schema.
    fn store(&self) -> Done<(Store, String)> {
        self.made.set(self.made.get() + 1);
        let schema = format!("s{}", self.made.get());
        let store = self.runtime.block_on(async {
            let engine = PostgresEngine::open(&format!("{}?schema={schema}", self.url), PostgresOptions::default()).await?;
            let engine: Arc<dyn Engine> = Arc::new(engine);
            let store = Store::open(Arc::new(Front::new(engine)), Namespace::default()).await?;
            store.declare(&[world::WORK.spec()?]).await?;
            Ok::<_, millpond_core::Error>(store)
        })?;
        Ok((store, schema))
    }

    /// Hand-written writers in a schema of the same tables.
    fn hands(&self, count: usize) -> Done<Vec<Hand>> {
        let (_, schema) = self.store()?;
        let numbers = Numbers::new();
        self.runtime.block_on(async {
            let mut hands = Vec::new();
            for _ in 0..count {
                hands.push(Hand::connect(&self.url, &schema, Arc::clone(&numbers)).await?);
            }
            Ok(hands)
        })
    }

    fn grouped(&self) -> Done<Step> {
        let hand = self.hands(1)?.pop().ok_or("no writer")?;
        let _inside = self.runtime.enter();
        let writer = Grouped::start(hand, GROUP);
        Ok(Arc::new(move |_| {
            let writer = Arc::clone(&writer);
            Box::pin(async move { writer.step().await })
        }))
    }

    /// Each step a transaction of its own, over a pool of connections.
    fn pooled(&self) -> Done<Step> {
        let _inside = self.runtime.enter();
        let writers: Vec<Arc<Grouped>> = self.hands(POOL)?.into_iter().map(|hand| Grouped::start(hand, 1)).collect();
        Ok(Arc::new(move |n| {
            let writer = writers.get(n as usize % POOL).cloned();
            Box::pin(async move { if let Some(writer) = writer { writer.step().await } else { false } })
        }))
    }

    fn loops(&self, args: &crate::Args, report: &mut Report, callers: usize, item: &'static str, goal: Option<f64>) -> Done {
        report.heading(&format!("PostgreSQL, {callers} callers, one record and one event a commit ({item})"));
        let (mine, theirs) = (ours(&self.store()?.0), self.grouped()?);
        let counter = Arc::new(AtomicU64::new(1));
        let figures = interleave(
            args.rounds,
            &mut [
                ("millpond", Box::new(|| closed_loop(self.runtime, callers, args.secs, &counter, &mine))),
                ("by hand, one unnest statement", Box::new(|| closed_loop(self.runtime, callers, args.secs, &counter, &theirs))),
            ],
        )?;
        figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
        let ours = figures[0].1;
        let ratio = ours.median / figures[1].1.median;
        match goal {
            Some(goal) => report.ratio("millpond / by hand", ratio, goal),
            None => report.shown("millpond / by hand", ratio),
        }
        peers(report, item, ours);
        report.product(item, ours, "ops/s")
    }

    fn burst(&self, args: &crate::Args, report: &mut Report) -> Done {
        report.heading("PostgreSQL, 10,000 callers at once, one durable commit each (pg.burst10k)");
        let (mine, theirs, single) = (ours(&self.store()?.0), self.grouped()?, self.pooled()?);
        let counter = AtomicU64::new(1);
        let next = || counter.fetch_add(10_000, Ordering::Relaxed);
        let mut variants: [Variant<'_>; 3] = [
            ("millpond", Box::new(|| at_once(self.runtime, 10_000, next(), &mine))),
            ("by hand, one unnest statement", Box::new(|| at_once(self.runtime, 10_000, next(), &theirs))),
            ("by hand, one transaction each, pool of 16", Box::new(|| at_once(self.runtime, 10_000, next(), &single))),
        ];
        let figures = interleave(args.rounds, &mut variants)?;
        figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
        let ours = figures[0].1;
        report.ratio("millpond / by hand", ours.median / figures[1].1.median, 0.75);
        report.ratio("millpond / one transaction each", ours.median / figures[2].1.median, 3.0);
        report.product("pg.burst10k", ours, "ops/s")
    }

    fn events(&self, args: &crate::Args, report: &mut Report) -> Done {
        report.heading("PostgreSQL, 1,000 events a commit (pg.append1000)");
        let (store, hand) = (self.store()?.0, self.hands(1)?.pop().ok_or("no writer")?);
        let append = || -> Done {
            let events = (0..1_000).map(|_| world::event()).collect::<millpond_core::Result<Vec<_>>>()?;
            self.runtime.block_on(store.commit(Commit::new().append_all("runs/1", events)?))?;
            Ok(())
        };
        let figures = interleave(
            args.rounds,
            &mut [
                ("millpond", Box::new(|| rate(args.secs, append))),
                ("by hand, one unnest statement", Box::new(|| rate(args.secs, || self.runtime.block_on(hand.append(1_000))))),
            ],
        )?;
        let scale = |f: Figure| Figure { median: f.median * 1e3, min: f.min * 1e3, max: f.max * 1e3 };
        figures.iter().for_each(|(name, f)| report.figure(name, scale(*f), "events/s"));
        report.ratio("millpond / by hand", figures[0].1.median / figures[1].1.median, 0.5);
        report.peer("MLflow log_batch", scale(figures[0].1).median, ("mlflow", "postgres: log_batch of 1000"), None, false);
        report.product("pg.append1000", scale(figures[0].1), "ops/s")
    }

    fn get(&self, args: &crate::Args, report: &mut Report) -> Done {
        report.heading("PostgreSQL, one record by key (pg.get1)");
        let (store, schema) = self.store()?;
        at_once(self.runtime, 10_000, 1, &ours(&store))?;
        let hand = self.runtime.block_on(Hand::connect(&self.url, &schema, Numbers::new()))?;
        let at = Cell::new(0_u64);
        let key = || {
            at.set((at.get() + 7_919) % 10_000);
            format!("k{}", at.get() + 1)
        };
        let read = || -> Done {
            let found = self.runtime.block_on(store.get("work", &key()))?;
            if found.is_some() { Ok(()) } else { Err("a record is missing".into()) }
        };
        let by_hand =
            || -> Done { if self.runtime.block_on(hand.get(&key()))? { Ok(()) } else { Err("a record is missing".into()) } };
        let figures = interleave(
            args.rounds,
            &mut [
                ("millpond", Box::new(|| rate(args.secs, read))),
                ("by hand, one prepared statement", Box::new(|| rate(args.secs, by_hand))),
            ],
        )?;
        figures.iter().for_each(|(name, f)| report.figure(name, *f, "reads/s"));
        report.ratio("millpond / by hand", figures[0].1.median / figures[1].1.median, 0.85);
        report.product("pg.get1", figures[0].1, "ops/s")
    }
}

fn peers(report: &mut Report, item: &str, ours: Figure) {
    let lines: &[(&str, crate::report::PeerLine, Option<f64>)] = match item {
        "pg.append1" => &[
            ("Dagster store_event", ("dagster", "postgres: store_event, one run"), Some(6.0)),
            ("MLflow log_metric", ("mlflow", "postgres: log_metric"), Some(6.0)),
            ("DBOS step", ("dbos", "postgres: steps in workflows of 100"), Some(6.0)),
            ("LangGraph put_writes", ("langgraph", "postgres: put_writes 1"), None),
        ],
        "pg.append1x16" => &[("graphile-worker add_job", ("graphile-worker", "add_job, 16 in flight"), Some(4.0))],
        _ => &[],
    };
    for (name, line, goal) in lines {
        report.peer(name, ours.median, *line, *goal, false);
    }
}
