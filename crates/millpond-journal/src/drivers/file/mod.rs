//! Journals in a folder: lines of JSON, one lock file, flushed before they are answered.
//!
//! ```text
//!   DIR/millpond.json                         what this folder is
//!   DIR/journals/<name>/lock                  held by whoever plans and appends
//!   DIR/journals/<name>/00000000000000000001.jsonl …   segments, named after their first entry
//!   DIR/journals/<name>/tail                  up to where the segments are flushed
//!   DIR/journals/<name>/snapshot-….db.lz4     everything up to an entry
//!   DIR/cache/                                replicas; may be deleted when nobody runs
//! ```
//!
//! Several processes of one machine may use one folder. Readers take no lock: they read up to the mark in `tail`, which
//! a writer moves after its flush and before its answer.

mod folder;
mod journal;
mod locks;
mod mark;
mod recover;
mod segments;
mod snapshots;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use millpond_core::{Error, ErrorKind, Examination, HealthCheck, Probing, Result};
use millpond_sqlite::FileSystem;

use self::folder::{failed, hop, make_folder, remove_folder};
use self::journal::FileJournal;
use crate::journal::{Journal, Journals, PlaceInfo};

/// The format of the folder that this program writes.
const FORMAT: u32 = 1;
/// Bytes after which a new segment is begun.
const SEGMENT_BYTES: u64 = 64 << 20;

/// How to open a folder.
#[derive(Debug, Clone)]
pub struct FileOptions {
    /// Whether a folder that is no store yet becomes one.
    pub create: bool,
    /// Whether a network file system is taken, whose locks and flushes may not be what they should be.
    pub network: bool,
    /// Bytes after which a new segment is begun.
    pub segment_bytes: u64,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { create: true, network: false, segment_bytes: SEGMENT_BYTES }
    }
}

/// A folder of journals.
#[derive(Debug)]
pub struct FileJournals {
    folder: PathBuf,
    cache: PathBuf,
    options: FileOptions,
    file_system: FileSystem,
}

impl FileJournals {
    /// Opens a folder, and makes it if the options say so.
    ///
    /// # Errors
    /// `NotFound` when it is no store and is not to become one, `Unsupported` on a network file system or for a newer
    /// format, `Unavailable` when it cannot be used.
    pub fn open(folder: impl Into<PathBuf>, options: FileOptions) -> Result<Self> {
        let folder = folder.into();
        let mark = folder.join("millpond.json");
        let exists = mark.exists();
        if !exists && !options.create {
            return Err(Error::not_found(format!("there is no store in {}", folder.display())));
        }
        // Before anything is made there.
        let file_system = FileSystem::of(nearest(&folder))?;
        refuse_network(&folder, file_system, options.network)?;
        if !exists {
            make_folder(&folder.join("journals"))?;
            make_folder(&folder)?;
            folder::write_whole(&mark, format!("{{\"millpond\":\"file\",\"format\":{FORMAT}}}\n").as_bytes())?;
        }
        if let Some(newer) = newer(read_format(&mark)?) {
            return Err(newer);
        }
        Ok(Self { cache: folder.join("cache"), folder, options, file_system })
    }

    fn folder_of(&self, name: &str) -> PathBuf {
        self.folder.join("journals").join(name)
    }
}

/// The folder, or what is there of the path to it.
fn nearest(folder: &Path) -> &Path {
    folder.ancestors().find(|path| path.exists()).filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn refuse_network(folder: &Path, found: FileSystem, allowed: bool) -> Result<()> {
    match found {
        FileSystem::Network(name) if !allowed => Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} is on {name}: its locks and flushes may not hold between machines", folder.display()),
        )
        .with_next("use a local disk, or say network=allow if you know that they do")
        .in_check("file_system")),
        _ => Ok(()),
    }
}

/// The format that a folder's mark names.
fn read_format(path: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(path).map_err(failed("read", path))?;
    let found: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| Error::corrupt(format!("{} does not read back", path.display())).with_source(e))?;
    match (found["millpond"].as_str(), found["format"].as_u64()) {
        (Some("file"), Some(format)) => Ok(format),
        (Some("file"), None) => Err(Error::corrupt(format!("{} names no format", path.display())).in_check("schema")),
        _ => Err(Error::invalid(format!("{} is not of a store in files", path.display())).with_next("give another folder")),
    }
}

/// The refusal of a format that this program does not know.
fn newer(format: u64) -> Option<Error> {
    (format > u64::from(FORMAT)).then(|| {
        Error::new(ErrorKind::Unsupported, format!("the store has format {format}; this program knows {FORMAT}"))
            .with_next("use a newer millpond")
            .in_check("schema")
    })
}

#[async_trait]
impl Journals for FileJournals {
    fn info(&self) -> PlaceInfo {
        PlaceInfo {
            kind: "file",
            location: self.folder.display().to_string(),
            durability: self.file_system.durability(),
            facts: vec![("format", FORMAT.to_string()), ("file_system", self.file_system.to_string())],
        }
    }

    async fn examine(&self, _: Probing) -> Result<Examination> {
        // Another disk may have been put in its place since.
        let found = FileSystem::of(&self.folder)?;
        let schema = match read_format(&self.folder.join("millpond.json")) {
            Ok(format) => HealthCheck::schema(format, u64::from(FORMAT)),
            Err(error) => HealthCheck::problem("schema", &error),
        };
        let examined = found.explain(Examination::of(found.durability())).with(found.check()).with(schema);
        Ok(examined.telling(vec![("file_system", found.to_string())]).at(&self.folder))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Journal>> {
        Ok(Arc::new(FileJournal::new(self.folder_of(name), self.options.segment_bytes)))
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let folder = self.folder_of(name);
        hop(move || remove_folder(&folder)).await
    }

    fn cache(&self) -> Option<&Path> {
        Some(&self.cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_refused_unless_it_was_asked_for() {
        let refused = refuse_network(Path::new("/mnt/x"), FileSystem::Network("nfs"), false).expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert!(refused.to_string().contains("/mnt/x is on nfs"), "{refused}");
        assert!(refuse_network(Path::new("/mnt/x"), FileSystem::Network("nfs"), true).is_ok());
        assert!(refuse_network(Path::new("/mnt/x"), FileSystem::of(Path::new(".")).unwrap(), false).is_ok());
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_looked_at_where_it_would_be() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&folder.path().join("a/b")), folder.path());
        assert_eq!(nearest(Path::new("nowhere-at-all/b")), Path::new("."));
    }
}
