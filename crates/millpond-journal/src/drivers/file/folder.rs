//! Files and folders that are there after a power cut, too.

use std::fs::File;
use std::io::{ErrorKind as IoKind, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use millpond_core::{Error, ErrorKind, Result};

/// Turns an I/O error into Millpond's.
pub(super) fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| {
        let next = match e.kind() {
            IoKind::StorageFull | IoKind::QuotaExceeded => "make room on the disk and try again",
            IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem => "check the permissions of the folder",
            _ => "check the disk",
        };
        // Doctor tells a disk that is full or may not be written from one that is not there.
        let check = match e.kind() {
            IoKind::StorageFull | IoKind::QuotaExceeded => Some("space"),
            IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem => Some("write"),
            _ => None,
        };
        let error = Error::unavailable(format!("cannot {what} {path}")).with_source(e).with_next(next);
        match check {
            Some(check) => error.in_check(check),
            None => error,
        }
    }
}

/// Runs blocking work off the runtime's own threads.
pub(super) async fn hop<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(ErrorKind::UnknownOutcome, "the file's thread went away").with_source(error)),
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("flush", folder))
}

/// Makes a folder and everything above it, durably.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    let mut missing = Vec::new();
    let mut at = Some(folder);
    while let Some(here) = at.filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        missing.push(here);
        at = here.parent();
    }
    for here in missing.into_iter().rev() {
        match std::fs::create_dir(here) {
            Err(e) if e.kind() != IoKind::AlreadyExists => return Err(failed("make", here)(e)),
            _ => {}
        }
        let parent = here.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(parent)?;
    }
    Ok(())
}

/// Writes a small file under a name at once and durably. Two processes that do the same at once both succeed.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    let written = File::create(&temporary).and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()));
    written.and_then(|()| std::fs::rename(&temporary, path)).map_err(failed("write", path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Removes a folder. Whoever waits for its lock finds that it is gone.
pub(super) fn remove_folder(folder: &Path) -> Result<()> {
    let Some(lock) = super::locks::Lock::wait(folder)? else { return Ok(()) };
    let Some(parent) = folder.parent() else { return Ok(()) };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = parent.join(format!(".removed-{name}"));
    std::fs::rename(folder, &aside).map_err(failed("remove", folder))?;
    sync_folder(parent)?;
    drop(lock);
    std::fs::remove_dir_all(&aside).map_err(failed("remove", &aside))
}
