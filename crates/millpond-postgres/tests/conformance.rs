//! The PostgreSQL engine keeps every promise of the suite. Two handles are two engines on one database; the suite's
//! other processes find it through a file in the place's folder.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use millpond_postgres::{PostgresEngine, PostgresOptions};
use millpond_testservers::PostgresServer;

/// The file that holds the database's address.
const ADDRESS: &str = "address";

fn main() -> ExitCode {
    // Started with the first place, so that the suite's other processes, which find theirs, start none.
    let server: Arc<Mutex<Option<PostgresServer>>> = Arc::default();
    let keep = Arc::clone(&server);
    let code = millpond_conformance::harness::main(move |place: PathBuf| {
        let server = Arc::clone(&keep);
        async move { PostgresEngine::open(&address(&place, &server), PostgresOptions::default()).await }
    });
    drop(server.lock().unwrap_or_else(PoisonError::into_inner).take());
    code
}

fn address(place: &std::path::Path, server: &Mutex<Option<PostgresServer>>) -> String {
    let file = place.join(ADDRESS);
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(address) = std::fs::read_to_string(&file) {
        return address;
    }
    let started = PostgresServer::start().expect("PostgreSQL starts");
    let Some(started) = started else { std::process::exit(0) };
    let address = format!("{}?pool=6", started.create("conformance").expect("a database"));
    std::fs::write(&file, &address).expect("the place's folder");
    *server = Some(started);
    address
}
