//! A stream's file: an event a line, only ever appended to.
//!
//! What is known of it is a chain of digests over its lines, so that it can grow without being read again. A file that
//! is not as it was left is written anew from the store; what stood there is kept aside, unless the store says it too.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use millpond_core::{Event, Result};

use super::files::{failed, sync_folder};
use super::form;
use super::manifest::Entry;
use super::pen::Pen;
use crate::text::sha256_hex;

/// Longer than any event's line.
const LINE_BYTES: u64 = 4 << 20;

/// A file that is being written, and what will be known of it.
#[derive(Debug)]
pub(super) struct Growing {
    file: File,
    path: PathBuf,
    entry: Entry,
}

fn nothing() -> Entry {
    Entry { digest: String::new(), revision: 0, bytes: 0, by_hand: false }
}

fn chained(digest: &str, line: &[u8]) -> String {
    sha256_hex(&[digest.as_bytes(), line].concat())
}

impl Growing {
    fn begin(path: PathBuf) -> Result<Self> {
        let file = File::create(&path).map_err(failed("write", &path))?;
        Ok(Self { file, path, entry: nothing() })
    }

    fn go_on(path: PathBuf, entry: Entry) -> Result<Self> {
        let file = File::options().append(true).create(true).open(&path).map_err(failed("write", &path))?;
        Ok(Self { file, path, entry })
    }

    /// Adds the events it does not have yet.
    pub(super) fn add(&mut self, events: &[Event]) -> Result<()> {
        let (mut text, has) = (String::new(), self.entry.revision);
        for event in events.iter().filter(|e| e.sequence > has) {
            let line = form::line(event)?;
            self.entry.digest = chained(&self.entry.digest, line.as_bytes());
            self.entry.revision = event.sequence;
            text.push_str(&line);
        }
        self.entry.bytes += text.len() as u64;
        self.file.write_all(text.as_bytes()).map_err(failed("write", &self.path))
    }

    fn end(self) -> Result<(PathBuf, Entry)> {
        self.file.sync_data().map_err(failed("write", &self.path))?;
        Ok((self.path, self.entry))
    }
}

/// Whether a file is as it was left.
pub(super) fn is_as_left(path: &Path, entry: &Entry) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed("read", path)(e)),
    };
    if file.metadata().map_err(failed("look at", path))?.len() != entry.bytes {
        return Ok(false);
    }
    let (mut reader, mut digest, mut line) = (BufReader::new(file), String::new(), Vec::new());
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).map_err(failed("read", path))?;
        if read == 0 {
            return Ok(digest == entry.digest);
        }
        digest = chained(&digest, &line);
    }
}

/// Whether a file holds the first bytes of another, or nothing.
fn begins(path: &Path, whole: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).map(BufReader::new);
    let mut part = match open(path) {
        Ok(part) => part,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(failed("read", path)(e)),
    };
    let mut whole = open(whole).map_err(failed("read", whole))?;
    loop {
        let here = part.fill_buf().map_err(failed("read", path))?;
        if here.is_empty() {
            return Ok(true);
        }
        let there = whole.fill_buf().map_err(failed("read", path))?;
        let both = here.len().min(there.len());
        if both == 0 || here[..both] != there[..both] {
            return Ok(false);
        }
        part.consume(both);
        whole.consume(both);
    }
}

impl Pen {
    /// Appends events to a stream's file; false when the file is not as it was left and has to be written anew.
    pub(super) fn append(&mut self, path: &str, events: &[Event]) -> Result<bool> {
        let target = self.folder.root().join(path);
        let entry = self.entry(path).cloned();
        let size = std::fs::metadata(&target).map(|m| m.len()).ok();
        let first = events.first().map_or(0, |e| e.sequence);
        match (&entry, size) {
            (None, None) if first == 1 => {}
            (Some(entry), Some(size)) if size == entry.bytes => {}
            _ => return Ok(false),
        }
        self.folder.make_parents(&target)?;
        let mut growing = Growing::go_on(target, entry.unwrap_or_else(nothing))?;
        growing.add(events)?;
        let (_, entry) = growing.end()?;
        self.manifest.files.insert(path.to_owned(), entry);
        Ok(true)
    }

    /// Begins a stream's file anew.
    pub(super) fn rebuild(&self, name: &str) -> Result<Growing> {
        Growing::begin(self.folder.temporary_for(name))
    }

    /// Puts a file that was written anew in its place. Answers where that was kept which the store does not say.
    pub(super) fn rebuilt(&mut self, path: &str, growing: Growing, why: &str) -> Result<Option<String>> {
        let (staged, entry) = growing.end()?;
        let target = self.folder.root().join(path);
        let kept = if begins(&target, &staged)? { None } else { Some(self.move_aside(path, why)?) };
        self.folder.make_parents(&target)?;
        std::fs::rename(&staged, &target).map_err(failed("write", &target))?;
        if let Some(parent) = target.parent() {
            sync_folder(parent)?;
        }
        self.manifest.files.insert(path.to_owned(), entry);
        Ok(kept)
    }
}
