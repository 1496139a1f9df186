//! The journal engine on a Redis cluster keeps every promise of the suite.

#[path = "support/redis.rs"]
mod redis;

use std::process::ExitCode;

use millpond_testservers::RedisCluster;

fn main() -> ExitCode {
    redis::suite(|| {
        let cluster = RedisCluster::start().expect("a Redis cluster starts")?;
        let hosts: Vec<String> = cluster.urls().iter().map(|url| url.trim_start_matches("redis://").to_owned()).collect();
        let address = format!("redis://{}?cluster=true&appendfsync=always&timeout=20", hosts.join(","));
        Some((cluster, address))
    })
}
