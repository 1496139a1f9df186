//! Where the demo's files come from: a folder, or a small sample inside the program.

use std::fmt::Write as _;
use std::io::Read as _;
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
/// What ends a name that is shown with escapes. No document's own name ends so, for it is no extension that is read.
const NOT_UTF8: &str = " (name is not UTF-8)";
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
    /// The folder that was asked for; else `./docs` if it is there, or if the last demo was over it; else the sample.
    ///
    /// # Errors
    /// `Unavailable` when there is no current folder.
    pub fn choose(asked: Option<&Path>, last: Option<&str>) -> Result<Self> {
        let folder = full_path(asked.unwrap_or(Path::new("docs")))?;
        let over_docs = || folder.is_dir() || last.is_some_and(|last| Path::new(last) == folder);
        Ok(if asked.is_some() || over_docs() { Self::Folder(folder) } else { Self::Sample })
    }

    /// That the files can be looked at, for the stages that need them.
    ///
    /// # Errors
    /// `NotFound` when the folder does not exist.
    pub fn require(&self) -> Result<()> {
        match self {
            Self::Folder(folder) if !folder.is_dir() => Err(Error::not_found(format!("{} is not a folder", folder.display()))
                .with_next("name a folder with .md or .txt files")),
            _ => Ok(()),
        }
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
        self.require()?;
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
                if name.ends_with(NOT_UTF8) {
                    return refuse("its name is not UTF-8".to_owned());
                }
                let path = root.join(name);
                // Links are followed first. Opening a FIFO would wait for whoever writes to it.
                let file = std::fs::metadata(&path)?;
                if file.is_dir() {
                    return Err(std::io::ErrorKind::IsADirectory.into());
                }
                if !file.is_file() {
                    return refuse("it is not a regular file".to_owned());
                }
                // A file may grow while it is read, and some say they are empty and are not.
                let mut bytes = Vec::new();
                std::fs::File::open(path)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
                if bytes.len() as u64 > FILE_BYTES {
                    return refuse(format!("the demo reads up to {FILE_BYTES} bytes of a file"));
                }
                Ok(bytes)
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
    let inside = path.strip_prefix(root).unwrap_or(path);
    if let Some(name) = inside.to_str() {
        return name.to_owned();
    }
    // Bytes that are no text are escaped, so that two files never share a name.
    let mut name = String::new();
    for chunk in inside.as_os_str().as_encoded_bytes().utf8_chunks() {
        name.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            // Writing to a text cannot fail.
            let _ = write!(name, "\\x{byte:02x}");
        }
    }
    name + NOT_UTF8
}

/// The folder's whole path, links followed; also of a folder that is gone, as long as the one around it is there.
fn full_path(folder: &Path) -> Result<PathBuf> {
    if let Ok(full) = folder.canonicalize() {
        return Ok(full);
    }
    let absolute = std::path::absolute(folder)
        .map_err(|e| Error::unavailable(format!("cannot open {}", folder.display())).with_source(e))?;
    let around = absolute.parent().and_then(|around| around.canonicalize().ok());
    Ok(match (around, absolute.file_name()) {
        (Some(around), Some(name)) => around.join(name),
        _ => absolute,
    })
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

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_stay_different() {
        use std::os::unix::ffi::OsStrExt;
        let name = |bytes: &[u8]| name_of(Path::new("/c"), &Path::new("/c").join(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(name(b"a\xff.txt"), "a\\xff.txt (name is not UTF-8)");
        assert_ne!(name(b"a\xff.txt"), name(b"a\xfe.txt"));
        assert_ne!(name(b"a\xff\\xfe.txt"), name(b"a\\xff\xfe.txt"));
        assert_eq!(name("a\\ü.txt".as_bytes()), "a\\ü.txt");
    }
}
