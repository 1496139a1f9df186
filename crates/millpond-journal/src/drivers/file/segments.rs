//! Segments: files of lines, named after the number of their first entry.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millpond_core::{Error, Result};

use super::folder::failed;
use crate::journal::Stored;

/// Bytes that are read at once while lines are only counted.
const CHUNK: usize = 1 << 20;

/// The path of a segment.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.jsonl"))
}

/// The first numbers of a folder's segments, in order.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(failed("list", folder)(e)),
    };
    for entry in entries {
        let name = entry.map_err(failed("list", folder))?.file_name();
        let number = name.to_str().and_then(|n| n.strip_suffix(".jsonl")).filter(|n| n.len() == 20);
        found.extend(number.and_then(|n| n.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads up to `most` bytes at an offset, fewer at the end of the file.
pub(super) fn read_at(file: &File, path: &Path, offset: u64, most: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match file.read_at(&mut bytes[filled..], offset + filled as u64).map_err(failed("read", path))? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Where the line begins that comes `lines` lines after an offset. `None` when there are not so many before `end`.
pub(super) fn skip(file: &File, path: &Path, mut offset: u64, end: u64, mut lines: u64) -> Result<Option<u64>> {
    while lines > 0 {
        let most = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(CHUNK);
        let bytes = read_at(file, path, offset, most)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        for (at, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' {
                lines -= 1;
                if lines == 0 {
                    return Ok(Some(offset + at as u64 + 1));
                }
            }
        }
        offset += bytes.len() as u64;
    }
    Ok(Some(offset))
}

/// A page of lines and where the last of them begins and ends.
pub(super) struct Page {
    pub(super) entries: Vec<Stored>,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Reads lines from an offset up to `end`, the first of which is entry `number`.
pub(super) fn page(file: &File, path: &Path, offset: u64, end: u64, number: u64, limit: crate::Limit) -> Result<Page> {
    let all = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut most = all.min(limit.bytes.clamp(4 << 10, 64 << 20));
    loop {
        let bytes = Bytes::from(read_at(file, path, offset, most)?);
        let mut page = Page { entries: Vec::new(), start: offset, end: offset };
        let mut from = 0;
        for (at, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'\n') {
            page.entries.push(Stored { number: number + page.entries.len() as u64, bytes: bytes.slice(from..at) });
            (page.start, page.end) = (offset + from as u64, offset + at as u64 + 1);
            from = at + 1;
            if page.entries.len() >= limit.entries {
                break;
            }
        }
        if !page.entries.is_empty() || most == 0 {
            return Ok(page);
        }
        if most >= all {
            return Err(Error::corrupt(format!("{} holds no whole line where entry {number} should be", path.display()))
                .with("entry", number)
                .with_next("restore the file from a copy"));
        }
        most = most.saturating_mul(4).min(all);
    }
}
