//! What is not as it was left: files that were changed, made or deleted by hand.

use millpond_core::Result;

use super::files::failed;
use super::pen::Pen;
use super::streams;
use super::subject::Subject;
use crate::text::sha256_hex;
use crate::yaml;

/// What a person did to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    /// A file of the tree says something else.
    Changed(Vec<u8>),
    /// A file that the tree did not write.
    New(Vec<u8>),
    /// A file of the tree is gone, or empty.
    Missing,
    /// It is too long for any document; of a stream, it is not as it was left.
    NotRead,
}

/// A file that is not as it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) edit: Edit,
}

/// Looks at every file. Hidden files, and files of other kinds than the tree's, are nobody's business.
pub(super) fn scan(pen: &Pen) -> Result<Vec<Found>> {
    let listed = pen.folder.list()?;
    let mut found = Vec::new();
    for path in &listed {
        let edit = match pen.entry(path) {
            Some(_) => known(pen, path)?,
            None => unknown(pen, path)?,
        };
        found.extend(edit.map(|edit| Found { path: path.clone(), edit }));
    }
    let there: std::collections::HashSet<&String> = listed.iter().collect();
    let missing = pen.manifest.files.keys().filter(|path| !there.contains(path));
    found.extend(missing.map(|path| Found { path: path.clone(), edit: Edit::Missing }));
    Ok(found)
}

fn known(pen: &Pen, path: &str) -> Result<Option<Edit>> {
    let Some(entry) = pen.entry(path) else { return Ok(None) };
    if matches!(Subject::at(path), Some(Subject::Stream(_))) {
        let as_left = streams::is_as_left(&pen.folder.root().join(path), entry)?;
        return Ok((!as_left).then_some(Edit::NotRead));
    }
    Ok(match bytes(pen, path)? {
        Read::TooLong => Some(Edit::NotRead),
        Read::Blank => Some(Edit::Missing),
        Read::Bytes(bytes) if sha256_hex(&bytes) == entry.digest => None,
        Read::Bytes(bytes) => Some(Edit::Changed(bytes)),
    })
}

fn unknown(pen: &Pen, path: &str) -> Result<Option<Edit>> {
    let is_definition = (path.starts_with("workflows/") || path.starts_with("flows/"))
        && [".yaml", ".yml", ".json"].iter().any(|e| path.ends_with(e));
    match Subject::at(path) {
        _ if is_definition => {}
        Some(Subject::Stream(_)) if pen.manifest.everything => return Ok(Some(Edit::NotRead)),
        Some(_) if pen.manifest.everything => {}
        _ => return Ok(None),
    }
    Ok(match bytes(pen, path)? {
        Read::TooLong => Some(Edit::NotRead),
        Read::Blank => None,
        Read::Bytes(bytes) => Some(Edit::New(bytes)),
    })
}

enum Read {
    Bytes(Vec<u8>),
    Blank,
    TooLong,
}

fn bytes(pen: &Pen, path: &str) -> Result<Read> {
    let place = pen.folder.root().join(path);
    let size = std::fs::metadata(&place).map_err(failed("look at", &place))?.len();
    if size > yaml::TEXT_BYTES as u64 {
        return Ok(Read::TooLong);
    }
    let bytes = pen.folder.read(path)?.unwrap_or_default();
    let blank = bytes.iter().all(|b| b.is_ascii_whitespace() || *b == 0);
    Ok(if blank { Read::Blank } else { Read::Bytes(bytes) })
}
