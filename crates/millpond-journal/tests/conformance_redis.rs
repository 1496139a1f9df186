//! The journal engine on Redis keeps every promise of the suite. Two handles are two engines on one server; the suite's
//! other processes find it through a file in the place's folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use millpond_journal::drivers::redis::{RedisJournals, RedisOptions};
use millpond_journal::{JournalEngine, JournalOptions};
use millpond_testservers::{RedisFsync, RedisServer};

/// The file that holds the server's address.
const ADDRESS: &str = "address";

fn main() -> ExitCode {
    // Started with the first place, so that the suite's other processes, which find theirs, start none.
    let server: Arc<Mutex<Option<RedisServer>>> = Arc::default();
    let keep = Arc::clone(&server);
    let code = millpond_conformance::harness::main(move |place: PathBuf| {
        let server = Arc::clone(&keep);
        async move {
            let journals = RedisJournals::open(&address(&place, &server), RedisOptions::default()).await?;
            let options = JournalOptions { cache: Some(place.join("cache")), ..JournalOptions::default() };
            JournalEngine::open(Arc::new(journals), options).await
        }
    });
    drop(server.lock().unwrap_or_else(PoisonError::into_inner).take());
    code
}

fn address(place: &Path, server: &Mutex<Option<RedisServer>>) -> String {
    let file = place.join(ADDRESS);
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(address) = std::fs::read_to_string(&file) {
        return address;
    }
    let Some(started) = RedisServer::start(RedisFsync::Always).expect("Redis starts") else { std::process::exit(0) };
    // Long enough for a machine that does much else meanwhile.
    let address = format!("{}?timeout=20", started.url());
    std::fs::write(&file, &address).expect("the place's folder");
    *server = Some(started);
    address
}
