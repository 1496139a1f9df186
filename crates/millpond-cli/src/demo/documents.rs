//! The demo's own collections: what each stage leaves behind.
//!
//! ```text
//!  collect ─► demo_sources ─► convert ─► demo_texts ─► segment ─► demo_segments ─► index ─► demo_terms
//!  demo_groups says which files one step of collect, convert and segment takes.
//! ```

use millpond::{Collection, Document, FieldKind, Key, Result};
use serde::{Deserialize, Serialize};

/// The files one step takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Counted from 0.
    pub number: u64,
    /// Names inside the corpus.
    pub files: Vec<String>,
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name inside the corpus, which is its key.
    pub path: String,
    /// `markdown` or `text`.
    pub format: String,
    /// Its length.
    pub bytes: i64,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Its text.
    pub text: String,
}

/// A file as plain text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The file.
    pub path: String,
    /// Its first heading, else its name.
    pub title: String,
    /// Its words.
    pub words: i64,
    /// The text without markup.
    pub text: String,
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The file.
    pub path: String,
    /// Counted from 1 in its file.
    pub number: i64,
    /// Its words.
    pub words: i64,
    /// The piece.
    pub text: String,
}

/// Where a term occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The term, which is the key.
    pub term: String,
    /// Which step of the index stage wrote it.
    pub shard: i64,
    /// How often it occurs.
    pub occurrences: i64,
    /// In how many segments.
    pub segments: i64,
    /// The segments where it occurs most often, at most [`super::index::PLACES`].
    pub places: Vec<Place>,
}

/// One segment a term occurs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The segment's key.
    pub segment: String,
    /// How often.
    pub count: i64,
}

impl Document for Group {
    const COLLECTION: Collection = Collection::new("demo_groups").index("number", FieldKind::Integer);
    fn key(&self) -> Result<Key> {
        Key::new(group_key(self.number))
    }
}

impl Document for Source {
    const COLLECTION: Collection =
        Collection::new("demo_sources").index("format", FieldKind::Text).index("bytes", FieldKind::Integer);
    fn key(&self) -> Result<Key> {
        Key::new(self.path.as_str())
    }
}

impl Document for Text {
    const COLLECTION: Collection = Collection::new("demo_texts").index("words", FieldKind::Integer);
    fn key(&self) -> Result<Key> {
        Key::new(self.path.as_str())
    }
}

impl Segment {
    /// Its key: the file and its number there.
    pub fn id(&self) -> String {
        format!("{}#{:05}", self.path, self.number)
    }
}

impl Document for Segment {
    const COLLECTION: Collection = Collection::new("demo_segments").index("words", FieldKind::Integer);
    fn key(&self) -> Result<Key> {
        Key::new(self.id())
    }
}

impl Document for Term {
    const COLLECTION: Collection = Collection::new("demo_terms")
        .index("shard", FieldKind::Integer)
        .index("occurrences", FieldKind::Integer)
        .index("segments", FieldKind::Integer);
    fn key(&self) -> Result<Key> {
        Key::new(self.term.as_str())
    }
}

/// The key of a group.
pub fn group_key(number: u64) -> String {
    format!("{number:06}")
}

/// The collections that hold what the demo made, in the order of its stages.
pub const OUTPUTS: [&Collection; 4] = [&Source::COLLECTION, &Text::COLLECTION, &Segment::COLLECTION, &Term::COLLECTION];
