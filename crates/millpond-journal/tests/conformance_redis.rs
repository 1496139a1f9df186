//! The journal engine on a Redis server keeps every promise of the suite.

#[path = "support/redis.rs"]
mod redis;

use std::process::ExitCode;

use millpond_testservers::{RedisFsync, RedisServer};

fn main() -> ExitCode {
    redis::suite(|| {
        let server = RedisServer::start(RedisFsync::Always).expect("Redis starts")?;
        // Long enough for a machine that does much else meanwhile.
        let address = format!("{}?appendfsync=always&timeout=20", server.url());
        Some((server, address))
    })
}
