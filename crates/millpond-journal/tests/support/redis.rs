//! The suite on Redis: two handles are two engines on one server, and the suite's other processes find it through a
//! file in the place's folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use millpond_journal::drivers::redis::{RedisJournals, RedisOptions};
use millpond_journal::{JournalEngine, JournalOptions};

/// The file that holds the server's address.
const ADDRESS: &str = "address";

/// Runs the suite on the server that `start` starts with the first place; so the suite's other processes, which find
/// theirs, start none. `start` gives the server and its address, or nothing where Redis is not installed.
pub fn suite<S: Send + 'static>(start: fn() -> Option<(S, String)>) -> ExitCode {
    let server: Arc<Mutex<Option<S>>> = Arc::default();
    let keep = Arc::clone(&server);
    let code = millpond_conformance::harness::main(move |place: PathBuf| {
        let server = Arc::clone(&keep);
        async move {
            let url = address(&place, &server, start);
            let journals = RedisJournals::open(&url, RedisOptions::default()).await?;
            let options = JournalOptions { cache: Some(place.join("cache")), ..JournalOptions::default() };
            JournalEngine::open(Arc::new(journals), options).await
        }
    });
    drop(server.lock().unwrap_or_else(PoisonError::into_inner).take());
    code
}

fn address<S>(place: &Path, server: &Mutex<Option<S>>, start: fn() -> Option<(S, String)>) -> String {
    let file = place.join(ADDRESS);
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(address) = std::fs::read_to_string(&file) {
        return address;
    }
    // Said loudly by what looked for the program.
    let Some((started, address)) = start() else { std::process::exit(0) };
    std::fs::write(&file, &address).expect("the place's folder");
    *server = Some(started);
    address
}
