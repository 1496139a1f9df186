//! Private servers for tests, started from installed programs on free ports in folders of their own.
//!
//! ```text
//!   PostgresServer::start()? ──► Some(server): it runs until dropped, with its whole process group
//!                            └─► None: the program is not installed; said loudly, and a failure where `CI` is set
//! ```
//!
//! A server can be killed as by a power switch and started again on the same data. When the test program itself dies,
//! a watcher ends the server and removes its folder.

mod backend;
mod lossy;
mod nats;
mod port;
mod postgres;
mod process;
mod proxy;
mod redis;
mod seaweedfs;
mod unfit;

pub use backend::{Backend, RunningBackend};
pub use lossy::LossyProxy;
pub use nats::{NatsCluster, NatsRelease, NatsServer, NatsSync};
pub use port::free_port;
pub use postgres::PostgresServer;
pub use process::{Folder, Process, find_program, missing, wait_until};
pub use proxy::{Fault, LATE, Proxy};
pub use redis::{RedisCluster, RedisFsync, RedisServer};
pub use seaweedfs::{S3_ACCESS_KEY, S3_SECRET_KEY, SeaweedServer};
pub use unfit::{UnfitS3, UnfitServer};
