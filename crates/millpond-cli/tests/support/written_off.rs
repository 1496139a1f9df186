//! An execution with very many artifacts, and programs on it that are killed.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use millpond::{Body, NewArtifact, NewLineage, Pond};

/// A store in a folder of its own.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub async fn open(&self) -> Pond {
        millpond::open(&format!("sqlite:{}", self.file().display())).await.unwrap()
    }

    /// The program on this store.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(super::millpond());
        command.args(args).arg("--store").arg(format!("sqlite:{}", self.file().display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The program, to be killed.
    pub fn begin(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }
}

/// The key of the artifact of this number.
pub fn key(number: usize) -> String {
    millpond::ArtifactKey::new("e1", "crawl", "fetch", &format!("m{number:05}")).extension("txt").to_string()
}

/// Writes artifacts, many with one commit.
pub async fn write(pond: &Pond, numbers: std::ops::Range<usize>, text: &str) {
    for first in numbers.clone().step_by(250) {
        let mut unit = pond.unit();
        let artifacts = unit.artifacts();
        let mut puts = Vec::new();
        for n in first..(first + 250).min(numbers.end) {
            let body = Body::from(format!("{text} {n}").into_bytes());
            // Side by side, so that they are registered together.
            puts.push(tokio::spawn(artifacts.put(key(n), body).with(NewArtifact::default()).into_future()));
        }
        for put in puts {
            put.await.unwrap().unwrap();
        }
        unit.commit().await.unwrap();
    }
}

/// Writes rows of lineage, each from the one before.
pub async fn rows(pond: &Pond, count: usize) {
    for n in 0..count {
        let mut new = NewLineage::of("e1", "crawl", "fetcher").id(format!("row {n}"));
        if n > 0 {
            new = new.parent(format!("row {}", n - 1));
        }
        pond.lineage().record(new).await.unwrap();
    }
}

/// How a program ended that was to be killed: whether it was, or what it said.
pub fn ended(child: Child) -> Option<Output> {
    let output = child.wait_with_output().unwrap();
    if output.status.signal() == Some(9) {
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output)
}
