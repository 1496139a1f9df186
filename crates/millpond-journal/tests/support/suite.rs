//! The suite on a server: two handles are two engines on it, and the suite's other processes find it through a file in
//! the place's folder.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use millpond_core::Result;
use millpond_journal::{JournalEngine, JournalOptions, Journals};

/// The file that holds the server's address.
const ADDRESS: &str = "address";

/// A place that is being opened.
pub type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn Journals>>> + Send>>;

/// Runs the suite on the server that `start` starts with the first place; so the suite's other processes, which find
/// theirs, start none. `start` gives the server and its address, or nothing where it is not installed.
pub fn suite<S: Send + 'static>(start: fn() -> Option<(S, String)>, open: fn(String) -> Opening) -> ExitCode {
    let server: Arc<Mutex<Option<S>>> = Arc::default();
    let keep = Arc::clone(&server);
    let code = millpond_conformance::harness::main(move |place: PathBuf| {
        let server = Arc::clone(&keep);
        async move {
            let journals = open(address(&place, &server, start)).await?;
            let options = JournalOptions { cache: Some(place.join("cache")), ..JournalOptions::default() };
            JournalEngine::open(journals, options).await
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
    // Said loudly by what looked for the program, and a failure there where CI is set.
    let Some((started, address)) = start() else { std::process::exit(0) };
    std::fs::write(&file, &address).expect("the place's folder");
    *server = Some(started);
    address
}
