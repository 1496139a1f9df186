//! Applies a plan's mutations inside the write transaction. No rule lives here.

use millpond_core::plan::{EventMutation, Mutations, RecordMutation, RecordState, StoredReceipt, StreamMutation};
use millpond_core::{Error, FieldValue, Json, Result};
use rusqlite::{Statement, ToSql, params};

use crate::catalog::Schema;
use crate::errors::sql;
use crate::held::Held;
use crate::namespaces::NamespaceRow;
use crate::table::Table;

fn signed(n: u64) -> i64 {
    n.cast_signed()
}

const HEAD: &str = "UPDATE namespaces SET position = ?2, time = ?3 WHERE id = ?1";
const FORGET_TOMBSTONE: &str = "DELETE FROM tombstones WHERE row = ?1";
const TOMBSTONE: &str =
    "INSERT INTO tombstones (ns, collection, key, revision, position, time, by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const HAS_TOMBSTONES: &str = "UPDATE namespaces SET has_tombstones = 1 WHERE id = ?1";
const STREAM_CHANGED: &str = "UPDATE streams SET head = ?2, oldest = ?3, sealed = ?4, position = ?5, time = ?6 WHERE id = ?1";
const STREAM: &str = "INSERT INTO streams (ns, name, head, oldest, sealed, position, time) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const EVENT: &str = "INSERT INTO events (row, stream, sequence, id, type, time, correlation, agent, source, labels, data) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const RECEIPT: &str =
    "INSERT INTO commits (ns, id, position, time, digest, revisions, sequences) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// Applies everything.
pub(crate) fn mutations(held: &mut Held<'_>, row: &NamespaceRow, schema: &Schema, changes: &Mutations) -> Result<()> {
    if changes.namespace.position.0 >= 1 << crate::schema::POSITION_BITS {
        return Err(Error::unavailable("the namespace has used up its positions").with_next("go on in a new namespace"));
    }
    for change in &changes.records {
        record(held, row.id, schema, change)?;
    }
    if !row.has_tombstones && changes.records.iter().any(|r| r.after.is_none()) {
        held.get(HAS_TOMBSTONES)?.execute([row.id]).map_err(sql("apply"))?;
    }
    let mut handles = Vec::with_capacity(changes.streams.len());
    for change in &changes.streams {
        handles.push(stream(held, row.id, change)?);
    }
    // Trims come first: an event of this batch may carry the id of one that this batch trims.
    for (change, handle) in changes.streams.iter().zip(&handles) {
        let oldest_before = change.before.as_ref().map_or(1, |s| s.oldest);
        if change.oldest > oldest_before {
            trim(held, row.id, *handle, change.oldest)?;
        }
    }
    // Events that are trimmed in the batch that appends them are never stored.
    let kept = |e: &&EventMutation| changes.streams.get(e.stream).is_none_or(|s| e.event.sequence >= s.oldest);
    events(held, row, &handles, changes.events.iter().filter(kept))?;
    for gone in changes.events.iter().filter(|e| !kept(e)) {
        if let Some(handle) = handles.get(gone.stream) {
            raise_trimmed(held, row.id, *handle, signed(gone.event.position.0))?;
        }
    }
    receipts(held, row.id, &changes.receipts)?;
    let head = &changes.namespace;
    held.get(HEAD)?.execute((row.id, signed(head.position.0), head.time.as_micros())).map_err(sql("apply"))?;
    Ok(())
}

fn record(held: &mut Held<'_>, ns: i64, schema: &Schema, change: &RecordMutation) -> Result<()> {
    let table = schema.table(&change.record.collection);
    let (revision, position, time) = (signed(change.revision), signed(change.position.0), change.time.as_micros());
    let (key, by) = (change.record.key.as_str(), change.by.as_deref());
    match (&change.before, &change.after) {
        (RecordState::Live { handle, .. }, Some((doc, fields))) => {
            let update = held.get(&table.update)?;
            bind_record(update, &table, *handle, key, revision, position, time, by, doc.as_str(), fields)?;
            update.raw_execute().map_err(sql("apply"))?;
            write_sides(held, &table, ns, *handle, fields, true)
        }
        (before, Some((doc, fields))) => {
            if let RecordState::Gone { handle, .. } = before {
                held.get(FORGET_TOMBSTONE)?.execute([handle]).map_err(sql("apply"))?;
            }
            let insert = held.get(&table.insert)?;
            bind_record(insert, &table, ns, key, revision, position, time, by, doc.as_str(), fields)?;
            insert.raw_execute().map_err(sql("apply"))?;
            let row = held.connection().last_insert_rowid();
            write_sides(held, &table, ns, row, fields, false)
        }
        (before, None) => {
            match before {
                RecordState::Live { handle, .. } => {
                    held.get(&table.delete)?.execute([handle]).map_err(sql("apply"))?;
                    write_sides(held, &table, ns, *handle, &[], true)?;
                }
                RecordState::Gone { handle, .. } => {
                    held.get(FORGET_TOMBSTONE)?.execute([handle]).map_err(sql("apply"))?;
                }
                RecordState::Never => {}
            }
            let collection = change.record.collection.as_str();
            held.get(TOMBSTONE)?.execute(params![ns, collection, key, revision, position, time, by]).map_err(sql("apply"))?;
            Ok(())
        }
    }
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
    let columns = table.slots.len() - table.sides.len();
    let values: [&dyn ToSql; 7] = [&first, &key, &revision, &position, &time, &by, &doc];
    for (i, value) in values.into_iter().enumerate() {
        statement.raw_bind_parameter(i + 1, value).map_err(sql("apply"))?;
    }
    let mut bound = 0;
    for value in table.column_values(fields) {
        bound += 1;
        statement.raw_bind_parameter(values.len() + bound, value).map_err(sql("apply"))?;
    }
    if bound != columns {
        return Err(Error::corrupt(format!("{}/{key}: {bound} index fields for {columns} columns", table.collection)));
    }
    Ok(())
}

/// Writes the values of set fields; `replace` removes those that were there.
pub(crate) fn write_sides(
    held: &mut Held<'_>,
    table: &Table,
    ns: i64,
    row: i64,
    fields: &[FieldValue],
    replace: bool,
) -> Result<()> {
    for side in &table.sides {
        if replace {
            held.get(&side.delete)?.execute([row]).map_err(sql("apply"))?;
        }
        if let Some(FieldValue::Set(values)) = fields.get(side.field) {
            let insert = held.get(&side.insert)?;
            for value in values {
                insert.execute((row, value, ns)).map_err(sql("apply"))?;
            }
        }
    }
    Ok(())
}

fn stream(held: &mut Held<'_>, ns: i64, change: &StreamMutation) -> Result<i64> {
    let (head, oldest) = (signed(change.head), signed(change.oldest));
    let (position, time) = (signed(change.position.0), change.time.as_micros());
    if let Some(before) = &change.before {
        held.get(STREAM_CHANGED)?.execute((before.handle, head, oldest, change.sealed, position, time)).map_err(sql("apply"))?;
        return Ok(before.handle);
    }
    held.get(STREAM)?.execute((ns, change.stream.as_str(), head, oldest, change.sealed, position, time)).map_err(sql("apply"))?;
    Ok(held.connection().last_insert_rowid())
}

fn events<'m>(
    held: &mut Held<'_>,
    row: &NamespaceRow,
    handles: &[i64],
    events: impl Iterator<Item = &'m EventMutation>,
) -> Result<()> {
    let insert = held.get(EVENT)?;
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

fn trim(held: &mut Held<'_>, ns: i64, stream: i64, oldest: u64) -> Result<()> {
    const MASK: i64 = (1 << crate::schema::POSITION_BITS) - 1;
    // The order of rows is the order of sequences, so the last row to go bounds all that go.
    let last: Option<i64> = held
        .get("SELECT max(row) FROM events WHERE stream = ?1 AND sequence < ?2")?
        .query_row((stream, signed(oldest)), |r| r.get(0))
        .map_err(sql("apply"))?;
    let Some(last) = last else { return Ok(()) };
    held.get("DELETE FROM events WHERE stream = ?1 AND row <= ?2")?.execute((stream, last)).map_err(sql("apply"))?;
    raise_trimmed(held, ns, stream, last & MASK)
}

/// Remembers that the event at this position is gone, so that cursors before it are refused.
fn raise_trimmed(held: &mut Held<'_>, ns: i64, stream: i64, position: i64) -> Result<()> {
    for (text, row) in [
        ("UPDATE streams SET trimmed_position = max(trimmed_position, ?2) WHERE id = ?1", stream),
        ("UPDATE namespaces SET trimmed_position = max(trimmed_position, ?2) WHERE id = ?1", ns),
    ] {
        held.get(text)?.execute((row, position)).map_err(sql("apply"))?;
    }
    Ok(())
}

fn receipts(held: &mut Held<'_>, ns: i64, receipts: &[StoredReceipt]) -> Result<()> {
    let insert = held.get(RECEIPT)?;
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
