//! Private NATS servers with JetStream: one alone, or a cluster.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::port::free_port;
use crate::process::{Folder, Process, find_program, missing, wait_until, wheel_programs};

/// Which program to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatsRelease {
    /// The pinned current one.
    Current,
    /// Whatever the system brings, which may be too old.
    System,
}

/// When JetStream writes to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatsSync {
    /// Before each acknowledgement (`sync_interval: always`).
    Always,
    /// Now and then: the server's default.
    Default,
}

/// A running NATS server of one's own. Killed when dropped.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    port: u16,
    monitor: u16,
    process: Option<Process>,
    folder: Folder,
}

impl NatsServer {
    /// Starts a server; `None` where it is not installed.
    ///
    /// # Errors
    /// What starting fails with; a missing program where `CI` is set.
    pub fn start(release: NatsRelease, sync: NatsSync) -> Result<Option<Self>> {
        Self::start_with(release, sync, "")
    }

    /// As [`NatsServer::start`], with more lines in its configuration. Paths in it are relative to [`NatsServer::folder`].
    ///
    /// # Errors
    /// What starting fails with; a missing program where `CI` is set.
    pub fn start_with(release: NatsRelease, sync: NatsSync, more: &str) -> Result<Option<Self>> {
        let Some(program) = program(release)? else { return Ok(None) };
        let mut server = Self::prepare(program, "alone", sync, more)?;
        server.restart()?;
        Ok(Some(server))
    }

    fn prepare(program: PathBuf, name: &str, sync: NatsSync, more: &str) -> Result<Self> {
        let folder = Folder::new("millpond-nats")?;
        let (port, monitor) = (free_port()?, free_port()?);
        let interval = if sync == NatsSync::Always { "sync_interval: always, " } else { "" };
        let data = folder.path().join("data");
        let text = format!(
            "host: 127.0.0.1\nport: {port}\nhttp: \"127.0.0.1:{monitor}\"\nserver_name: {name}\njetstream {{ {interval}store_dir: {:?} }}\n{more}\n",
            data.display().to_string()
        );
        std::fs::write(folder.path().join("nats.conf"), text)?;
        Ok(Self { program, port, monitor, process: None, folder })
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its monitoring port, at 127.0.0.1.
    pub fn monitor(&self) -> u16 {
        self.monitor
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The folder of its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
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
        self.launch()?;
        self.wait_until_it_answers()
    }

    fn launch(&mut self) -> Result<()> {
        self.kill();
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.folder.path().join("nats.conf"));
        self.process = Some(Process::start(command, &self.log_file(), self.folder.path())?);
        Ok(())
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let port = self.port;
        let log = self.log_file();
        let Some(process) = &mut self.process else { return Err(Error::other("the server was not started")) };
        wait_until("NATS answers", || !process.runs() || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        if process.runs() {
            return Ok(());
        }
        Err(Error::other(format!("NATS did not start:\n{}", std::fs::read_to_string(log).unwrap_or_default())))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

/// Three servers that replicate to each other. Killed when dropped.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<NatsServer>,
}

impl NatsCluster {
    /// Starts a cluster of the pinned release; `None` where it is not installed.
    ///
    /// # Errors
    /// What starting fails with; a missing program where `CI` is set.
    pub fn start(sync: NatsSync) -> Result<Option<Self>> {
        let Some(program) = program(NatsRelease::Current)? else { return Ok(None) };
        let routes = [free_port()?, free_port()?, free_port()?];
        let all = routes.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        let mut nodes = Vec::with_capacity(routes.len());
        for (i, port) in routes.into_iter().enumerate() {
            let cluster = format!("cluster {{ name: C, listen: 127.0.0.1:{port}, routes: [{all}] }}");
            nodes.push(NatsServer::prepare(program.clone(), &format!("n{i}"), sync, &cluster)?);
        }
        // All at once: a node alone waits for the others before it answers about JetStream.
        nodes.iter_mut().try_for_each(NatsServer::launch)?;
        nodes.iter_mut().try_for_each(NatsServer::wait_until_it_answers)?;
        let led = || nodes.iter().any(|n| n.log().contains("JetStream cluster new metadata leader"));
        wait_until("the NATS cluster has a leader", led)?;
        // A leader places nothing on servers that have not told it of themselves yet.
        wait_until("the NATS cluster takes three copies", || nodes.iter().any(|node| takes_three_copies(node.port)))?;
        Ok(Some(Self { nodes }))
    }

    /// The nodes; the server named `n0` is the first.
    pub fn nodes(&mut self) -> &mut [NatsServer] {
        &mut self.nodes
    }

    /// One address that names all nodes: `nats://HOST:PORT,HOST:PORT…`.
    pub fn address(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("nats://{}", nodes.join(","))
    }

    /// The addresses of all nodes, separated by commas.
    pub fn url(&self) -> String {
        self.nodes.iter().map(NatsServer::url).collect::<Vec<_>>().join(",")
    }
}

/// Whether a stream with three copies can be made; it is removed again.
fn takes_three_copies(port: u16) -> bool {
    let config = "{\"name\":\"ready\",\"subjects\":[\"ready\"],\"num_replicas\":3}";
    let made = ask(port, "$JS.API.STREAM.CREATE.ready", config).is_ok_and(|said| !said.contains("\"error\""));
    made && wait_until("the stream is gone", || {
        ask(port, "$JS.API.STREAM.DELETE.ready", "").is_ok_and(|said| said.contains("true"))
    })
    .is_ok()
}

/// The answer to one question, by the protocol's own words.
fn ask(port: u16, subject: &str, question: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let length = question.len();
    write!(stream, "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB {subject} answer {length}\r\n{question}\r\n")?;
    let (mut said, mut part) = (String::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut part)?;
        said.push_str(&String::from_utf8_lossy(&part[..count]));
        // MSG answer 1 LENGTH, and the answer on a line of its own.
        let answer = said.split_once("MSG answer ").and_then(|(_, rest)| rest.split_once("\r\n"));
        if let Some((body, _)) = answer.and_then(|(_, rest)| rest.split_once("\r\n")) {
            return Ok(body.to_owned());
        }
        if count == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, format!("no answer: {said:?}")));
        }
    }
}

fn program(release: NatsRelease) -> Result<Option<PathBuf>> {
    let found = match release {
        NatsRelease::Current => wheel_programs().map(|folder| folder.join("nats-server")).filter(|file| file.is_file()),
        NatsRelease::System => find_program("nats-server", &[PathBuf::from("/usr/sbin")]),
    };
    if found.is_none() {
        missing("nats-server", if release == NatsRelease::Current { ".ci/servers" } else { "apt-get install nats-server" })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_and_is_killed() {
        let Some(mut server) = NatsServer::start(NatsRelease::Current, NatsSync::Always).unwrap() else { return };
        assert!(server.log().contains("JetStream"), "{}", server.log());
        server.kill();
        assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
        server.restart().unwrap();
    }

    #[test]
    fn three_servers_find_a_leader() {
        let Some(mut cluster) = NatsCluster::start(NatsSync::Default).unwrap() else { return };
        assert_eq!((cluster.nodes().len(), cluster.url().matches("nats://").count()), (3, 3));
    }
}
