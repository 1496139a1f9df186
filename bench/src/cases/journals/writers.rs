//! Several writer processes on one journal: what they commit together, each one's share, and how often they collide.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::{Ground, place};
use crate::report::Report;
use crate::rounds::Figure;
use crate::world::{self, Done};

/// Callers of each writer process.
const CALLERS: usize = 64;
/// Seconds of each measurement.
const SECS: f64 = 10.0;
/// The child that writes.
pub const WRITER: &str = "journal-writer";

/// What one writer did.
struct Told {
    commits: f64,
    p99: f64,
    appended: f64,
    replanned: f64,
}

/// The line: one, two, four and eight processes.
pub fn run(ground: &Ground<'_>, _: &crate::Args, report: &mut Report) -> Done {
    let driver = ground.driver;
    report.heading(&format!("{driver}, several writer processes on one journal, 64 callers each, 10 s ({driver}.writers)"));
    for processes in [1_usize, 2, 4, 8] {
        let url = ground.running.store(&format!("writers{processes}"))?;
        let (store, _) = ground.runtime.block_on(place::open(&url, u64::MAX))?;
        ground.runtime.block_on(store.engine().close())?;
        let told = together(&url, processes)?;
        let sum = |of: fn(&Told) -> f64| told.iter().map(of).sum::<f64>();
        let most = told.iter().map(|t| t.commits).fold(0.0, f64::max);
        let least = told.iter().map(|t| t.commits).fold(f64::MAX, f64::min);
        let worst = told.iter().map(|t| t.p99).fold(0.0, f64::max);
        report.figure(&format!("{processes} processes"), Figure::of(vec![sum(|t| t.commits) / SECS]), "commits/s");
        let retries = sum(|t| t.replanned) / sum(|t| t.appended).max(1.0);
        println!("    worst p99 {worst:.0} ms, {retries:.2} plans thrown away for each entry");
        if processes > 1 {
            let what = format!("{processes} processes: smallest share / largest");
            match driver {
                // With an object store it is the server's own queue that decides.
                "s3" => report.shown(&what, least / most),
                _ => report.ratio(&what, least / most, 0.7),
            }
        }
    }
    Ok(())
}

fn together(url: &str, processes: usize) -> Done<Vec<Told>> {
    let mut running = (0..processes).map(|_| start(url, WRITER, SECS)).collect::<Done<Vec<_>>>()?;
    let mut outputs = Vec::new();
    for child in &mut running {
        let mut output = BufReader::new(child.stdout.take().ok_or("a child's output")?);
        output.read_line(&mut String::new())?;
        outputs.push(output);
    }
    for child in &mut running {
        child.stdin.take().ok_or("a child's input")?.write_all(b"go\n")?;
    }
    let mut told = Vec::new();
    for (mut child, mut output) in running.into_iter().zip(outputs) {
        let mut line = String::new();
        output.read_line(&mut line)?;
        child.wait()?;
        let numbers: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [commits, p99, appended, replanned] = numbers[..] else { return Err(format!("a writer said {line:?}").into()) };
        told.push(Told { commits, p99, appended, replanned });
    }
    Ok(told)
}

/// Starts this program again, for one part of a line.
pub fn start(url: &str, what: &str, secs: f64) -> Done<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--burst", what, "--secs", &secs.to_string(), "--store", url]);
    Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

/// The writer: opens, waits for a word, commits for a while, and tells.
pub fn child(runtime: &Runtime, url: &str, secs: f64) -> Done {
    // Every process has a replica of its own, as every machine would.
    let url = own_cache(url);
    let (store, engine) = runtime.block_on(place::open(&url, u64::MAX))?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    let (begin, limit) = (Instant::now(), Duration::from_secs_f64(secs));
    let counter = Arc::new(AtomicU64::new(u64::from(std::process::id()) << 32));
    let mut times: Vec<f64> = runtime.block_on(async {
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            let (store, counter) = (store.clone(), Arc::clone(&counter));
            callers.push(tokio::spawn(async move {
                let mut times = Vec::new();
                while begin.elapsed() < limit {
                    let one = Instant::now();
                    store.commit(world::step(counter.fetch_add(1, Ordering::Relaxed))?).await?;
                    times.push(one.elapsed().as_secs_f64() * 1e3);
                }
                Ok::<_, millpond_core::Error>(times)
            }));
        }
        let mut times = Vec::new();
        for caller in callers {
            times.extend(caller.await??);
        }
        Ok::<_, Box<dyn std::error::Error>>(times)
    })?;
    times.sort_by(f64::total_cmp);
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    println!("{} {p99} {} {}", times.len(), engine.stats().appended, engine.stats().replanned);
    Ok(())
}

/// The same place with a folder for replicas that no other process uses.
fn own_cache(url: &str) -> String {
    match url.split_once("cache=") {
        Some((place, folder)) => format!("{place}cache={folder}/{}", std::process::id()),
        None => url.to_owned(),
    }
}
