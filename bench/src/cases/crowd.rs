//! Many callers at once: group commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millpond_core::Store;
use tokio::runtime::Runtime;

use crate::hand::{Hand, HandWriter};
use crate::report::Report;
use crate::rounds::{Figure, interleave, rate};
use crate::world::{self, Done};

/// Commits a transaction takes at most, as the store does.
const GROUP: usize = 1_024;

/// Rounds of the closed loop, which has one variant and takes ten seconds each time.
const LOOPS: usize = 5;

/// All lines.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    if report.wants("sqlite.append1x64") {
        closed_loop_64(args, report)?;
    }
    if report.wants("sqlite.burst10k") {
        burst(args, report)?;
    }
    if report.wants("latency10k") {
        latency(args, report)?;
    }
    Ok(())
}

/// One caller's work, told a number of its own; false when it failed.
pub type Step = Arc<dyn Fn(u64) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// A step on a store.
pub fn ours(store: &Store) -> Step {
    let store = store.clone();
    Arc::new(move |n| {
        let store = store.clone();
        Box::pin(async move {
            match world::step(n) {
                Ok(commit) => store.commit(commit).await.is_ok(),
                Err(_) => false,
            }
        })
    })
}

fn by_hand(writer: &Arc<HandWriter>) -> Step {
    let writer = Arc::clone(writer);
    Arc::new(move |_| {
        let writer = Arc::clone(&writer);
        Box::pin(async move { writer.step().await.is_ok() })
    })
}

/// Callers that commit again as soon as they have an answer; commits a second.
pub fn closed_loop(runtime: &Runtime, callers: usize, secs: f64, counter: &Arc<AtomicU64>, step: &Step) -> Done<f64> {
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(secs);
    let done = runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..callers {
            let (counter, step) = (Arc::clone(counter), Arc::clone(step));
            tasks.push(tokio::spawn(async move {
                let mut n = 0u64;
                while Instant::now() < end && step(counter.fetch_add(1, Ordering::Relaxed)).await {
                    n += 1;
                }
                n
            }));
        }
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap_or(0);
        }
        done
    });
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

fn closed_loop_64(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("64 callers, one record and one event a commit (sqlite.append1x64)");
    let (folder, runtime) = (world::folder(args)?, world::runtime()?);
    let store = runtime.block_on(world::store(folder.path(), "ours.db"))?;
    let (mine, theirs) =
        (ours(&store), by_hand(&Arc::new(HandWriter::start(Hand::open(&folder.path().join("hand.db"))?, GROUP))));
    let single = std::cell::RefCell::new(Hand::open(&folder.path().join("single.db"))?);
    let counter = Arc::new(AtomicU64::new(1));
    let figures = interleave(
        args.rounds,
        &mut [
            ("millpond", Box::new(|| closed_loop(&runtime, 64, args.secs, &counter, &mine))),
            ("by hand, grouped by a writer thread", Box::new(|| closed_loop(&runtime, 64, args.secs, &counter, &theirs))),
            ("by hand, one transaction each", Box::new(|| rate(args.secs, || single.borrow_mut().one_step()))),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    let ours = figures[0].1;
    report.ratio("millpond / grouped by hand", ours.median / figures[1].1.median, 0.85);
    report.ratio("millpond / one transaction each", ours.median / figures[2].1.median, 2.5);
    report.peer("LangGraph put_writes", ours.median, ("langgraph", "sqlite: put_writes 1"), Some(2.0), false);
    report.product("sqlite.append1x64", ours, "ops/s")
}

/// All callers at once, one commit each; commits a second.
pub fn at_once(runtime: &Runtime, callers: u64, first: u64, step: &Step) -> Done<f64> {
    let begin = Instant::now();
    let failed = runtime.block_on(async {
        let tasks: Vec<_> = (0..callers).map(|i| tokio::spawn(step(first + i))).collect();
        let mut failed = 0;
        for task in tasks {
            failed += u64::from(!task.await.unwrap_or(false));
        }
        failed
    });
    if failed > 0 {
        return Err(format!("{failed} of {callers} commits failed").into());
    }
    Ok(callers as f64 / begin.elapsed().as_secs_f64())
}

/// How much memory ten thousand waiting callers take, in MiB, in a process that did nothing before.
pub fn growth_of_a_burst(folder: &std::path::Path) -> Done<f64> {
    let runtime = world::runtime()?;
    let store = runtime.block_on(world::store(folder, "ours.db"))?;
    let step = ours(&store);
    at_once(&runtime, 10, 1, &step)?;
    let before = resident();
    at_once(&runtime, 10_000, 11, &step)?;
    Ok((peak_resident() - before) / 1024.0)
}

/// A burst of our store after another one, for the child process of the slow-flush line.
pub fn second_burst(runtime: &Runtime, folder: &std::path::Path, callers: u64) -> Done<f64> {
    let store = runtime.block_on(world::store(folder, "ours.db"))?;
    at_once(runtime, callers, 1, &ours(&store))?;
    at_once(runtime, callers, callers + 1, &ours(&store))
}

fn burst(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("10,000 callers at once, one durable commit each (sqlite.burst10k)");
    let (folder, runtime) = (world::folder(args)?, world::runtime()?);
    let store = runtime.block_on(world::store(folder.path(), "ours.db"))?;
    let (mine, theirs) =
        (ours(&store), by_hand(&Arc::new(HandWriter::start(Hand::open(&folder.path().join("hand.db"))?, GROUP))));
    let single = std::cell::RefCell::new(Hand::open(&folder.path().join("single.db"))?);
    let counter = AtomicU64::new(1);
    let next = || counter.fetch_add(10_000, Ordering::Relaxed);
    let grown = super::slow::in_a_process(folder.path(), "memory", &[])?;
    let figures = interleave(
        args.rounds,
        &mut [
            ("millpond", Box::new(|| at_once(&runtime, 10_000, next(), &mine))),
            ("by hand, grouped by a writer thread", Box::new(|| at_once(&runtime, 10_000, next(), &theirs))),
            ("by hand, one transaction each", Box::new(|| rate(args.secs, || single.borrow_mut().one_step()))),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    let ours = figures[0].1;
    report.ratio("millpond / grouped by hand", ours.median / figures[1].1.median, 0.85);
    report.ratio("millpond / one transaction each", ours.median / figures[2].1.median, 7.0);
    report.at_most("memory growth of the first burst, MiB", grown, 64.0);
    report.product("sqlite.burst10k", ours, "ops/s")
}

/// What one closed loop showed.
struct Loop {
    /// Commits.
    commits: usize,
    /// Milliseconds.
    p50: f64,
    p99: f64,
    /// The fewest commits of a caller, as a share of the mean.
    fairness: f64,
}

fn latency(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("10,000 callers in a closed loop for ten seconds (latency10k)");
    let (folder, runtime) = (world::folder(args)?, world::runtime()?);
    let store = runtime.block_on(world::store(folder.path(), "ours.db"))?;
    let (step, counter) = (ours(&store), Arc::new(AtomicU64::new(1)));
    let rounds: Vec<Loop> = (0..LOOPS).map(|_| timed_loop(&runtime, &step, &counter)).collect();
    let figure = |of: fn(&Loop) -> f64| Figure::of(rounds.iter().map(of).collect());
    report.figure("commits", figure(|l| l.commits as f64 / 10.0), "commits/s");
    report.figure("p50", figure(|l| l.p50), "ms");
    report.figure("p99", figure(|l| l.p99), "ms");
    report.at_most("p99 / p50", figure(|l| l.p99 / l.p50).median, 3.0);
    report.ratio("fewest commits of a caller / mean, in the worst round", figure(|l| l.fairness).min, 0.5);
    report.product("sqlite.latency10k_p99", figure(|l| l.p99), "ms")
}

fn timed_loop(runtime: &Runtime, step: &Step, counter: &Arc<AtomicU64>) -> Loop {
    let end = Instant::now() + Duration::from_secs(10);
    let all: Vec<Vec<f64>> = runtime.block_on(async {
        let tasks: Vec<_> = (0..10_000)
            .map(|_| {
                let (step, counter) = (Arc::clone(step), Arc::clone(counter));
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while Instant::now() < end {
                        let begin = Instant::now();
                        if !step(counter.fetch_add(1, Ordering::Relaxed)).await {
                            break;
                        }
                        times.push(begin.elapsed().as_secs_f64() * 1e3);
                    }
                    times
                })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.unwrap_or_default());
        }
        all
    });
    let least = all.iter().map(Vec::len).min().unwrap_or(0) as f64;
    let mut times: Vec<f64> = all.into_iter().flatten().collect();
    times.sort_by(f64::total_cmp);
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    Loop { commits: times.len(), p50: at(0.5), p99: at(0.99), fairness: least / (times.len() as f64 / 10_000.0) }
}

fn status(field: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(field));
    line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

fn resident() -> f64 {
    status("VmRSS:")
}

/// The most memory this process ever had, in KiB.
pub fn peak_resident() -> f64 {
    status("VmHWM:")
}
