//! The journal engine keeps every promise of the suite on a real S3 server, SeaweedFS, which is started for this run.
//! The suite's other processes find it through a file in the place's folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millpond_core::Error;
use millpond_journal::drivers::object::{ObjectJournals, ObjectOptions, ObjectPlace};
use millpond_journal::{JournalEngine, JournalOptions, Journals};
use millpond_testservers::{S3_ACCESS_KEY, S3_SECRET_KEY, SeaweedServer};

/// The file that holds the server's address.
const ADDRESS: &str = "address";

fn main() -> ExitCode {
    // Started with the first place, so that the suite's other processes, which find theirs, start none.
    let server: Arc<Mutex<Option<SeaweedServer>>> = Arc::default();
    let keep = Arc::clone(&server);
    let code = millpond_conformance::harness::main(move |folder: PathBuf| {
        let server = Arc::clone(&keep);
        async move {
            let endpoint = endpoint(&folder, &server);
            let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let url = format!("s3://conformance/{name}?region=here&endpoint={endpoint}");
            let options = JournalOptions { cache: Some(folder.join("cache")), ..JournalOptions::default() };
            JournalEngine::connect(async move { place(&url).await }, options).await
        }
    });
    drop(server.lock().unwrap_or_else(PoisonError::into_inner).take());
    code
}

async fn place(url: &str) -> millpond_core::Result<Arc<dyn Journals>> {
    let keys = [("aws_access_key_id", S3_ACCESS_KEY), ("aws_secret_access_key", S3_SECRET_KEY)];
    let place = ObjectPlace::parse_with(url, &keys)?.ok_or_else(|| Error::invalid("this is an object store's URL"))?;
    let options = ObjectOptions { grace: Duration::from_secs(4), poll: Duration::from_millis(20), ..ObjectOptions::default() };
    Ok(Arc::new(ObjectJournals::open(place, options).await?))
}

fn endpoint(folder: &Path, server: &Mutex<Option<SeaweedServer>>) -> String {
    let file = folder.join(ADDRESS);
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(endpoint) = std::fs::read_to_string(&file) {
        return endpoint;
    }
    let started = SeaweedServer::start().expect("SeaweedFS starts");
    let Some(started) = started else { std::process::exit(0) };
    started.create_bucket("conformance").expect("a bucket");
    let endpoint = started.endpoint();
    std::fs::write(&file, &endpoint).expect("the place's folder");
    *server = Some(started);
    endpoint
}
