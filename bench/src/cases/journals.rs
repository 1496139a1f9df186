//! Stores on journals: files beside the SQLite engine, an object store beside its own requests, several processes on one
//! journal, and opening.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millpond_core::{Commit, Engine, Front, Namespace, Store};
use millpond_journal::drivers::file::{FileJournals, FileOptions};
use millpond_journal::drivers::object::{ObjectJournals, ObjectOptions, ObjectPlace};
use millpond_journal::{JournalEngine, JournalOptions, Journals};
use millpond_testservers::{S3_ACCESS_KEY, S3_SECRET_KEY, SeaweedServer};
use object_store::aws::AmazonS3Builder;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use tokio::runtime::Runtime;

use super::crowd::{at_once, closed_loop, ours};
use crate::report::Report;
use crate::rounds::{Figure, interleave};
use crate::world::{self, Done};

/// Callers of each writer process.
const CALLERS: usize = 64;
/// The child that writes.
pub const WRITER: &str = "journal-writer";
/// The child that opens.
pub const OPENER: &str = "journal-open";

/// All lines.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    if report.wants("journal.file") {
        files(args, report)?;
    }
    if report.wants("journal.writers") {
        writers(args, report)?;
    }
    if report.wants("journal.s3") {
        s3(args, report)?;
    }
    if args.growth && report.wants("journal.open") {
        opening(args, report)?;
    }
    Ok(())
}

/// A store on a place, and the engine for its counts.
async fn store_on(place: Arc<dyn Journals>, cache: &Path, snapshot_bytes: u64) -> Done<(Store, Arc<JournalEngine>)> {
    let options = JournalOptions { cache: Some(cache.to_owned()), snapshot_bytes, ..JournalOptions::default() };
    let engine = Arc::new(JournalEngine::open(place, options).await?);
    let shared: Arc<dyn Engine> = Arc::clone(&engine) as _;
    let store = Store::open(Arc::new(Front::new(shared)), Namespace::default()).await?;
    store.declare(&[world::WORK.spec()?]).await?;
    Ok((store, engine))
}

async fn on_files(folder: &Path, snapshot_bytes: u64) -> Done<(Store, Arc<JournalEngine>)> {
    let place = FileJournals::open(folder.join("store"), FileOptions::default())?;
    store_on(Arc::new(place), &folder.join("cache"), snapshot_bytes).await
}

/// Microseconds of a call, the median over some time.
fn micros<F>(runtime: &Runtime, secs: f64, mut call: impl FnMut() -> F) -> Done<f64>
where
    F: Future<Output = Done>,
{
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed().as_secs_f64() < secs || times.len() < 20 {
        let one = Instant::now();
        runtime.block_on(call())?;
        times.push(one.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Figure::of(times).median)
}

fn files(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("files beside the SQLite engine (journal.file)");
    let (folder, runtime) = (world::folder(args)?, world::runtime()?);
    let sqlite = runtime.block_on(world::store(folder.path(), "ours.db"))?;
    let (file, _) = runtime.block_on(on_files(folder.path(), u64::MAX))?;
    let (on_sqlite, on_file) = (ours(&sqlite), ours(&file));
    let counter = Arc::new(AtomicU64::new(1));
    let next = || counter.fetch_add(10_000, Ordering::Relaxed);
    let bursts = interleave(
        args.rounds,
        &mut [
            ("files, 10,000 at once", Box::new(|| at_once(&runtime, 10_000, next(), &on_file))),
            ("sqlite, 10,000 at once", Box::new(|| at_once(&runtime, 10_000, next(), &on_sqlite))),
        ],
    )?;
    let loops = interleave(
        args.rounds,
        &mut [
            ("files, 1,000 callers in a closed loop", Box::new(|| closed_loop(&runtime, 1_000, args.secs, &counter, &on_file))),
            (
                "sqlite, 1,000 callers in a closed loop",
                Box::new(|| closed_loop(&runtime, 1_000, args.secs, &counter, &on_sqlite)),
            ),
            ("files, one caller", Box::new(|| closed_loop(&runtime, 1, args.secs, &counter, &on_file))),
            ("sqlite, one caller", Box::new(|| closed_loop(&runtime, 1, args.secs, &counter, &on_sqlite))),
        ],
    )?;
    bursts.iter().chain(&loops).for_each(|(name, f)| report.figure(name, *f, "commits/s"));
    report.ratio("10,000 at once: files / sqlite", bursts[0].1.median / bursts[1].1.median, 0.8);
    report.ratio("1,000 callers: files / sqlite", loops[0].1.median / loops[1].1.median, 0.6);
    reads(args, report, &runtime, &file, None)?;
    report.product("file.burst10k", bursts[0].1, "ops/s")
}

/// A point read that asks for the tail, and one that does not.
fn reads(args: &crate::Args, report: &mut Report, runtime: &Runtime, store: &Store, trip: Option<f64>) -> Done {
    runtime.block_on(store.commit(Commit::new().put("work", "read", &serde_json::json!({"status": "x", "ts": 1}))?))?;
    let stale = store.stale();
    let get = |store: Store| async move { Ok(store.get("work", "read").await.map(drop)?) };
    let fresh = micros(runtime, args.secs, || get(store.clone()))?;
    let held = micros(runtime, args.secs, || get(stale.clone()))?;
    report.figure("a point read that asks for the tail", Figure::of(vec![fresh]), "us");
    report.figure("a stale point read", Figure::of(vec![held]), "us");
    if let Some(trip) = trip {
        report.at_most("a fresh point read - one round trip, us", fresh - trip, 100.0);
    }
    Ok(())
}

fn s3(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("an object store, SeaweedFS on this machine (journal.s3)");
    let Some(server) = SeaweedServer::start()? else { return Ok(()) };
    server.create_bucket("bench")?;
    let (folder, runtime) = (world::folder(args)?, world::runtime()?);
    let endpoint = server.endpoint();
    let place = runtime.block_on(async {
        let url = format!("s3://bench/store?region=here&endpoint={endpoint}");
        let keys = [("aws_access_key_id", S3_ACCESS_KEY), ("aws_secret_access_key", S3_SECRET_KEY)];
        let place = ObjectPlace::parse_with(&url, &keys)?.ok_or("an object store")?;
        Ok::<_, Box<dyn std::error::Error>>(ObjectJournals::open(place, ObjectOptions::default()).await?)
    })?;
    let (store, engine) = runtime.block_on(store_on(Arc::new(place), &folder.path().join("cache"), u64::MAX))?;
    let raw = raw_s3(&endpoint)?;
    let (step, counter) = (ours(&store), Arc::new(AtomicU64::new(1)));
    let mut puts = Vec::new();
    for _ in 0..args.rounds {
        let before = engine.stats().appended;
        at_once(&runtime, 1_000, counter.fetch_add(1_000, Ordering::Relaxed), &step)?;
        puts.push((engine.stats().appended - before) as f64);
    }
    let body = world::document(1).repeat(2);
    let number = AtomicU64::new(1);
    let fresh_name = || format!("raw/{}", number.fetch_add(1, Ordering::Relaxed)).into();
    let figures = interleave(
        args.rounds,
        &mut [
            (
                "one commit",
                Box::new(|| {
                    micros(&runtime, args.secs, || async {
                        Ok(store.commit(world::step(counter.fetch_add(1, Ordering::Relaxed))?).await.map(drop)?)
                    })
                }),
            ),
            (
                "one PUT, if absent",
                Box::new(|| {
                    micros(&runtime, args.secs, || async {
                        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                        Ok(raw.put_opts(&fresh_name(), body.clone().into(), options).await.map(drop)?)
                    })
                }),
            ),
            (
                "one GET of what is not there",
                Box::new(|| {
                    micros(&runtime, args.secs, || async {
                        let _absent = raw.get(&"raw/absent".into()).await;
                        Ok(())
                    })
                }),
            ),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "us"));
    let loops: Vec<f64> =
        (0..args.rounds).map(|_| closed_loop(&runtime, 1_000, args.secs, &counter, &step)).collect::<Done<_>>()?;
    report.figure("1,000 callers in a closed loop", Figure::of(loops), "commits/s");
    report.at_most("PUTs for 1,000 concurrent commits, the most of a round", Figure::of(puts).max, 4.99);
    let floor = figures[1].1.median + figures[2].1.median;
    report.at_most("one commit / (one PUT + one GET)", figures[0].1.median / floor, 1.3);
    reads(args, report, &runtime, &store, Some(figures[2].1.median))
}

fn raw_s3(endpoint: &str) -> Done<impl ObjectStore> {
    let builder = AmazonS3Builder::new().with_bucket_name("bench").with_endpoint(endpoint).with_region("here");
    let builder = builder.with_access_key_id(S3_ACCESS_KEY).with_secret_access_key(S3_SECRET_KEY);
    Ok(builder.with_client_options(ClientOptions::new().with_allow_http(true)).build()?)
}

fn writers(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("several writer processes on one journal in files, 64 callers each (journal.writers)");
    for processes in [1_usize, 2, 4, 8] {
        let folder = world::folder(args)?;
        world::runtime()?.block_on(on_files(folder.path(), u64::MAX))?;
        let mut running = (0..processes).map(|_| child_process(folder.path(), WRITER, 10.0)).collect::<Done<Vec<_>>>()?;
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
            told.push((commits, p99, appended, replanned));
        }
        let most = told.iter().map(|t| t.0).fold(0.0, f64::max);
        let least = told.iter().map(|t| t.0).fold(f64::MAX, f64::min);
        let retries = told.iter().map(|t| t.3).sum::<f64>() / told.iter().map(|t| t.2).sum::<f64>().max(1.0);
        report.figure(
            &format!("{processes} processes"),
            Figure::of(vec![told.iter().map(|t| t.0).sum::<f64>() / 10.0]),
            "commits/s",
        );
        let worst = told.iter().map(|t| t.1).fold(0.0, f64::max);
        println!("    worst p99 {worst:.0} ms, {retries:.2} plans thrown away for each entry");
        if processes > 1 {
            report.ratio(&format!("{processes} processes: smallest share / largest"), least / most, 0.7);
        }
    }
    Ok(())
}

fn child_process(folder: &Path, what: &str, secs: f64) -> Done<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--burst", what, "--secs", &secs.to_string(), "--dir"]).arg(folder);
    Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

fn opening(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("opening a store in files (journal.open); as many records as events");
    for size in [10_000_u64, 100_000, 1_000_000] {
        let (folder, runtime) = (world::folder(args)?, world::runtime()?);
        runtime.block_on(fill(folder.path(), size))?;
        for (how, seconds) in [("an empty cache", 40.0), ("a warm cache", 0.5), ("a snapshot", 4.0)] {
            match how {
                "an empty cache" => std::fs::remove_dir_all(folder.path().join("cache"))?,
                "a snapshot" => {
                    runtime.block_on(snapshot(folder.path()))?;
                    std::fs::remove_dir_all(folder.path().join("cache"))?;
                }
                _ => {}
            }
            let mut child = child_process(folder.path(), OPENER, 1.0)?;
            let mut line = String::new();
            BufReader::new(child.stdout.take().ok_or("a child's output")?).read_line(&mut line)?;
            child.wait()?;
            let numbers: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            let [took, memory] = numbers[..] else { return Err(format!("the opener said {line:?}").into()) };
            report.at_most(&format!("{size:>9} records, from {how}, seconds"), took, seconds);
            report.at_most(&format!("{size:>9} records, from {how}, MiB"), memory, 300.0);
        }
    }
    Ok(())
}

async fn fill(folder: &Path, size: u64) -> Done {
    let (store, _) = on_files(folder, u64::MAX).await?;
    let mut filled = 0;
    while filled < size {
        let mut commit = Commit::new();
        for _ in 0..500 {
            filled += 1;
            commit = commit.and(world::step(filled)?);
        }
        store.commit(commit).await?;
    }
    Ok(store.engine().close().await?)
}

/// Makes a snapshot, and waits until it is there.
async fn snapshot(folder: &Path) -> Done {
    let (store, _) = on_files(folder, 1).await?;
    store.commit(Commit::new().put("work", "last", &serde_json::json!({"status": "x", "ts": 1}))?).await?;
    let mut journal = None;
    for found in std::fs::read_dir(folder.join("store/journals"))? {
        let path = found?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("default.")) {
            journal = Some(path);
        }
    }
    let journal = journal.ok_or("the journal's folder")?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(300) {
        let mut there = std::fs::read_dir(&journal)?.filter_map(Result::ok).map(|found| found.path());
        if there.any(|path| path.extension().is_some_and(|kind| kind == "db")) {
            return Ok(store.engine().close().await?);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("no snapshot was made".into())
}

/// What a child runs: opens the store of `--dir`, and writes or tells how long opening took.
pub fn child(args: &crate::Args, what: &str) -> ExitCode {
    let result = (|| -> Done {
        let folder = args.dir.clone().ok_or("--dir")?;
        let runtime = world::runtime()?;
        if what == WRITER { write(&runtime, &folder, args.secs) } else { open(&runtime, &folder) }
    })();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn open(runtime: &Runtime, folder: &Path) -> Done {
    let begin = Instant::now();
    let (store, _) = runtime.block_on(on_files(folder, u64::MAX))?;
    let found = runtime.block_on(store.get("work", "k10000"))?;
    if found.is_none() {
        return Err("the store is not whole".into());
    }
    println!("{} {}", begin.elapsed().as_secs_f64(), super::crowd::peak_resident() / 1024.0);
    Ok(())
}

fn write(runtime: &Runtime, folder: &Path, secs: f64) -> Done {
    let (store, engine) = runtime.block_on(on_files(folder, u64::MAX))?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    let (begin, limit) = (Instant::now(), Duration::from_secs_f64(secs));
    let first = u64::from(std::process::id()) << 32;
    let counter = Arc::new(AtomicU64::new(first));
    let mut times: Vec<f64> = runtime.block_on(async {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (store, counter) = (store.clone(), Arc::clone(&counter));
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while begin.elapsed() < limit {
                        let one = Instant::now();
                        let Ok(commit) = world::step(counter.fetch_add(1, Ordering::Relaxed)) else { break };
                        if store.commit(commit).await.is_err() {
                            break;
                        }
                        times.push(one.elapsed().as_secs_f64() * 1e3);
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for caller in callers {
            times.extend(caller.await.unwrap_or_default());
        }
        times
    });
    times.sort_by(f64::total_cmp);
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    println!("{} {p99} {} {}", times.len(), engine.stats().appended, engine.stats().replanned);
    Ok(())
}
