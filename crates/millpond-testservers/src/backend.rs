//! Every kind of place a Millpond store can be at, as a test uses it: started, and asked for the URL of a fresh store.
//!
//! A further backend is one more variant here, and every test over [`Backend::ALL`] has it.

use std::fmt;
use std::io::Result;
use std::path::Path;

use crate::{
    Folder, NatsCluster, NatsRelease, NatsServer, NatsSync, PostgresServer, RedisCluster, RedisFsync, RedisServer, S3_ACCESS_KEY,
    S3_SECRET_KEY, SeaweedServer,
};

/// A kind of place, with the settings that keep what they acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// One database file.
    Sqlite,
    /// A folder with a journal.
    File,
    /// A PostgreSQL server.
    Postgres,
    /// One Redis server that flushes each write.
    Redis,
    /// Three Redis servers in cluster mode.
    RedisCluster,
    /// One NATS server that flushes each write.
    Nats,
    /// Three NATS servers that flush each write, with three copies of everything.
    NatsCluster,
    /// An S3 server.
    S3,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::File => "file",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::RedisCluster => "redis-cluster",
            Self::Nats => "nats",
            Self::NatsCluster => "nats-cluster",
            Self::S3 => "s3",
        })
    }
}

/// A backend that runs until this is dropped.
#[derive(Debug)]
pub struct RunningBackend {
    server: Server,
    /// Replicas, and the stores that are files.
    folder: Folder,
}

#[derive(Debug)]
enum Server {
    Sqlite,
    File,
    Postgres(PostgresServer),
    Redis(RedisServer),
    RedisCluster(RedisCluster),
    Nats(NatsServer),
    NatsCluster(NatsCluster),
    S3(SeaweedServer),
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Sqlite, Self::File, Self::Postgres, Self::Redis, Self::RedisCluster, Self::Nats, Self::NatsCluster, Self::S3];

    /// Starts it; `None` where its server is not installed.
    ///
    /// # Errors
    /// What starting fails with; a missing program where `CI` is set.
    pub fn start(self) -> Result<Option<RunningBackend>> {
        let server = match self {
            Self::Sqlite => Some(Server::Sqlite),
            Self::File => Some(Server::File),
            Self::Postgres => PostgresServer::start()?.map(Server::Postgres),
            Self::Redis => RedisServer::start(RedisFsync::Always)?.map(Server::Redis),
            Self::RedisCluster => RedisCluster::start()?.map(Server::RedisCluster),
            Self::Nats => NatsServer::start(NatsRelease::Current, NatsSync::Always)?.map(Server::Nats),
            Self::NatsCluster => NatsCluster::start(NatsSync::Always)?.map(Server::NatsCluster),
            Self::S3 => SeaweedServer::start()?.map(Server::S3),
        };
        let Some(server) = server else { return Ok(None) };
        Ok(Some(RunningBackend { server, folder: Folder::new("millpond-backend")? }))
    }
}

impl RunningBackend {
    /// The URL of a store of this name, which is at least three small letters or digits. The first call for a name makes
    /// room for it on the server.
    ///
    /// # Errors
    /// What the server fails with.
    pub fn store(&self, name: &str) -> Result<String> {
        let folder = self.folder.path();
        Ok(match &self.server {
            Server::Sqlite => format!("sqlite:{}", folder.join(format!("{name}.db")).display()),
            Server::File => format!("file:{}", folder.join(name).display()),
            Server::Postgres(server) => server.create(name)?,
            Server::Redis(server) => format!("{}?prefix={name}&{}", server.url(), cache(folder)),
            Server::RedisCluster(cluster) => {
                let hosts = cluster.urls().iter().map(|url| url.trim_start_matches("redis://").to_owned()).collect::<Vec<_>>();
                format!("redis://{}?cluster=true&prefix={name}&{}", hosts.join(","), cache(folder))
            }
            Server::Nats(server) => format!("{}?prefix={name}&{}", server.url(), cache(folder)),
            Server::NatsCluster(cluster) => {
                let hosts = cluster.url().replace("nats://", "");
                format!("nats://{hosts}?prefix={name}&replicas=3&{}", cache(folder))
            }
            Server::S3(server) => {
                server.create_bucket(name)?;
                format!("s3://{name}/store?endpoint={}&{}", server.endpoint(), cache(folder))
            }
        })
    }

    /// The port that its stores are reached by; `None` where there is no server, or more than one.
    pub fn port(&self) -> Option<u16> {
        match &self.server {
            Server::Postgres(server) => Some(server.port()),
            Server::Redis(server) => Some(server.port()),
            Server::Nats(server) => Some(server.port()),
            Server::S3(server) => server.endpoint().rsplit(':').next()?.parse().ok(),
            Server::Sqlite | Server::File | Server::RedisCluster(_) | Server::NatsCluster(_) => None,
        }
    }

    /// Kills its server as a crash would, or all of them at once. False where there is none.
    pub fn kill(&mut self) -> bool {
        match &mut self.server {
            Server::Sqlite | Server::File => return false,
            Server::Postgres(server) => server.kill(),
            Server::Redis(server) => server.kill(),
            Server::RedisCluster(cluster) => cluster.nodes().iter_mut().for_each(RedisServer::kill),
            Server::Nats(server) => server.kill(),
            Server::NatsCluster(cluster) => cluster.nodes().iter_mut().for_each(NatsServer::kill),
            Server::S3(server) => server.kill(),
        }
        true
    }

    /// Starts what was killed again, on the same data and ports.
    ///
    /// # Errors
    /// What starting fails with.
    pub fn restart(&mut self) -> Result<()> {
        match &mut self.server {
            Server::Sqlite | Server::File => Ok(()),
            Server::Postgres(server) => server.restart(),
            Server::Redis(server) => server.restart(),
            Server::RedisCluster(cluster) => cluster.nodes().iter_mut().try_for_each(RedisServer::restart),
            Server::Nats(server) => server.restart(),
            Server::NatsCluster(cluster) => cluster.nodes().iter_mut().try_for_each(NatsServer::restart),
            Server::S3(server) => server.restart(),
        }
    }

    /// Variables that a program which opens its stores needs.
    pub fn variables(&self) -> &'static [(&'static str, &'static str)] {
        match self.server {
            Server::S3(_) => {
                &[("AWS_ACCESS_KEY_ID", S3_ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", S3_SECRET_KEY), ("AWS_REGION", "us-east-1")]
            }
            _ => &[],
        }
    }
}

fn cache(folder: &Path) -> String {
    format!("cache={}", folder.join("cache").display())
}
