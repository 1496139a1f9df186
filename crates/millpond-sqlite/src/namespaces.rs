//! Namespaces: rows of one table, and everything that is deleted with one.

use millpond_core::plan::NamespaceHead;
use millpond_core::{Error, Host, Namespace, NamespaceInfo, NamespaceStatus, Position, Result, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::errors::sql;
use crate::schema::POSITION_BITS;
use crate::table::{quote, side_name, table_name};

/// A namespace as its row keeps it.
#[derive(Debug, Clone)]
pub(crate) struct NamespaceRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) store_id: String,
    pub(crate) status: String,
    pub(crate) position: u64,
    pub(crate) time: i64,
    pub(crate) created_at: i64,
    pub(crate) receipts_floor: i64,
    pub(crate) purged_position: u64,
    pub(crate) trimmed_position: u64,
    pub(crate) has_tombstones: bool,
    pub(crate) catalog: i64,
}

const COLUMNS: &str = "id, name, store_id, status, position, time, created_at, receipts_floor, purged_position, trimmed_position, catalog, \
     has_tombstones";

fn read_row(row: &Row<'_>) -> rusqlite::Result<NamespaceRow> {
    let unsigned = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
    Ok(NamespaceRow {
        id: row.get(0)?,
        name: row.get(1)?,
        store_id: row.get(2)?,
        status: row.get(3)?,
        position: unsigned(4)?,
        time: row.get(5)?,
        created_at: row.get(6)?,
        receipts_floor: row.get(7)?,
        purged_position: unsigned(8)?,
        trimmed_position: unsigned(9)?,
        catalog: row.get(10)?,
        has_tombstones: row.get(11)?,
    })
}

/// The row of a namespace, if it exists.
pub(crate) fn find(connection: &Connection, namespace: &Namespace) -> Result<Option<NamespaceRow>> {
    const SQL: &str = "SELECT id, name, store_id, status, position, time, created_at, receipts_floor, purged_position, \
                       trimmed_position, catalog, has_tombstones FROM namespaces WHERE name = ?1";
    connection
        .prepare_cached(SQL)
        .and_then(|mut s| s.query_row([namespace.as_str()], read_row).optional())
        .map_err(sql("namespace"))
}

/// The row of a namespace that has to exist.
pub(crate) fn namespace_row(connection: &Connection, namespace: &Namespace) -> Result<NamespaceRow> {
    let row = find(connection, namespace)?
        .ok_or_else(|| Error::not_found(format!("namespace {:?} does not exist", namespace.as_str())))?;
    namespace.check_is(&row.store_id)?;
    Ok(row)
}

impl NamespaceRow {
    /// What a plan needs to know.
    pub(crate) fn head(&self) -> NamespaceHead {
        NamespaceHead {
            status: parse_status(&self.status),
            position: Position(self.position),
            time: Timestamp::from_micros(self.time),
            receipts_floor: Timestamp::from_micros(self.receipts_floor),
        }
    }

    /// What the outside knows.
    pub(crate) fn info(&self) -> NamespaceInfo {
        NamespaceInfo {
            name: Namespace::from_store(self.name.as_str()),
            store_id: self.store_id.clone(),
            status: parse_status(&self.status),
            position: Position(self.position),
            time: Timestamp::from_micros(self.time),
            created_at: Timestamp::from_micros(self.created_at),
        }
    }

    /// The `row` of this namespace's position 0; the next namespace begins at [`NamespaceRow::end`].
    pub(crate) fn base(&self) -> i64 {
        self.id << POSITION_BITS
    }

    /// Above all rows of this namespace.
    pub(crate) fn end(&self) -> i64 {
        (self.id + 1) << POSITION_BITS
    }

    /// The `row` of a position, at most the namespace's last.
    pub(crate) fn row_of(&self, position: Position) -> i64 {
        let most = (1_u64 << POSITION_BITS) - 1;
        self.base() + position.0.min(most).cast_signed()
    }
}

fn parse_status(text: &str) -> NamespaceStatus {
    match text {
        "open" => NamespaceStatus::Open,
        "frozen" => NamespaceStatus::Frozen,
        other => NamespaceStatus::MovedTo(other.strip_prefix("moved:").unwrap_or(other).to_owned()),
    }
}

fn status_text(status: &NamespaceStatus) -> String {
    match status {
        NamespaceStatus::Open => "open".to_owned(),
        NamespaceStatus::Frozen => "frozen".to_owned(),
        NamespaceStatus::MovedTo(place) => format!("moved:{place}"),
    }
}

/// All namespaces, by name.
pub(crate) fn list(connection: &Connection) -> Result<Vec<NamespaceInfo>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM namespaces ORDER BY name")).map_err(sql("namespaces"))?;
    let rows = statement.query_map([], read_row).map_err(sql("namespaces"))?;
    rows.map(|r| r.map(|r| r.info()).map_err(sql("namespaces"))).collect()
}

/// Makes a namespace, with a store id of its own.
pub(crate) fn create(transaction: &Connection, namespace: &Namespace, host: &dyn Host) -> Result<NamespaceInfo> {
    create_as(transaction, namespace, &millpond_core::uuid_v7(host).to_string(), host.now())
}

/// Makes a namespace under an identity that was given to it.
pub(crate) fn create_as(
    transaction: &Connection,
    namespace: &Namespace,
    store_id: &str,
    created_at: Timestamp,
) -> Result<NamespaceInfo> {
    if find(transaction, namespace)?.is_some() {
        return Err(Error::conflict(format!("namespace {:?} exists already", namespace.as_str())));
    }
    // AUTOINCREMENT: a number is never given out twice, so a row found under one belongs to this very namespace.
    transaction
        .execute(
            "INSERT INTO namespaces (name, store_id, status, position, time, created_at, receipts_floor, purged_position, \
             trimmed_position, catalog, has_tombstones) VALUES (?1, ?2, 'open', 0, 0, ?3, 0, 0, 0, 0, 0)",
            params![namespace.as_str(), store_id, created_at.as_micros()],
        )
        .map_err(sql("namespaces.create"))?;
    let row = namespace_row(transaction, namespace)?;
    if row.id >= 1 << (63 - POSITION_BITS) {
        return Err(Error::unavailable("the store holds as many namespaces as it can").with_next("make another store"));
    }
    Ok(row.info())
}

/// Opens, freezes or marks as moved.
pub(crate) fn set_status(transaction: &Connection, namespace: &Namespace, status: &NamespaceStatus) -> Result<NamespaceInfo> {
    let row = namespace_row(transaction, namespace)?;
    transaction
        .execute("UPDATE namespaces SET status = ?2 WHERE id = ?1", params![row.id, status_text(status)])
        .map_err(sql("namespaces.status"))?;
    Ok(namespace_row(transaction, namespace)?.info())
}

/// Deletes a namespace and everything in it.
pub(crate) fn delete(transaction: &Connection, namespace: &Namespace, store_id: &str) -> Result<()> {
    let row = namespace_row(transaction, namespace)?;
    if row.store_id != store_id {
        return Err(Error::conflict(format!(
            "namespace {:?} has the store id {}, not {store_id}; it was not deleted",
            namespace.as_str(),
            row.store_id
        ))
        .with_next("look at it again: it may have been deleted and made anew"));
    }
    let run = |statement: &str| transaction.execute(statement, [row.id]).map_err(sql("namespaces.delete"));
    let mut tables = transaction
        .prepare("SELECT name, spec FROM collections WHERE ns = ?1 AND spec IS NOT NULL")
        .map_err(sql("namespaces.delete"))?;
    let declared: Vec<(String, String)> = tables
        .query_map([row.id], |r| Ok((r.get(0)?, r.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(sql("namespaces.delete"))?;
    for (name, spec) in declared {
        let spec: millpond_core::CollectionSpec =
            serde_json::from_str(&spec).map_err(|e| Error::corrupt("a declaration does not read back").with_source(e))?;
        for field in spec.fields.iter().filter(|f| f.kind == millpond_core::FieldKind::TextSet) {
            run(&format!("DELETE FROM {} WHERE ns = ?1", quote(&side_name(&name, &field.name))))?;
        }
        run(&format!("DELETE FROM {} WHERE ns = ?1", quote(&table_name(&name))))?;
    }
    transaction
        .execute("DELETE FROM events WHERE row >= ?1 AND row < ?2", [row.base(), row.end()])
        .map_err(sql("namespaces.delete"))?;
    for table in ["records", "tombstones", "streams", "commits", "collections"] {
        run(&format!("DELETE FROM {table} WHERE ns = ?1"))?;
    }
    transaction.execute("DELETE FROM namespaces WHERE id = ?1", [row.id]).map_err(sql("namespaces.delete"))?;
    Ok(())
}
