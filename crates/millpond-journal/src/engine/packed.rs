//! Snapshots travel packed: an LZ4 frame around the SQLite file, a third or a quarter of its size.
//!
//! A million records and events are 784 MiB of pages. Redis holds them in memory and every driver sends them over its
//! connection, so less of them is worth more than the core that packs them beside the commits that go on.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use millpond_core::{Error, Result};

/// The first bytes of an LZ4 frame: the magic number 0x184D2204, least byte first.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// What the decoder is shown behind the end. It takes the end of a file for the end of a frame; these bytes it takes for
/// a block that is larger than any can be.
const BEYOND: [u8; 8] = [0xff; 8];
/// Bytes that are read and written at once.
const CHUNK: usize = 1 << 20;

/// Packs a file into a new one, which is read back: afterwards entries go that nothing else holds.
pub(super) fn pack(from: &Path, to: &Path) -> Result<()> {
    let packed = || -> std::io::Result<()> {
        let mut source = File::open(from)?;
        let about = FrameInfo::new()
            .block_size(BlockSize::Max1MB)
            .block_mode(BlockMode::Independent)
            .content_size(Some(source.metadata()?.len()))
            .content_checksum(true);
        let mut encoder = FrameEncoder::with_frame_info(about, BufWriter::with_capacity(CHUNK, File::create(to)?));
        std::io::copy(&mut BufReader::with_capacity(CHUNK, &mut source), &mut encoder)?;
        encoder.finish().map_err(std::io::Error::other)?.flush()?;
        let length = std::fs::metadata(from)?.len();
        let found = decode(BufReader::with_capacity(CHUNK, File::open(to)?), &mut std::io::sink())?;
        if found == length { Ok(()) } else { Err(std::io::Error::other(format!("{found} of {length} bytes come back"))) }
    };
    packed().map_err(|e| failed("pack", from, e))
}

/// Writes what a frame holds, and compares it with the frame's own checksum.
fn decode(frame: impl std::io::Read, to: &mut impl std::io::Write) -> std::io::Result<u64> {
    std::io::copy(&mut FrameDecoder::new(frame.chain(&BEYOND[..])), to)
}

/// Unpacks what [`pack`] wrote. False when it is not packed: the first snapshots were SQLite files as they are.
pub(super) fn unpack(from: &Path, to: &Path) -> Result<bool> {
    let unpacked = || {
        let mut source = BufReader::with_capacity(CHUNK, File::open(from)?);
        let mut head = Vec::with_capacity(MAGIC.len());
        source.by_ref().take(MAGIC.len() as u64).read_to_end(&mut head)?;
        if !head.starts_with(&MAGIC) {
            return Ok(false);
        }
        let mut target = BufWriter::with_capacity(CHUNK, File::create(to)?);
        decode(head.as_slice().chain(source), &mut target)?;
        target.flush().map(|()| true)
    };
    unpacked().map_err(|e: std::io::Error| {
        let damaged = matches!(e.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
            || e.get_ref().is_some_and(|inner| inner.is::<lz4_flex::frame::Error>());
        if damaged {
            return Error::corrupt("the newest snapshot does not unpack")
                .with_source(e)
                .with_next("restore the snapshot from a copy; the entries it stands for were trimmed");
        }
        failed("unpack", from, e)
    })
}

fn failed(what: &str, file: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot {what} the snapshot's file {}", file.display()))
        .with_source(error)
        .with_next("check the disk of the cache folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long() -> Vec<u8> {
        (0..3 * CHUNK as u64 + 17).map(|n| (n / 100 * n % 251) as u8).collect()
    }

    #[test]
    fn a_file_of_any_length_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let [from, packed, to] = ["from", "packed", "to"].map(|name| folder.path().join(name));
        for bytes in [Vec::new(), b"SQLite format 3".to_vec(), long()] {
            std::fs::write(&from, &bytes).unwrap();
            pack(&from, &packed).unwrap();
            assert!(unpack(&packed, &to).unwrap());
            assert_eq!(std::fs::read(&to).unwrap(), bytes);
        }
        assert!(std::fs::metadata(&packed).unwrap().len() < long().len() as u64);
    }

    #[test]
    fn a_file_that_is_not_packed_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        for bytes in ["", "SQ", "SQLite format 3\0"] {
            std::fs::write(&from, bytes).unwrap();
            assert!(!unpack(&from, &to).unwrap());
            assert!(!to.exists());
        }
    }

    #[test]
    fn damage_and_a_missing_end_are_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let [from, packed, to] = ["from", "packed", "to"].map(|name| folder.path().join(name));
        std::fs::write(&from, long()).unwrap();
        pack(&from, &packed).unwrap();
        let whole = std::fs::read(&packed).unwrap();
        for end in [
            5,
            14,
            15,
            17,
            20,
            whole.len() / 2,
            whole.len() - 9,
            whole.len() - 8,
            whole.len() - 5,
            whole.len() - 4,
            whole.len() - 1,
        ] {
            std::fs::write(&packed, &whole[..end]).unwrap();
            let error = unpack(&packed, &to).unwrap_err();
            assert_eq!(error.kind(), millpond_core::ErrorKind::Corrupt, "cut at {end}: {error:?}");
        }
        for at in (6..whole.len()).step_by(whole.len() / 40) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x20;
            std::fs::write(&packed, &damaged).unwrap();
            let error = unpack(&packed, &to).unwrap_err();
            assert_eq!(error.kind(), millpond_core::ErrorKind::Corrupt, "damaged at {at}: {error:?}");
        }
    }
}
