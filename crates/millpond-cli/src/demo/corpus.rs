//! Where the demo's files come from: a folder, or a small sample inside the program.

use std::path::{Path, PathBuf};

use millpond::{Error, Key, Result};
use walkdir::{DirEntry, WalkDir};

use super::documents::Group;

/// Files in one step.
const GROUP_FILES: usize = 16;
/// Bytes in one step: its segments have to fit into one commit.
pub const GROUP_BYTES: u64 = 512 << 10;
/// The largest file that is read.
const FILE_BYTES: u64 = 512 << 10;
/// The longest name; a segment's key is a little longer.
const NAME_BYTES: usize = 1_900;
/// The most files of one run: all groups are written in one commit.
pub const MAX_FILES: usize = 50_000;
/// What is read.
const EXTENSIONS: [&str; 4] = ["md", "markdown", "txt", "text"];
/// Folders that hold no documents.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// The sample, for whoever has no files at hand. One of them cannot be read, on purpose.
const SAMPLE: [(&str, &[u8]); 4] = [
    ("broken.txt", b"\xff\xfe this is not UTF-8"),
    ("millpond.md", include_bytes!("sample/millpond.md")),
    ("pipeline.md", include_bytes!("sample/pipeline.md")),
    ("reading.txt", include_bytes!("sample/reading.txt")),
];

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Corpus {
    /// The sample inside the program.
    Sample,
    /// A folder.
    Folder(PathBuf),
}

/// A file that was found.
#[derive(Debug)]
struct Found {
    name: String,
    bytes: u64,
}

impl Corpus {
    /// The folder that was asked for; else `./docs` if it is there; else the sample.
    ///
    /// # Errors
    /// `NotFound` when the folder that was asked for does not exist.
    pub fn choose(asked: Option<&Path>) -> Result<Self> {
        let docs = Path::new("docs");
        let folder = match asked {
            Some(folder) => folder,
            None if docs.is_dir() => docs,
            None => return Ok(Self::Sample),
        };
        if !folder.is_dir() {
            return Err(Error::not_found(format!("{} is not a folder", folder.display()))
                .with_next("name a folder with .md or .txt files"));
        }
        let full =
            folder.canonicalize().map_err(|e| Error::unavailable(format!("cannot open {}", folder.display())).with_source(e))?;
        Ok(Self::Folder(full))
    }

    /// Its name: what tells one corpus from another.
    pub fn name(&self) -> String {
        match self {
            Self::Sample => "the built-in sample".to_owned(),
            Self::Folder(path) => path.display().to_string(),
        }
    }

    /// The steps of collect, convert and segment: files by name, a few at a time.
    ///
    /// # Errors
    /// `NotFound` when there is nothing to read, `Invalid` when there is too much.
    pub fn groups(&self) -> Result<Vec<Group>> {
        let files = match self {
            Self::Sample => {
                SAMPLE.iter().map(|(name, bytes)| Found { name: (*name).to_owned(), bytes: bytes.len() as u64 }).collect()
            }
            Self::Folder(root) => find(root)?,
        };
        if files.is_empty() {
            return Err(Error::not_found(format!("{} holds no .md or .txt file", self.name())).with_next("name another folder"));
        }
        if files.len() > MAX_FILES {
            let text = format!("{} holds {} files; the demo takes up to {MAX_FILES}", self.name(), files.len());
            return Err(Error::invalid(text).with_next("name a folder inside it"));
        }
        Ok(group(files))
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// What reading fails with, and a file that is too large or has a name no key can be made of.
    pub fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        let refuse = |why: String| Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why));
        match self {
            Self::Sample => match SAMPLE.iter().find(|(n, _)| *n == name) {
                Some((_, bytes)) => Ok(bytes.to_vec()),
                None => Err(std::io::ErrorKind::NotFound.into()),
            },
            Self::Folder(root) => {
                if name.len() > NAME_BYTES || Key::new(name).is_err() {
                    return refuse("its name cannot be a key".to_owned());
                }
                let path = root.join(name);
                let bytes = std::fs::metadata(&path)?.len();
                if bytes > FILE_BYTES {
                    return refuse(format!("{bytes} bytes; the demo reads up to {FILE_BYTES}"));
                }
                std::fs::read(path)
            }
        }
    }
}

/// Every document under a folder, by name. Whatever cannot be looked at is listed too: reading it fails, and that is
/// how it becomes a dead letter.
fn find(root: &Path) -> Result<Vec<Found>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(wanted) {
        match entry {
            Ok(entry) if entry.file_type().is_dir() || !is_document(entry.path()) => {}
            Ok(entry) => {
                let bytes = entry.metadata().map_or(0, |m| m.len());
                files.push(Found { name: name_of(root, entry.path()), bytes });
            }
            Err(e) if e.depth() == 0 => {
                return Err(Error::unavailable(format!("cannot read {}", root.display())).with_source(e));
            }
            Err(e) => files.extend(e.path().map(|p| Found { name: name_of(root, p), bytes: 0 })),
        }
    }
    Ok(files)
}

fn wanted(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    entry.depth() == 0
        || !(name.starts_with('.') || SKIPPED.contains(&name.as_ref()) || entry.path().join("millpond.db").exists())
}

fn is_document(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

fn name_of(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

fn group(files: Vec<Found>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut bytes = 0;
    for file in files {
        let size = file.bytes.min(FILE_BYTES);
        match groups.last_mut() {
            Some(last) if last.files.len() < GROUP_FILES && bytes + size <= GROUP_BYTES => last.files.push(file.name),
            _ => {
                bytes = 0;
                groups.push(Group { number: groups.len() as u64, files: vec![file.name] });
            }
        }
        bytes += size;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_small_in_files_and_in_bytes() {
        let files = |n: usize, bytes: u64| (0..n).map(|i| Found { name: format!("{i}"), bytes }).collect::<Vec<_>>();
        let sizes = |groups: Vec<Group>| groups.iter().map(|g| g.files.len()).collect::<Vec<_>>();
        assert_eq!(sizes(group(files(33, 10))), [16, 16, 1]);
        assert_eq!(sizes(group(files(3, 300 << 10))), [1, 1, 1]);
        assert_eq!(sizes(group(files(2, 10 << 20))), [1, 1], "a file beyond the limit counts as the largest there is");
    }

    #[test]
    fn finds_documents_only() {
        let dir = tempfile::tempdir().expect("folder");
        for name in ["b.md", "a.TXT", "c.rs", ".hidden.md", "store/x.md", "store/millpond.db", "target/y.md", "sub/z.markdown"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, "x").expect("file");
        }
        let names: Vec<String> = find(dir.path()).expect("found").into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["a.TXT", "b.md", "sub/z.markdown"]);
    }
}
