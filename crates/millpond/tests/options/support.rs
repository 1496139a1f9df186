//! Servers that are none, real ones, and the URLs for both.

use std::future::Future;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millpond::{OpenOptions, Pond, Result};
use millpond_testservers::{Backend, S3_ACCESS_KEY, S3_SECRET_KEY};

/// The kinds of place that have one server.
pub const SERVERS: [Backend; 4] = [Backend::Postgres, Backend::Redis, Backend::Nats, Backend::S3];

/// Runs a test, and fails it when it hangs.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let answer = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), test).await });
    runtime.shutdown_background();
    answer.expect("the test did not hang")
}

/// Runs the test of this name once more in a program of its own, which has the variables that object stores take their
/// keys from. True in the program that began it: it is done then.
pub fn done_in_child(name: &str) -> bool {
    if std::env::var_os("AWS_SECRET_ACCESS_KEY").is_some_and(|key| key == S3_SECRET_KEY) {
        return false;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--nocapture"]);
    child.env("AWS_ACCESS_KEY_ID", S3_ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", S3_SECRET_KEY).env("AWS_REGION", "us-east-1");
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// The URL of a store at a port that need not be a server's.
pub fn url(backend: Backend, port: u16, cache: &Path, more: &str) -> String {
    let cache = cache.display();
    match backend {
        Backend::Postgres => format!("postgres://postgres@127.0.0.1:{port}/options?sslmode=disable&{more}"),
        Backend::Redis => format!("redis://127.0.0.1:{port}/0?cache={cache}&{more}"),
        Backend::Nats => format!("nats://127.0.0.1:{port}/?cache={cache}&{more}"),
        _ => format!("s3://options/p?endpoint=http://127.0.0.1:{port}&cache={cache}&{more}"),
    }
}

/// Opens a place, and makes nothing there.
pub async fn open(url: &str) -> Result<Pond> {
    OpenOptions::new().create(false).open(url).await
}

/// What a server that is none does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It hangs up at once.
    HangsUp,
    /// It listens for ever.
    Silent,
}

/// A server that is none: counts connections, and keeps the first byte it hears of each.
#[derive(Debug)]
pub struct Fake {
    pub port: u16,
    connections: Arc<AtomicU64>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Fake {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, heard) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, bytes) = (Arc::clone(&connections), Arc::clone(&heard));
        // It ends with the program.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                if manner == Manner::Silent {
                    let bytes = Arc::clone(&bytes);
                    std::thread::spawn(move || listen(client, &bytes));
                }
            }
        });
        Self { port, connections, heard }
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

fn listen(mut client: TcpStream, bytes: &Mutex<Vec<u8>>) {
    let mut first = [0];
    while matches!(client.read(&mut first), Ok(1)) {
        let mut all = bytes.lock().unwrap();
        all.push(first[0]);
    }
}
