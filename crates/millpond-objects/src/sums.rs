//! What is noted of bytes while they pass: their length, their SHA-256, and a sum of each block.

use bytes::Bytes;
use millpond_core::{Error, Result};
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_64;

/// Bytes of a block: what is read and compared at once.
pub const BLOCK: usize = 1 << 20;

/// What is known of an object's bytes.
///
/// The SHA-256 names the content. Blocks have XXH3 sums of 64 bits beside it, against accidents: a second SHA-256 would
/// double the work of writing, and a range could not be checked by the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Bytes.
    pub length: u64,
    /// SHA-256 of all of them.
    pub sha256: [u8; 32],
    /// XXH3 (64 bits, seed 0) of each block of [`BLOCK`] bytes; the last may be shorter. Empty for no bytes.
    pub blocks: Vec<u64>,
}

impl Sums {
    /// Of bytes that are at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            length: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
            blocks: bytes.chunks(BLOCK).map(XxHash3_64::oneshot).collect(),
        }
    }

    /// Compares one block with its sum.
    ///
    /// # Errors
    /// `Corrupt`, with the sum that was expected and the one found.
    pub fn check(&self, block: usize, bytes: &[u8]) -> Result<()> {
        let expected = self.blocks.get(block).ok_or_else(|| Error::corrupt(format!("there is no block {block}")))?;
        let found = XxHash3_64::oneshot(bytes);
        if found == *expected {
            return Ok(());
        }
        Err(Error::corrupt(format!("block {block} is damaged"))
            .with("expected_xxh3", format!("{expected:016x}"))
            .with("found_xxh3", format!("{found:016x}")))
    }
}

/// Sums bytes while they pass in pieces of any size.
#[derive(Clone)]
pub struct Summing {
    length: u64,
    whole: Sha256,
    block: XxHash3_64,
    /// Bytes of the block that is not full yet.
    open: usize,
    blocks: Vec<u64>,
}

impl Default for Summing {
    fn default() -> Self {
        Self { length: 0, whole: Sha256::new(), block: XxHash3_64::new(), open: 0, blocks: Vec::new() }
    }
}

impl std::fmt::Debug for Summing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Summing").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Summing {
    /// Takes the next piece.
    pub fn add(&mut self, piece: &Bytes) {
        use std::hash::Hasher as _;
        self.length += piece.len() as u64;
        self.whole.update(piece);
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.open));
            self.block.write(now);
            self.open += now.len();
            if self.open == BLOCK {
                self.close();
            }
            rest = later;
        }
    }

    fn close(&mut self) {
        use std::hash::Hasher as _;
        self.blocks.push(std::mem::replace(&mut self.block, XxHash3_64::new()).finish());
        self.open = 0;
    }

    /// What passed.
    pub fn finish(mut self) -> Sums {
        if self.open > 0 {
            self.close();
        }
        Sums { length: self.length, sha256: self.whole.finalize().into(), blocks: self.blocks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn pieces_sum_to_what_the_whole_does(length in 0..3 * BLOCK, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let bytes: Bytes = (0..length).map(|n| (n * n % 253) as u8).collect::<Vec<_>>().into();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(length + 1)).chain([0, length]).collect();
            cuts.sort_unstable();
            let mut summing = Summing::default();
            cuts.windows(2).for_each(|cut| summing.add(&bytes.slice(cut[0]..cut[1])));
            prop_assert_eq!(summing.finish(), Sums::of(&bytes));
        }
    }

    #[test]
    fn a_block_that_is_full_is_no_reason_for_another() {
        for (length, blocks) in [(0, 0), (1, 1), (BLOCK, 1), (BLOCK + 1, 2), (2 * BLOCK, 2)] {
            assert_eq!(Sums::of(&vec![7; length]).blocks.len(), blocks, "{length}");
        }
    }

    #[test]
    fn the_error_of_a_damaged_block_has_both_sums() {
        let sums = Sums::of(b"as it was");
        sums.check(0, b"as it was").unwrap();
        let error = sums.check(0, b"as it is").unwrap_err();
        let context: Vec<_> = error.context().collect();
        assert_eq!(error.kind(), millpond_core::ErrorKind::Corrupt);
        assert!(context.iter().any(|(name, _)| *name == "expected_xxh3"), "{error:?}");
        assert!(sums.check(1, b"").is_err());
    }
}
