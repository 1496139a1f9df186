//! Namespaces: rows of one table, and everything that is deleted with one.

use millpond_core::plan::NamespaceHead;
use millpond_core::{Error, Namespace, NamespaceInfo, NamespaceStatus, Position, Result, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::call::Call;
use crate::catalog::Schema;
use crate::errors::{Failure, unreadable};
use crate::session::Session;
use crate::table::Slot;

/// A namespace as its row keeps it.
#[derive(Debug, Clone)]
pub(crate) struct NamespaceRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) store_id: String,
    status: String,
    pub(crate) position: u64,
    pub(crate) time: i64,
    created_at: i64,
    receipts_floor: i64,
    pub(crate) purged_position: u64,
    pub(crate) trimmed_position: u64,
    /// Streams made so far: the number of the last one.
    pub(crate) streams: i64,
    pub(crate) has_tombstones: bool,
    pub(crate) catalog: i64,
    /// The server's clock when the row was read; for a locked row, after the lock was given.
    pub(crate) now: Timestamp,
}

macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::int8"
    };
}

macro_rules! columns {
    () => {
        "id, name, store_id, status, position, time, created_at, receipts_floor, purged_position, trimmed_position, streams, \
         has_tombstones, catalog"
    };
}

/// The row alone. The clock is read outside, so that it is read after the lock was given.
const LOCK: &str = concat!(
    "WITH locked AS MATERIALIZED (SELECT ",
    columns!(),
    " FROM namespaces WHERE name = $1 FOR UPDATE) SELECT *, ",
    now!(),
    " FROM locked"
);

const FIND: &str = concat!("SELECT ", columns!(), ", ", now!(), " FROM namespaces WHERE name = $1");
const LIST: &str = concat!("SELECT ", columns!(), ", ", now!(), " FROM namespaces ORDER BY name");

fn read_row(row: &Row) -> Result<NamespaceRow, tokio_postgres::Error> {
    let unsigned = |i| row.try_get::<_, i64>(i).map(i64::cast_unsigned);
    Ok(NamespaceRow {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        store_id: row.try_get(2)?,
        status: row.try_get(3)?,
        position: unsigned(4)?,
        time: row.try_get(5)?,
        created_at: row.try_get(6)?,
        receipts_floor: row.try_get(7)?,
        purged_position: unsigned(8)?,
        trimmed_position: unsigned(9)?,
        streams: row.try_get(10)?,
        has_tombstones: row.try_get(11)?,
        catalog: row.try_get(12)?,
        now: Timestamp::from_micros(row.try_get(13)?),
    })
}

/// Reads a namespace's row.
pub(crate) fn find_call(namespace: &Namespace) -> Call<'_> {
    Call::often(FIND).with(Type::TEXT, namespace.as_str())
}

/// Locks a namespace's row to the end of the transaction: the order of commits. What is read under the lock is read
/// by later statements, because this one took its snapshot before it waited.
pub(crate) fn lock_call(namespace: &Namespace) -> Call<'_> {
    Call::often(LOCK).with(Type::TEXT, namespace.as_str())
}

/// The row, if the namespace exists.
pub(crate) fn found(rows: &[Row]) -> Result<Option<NamespaceRow>> {
    rows.first().map(read_row).transpose().map_err(unreadable("namespaces"))
}

/// The row of a namespace that has to exist, and to be the one that was opened.
pub(crate) fn existing(rows: &[Row], namespace: &Namespace) -> Result<NamespaceRow> {
    let row = found(rows)?.ok_or_else(|| Error::not_found(format!("namespace {:?} does not exist", namespace.as_str())))?;
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
            receipts_floor: self.receipts_floor(),
        }
    }

    /// Receipts of ids made before this moment are gone.
    pub(crate) fn receipts_floor(&self) -> Timestamp {
        Timestamp::from_micros(self.receipts_floor)
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
pub(crate) async fn list(session: &mut Session) -> Result<Vec<NamespaceInfo>, Failure> {
    let rows = session.one(&Call::once(LIST)).await?;
    let rows = rows.iter().map(read_row).collect::<Result<Vec<_>, _>>().map_err(unreadable("namespaces"))?;
    Ok(rows.iter().map(NamespaceRow::info).collect())
}

/// Makes a namespace. One of this very store id is our own, made by an attempt whose answer was lost.
pub(crate) async fn create(session: &mut Session, namespace: &Namespace, store_id: &str) -> Result<NamespaceInfo, Failure> {
    // Numbers come from a sequence and are never given out twice, so a row found under one belongs to this namespace.
    let insert = Call::once(concat!(
        "INSERT INTO namespaces (name, store_id, status, position, time, created_at, receipts_floor, purged_position, ",
        "trimmed_position, streams, has_tombstones, catalog) VALUES ($1, $2, 'open', 0, 0, ",
        now!(),
        ", 0, 0, 0, 0, false, 0) ON CONFLICT (name) DO NOTHING"
    ))
    .with(Type::TEXT, namespace.as_str())
    .with(Type::TEXT, store_id);
    session.begin(&[insert]).await?;
    session.commit(&[]).await?;
    let rows = session.one(&find_call(namespace)).await?;
    let row = found(&rows)?;
    match row {
        Some(row) if row.store_id == store_id => Ok(row.info()),
        _ => Err(Error::conflict(format!("namespace {:?} exists already", namespace.as_str())).into()),
    }
}

/// Opens, freezes or marks as moved. The row's lock is every commit's, so none of the old status is still to come.
pub(crate) async fn set_status(
    session: &mut Session,
    namespace: &Namespace,
    status: &NamespaceStatus,
) -> Result<NamespaceInfo, Failure> {
    let rows = session.begin(&[lock_call(namespace)]).await?;
    let mut row = match existing(rows.first().map_or(&[], Vec::as_slice), namespace) {
        Ok(row) => row,
        Err(error) => {
            session.rollback().await;
            return Err(error.into());
        }
    };
    row.status = status_text(status);
    let update = Call::once("UPDATE namespaces SET status = $2 WHERE id = $1")
        .with(Type::INT8, row.id)
        .with(Type::TEXT, row.status.clone());
    session.commit(&[update]).await?;
    Ok(row.info())
}

/// Deletes a namespace and everything in it, in the transaction that holds its lock.
pub(crate) fn deletion(row: &NamespaceRow, schema: &Schema) -> Vec<Call<'static>> {
    let mut tables: Vec<String> = Vec::new();
    for table in schema.declared() {
        tables.extend(
            table.slots.iter().filter_map(|s| if let Slot::Side(name) = s { Some(crate::names::quote(name)) } else { None }),
        );
        tables.push(table.name.clone());
    }
    tables.extend(["records", "tombstones", "streams", "events", "commits", "collections"].map(str::to_owned));
    let delete = |table: &String| Call::once(format!("DELETE FROM {table} WHERE ns = $1")).with(Type::INT8, row.id);
    let mut calls: Vec<_> = tables.iter().map(delete).collect();
    calls.push(Call::once("DELETE FROM namespaces WHERE id = $1").with(Type::INT8, row.id));
    calls
}

/// Refuses to delete another namespace than the one the caller looked at.
pub(crate) fn confirm(row: &NamespaceRow, namespace: &Namespace, store_id: &str) -> Result<()> {
    if row.store_id == store_id {
        return Ok(());
    }
    Err(Error::conflict(format!(
        "namespace {:?} has the store id {}, not {store_id}; it was not deleted",
        namespace.as_str(),
        row.store_id
    ))
    .with_next("look at it again: it may have been deleted and made anew"))
}
