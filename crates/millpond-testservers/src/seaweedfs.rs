//! A private S3 server that really enforces conditional writes: SeaweedFS.

use std::io::{Error, Read as _, Result, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::port::free_port;
use crate::process::{Folder, Process, missing, wait_until, wheel_programs};

/// The one user of the server.
pub const S3_ACCESS_KEY: &str = "testkey";
/// The one user's secret.
pub const S3_SECRET_KEY: &str = "testsecret123";

/// A running SeaweedFS of one's own, with one S3 user. Killed when dropped.
#[derive(Debug)]
pub struct SeaweedServer {
    ports: Ports,
    process: Option<Process>,
    folder: Folder,
}

/// Each of them has a second port, ten thousand higher, between the parts of the server: [`free_port`]
/// looks that it is free as well.
#[derive(Debug, Clone, Copy)]
struct Ports {
    master: u16,
    volume: u16,
    filer: u16,
    s3: u16,
}

impl SeaweedServer {
    /// Starts a server; `None` where it is not installed.
    ///
    /// # Errors
    /// What starting fails with; a missing program where `CI` is set.
    pub fn start() -> Result<Option<Self>> {
        let Some(_) = program() else {
            missing("weed (SeaweedFS)", ".ci/servers")?;
            return Ok(None);
        };
        let folder = Folder::new("millpond-seaweedfs")?;
        let ports = Ports { master: free_port()?, volume: free_port()?, filer: free_port()?, s3: free_port()? };
        std::fs::create_dir(folder.path().join("data"))?;
        let users = format!(
            "{{\"identities\":[{{\"name\":\"t\",\"credentials\":[{{\"accessKey\":{S3_ACCESS_KEY:?},\"secretKey\":{S3_SECRET_KEY:?}}}],\
             \"actions\":[\"Admin\",\"Read\",\"Write\",\"List\",\"Tagging\"]}}]}}"
        );
        std::fs::write(folder.path().join("s3.json"), users)?;
        let mut server = Self { ports, process: None, folder };
        server.restart()?;
        Ok(Some(server))
    }

    /// The address of its S3 gateway.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.s3)
    }

    /// Makes a bucket. Names have at least three characters.
    ///
    /// # Errors
    /// What the server answers, if not that the bucket was made.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        let path = format!("/buckets/{name}/");
        wait_until("the bucket is made", || http(self.ports.filer, "POST", &path, "").is_ok_and(|status| status < 300))
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same data and ports, after ending it if it still runs.
    ///
    /// # Errors
    /// What starting fails with.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let Some(program) = program() else { return Err(Error::other("weed is gone")) };
        let (folder, ports) = (self.folder.path().to_owned(), self.ports);
        let mut command = Command::new(program);
        command.arg("server").arg(format!("-dir={}", folder.join("data").display()));
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-master.electionTimeout=1s"]);
        command.args(["-master.volumeSizeLimitMB=64", "-master.volumePreallocate=false"]);
        command.args(["-volume.max=400", "-volume.preStopSeconds=0", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.arg(format!("-master.port={}", ports.master)).arg(format!("-volume.port={}", ports.volume));
        command.arg(format!("-filer.port={}", ports.filer)).arg(format!("-s3.port={}", ports.s3));
        command.arg(format!("-s3.config={}", folder.join("s3.json").display()));
        // The program looks for settings and keeps notes in the home folder otherwise.
        command.env("HOME", &folder).current_dir(&folder);
        let log = folder.join("log");
        let mut process = Process::start(command, &log, &folder)?;
        // The parts find each other one after the other: ready is what can keep a byte.
        let ready = || {
            http(ports.s3, "GET", "/", "").is_ok_and(|status| status < 500)
                && http(ports.filer, "PUT", "/ready", "1").is_ok_and(|status| status < 300)
        };
        wait_until("SeaweedFS answers", || !process.runs() || ready())?;
        if !process.runs() {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            return Err(Error::other(format!("SeaweedFS did not start:\n{log}")));
        }
        self.process = Some(process);
        Ok(())
    }
}

fn program() -> Option<std::path::PathBuf> {
    wheel_programs().map(|folder| folder.join("weed")).filter(|file| file.is_file())
}

/// The status of one small HTTP request.
fn http(port: u16, method: &str, path: &str, body: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n")?;
    write!(stream, "Connection: close\r\n\r\n{body}")?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| Error::other(format!("no HTTP answer: {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_there_after_a_crash() {
        let Some(mut server) = SeaweedServer::start().unwrap() else { return };
        server.create_bucket("bucket").unwrap();
        server.kill();
        server.restart().unwrap();
        wait_until("the bucket is back", || http(server.ports.filer, "GET", "/buckets/bucket/", "").is_ok_and(|s| s == 200))
            .unwrap();
    }
}
