//! A collection's table: its columns, and the statements on it.

use std::fmt::Write as _;
use std::sync::Arc;

use millpond_core::{CollectionName, CollectionSpec, FieldKind, FieldValue, Scalar};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use crate::schema::{OWN_INDEXES, OWN_TABLES};

/// Where one declared field is kept.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    /// A column of the collection's table.
    Column(String),
    /// A side table with a row for each value of a set.
    Side(String),
}

/// One collection's table and its statements. Undeclared collections share the table `records`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) collection: CollectionName,
    pub(crate) spec: Option<Arc<CollectionSpec>>,
    /// For each field of the declaration, in its order.
    pub(crate) slots: Vec<Slot>,
    /// Quoted, for use in SQL.
    pub(crate) name: String,
    /// A condition that picks this collection's rows of a namespace, ending before further conditions.
    pub(crate) scope: String,
    pub(crate) get_head: String,
    pub(crate) get_full: String,
    pub(crate) get_record: String,
    pub(crate) insert: String,
    pub(crate) update: String,
    pub(crate) delete: String,
    pub(crate) sides: Vec<Side>,
}

/// A set field's side table and the statements on it.
#[derive(Debug)]
pub(crate) struct Side {
    /// The index of its field in the declaration.
    pub(crate) field: usize,
    pub(crate) insert: String,
    pub(crate) delete: String,
}

/// Quotes an identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Beginnings of names that mean something to SQLite itself: its own tables, and functions that a table of that name would hide.
const RESERVED_PREFIXES: [&str; 3] = ["sqlite_", "json_", "pragma_"];

/// The plain name of a declared collection's table: its own name where that is free, otherwise `c.` and its name.
///
/// No two collections have one table, and no table meets an index or a side table. Collection names hold no dot and
/// field names neither, so these are told apart by their parts alone: a table `x`, its indexes `x.field`, its side
/// tables `x.field.set`, their indexes `x.field.set.value`; the same behind `c.`, which is why no table is called `c`.
pub(crate) fn table_name(collection: &str) -> String {
    let taken = collection == "c"
        || collection.ends_with("_records")
        || RESERVED_PREFIXES.iter().any(|prefix| collection.starts_with(prefix))
        || OWN_TABLES.contains(&collection)
        || OWN_INDEXES.contains(&collection);
    if taken { format!("c.{collection}") } else { collection.to_owned() }
}

/// The plain name of an index over several columns.
pub(crate) fn index_name(table: &str, columns: &[impl AsRef<str>]) -> String {
    let columns: Vec<&str> = columns.iter().map(AsRef::as_ref).collect();
    format!("{table}.{}", columns.join("+"))
}

/// The plain name of a set field's side table.
pub(crate) fn side_name(collection: &str, field: &str) -> String {
    format!("{}.{field}.set", table_name(collection))
}

/// A column's type on SQLite.
pub(crate) fn column_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text | FieldKind::TextSet => "TEXT",
        FieldKind::Integer | FieldKind::Bool | FieldKind::Timestamp => "INTEGER",
        FieldKind::Real => "REAL",
    }
}

impl Side {
    fn of(field: usize, slot: &Slot) -> Option<Self> {
        let Slot::Side(name) = slot else { return None };
        let name = quote(name);
        Some(Self {
            field,
            insert: format!("INSERT INTO {name} (row, value, ns) VALUES (?1, ?2, ?3)"),
            delete: format!("DELETE FROM {name} WHERE row = ?1"),
        })
    }
}

impl Table {
    /// The shared table, seen as one undeclared collection.
    pub(crate) fn undeclared(collection: CollectionName) -> Self {
        // A collection's name is made of a-z, 0-9, '_' and '-', so it can stand in SQL as it is.
        let scope = format!("ns = ?1 AND collection = '{collection}'");
        Self::build(collection, None, Vec::new(), "records".to_owned(), scope)
    }

    /// A declared collection's own table.
    pub(crate) fn declared(spec: Arc<CollectionSpec>, slots: Vec<Slot>) -> Self {
        let name = quote(&table_name(spec.name.as_str()));
        Self::build(spec.name.clone(), Some(spec), slots, name, "ns = ?1".to_owned())
    }

    fn build(
        collection: CollectionName,
        spec: Option<Arc<CollectionSpec>>,
        slots: Vec<Slot>,
        name: String,
        scope: String,
    ) -> Self {
        let columns: Vec<&str> =
            slots.iter().filter_map(|s| if let Slot::Column(c) = s { Some(c.as_str()) } else { None }).collect();
        let (mut names, mut places, mut sets) = (String::new(), String::new(), String::new());
        for (i, column) in columns.iter().enumerate() {
            let _ = write!(names, ", {}", quote(column));
            let _ = write!(places, ", ?{}", i + 8);
            let _ = write!(sets, ", {} = ?{}", quote(column), i + 8);
        }
        let (extra, value) = if spec.is_none() { (", collection", format!(", '{collection}'")) } else { ("", String::new()) };
        Self {
            get_head: format!("SELECT row, revision, time, by FROM {name} WHERE {scope} AND key = ?2"),
            get_full: format!("SELECT row, revision, time, by, doc FROM {name} WHERE {scope} AND key = ?2"),
            get_record: format!("SELECT revision, position, time, by, doc FROM {name} WHERE {scope} AND key = ?2"),
            insert: format!(
                "INSERT INTO {name} (ns, key, revision, position, time, by, doc{names}{extra}) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7{places}{value})"
            ),
            // ?1 is the row here; ?2, the key, plays no part.
            update: format!("UPDATE {name} SET revision = ?3, position = ?4, time = ?5, by = ?6, doc = ?7{sets} WHERE row = ?1"),
            delete: format!("DELETE FROM {name} WHERE row = ?1"),
            sides: slots.iter().enumerate().filter_map(|(field, slot)| Side::of(field, slot)).collect(),
            collection,
            spec,
            slots,
            name,
            scope,
        }
    }

    /// The column of a declared field that is no set, quoted; the key under its own name.
    pub(crate) fn column(&self, field: &str) -> Option<(String, FieldKind)> {
        if field == millpond_core::KEY_FIELD {
            return Some(("key".to_owned(), FieldKind::Text));
        }
        let at = self.spec.as_ref()?.fields.iter().position(|f| f.name == field)?;
        match self.slots.get(at)? {
            Slot::Column(column) => Some((quote(column), self.spec.as_ref()?.fields.get(at)?.kind)),
            Slot::Side(_) => None,
        }
    }

    /// The index over these declared fields, quoted; `None` when one of them has no column.
    pub(crate) fn index(&self, fields: &[String]) -> Option<String> {
        let spec = self.spec.as_ref()?;
        let mut columns = Vec::with_capacity(fields.len());
        for field in fields {
            let at = spec.fields.iter().position(|f| f.name == *field)?;
            match self.slots.get(at)? {
                Slot::Column(column) => columns.push(column.as_str()),
                Slot::Side(_) => return None,
            }
        }
        Some(quote(&index_name(&table_name(spec.name.as_str()), &columns)))
    }

    /// The side table of a set field, quoted.
    pub(crate) fn side(&self, field: &str) -> Option<String> {
        let at = self.spec.as_ref()?.fields.iter().position(|f| f.name == field)?;
        match self.slots.get(at)? {
            Slot::Side(name) => Some(quote(name)),
            Slot::Column(_) => None,
        }
    }

    /// The values of the columns, in the order of the statements' parameters.
    pub(crate) fn column_values<'v>(&'v self, fields: &'v [FieldValue]) -> impl Iterator<Item = ToSqlOutput<'v>> {
        fields.iter().zip(&self.slots).filter(|(_, slot)| matches!(slot, Slot::Column(_))).map(|(value, _)| match value {
            FieldValue::Scalar(scalar) => bind(scalar),
            FieldValue::Absent | FieldValue::Set(_) => ToSqlOutput::Owned(Value::Null),
        })
    }
}

/// A scalar as a parameter.
pub(crate) fn bind(scalar: &Scalar) -> ToSqlOutput<'_> {
    match scalar {
        Scalar::Text(t) => ToSqlOutput::Borrowed(ValueRef::Text(t.as_bytes())),
        Scalar::Integer(i) => ToSqlOutput::Owned(Value::Integer(*i)),
        Scalar::Real(f) => ToSqlOutput::Owned(Value::Real(*f)),
        Scalar::Bool(b) => ToSqlOutput::Owned(Value::Integer((*b).into())),
        Scalar::Timestamp(t) => ToSqlOutput::Owned(Value::Integer(t.as_micros())),
    }
}

/// A column's value as a scalar of the field's kind; `None` for NULL.
pub(crate) fn scalar(value: ValueRef<'_>, kind: FieldKind) -> Option<Scalar> {
    Some(match (kind, value) {
        (FieldKind::Text | FieldKind::TextSet, ValueRef::Text(t)) => Scalar::Text(String::from_utf8_lossy(t).into_owned()),
        (FieldKind::Integer, ValueRef::Integer(i)) => Scalar::Integer(i),
        (FieldKind::Real, ValueRef::Real(f)) => Scalar::Real(f),
        (FieldKind::Bool, ValueRef::Integer(i)) => Scalar::Bool(i != 0),
        (FieldKind::Timestamp, ValueRef::Integer(i)) => Scalar::Timestamp(millpond_core::Timestamp::from_micros(i)),
        _ => return None,
    })
}
