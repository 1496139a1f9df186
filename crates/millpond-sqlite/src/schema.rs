//! The tables that every store has, and the versions they went through.

use millpond_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, TransactionBehavior};

use crate::errors::sql;

/// Marks a file as ours (`file` and `sqlite3 .dbinfo` show it): "Mlpd".
pub(crate) const APPLICATION_ID: i32 = 0x4D6C_7064;

/// The format this program writes.
pub(crate) const FORMAT: i32 = MIGRATIONS.len() as i32;

/// Bits of `row` that hold the position; the bits above hold the namespace.
pub(crate) const POSITION_BITS: u32 = 44;

/// Each entry brings a store from the version of its index to the next one.
const MIGRATIONS: &[&str] = &[FORMAT_1];

const FORMAT_1: &str = "
CREATE TABLE namespaces (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  store_id TEXT NOT NULL,
  status TEXT NOT NULL,
  position INTEGER NOT NULL,
  time INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  receipts_floor INTEGER NOT NULL,
  purged_position INTEGER NOT NULL,
  trimmed_position INTEGER NOT NULL,
  has_tombstones INTEGER NOT NULL,
  catalog INTEGER NOT NULL
) STRICT;

CREATE TABLE collections (
  ns INTEGER NOT NULL,
  name TEXT NOT NULL,
  spec TEXT,
  revision_floor INTEGER NOT NULL DEFAULT 0,
  purged_position INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (ns, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE fields (
  collection TEXT NOT NULL,
  field TEXT NOT NULL,
  kind TEXT NOT NULL,
  column_name TEXT NOT NULL,
  PRIMARY KEY (collection, field, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE records (
  row INTEGER PRIMARY KEY,
  ns INTEGER NOT NULL,
  collection TEXT NOT NULL,
  key TEXT NOT NULL,
  revision INTEGER NOT NULL,
  position INTEGER NOT NULL,
  time INTEGER NOT NULL,
  by TEXT,
  doc TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX records_key ON records (ns, collection, key);
CREATE INDEX records_position ON records (ns, collection, position);

CREATE TABLE tombstones (
  row INTEGER PRIMARY KEY,
  ns INTEGER NOT NULL,
  collection TEXT NOT NULL,
  key TEXT NOT NULL,
  revision INTEGER NOT NULL,
  position INTEGER NOT NULL,
  time INTEGER NOT NULL,
  by TEXT
) STRICT;
CREATE UNIQUE INDEX tombstones_key ON tombstones (ns, collection, key);
CREATE INDEX tombstones_position ON tombstones (ns, collection, position);

CREATE TABLE streams (
  id INTEGER PRIMARY KEY,
  ns INTEGER NOT NULL,
  name TEXT NOT NULL,
  head INTEGER NOT NULL,
  oldest INTEGER NOT NULL,
  sealed INTEGER NOT NULL,
  position INTEGER NOT NULL,
  time INTEGER NOT NULL,
  trimmed_position INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX streams_name ON streams (ns, name);

-- row = ns * 2^44 + position: appended at the right edge, and a feed is one range of it.
CREATE TABLE events (
  row INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  id TEXT,
  type TEXT NOT NULL,
  time INTEGER NOT NULL,
  correlation TEXT,
  agent TEXT,
  source TEXT,
  labels TEXT,
  data TEXT NOT NULL,
  ns INTEGER GENERATED ALWAYS AS (row >> 44) VIRTUAL,
  position INTEGER GENERATED ALWAYS AS (row & 17592186044415) VIRTUAL
) STRICT;
-- Every index ends with the row, which is the order of the stream.
CREATE INDEX events_stream ON events (stream);
CREATE UNIQUE INDEX events_id ON events (stream, id) WHERE id IS NOT NULL;
CREATE INDEX events_correlation ON events (correlation) WHERE correlation IS NOT NULL;
CREATE INDEX events_agent ON events (agent) WHERE agent IS NOT NULL;

CREATE TABLE commits (
  ns INTEGER NOT NULL,
  id BLOB NOT NULL,
  position INTEGER NOT NULL,
  time INTEGER NOT NULL,
  digest BLOB NOT NULL,
  revisions TEXT NOT NULL,
  sequences TEXT NOT NULL,
  PRIMARY KEY (ns, id)
) STRICT, WITHOUT ROWID;
";

/// Names that collections cannot take for their tables.
pub(crate) const OWN_TABLES: [&str; 8] =
    ["namespaces", "collections", "fields", "records", "tombstones", "streams", "events", "commits"];

/// Names of the indexes that every store has; tables and indexes share one space of names.
pub(crate) const OWN_INDEXES: [&str; 9] = [
    "records_key",
    "records_position",
    "tombstones_key",
    "tombstones_position",
    "streams_name",
    "events_stream",
    "events_id",
    "events_correlation",
    "events_agent",
];

/// Brings a store to this program's format, in one transaction. Refuses what a newer program wrote.
pub(crate) fn migrate(connection: &mut Connection) -> Result<()> {
    if format(connection)? == FORMAT {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql("migrate"))?;
    // Another process may have been faster.
    let found = format(&transaction)?;
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(sql("migrate"))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(sql("migrate"))?;
    transaction.pragma_update(None, "user_version", FORMAT).map_err(sql("migrate"))?;
    transaction.commit().map_err(sql("migrate"))
}

/// The format of a store; 0 for an empty file. Refuses other programs' databases and newer formats.
///
/// One statement, so that all of it is of one moment: another process may be making the file right now.
pub(crate) fn format(connection: &Connection) -> Result<i32> {
    let (application, version, tables): (i32, i32, i64) = connection
        .query_row(
            "SELECT a.application_id, v.user_version, (SELECT count(*) FROM sqlite_schema) \
             FROM pragma_application_id a, pragma_user_version v",
            [],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )
        .map_err(sql("open"))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(Error::invalid("the file is a SQLite database, but not a Millpond store; it was not touched")
            .with_next("give another path"));
    }
    if version > FORMAT {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("the store has format {version}; this program knows formats up to {FORMAT}"),
        )
        .with_next("use a newer millpond")
        .in_check("schema"));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_our_own_is_listed() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let mut statement = connection.prepare("SELECT name FROM sqlite_schema").unwrap();
        let names: Vec<String> = statement.query_map([], |r| r.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        for name in names {
            assert_ne!(crate::table::table_name(&name), name, "a collection could take this name");
        }
    }
}
