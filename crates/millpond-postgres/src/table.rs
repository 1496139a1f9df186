//! A collection's table: its columns, and the statements on it.
//!
//! ```text
//!   runs         (ns, key) · row, revision, position, time, by, doc · a column for each declared field
//!   runs.tags.set (ns, row, value): a row for each value of a set
//! ```
//!
//! `row` is the position at which the record came into being: unique in its namespace, and known before it is written.

use std::fmt::Write as _;
use std::sync::Arc;

use millpond_core::{CollectionName, CollectionSpec, FieldKind};

use crate::arrays::array_type;
use crate::names::{quote, table_name};

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
    /// A condition that picks this collection's rows of a namespace; `$1` is the namespace.
    pub(crate) scope: String,
    /// By `$2` keys with `$3` whether the document is wanted; with the columns of every read of a batch (`load.rs`).
    pub(crate) load: String,
    /// By `$2` key, and `$3` collection where it is undeclared: revision, position, time, by, document.
    pub(crate) get: String,
    /// Writes new rows given as arrays. Where each row might be there already, writing it would cost half as much again.
    pub(crate) insert: String,
    /// The same for rows that are there.
    pub(crate) change: String,
    /// By `$2` keys.
    pub(crate) delete: String,
    pub(crate) sides: Vec<Side>,
}

/// A set field's side table and the statements on it.
#[derive(Debug)]
pub(crate) struct Side {
    /// The index of its field in the declaration.
    pub(crate) field: usize,
    /// `$2` rows and `$3` values.
    pub(crate) insert: String,
    /// By `$2` rows.
    pub(crate) delete: String,
}

/// Reads and deletes by key find each row through the key's index, whatever the planner thinks of the table's size.
pub(crate) fn delete_found(table: &str, keys: &str, found: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT f.found FROM {keys} CROSS JOIN LATERAL \
         (SELECT t.ctid AS found FROM {table} t WHERE {found} OFFSET 0) f))"
    )
}

impl Side {
    fn of(field: usize, slot: &Slot) -> Option<Self> {
        let Slot::Side(name) = slot else { return None };
        let name = quote(name);
        Some(Self {
            field,
            insert: format!("INSERT INTO {name} (ns, \"row\", value) SELECT $1, u.* FROM unnest($2::int8[], $3::text[]) u"),
            delete: delete_found(&name, "unnest($2::int8[]) k(at)", "t.ns = $1 AND t.\"row\" = k.at"),
        })
    }
}

impl Table {
    /// The shared table, seen as one undeclared collection.
    pub(crate) fn undeclared(collection: CollectionName) -> Self {
        // A collection's name is made of a-z, 0-9, '_' and '-', so it can stand in SQL as it is.
        let scope = format!("ns = $1 AND collection = '{collection}'");
        Self {
            load: LOAD_UNDECLARED.to_owned(),
            get: "SELECT revision, position, time, by, doc FROM records WHERE ns = $1 AND key = $2 AND collection = $3"
                .to_owned(),
            insert: INSERT_UNDECLARED.to_owned(),
            change: format!("{INSERT_UNDECLARED} ON CONFLICT (ns, collection, key) {CHANGE}"),
            delete: delete_found(
                "records",
                "unnest($2::text[], $3::text[]) k(collection, key)",
                "t.ns = $1 AND t.collection = k.collection AND t.key = k.key",
            ),
            sides: Vec::new(),
            spec: None,
            slots: Vec::new(),
            name: "records".to_owned(),
            scope,
            collection,
        }
    }

    /// A declared collection's own table.
    pub(crate) fn declared(spec: Arc<CollectionSpec>, slots: Vec<Slot>) -> Self {
        let name = quote(&table_name(spec.name.as_str()));
        let (mut names, mut places, mut sets) = (String::new(), String::new(), String::new());
        let columns = slots.iter().zip(&spec.fields).filter_map(|(slot, field)| match slot {
            Slot::Column(column) => Some((quote(column), field.kind)),
            Slot::Side(_) => None,
        });
        for (i, (column, kind)) in columns.enumerate() {
            let _ = write!(names, ", {column}");
            let _ = write!(places, ", ${}::{}", i + 9, array_type(kind));
            let _ = write!(sets, ", {column} = excluded.{column}");
        }
        let insert = format!(
            "INSERT INTO {name} (ns, key, \"row\", revision, position, time, by, doc{names}) SELECT $1, u.* \
             FROM unnest($2::text[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::text[], $8::json[]{places}) u"
        );
        Self {
            load: format!(
                "SELECT 0::int8, k.at, r.\"row\", r.revision, r.time, NULL::bool, r.by, CASE WHEN k.wanted THEN r.doc END, NULL::bytea \
                 FROM unnest($2::text[], $3::bool[]) WITH ORDINALITY k(key, wanted, at) CROSS JOIN LATERAL \
                 (SELECT t.\"row\", t.revision, t.time, t.by, t.doc FROM {name} t WHERE t.ns = $1 AND t.key = k.key OFFSET 0) r"
            ),
            get: format!("SELECT revision, position, time, by, doc FROM {name} WHERE ns = $1 AND key = $2"),
            change: format!("{insert} ON CONFLICT (ns, key) {CHANGE}{sets}"),
            insert,
            delete: delete_found(&name, "unnest($2::text[]) k(key)", "t.ns = $1 AND t.key = k.key"),
            sides: slots.iter().enumerate().filter_map(|(field, slot)| Side::of(field, slot)).collect(),
            collection: spec.name.clone(),
            spec: Some(spec),
            slots,
            name,
            scope: "ns = $1".to_owned(),
        }
    }

    pub(crate) fn is_declared(&self) -> bool {
        self.spec.is_some()
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

    /// The side table of a set field, quoted.
    pub(crate) fn side(&self, field: &str) -> Option<String> {
        let at = self.spec.as_ref()?.fields.iter().position(|f| f.name == field)?;
        match self.slots.get(at)? {
            Slot::Side(name) => Some(quote(name)),
            Slot::Column(_) => None,
        }
    }
}

/// By `$2` collections, `$3` keys, `$4` whether the document is wanted; columns as in `load.rs`.
const LOAD_UNDECLARED: &str = "SELECT 0::int8, k.at, r.\"row\", r.revision, r.time, NULL::bool, r.by, CASE WHEN k.wanted THEN r.doc END, NULL::bytea \
     FROM unnest($2::text[], $3::text[], $4::bool[]) WITH ORDINALITY k(collection, key, wanted, at) CROSS JOIN LATERAL \
     (SELECT t.\"row\", t.revision, t.time, t.by, t.doc FROM records t \
      WHERE t.ns = $1 AND t.collection = k.collection AND t.key = k.key OFFSET 0) r";

const INSERT_UNDECLARED: &str = "INSERT INTO records (ns, collection, key, \"row\", revision, position, time, by, doc) \
     SELECT $1, u.* FROM unnest($2::text[], $3::text[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::text[], $9::json[]) u";

const CHANGE: &str = "DO UPDATE SET revision = excluded.revision, position = excluded.position, time = excluded.time, \
     by = excluded.by, doc = excluded.doc";
