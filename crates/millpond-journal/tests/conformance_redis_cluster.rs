//! The journal engine on a Redis cluster keeps every promise of the suite.

#[path = "support/suite.rs"]
mod suite;

use std::process::ExitCode;
use std::sync::Arc;

use millpond_journal::Journals;
use millpond_journal::drivers::redis::{RedisJournals, RedisOptions};
use millpond_testservers::RedisCluster;

fn main() -> ExitCode {
    let start = || {
        let cluster = RedisCluster::start().expect("a Redis cluster starts")?;
        let hosts: Vec<String> = cluster.urls().iter().map(|url| url.trim_start_matches("redis://").to_owned()).collect();
        let address = format!("redis://{}?cluster=true&appendfsync=always&timeout=20", hosts.join(","));
        Some((cluster, address))
    };
    suite::suite(start, |url| {
        Box::pin(async move { Ok(Arc::new(RedisJournals::open(&url, RedisOptions::default()).await?) as Arc<dyn Journals>) })
    })
}
