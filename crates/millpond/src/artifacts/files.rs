//! Artifacts as files: each comes about whole or not at all.

use std::fs::File;
use std::io::{ErrorKind as Io, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millpond_core::{Error, Result};
use serde::Serialize;

use super::{Artifact, ArtifactReader, Artifacts};
use crate::text::sha256_hex;

/// An artifact that was written to a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SavedArtifact {
    /// The file.
    pub file: PathBuf,
    /// Bytes that were written to it.
    pub written: u64,
    /// The artifact.
    pub artifact: Artifact,
}

impl Artifacts {
    /// Writes the bytes of an artifact, or a range of them, to a file. What was there is replaced once all of them are
    /// there and compared; until then they are in a file `.millpond-….part` beside it, which the next one who saves the
    /// same takes up.
    ///
    /// # Errors
    /// As [`Artifacts::read`]; `Unavailable` when the file cannot be written.
    pub async fn save(&self, key: &str, range: Option<Range<u64>>, file: &Path) -> Result<SavedArtifact> {
        let saving = async {
            let asked = range.as_ref().map_or_else(String::new, |range| format!("{range:?}"));
            let reader = self.reader(key, range).await?;
            saved(reader, file, &asked).await
        };
        saving.await.map_err(|e: Error| e.during("artifacts.save"))
    }

    /// [`Artifacts::save`] of a version, also of one that was written over or deleted since.
    ///
    /// # Errors
    /// As [`Artifacts::version_reader`]; `Unavailable` when the file cannot be written.
    pub async fn save_version(&self, key: &str, version: &str, range: Option<Range<u64>>, file: &Path) -> Result<SavedArtifact> {
        let saving = async {
            let asked = range.as_ref().map_or_else(String::new, |range| format!("{range:?}"));
            let reader = self.version_reader(key, version, range).await?;
            saved(reader, file, &asked).await
        };
        saving.await.map_err(|e: Error| e.during("artifacts.save_version"))
    }
}

/// Writes what a reader gives beside the file, and puts it in its place.
async fn saved(mut reader: ArtifactReader, file: &Path, asked: &str) -> Result<SavedArtifact> {
    let artifact = reader.artifact().clone();
    let part = part_of(file, &artifact, asked)?;
    let begin = part.clone();
    // Who writes the same version at the same time writes the same bytes to the same places.
    let opened = off(move || opened(&begin)).await;
    let mut writing = opened.map_err(|e| failed("write", &part, e))?;
    let mut written = 0;
    while let Some(piece) = reader.next().await? {
        written += piece.len() as u64;
        writing = off(move || appended(writing, &piece)).await.map_err(|e| failed("write", &part, e))?;
    }
    let (from, to) = (part.clone(), file.to_owned());
    off(move || put_in_place(&writing, written, &from, &to)).await.map_err(|e| failed("write", file, e))?;
    Ok(SavedArtifact { file: file.to_owned(), written, artifact })
}

fn opened(part: &Path) -> std::io::Result<File> {
    match std::fs::symlink_metadata(part) {
        // Whoever put a link here wants another file to be written.
        Ok(found) if !found.is_file() => Err(std::io::Error::new(Io::AlreadyExists, "something that is no file is in the way")),
        _ => File::options().write(true).create(true).truncate(false).open(part),
    }
}

fn appended(mut file: File, piece: &Bytes) -> std::io::Result<File> {
    file.write_all(piece)?;
    Ok(file)
}

fn put_in_place(file: &File, length: u64, from: &Path, to: &Path) -> std::io::Result<()> {
    file.set_len(length)?;
    file.sync_all()?;
    match std::fs::rename(from, to) {
        // Somebody who wrote the same was faster.
        Err(e) if e.kind() == Io::NotFound && to.exists() => Ok(()),
        renamed => renamed,
    }
}

/// Where the bytes are until all of them are there: a name that only this version of this artifact has.
fn part_of(file: &Path, artifact: &Artifact, asked: &str) -> Result<PathBuf> {
    let Some(name) = file.file_name() else {
        return Err(Error::invalid(format!("{} is no file", file.display())).with_next("name a file, not a folder"));
    };
    let digest = sha256_hex(format!("{}\n{}\n{asked}", name.to_string_lossy(), artifact.version).as_bytes());
    Ok(file.with_file_name(format!(".millpond-{}.part", &digest[..32])))
}

/// Runs work on a thread that may wait for a disk.
pub(super) async fn off<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(std::io::Error::other(e)))
}

pub(super) fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot {what} {}", path.display())).with_source(error)
}
