//! Names of tables, columns and indexes: what a person expects where PostgreSQL takes it.

use sha2::{Digest as _, Sha256};

use crate::schema::{OWN_INDEXES, OWN_TABLES};

/// Bytes of a name; PostgreSQL would cut longer ones silently.
const MOST: usize = 63;

/// Columns that every table has by itself.
const SYSTEM_COLUMNS: [&str; 6] = ["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

/// Quotes an identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name PostgreSQL keeps whole: one that is too long ends in a digest of what it would have been.
fn fitting(name: String) -> String {
    if name.len() <= MOST {
        return name;
    }
    let digest = Sha256::digest(name.as_bytes());
    let end: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    // Names are ASCII, so any cut is at a character.
    let begin: String = name.chars().take(MOST - end.len() - 1).collect();
    format!("{begin}~{end}")
}

/// The plain name of a declared collection's table: its own name where that is free, otherwise `c.` and its name.
///
/// No two collections have one table, and no table meets an index or a side table. Collection and field names hold no
/// dot, so these are told apart by their parts: a table `x`, its indexes `x.field`, its side tables `x.field.set`,
/// their indexes `x.field.set.value`; the same behind `c.`, which is why no table is called `c`.
pub(crate) fn table_name(collection: &str) -> String {
    // `pg_…` without a schema would mean one of the server's own tables.
    let taken = collection == "c"
        || collection.starts_with("pg_")
        || OWN_TABLES.contains(&collection)
        || OWN_INDEXES.contains(&collection);
    fitting(if taken { format!("c.{collection}") } else { collection.to_owned() })
}

/// The plain name of a field's column. `kind` is given where another namespace has the name for another type.
pub(crate) fn column_name(field: &str, kind: Option<&str>) -> String {
    // No field name holds a colon.
    match kind {
        Some(kind) => fitting(format!("{field}:{kind}")),
        None if SYSTEM_COLUMNS.contains(&field) => format!("{field}:"),
        None => fitting(field.to_owned()),
    }
}

/// The plain name of an index over columns of a collection's table, or of one of its fixed indexes.
pub(crate) fn index_name(collection: &str, columns: &[impl AsRef<str>]) -> String {
    let columns: Vec<&str> = columns.iter().map(AsRef::as_ref).collect();
    fitting(format!("{}.{}", full_table_name(collection), columns.join("+")))
}

/// The plain name of a set field's side table.
pub(crate) fn side_name(collection: &str, field: &str) -> String {
    fitting(format!("{}.{field}.set", full_table_name(collection)))
}

/// The plain name of the index that finds a set field's values.
pub(crate) fn side_index_name(collection: &str, field: &str) -> String {
    fitting(format!("{}.{field}.set.value", full_table_name(collection)))
}

/// The table's name before it is cut, so that what is derived from it stays different where only the ends differ.
fn full_table_name(collection: &str) -> String {
    let table = table_name(collection);
    if table.contains('~') { collection.to_owned() } else { table }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay_different() {
        let long = |end: &str| format!("{}{end}", "l".repeat(63));
        assert_eq!(table_name("runs"), "runs");
        assert_eq!(table_name("events"), "c.events");
        assert_eq!(table_name("pg_class"), "c.pg_class");
        assert_ne!(table_name(&long("a")), table_name(&long("b")));
        assert_ne!(index_name(&long("a"), &["state"]), index_name(&long("b"), &["state"]));
        assert_ne!(index_name("x", &[long("a")]), index_name("x", &[long("b")]));
        assert_ne!(side_name(&long("a"), "tags"), side_index_name(&long("a"), "tags"));
        assert_ne!(column_name(&long("a"), None), column_name(&long("b"), None));
        assert_eq!(column_name("xmin", None), "xmin:");
        for name in [table_name(&long("a")), side_index_name(&long("a"), &long("b")), column_name(&long("a"), Some("integer"))] {
            assert!(name.len() <= MOST, "{name}");
        }
    }
}
