//! Queries: a conjunction over declared fields, an order by one of them, a limit, a keyset cursor.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::collection::{CollectionSpec, FieldKind, Scalar};
use crate::error::{Error, Result};
use crate::limits;
use crate::name::{CollectionName, Key};
use crate::record::Record;

/// One condition on a declared field, or on `key`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Equal.
    Eq(String, Scalar),
    /// Equal to one of these.
    OneOf(String, Vec<Scalar>),
    /// At or above the first, below the second; either may be open.
    Range(String, Option<Scalar>, Option<Scalar>),
    /// Text beginning with this, by bytes.
    Prefix(String, String),
    /// Text holding this, case-sensitive.
    Contains(String, String),
    /// A set holding this. For an object of labels, `key=value`.
    Has(String, String),
    /// The field is absent or null.
    Absent(String),
    /// The field is there.
    Present(String),
}

impl Filter {
    /// The field it is about.
    pub fn field(&self) -> &str {
        match self {
            Self::Eq(f, _)
            | Self::OneOf(f, _)
            | Self::Range(f, _, _)
            | Self::Prefix(f, _)
            | Self::Contains(f, _)
            | Self::Has(f, _)
            | Self::Absent(f)
            | Self::Present(f) => f,
        }
    }
}

/// The name under which a query speaks about the key itself.
pub const KEY_FIELD: &str = "key";

/// Which way results run. Absent values sort before all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smallest first.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

/// A query over one collection. An undeclared collection can be asked by `key` only.
///
/// ```
/// use millpond_core::Query;
/// let q = Query::new("runs")?.eq("status", "failed").at_least("started_at", 0_i64).order_desc("started_at").limit(50);
/// assert_eq!(q.filters.len(), 2);
/// # Ok::<(), millpond_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// The collection.
    pub collection: CollectionName,
    /// All of these hold.
    pub filters: Vec<Filter>,
    /// The field results are ordered by; ties, and everything when it is `key`, by key.
    pub order: String,
    /// Which way.
    pub direction: Direction,
    /// At most this many; 1 to 10,000.
    pub limit: usize,
    /// Continue after this page.
    pub after: Option<PageCursor>,
}

impl Query {
    /// All records of a collection by key, 100 at a time.
    ///
    /// # Errors
    /// `Invalid` when the name breaks a rule.
    pub fn new(collection: &str) -> Result<Self> {
        Ok(Self {
            collection: CollectionName::new(collection)?,
            filters: Vec::new(),
            order: KEY_FIELD.to_owned(),
            direction: Direction::Ascending,
            limit: 100,
            after: None,
        })
    }

    /// Adds a condition.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter);
        self
    }

    /// Equal.
    #[must_use]
    pub fn eq(self, field: &str, value: impl Into<Scalar>) -> Self {
        self.filter(Filter::Eq(field.to_owned(), value.into()))
    }

    /// Equal to one of these.
    #[must_use]
    pub fn one_of<S: Into<Scalar>>(self, field: &str, values: impl IntoIterator<Item = S>) -> Self {
        self.filter(Filter::OneOf(field.to_owned(), values.into_iter().map(Into::into).collect()))
    }

    /// At or above.
    #[must_use]
    pub fn at_least(self, field: &str, value: impl Into<Scalar>) -> Self {
        self.filter(Filter::Range(field.to_owned(), Some(value.into()), None))
    }

    /// Below.
    #[must_use]
    pub fn below(self, field: &str, value: impl Into<Scalar>) -> Self {
        self.filter(Filter::Range(field.to_owned(), None, Some(value.into())))
    }

    /// Text beginning with this.
    #[must_use]
    pub fn prefix(self, field: &str, text: impl Into<String>) -> Self {
        self.filter(Filter::Prefix(field.to_owned(), text.into()))
    }

    /// Text holding this.
    #[must_use]
    pub fn contains(self, field: &str, text: impl Into<String>) -> Self {
        self.filter(Filter::Contains(field.to_owned(), text.into()))
    }

    /// A set holding this.
    #[must_use]
    pub fn has(self, field: &str, text: impl Into<String>) -> Self {
        self.filter(Filter::Has(field.to_owned(), text.into()))
    }

    /// Smallest first.
    #[must_use]
    pub fn order_asc(mut self, field: &str) -> Self {
        self.order = field.to_owned();
        self.direction = Direction::Ascending;
        self
    }

    /// Largest first.
    #[must_use]
    pub fn order_desc(mut self, field: &str) -> Self {
        self.order = field.to_owned();
        self.direction = Direction::Descending;
        self
    }

    /// At most this many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Continue after a page.
    #[must_use]
    pub fn after(mut self, cursor: Option<PageCursor>) -> Self {
        self.after = cursor;
        self
    }

    /// Checks the query against the declaration and brings its values to the fields' types.
    ///
    /// # Errors
    /// `Invalid`, naming the field and what can be asked of it.
    pub fn resolve(&self, spec: Option<&CollectionSpec>) -> Result<Self> {
        let mut resolved = self.clone();
        if self.limit == 0 || self.limit > limits::PAGE_ROWS {
            return Err(Error::invalid(format!("a limit of {} is not between 1 and {}", self.limit, limits::PAGE_ROWS)));
        }
        let values: usize = self.filters.iter().map(|f| if let Filter::OneOf(_, v) = f { v.len() } else { 1 }).sum();
        if self.filters.len() > limits::FILTERS || values > limits::QUERY_VALUES {
            return Err(Error::invalid(format!(
                "a query with {} filters and {values} values; the limits are {} and {}",
                self.filters.len(),
                limits::FILTERS,
                limits::QUERY_VALUES
            )));
        }
        resolved.filters = self.filters.iter().map(|f| resolve_filter(f, &self.collection, spec)).collect::<Result<_>>()?;
        let order = kind_of(&self.order, &self.collection, spec)?;
        if order == FieldKind::TextSet {
            return Err(Error::invalid(format!("results cannot be ordered by the set {:?}", self.order)));
        }
        if let Some(after) = &self.after {
            // Cursors are made from resolved queries, whose values have their fields' types.
            after.check(&resolved)?;
        }
        Ok(resolved)
    }

    /// Tells a cursor of this query from one of another.
    fn fingerprint(&self) -> u64 {
        // FNV-1a: only has to tell queries apart by accident, never against an attacker.
        let text = format!("{}|{:?}|{}|{:?}", self.collection, self.filters, self.order, self.direction);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    }

    /// The cursor after this record.
    pub fn cursor_after(&self, value: Option<Scalar>, key: &Key) -> PageCursor {
        PageCursor { query: self.fingerprint(), value, key: key.clone() }
    }
}

fn kind_of(field: &str, collection: &CollectionName, spec: Option<&CollectionSpec>) -> Result<FieldKind> {
    if field == KEY_FIELD {
        return Ok(FieldKind::Text);
    }
    spec.and_then(|s| s.field(field)).map(|f| f.kind).ok_or_else(|| {
        let declared: Vec<&str> = spec.map_or(Vec::new(), |s| s.fields.iter().map(|f| f.name.as_str()).collect());
        let known = if declared.is_empty() {
            "it declares none, so only \"key\" can be asked".to_owned()
        } else {
            format!("declared are key, {}", declared.join(", "))
        };
        Error::invalid(format!("collection {:?} has no declared field {field:?}; {known}", collection.as_str()))
            .with_next("ask a declared field, or declare this one")
    })
}

fn resolve_filter(filter: &Filter, collection: &CollectionName, spec: Option<&CollectionSpec>) -> Result<Filter> {
    let field = filter.field();
    let kind = kind_of(field, collection, spec)?;
    let cannot = |what: &str| Error::invalid(format!("{what:?} cannot be asked of field {field:?}, which is {}", kind.as_str()));
    let coerce = |value: &Scalar| {
        let shown = value.to_json();
        value
            .clone()
            .coerce(kind)
            .ok_or_else(|| Error::invalid(format!("{shown} is no value for field {field:?}, which is {}", kind.as_str())))
    };
    let is_set = kind == FieldKind::TextSet;
    let is_text = kind == FieldKind::Text;
    Ok(match filter {
        Filter::Eq(..) | Filter::OneOf(..) | Filter::Range(..) if is_set => {
            return Err(cannot("equals or range").with_next("use has"));
        }
        Filter::Eq(f, v) => Filter::Eq(f.clone(), coerce(v)?),
        Filter::OneOf(f, values) => {
            if values.len() > limits::ONE_OF_VALUES {
                return Err(Error::invalid(format!(
                    "{} values in one filter; the limit is {}",
                    values.len(),
                    limits::ONE_OF_VALUES
                )));
            }
            Filter::OneOf(f.clone(), values.iter().map(coerce).collect::<Result<_>>()?)
        }
        Filter::Range(f, from, to) => {
            Filter::Range(f.clone(), from.as_ref().map(coerce).transpose()?, to.as_ref().map(coerce).transpose()?)
        }
        Filter::Prefix(..) if !is_text => return Err(cannot("prefix")),
        Filter::Contains(..) if !is_text => return Err(cannot("contains")),
        Filter::Has(..) if !is_set => return Err(cannot("has")),
        other => other.clone(),
    })
}

/// Where a page ended. Belongs to one query; another query refuses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageCursor {
    #[serde(rename = "q")]
    query: u64,
    /// The order field's value at the last record; `None` when absent, or when ordered by key.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Scalar>,
    /// The last record's key.
    #[serde(rename = "k")]
    pub key: Key,
}

impl PageCursor {
    fn check(&self, query: &Query) -> Result<()> {
        if self.query != query.fingerprint() {
            return Err(Error::invalid("this page cursor belongs to another query")
                .with_next("keep filters and order the same while paging, or start without a cursor"));
        }
        Ok(())
    }
}

impl std::fmt::Display for PageCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| std::fmt::Error)?;
        f.write_str(&URL_SAFE_NO_PAD.encode(json))
    }
}

impl std::str::FromStr for PageCursor {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::invalid(format!("{text:?} is not a page cursor")).with_next("pass the one the page before gave out");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|e| wrong().with_source(e))?;
        serde_json::from_slice(&bytes).map_err(|e| wrong().with_source(e))
    }
}

/// One page of records, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T = Record> {
    /// The records.
    pub items: Vec<T>,
    /// Where to go on; `None` on the last page.
    pub next: Option<PageCursor>,
    /// Records of this page that do not read back, reported and left out.
    pub damaged: Vec<Damaged>,
}

impl<T> Page<T> {
    /// The same page with every item changed.
    ///
    /// # Errors
    /// Whatever the change fails with.
    pub fn try_map<U>(self, change: impl FnMut(T) -> Result<U>) -> Result<Page<U>> {
        Ok(Page { items: self.items.into_iter().map(change).collect::<Result<_>>()?, next: self.next, damaged: self.damaged })
    }
}

/// A stored thing that does not read back as what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Which record or event.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// Refuses more groups than were asked for: what is left out would be missing from every sum over them.
///
/// # Errors
/// `Invalid`, naming the limit.
pub fn check_groups(found: usize, limit: usize) -> Result<()> {
    if found > limit {
        return Err(Error::invalid(format!("more than {limit} groups")).with_next("narrow the filter or raise the limit"));
    }
    Ok(())
}

/// A group of `group_by`: the field's value and what the records that have it add up to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The value; `None` where the field is absent.
    pub value: Option<Scalar>,
    /// How many records.
    pub count: u64,
    /// The smallest value of the measured field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Scalar>,
    /// The largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Scalar>,
    /// The sum, for an integer field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<i64>,
}
