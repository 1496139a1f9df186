//! A snapshot's file, read and written piece by piece, off the runtime's own threads: what drivers send and get.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use millpond_core::{Error, Result};

/// Runs work on a file on a thread for that.
pub(super) async fn off<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).and_then(|done| done);
    done.map_err(|e| {
        Error::unavailable("a snapshot's file failed").with_source(e).with_next("check the disk of the cache folder")
    })
}

/// Opens a file to be sent.
pub(super) async fn open(path: &Path) -> Result<File> {
    let path = path.to_owned();
    off(move || File::open(path)).await
}

/// Makes the file that pieces are put into.
pub(super) async fn create(path: &Path) -> Result<File> {
    let path = path.to_owned();
    off(move || File::create(path)).await
}

/// The next piece, of `size` bytes unless it is the last; empty at the end.
pub(super) async fn next(file: File, size: usize) -> Result<(File, Vec<u8>)> {
    off(move || {
        let mut piece = Vec::with_capacity(size);
        (&file).take(size as u64).read_to_end(&mut piece)?;
        Ok((file, piece))
    })
    .await
}

/// Puts a piece at the end.
pub(super) async fn append(mut file: File, piece: impl AsRef<[u8]> + Send + 'static) -> Result<File> {
    off(move || file.write_all(piece.as_ref()).map(|()| file)).await
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
        let gone = open(&folder.path().join("gone")).await.unwrap_err();
        assert!(gone.next().is_some_and(|next| next.contains("disk")), "{gone:?}");
    }
}
