//! Opening a store: from an empty cache, from a warm one, from a snapshot; how long, how much memory, how much disk.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use millpond_core::Commit;
use tokio::runtime::Runtime;

use super::{Ground, place, writers};
use crate::cases::crowd::peak_resident;
use crate::report::Report;
use crate::rounds::Figure;
use crate::world::{self, Done};

/// Records and events of the three sizes.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// The child that opens.
pub const OPENER: &str = "journal-open";
/// Where the store's journal and replica are told about.
const MIB: f64 = 1_048_576.0;

/// The line. Each size has a server of its own: some keep everything in memory.
pub fn run<'r>(start: &dyn Fn() -> Done<Option<Ground<'r>>>, _: &crate::Args, report: &mut Report) -> Done {
    for size in SIZES {
        let Some(ground) = start()? else { return Ok(()) };
        if size == SIZES[0] {
            let driver = ground.driver;
            report.heading(&format!("{driver}, opening a store of as many records as events ({driver}.open)"));
        }
        let url = ground.running.store("open")?;
        let written = ground.runtime.block_on(fill(&url, size))?;
        let cache = place::cache(&url);
        println!("    {size:>9}: journal {:.1} MiB, replica {:.1} MiB", written / MIB, on_disk(&cache) / MIB);
        for (how, seconds) in [("an empty cache", 40.0), ("a warm cache", 0.5), ("a snapshot", 4.0)] {
            match how {
                "an empty cache" => std::fs::remove_dir_all(&cache)?,
                "a snapshot" => {
                    let took = ground.runtime.block_on(snapshot(&url))?;
                    report.figure(&format!("{size:>9}: making the snapshot"), Figure::of(vec![took]), "s");
                    std::fs::remove_dir_all(&cache)?;
                }
                _ => {}
            }
            let (took, memory) = opened(&url)?;
            report.at_most(&format!("{size:>9} from {how}, seconds"), took, seconds);
            report.at_most(&format!("{size:>9} from {how}, MiB of memory"), memory, 300.0);
        }
    }
    Ok(())
}

/// Writes the records and events, a thousand a commit; bytes of the journal.
async fn fill(url: &str, size: u64) -> Done<f64> {
    let (store, engine) = place::open(url, u64::MAX).await?;
    let mut filled = 0;
    while filled < size {
        let mut commit = Commit::new();
        for _ in 0..500 {
            filled += 1;
            commit = commit.and(world::step(filled)?);
        }
        store.commit(commit).await?;
    }
    let written = engine.stats().appended_bytes as f64;
    store.engine().close().await?;
    Ok(written)
}

/// Makes a snapshot, and waits until it is kept; how long that took.
async fn snapshot(url: &str) -> Done<f64> {
    let (store, engine) = place::open(url, 1).await?;
    let begin = Instant::now();
    store.commit(Commit::new().put("work", "last", &serde_json::json!({"status": "x", "ts": 1}))?).await?;
    while engine.stats().snapshots == 0 {
        if begin.elapsed() > Duration::from_secs(300) {
            return Err("no snapshot was made".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begin.elapsed().as_secs_f64();
    store.engine().close().await?;
    Ok(took)
}

/// Opens the store in a process of its own: seconds, and MiB at the most.
fn opened(url: &str) -> Done<(f64, f64)> {
    let mut child = writers::start(url, OPENER, 1.0)?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("a child's output")?).read_line(&mut line)?;
    child.wait()?;
    let numbers: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [took, memory] = numbers[..] else { return Err(format!("the opener said {line:?}").into()) };
    Ok((took, memory))
}

fn on_disk(folder: &Path) -> f64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0.0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => on_disk(&entry.path()),
            Ok(found) => found.len() as f64,
            Err(_) => 0.0,
        })
        .sum()
}

/// The child: opens, looks a record up, and tells.
pub fn child(runtime: &Runtime, url: &str) -> Done {
    let begin = Instant::now();
    let (store, _) = runtime.block_on(place::open(url, u64::MAX))?;
    if runtime.block_on(store.get("work", "k10000"))?.is_none() {
        return Err("the store is not whole".into());
    }
    println!("{} {}", begin.elapsed().as_secs_f64(), peak_resident() / 1024.0);
    Ok(())
}
