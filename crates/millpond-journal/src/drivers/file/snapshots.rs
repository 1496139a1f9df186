//! Snapshots: one file for everything up to an entry, named after that entry and its own digest.

use std::path::{Path, PathBuf};

use millpond_core::Result;

use super::folder::{failed, sync_folder};
use crate::drivers::whole;

const PREFIX: &str = "snapshot-";

/// The snapshots there are, in order, with their digests.
fn list(folder: &Path) -> Result<Vec<(u64, String)>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(failed("list", folder)(e)),
    };
    for entry in entries {
        let name = entry.map_err(failed("list", folder))?.file_name();
        found.extend(name.to_str().and_then(|n| whole::parse(n.strip_prefix(PREFIX)?)));
    }
    found.sort_unstable();
    Ok(found)
}

fn path(folder: &Path, upto: u64, digest: &str) -> PathBuf {
    folder.join(format!("{PREFIX}{}", whole::name(upto, digest)))
}

fn unfinished(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(failed("list", folder))?;
    let paths = entries.map(|e| e.map(|e| e.path()).map_err(failed("list", folder)));
    paths.filter(|p| p.as_ref().map_or(true, |p| p.extension().is_some_and(|e| e == "unfinished"))).collect()
}

/// Keeps a copy of a file as the snapshot up to an entry; the older ones go.
pub(super) fn put(folder: &Path, upto: u64, file: &Path) -> Result<()> {
    let place = path(folder, upto, &whole::digest(file).map_err(failed("read", file))?);
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
    for (older, digest) in list(folder)?.into_iter().filter(|(n, _)| *n < upto) {
        let path = path(folder, older, &digest);
        std::fs::remove_file(&path).map_err(failed("remove", &path))?;
    }
    Ok(())
}

/// Copies the newest snapshot into a file.
pub(super) fn get(folder: &Path, file: &Path) -> Result<Option<u64>> {
    // One that is removed while it is being copied has a newer one.
    loop {
        let Some((newest, digest)) = list(folder)?.pop() else { return Ok(None) };
        let place = path(folder, newest, &digest);
        match std::fs::copy(&place, file) {
            Ok(_) => {
                let found = whole::digest(file).map_err(failed("read", file))?;
                return whole::compare(&found, place.display(), &digest).map(|()| Some(newest));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("copy", file)(e)),
        }
    }
}
