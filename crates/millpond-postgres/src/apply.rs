//! A plan's mutations as statements: one for all that is new, and one for each kind of what else there is. No rule lives here.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond_core::plan::{EventMutation, Mutations, RecordMutation, RecordState, StoredReceipt, StreamMutation};
use millpond_core::{Error, FieldValue, Json, Result};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::arrays::{Column, JsonText, sparse};
use crate::call::{Call, at_once};
use crate::catalog::Schema;
use crate::namespaces::NamespaceRow;
use crate::table::{Slot, Table, delete_found};

const TOMBSTONES: &str = "INSERT INTO tombstones (ns, collection, key, revision, position, time, by) \
     SELECT $1, u.* FROM unnest($2::text[], $3::text[], $4::int8[], $5::int8[], $6::int8[], $7::text[]) u \
     ON CONFLICT (ns, collection, key) DO UPDATE SET revision = excluded.revision, position = excluded.position, \
     time = excluded.time, by = excluded.by";
const STREAMS: &str = "INSERT INTO streams (ns, id, name, head, oldest, sealed, position, time) \
     SELECT $1, u.* FROM unnest($2::int8[], $3::text[], $4::int8[], $5::int8[], $6::bool[], $7::int8[], $8::int8[]) u \
     ON CONFLICT (ns, name) DO UPDATE SET head = excluded.head, oldest = excluded.oldest, sealed = excluded.sealed, \
     position = excluded.position, time = excluded.time";
const EVENTS: &str = "INSERT INTO events (ns, position, stream, sequence, id, type, time, correlation, agent, source, labels, data) \
     SELECT $1, u.position, u.stream, u.sequence, u.id, u.type, u.time, u.correlation, u.agent, u.source, u.labels::jsonb, u.data \
     FROM unnest($2::int8[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::int8[], $8::text[], $9::text[], $10::text[], \
     $11::text[], $12::json[]) u(position, stream, sequence, id, type, time, correlation, agent, source, labels, data)";
/// Events of one stream before a sequence go. Sequences follow positions, so the first event kept bounds those that go.
const TRIM: &str = "WITH gone AS (DELETE FROM events WHERE ns = $1 AND stream = $2 AND position < coalesce((SELECT k.position \
       FROM events k WHERE k.ns = $1 AND k.stream = $2 AND k.sequence >= $3 ORDER BY k.position LIMIT 1), 9223372036854775807) \
       RETURNING position), \
     last AS (SELECT max(position) AS position FROM gone), \
     marked AS (UPDATE streams SET trimmed_position = greatest(trimmed_position, last.position) FROM last \
       WHERE ns = $1 AND id = $2 AND last.position IS NOT NULL) \
     UPDATE namespaces SET trimmed_position = greatest(trimmed_position, last.position) FROM last \
       WHERE id = $1 AND last.position IS NOT NULL";
/// Events that are trimmed by the batch that appends them are never stored, and yet are gone.
const GONE: &str = "WITH marked AS (UPDATE streams SET trimmed_position = greatest(trimmed_position, $3) WHERE ns = $1 AND id = $2) \
     UPDATE namespaces SET trimmed_position = greatest(trimmed_position, $3) WHERE id = $1";
const RECEIPTS: &str = "INSERT INTO commits (ns, id, position, time, digest, revisions, sequences) \
     SELECT $1, u.id, u.position, u.time, u.digest, u.revisions::json, u.sequences::json \
     FROM unnest($2::uuid[], $3::int8[], $4::int8[], $5::bytea[], $6::text[], $7::text[]) u(id, position, time, digest, revisions, sequences)";
const HEAD: &str =
    "UPDATE namespaces SET position = $2, time = $3, streams = $4, has_tombstones = has_tombstones OR $5 WHERE id = $1";

fn signed(n: u64) -> i64 {
    n.cast_signed()
}

/// The statements that apply everything, in their order.
///
/// Where nothing is removed, no set is kept and one collection is written, that is one statement; the last one always holds the
/// receipts and the namespace's row, and whatever needs nothing that goes before.
pub(crate) fn calls<'m>(row: &NamespaceRow, schema: &Schema, changes: &'m Mutations) -> Result<Vec<Call<'m>>> {
    if i64::try_from(changes.namespace.position.0).is_err() {
        return Err(Error::unavailable("the namespace has used up its positions").with_next("go on in a new namespace"));
    }
    let Written { mut calls, mut last } = records(row.id, schema, &changes.records)?;
    let (handles, streams) = number(row.streams, &changes.streams);
    let handle = |e: &EventMutation| {
        handles.get(e.stream).copied().ok_or_else(|| Error::corrupt("an event names a stream that is not in the plan"))
    };
    let trims = trims(row.id, &handles, changes, &handle)?;
    if !changes.streams.is_empty() {
        // A trim notes itself in the stream's row.
        let rows = if trims.is_empty() { &mut last } else { &mut calls };
        rows.push(stream_rows(row.id, &handles, &changes.streams));
    }
    // Trims come before events: one of this batch may carry the id of an event that this batch trims.
    calls.extend(trims);
    let stored: Vec<&EventMutation> = changes.events.iter().filter(|e| kept(changes, e)).collect();
    if !stored.is_empty() {
        last.push(events(row.id, &stored, &handle)?);
    }
    if !changes.receipts.is_empty() {
        last.push(receipts(row.id, &changes.receipts)?);
    }
    last.push(
        Call::often(HEAD)
            .with(Type::INT8, row.id)
            .with(Type::INT8, signed(changes.namespace.position.0))
            .with(Type::INT8, changes.namespace.time.as_micros())
            .with(Type::INT8, streams)
            .with(Type::BOOL, changes.records.iter().any(|r| r.after.is_none())),
    );
    calls.extend(at_once(last));
    Ok(calls)
}

/// Whether the batch itself does not trim the event.
fn kept(changes: &Mutations, event: &EventMutation) -> bool {
    changes.streams.get(event.stream).is_none_or(|s| event.event.sequence >= s.oldest)
}

/// Events that go, and where those stood that are trimmed before they were stored.
fn trims<'m>(
    ns: i64,
    handles: &[i64],
    changes: &Mutations,
    handle: &dyn Fn(&EventMutation) -> Result<i64>,
) -> Result<Vec<Call<'m>>> {
    let mut calls = Vec::new();
    for (change, handle) in changes.streams.iter().zip(handles) {
        let oldest_before = change.before.as_ref().map_or(1, |s| s.oldest);
        if change.oldest > oldest_before {
            calls.push(three(TRIM, ns, *handle, signed(change.oldest)));
        }
    }
    let mut gone: BTreeMap<i64, i64> = BTreeMap::new();
    for event in changes.events.iter().filter(|e| !kept(changes, e)) {
        let last = gone.entry(handle(event)?).or_default();
        *last = (*last).max(signed(event.event.position.0));
    }
    calls.extend(gone.into_iter().map(|(stream, last)| three(GONE, ns, stream, last)));
    Ok(calls)
}

fn three(text: &'static str, ns: i64, second: i64, third: i64) -> Call<'static> {
    Call::often(text).with(Type::INT8, ns).with(Type::INT8, second).with(Type::INT8, third)
}

/// A record as its table takes it.
pub(crate) struct Put<'m> {
    pub(crate) collection: &'m str,
    pub(crate) key: &'m str,
    pub(crate) row: i64,
    pub(crate) revision: i64,
    pub(crate) position: i64,
    pub(crate) time: i64,
    pub(crate) by: Option<&'m str>,
    pub(crate) doc: &'m str,
    pub(crate) fields: &'m [FieldValue],
    /// There was a record before: values of its sets go first.
    pub(crate) replaces: bool,
}

#[derive(Default)]
struct OfTable<'m> {
    puts: Vec<Put<'m>>,
    deletes: Vec<(&'m RecordMutation, Option<i64>)>,
}

/// The statements of a batch: some in their order, and some that need nothing but those.
struct Written<'m> {
    calls: Vec<Call<'m>>,
    last: Vec<Call<'m>>,
}

fn records<'m>(ns: i64, schema: &Schema, changes: &'m [RecordMutation]) -> Result<Written<'m>> {
    let mut tables: BTreeMap<&str, (Arc<Table>, OfTable<'m>)> = BTreeMap::new();
    let (mut forgotten, mut buried) = (Vec::new(), Vec::new());
    for change in changes {
        let table = schema.table(&change.record.collection);
        let name = if table.is_declared() { change.record.collection.as_str() } else { "" };
        let of = &mut tables.entry(name).or_insert_with(|| (table, OfTable::default())).1;
        let live = if let RecordState::Live { handle, .. } = &change.before { Some(*handle) } else { None };
        match &change.after {
            Some((doc, fields)) => {
                if matches!(change.before, RecordState::Gone { .. }) {
                    forgotten.push(change);
                }
                of.puts.push(Put {
                    collection: change.record.collection.as_str(),
                    key: change.record.key.as_str(),
                    row: live.unwrap_or(signed(change.position.0)),
                    revision: signed(change.revision),
                    position: signed(change.position.0),
                    time: change.time.as_micros(),
                    by: change.by.as_deref(),
                    doc: doc.as_str(),
                    fields,
                    replaces: live.is_some(),
                });
            }
            None => {
                if live.is_some() {
                    of.deletes.push((change, live));
                }
                buried.push(change);
            }
        }
    }
    let (mut calls, mut last) = (Vec::new(), Vec::new());
    for (table, of) in tables.into_values() {
        let removed: Vec<i64> = of.deletes.iter().filter_map(|(_, row)| *row).collect();
        if !of.deletes.is_empty() {
            calls.push(deletes(ns, &table, &of.deletes));
        }
        calls.extend(set_values(ns, &table, &of.puts, removed));
        // Only one table's, so that the last statement has few forms: each connection plans and keeps all it meets.
        calls.append(&mut last);
        last = rows(ns, &table, &of.puts)?;
    }
    if !forgotten.is_empty() {
        let keys = "unnest($2::text[], $3::text[]) k(collection, key)";
        let text = delete_found("tombstones", keys, "t.ns = $1 AND t.collection = k.collection AND t.key = k.key");
        calls.push(keyed(Call::often(text).with(Type::INT8, ns), &forgotten));
    }
    if !buried.is_empty() {
        calls.push(
            keyed(Call::often(TOMBSTONES).with(Type::INT8, ns), &buried)
                .with(Type::INT8_ARRAY, buried.iter().map(|c| signed(c.revision)).collect::<Vec<_>>())
                .with(Type::INT8_ARRAY, buried.iter().map(|c| signed(c.position.0)).collect::<Vec<_>>())
                .with(Type::INT8_ARRAY, buried.iter().map(|c| c.time.as_micros()).collect::<Vec<_>>())
                .with(Type::TEXT_ARRAY, buried.iter().map(|c| c.by.as_deref()).collect::<Vec<_>>()),
        );
    }
    Ok(Written { calls, last })
}

/// Adds the collections and the keys of records to a statement's values.
fn keyed<'m>(call: Call<'m>, changes: &[&'m RecordMutation]) -> Call<'m> {
    call.with(Type::TEXT_ARRAY, changes.iter().map(|c| c.record.collection.as_str()).collect::<Vec<_>>())
        .with(Type::TEXT_ARRAY, changes.iter().map(|c| c.record.key.as_str()).collect::<Vec<_>>())
}

fn deletes<'m>(ns: i64, table: &Table, deletes: &[(&'m RecordMutation, Option<i64>)]) -> Call<'m> {
    let mut call = Call::often(table.delete.clone()).with(Type::INT8, ns);
    if !table.is_declared() {
        call.bind(Type::TEXT_ARRAY, deletes.iter().map(|(c, _)| c.record.collection.as_str()).collect::<Vec<_>>());
    }
    call.with(Type::TEXT_ARRAY, deletes.iter().map(|(c, _)| c.record.key.as_str()).collect::<Vec<_>>())
}

/// Writes rows of one table and the values of their sets.
pub(crate) fn put<'m>(ns: i64, table: &Table, puts: &[Put<'m>]) -> Result<Vec<Call<'m>>> {
    let mut calls = set_values(ns, table, puts, Vec::new());
    calls.extend(rows(ns, table, puts)?);
    Ok(calls)
}

/// Writes rows of one table: those that are new, and those that are there.
fn rows<'m>(ns: i64, table: &Table, puts: &[Put<'m>]) -> Result<Vec<Call<'m>>> {
    let (changed, new): (Vec<&Put<'m>>, Vec<&Put<'m>>) = puts.iter().partition(|p| p.replaces);
    let mut calls = Vec::new();
    for (text, puts) in [(&table.insert, new), (&table.change, changed)] {
        if !puts.is_empty() {
            calls.push(put_rows(ns, table, text, &puts)?);
        }
    }
    Ok(calls)
}

/// Writes the values of sets. `removed` are rows that are gone, whose values go, too.
fn set_values<'m>(ns: i64, table: &Table, puts: &[Put<'m>], removed: Vec<i64>) -> Vec<Call<'m>> {
    let mut calls = Vec::new();
    let mut stale = removed;
    stale.extend(puts.iter().filter(|p| p.replaces).map(|p| p.row));
    for side in &table.sides {
        if !stale.is_empty() {
            calls.push(Call::often(side.delete.clone()).with(Type::INT8, ns).with(Type::INT8_ARRAY, stale.clone()));
        }
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        for put in puts {
            if let Some(FieldValue::Set(set)) = put.fields.get(side.field) {
                rows.extend(set.iter().map(|_| put.row));
                values.extend(set.iter().map(String::as_str));
            }
        }
        if !rows.is_empty() {
            let insert = Call::often(side.insert.clone()).with(Type::INT8, ns);
            calls.push(insert.with(Type::INT8_ARRAY, rows).with(Type::TEXT_ARRAY, values));
        }
    }
    calls
}

fn put_rows<'m>(ns: i64, table: &Table, text: &str, puts: &[&Put<'m>]) -> Result<Call<'m>> {
    let mut call = Call::often(text.to_owned()).with(Type::INT8, ns);
    if !table.is_declared() {
        call.bind(Type::TEXT_ARRAY, puts.iter().map(|p| p.collection).collect::<Vec<_>>());
    }
    call = call
        .with(Type::TEXT_ARRAY, puts.iter().map(|p| p.key).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, puts.iter().map(|p| p.row).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, puts.iter().map(|p| p.revision).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, puts.iter().map(|p| p.position).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, puts.iter().map(|p| p.time).collect::<Vec<_>>())
        .with(Type::TEXT_ARRAY, sparse(puts.iter().map(|p| p.by)))
        .with(Type::JSON_ARRAY, puts.iter().map(|p| JsonText(p.doc)).collect::<Vec<_>>());
    let Some(spec) = &table.spec else { return Ok(call) };
    for (at, (slot, field)) in table.slots.iter().zip(&spec.fields).enumerate() {
        if matches!(slot, Slot::Side(_)) {
            continue;
        }
        let mut column = Column::of(field.kind, puts.len());
        for put in puts {
            let value = put.fields.get(at);
            column.push(value.ok_or_else(|| {
                Error::corrupt(format!(
                    "{}/{}: {} index fields for {} slots",
                    spec.name,
                    put.key,
                    put.fields.len(),
                    table.slots.len()
                ))
            })?);
        }
        call = column.bind(call);
    }
    Ok(call)
}

/// The number of each stream, and the namespace's last one after.
fn number(made: i64, changes: &[StreamMutation]) -> (Vec<i64>, i64) {
    let mut last = made;
    let handles = changes.iter().map(|change| match &change.before {
        Some(before) => before.handle,
        None => {
            last += 1;
            last
        }
    });
    (handles.collect(), last)
}

fn stream_rows<'m>(ns: i64, handles: &[i64], changes: &'m [StreamMutation]) -> Call<'m> {
    Call::often(STREAMS)
        .with(Type::INT8, ns)
        .with(Type::INT8_ARRAY, handles.to_vec())
        .with(Type::TEXT_ARRAY, changes.iter().map(|c| c.stream.as_str()).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, changes.iter().map(|c| signed(c.head)).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, changes.iter().map(|c| signed(c.oldest)).collect::<Vec<_>>())
        .with(Type::BOOL_ARRAY, changes.iter().map(|c| c.sealed).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, changes.iter().map(|c| signed(c.position.0)).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, changes.iter().map(|c| c.time.as_micros()).collect::<Vec<_>>())
}

fn events<'m>(ns: i64, events: &[&'m EventMutation], handle: &dyn Fn(&EventMutation) -> Result<i64>) -> Result<Call<'m>> {
    let labels = |e: &&EventMutation| {
        let labels = &e.event.labels;
        if labels.is_empty() { Ok(None) } else { Json::of(labels).map(|j| Some(j.as_str().to_owned())) }
    };
    let all = || events.iter().map(|e| &e.event);
    Ok(Call::often(EVENTS)
        .with(Type::INT8, ns)
        .with(Type::INT8_ARRAY, all().map(|e| signed(e.position.0)).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, events.iter().map(|e| handle(e)).collect::<Result<Vec<_>>>()?)
        .with(Type::INT8_ARRAY, all().map(|e| signed(e.sequence)).collect::<Vec<_>>())
        .with(Type::TEXT_ARRAY, sparse(all().map(|e| e.id.as_deref())))
        .with(Type::TEXT_ARRAY, all().map(|e| e.kind.as_str()).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, all().map(|e| e.time.as_micros()).collect::<Vec<_>>())
        .with(Type::TEXT_ARRAY, sparse(all().map(|e| e.correlation.as_deref())))
        .with(Type::TEXT_ARRAY, sparse(all().map(|e| e.agent.as_deref())))
        .with(Type::TEXT_ARRAY, sparse(all().map(|e| e.source.as_deref())))
        .with(Type::TEXT_ARRAY, sparse(events.iter().map(labels).collect::<Result<Vec<_>>>()?))
        .with(Type::JSON_ARRAY, all().map(|e| JsonText(e.data.as_str())).collect::<Vec<_>>()))
}

fn receipts(ns: i64, receipts: &[StoredReceipt]) -> Result<Call<'_>> {
    let text = |e| Error::corrupt("a receipt is not JSON").with_source(e);
    let mut revisions: Vec<String> = Vec::with_capacity(receipts.len());
    let mut sequences: Vec<String> = Vec::with_capacity(receipts.len());
    for stored in receipts {
        revisions.push(serde_json::to_string(&stored.receipt.revisions).map_err(text)?);
        sequences.push(serde_json::to_string(&stored.receipt.sequences).map_err(text)?);
    }
    Ok(Call::often(RECEIPTS)
        .with(Type::INT8, ns)
        .with(Type::UUID_ARRAY, receipts.iter().map(|s| Uuid::from_bytes(*s.receipt.id.as_bytes())).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, receipts.iter().map(|s| signed(s.receipt.position.0)).collect::<Vec<_>>())
        .with(Type::INT8_ARRAY, receipts.iter().map(|s| s.receipt.time.as_micros()).collect::<Vec<_>>())
        .with(Type::BYTEA_ARRAY, receipts.iter().map(|s| &s.digest[..]).collect::<Vec<_>>())
        .with(Type::TEXT_ARRAY, revisions)
        .with(Type::TEXT_ARRAY, sequences))
}
