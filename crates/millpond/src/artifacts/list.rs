//! Lists of artifacts: by the beginning of their keys, by what is declared of them, and as folders.

use millpond_core::{Document, KEY_FIELD, Page, PageCursor, Query, Records, Result, Timestamp, Versioned};
use serde::Serialize;

use super::Artifacts;
use super::model::Artifact;
use crate::conditions::{Conditions as _, page_steps};

/// Artifacts that a page of folders reads at once.
const STEP: usize = 200;

/// Which artifacts.
#[derive(Debug, Clone)]
pub struct ArtifactFilter {
    /// What the key begins with, by bytes; `%`, `_` and `*` are ordinary characters.
    pub prefix: String,
    /// Whether the prefix is a folder: `a/b` takes `a/b/c`, and not `a/bc` nor `a/b` itself.
    pub segments: bool,
    /// The execution.
    pub execution: Option<String>,
    /// The route.
    pub route: Option<String>,
    /// The stage.
    pub stage: Option<String>,
    /// What they belong together with.
    pub correlation: Option<String>,
    /// The document.
    pub document: Option<String>,
    /// The extension, in lower case.
    pub extension: Option<String>,
    /// Written at or after.
    pub created_from: Option<Timestamp>,
    /// Written before.
    pub created_before: Option<Timestamp>,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
    /// Continue after a page of the same filter.
    pub after: Option<PageCursor>,
}

impl Default for ArtifactFilter {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            segments: false,
            execution: None,
            route: None,
            stage: None,
            correlation: None,
            document: None,
            extension: None,
            created_from: None,
            created_before: None,
            limit: 100,
            after: None,
        }
    }
}

impl ArtifactFilter {
    /// Artifacts whose keys begin so.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// Artifacts of an execution.
    pub fn execution(execution: impl Into<String>) -> Self {
        Self { execution: Some(execution.into()), ..Self::default() }
    }

    page_steps!();

    fn query(&self) -> Result<Query> {
        let query = Query::new(Artifact::COLLECTION.name())?
            .given("execution", self.execution.clone())
            .given("route", self.route.clone())
            .given("stage", self.stage.clone())
            .given("correlation", self.correlation.clone())
            .given("document", self.document.clone())
            .given("extension", self.extension.clone())
            .between("created", self.created_from, self.created_before)
            .limit(self.limit)
            .after(self.after.clone());
        let folder = self.segments && !self.prefix.ends_with('/');
        Ok(match (self.prefix.as_str(), folder) {
            ("", _) => query,
            (prefix, false) => query.prefix(KEY_FIELD, prefix),
            (prefix, true) => query.prefix(KEY_FIELD, format!("{prefix}/")),
        })
    }
}

/// One line of a page of folders.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Listed {
    /// An artifact that lies here.
    Artifact(Box<Artifact>),
    /// What several keys begin with, up to and with the delimiter.
    Prefix(String),
}

impl Listed {
    /// The key, or the common prefix.
    pub fn name(&self) -> &str {
        match self {
            Self::Artifact(artifact) => &artifact.key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// A page of folders.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListedPage {
    /// Artifacts and common prefixes, in the order of their names.
    pub items: Vec<Listed>,
    /// The name to continue after; `None` at the end.
    pub next: Option<String>,
}

impl Artifacts {
    /// A page of artifacts in the order of their keys. However far it is, a page costs the same: it continues after a key.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn list(&self, filter: &ArtifactFilter) -> Result<Page<Versioned<Artifact>>> {
        self.page(filter).await.map_err(|e| e.during("artifacts.list"))
    }

    async fn page(&self, filter: &ArtifactFilter) -> Result<Page<Versioned<Artifact>>> {
        Records::<Artifact>::new(self.store().clone()).page(filter.query()?).await
    }

    /// How many artifacts a filter has; its limit and cursor are of no matter.
    ///
    /// # Errors
    /// As [`Artifacts::list`].
    pub async fn count(&self, filter: &ArtifactFilter) -> Result<u64> {
        let all = ArtifactFilter { after: None, ..filter.clone() };
        let counted = async { self.store().count(all.query()?).await };
        counted.await.map_err(|e: millpond_core::Error| e.during("artifacts.count"))
    }

    /// Every artifact of a filter as a stream, read a page at a time. What is written meanwhile may or may not be in it;
    /// nothing that stays is skipped or given twice.
    pub fn list_all(&self, filter: ArtifactFilter) -> ArtifactList {
        ArtifactList { artifacts: self.clone(), filter, page: Vec::new().into_iter(), ended: false }
    }

    /// A page of what lies directly below a prefix: artifacts, and what further keys have in common up to the next
    /// delimiter.
    ///
    /// # Errors
    /// `Invalid` when the limit is none, or the delimiter empty.
    pub async fn list_folder(&self, prefix: &str, delimiter: &str, limit: usize, after: Option<&str>) -> Result<ListedPage> {
        self.folder(prefix, delimiter, limit, after).await.map_err(|e| e.during("artifacts.list_folder"))
    }

    async fn folder(&self, prefix: &str, delimiter: &str, limit: usize, after: Option<&str>) -> Result<ListedPage> {
        if limit == 0 || limit > millpond_core::limits::PAGE_ROWS || delimiter.is_empty() {
            return Err(millpond_core::Error::invalid("a page of folders needs a limit of 1 to 10,000 and a delimiter")
                .with_next("use / as the delimiter"));
        }
        let records = Records::<Artifact>::new(self.store().clone());
        // A key may end with the delimiter, too: one that is the prefix itself is an artifact.
        let is_folder = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.ends_with(delimiter));
        let mut items: Vec<Listed> = Vec::new();
        let mut from = after.and_then(|after| if is_folder(after) { following(after) } else { Some(just_after(after)) });
        if after.is_some() && from.is_none() {
            return Ok(ListedPage { items, next: None });
        }
        loop {
            let mut query = Query::new(Artifact::COLLECTION.name())?.limit(STEP.min(limit + 1));
            if !prefix.is_empty() {
                query = query.prefix(KEY_FIELD, prefix);
            }
            if let Some(from) = &from {
                query = query.at_least(KEY_FIELD, from.as_str());
            }
            let page = records.page(query).await?;
            let more = page.next.is_some();
            let mut last = None;
            for item in page.items {
                let key = item.value.key.clone();
                let folded = key[prefix.len()..].find(delimiter).map(|at| key[..prefix.len() + at + delimiter.len()].to_owned());
                last = Some(folded.clone().unwrap_or_else(|| key.clone()));
                if let (Some(folded), Some(Listed::Prefix(open))) = (&folded, items.last())
                    && folded == open
                {
                    continue;
                }
                if items.len() == limit {
                    let next = items.last().map(|item| item.name().to_owned());
                    return Ok(ListedPage { items, next });
                }
                items.push(folded.map_or_else(|| Listed::Artifact(Box::new(item.value)), Listed::Prefix));
            }
            // Past everything that the last prefix takes together, without reading it.
            from = match (more, last) {
                (true, Some(last)) if is_folder(&last) => following(&last),
                (true, Some(last)) => Some(just_after(&last)),
                _ => None,
            };
            if from.is_none() {
                return Ok(ListedPage { items, next: None });
            }
        }
    }
}

/// What stands after a key and before every other: no key holds a control character.
fn just_after(key: &str) -> String {
    format!("{key}\u{1}")
}

/// The first text after everything that begins with this one; `None` where there is none.
fn following(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// Artifacts one after the other; see [`Artifacts::list_all`].
#[derive(Debug)]
pub struct ArtifactList {
    artifacts: Artifacts,
    filter: ArtifactFilter,
    page: std::vec::IntoIter<Versioned<Artifact>>,
    ended: bool,
}

impl ArtifactList {
    /// Continues after a key.
    pub(super) fn seek(&mut self, after: Option<&str>) -> Result<()> {
        if let Some(after) = after {
            self.filter.after = Some(self.filter.query()?.cursor_after(None, &millpond_core::Key::new(after)?));
        }
        Ok(())
    }

    /// The next artifact; `None` at the end.
    ///
    /// # Errors
    /// As [`Artifacts::list`]. Asking again tries the same page again.
    pub async fn next(&mut self) -> Result<Option<Versioned<Artifact>>> {
        loop {
            if let Some(artifact) = self.page.next() {
                return Ok(Some(artifact));
            }
            if self.ended {
                return Ok(None);
            }
            let page = self.artifacts.list(&self.filter).await?;
            self.ended = page.next.is_none();
            self.filter.after = page.next;
            self.page = page.items.into_iter();
        }
    }

    /// The same as a stream, for the combinators that streams have.
    pub fn into_stream(self) -> impl futures_core::Stream<Item = Result<Versioned<Artifact>>> + Send {
        futures_util::stream::try_unfold(self, |mut list| async move { Ok(list.next().await?.map(|artifact| (artifact, list))) })
    }
}

#[cfg(test)]
mod tests {
    use super::following;

    #[test]
    fn what_follows_a_prefix_follows_everything_below_it() {
        assert_eq!(following("a/").as_deref(), Some("a0"));
        assert_eq!(following("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(following("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(following("\u{10FFFF}"), None);
    }
}
