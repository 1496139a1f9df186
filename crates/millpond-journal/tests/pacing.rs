//! Several writers on a journal without a lock: the winner waits, so that the others get their turn.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::memory::Memory;
use support::{engine_on, step, store};

const WRITERS: usize = 4;
/// Entries that are looked at.
const ENTRIES: u64 = 240;
/// Entries before: whoever is first has not met the others yet, and looks round for the first time after 32.
const BEGINNING: u64 = 64;

/// Who wrote an entry.
fn by(entry: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(entry).unwrap()["by"].as_str().unwrap().to_owned()
}

/// Counted in entries and not in time: a writer that always wins writes some hundreds in a row, and one that looks round
/// once in 32 writes 32. The journal's answers travel, as on a network: so who has to read first is always too late.
#[tokio::test(flavor = "multi_thread")]
async fn writers_take_turns() {
    let memory = Memory::default();
    let caches = [(); WRITERS].map(|()| tempfile::tempdir().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let mut stores = Vec::new();
    for cache in &caches {
        stores.push(store(engine_on(Arc::new(memory.clone()), cache.path()).await).await.unwrap());
    }
    let journal = memory.default_journal();
    let (before, asked) = (journal.last(), journal.appends());
    journal.travel(Duration::from_millis(4), Duration::from_millis(4));
    let writers: Vec<_> = stores
        .iter()
        .map(|store| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                for n in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    store.commit(step(n)).await.unwrap();
                }
            })
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    while journal.last() < before + BEGINNING + ENTRIES {
        assert!(Instant::now() < deadline, "the writers do not get on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = journal.appends() - asked;
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let wrote: Vec<String> =
        journal.entries().iter().skip((before + BEGINNING) as usize).take(ENTRIES as usize).map(|e| by(e)).collect();
    let mut shares: HashMap<&str, u64> = HashMap::new();
    wrote.iter().for_each(|who| *shares.entry(who).or_default() += 1);
    let turns = 1 + wrote.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
    let longest = wrote.chunk_by(|one, next| one == next).map(<[String]>::len).max().unwrap_or(0);
    let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
    println!("{ENTRIES} entries in {turns} turns, at most {longest} in a row, {asked} appends; shares {shares:?}");
    assert_eq!(shares.len(), WRITERS, "a writer starved: {shares:?}");
    assert!(longest < 16, "{longest} entries in a row by one writer, while others wanted to write");
    assert!(turns * 4 > ENTRIES, "{ENTRIES} entries in only {turns} turns");
    assert!(least * 3 > *most, "unequal shares: {shares:?}");
}
