//! The journal engine on NATS keeps every promise of the suite. Two handles are two engines on one server; the suite's
//! other processes find it through a file in the place's folder.
//!
//! With `MILLPOND_TEST_NATS=cluster` on three servers that keep three copies.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use millpond_journal::drivers::nats::{NatsJournals, NatsOptions};
use millpond_journal::{JournalEngine, JournalOptions};
use millpond_testservers::{NatsCluster, NatsRelease, NatsServer, NatsSync};

/// The file that holds the servers' address.
const ADDRESS: &str = "address";
/// Which servers to use.
const SERVERS: &str = "MILLPOND_TEST_NATS";

/// What runs; it ends with this value.
#[expect(dead_code, reason = "held, not read")]
enum Servers {
    One(NatsServer),
    Three(NatsCluster),
}

fn main() -> ExitCode {
    // Started with the first place, so that the suite's other processes, which find theirs, start none.
    let servers: Arc<Mutex<Option<Servers>>> = Arc::default();
    let keep = Arc::clone(&servers);
    let code = millpond_conformance::harness::main(move |place: PathBuf| {
        let servers = Arc::clone(&keep);
        async move {
            let journals = NatsJournals::open(NatsOptions::parse(&address(&place, &servers))?).await?;
            let options = JournalOptions { cache: Some(place.join("cache")), ..JournalOptions::default() };
            JournalEngine::open(Arc::new(journals), options).await
        }
    });
    drop(servers.lock().unwrap_or_else(PoisonError::into_inner).take());
    code
}

fn address(place: &Path, servers: &Mutex<Option<Servers>>) -> String {
    let file = place.join(ADDRESS);
    let mut servers = servers.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(address) = std::fs::read_to_string(&file) {
        return address;
    }
    let (started, address) = start();
    std::fs::write(&file, &address).expect("the place's folder");
    *servers = Some(started);
    address
}

fn start() -> (Servers, String) {
    if std::env::var(SERVERS).is_ok_and(|which| which == "cluster") {
        let Some(cluster) = NatsCluster::start(NatsSync::Always).expect("NATS starts") else { std::process::exit(0) };
        let address = format!("{}/?replicas=3&timeout=30", cluster.address());
        return (Servers::Three(cluster), address);
    }
    let started = NatsServer::start(NatsRelease::Current, NatsSync::Always).expect("NATS starts");
    let Some(server) = started else { std::process::exit(0) };
    let address = format!("{}/?timeout=30", server.url());
    (Servers::One(server), address)
}
