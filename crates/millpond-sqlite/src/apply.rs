//! Applies a plan's mutations inside the write transaction. No rule lives here.

use millpond_core::plan::{EventMutation, Mutations, RecordMutation, RecordState, StoredReceipt, StreamMutation};
use millpond_core::{Error, FieldValue, Json, Result};
use rusqlite::{CachedStatement, Connection, Statement, ToSql, params};

use crate::catalog::Schema;
use crate::errors::sql;
use crate::namespaces::NamespaceRow;
use crate::table::Table;

fn signed(n: u64) -> i64 {
    n.cast_signed()
}

fn cached<'c>(connection: &'c Connection, text: &str) -> Result<CachedStatement<'c>> {
    connection.prepare_cached(text).map_err(sql("apply"))
}

/// Applies everything.
pub(crate) fn mutations(connection: &Connection, row: &NamespaceRow, schema: &Schema, changes: &Mutations) -> Result<()> {
    for change in &changes.records {
        record(connection, row.id, schema, change)?;
    }
    let mut handles = Vec::with_capacity(changes.streams.len());
    for change in &changes.streams {
        handles.push(stream(connection, row.id, change)?);
    }
    // Trims come first: an event of this batch may carry the id of one that this batch trims.
    for (change, handle) in changes.streams.iter().zip(&handles) {
        let oldest_before = change.before.as_ref().map_or(1, |s| s.oldest);
        if change.oldest > oldest_before {
            trim(connection, row.id, *handle, change.oldest)?;
        }
    }
    // Events that are trimmed in the batch that appends them are never stored.
    let kept = |e: &&EventMutation| changes.streams.get(e.stream).is_none_or(|s| e.event.sequence >= s.oldest);
    events(connection, row, &handles, changes.events.iter().filter(kept))?;
    for gone in changes.events.iter().filter(|e| !kept(e)) {
        if let Some(handle) = handles.get(gone.stream) {
            raise_trimmed(connection, row.id, *handle, signed(gone.event.position.0))?;
        }
    }
    receipts(connection, row.id, &changes.receipts)?;
    let head = &changes.namespace;
    cached(connection, "UPDATE namespaces SET position = ?2, time = ?3 WHERE id = ?1")?
        .execute((row.id, signed(head.position.0), head.time.as_micros()))
        .map_err(sql("apply"))?;
    Ok(())
}

fn record(connection: &Connection, ns: i64, schema: &Schema, change: &RecordMutation) -> Result<()> {
    let table = schema.table(&change.record.collection);
    let (revision, position, time) = (signed(change.revision), signed(change.position.0), change.time.as_micros());
    let (key, by) = (change.record.key.as_str(), change.by.as_deref());
    match (&change.before, &change.after) {
        (RecordState::Live { handle, .. }, Some((doc, fields))) => {
            let mut update = cached(connection, &table.update)?;
            bind_record(&mut update, &table, *handle, key, revision, position, time, by, doc.as_str(), fields)?;
            update.raw_execute().map_err(sql("apply"))?;
            write_sides(connection, &table, ns, *handle, fields, true)
        }
        (before, Some((doc, fields))) => {
            if let RecordState::Gone { handle, .. } = before {
                forget_tombstone(connection, *handle)?;
            }
            let mut insert = cached(connection, &table.insert)?;
            bind_record(&mut insert, &table, ns, key, revision, position, time, by, doc.as_str(), fields)?;
            insert.raw_execute().map_err(sql("apply"))?;
            write_sides(connection, &table, ns, connection.last_insert_rowid(), fields, false)
        }
        (before, None) => {
            match before {
                RecordState::Live { handle, .. } => {
                    cached(connection, &table.delete)?.execute([handle]).map_err(sql("apply"))?;
                    for (_, side) in table.sides() {
                        cached(connection, &format!("DELETE FROM {side} WHERE row = ?1"))?
                            .execute([handle])
                            .map_err(sql("apply"))?;
                    }
                }
                RecordState::Gone { handle, .. } => forget_tombstone(connection, *handle)?,
                RecordState::Never => {}
            }
            cached(
                connection,
                "INSERT INTO tombstones (ns, collection, key, revision, position, time, by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![ns, change.record.collection.as_str(), key, revision, position, time, by])
            .map_err(sql("apply"))?;
            Ok(())
        }
    }
}

fn forget_tombstone(connection: &Connection, handle: i64) -> Result<()> {
    cached(connection, "DELETE FROM tombstones WHERE row = ?1")?.execute([handle]).map_err(sql("apply"))?;
    Ok(())
}

/// Binds a record to its table's insert (`first` is the namespace) or update (`first` is the row).
#[allow(clippy::too_many_arguments)] // One value for each column that every table has.
pub(crate) fn bind_record(
    statement: &mut Statement<'_>,
    table: &Table,
    first: i64,
    key: &str,
    revision: i64,
    position: i64,
    time: i64,
    by: Option<&str>,
    doc: &str,
    fields: &[FieldValue],
) -> Result<()> {
    let columns = table.slots.len() - table.sides().count();
    let values: [&dyn ToSql; 7] = [&first, &key, &revision, &position, &time, &by, &doc];
    let fields = table.column_values(fields).collect::<Vec<_>>();
    if fields.len() != columns {
        return Err(Error::corrupt(format!("{}/{key}: {} index fields for {columns} columns", table.collection, fields.len())));
    }
    for (i, value) in values.into_iter().chain(fields.iter().map(|f| f as &dyn ToSql)).enumerate() {
        statement.raw_bind_parameter(i + 1, value).map_err(sql("apply"))?;
    }
    Ok(())
}

/// Writes the values of set fields; `replace` removes those that were there.
pub(crate) fn write_sides(
    connection: &Connection,
    table: &Table,
    ns: i64,
    row: i64,
    fields: &[FieldValue],
    replace: bool,
) -> Result<()> {
    for (i, side) in table.sides() {
        if replace {
            cached(connection, &format!("DELETE FROM {side} WHERE row = ?1"))?.execute([row]).map_err(sql("apply"))?;
        }
        if let Some(FieldValue::Set(values)) = fields.get(i) {
            let mut insert = cached(connection, &format!("INSERT INTO {side} (row, value, ns) VALUES (?1, ?2, ?3)"))?;
            for value in values {
                insert.execute((row, value, ns)).map_err(sql("apply"))?;
            }
        }
    }
    Ok(())
}

fn stream(connection: &Connection, ns: i64, change: &StreamMutation) -> Result<i64> {
    let (head, oldest) = (signed(change.head), signed(change.oldest));
    let (position, time) = (signed(change.position.0), change.time.as_micros());
    if let Some(before) = &change.before {
        cached(connection, "UPDATE streams SET head = ?2, oldest = ?3, sealed = ?4, position = ?5, time = ?6 WHERE id = ?1")?
            .execute((before.handle, head, oldest, change.sealed, position, time))
            .map_err(sql("apply"))?;
        return Ok(before.handle);
    }
    cached(
        connection,
        "INSERT INTO streams (ns, name, head, oldest, sealed, position, time) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((ns, change.stream.as_str(), head, oldest, change.sealed, position, time))
    .map_err(sql("apply"))?;
    Ok(connection.last_insert_rowid())
}

fn events<'m>(
    connection: &Connection,
    row: &NamespaceRow,
    handles: &[i64],
    events: impl Iterator<Item = &'m EventMutation>,
) -> Result<()> {
    let mut events = events.peekable();
    if events.peek().is_none() {
        return Ok(());
    }
    let mut insert = cached(
        connection,
        "INSERT INTO events (row, stream, sequence, id, type, time, correlation, agent, source, labels, data) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for EventMutation { stream, event } in events {
        let handle = handles.get(*stream).ok_or_else(|| Error::corrupt("an event names a stream that is not in the plan"))?;
        let labels = if event.labels.is_empty() { None } else { Some(Json::of(&event.labels)?) };
        insert
            .execute(params![
                row.row_of(event.position),
                handle,
                signed(event.sequence),
                event.id,
                event.kind,
                event.time.as_micros(),
                event.correlation,
                event.agent,
                event.source,
                labels.as_ref().map(Json::as_str),
                event.data.as_str(),
            ])
            .map_err(sql("apply"))?;
    }
    Ok(())
}

fn trim(connection: &Connection, ns: i64, stream: i64, oldest: u64) -> Result<()> {
    const MASK: i64 = (1 << crate::schema::POSITION_BITS) - 1;
    // The order of rows is the order of sequences, so the first row to keep bounds what goes.
    let last: Option<i64> = cached(connection, "SELECT max(row) FROM events WHERE stream = ?1 AND sequence < ?2")?
        .query_row((stream, signed(oldest)), |r| r.get(0))
        .map_err(sql("apply"))?;
    let Some(last) = last else { return Ok(()) };
    cached(connection, "DELETE FROM events WHERE stream = ?1 AND row <= ?2")?.execute((stream, last)).map_err(sql("apply"))?;
    raise_trimmed(connection, ns, stream, last & MASK)
}

/// Remembers that the event at this position is gone, so that cursors before it are refused.
fn raise_trimmed(connection: &Connection, ns: i64, stream: i64, position: i64) -> Result<()> {
    for (text, row) in [
        ("UPDATE streams SET trimmed_position = max(trimmed_position, ?2) WHERE id = ?1", stream),
        ("UPDATE namespaces SET trimmed_position = max(trimmed_position, ?2) WHERE id = ?1", ns),
    ] {
        cached(connection, text)?.execute((row, position)).map_err(sql("apply"))?;
    }
    Ok(())
}

fn receipts(connection: &Connection, ns: i64, receipts: &[StoredReceipt]) -> Result<()> {
    if receipts.is_empty() {
        return Ok(());
    }
    let mut insert = cached(
        connection,
        "INSERT INTO commits (ns, id, position, time, digest, revisions, sequences) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for StoredReceipt { digest, receipt } in receipts {
        let json = |e: serde_json::Error| Error::invalid("a receipt cannot be written as JSON").with_source(e);
        let revisions = serde_json::to_string(&receipt.revisions).map_err(json)?;
        let sequences = serde_json::to_string(&receipt.sequences).map_err(json)?;
        insert
            .execute(params![
                ns,
                &receipt.id.as_bytes()[..],
                signed(receipt.position.0),
                receipt.time.as_micros(),
                &digest[..],
                revisions,
                sequences
            ])
            .map_err(sql("apply"))?;
    }
    Ok(())
}
