//! Collections: what is declared about them, and how index fields come out of a document.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::limits;
use crate::name::CollectionName;
use crate::time::Timestamp;

/// The type of a declared index field. Each is a real column on SQL stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// UTF-8 text, compared by bytes; at most 1,024 bytes.
    Text,
    /// A signed 64-bit integer.
    Integer,
    /// A 64-bit float; integers in the document count as floats.
    Real,
    /// True or false; false sorts first.
    Bool,
    /// A moment: RFC 3339 text or integer microseconds in the document, integer microseconds in the column.
    Timestamp,
    /// A set of texts: an array of strings, or an object of strings, each pair as `key=value`. Asked with `has`.
    TextSet,
}

impl FieldKind {
    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Bool => "bool",
            Self::Timestamp => "timestamp",
            Self::TextSet => "text_set",
        }
    }
}

/// One declared field: its column, where it stands in the document, its type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// The name used in queries, and of the column.
    pub name: String,
    /// A JSON pointer into the document.
    pub path: String,
    /// The type.
    pub kind: FieldKind,
}

/// What is known about a collection. Kept in the namespace, so that every process knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CollectionSpec {
    /// The name.
    pub name: CollectionName,
    /// The version of the documents' shape. Never goes down.
    pub version: u32,
    /// The declared fields.
    pub fields: Vec<Field>,
    /// Indexes over several fields: equal on all but the last, ordered by the last.
    #[serde(default)]
    pub indexes: Vec<Vec<String>>,
    /// Records can be created and deleted, never changed.
    #[serde(default)]
    pub create_only: bool,
    /// The collection belongs to one of Millpond's domains; raw commits into it are refused.
    #[serde(default)]
    pub owned: bool,
}

impl CollectionSpec {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// Checks the declaration itself.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        if self.fields.len() > limits::COLLECTION_FIELDS {
            return Err(Error::invalid(format!(
                "collection {:?} declares {} fields; the limit is {}",
                self.name.as_str(),
                self.fields.len(),
                limits::COLLECTION_FIELDS
            )));
        }
        for (i, field) in self.fields.iter().enumerate() {
            let name_ok = field.name.len() <= limits::SHORT_NAME_BYTES
                && field.name.starts_with(|c: char| c.is_ascii_lowercase())
                && field.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !name_ok || RESERVED_FIELDS.contains(&field.name.as_str()) {
                return Err(Error::invalid(format!(
                    "field {:?} of collection {:?}: a field name is 1–64 of a–z, 0–9 and '_', and none of {RESERVED_FIELDS:?}",
                    field.name,
                    self.name.as_str()
                )));
            }
            if !field.path.starts_with('/') {
                return Err(Error::invalid(format!("field {:?}: {:?} is not a JSON pointer", field.name, field.path))
                    .with_next("write it like /a/b"));
            }
            if self.fields[..i].iter().any(|f| f.name == field.name) {
                return Err(Error::invalid(format!(
                    "field {:?} of collection {:?} is declared twice",
                    field.name,
                    self.name.as_str()
                )));
            }
        }
        for index in &self.indexes {
            for name in index {
                let usable = self.field(name).is_some_and(|f| f.kind != FieldKind::TextSet);
                if !usable || index.len() < 2 {
                    return Err(Error::invalid(format!(
                        "index {index:?} of collection {:?} needs two or more declared fields that are no sets",
                        self.name.as_str()
                    )));
                }
            }
        }
        Ok(())
    }

    /// What is declared once this declaration came after `old`: declarations only grow. A program that declares fewer
    /// fields, at the same version or an older one, changes nothing: old and new programs can share a store.
    ///
    /// # Errors
    /// `Invalid`, naming what differs: a field or the collection changed its meaning, an older version adds a field, or
    /// a declaration that goes further leaves one out.
    pub fn following(&self, old: &Self) -> Result<Self> {
        let name = self.name.as_str();
        let mut merged = old.clone();
        for new in &self.fields {
            match old.field(&new.name) {
                None => merged.fields.push(new.clone()),
                Some(field) if new != field => {
                    return Err(Error::invalid(format!(
                        "field {:?} of collection {name:?} was {} at {}, and is now {} at {}",
                        field.name,
                        field.kind.as_str(),
                        field.path,
                        new.kind.as_str(),
                        new.path
                    ))
                    .with_next("declare the new meaning under a new field name"));
                }
                Some(_) => {}
            }
        }
        if (self.create_only, self.owned) != (old.create_only, old.owned) {
            return Err(Error::invalid(format!("collection {name:?} changed whether it is create-only or owned")));
        }
        let adds = merged.fields.len() > old.fields.len();
        if adds && self.version < old.version {
            return Err(Error::invalid(format!(
                "collection {name:?} is declared at version {}, with a field that version {} in the store does not have",
                self.version, old.version
            ))
            .with_next("use a newer program"));
        }
        let left_out = old.fields.iter().find(|f| self.field(&f.name).is_none());
        if let Some(field) = left_out.filter(|_| adds || self.version > old.version) {
            return Err(Error::invalid(format!("collection {name:?} no longer declares field {:?}", field.name))
                .with_next("keep the field; declarations only grow"));
        }
        merged.version = self.version.max(old.version);
        let more: Vec<_> = self.indexes.iter().filter(|i| !old.indexes.contains(i)).cloned().collect();
        merged.indexes.extend(more);
        Ok(merged)
    }

    /// The declared fields of a document, in the order of [`CollectionSpec::fields`].
    ///
    /// # Errors
    /// `Invalid` when a declared field holds a value of another type, or text too long to index.
    pub fn extract(&self, document: &Value) -> Result<Vec<FieldValue>> {
        self.fields.iter().map(|f| f.extract(document).map_err(|e| e.with("collection", &self.name))).collect()
    }
}

/// Column names that every table has.
pub const RESERVED_FIELDS: [&str; 9] = ["row", "ns", "key", "revision", "position", "time", "by", "doc", "collection"];

impl Field {
    fn extract(&self, document: &Value) -> Result<FieldValue> {
        let Some(value) = document.pointer(&self.path) else { return Ok(FieldValue::Absent) };
        let scalar = match (self.kind, value) {
            (_, Value::Null) => return Ok(FieldValue::Absent),
            (FieldKind::Text, Value::String(s)) => {
                check_indexed_text(&self.name, s)?;
                Scalar::Text(s.clone())
            }
            (FieldKind::Integer, Value::Number(n)) if n.is_i64() => Scalar::Integer(n.as_i64().unwrap_or_default()),
            (FieldKind::Real, Value::Number(n)) => Scalar::Real(n.as_f64().unwrap_or_default()),
            (FieldKind::Bool, Value::Bool(b)) => Scalar::Bool(*b),
            (FieldKind::Timestamp, Value::Number(n)) if n.is_i64() => {
                Scalar::Timestamp(Timestamp::from_micros(n.as_i64().unwrap_or_default()))
            }
            (FieldKind::Timestamp, Value::String(s)) => Scalar::Timestamp(Timestamp::parse(s)?),
            (FieldKind::TextSet, Value::Array(items)) => {
                let texts = items.iter().map(|i| i.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
                return self.set(texts.ok_or_else(|| self.mismatch(value))?);
            }
            (FieldKind::TextSet, Value::Object(map)) => {
                let texts = map.iter().map(|(k, v)| v.as_str().map(|v| format!("{k}={v}"))).collect::<Option<Vec<_>>>();
                return self.set(texts.ok_or_else(|| self.mismatch(value))?);
            }
            _ => return Err(self.mismatch(value)),
        };
        Ok(FieldValue::Scalar(scalar))
    }

    fn set(&self, mut texts: Vec<String>) -> Result<FieldValue> {
        texts.sort_unstable();
        texts.dedup();
        if texts.len() > limits::SET_VALUES {
            return Err(Error::invalid(format!(
                "field {:?} holds {} values; the limit is {}",
                self.name,
                texts.len(),
                limits::SET_VALUES
            )));
        }
        texts.iter().try_for_each(|t| check_indexed_text(&self.name, t))?;
        Ok(if texts.is_empty() { FieldValue::Absent } else { FieldValue::Set(texts) })
    }

    fn mismatch(&self, found: &Value) -> Error {
        let shown: String = found.to_string().chars().take(60).collect();
        Error::invalid(format!(
            "field {:?} is declared {} at {}, but the document holds {shown}",
            self.name,
            self.kind.as_str(),
            self.path
        ))
    }
}

fn check_indexed_text(field: &str, text: &str) -> Result<()> {
    if text.len() > limits::INDEXED_TEXT_BYTES {
        return Err(Error::invalid(format!(
            "field {field:?} is indexed and holds {} bytes; the limit is {}",
            text.len(),
            limits::INDEXED_TEXT_BYTES
        ))
        .with_next("keep long text in a field that is not declared"));
    }
    Ok(())
}

/// One value of an index field, or of a filter.
#[derive(Debug, Clone, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scalar {
    /// Text.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A float.
    Real(f64),
    /// True or false.
    Bool(bool),
    /// A moment.
    Timestamp(Timestamp),
}

impl Scalar {
    /// The value as the kind of a field, where that loses nothing.
    pub fn coerce(self, kind: FieldKind) -> Option<Self> {
        Some(match (kind, self) {
            (FieldKind::Text | FieldKind::TextSet, Self::Text(t)) => Self::Text(t),
            (FieldKind::Integer, Self::Integer(i)) => Self::Integer(i),
            (FieldKind::Real, Self::Real(f)) => Self::Real(f),
            #[allow(clippy::cast_precision_loss)]
            (FieldKind::Real, Self::Integer(i)) => Self::Real(i as f64),
            (FieldKind::Bool, Self::Bool(b)) => Self::Bool(b),
            (FieldKind::Timestamp, Self::Timestamp(t)) => Self::Timestamp(t),
            (FieldKind::Timestamp, Self::Integer(i)) => Self::Timestamp(Timestamp::from_micros(i)),
            (FieldKind::Timestamp, Self::Text(t)) => Self::Timestamp(Timestamp::parse(&t).ok()?),
            _ => return None,
        })
    }

    /// The value as JSON: moments as RFC 3339 text.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Text(t) => Value::from(t.as_str()),
            Self::Integer(i) => Value::from(*i),
            Self::Real(f) => Value::from(*f),
            Self::Bool(b) => Value::from(*b),
            Self::Timestamp(t) => Value::from(t.to_string()),
        }
    }

    /// Total order within one kind.
    pub fn compare(&self, other: &Self) -> std::cmp::Ordering {
        self.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal)
    }
}

macro_rules! scalar_from {
    ($($type:ty => |$v:ident| $make:expr;)*) => {
        $(impl From<$type> for Scalar { fn from($v: $type) -> Self { $make } })*
    };
}

scalar_from! {
    &str => |v| Self::Text(v.to_owned());
    String => |v| Self::Text(v);
    &String => |v| Self::Text(v.clone());
    i64 => |v| Self::Integer(v);
    i32 => |v| Self::Integer(v.into());
    u32 => |v| Self::Integer(v.into());
    f64 => |v| Self::Real(v);
    bool => |v| Self::Bool(v);
    Timestamp => |v| Self::Timestamp(v);
}

/// A declared field of one document.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// Not in the document, null, or an empty set.
    Absent,
    /// A single value.
    Scalar(Scalar),
    /// The values of a set, sorted, each once.
    Set(Vec<String>),
}

/// A declaration written as a constant beside the document's type.
///
/// ```
/// use millpond_core::{Collection, FieldKind};
/// const TENANTS: Collection = Collection::new("tenants").version(1)
///     .index("plan", FieldKind::Text)
///     .index_at("seats", "/limits/seats", FieldKind::Integer)
///     .index_on(&["plan", "seats"]);
/// assert_eq!(TENANTS.spec()?.fields.len(), 2);
/// # Ok::<(), millpond_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Collection {
    name: &'static str,
    version: u32,
    fields: [(&'static str, &'static str, FieldKind); limits::COLLECTION_FIELDS],
    field_count: usize,
    indexes: [&'static [&'static str]; 16],
    index_count: usize,
    create_only: bool,
    owned: bool,
}

impl Collection {
    /// A collection without declared fields, at version 1.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            version: 1,
            fields: [("", "", FieldKind::Text); limits::COLLECTION_FIELDS],
            field_count: 0,
            indexes: [&[]; 16],
            index_count: 0,
            create_only: false,
            owned: false,
        }
    }

    /// The version of the documents' shape.
    #[must_use]
    pub const fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Declares a field that stands at the top of the document under the same name.
    #[must_use]
    pub const fn index(self, name: &'static str, kind: FieldKind) -> Self {
        self.index_at(name, "", kind)
    }

    /// Declares a field that stands at a JSON pointer.
    #[must_use]
    pub const fn index_at(mut self, name: &'static str, path: &'static str, kind: FieldKind) -> Self {
        self.fields[self.field_count] = (name, path, kind);
        self.field_count += 1;
        self
    }

    /// Declares an index over several fields: equal on all but the last, ordered by the last.
    #[must_use]
    pub const fn index_on(mut self, fields: &'static [&'static str]) -> Self {
        self.indexes[self.index_count] = fields;
        self.index_count += 1;
        self
    }

    /// Records can be created and deleted, never changed.
    #[must_use]
    pub const fn create_only(mut self) -> Self {
        self.create_only = true;
        self
    }

    /// Only commits marked [`crate::Commit::trusted`] may write here: what a domain uses to guard its own rules.
    #[must_use]
    pub const fn owned(mut self) -> Self {
        self.owned = true;
        self
    }

    /// The collection's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The declaration as a store keeps it.
    ///
    /// # Errors
    /// `Invalid` when the constant breaks a rule.
    pub fn spec(&self) -> Result<CollectionSpec> {
        let spec = CollectionSpec {
            name: CollectionName::new(self.name)?,
            version: self.version,
            fields: self.fields[..self.field_count]
                .iter()
                .map(|(name, path, kind)| Field {
                    name: (*name).to_owned(),
                    path: if path.is_empty() { format!("/{name}") } else { (*path).to_owned() },
                    kind: *kind,
                })
                .collect(),
            indexes: self.indexes[..self.index_count].iter().map(|i| i.iter().map(|f| (*f).to_owned()).collect()).collect(),
            create_only: self.create_only,
            owned: self.owned,
        };
        spec.check()?;
        Ok(spec)
    }
}

/// All declarations of a namespace, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    specs: std::collections::HashMap<CollectionName, std::sync::Arc<CollectionSpec>>,
}

impl Catalog {
    /// From the declarations a store keeps.
    pub fn new(specs: impl IntoIterator<Item = CollectionSpec>) -> Self {
        Self { specs: specs.into_iter().map(|s| (s.name.clone(), std::sync::Arc::new(s))).collect() }
    }

    /// The declaration of a collection, if there is one.
    pub fn get(&self, name: &str) -> Option<&std::sync::Arc<CollectionSpec>> {
        self.specs.get(name)
    }

    /// Every declaration, by name.
    pub fn iter(&self) -> impl Iterator<Item = &std::sync::Arc<CollectionSpec>> {
        let mut all: Vec<_> = self.specs.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.into_iter()
    }
}
