//! Private Redis servers: one alone, or a cluster of three masters.

use std::io::{Error, Result};
use std::path::PathBuf;
use std::process::Command;

use crate::port::free_port;
use crate::process::{Folder, Process, find_program, missing, wait_until};

/// When Redis writes its append-only file to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisFsync {
    /// Before each answer: what was acknowledged survives a loss of power.
    Always,
    /// Once a second.
    EverySecond,
    /// No append-only file at all: everything is gone with the process.
    NoFile,
}

/// A running Redis server of one's own. Killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
    folder: Folder,
}

impl RedisServer {
    /// Starts a server; `None` where Redis is not installed.
    ///
    /// # Errors
    /// What starting fails with; a missing program where `CI` is set.
    pub fn start(fsync: RedisFsync) -> Result<Option<Self>> {
        Self::start_with(fsync, &[])
    }

    /// As [`RedisServer::start`], with more arguments such as `["--maxmemory", "10mb"]`.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_with(fsync: RedisFsync, more: &[&str]) -> Result<Option<Self>> {
        let Some(program) = find_program("redis-server", &[]) else {
            missing("redis-server", "apt-get install redis-server")?;
            return Ok(None);
        };
        let folder = Folder::new("millpond-redis")?;
        let file = match fsync {
            RedisFsync::Always => ["--appendonly", "yes", "--appendfsync", "always"].as_slice(),
            RedisFsync::EverySecond => &["--appendonly", "yes", "--appendfsync", "everysec"],
            RedisFsync::NoFile => &["--appendonly", "no"],
        };
        let arguments = file.iter().chain(more).map(|a| (*a).to_owned()).collect();
        let mut server = Self { program, port: free_port()?, arguments, process: None, folder };
        server.restart()?;
        Ok(Some(server))
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs one command with `redis-cli` and returns what it prints.
    ///
    /// # Errors
    /// What `redis-cli` fails with.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        cli(self.port, arguments)
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops (`STOP`) or continues (`CONT`) it: a machine that hangs.
    pub fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            process.signal(name);
        }
    }

    /// Starts it again on the same data and port, after ending it if it still runs.
    ///
    /// # Errors
    /// What starting fails with.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut command = Command::new(&self.program);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--repl-diskless-sync-delay", "0"]);
        command.arg("--dir").arg(self.folder.path()).args(&self.arguments);
        let log = self.folder.path().join("log");
        let mut process = Process::start(command, &log, self.folder.path())?;
        let port = self.port;
        let ready = || cli(port, &["PING"]).is_ok_and(|answer| answer.trim() == "PONG");
        wait_until("Redis answers", || !process.runs() || ready())?;
        if !process.runs() {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            return Err(Error::other(format!("Redis did not start:\n{log}")));
        }
        self.process = Some(process);
        Ok(())
    }
}

/// Three masters that share the slots. Killed when dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster in which every node writes before it answers; `None` where Redis is not installed.
    ///
    /// # Errors
    /// What starting fails with; a missing program where `CI` is set.
    pub fn start() -> Result<Option<Self>> {
        let mut nodes = Vec::with_capacity(3);
        for _ in 0..3 {
            let bus = free_port()?.to_string();
            let cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", &bus];
            let Some(node) = RedisServer::start_with(RedisFsync::Always, &cluster)? else { return Ok(None) };
            nodes.push(node);
        }
        let addresses: Vec<String> = nodes.iter().map(|n| format!("127.0.0.1:{}", n.port)).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "0", "--cluster-yes"]);
        cli(nodes.first().map_or(0, RedisServer::port), &create)?;
        let ready = |n: &RedisServer| n.cli(&["CLUSTER", "INFO"]).is_ok_and(|info| info.contains("cluster_state:ok"));
        wait_until("every node of the Redis cluster is ready", || nodes.iter().all(ready))?;
        Ok(Some(Self { nodes }))
    }

    /// The nodes.
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// The addresses of all nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }
}

fn cli(port: u16, arguments: &[&str]) -> Result<String> {
    let program = find_program("redis-cli", &[]).ok_or_else(|| Error::other("redis-cli is not installed (redis-tools)"))?;
    let output = Command::new(program).args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(text) } else { Err(Error::other(format!("redis-cli {arguments:?}: {text}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_server_comes_back_with_what_it_acknowledged() {
        let Some(mut server) = RedisServer::start(RedisFsync::Always).unwrap() else { return };
        server.cli(&["SET", "a", "1"]).unwrap();
        server.kill();
        assert!(server.cli(&["GET", "a"]).is_err());
        server.restart().unwrap();
        assert_eq!(server.cli(&["GET", "a"]).unwrap().trim(), "1");
    }

    #[test]
    fn a_cluster_shares_the_slots() {
        let Some(cluster) = RedisCluster::start().unwrap() else { return };
        let moved = cluster.nodes.iter().filter(|n| n.cli(&["SET", "{x}a", "1"]).unwrap().contains("MOVED")).count();
        assert_eq!(moved, 2, "one node of three has the slot");
    }
}
