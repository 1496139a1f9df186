//! Feedback: what people said about a run.

use std::collections::BTreeMap;

use millpond_core::{
    Collection, Commit, Document, Error, Expectation, FieldKind, Key, Page, PageCursor, Query, Records, Result, Timestamp,
    Versioned, uuid_v7,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::Conditions;

use super::Metrics;

/// What somebody said about a run. `DarwinFlow` names the types `CORRECTION`, `SUGGESTION` and `APPROVAL`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// Set by the store: a UUIDv7.
    pub id: String,
    /// The run.
    pub run: String,
    /// The node it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What was said.
    pub message: String,
    /// Who said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Set by the store: when.
    pub at: Timestamp,
    /// Anything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Value>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Document for Feedback {
    const COLLECTION: Collection = Collection::new("feedback")
        .version(1)
        .index("run", FieldKind::Text)
        .index("node", FieldKind::Text)
        .index_at("kind", "/type", FieldKind::Text)
        .index("author", FieldKind::Text)
        .index("at", FieldKind::Timestamp)
        .index_on(&["run", "at"])
        .index_on(&["node", "at"])
        .index_on(&["kind", "at"])
        .index_on(&["author", "at"])
        .create_only()
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str())
    }
}

/// Feedback that is to be added.
#[derive(Debug, Clone, PartialEq)]
pub struct NewFeedback {
    run: String,
    node: Option<String>,
    kind: String,
    message: String,
    author: Option<String>,
    metadata: BTreeMap<String, Value>,
}

impl NewFeedback {
    /// Feedback of a type on a run.
    pub fn of(run: impl Into<String>, kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { run: run.into(), node: None, kind: kind.into(), message: message.into(), author: None, metadata: BTreeMap::new() }
    }

    /// The node it is about.
    #[must_use]
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Who says it.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.author = Some(author.into());
        self
    }

    /// Anything else to keep with it.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: Value) -> Self {
        self.metadata.insert(name.into(), value);
        self
    }
}

/// Conditions on feedback; all of them hold. The default shows everything, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeedbackFilter {
    /// The run.
    pub run: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// The type.
    pub kind: Option<String>,
    /// Who said it.
    pub author: Option<String>,
    /// At most this many, 1 to 10,000; 100 if left out.
    pub limit: Option<usize>,
    /// Continue after a page of the same filter.
    pub after: Option<PageCursor>,
}

impl Metrics {
    /// Adds feedback. One commit point: its record.
    ///
    /// # Errors
    /// `Invalid` when the run or the type is empty.
    pub async fn add_feedback(&self, feedback: NewFeedback) -> Result<Versioned<Feedback>> {
        let (document, part) = self.add_feedback_part(feedback).map_err(|e| e.during("metrics.add_feedback"))?;
        let receipt = self.store.commit(part).await.map_err(|e| e.during("metrics.add_feedback"))?;
        let revision = receipt.revisions.first().copied().unwrap_or(1);
        Ok(Versioned { value: document, revision, position: receipt.position, time: receipt.time, by: None })
    }

    /// The document and the part of a commit that [`Metrics::add_feedback`] makes.
    ///
    /// # Errors
    /// As [`Metrics::add_feedback`].
    pub fn add_feedback_part(&self, new: NewFeedback) -> Result<(Feedback, Commit)> {
        if new.run.is_empty() || new.kind.is_empty() {
            return Err(Error::invalid("feedback needs a run and a type"));
        }
        let document = Feedback {
            id: uuid_v7(self.store.host()).to_string(),
            run: new.run,
            node: new.node,
            kind: new.kind,
            message: new.message,
            author: new.author,
            at: self.store.now(),
            metadata: new.metadata,
            extra: BTreeMap::new(),
        };
        let absent = Expectation::Absent(Records::<Feedback>::id(&document.id)?);
        let part = Commit::new().trusted().expect(absent).write(Records::put(&document)?);
        Ok((document, part))
    }

    /// A page of feedback, newest first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is.
    pub async fn feedback(&self, filter: &FeedbackFilter) -> Result<Page<Versioned<Feedback>>> {
        let query = Query::new(Feedback::COLLECTION.name())?
            .given("run", filter.run.as_ref())
            .given("node", filter.node.as_ref())
            .given("kind", filter.kind.as_ref())
            .given("author", filter.author.as_ref())
            .order_desc("at")
            .limit(filter.limit.unwrap_or(100))
            .after(filter.after.clone());
        Records::new(self.store.clone()).page(query).await.map_err(|e| e.during("metrics.feedback"))
    }
}
