//! Sums of objects as records, and back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millpond_core::{Error, Records, Result, Store};
use millpond_objects::{BLOCK, Sums};

use super::model::{Artifact, BlockSums};

/// The record of an object's blocks, unless it has but one: of that the SHA-256 says all.
pub(super) fn of_blocks(location: &str, sums: &Sums) -> Option<BlockSums> {
    let bytes: Vec<u8> = sums.blocks.iter().flat_map(|sum| sum.to_be_bytes()).collect();
    (sums.length > BLOCK as u64).then(|| BlockSums { location: location.to_owned(), xxh3: STANDARD.encode(bytes) })
}

/// What is known of an artifact's bytes.
pub(super) async fn of_artifact(store: &Store, artifact: &Artifact) -> Result<Sums> {
    if let Some(sums) = read(artifact, None)? {
        return Ok(sums);
    }
    let kept = Records::<BlockSums>::new(store.clone()).get(&artifact.location).await?;
    let kept = kept.ok_or_else(|| unreadable(artifact, "record of block sums"))?.value;
    read(artifact, Some(&kept))?.ok_or_else(|| unreadable(artifact, "record of block sums"))
}

/// The sums, if the record alone or the blocks' record at hand has them.
pub(super) fn read(artifact: &Artifact, blocks: Option<&BlockSums>) -> Result<Option<Sums>> {
    let sha256 = crate::text::bytes_of_hex(&artifact.sha256).ok_or_else(|| unreadable(artifact, "SHA-256"))?;
    let sums = Sums { length: artifact.length, sha256, blocks: Vec::new() };
    if artifact.length <= BLOCK as u64 {
        return Ok(Some(sums));
    }
    let Some(kept) = blocks else { return Ok(None) };
    let bytes = STANDARD.decode(&kept.xxh3).map_err(|e| unreadable(artifact, "record of block sums").with_source(e))?;
    Ok(Some(Sums { blocks: bytes.as_chunks().0.iter().map(|sum| u64::from_be_bytes(*sum)).collect(), ..sums }))
}

fn unreadable(artifact: &Artifact, what: &str) -> Error {
    Error::corrupt(format!("the {what} of artifact {:?} does not read back", artifact.key))
}
