//! The artifacts of an execution as files below a folder, and never outside of it.
//!
//! The key `executions/e1/crawl/fetch/m1.html` becomes the file `FOLDER/executions/e1/crawl/fetch/m1.html`. What a file's
//! name cannot hold, and a segment that would lead elsewhere, is written as `%XX`; where a key is a folder of other keys,
//! too, its own file has a `%` at the end.

use std::io::{ErrorKind as Io, Read as _};
use std::path::{Path, PathBuf};

use millpond_core::{Error, Result};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::files::{failed, off};
use super::{Artifact, ArtifactFilter, Artifacts};
use crate::text::{hex, key_segment};

/// Artifacts that are read at once.
const PAGE: usize = 500;
/// Bytes of a file's name that every file system takes.
const NAME_BYTES: usize = 200;
/// Artifacts that could not be written which an answer names; the rest is counted.
const NAMED: usize = 1_000;

/// What became of one artifact.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DownloadedFile {
    /// The artifact's key.
    pub key: String,
    /// The file.
    pub file: PathBuf,
    /// Its bytes.
    pub length: u64,
    /// Whether it was there already, and right.
    pub was_there: bool,
}

/// An artifact that could not be written, or is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotDownloaded {
    /// The artifact's key.
    pub key: String,
    /// Why.
    pub error: String,
}

/// What a download brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Downloaded {
    /// How many artifacts the execution had when it began.
    pub of: u64,
    /// Files that were written.
    pub written: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Files that were there already, and right.
    pub were_there: u64,
    /// Artifacts that could not be written.
    pub failed: u64,
    /// The first thousand of them.
    pub named: Vec<NotDownloaded>,
}

impl Artifacts {
    /// Writes every artifact of an execution to a file of its own below a folder, which is made if need be, and tells of
    /// each. Every file comes about whole or not at all, and what is there and right is left as it is: a download that
    /// ended in the middle goes on when it is started again. Nothing is removed, and nothing outside of the folder is
    /// touched, whatever the keys are and whatever links there are.
    ///
    /// # Errors
    /// `NotFound` when the execution has no artifacts; what the store fails with. A file that could not be written is no
    /// error: it is in the answer.
    pub async fn download(
        &self,
        execution: &str,
        folder: &Path,
        mut on: impl FnMut(&Downloaded, &DownloadedFile),
    ) -> Result<Downloaded> {
        self.downloaded(execution, folder, &mut on).await.map_err(|e| e.during("artifacts.download"))
    }

    async fn downloaded(
        &self,
        execution: &str,
        folder: &Path,
        on: &mut impl FnMut(&Downloaded, &DownloadedFile),
    ) -> Result<Downloaded> {
        let filter = ArtifactFilter::execution(execution).limit(PAGE);
        let mut done = Downloaded { of: self.count(&filter).await?, ..Downloaded::default() };
        if done.of == 0 {
            return Err(Error::not_found(format!("execution {execution:?} has no artifacts"))
                .with_next("see which artifacts there are: millpond artifacts list"));
        }
        let root = folder.to_owned();
        off(move || std::fs::create_dir_all(root)).await.map_err(|e| failed("make", folder, e))?;
        let mut artifacts = self.list_all(filter);
        while let Some(artifact) = artifacts.next().await? {
            match self.to_its_file(&artifact.value, folder).await {
                Ok(file) => {
                    let counted = if file.was_there { &mut done.were_there } else { &mut done.written };
                    *counted += 1;
                    done.written_bytes += if file.was_there { 0 } else { file.length };
                    on(&done, &file);
                }
                Err(error) => {
                    done.failed += 1;
                    if done.named.len() < NAMED {
                        done.named.push(NotDownloaded { key: artifact.value.key.clone(), error: error.to_string() });
                    }
                }
            }
        }
        Ok(done)
    }

    async fn to_its_file(&self, artifact: &Artifact, folder: &Path) -> Result<DownloadedFile> {
        let (root, key, is_folder) = (folder.to_owned(), artifact.key.clone(), self.is_folder(&artifact.key).await?);
        let file = off(move || place_for(&root, &key, is_folder)).await.map_err(|e| failed("make a file for", folder, e))?;
        let done = |was_there, length| DownloadedFile { key: artifact.key.clone(), file: file.clone(), length, was_there };
        let (there, expected) = (file.clone(), (artifact.length, artifact.sha256.clone()));
        if off(move || is_right(&there, expected.0, &expected.1)).await.map_err(|e| failed("read", &file, e))? {
            return Ok(done(true, artifact.length));
        }
        let saved = self.save(&artifact.key, None, &file).await?;
        Ok(done(false, saved.written))
    }

    /// Whether other keys lie below this one.
    async fn is_folder(&self, key: &str) -> Result<bool> {
        let below = ArtifactFilter::prefix(format!("{key}/")).limit(1);
        Ok(!self.list(&below).await?.items.is_empty())
    }
}

/// Where a key's file belongs, with the folders above it made. A link on the way is not followed.
fn place_for(root: &Path, key: &str, is_folder: bool) -> std::io::Result<PathBuf> {
    let mut names: Vec<String> = key.split('/').map(file_name).collect();
    let mut name = names.pop().unwrap_or_default();
    if is_folder {
        name.push('%');
    }
    let mut path = root.to_owned();
    for folder in names {
        path.push(folder);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(in_the_way(&path, "a folder")),
            Err(e) if e.kind() == Io::NotFound => match std::fs::create_dir(&path) {
                Err(e) if e.kind() == Io::AlreadyExists => {}
                made => made?,
            },
            Err(e) => return Err(e),
        }
    }
    path.push(name);
    Ok(path)
}

fn in_the_way(path: &Path, wanted: &str) -> std::io::Error {
    std::io::Error::new(Io::AlreadyExists, format!("{} is in the way of {wanted}", path.display()))
}

/// A segment of a key as the name of a file: no two segments have the same.
fn file_name(segment: &str) -> String {
    let mut name = key_segment(segment);
    for (own, written) in [('\\', "%5C"), (':', "%3A")] {
        // Elsewhere these are ordinary characters.
        if cfg!(windows) {
            name = name.replace(own, written);
        }
    }
    if name.len() <= NAME_BYTES {
        return name;
    }
    let digest = crate::text::sha256_hex(name.as_bytes());
    let cut = (0..=NAME_BYTES - 36).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    format!("{}%-{}", &name[..cut], &digest[..32])
}

/// Whether a file is what was written. A link is not.
fn is_right(file: &Path, length: u64, sha256: &str) -> std::io::Result<bool> {
    match std::fs::symlink_metadata(file) {
        Err(e) if e.kind() == Io::NotFound => return Ok(false),
        Err(e) => return Err(e),
        Ok(found) if found.is_dir() => return Err(in_the_way(file, "a file")),
        Ok(found) if !found.is_file() || found.len() != length => return Ok(false),
        Ok(_) => {}
    }
    let (mut reader, mut digest) = (std::fs::File::open(file)?, Sha256::new());
    let mut piece = vec![0; 256 << 10];
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(hex(&digest.finalize()) == sha256),
            read => digest.update(&piece[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_leads_out_of_the_folder_and_no_two_meet() {
        let root = tempfile::tempdir().expect("a folder");
        let (long, longer) = ("ä".repeat(300), "ä".repeat(301));
        let keys = ["a", "a/b", "../x", "..", "/etc/passwd", "a//b", "./a", "%2E", long.as_str(), longer.as_str()];
        let mut files = std::collections::BTreeSet::new();
        for key in keys {
            // Other keys lie below these two.
            let file = place_for(root.path(), key, matches!(key, "a" | "..")).expect(key);
            assert!(
                file.strip_prefix(root.path()).expect(key).components().all(|c| matches!(c, std::path::Component::Normal(_)))
            );
            std::fs::write(&file, key).expect(key);
            assert!(files.insert(file), "{key}");
        }
        assert_eq!(files.len(), keys.len());
    }

    #[test]
    fn a_link_is_not_followed() {
        let (root, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        #[cfg(unix)]
        std::os::unix::fs::symlink(outside.path(), root.path().join("a")).expect("a link");
        assert_eq!(place_for(root.path(), "a/b", false).map_err(|e| e.kind()), Err(Io::AlreadyExists));
        std::fs::write(outside.path().join("b"), "x").expect("a file");
        #[cfg(unix)]
        std::os::unix::fs::symlink(outside.path().join("b"), root.path().join("c")).expect("a link");
        let sum = crate::text::sha256_hex(b"x");
        assert!(is_right(&outside.path().join("b"), 1, &sum).expect("read"));
        assert!(!is_right(&root.path().join("c"), 1, &sum).expect("read"), "a link is replaced");
    }
}
