//! What a step keeps as artifacts, each with its row of lineage, in the unit that does the step.
//!
//! ```text
//!  executions/RUN/documents/collect/FILE.md        the file
//!                          /convert/FILE.md.txt    its page: plain text
//!                          /segment/FILE.md.jsonl  its segments, one a line
//!                          /index/shard-07.jsonl   terms with where they occur
//! ```
//!
//! A row of lineage has the key of its artifact as its id. The parts of the index came from the segments of every file;
//! so that no commit has to name them all, there is one row for all segments of a run, which each step links its own to.

use futures_util::future::try_join_all;
use millpond::{ArtifactKey, ArtifactRef, Json, LineageEnd, NewArtifact, NewLineage, Result, Unit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::digest::sha256_hex;
use super::documents::{Segment, Source, Term, Text};
use super::state::Stage;

/// The route of all the demo's artifacts.
pub const ROUTE: &str = "documents";
/// The longest key that names its file; longer ones have the file's hash.
const KEY_BYTES: usize = 700;

/// An artifact that a step makes.
#[derive(Debug, Clone)]
pub struct Kept {
    key: String,
    stage: Stage,
    content_type: &'static str,
    body: String,
    /// The file it is of; the parts of the index are of none.
    document: Option<String>,
    /// The row it came from.
    parent: Option<String>,
}

/// The artifact that a stage makes of a file.
fn key_of(run: &str, stage: Stage, file: &str, extension: &str) -> String {
    let key = |message: &str| {
        let key = ArtifactKey::new(run, ROUTE, stage.name(), message);
        if extension.is_empty() { key } else { key.extension(extension) }.to_string()
    };
    let named = key(file);
    if named.len() <= KEY_BYTES { named } else { key(&sha256_hex(file.as_bytes())) }
}

fn source_key(run: &str, file: &str) -> String {
    match file.rsplit_once('.') {
        Some((name, extension)) if !name.is_empty() && !extension.contains('/') => key_of(run, Stage::Collect, name, extension),
        _ => key_of(run, Stage::Collect, file, ""),
    }
}

fn page_key(run: &str, file: &str) -> String {
    key_of(run, Stage::Convert, file, "txt")
}

/// Where the segments of a file are.
pub fn segments_key(run: &str, file: &str) -> String {
    key_of(run, Stage::Segment, file, "jsonl")
}

/// Where a part of the index is.
pub fn shard_key(run: &str, shard: u64) -> String {
    key_of(run, Stage::Index, &format!("shard-{shard:02}"), "jsonl")
}

/// The row that stands for the segments of all files.
pub fn all_segments(run: &str) -> String {
    ArtifactKey::of_stage(run, ROUTE, Stage::Segment.name()).trim_end_matches('/').to_owned()
}

impl Kept {
    /// A file as it was read.
    pub fn source(run: &str, source: &Source) -> Self {
        Self {
            key: source_key(run, &source.path),
            stage: Stage::Collect,
            content_type: if source.format == "markdown" { "text/markdown" } else { "text/plain" },
            body: source.text.clone(),
            document: Some(source.path.clone()),
            parent: None,
        }
    }

    /// A file as plain text.
    pub fn page(run: &str, text: &Text) -> Self {
        Self {
            key: page_key(run, &text.path),
            stage: Stage::Convert,
            content_type: "text/plain",
            body: text.text.clone(),
            document: Some(text.path.clone()),
            parent: Some(source_key(run, &text.path)),
        }
    }

    /// The segments of a file.
    ///
    /// # Errors
    /// `Invalid` when one cannot be written as JSON.
    pub fn segments(run: &str, file: &str, segments: &[Segment]) -> Result<Self> {
        Ok(Self {
            key: segments_key(run, file),
            stage: Stage::Segment,
            content_type: LINES,
            body: lines(segments)?,
            document: Some(file.to_owned()),
            parent: Some(page_key(run, file)),
        })
    }

    /// A part of the index, made of the segments that a row stands for.
    ///
    /// # Errors
    /// As [`Kept::segments`].
    pub fn shard(run: &str, shard: u64, terms: &[Term], segments: String) -> Result<Self> {
        Ok(Self {
            key: shard_key(run, shard),
            stage: Stage::Index,
            content_type: LINES,
            body: lines(terms)?,
            document: None,
            parent: Some(segments),
        })
    }

    /// SHA-256 of its bytes.
    pub fn sha256(&self) -> String {
        sha256_hex(self.body.as_bytes())
    }

    fn described(&self) -> NewArtifact {
        NewArtifact {
            content_type: Some(self.content_type.to_owned()),
            lineage: Some(self.key.clone()),
            correlation: self.document.clone(),
            document: self.document.clone(),
            ..NewArtifact::default()
        }
    }

    fn row(&self, run: &str) -> NewLineage {
        let name = self.stage.name();
        let row = NewLineage::of(run, ROUTE, name).id(&self.key).stage(name);
        let row = row.end(LineageEnd::new().artifact(ArtifactRef::new(&self.key)).output_hash(self.sha256()));
        let row = self.parent.iter().fold(row, |row, parent| row.parent(parent));
        self.document.iter().fold(row, |row, document| row.document(document).correlation(document))
    }
}

/// Stages artifacts, all at once, and notes where they come from. The unit's commit makes both.
///
/// # Errors
/// What the store or the place of the bytes fails with.
pub async fn keep(unit: &mut Unit, run: &str, kept: &[Kept]) -> Result<()> {
    let artifacts = unit.artifacts();
    try_join_all(kept.iter().map(|kept| {
        let put = artifacts.put(&kept.key, kept.body.clone()).with(kept.described());
        async { put.await.map(drop) }
    }))
    .await?;
    for kept in kept {
        unit.lineage().record(kept.row(run));
        if kept.stage == Stage::Segment {
            unit.lineage().link(&all_segments(run), &kept.key, "derived_from");
        }
    }
    Ok(())
}

/// The row that stands for the segments of all files: there before them, so that each can be linked to it.
pub fn segments_row(run: &str) -> NewLineage {
    NewLineage::of(run, ROUTE, "gather").id(all_segments(run)).stage(Stage::Segment.name())
}

const LINES: &str = "application/x-ndjson";

fn lines(items: &[impl Serialize]) -> Result<String> {
    let mut text = String::new();
    for item in items {
        text.push_str(Json::of(item)?.as_str());
        text.push('\n');
    }
    Ok(text)
}

/// What was kept as lines.
///
/// # Errors
/// `Corrupt`, naming the line that does not read back.
pub fn read_lines<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<Vec<T>> {
    let read = |(n, line): (usize, &[u8])| {
        serde_json::from_slice(line)
            .map_err(|e| millpond::Error::corrupt(format!("line {n} of {key} does not read back: {e}")).with("key", key))
    };
    (1..).zip(bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty())).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_file_and_never_meet() {
        assert_eq!(source_key("r", "guide/a.md"), "executions/r/documents/collect/guide%2Fa.md");
        assert_eq!(page_key("r", "guide/a.md"), "executions/r/documents/convert/guide%2Fa.md.txt");
        assert_eq!(shard_key("r", 7), "executions/r/documents/index/shard-07.jsonl");
        let long = ["x".repeat(900) + "a.md", "x".repeat(900) + "b.md", "ü".repeat(500) + ".txt"];
        let files = long.iter().map(String::as_str).chain(["a.md", "a.txt", "b/a.md", "a", ".md", "b.c/a"]);
        let keys: Vec<String> = files.flat_map(|f| [source_key("r", f), page_key("r", f), segments_key("r", f)]).collect();
        let different: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(different.len(), keys.len(), "{keys:?}");
        assert!(keys.iter().all(|key| key.len() <= KEY_BYTES), "{keys:?}");
    }

    #[test]
    fn lines_read_back_and_name_what_does_not() {
        let segment = |number| Segment { path: "a".into(), number, words: 1, text: "x\ny".into() };
        let bytes = lines(&[segment(1), segment(2)]).expect("lines");
        assert_eq!(read_lines::<Segment>("k", bytes.as_bytes()).expect("read"), [segment(1), segment(2)]);
        let damaged = read_lines::<Segment>("k", b"{}\n").expect_err("no segment");
        assert!(damaged.to_string().contains("line 1 of k"), "{damaged}");
    }
}
