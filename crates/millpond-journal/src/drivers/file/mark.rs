//! The mark: up to where a journal's segments are flushed.
//!
//! A writer moves it after the flush and before the answer, without flushing the mark itself. So while a machine runs
//! the mark covers everything that was answered, and nothing that was not flushed; after a power cut it may be behind,
//! never ahead, and whoever opens the journal next moves it on under the lock.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use sha2::{Digest, Sha256};

use crate::hex::hex;

/// Bytes of the mark's text, padded.
const SIZE: usize = 128;

/// Where the journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The last entry.
    pub(super) number: u64,
    /// The first entry of the segment that it is in.
    pub(super) segment: u64,
    /// Where it begins in that segment.
    pub(super) start: u64,
    /// Where it ends.
    pub(super) end: u64,
}

fn sum(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())[..4])
}

impl Mark {
    fn text(self) -> String {
        let body = format!("{} {} {} {}", self.number, self.segment, self.start, self.end);
        let mut text = format!("{body} {}", sum(&body));
        while text.len() < SIZE - 1 {
            text.push(' ');
        }
        text.push('\n');
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, found) = text.trim_end().rsplit_once(' ')?;
        if sum(body) != found {
            return None;
        }
        let mut numbers = body.split(' ').map(|n| n.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self { number: next()?, segment: next()?, start: next()?, end: next()? })
    }

    /// Moves the mark.
    pub(super) fn write(self, file: &File) -> std::io::Result<()> {
        file.write_all_at(self.text().as_bytes(), 0)
    }

    /// Reads the mark; `None` when there is none that reads back.
    pub(super) fn read(file: &File) -> std::io::Result<Option<Self>> {
        // A writer may be moving it this very moment: look twice before calling it damaged.
        for _ in 0..3 {
            let mut bytes = [0; SIZE];
            let mut filled = 0;
            while filled < SIZE {
                match file.read_at(&mut bytes[filled..], filled as u64)? {
                    0 => break,
                    n => filled += n,
                }
            }
            if let Some(mark) = std::str::from_utf8(&bytes[..filled]).ok().and_then(Self::parse) {
                return Ok(Some(mark));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_and_damage_is_noticed() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Mark::read(&file).unwrap(), None);
        let mark = Mark { number: u64::MAX, segment: u64::MAX, start: u64::MAX, end: u64::MAX };
        mark.write(&file).unwrap();
        assert_eq!(Mark::read(&file).unwrap(), Some(mark));
        Mark { number: 1, segment: 1, start: 0, end: 7 }.write(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len() as usize, SIZE);
        file.write_all_at(b"2", 0).unwrap();
        assert_eq!(Mark::read(&file).unwrap(), None);
    }
}
