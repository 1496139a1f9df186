//! What is kept of replays: the replay itself, and the part of its plan that is not published yet.

use millpond_core::{Collection, Document, FieldKind, Key, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::extra::{Extended, Extra};
use crate::text::sha256_hex;

/// Every collection of replays.
pub(crate) const COLLECTIONS: [Collection; 2] = [Replay::COLLECTION, ReplayPage::COLLECTION];

/// How a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayStatus {
    /// Objects are waited for and looked at; no message was published.
    Preparing,
    /// Every object was found present and intact; messages are being published.
    Publishing,
    /// It will not go on; what is left of its plan is being removed.
    Ending,
    /// Every message was published, once.
    Completed,
    /// An object was missing or damaged; no message was published.
    Refused,
    /// Somebody ended it.
    Cancelled,
}

impl ReplayStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [Self::Preparing, Self::Publishing, Self::Ending, Self::Completed, Self::Refused, Self::Cancelled];

    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Publishing => "publishing",
            Self::Ending => "ending",
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing is done any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Refused | Self::Cancelled)
    }
}

impl std::fmt::Display for ReplayStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ReplayStatus {
    type Err = millpond_core::Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            millpond_core::Error::invalid(format!("{text:?} is not the status of a replay"))
                .with_next("use preparing, publishing, ending, completed, refused or cancelled")
        })
    }
}

/// What is wrong with an object that a replay needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// It was expected, and there is no such artifact.
    Absent,
    /// There is a record of it, and its bytes are gone.
    Missing,
    /// Its bytes are not what was written.
    Damaged,
    /// Its record does not read back.
    Unreadable,
}

impl ProblemKind {
    /// The name used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
        }
    }
}

/// An object that a replay needs and cannot have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayProblem {
    /// The artifact's key.
    pub key: String,
    /// What is wrong.
    pub kind: ProblemKind,
    /// The same in words: location, expected and found.
    pub why: String,
}

/// One message of a plan: the version of the artifact that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMessage {
    /// The artifact's key.
    pub key: String,
    /// The artifact's version: what was there when it was looked at.
    pub version: String,
    /// Its bytes.
    pub length: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// What kind of bytes they are.
    pub content_type: String,
    /// The message it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What its key ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// What it belongs together with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
}

impl PlannedMessage {
    pub(super) fn of(artifact: &crate::Artifact) -> Self {
        Self {
            key: artifact.key.clone(),
            version: artifact.version.clone(),
            length: artifact.length,
            sha256: artifact.sha256.clone(),
            content_type: artifact.content_type.clone(),
            message: artifact.provenance.message.clone(),
            extension: artifact.extension.clone(),
            correlation: artifact.correlation.clone(),
        }
    }

    /// The digest of a plan that goes on with this message.
    pub(super) fn follow(&self, digest: &str) -> String {
        sha256_hex(format!("{digest}\n{}\n{}\n{}\n{}", self.key, self.version, self.sha256, self.length).as_bytes())
    }

    /// Bytes it takes up in a plan, a little more than less.
    pub(super) fn size(&self) -> usize {
        let texts = [&self.message, &self.extension, &self.correlation];
        // As JSON a text can be twice as long.
        2 * (self.key.len() + self.content_type.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()) + 320
    }
}

/// A replay: what is published anew, where to, and how far that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// Its id: the record's key.
    pub id: String,
    /// The execution whose artifacts are published anew. It is pinned from the beginning to the end.
    pub execution: String,
    /// The route.
    pub route: String,
    /// The stage.
    pub stage: String,
    /// What the keys begin with.
    pub prefix: String,
    /// The stream that the messages go to.
    pub to_stream: String,
    /// What all messages of the replay carry. Of two replays with one batch into one stream, the second publishes
    /// nothing that the first did.
    pub batch: String,
    /// How it stands.
    pub status: ReplayStatus,
    /// How it stands once nothing of its plan is left, while it is ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_as: Option<ReplayStatus>,
    /// Who works on it, or did last.
    pub worker: String,
    /// When it was begun.
    pub began: Timestamp,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Why it was ended, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Keys that have to be there, until they were all seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<String>,
    /// Until when they are waited for.
    pub wait_until: Timestamp,
    /// Whether the bytes of every object were read and compared, or only looked for with their length.
    pub read_data: bool,
    /// Messages of one commit at most.
    pub per_commit: u32,
    /// Objects that were looked at.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Artifacts whose keys begin the same, and that are not published: they are of other stages, or their records say that
    /// they belong elsewhere.
    #[serde(default, skip_serializing_if = "is_none_left_out")]
    pub left_out: u64,
    /// The last key that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_to: Option<String>,
    /// Pages of the plan.
    pub pages: u64,
    /// A digest of the plan: of every key, version, SHA-256 and length in their order.
    pub digest: String,
    /// Pages that were published.
    pub published_pages: u64,
    /// Messages that were published.
    pub published: u64,
    /// The last key that was published: where it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The first objects that are missing or damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ReplayProblem>,
    /// How many those are in all.
    pub problems_in_all: u64,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_none_left_out(left_out: &u64) -> bool {
    *left_out == 0
}

impl Extended for Replay {
    fn extras(&self) -> Vec<&Extra> {
        vec![&self.extra]
    }
}

impl Document for Replay {
    const COLLECTION: Collection = Collection::new("replays")
        .version(1)
        .index("execution", FieldKind::Text)
        .index("batch", FieldKind::Text)
        .index("status", FieldKind::Text)
        .index("began", FieldKind::Timestamp)
        .index_on(&["execution", "began"])
        .index_on(&["status", "began"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str())
    }
}

/// Messages of a replay that one commit publishes. The page is gone with that commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayPage {
    /// The replay.
    pub replay: String,
    /// Its number, from 0.
    pub number: u64,
    /// The messages, in their order.
    pub messages: Vec<PlannedMessage>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ReplayPage {
    pub(super) fn key_of(replay: &str, number: u64) -> String {
        format!("{replay}/{number:010}")
    }
}

impl Extended for ReplayPage {
    fn extras(&self) -> Vec<&Extra> {
        vec![&self.extra]
    }
}

impl Document for ReplayPage {
    const COLLECTION: Collection = Collection::new("replay_pages").version(1).owned();

    fn key(&self) -> Result<Key> {
        Key::new(Self::key_of(&self.replay, self.number))
    }
}
