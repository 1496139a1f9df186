//! What is kept of artifacts: the newest version under its key, every version beside it, sums of long objects.

use std::collections::BTreeMap;

use millpond_core::{Collection, Document, FieldKind, Key, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::extra::{Extended, Extra};
use crate::text::sha256_hex;

/// Every collection of artifacts.
pub(crate) const COLLECTIONS: [Collection; 4] =
    [Artifact::COLLECTION, ArtifactVersion::COLLECTION, BlockSums::COLLECTION, crate::objects::ObjectsPlace::COLLECTION];

/// Where an artifact comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The execution, such as a run's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// The route within the pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The stage of the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The adapter that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The message it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When, by whoever wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_at: Option<Timestamp>,
}

/// An artifact as it is now: what is known of its bytes and of where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its key, whatever the caller chose: the record's key.
    pub key: String,
    /// The unit that wrote it and the number of its operation: what names this version.
    pub version: String,
    /// Where its bytes are. Only Millpond has a use for it.
    pub location: String,
    /// Its bytes.
    pub length: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// When it was written, on the store's clock.
    pub created: Timestamp,
    /// What kind of bytes they are, as a MIME type.
    pub content_type: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// What the key ends with after its last dot, in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// The hash of the configuration it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// The row of its lineage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<String>,
    /// What it belongs together with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// The document it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The key it had where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_key: Option<String>,
    /// Fields of the caller's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, Value>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Extended for Artifact {
    fn extras(&self) -> Vec<&Extra> {
        vec![&self.extra]
    }
}

impl Document for Artifact {
    const COLLECTION: Collection = Collection::new("artifacts")
        .version(1)
        .index("execution", FieldKind::Text)
        .index("route", FieldKind::Text)
        .index("stage", FieldKind::Text)
        .index("correlation", FieldKind::Text)
        .index("document", FieldKind::Text)
        .index("extension", FieldKind::Text)
        .index("created", FieldKind::Timestamp)
        .index_on(&["execution", "created"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.key.as_str())
    }
}

/// Digits of a version's key that tell folders apart, mostly: where two share them they only lie together.
const FOLDER_DIGITS: usize = 8;

/// A version of an artifact, as it was decided. Never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactVersion {
    /// The artifact's key.
    pub key: String,
    /// Digests of the key's folder and of the key: what versions of one artifact share.
    pub of: String,
    /// The unit and the number of its operation: what names the version.
    pub version: String,
    /// When.
    pub created: Timestamp,
    /// Where its bytes are; `None` where the artifact was deleted.
    #[serde(default)]
    pub location: Option<String>,
    /// Its bytes.
    #[serde(default)]
    pub length: u64,
    /// The execution it belongs to.
    #[serde(default)]
    pub execution: Option<String>,
    /// What was written; `None` where the artifact was deleted.
    pub artifact: Option<Artifact>,
}

impl ArtifactVersion {
    /// What versions of one artifact share. A key may be as long as a record's key can be, so it goes in as its digest;
    /// before it stands a short one of its folder: what is written together lies together in every index, and a unit of a
    /// hundred puts touches a few pages of each and not a hundred.
    pub(crate) fn digest_of(key: &str) -> String {
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{}{}", &sha256_hex(folder.as_bytes())[..FOLDER_DIGITS], &sha256_hex(key.as_bytes())[..32])
    }

    /// The key of the record of a version.
    pub(crate) fn key_of(key: &str, version: &str) -> String {
        format!("{}/{version}", Self::digest_of(key))
    }

    /// That this was written.
    pub(super) fn written(artifact: &Artifact) -> Self {
        Self {
            key: artifact.key.clone(),
            of: Self::digest_of(&artifact.key),
            version: artifact.version.clone(),
            created: artifact.created,
            location: Some(artifact.location.clone()),
            length: artifact.length,
            execution: artifact.provenance.execution.clone(),
            artifact: Some(artifact.clone()),
        }
    }

    /// That this was deleted.
    pub(super) fn deleted(before: &Artifact, version: String, created: Timestamp) -> Self {
        Self {
            key: before.key.clone(),
            of: Self::digest_of(&before.key),
            version,
            created,
            location: None,
            length: 0,
            execution: before.provenance.execution.clone(),
            artifact: None,
        }
    }
}

impl Document for ArtifactVersion {
    const COLLECTION: Collection = Collection::new("artifact_versions")
        .version(1)
        .index("of", FieldKind::Text)
        .index("created", FieldKind::Timestamp)
        .index("location", FieldKind::Text)
        .index("execution", FieldKind::Text)
        .index_on(&["of", "created"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(Self::key_of(&self.key, &self.version))
    }
}

/// Sums of the blocks of an object that is longer than one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockSums {
    /// Where the object is: the record's key.
    pub location: String,
    /// XXH3 of each block of a MiB: eight bytes each, the highest first, as base64.
    pub xxh3: String,
}

impl Document for BlockSums {
    const COLLECTION: Collection = Collection::new("object_sums").version(1).owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.location.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::ArtifactVersion;

    #[test]
    fn versions_of_one_folder_lie_together_and_no_two_keys_are_one() {
        let of = ArtifactVersion::digest_of;
        let folder = |key: &str| of(key)[..super::FOLDER_DIGITS].to_owned();
        assert_eq!(folder("executions/e/r/s/m1"), folder("executions/e/r/s/m2.txt"));
        assert_ne!(folder("executions/e/r/s/m1"), folder("executions/e/r/t/m1"));
        assert_eq!(folder("top"), folder("level"));
        let keys = ["a/b", "a/c", "b/b", "a", "b", "a/", "/a", "a//b", ""];
        let all: std::collections::BTreeSet<String> = keys.iter().map(|key| of(key)).collect();
        assert_eq!(all.len(), keys.len());
        assert!(all.iter().all(|of| of.len() == super::FOLDER_DIGITS + 32));
    }
}
