//! Reading what was written, or an error: no byte is handed out that was not compared.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use millpond_core::{Error, Result};
use sha2::{Digest as _, Sha256};

use crate::{BLOCK, Location, Objects, Sums};

/// An object that a record names, with what the record knows of its bytes.
#[derive(Debug, Clone)]
pub struct Verified {
    objects: Arc<dyn Objects>,
    at: Location,
    sums: Arc<Sums>,
}

impl Verified {
    /// Of a record's location and sums.
    pub fn new(objects: Arc<dyn Objects>, at: Location, sums: Arc<Sums>) -> Self {
        Self { objects, at, sums }
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.sums.length
    }

    /// All of it. What fits a block is compared by its SHA-256, longer objects block by block.
    ///
    /// # Errors
    /// `Corrupt` when it is missing, too short, too long or damaged.
    pub async fn whole(&self) -> Result<Bytes> {
        if self.sums.length > BLOCK as u64 { self.range(0..self.sums.length).await } else { self.one_block().await }
    }

    async fn one_block(&self) -> Result<Bytes> {
        // A byte more than there should be: one that has grown is damaged, too.
        let bytes = self.fetch(0..self.sums.length + 1).await?;
        self.has_length(bytes.len() as u64)?;
        let found: [u8; 32] = Sha256::digest(&bytes).into();
        if found == self.sums.sha256 { Ok(bytes) } else { Err(self.damaged(&found)) }
    }

    /// A range of it, less where the object ends before. Whole blocks are read and compared.
    ///
    /// # Errors
    /// As [`Verified::whole`].
    pub async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        let range = range.start.min(self.sums.length)..range.end.min(self.sums.length);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let block = BLOCK as u64;
        if self.sums.length <= block {
            // Of what fits a block the record may keep no further sum: its SHA-256 says all.
            let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            return Ok(self.one_block().await?.slice(within(range.start)..within(range.end)));
        }
        let first = range.start / block;
        let read = first * block..(range.end.div_ceil(block) * block).min(self.sums.length);
        // At the end a byte more than there should be: one that has grown is damaged, too.
        let more = u64::from(read.end == self.sums.length);
        let bytes = self.fetch(read.start..read.end + more).await?;
        self.has_length(read.start + bytes.len() as u64 + (self.sums.length - read.end))?;
        for (n, piece) in bytes.chunks(BLOCK).enumerate() {
            let number = usize::try_from(first).unwrap_or(usize::MAX).saturating_add(n);
            self.sums.check(number, piece).map_err(|e| self.named(e))?;
        }
        let within = |at: u64| usize::try_from(at - read.start).unwrap_or(usize::MAX);
        Ok(bytes.slice(within(range.start)..within(range.end)))
    }

    /// Looks whether it is there with the right length. No byte is read.
    ///
    /// # Errors
    /// `Corrupt` when it is missing, too short or too long.
    pub async fn is_there(&self) -> Result<()> {
        let length = self.objects.length(&self.at).await?.ok_or_else(|| self.missing())?;
        self.has_length(length)
    }

    /// Reads everything and compares its SHA-256 and its length, with one block in memory at a time.
    ///
    /// # Errors
    /// As [`Verified::whole`].
    pub async fn examine(&self) -> Result<()> {
        self.is_there().await?;
        let (mut at, mut whole) = (0, Sha256::new());
        while at < self.sums.length {
            let piece = self.range(at..at + BLOCK as u64).await?;
            at += piece.len() as u64;
            whole.update(&piece);
        }
        let found: [u8; 32] = whole.finalize().into();
        if found == self.sums.sha256 { Ok(()) } else { Err(self.damaged(&found)) }
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        self.objects.read(&self.at, range).await?.ok_or_else(|| self.missing())
    }

    fn has_length(&self, found: u64) -> Result<()> {
        if found == self.sums.length {
            return Ok(());
        }
        let expected = self.sums.length;
        Err(self.named(Error::corrupt(format!("an object is {found} bytes long; {expected} were written"))))
    }

    fn missing(&self) -> Error {
        self.named(Error::corrupt("an object is missing"))
    }

    fn damaged(&self, found: &[u8]) -> Error {
        self.named(Error::corrupt("an object is damaged")).with("found_sha256", hex(found))
    }

    fn named(&self, error: Error) -> Error {
        error
            .with("location", &self.at)
            .with("place", self.objects.place())
            .with("expected_sha256", hex(&self.sums.sha256))
            .with_next("restore the object from a copy, under the same location")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Folder;
    use millpond_core::ErrorKind;
    use uuid::Uuid;

    struct World {
        place: tempfile::TempDir,
        object: Verified,
        bytes: Vec<u8>,
    }

    async fn world(length: usize) -> World {
        let place = tempfile::tempdir().unwrap();
        let objects = Arc::new(Folder::new(place.path()).unwrap());
        let bytes: Vec<u8> = (0..length).map(|n| (n * n % 251) as u8).collect();
        let at = Location::new(Uuid::from_u128(1), 1);
        objects.put(&at, bytes.clone().into(), None).await.unwrap();
        let mut sums = Sums::of(&bytes);
        if length <= BLOCK {
            // As records keep them.
            sums.blocks.clear();
        }
        let object = Verified::new(objects, at, Arc::new(sums));
        World { place, object, bytes }
    }

    impl World {
        fn exchange(&self, bytes: &[u8]) {
            std::fs::write(self.place.path().join(self.object.at.as_str()), bytes).unwrap();
        }

        async fn is_corrupt(&self, what: &str) {
            for result in [self.object.whole().await.map(drop), self.object.examine().await] {
                let error = result.expect_err(what);
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
                let names: Vec<_> = error.context().map(|(name, _)| name).collect();
                assert!(names.contains(&"location") && names.contains(&"expected_sha256"), "{what}: {error:?}");
            }
        }
    }

    #[tokio::test]
    async fn every_range_is_what_was_written() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let world = world(length).await;
            assert_eq!(world.object.whole().await.unwrap(), world.bytes, "{length}");
            world.object.examine().await.unwrap();
            for (start, end) in [(0, 1), (0, length), (length / 2, length), (length, length + 5), (BLOCK - 1, BLOCK + 1)] {
                let expected = &world.bytes[start.min(length)..end.min(length).max(start.min(length))];
                assert_eq!(world.object.range(start as u64..end as u64).await.unwrap(), expected, "{start}..{end} of {length}");
            }
        }
    }

    #[tokio::test]
    async fn no_changed_byte_is_handed_out() {
        for length in [1, 1_000, BLOCK + 100, 2 * BLOCK] {
            let world = world(length).await;
            for at in [0, length / 2, length - 1] {
                let mut changed = world.bytes.clone();
                changed[at] ^= 1;
                world.exchange(&changed);
                world.is_corrupt(&format!("byte {at} of {length}")).await;
                assert!(world.object.range(at as u64..at as u64 + 1).await.is_err(), "byte {at} of {length}");
            }
        }
    }

    #[tokio::test]
    async fn an_object_that_is_missing_cut_or_longer_is_named() {
        for length in [1_000, 2 * BLOCK + 100] {
            let world = world(length).await;
            world.exchange(&world.bytes[..length - 1]);
            world.is_corrupt("cut").await;
            world.exchange(&[]);
            world.is_corrupt("empty").await;
            std::fs::remove_file(world.place.path().join(world.object.at.as_str())).unwrap();
            world.is_corrupt("missing").await;
        }
        for length in [1_000, BLOCK, 2 * BLOCK, 2 * BLOCK + 100] {
            let world = world(length).await;
            world.exchange(&[&world.bytes[..], b"x"].concat());
            world.is_corrupt("longer").await;
        }
    }
}
