//! Patterns: what was noticed in the runs of a workflow, and how often.

use std::collections::BTreeMap;

use millpond_core::{
    Collection, Commit, Document, Error, FieldKind, Json, Key, MergeOp, Page, PageCursor, Query, Receipt, Records, Result,
    Scalar, Timestamp, Versioned,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Metrics;
use crate::conditions::Conditions;
use crate::text::{key_segment, micros};

/// The types of patterns that `DarwinFlow` names. Any other text is a type too.
pub mod pattern_kinds {
    /// The same action again and again.
    pub const REPEATED_ACTION: &str = "REPEATED_ACTION";
    /// A person corrected the result.
    pub const CORRECTION: &str = "CORRECTION";
    /// Actions that follow each other.
    pub const SEQUENCE: &str = "SEQUENCE";
    /// Something that holds the rest up.
    pub const BOTTLENECK: &str = "BOTTLENECK";
}

/// Something noticed in the runs of a workflow. Its counters are written by merges, so observers never conflict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    /// The id, unique within the workflow.
    pub id: String,
    /// The workflow.
    pub workflow: String,
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is, in words.
    #[serde(default)]
    pub description: String,
    /// How often it was seen.
    pub occurrences: i64,
    /// How sure the last observer was, from 0 to 1.
    pub confidence: f64,
    /// When it was first seen, in microseconds since 1970.
    #[serde(with = "micros")]
    pub first_seen: Timestamp,
    /// When it was last seen, in microseconds since 1970.
    #[serde(with = "micros")]
    pub last_seen: Timestamp,
    /// The particulars.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Value>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Document for Pattern {
    const COLLECTION: Collection = Collection::new("patterns")
        .version(1)
        .index("workflow", FieldKind::Text)
        .index_at("kind", "/type", FieldKind::Text)
        .index("confidence", FieldKind::Real)
        .index("occurrences", FieldKind::Integer)
        .index("last_seen", FieldKind::Timestamp)
        .index_on(&["workflow", "occurrences"])
        .index_on(&["workflow", "kind", "occurrences"])
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(key_of(&self.workflow, &self.id))
    }
}

fn key_of(workflow: &str, id: &str) -> String {
    format!("{}/{}", key_segment(workflow), key_segment(id))
}

/// An observation of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPattern {
    id: String,
    workflow: String,
    kind: String,
    description: Option<String>,
    occurrences: i64,
    confidence: f64,
    seen_at: Option<Timestamp>,
    details: BTreeMap<String, Value>,
}

impl NewPattern {
    /// A pattern of a workflow, seen once.
    pub fn of(workflow: impl Into<String>, id: impl Into<String>, kind: impl Into<String>, confidence: f64) -> Self {
        Self {
            id: id.into(),
            workflow: workflow.into(),
            kind: kind.into(),
            description: None,
            occurrences: 1,
            confidence,
            seen_at: None,
            details: BTreeMap::new(),
        }
    }

    /// What it is, in words.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// How often it was seen this time.
    #[must_use]
    pub fn occurrences(mut self, occurrences: i64) -> Self {
        self.occurrences = occurrences;
        self
    }

    /// When it was seen; the store's time if left out.
    #[must_use]
    pub fn seen_at(mut self, time: Timestamp) -> Self {
        self.seen_at = Some(time);
        self
    }

    /// Sets one of its particulars; others stay as they are.
    #[must_use]
    pub fn detail(mut self, name: impl Into<String>, value: Value) -> Self {
        self.details.insert(name.into(), value);
        self
    }
}

/// Conditions on patterns; all of them hold. The default shows every pattern, the most frequent first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PatternFilter {
    /// The workflow.
    pub workflow: Option<String>,
    /// The type.
    pub kind: Option<String>,
    /// At least this sure.
    pub min_confidence: Option<f64>,
    /// Seen at least this often.
    pub min_occurrences: Option<i64>,
    /// At most this many, 1 to 10,000; 100 if left out.
    pub limit: Option<usize>,
    /// Continue after a page of the same filter.
    pub after: Option<PageCursor>,
}

impl PatternFilter {
    fn query(&self) -> Result<Query> {
        Ok(Query::new(Pattern::COLLECTION.name())?
            .given("workflow", self.workflow.as_ref())
            .given("kind", self.kind.as_ref())
            .between("confidence", self.min_confidence.map(Scalar::Real), None)
            .between("occurrences", self.min_occurrences, None)
            .order_desc("occurrences")
            .limit(self.limit.unwrap_or(100))
            .after(self.after.clone()))
    }
}

impl Metrics {
    /// Records an observation: adds to the occurrences, widens first and last seen, sets type, confidence and what else
    /// was given. Not idempotent by itself: give a unit an id to retry safely. One commit point: the pattern's record.
    ///
    /// # Errors
    /// `Invalid` when the confidence is not between 0 and 1, or the occurrences are below 1.
    pub async fn record_pattern(&self, pattern: NewPattern) -> Result<Receipt> {
        let part = self.record_pattern_part(&pattern).map_err(|e| e.during("metrics.record_pattern"))?;
        self.store.commit(part).await.map_err(|e| e.during("metrics.record_pattern"))
    }

    /// The part of a commit that [`Metrics::record_pattern`] makes.
    ///
    /// # Errors
    /// As [`Metrics::record_pattern`].
    pub fn record_pattern_part(&self, pattern: &NewPattern) -> Result<Commit> {
        if !(0.0..=1.0).contains(&pattern.confidence) {
            return Err(Error::invalid(format!("a confidence of {} is not between 0 and 1", pattern.confidence)));
        }
        if pattern.occurrences < 1 {
            return Err(Error::invalid(format!("{} occurrences; a pattern is seen at least once", pattern.occurrences)));
        }
        if pattern.id.is_empty() || pattern.workflow.is_empty() || pattern.kind.is_empty() {
            return Err(Error::invalid("a pattern needs an id, a workflow and a type"));
        }
        let seen = pattern.seen_at.unwrap_or_else(|| self.store.now()).as_micros();
        let mut ops = vec![
            MergeOp::SetIfAbsent("/id".into(), Json::of(&pattern.id)?),
            MergeOp::SetIfAbsent("/workflow".into(), Json::of(&pattern.workflow)?),
            MergeOp::Set("/type".into(), Json::of(&pattern.kind)?),
            MergeOp::Set("/confidence".into(), Json::of(&pattern.confidence)?),
            MergeOp::Add("/occurrences".into(), pattern.occurrences),
            MergeOp::Min("/first_seen".into(), seen),
            MergeOp::Max("/last_seen".into(), seen),
        ];
        if let Some(description) = &pattern.description {
            ops.push(MergeOp::Set("/description".into(), Json::of(description)?));
        }
        for (name, value) in &pattern.details {
            let pointer = format!("/details/{}", millpond_core::pointer_segment(name));
            ops.push(MergeOp::Set(pointer, Json::from_value(value)?));
        }
        Commit::new().trusted().merge(Pattern::COLLECTION.name(), &key_of(&pattern.workflow, &pattern.id), ops)
    }

    /// One pattern of a workflow.
    ///
    /// # Errors
    /// `Corrupt` when its record does not read back.
    pub async fn pattern(&self, workflow: &str, id: &str) -> Result<Option<Versioned<Pattern>>> {
        let records = Records::new(self.store.clone());
        records.get(&key_of(workflow, id)).await.map_err(|e| e.during("metrics.pattern"))
    }

    /// A page of patterns, the most frequent first.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is.
    pub async fn patterns(&self, filter: &PatternFilter) -> Result<Page<Versioned<Pattern>>> {
        Records::new(self.store.clone()).page(filter.query()?).await.map_err(|e| e.during("metrics.patterns"))
    }
}
