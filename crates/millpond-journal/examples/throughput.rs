//! Commits a second on files beside the SQLite engine, on this machine.
//!
//! `cargo run --release -p millpond-journal --example throughput -- [FOLDER]`
//!
//! A commit puts a record of some 300 bytes, expected absent or at its last revision, and appends an event of some 200
//! bytes to one of 64 streams.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_core::{Commit, Engine, Front, Namespace, NewEvent, Result, Store};
use millpond_journal::drivers::file::{FileJournals, FileOptions};
use millpond_journal::{JournalEngine, JournalOptions};
use millpond_sqlite::{SqliteEngine, SqliteOptions};
use serde_json::json;

/// Commits sent at once.
const BURST: usize = 10_000;
/// How long each closed loop runs.
const LOOP: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("millpond-throughput-{}", std::process::id()));
    for round in 1..=3 {
        let place = folder.join(round.to_string());
        let sqlite = SqliteEngine::open(place.join("a.db"), SqliteOptions::default()).await?;
        let sqlite = measure("sqlite", Arc::new(sqlite)).await?;
        let journals = FileJournals::open(place.join("files"), FileOptions::default())?;
        let file = JournalEngine::open(Arc::new(journals), JournalOptions::default()).await?;
        let file = measure("file", Arc::new(file)).await?;
        println!("round {round}: file / sqlite = {:.2} at once, {:.2} with 1,000 callers", file.0 / sqlite.0, file.1 / sqlite.1);
    }
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

/// Commits a second: all at once, and with 1,000 callers in a closed loop.
async fn measure(name: &str, engine: Arc<dyn Engine>) -> Result<(f64, f64)> {
    let front = Arc::new(Front::new(engine));
    let store = Store::open(Arc::clone(&front), Namespace::default()).await?;
    let one = closed_loop(&store, 1, "one").await?;
    let sixty = closed_loop(&store, 64, "sixty").await?;
    let began = Instant::now();
    let callers: Vec<_> = (0..BURST).map(|n| tokio::spawn(step(store.clone(), format!("burst/{n}"), 0))).collect();
    for caller in callers {
        caller.await.expect("a caller")?;
    }
    let burst = BURST as f64 / began.elapsed().as_secs_f64();
    let thousand = closed_loop(&store, 1_000, "thousand").await?;
    println!(
        "{name:7} 1 caller {one:7.0}/s   64 callers {sixty:7.0}/s   1,000 callers {thousand:7.0}/s   {BURST} at once {burst:7.0}/s"
    );
    store.engine().close().await?;
    Ok((burst, thousand))
}

async fn closed_loop(store: &Store, callers: usize, name: &str) -> Result<f64> {
    let began = Instant::now();
    let running: Vec<_> = (0..callers)
        .map(|caller| {
            let (store, name) = (store.clone(), name.to_owned());
            tokio::spawn(async move {
                let mut done = 0_u64;
                while began.elapsed() < LOOP {
                    step(store.clone(), format!("{name}/{caller}/{}", done / 10), done % 10).await?;
                    done += 1;
                }
                Ok::<u64, millpond_core::Error>(done)
            })
        })
        .collect();
    let mut done = 0;
    for caller in running {
        done += caller.await.expect("a caller")?;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

async fn step(store: Store, key: String, revision: u64) -> Result<()> {
    let commit = match revision {
        0 => Commit::new().expect_absent("work", &key)?,
        revision => Commit::new().expect_revision("work", &key, revision)?,
    };
    let body = json!({"state": "running", "attempt": revision, "text": "x".repeat(240)});
    let event = NewEvent::of("step", &json!({"key": key, "text": "y".repeat(130)}))?;
    let stream = format!("stream/{}", key.bytes().map(u64::from).sum::<u64>() % 64);
    store.commit(commit.put("work", &key, &body)?.append(&stream, event)?).await.map(drop)
}
