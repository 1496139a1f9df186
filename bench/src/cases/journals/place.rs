//! A store on a journal by its URL, with the engine's counts at hand.

use std::path::PathBuf;
use std::sync::Arc;

use millpond_core::{Engine, Front, Namespace, Store};
use millpond_journal::drivers::file::{FileJournals, FileOptions};
use millpond_journal::drivers::nats::{NatsJournals, NatsOptions};
use millpond_journal::drivers::object::{ObjectJournals, ObjectOptions, ObjectPlace};
use millpond_journal::drivers::redis::{RedisJournals, RedisOptions};
use millpond_journal::{JournalEngine, JournalOptions, Journals};
use millpond_testservers::{S3_ACCESS_KEY, S3_SECRET_KEY};

use crate::world::{self, Done};

/// The keys of the private S3 server.
pub const S3_KEYS: [(&str, &str); 3] =
    [("aws_access_key_id", S3_ACCESS_KEY), ("aws_secret_access_key", S3_SECRET_KEY), ("aws_region", "us-east-1")];

/// Opens the store of a URL that ends in its `cache=FOLDER`, which files need none of.
pub async fn open(url: &str, snapshot_bytes: u64) -> Done<(Store, Arc<JournalEngine>)> {
    let (place, cache) = split_cache(url);
    let options = JournalOptions { cache, snapshot_bytes, ..JournalOptions::default() };
    let engine = Arc::new(JournalEngine::connect(journals(place), options).await?);
    let shared: Arc<dyn Engine> = Arc::clone(&engine) as _;
    let store = Store::open(Arc::new(Front::new(shared)), Namespace::default()).await?;
    store.declare(&[world::WORK.spec()?]).await?;
    Ok((store, engine))
}

/// The folder of replicas of a URL.
pub fn cache(url: &str) -> PathBuf {
    let files = || PathBuf::from(url.trim_start_matches("file:")).join("cache");
    split_cache(url).1.unwrap_or_else(files)
}

fn split_cache(url: &str) -> (String, Option<PathBuf>) {
    match url.split_once("cache=") {
        Some((place, folder)) => (place.trim_end_matches(['?', '&']).to_owned(), Some(folder.into())),
        None => (url.to_owned(), None),
    }
}

async fn journals(url: String) -> millpond_core::Result<Arc<dyn Journals>> {
    if let Some(folder) = url.strip_prefix("file:") {
        return Ok(Arc::new(FileJournals::open(folder, FileOptions::default())?));
    }
    if url.starts_with("redis:") {
        return Ok(Arc::new(RedisJournals::open(&url, RedisOptions::default()).await?));
    }
    if url.starts_with("nats:") {
        return Ok(Arc::new(NatsJournals::open(NatsOptions::parse(&url)?).await?));
    }
    let unknown = || millpond_core::Error::invalid("the bench knows no such journal");
    let place = ObjectPlace::parse_with(&url, &S3_KEYS)?.ok_or_else(unknown)?;
    Ok(Arc::new(ObjectJournals::open(place, ObjectOptions::default()).await?))
}
