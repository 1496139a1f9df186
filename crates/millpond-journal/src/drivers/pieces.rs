//! A snapshot's file, read and written piece by piece, off the runtime's own threads: what drivers send and get.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use millpond_core::{Error, Result};

/// A file that is open, and where it is: what goes wrong with it names it.
pub(super) struct Local {
    path: PathBuf,
    file: File,
}

/// Runs work on the file at a path, on a thread for that.
pub(super) async fn off<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let own = path.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&own)).await.map_err(std::io::Error::other).and_then(|done| done);
    done.map_err(|e| {
        Error::unavailable(format!("cannot use the snapshot's file {}", path.display()))
            .with_source(e)
            .with_next("check the disk of the cache folder")
    })
}

/// Opens a file to be sent.
pub(super) async fn open(path: &Path) -> Result<Local> {
    Ok(Local { path: path.to_owned(), file: off(path, |path| File::open(path)).await? })
}

/// Makes the file that pieces are put into.
pub(super) async fn create(path: &Path) -> Result<Local> {
    Ok(Local { path: path.to_owned(), file: off(path, |path| File::create(path)).await? })
}

/// The next piece, of `size` bytes unless it is the last; empty at the end.
pub(super) async fn next(Local { path, file }: Local, size: usize) -> Result<(Local, Vec<u8>)> {
    let read = move |_: &Path| {
        let mut piece = Vec::with_capacity(size);
        (&file).take(size as u64).read_to_end(&mut piece)?;
        Ok((file, piece))
    };
    let (file, piece) = off(&path, read).await?;
    Ok((Local { path, file }, piece))
}

/// Puts a piece at the end.
pub(super) async fn append(Local { path, mut file }: Local, piece: impl AsRef<[u8]> + Send + 'static) -> Result<Local> {
    let file = off(&path, move |_| file.write_all(piece.as_ref()).map(|()| file)).await?;
    Ok(Local { path, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_comes_back_piece_by_piece() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, b"0123456789").unwrap();
        let (mut source, mut target) = (open(&from).await.unwrap(), create(&to).await.unwrap());
        let mut sizes = Vec::new();
        loop {
            let (rest, piece) = next(source, 4).await.unwrap();
            source = rest;
            sizes.push(piece.len());
            if piece.is_empty() {
                break;
            }
            target = append(target, piece).await.unwrap();
        }
        assert_eq!(sizes, [4, 4, 2, 0]);
        assert_eq!(std::fs::read(&to).unwrap(), b"0123456789");
        let gone = folder.path().join("gone");
        let error = open(&gone).await.err().unwrap();
        assert!(error.to_string().contains(&gone.display().to_string()), "{error}");
        assert!(error.next().is_some_and(|next| next.contains("disk")), "{error:?}");
    }
}
