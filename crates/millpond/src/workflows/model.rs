//! The documents: a version, its place in the lineage, and one head a workflow.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use millpond_core::{Collection, Document, Error, FieldKind, Key, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::extra::{Extended, Extra};

/// One version of one workflow, written `id@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionRef {
    /// The workflow's id.
    pub id: String,
    /// The version, from 1.
    pub version: u32,
}

impl VersionRef {
    /// A version of a workflow.
    pub fn new(id: impl Into<String>, version: u32) -> Self {
        Self { id: id.into(), version }
    }

    pub(super) fn key(&self) -> Result<Key> {
        Key::new(self.to_string())
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.version)
    }
}

impl FromStr for VersionRef {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.rsplit_once('@').and_then(|(id, version)| Some(Self::new(id, version.parse().ok()?)));
        parsed.filter(|r| !r.id.is_empty() && r.version > 0).ok_or_else(|| {
            Error::invalid(format!("{text:?} does not name a version of a workflow")).with_next("write it like etl@3")
        })
    }
}

/// Tags, as a list of words or as names with values. Asked with `has`: a word, or `name=value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tags {
    /// Words.
    List(Vec<String>),
    /// Names with values.
    Map(BTreeMap<String, String>),
}

impl Default for Tags {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Tags {
    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::List(words) => words.is_empty(),
            Self::Map(pairs) => pairs.is_empty(),
        }
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Tags {
    fn from(words: [S; N]) -> Self {
        Self::List(words.into_iter().map(Into::into).collect())
    }
}

/// What a caller says about a version that is to be stored. Everything else is the store's own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewWorkflow {
    /// The workflow's id; left out, the definition's own `id`, or its `name` when that is all it has.
    pub id: Option<String>,
    /// The version; left out, the next one.
    pub version: Option<u32>,
    /// The name; left out, the definition's `name`.
    pub name: Option<String>,
    /// What it is for; left out, the definition's `description`.
    pub description: Option<String>,
    /// The version this one was made from. It must have existed; it may have been deleted since.
    pub parent: Option<VersionRef>,
    /// Why this version was made; left out, `reasoning` of the definition or of its `metadata`.
    pub reasoning: Option<String>,
    /// Tags; left out, `tags` of the definition or of its `metadata`.
    pub tags: Option<Tags>,
    /// Who made it; left out, `author` of the definition or `created_by` of its `metadata`.
    pub author: Option<String>,
    /// The definition: any JSON value.
    pub definition: Value,
    /// Further fields of the version's document, which this program does not know and keeps. None may have the name of
    /// a field of [`WorkflowVersion`].
    pub extra: BTreeMap<String, Value>,
}

impl NewWorkflow {
    /// A version with this definition.
    pub fn of(definition: Value) -> Self {
        Self { definition, ..Self::default() }
    }

    /// A version whose definition is read from YAML. Its own integer `version` is taken as the version wished for;
    /// [`NewWorkflow::next`] takes the next one instead.
    ///
    /// # Errors
    /// As [`crate::yaml::parse`].
    pub fn from_yaml(text: &str) -> Result<Self> {
        let definition = crate::yaml::parse(text)?;
        let version = super::definition::own_version(&definition)?;
        Ok(Self { version, ..Self::of(definition) })
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Wants this version.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// Takes the next version, whatever the definition says.
    #[must_use]
    pub fn next(mut self) -> Self {
        self.version = None;
        self
    }

    /// Names the version it was made from.
    #[must_use]
    pub fn parent(mut self, parent: VersionRef) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Says why.
    #[must_use]
    pub fn reasoning(mut self, why: impl Into<String>) -> Self {
        self.reasoning = Some(why.into());
        self
    }

    /// Tags it.
    #[must_use]
    pub fn tags(mut self, tags: impl Into<Tags>) -> Self {
        self.tags = Some(tags.into());
        self
    }

    /// Says who made it.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.author = Some(author.into());
        self
    }
}

/// A stored version. It never changes; it can only be deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowVersion {
    /// The workflow's id.
    pub id: String,
    /// The version, from 1.
    pub version: u32,
    /// The name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The version it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<VersionRef>,
    /// Why it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// `sha256:` and the SHA-256 of the definition's canonical JSON, in hexadecimal.
    pub content_hash: String,
    /// The definition.
    pub definition: Value,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Extended for WorkflowVersion {
    fn extras(&self) -> Vec<&Extra> {
        vec![&self.extra]
    }
}

impl WorkflowVersion {
    /// `id@version`.
    pub fn reference(&self) -> VersionRef {
        VersionRef::new(&self.id, self.version)
    }

    /// The definition as canonical YAML: stored again, it gives the same definition and hash.
    ///
    /// # Errors
    /// `Invalid` when the definition cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<String> {
        crate::yaml::write(&self.definition)
    }
}

impl Document for WorkflowVersion {
    const COLLECTION: Collection = Collection::new("workflow_versions")
        .version(1)
        .create_only()
        .owned()
        .index("id", FieldKind::Text)
        .index("version", FieldKind::Integer)
        .index("name", FieldKind::Text)
        .index("author", FieldKind::Text)
        .index("tags", FieldKind::TextSet)
        .index("created_at", FieldKind::Timestamp)
        .index("content_hash", FieldKind::Text)
        .index_on(&["id", "version"])
        .index_on(&["id", "created_at"])
        .index_on(&["author", "created_at"]);

    fn key(&self) -> Result<Key> {
        self.reference().key()
    }
}

/// A version's place among its ancestors and children. Outlives the version itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The workflow's id.
    pub id: String,
    /// The version.
    pub version: u32,
    /// The version it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<VersionRef>,
    /// `id@version` of the parent, for the question who the children are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_ref: Option<String>,
    /// Why it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// The hash of its definition.
    pub content_hash: String,
    /// When the version was deleted, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_by: Option<String>,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Lineage {
    /// `id@version`.
    pub fn reference(&self) -> VersionRef {
        VersionRef::new(&self.id, self.version)
    }

    /// True when the version itself is gone.
    pub fn is_deleted(&self) -> bool {
        self.deleted_at.is_some()
    }

    pub(super) fn of(version: &WorkflowVersion) -> Self {
        Self {
            id: version.id.clone(),
            version: version.version,
            parent: version.parent.clone(),
            parent_ref: version.parent.as_ref().map(ToString::to_string),
            reasoning: version.reasoning.clone(),
            author: version.author.clone(),
            created_at: version.created_at,
            content_hash: version.content_hash.clone(),
            deleted_at: None,
            deleted_by: None,
            extra: BTreeMap::new(),
        }
    }
}

impl Document for Lineage {
    const COLLECTION: Collection = Collection::new("workflow_lineage")
        .version(1)
        .owned()
        .index("id", FieldKind::Text)
        .index("version", FieldKind::Integer)
        .index("parent_ref", FieldKind::Text)
        .index("created_at", FieldKind::Timestamp)
        .index("deleted_at", FieldKind::Timestamp)
        .index_on(&["parent_ref", "created_at"])
        .index_on(&["id", "version"]);

    fn key(&self) -> Result<Key> {
        self.reference().key()
    }
}

/// One row a workflow: what its latest version says, and which versions there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowHead {
    /// The workflow's id.
    pub id: String,
    /// The highest version ever stored; the next one is above it, also after a deletion.
    pub highest: u32,
    /// The latest version that exists; absent when all were deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<u32>,
    /// How many versions exist.
    pub versions: u32,
    /// The latest version's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The latest version's description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The latest version's tags.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// The latest version's author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When the latest version was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The hash of the latest version's definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl WorkflowHead {
    pub(super) fn empty(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            highest: 0,
            latest: None,
            versions: 0,
            name: None,
            description: None,
            tags: Tags::default(),
            author: None,
            created_at: None,
            content_hash: None,
            extra: BTreeMap::new(),
        }
    }

    /// Takes over what the latest version says.
    pub(super) fn show(&mut self, latest: Option<&WorkflowVersion>) {
        self.latest = latest.map(|v| v.version);
        self.name = latest.and_then(|v| v.name.clone());
        self.description = latest.and_then(|v| v.description.clone());
        self.tags = latest.map(|v| v.tags.clone()).unwrap_or_default();
        self.author = latest.and_then(|v| v.author.clone());
        self.created_at = latest.map(|v| v.created_at);
        self.content_hash = latest.map(|v| v.content_hash.clone());
    }
}

impl Document for WorkflowHead {
    const COLLECTION: Collection = Collection::new("workflows")
        .version(1)
        .owned()
        .index("id", FieldKind::Text)
        .index("latest", FieldKind::Integer)
        .index("name", FieldKind::Text)
        .index("author", FieldKind::Text)
        .index("tags", FieldKind::TextSet)
        .index("created_at", FieldKind::Timestamp)
        .index_on(&["author", "created_at"]);

    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str())
    }
}
