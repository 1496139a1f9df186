//! The backends that everything is tried on: one line each.

use std::io::Result;
use std::path::Path;

use millpond_testservers::{Folder, PostgresServer, SeaweedServer};

/// A backend, and how to get one of one's own.
#[derive(Clone, Copy)]
pub struct Backend {
    /// Its name in reports and on the command line.
    pub name: &'static str,
    /// Starts what it needs; `None` where that is not installed.
    pub start: fn() -> Result<Option<Box<dyn Server>>>,
}

/// Every backend. A further one is a line here and a [`Server`].
pub const ALL: &[Backend] = &[
    Backend { name: "memory", start: || folders(|_, _| "memory:".to_owned()) },
    Backend { name: "sqlite", start: || folders(|folder, name| format!("sqlite:{}/{name}.db", folder.display())) },
    Backend { name: "file", start: || folders(|folder, name| format!("file:{}/{name}", folder.display())) },
    Backend { name: "object", start: || folders(|folder, name| cached("object-file:", folder, name)) },
    Backend { name: "postgres", start: || Ok(PostgresServer::start()?.map(|s| Box::new(s) as Box<dyn Server>)) },
    Backend { name: "s3", start: || Ok(S3::start()?.map(|s| Box::new(s) as Box<dyn Server>)) },
];

/// The backends of these names; all of them where there is no name.
///
/// # Errors
/// The names there are, when one of those given is not among them.
pub fn chosen(names: &[String]) -> std::result::Result<Vec<Backend>, String> {
    let unknown = names.iter().find(|name| ALL.iter().all(|b| b.name != name.as_str()));
    if let Some(unknown) = unknown {
        let known: Vec<&str> = ALL.iter().map(|b| b.name).collect();
        return Err(format!("there is no backend {unknown:?}; there are {}", known.join(", ")));
    }
    Ok(ALL.iter().filter(|b| names.is_empty() || names.iter().any(|n| n == b.name)).copied().collect())
}

/// What a backend needs while it is used: a server, or a folder.
pub trait Server: Send {
    /// The URL of an empty store. Each name is a store of its own.
    ///
    /// # Errors
    /// What making one fails with.
    fn place(&self, name: &str) -> Result<String>;

    /// The port of the server; `None` where there is none.
    fn port(&self) -> Option<u16> {
        None
    }

    /// Kills the server as a crash would, and starts it again. False where there is none.
    ///
    /// # Errors
    /// What starting fails with.
    fn crash(&mut self) -> Result<bool> {
        Ok(false)
    }
}

struct Folders {
    folder: Folder,
    url: fn(&Path, &str) -> String,
}

fn folders(url: fn(&Path, &str) -> String) -> Result<Option<Box<dyn Server>>> {
    Ok(Some(Box::new(Folders { folder: Folder::new("millpond-proof")?, url })))
}

fn cached(scheme: &str, folder: &Path, name: &str) -> String {
    let folder = folder.display();
    format!("{scheme}{folder}/{name}?cache={folder}/{name}-cache")
}

impl Server for Folders {
    fn place(&self, name: &str) -> Result<String> {
        Ok((self.url)(self.folder.path(), name))
    }
}

impl Server for PostgresServer {
    fn place(&self, name: &str) -> Result<String> {
        Ok(format!("{}?pool=6", self.create(&name.replace('-', "_"))?))
    }

    fn port(&self) -> Option<u16> {
        Some(PostgresServer::port(self))
    }

    fn crash(&mut self) -> Result<bool> {
        self.kill();
        self.restart().map(|()| true)
    }
}

/// SeaweedFS, and a folder for replicas.
struct S3 {
    server: SeaweedServer,
    cache: Folder,
}

/// The one bucket of all stores; each has a prefix.
const BUCKET: &str = "proof";

impl S3 {
    fn start() -> Result<Option<Self>> {
        let Some(server) = SeaweedServer::start()? else { return Ok(None) };
        server.create_bucket(BUCKET)?;
        Ok(Some(Self { server, cache: Folder::new("millpond-proof-cache")? }))
    }
}

impl Server for S3 {
    fn place(&self, name: &str) -> Result<String> {
        let endpoint = self.server.endpoint();
        let cache = self.cache.path().join(name);
        Ok(format!("minio://{}/{BUCKET}/{name}?cache={}", endpoint.trim_start_matches("http://"), cache.display()))
    }

    fn port(&self) -> Option<u16> {
        self.server.endpoint().rsplit(':').next()?.parse().ok()
    }

    fn crash(&mut self) -> Result<bool> {
        self.server.kill();
        self.server.restart().map(|()| true)
    }
}
