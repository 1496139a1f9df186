//! Snapshots: one file for everything up to an entry, named after that entry and its own digest.

use std::path::{Path, PathBuf};

use millpond_core::Result;

use super::folder::{failed, sync_folder};
use crate::drivers::whole;

const PREFIX: &str = "snapshot-";

/// A snapshot in the folder.
struct Kept {
    upto: u64,
    digest: String,
    path: PathBuf,
}

/// The snapshots there are, in order.
fn list(folder: &Path) -> Result<Vec<Kept>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(failed("list", folder)(e)),
    };
    for entry in entries {
        let path = entry.map_err(failed("list", folder))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(PREFIX));
        if let Some((upto, digest)) = name.and_then(whole::parse) {
            found.push(Kept { upto, digest, path });
        }
    }
    found.sort_unstable_by(|a, b| (a.upto, &a.digest).cmp(&(b.upto, &b.digest)));
    Ok(found)
}

fn unfinished(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(failed("list", folder))?;
    let paths = entries.map(|e| e.map(|e| e.path()).map_err(failed("list", folder)));
    paths.filter(|p| p.as_ref().map_or(true, |p| p.extension().is_some_and(|e| e == "unfinished"))).collect()
}

/// Keeps a copy of a file as the snapshot up to an entry; the older ones go.
pub(super) fn put(folder: &Path, upto: u64, file: &Path) -> Result<()> {
    let digest = whole::digest(file).map_err(failed("read", file))?;
    let place = folder.join(format!("{PREFIX}{}", whole::name(upto, &digest)));
    // One process at a time makes snapshots, so whatever is unfinished was left over.
    for unfinished in unfinished(folder)? {
        tracing::warn!(file = %unfinished.display(), "an unfinished snapshot that was left over is removed");
        std::fs::remove_file(&unfinished).map_err(failed("remove", &unfinished))?;
    }
    let temporary = place.with_extension("unfinished");
    std::fs::copy(file, &temporary)
        .and_then(|_| std::fs::File::open(&temporary)?.sync_all())
        .and_then(|()| std::fs::rename(&temporary, &place))
        .map_err(failed("write", &place))?;
    sync_folder(folder)?;
    for older in list(folder)?.into_iter().filter(|kept| kept.upto < upto) {
        std::fs::remove_file(&older.path).map_err(failed("remove", &older.path))?;
    }
    Ok(())
}

/// Copies the newest snapshot into a file.
pub(super) fn get(folder: &Path, file: &Path) -> Result<Option<u64>> {
    // One that is removed while it is being copied has a newer one.
    loop {
        let Some(newest) = list(folder)?.pop() else { return Ok(None) };
        match std::fs::copy(&newest.path, file) {
            Ok(_) => {
                let found = whole::digest(file).map_err(failed("read", file))?;
                return whole::compare(&found, newest.path.display(), &newest.digest).map(|()| Some(newest.upto));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("copy", file)(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_before_they_were_packed_is_read_and_goes_when_there_is_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let (made, copy) = (folder.path().join("made"), folder.path().join("copy"));
        std::fs::write(&made, "SQLite format 3").unwrap();
        let old = folder.path().join(format!("{PREFIX}{:020}-{}.db", 7, whole::digest(&made).unwrap()));
        std::fs::copy(&made, &old).unwrap();
        assert_eq!(get(folder.path(), &copy).unwrap(), Some(7));
        assert_eq!(std::fs::read(&copy).unwrap(), b"SQLite format 3");
        std::fs::write(&made, "packed").unwrap();
        put(folder.path(), 9, &made).unwrap();
        assert_eq!(get(folder.path(), &copy).unwrap(), Some(9));
        assert!(!old.exists());
    }
}
