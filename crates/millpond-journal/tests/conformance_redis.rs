//! The journal engine on one Redis server keeps every promise of the suite.

#[path = "support/suite.rs"]
mod suite;

use std::process::ExitCode;
use std::sync::Arc;

use millpond_journal::Journals;
use millpond_journal::drivers::redis::{RedisJournals, RedisOptions};
use millpond_testservers::{RedisFsync, RedisServer};

fn main() -> ExitCode {
    let start = || {
        let server = RedisServer::start(RedisFsync::Always).expect("Redis starts")?;
        let address = format!("{}?appendfsync=always&timeout=20", server.url());
        Some((server, address))
    };
    suite::suite(start, |url| {
        Box::pin(async move { Ok(Arc::new(RedisJournals::open(&url, RedisOptions::default()).await?) as Arc<dyn Journals>) })
    })
}
