//! S3 servers that no journal can be kept on, for a store that has to notice: Garage does not know the condition of a
//! create, s3s-fs looks first and writes then. Both are built from source, which takes a quarter of an hour.

use std::fmt;
use std::io::{Error, Result};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::port::free_port;
use crate::process::{Folder, Process, find_program, missing, wait_until, wheel_programs};
use crate::{S3_ACCESS_KEY, S3_SECRET_KEY};

/// The bucket that each of them has.
const BUCKET: &str = "pond";
/// Garage takes keys of this form only.
const GARAGE_KEY: &str = "GK0123456789abcdef01234567";
/// And secrets of this one.
const GARAGE_SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A server that breaks the promise a journal rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnfitS3 {
    /// Ignores `If-None-Match`.
    Garage,
    /// Checks it, and then writes.
    S3sFs,
}

impl fmt::Display for UnfitS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// Such a server, running until it is dropped.
#[derive(Debug)]
pub struct UnfitServer {
    kind: UnfitS3,
    port: u16,
    _process: Process,
    folder: Folder,
}

impl UnfitS3 {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Garage, Self::S3sFs];

    fn program(self) -> &'static str {
        match self {
            Self::Garage => "garage",
            Self::S3sFs => "s3s-fs",
        }
    }

    /// Starts it; `None` where it is not installed.
    ///
    /// # Errors
    /// What starting fails with; a missing program where `CI` is set.
    pub fn start(self) -> Result<Option<UnfitServer>> {
        let folders: Vec<PathBuf> = wheel_programs().map(|folder| folder.join("long/bin")).into_iter().collect();
        let Some(program) = find_program(self.program(), &folders) else {
            missing(self.program(), ".ci/long-servers")?;
            return Ok(None);
        };
        let (folder, port) = (Folder::new("millpond-unfit")?, free_port()?);
        let command = match self {
            Self::Garage => garage(program, folder.path(), port)?,
            Self::S3sFs => s3s(program, folder.path(), port)?,
        };
        let log = folder.path().join("log");
        let mut process = Process::start(command, &log, folder.path())?;
        wait_until("the server listens", || !process.runs() || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        if !process.runs() {
            return Err(Error::other(format!("{self} did not start:\n{}", std::fs::read_to_string(log).unwrap_or_default())));
        }
        Ok(Some(UnfitServer { kind: self, port, _process: process, folder }))
    }
}

fn garage(program: PathBuf, folder: &Path, port: u16) -> Result<Command> {
    let config = folder.join("garage.toml");
    let (shown, rpc) = (folder.display(), free_port()?);
    let text = format!(
        "metadata_dir = \"{shown}/meta\"\ndata_dir = \"{shown}/data\"\ndb_engine = \"sqlite\"\nreplication_factor = 1\n\
         rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{GARAGE_SECRET}\"\n\
         [s3_api]\ns3_region = \"us-east-1\"\napi_bind_addr = \"127.0.0.1:{port}\"\n"
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config).args(["server", "--single-node", "--default-bucket"]);
    command.env("GARAGE_DEFAULT_ACCESS_KEY", GARAGE_KEY).env("GARAGE_DEFAULT_SECRET_KEY", GARAGE_SECRET);
    command.env("GARAGE_DEFAULT_BUCKET", BUCKET);
    Ok(command)
}

fn s3s(program: PathBuf, folder: &Path, port: u16) -> Result<Command> {
    let data = folder.join("data");
    std::fs::create_dir_all(data.join(BUCKET))?;
    let mut command = Command::new(program);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--access-key", S3_ACCESS_KEY]);
    command.args(["--secret-key", S3_SECRET_KEY]).arg(data);
    Ok(command)
}

impl UnfitServer {
    /// The URL of a store on it.
    pub fn store(&self) -> String {
        let cache = self.folder.path().join("cache");
        format!("s3://{BUCKET}/store?endpoint=http://127.0.0.1:{}&cache={}", self.port, cache.display())
    }

    /// Variables that a program which opens its store needs.
    pub fn variables(&self) -> [(&'static str, &'static str); 3] {
        let (key, secret) = match self.kind {
            UnfitS3::Garage => (GARAGE_KEY, GARAGE_SECRET),
            UnfitS3::S3sFs => (S3_ACCESS_KEY, S3_SECRET_KEY),
        };
        [("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_REGION", "us-east-1")]
    }
}
