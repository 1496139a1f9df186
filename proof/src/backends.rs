//! The backends that everything is tried on: one line each.

use std::io::Result;

use millpond_testservers::{Backend, Folder, RunningBackend};

/// Every backend, by its name in reports and on the command line.
pub const ALL: &[(&str, Kind)] = &[
    ("memory", Kind::Memory),
    ("sqlite", Kind::Of(Backend::Sqlite)),
    ("file", Kind::Of(Backend::File)),
    ("object", Kind::Object),
    ("s3", Kind::Of(Backend::S3)),
    ("postgres", Kind::Of(Backend::Postgres)),
    ("redis", Kind::Of(Backend::Redis)),
    ("redis-cluster", Kind::Of(Backend::RedisCluster)),
    ("nats", Kind::Of(Backend::Nats)),
    ("nats-cluster", Kind::Of(Backend::NatsCluster)),
];

/// A kind of backend.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// In this process alone.
    Memory,
    /// A folder that is used as an object store.
    Object,
    /// One that the tests of other crates use, too.
    Of(Backend),
}

/// The backends of these names; all of them where there is no name.
///
/// # Errors
/// The names there are, when one of those given is not among them.
pub fn chosen(names: &[String]) -> std::result::Result<Vec<(&'static str, Kind)>, String> {
    let unknown = names.iter().find(|name| ALL.iter().all(|(known, _)| known != name));
    if let Some(unknown) = unknown {
        let known: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no backend {unknown:?}; there are {}", known.join(", ")));
    }
    Ok(ALL.iter().filter(|(known, _)| names.is_empty() || names.iter().any(|n| n == known)).copied().collect())
}

/// A backend that runs until this is dropped.
#[derive(Debug)]
pub enum Running {
    /// In this process alone.
    Memory,
    /// In a folder.
    Object(Folder),
    /// Whatever it is, it has a URL.
    Of(RunningBackend),
}

impl Kind {
    /// Whether its stores are reached by one port, before which a proxy can stand.
    pub fn has_one_port(self) -> bool {
        matches!(self, Self::Of(Backend::Postgres | Backend::Redis | Backend::Nats | Backend::S3))
    }

    /// Starts it; `None` where its server is not installed, which is said loudly.
    ///
    /// # Errors
    /// What starting fails with; a missing program where `CI` is set.
    pub fn start(self) -> Result<Option<Running>> {
        Ok(match self {
            Self::Memory => Some(Running::Memory),
            Self::Object => Some(Running::Object(Folder::new("millpond-proof")?)),
            Self::Of(backend) => backend.start()?.map(Running::Of),
        })
    }
}

impl Running {
    /// The URL of a store of this name, which is at least three small letters or digits.
    ///
    /// # Errors
    /// What making room for it fails with.
    pub fn store(&self, name: &str) -> Result<String> {
        match self {
            Self::Memory => Ok("memory:".to_owned()),
            Self::Object(folder) => {
                let folder = folder.path().display();
                Ok(format!("object-file:{folder}/{name}?cache={folder}/cache"))
            }
            Self::Of(running) => running.store(name),
        }
    }

    /// The port that its stores are reached by; `None` where there is none, or more than one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Of(running) => running.port(),
            Self::Memory | Self::Object(_) => None,
        }
    }

    /// Kills its servers as a crash would. False where there are none.
    pub fn kill(&mut self) -> bool {
        match self {
            Self::Of(running) => running.kill(),
            Self::Memory | Self::Object(_) => false,
        }
    }

    /// Starts what was killed again, on the same data.
    ///
    /// # Errors
    /// What starting fails with.
    pub fn restart(&mut self) -> Result<()> {
        match self {
            Self::Of(running) => running.restart(),
            Self::Memory | Self::Object(_) => Ok(()),
        }
    }
}
