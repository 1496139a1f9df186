//! The digest of what a demo made: content only, equal however often the demo was killed on the way.
//!
//! Covered are the documents of every stage, the artifacts with their sums, the definition, the dead letters and the counts; never a time, a
//! revision or an id made at random.

use millpond::{Artifact, ArtifactFilter, ArtifactKey, Error, Pond, Query, Result};
use sha2::{Digest, Sha256};

use super::documents::OUTPUTS;
use super::state::State;
use super::{begin, letters};

/// Records in one page.
const PAGE: usize = 1_000;

/// SHA-256 as hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Hashes texts so that no two lists of texts look alike.
struct Texts(Sha256);

impl Texts {
    fn add(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }
}

/// The digest as hex digits.
///
/// # Errors
/// `Corrupt` when something does not read back.
pub async fn digest(pond: &Pond, state: &State) -> Result<String> {
    let mut texts = Texts(Sha256::new());
    for collection in OUTPUTS {
        let mut query = Query::new(collection.name())?.limit(PAGE);
        loop {
            let page = pond.store().query(query.clone()).await?;
            if let Some(damaged) = page.damaged.first() {
                return Err(Error::corrupt(format!("{} does not read back: {}", damaged.what, damaged.why)));
            }
            for record in &page.items {
                texts.add(collection.name());
                texts.add(record.key.as_str());
                texts.add(record.value.as_str());
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
    }
    let below = ArtifactKey::of_execution(&state.run);
    let mut kept = pond.artifacts().list_all(ArtifactFilter::prefix(&below));
    while let Some(artifact) = kept.next().await? {
        let Artifact { key, sha256, content_type, .. } = artifact.value;
        for text in ["artifact", key.strip_prefix(&below).unwrap_or(&key), &sha256, &content_type] {
            texts.add(text);
        }
    }
    texts.add(&begin::definition(pond, state).await?);
    for letter in letters::texts(pond, &state.run).await? {
        texts.add(&letter);
    }
    texts.add(millpond::Json::of(&state.counts)?.as_str());
    Ok(hex(&texts.0.finalize()))
}
