//! Lives of the demo: started, perhaps killed at a chosen moment, and what it acknowledged until then.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One acknowledged commit.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Ack {
    pub stage: String,
    pub step: u64,
    pub steps: u64,
    pub position: u64,
    pub commit: String,
}

/// How one life of the program ended.
#[derive(Debug)]
pub struct Life {
    pub acks: Vec<Ack>,
    pub killed: bool,
    pub digest: Option<String>,
}

/// A demo of a folder, on a store.
#[derive(Debug, Clone)]
pub struct Demo {
    store: PathBuf,
    corpus: PathBuf,
    fresh: bool,
}

impl Demo {
    pub fn on(store: &Path, corpus: &Path) -> Self {
        Self { store: store.to_owned(), corpus: corpus.to_owned(), fresh: false }
    }

    /// The same, but it starts over.
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Starts the demo, kills it after so many acknowledgements and so long a wait, and reads what it had to say.
    pub fn live(&self, kill: Option<(usize, Duration)>) -> Life {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut child = Command::new(super::millpond())
            .args(["demo", "--store"])
            .arg(&self.store)
            .arg(&self.corpus)
            .args(self.fresh.then_some("--fresh"))
            // The pipe travels as the child's stdin, which the demo does not read: it opens it for writing.
            .env("MILLPOND_DEMO_ACK", "/dev/fd/0")
            .stdin(Stdio::from(writer))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut acks = Vec::new();
        let mut lines = BufReader::new(reader).lines();
        if let Some((after, wait)) = kill {
            while acks.len() < after {
                let Some(Ok(line)) = lines.next() else { break };
                acks.push(parse(&line));
            }
            spin(wait);
            child.kill().expect("the child is ours");
        }
        // The writer is gone with the child, so this ends. A line that was cut by the kill was not acknowledged.
        acks.extend(lines.map_while(Result::ok).filter(|l| l.ends_with('}')).map(|l| parse(&l)));
        let output = child.wait_with_output().expect("the child ends");
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "the demo failed: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let digest = text.lines().last().and_then(|l| l.strip_prefix("demo digest: ")).map(str::to_owned);
        Life { acks, killed, digest }
    }
}

fn parse(line: &str) -> Ack {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?} is no acknowledgement: {e}"))
}

/// Waits to the microsecond, which sleeping does not.
fn spin(wait: Duration) {
    let until = Instant::now() + wait;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}
