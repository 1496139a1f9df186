//! What one step of each stage does: it reads from the store (collect: from the corpus) and says what to write.
//! Nothing here commits.

use super::convert::convert;
use super::corpus::{Corpus, GROUP_BYTES};
use super::digest::sha256_hex;
use super::documents::{Group, Segment, Source, Text, group_key};
use super::index::Index;
use super::keep::{self, Kept};
use super::segment::segments;
use super::state::{Counts, Stage, State};
use millpond::{Document, Error, Read, Record, RecordId, Records, Result, Store, Write};

/// Records in one page when the segments are read for the index.
const PAGE: usize = 1_000;

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The file.
    pub path: String,
    /// What kind of trouble: a word or two, the same for all files that have it.
    pub kind: &'static str,
    /// What went wrong.
    pub why: String,
}

/// What one step has to commit.
#[derive(Debug, Default)]
pub struct Work {
    /// Documents.
    pub writes: Vec<Write>,
    /// Artifacts.
    pub kept: Vec<Kept>,
    /// Files that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// What is to be counted.
    pub counts: Counts,
}

/// Does the work of the steps.
#[derive(Debug)]
pub struct Worker {
    store: Store,
    corpus: Corpus,
    /// Built from the segments when the index stage begins, or is resumed.
    index: Option<Index>,
}

impl Worker {
    /// A worker on a corpus.
    pub fn new(store: Store, corpus: Corpus) -> Self {
        Self { store, corpus, index: None }
    }

    /// The step that comes next.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn step(&mut self, state: &State) -> Result<Work> {
        match state.stage {
            Stage::Collect => self.collect(state).await,
            Stage::Convert => self.convert(state).await,
            Stage::Segment => self.segment(state).await,
            Stage::Index => self.index(state).await,
            Stage::Prepare | Stage::Done => Ok(Work::default()),
        }
    }

    async fn collect(&self, state: &State) -> Result<Work> {
        let mut work = Work::default();
        for path in self.group(state.step).await?.files {
            match source(&self.corpus, &path) {
                // The group was made small by the sizes of that time; one commit has to hold it.
                Ok(source) if work.counts.bytes + source.bytes.unsigned_abs() > 2 * GROUP_BYTES => {
                    work.counts.unreadable += 1;
                    work.unreadable.push(Unreadable { path, kind: "Changed", why: "grew since the run began".to_owned() });
                }
                Ok(source) => {
                    work.counts.files += 1;
                    work.counts.bytes += source.bytes.unsigned_abs();
                    work.writes.push(Records::put(&source)?);
                    work.kept.push(Kept::source(&state.run, &source));
                }
                Err(unreadable) => {
                    work.counts.unreadable += 1;
                    work.unreadable.push(unreadable);
                }
            }
        }
        Ok(work)
    }

    async fn convert(&self, state: &State) -> Result<Work> {
        let mut work = Work::default();
        for source in self.read_group::<Source>(state.step).await? {
            let text = convert(&source);
            work.counts.words += text.words.unsigned_abs();
            work.writes.push(Records::put(&text)?);
            work.kept.push(Kept::page(&state.run, &text));
        }
        Ok(work)
    }

    async fn segment(&self, state: &State) -> Result<Work> {
        let mut work = Work::default();
        for text in self.read_group::<Text>(state.step).await? {
            let segments = segments(&text);
            for segment in &segments {
                work.counts.segments += 1;
                work.writes.push(Records::put(segment)?);
            }
            work.kept.push(Kept::segments(&state.run, &text.path, &segments)?);
        }
        Ok(work)
    }

    async fn index(&mut self, state: &State) -> Result<Work> {
        let index = match self.index.take() {
            Some(index) => index,
            None => self.build_index().await?,
        };
        let mut work = Work::default();
        let terms = index.shard(state.step);
        for term in &terms {
            work.counts.terms += 1;
            work.writes.push(Records::put(term)?);
        }
        let from = keep::all_segments(&state.run);
        work.kept.push(Kept::shard(&state.run, state.step, &terms, from)?);
        self.index = Some(index);
        Ok(work)
    }

    async fn build_index(&self) -> Result<Index> {
        let mut index = Index::new();
        let segments = Records::<Segment>::new(self.store.clone());
        let mut after = None;
        loop {
            let page = segments.query()?.limit(PAGE).after(after).page().await?;
            if let Some(damaged) = page.damaged.first() {
                return Err(Error::corrupt(format!("segment {} does not read back: {}", damaged.what, damaged.why)));
            }
            for segment in &page.items {
                index.add(segment.key()?.as_str(), &segment.text);
            }
            after = page.next;
            if after.is_none() {
                return Ok(index);
            }
        }
    }

    async fn group(&self, step: u64) -> Result<Group> {
        Ok(Records::<Group>::new(self.store.clone()).require(&group_key(step)).await?.value)
    }

    /// What the stage before made of a group's files, all from one snapshot. Files that became dead letters have none.
    async fn read_group<T: Document>(&self, step: u64) -> Result<Vec<T>> {
        let names = self.group(step).await?.files;
        let kept = names.iter().filter_map(|f| RecordId::new(T::COLLECTION.name(), f).ok());
        let answers = self.store.read(kept.map(Read::Get).collect()).await?;
        let mut found = Vec::with_capacity(answers.len());
        for answer in answers {
            found.extend(answer.into_record()?.map(|r: Record| r.decode::<T>()).transpose()?.map(|v| v.value));
        }
        Ok(found)
    }
}

/// Reads one file.
fn source(corpus: &Corpus, path: &str) -> Result<Source, Unreadable> {
    let unreadable = |kind, why: String| Unreadable { path: path.to_owned(), kind, why };
    let bytes = corpus.read(path).map_err(|e| unreadable(io_kind(&e), e.to_string()))?;
    let sha256 = sha256_hex(&bytes);
    let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let text = String::from_utf8(bytes)
        .map_err(|e| unreadable("InvalidUtf8", format!("not valid UTF-8 after {} bytes", e.utf8_error().valid_up_to())))?;
    let lower = path.to_lowercase();
    let markdown = [".md", ".markdown"].iter().any(|end| lower.ends_with(end));
    let format = if markdown { "markdown" } else { "text" }.to_owned();
    let source = Source { path: path.to_owned(), format, bytes: length, sha256, text };
    // What no store can keep (a NUL, a document that grows too large as JSON) is found here, before the commit.
    match Records::put(&source) {
        Ok(Write::Put(_, json)) if json.len() <= millpond::limits::DOCUMENT_BYTES => Ok(source),
        Ok(_) => Err(unreadable("TooLarge", "too large as one document".to_owned())),
        Err(e) => Err(unreadable("CannotBeKept", e.message().to_owned())),
    }
}

fn io_kind(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "NotFound",
        std::io::ErrorKind::PermissionDenied => "PermissionDenied",
        std::io::ErrorKind::IsADirectory => "IsADirectory",
        std::io::ErrorKind::InvalidInput => "Refused",
        _ => "CannotRead",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_with_a_file_has_a_name() {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::write(dir.path().join("bad.txt"), b"ab\xff").expect("file");
        std::fs::write(dir.path().join("nul.txt"), "a\0b").expect("file");
        std::fs::write(dir.path().join("big.txt"), vec![b'x'; 600 << 10]).expect("file");
        std::fs::write(dir.path().join("escaped.txt"), vec![1u8; 400 << 10]).expect("file");
        std::fs::create_dir(dir.path().join("folder.md")).expect("folder");
        std::fs::write(dir.path().join("good.MD"), "# x").expect("file");
        let corpus = Corpus::Folder(dir.path().to_owned());
        let kind = |name: &str| source(&corpus, name).map(|s| s.format).map_err(|u| u.kind);
        assert_eq!(kind("bad.txt"), Err("InvalidUtf8"));
        assert_eq!(kind("nul.txt"), Err("CannotBeKept"));
        assert_eq!(kind("big.txt"), Err("Refused"));
        assert_eq!(kind("escaped.txt"), Err("TooLarge"), "400 KiB of control characters are 2,400 KiB of JSON");
        assert_eq!(kind("folder.md"), Err("IsADirectory"));
        assert_eq!(kind("gone.md"), Err("NotFound"));
        assert_eq!(kind("good.MD"), Ok("markdown".to_owned()));
    }
}
