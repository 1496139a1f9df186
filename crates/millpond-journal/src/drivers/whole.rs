//! Files that are checked when they come back: a snapshot's name says what it holds.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use millpond_core::{Error, Result};
use sha2::{Digest as _, Sha256};

use crate::hex::hex;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// The SHA-256 of a file, in hexadecimal digits.
pub(super) fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&chunk[..n]),
        }
    }
}

/// The name of a snapshot up to an entry: a packed SQLite file.
pub(super) fn name(upto: u64, digest: &str) -> String {
    format!("{upto:020}-{digest}.db.lz4")
}

/// What a name of [`name`] says. The first snapshots were not packed, and were called so.
pub(super) fn parse(name: &str) -> Option<(u64, String)> {
    let (number, digest) = name.strip_suffix(".lz4").unwrap_or(name).strip_suffix(".db")?.split_once('-')?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    Some((number.parse().ok()?, digest.to_owned())).filter(|_| is_digest)
}

/// Refuses a copy of a snapshot whose digest is not what its name says.
pub(super) fn compare(found: &str, place: impl std::fmt::Display, expected: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::corrupt(format!("the snapshot {place} is damaged: its digest is {found}"))
        .with_next("restore it from a copy; the entries it stands for were trimmed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, "what a snapshot holds").unwrap();
        let made = digest(&file).unwrap();
        assert_eq!(parse(&name(7, &made)), Some((7, made.clone())));
        assert_eq!(parse(&format!("7-{made}.db")), Some((7, made.clone())), "as it was before snapshots were packed");
        assert_eq!(parse(&format!("7-{made}.lz4")), None);
        assert_eq!(parse("00000000000000000007.db"), None);
        assert!(compare(&digest(&file).unwrap(), "s", &made).is_ok());
        std::fs::write(&file, "what a snapshot hold5").unwrap();
        assert!(
            compare(&digest(&file).unwrap(), "s", &made).expect_err("damaged").to_string().contains("the snapshot s is damaged")
        );
    }
}
