//! Bringing the mark up to date, under the lock: after a power cut, or after a writer that ended before its answer.
//!
//! What lies behind the mark was never answered in this run of the machine. Whole entries there are flushed and kept; a
//! torn end is put aside and cut off.

use std::fs::{File, OpenOptions};
use std::path::Path;

use millpond_core::{Error, Result};

use super::folder::{failed, sync_folder, write_whole};
use super::mark::Mark;
use super::segments;
use crate::entry::Entry;
use crate::journal::{Limit, lost};

/// Where the journal ends by what its segments hold, at least `mark`. `None`: it holds nothing.
///
/// Everything up to the answer is flushed when this returns.
pub(super) fn end_of(folder: &Path, mark: Option<Mark>) -> Result<Option<Mark>> {
    remove_leftovers(folder)?;
    let Some(&last) = segments::list(folder)?.last() else {
        return match mark {
            Some(mark) if mark.number > 0 => Err(lost(mark.number, 0)),
            _ => Ok(None),
        };
    };
    let path = segments::path(folder, last);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed("open", &path))?;
    let size = file.metadata().map_err(failed("look at", &path))?.len();
    let mut end = match mark {
        Some(mark) if mark.segment == last => mark,
        // A segment that was begun after the mark, or there is no mark: counted from its beginning.
        _ => Mark { number: last - 1, segment: last, start: 0, end: 0 },
    };
    if size < end.end {
        return Err(lost(end.number, count(&file, &path, last, size)?));
    }
    while end.end < size {
        match next(&file, &path, end, size)? {
            Some(found) => end = found,
            None => {
                cut_off(&file, &path, end, size)?;
                break;
            }
        }
    }
    if mark.is_some_and(|mark| mark.number > end.number) {
        return Err(lost(mark.map_or(0, |m| m.number), end.number));
    }
    file.sync_all().map_err(failed("flush", &path))?;
    sync_folder(folder)?;
    Ok(Some(end))
}

/// The last whole line of a segment that is shorter than it was.
fn count(file: &File, path: &Path, first: u64, size: u64) -> Result<u64> {
    let mut number = first - 1;
    let mut at = 0;
    while let Some(next) = segments::skip(file, path, at, size, 1)? {
        (at, number) = (next, number + 1);
    }
    Ok(number)
}

/// The entry behind the mark, if there is a whole one.
fn next(file: &File, path: &Path, end: Mark, size: u64) -> Result<Option<Mark>> {
    let Some(line_end) = segments::skip(file, path, end.end, size, 1)? else { return Ok(None) };
    let page = segments::page(file, path, end.end, line_end, end.number + 1, Limit { entries: 1, bytes: 1 << 20 })?;
    let Some(line) = page.entries.first() else { return Ok(None) };
    if let Err(error) = Entry::read(line.number, &line.bytes) {
        // Something that was answered may follow: then this is damage, and nobody may cut it off.
        return if line_end < size { Err(error.with("file", path.display())) } else { Ok(None) };
    }
    Ok(Some(Mark { number: line.number, segment: end.segment, start: page.start, end: page.end }))
}

/// Puts a torn end aside and cuts it off.
fn cut_off(file: &File, path: &Path, end: Mark, size: u64) -> Result<()> {
    let length = usize::try_from(size - end.end).map_err(|_| Error::corrupt("a torn end is larger than memory"))?;
    let torn = segments::read_at(file, path, end.end, length)?;
    let aside = path.with_extension(format!("{}.torn", end.end));
    write_whole(&aside, &torn)?;
    file.set_len(end.end).map_err(failed("cut", path))?;
    tracing::warn!(
        entry = end.number + 1,
        bytes = length,
        kept = %aside.display(),
        "an entry that was never answered was torn; it was put aside and cut off"
    );
    Ok(())
}

/// Removes temporary files that a process left which ended while it wrote them.
fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(failed("list", folder))? {
        let path = entry.map_err(failed("list", folder))?.path();
        if path.extension().is_some_and(|e| e == "tmp") {
            tracing::warn!(file = %path.display(), "a temporary file that was left over is removed");
            std::fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}
