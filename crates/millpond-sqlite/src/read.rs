//! Answers one read from the snapshot a connection stands on.

use millpond_core::{
    Answer, CollectionInfo, CollectionName, Error, Json, Position, Read, Record, RecordId, Result, StreamInfo, StreamName,
    Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::catalog::Schema;
use crate::errors::sql;
use crate::namespaces::NamespaceRow;
use crate::query::{prefix_end, run};
use crate::{events, query};

/// Answers a read.
pub(crate) fn answer(connection: &Connection, ns: &NamespaceRow, schema: &Schema, read: &Read) -> Result<Answer> {
    Ok(match read {
        Read::Get(id) => Answer::Record(get(connection, ns.id, schema, id)?),
        Read::Query(q) => Answer::Page(query::page(connection, ns.id, schema, q)?),
        Read::Count(q) => Answer::Count(query::count(connection, ns.id, schema, q)?),
        Read::GroupBy { query, field, bucket, measure } => {
            Answer::Groups(query::group_by(connection, ns.id, schema, query, field, *bucket, measure.as_deref())?)
        }
        Read::Stream(name) => Answer::Stream(stream(connection, ns.id, name)?),
        Read::Streams { prefix, after, limit } => Answer::Streams(streams(connection, ns.id, prefix, after.as_ref(), *limit)?),
        Read::Events(q) => Answer::Events(events::page(connection, ns, q)?),
        Read::EventGroups { filter, by, limit } => Answer::EventGroups(events::groups(connection, ns, filter, *by, *limit)?),
        Read::Collections => Answer::Collections(collections(connection, ns.id, schema)?),
    })
}

/// A record by key.
pub(crate) fn get(connection: &Connection, ns: i64, schema: &Schema, id: &RecordId) -> Result<Option<Record>> {
    let table = schema.table(&id.collection);
    connection
        .prepare_cached(&table.get_record)
        .and_then(|mut s| s.query_row((ns, id.key.as_str()), |r| record(r, id)).optional())
        .map_err(|e| damaged_or_sql(e, id))
}

fn record(row: &Row<'_>, id: &RecordId) -> rusqlite::Result<Record> {
    Ok(Record {
        collection: id.collection.clone(),
        key: id.key.clone(),
        revision: row.get::<_, i64>(0)?.cast_unsigned(),
        position: Position(row.get::<_, i64>(1)?.cast_unsigned()),
        time: Timestamp::from_micros(row.get(2)?),
        by: row.get(3)?,
        value: Json::from_store(whole(row.get_ref(4)?.as_str()?)?),
    })
}

/// The document, if it looks whole. A read by key must stay fast, so what opens and closes like an object or a list is
/// taken as one. Whoever asked parses it: [`millpond_core::Store::get`] does where no type is read from it at once. Pages,
/// feeds and checks look inside.
fn whole(doc: &str) -> rusqlite::Result<&str> {
    match (doc.as_bytes().first(), doc.as_bytes().last()) {
        (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) if doc.len() > 1 => Ok(doc),
        _ => Json::from_store(doc)
            .check_text()
            .map(|()| doc)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, Box::new(e))),
    }
}

fn damaged_or_sql(error: rusqlite::Error, id: &RecordId) -> Error {
    match error {
        rusqlite::Error::SqliteFailure(..) => sql("get")(error),
        other => Error::corrupt(format!("record {id} does not read back")).with_source(other),
    }
}

const STREAM_COLUMNS: &str = "name, head, oldest, sealed, position, time";

fn stream_info(row: &Row<'_>) -> rusqlite::Result<StreamInfo> {
    Ok(StreamInfo {
        stream: StreamName::from_store(row.get::<_, String>(0)?),
        head: row.get::<_, i64>(1)?.cast_unsigned(),
        oldest: row.get::<_, i64>(2)?.cast_unsigned(),
        sealed: row.get(3)?,
        position: Position(row.get::<_, i64>(4)?.cast_unsigned()),
        time: Timestamp::from_micros(row.get(5)?),
    })
}

fn stream(connection: &Connection, ns: i64, name: &StreamName) -> Result<Option<StreamInfo>> {
    connection
        .prepare_cached(&format!("SELECT {STREAM_COLUMNS} FROM streams WHERE ns = ?1 AND name = ?2"))
        .and_then(|mut s| s.query_row((ns, name.as_str()), stream_info).optional())
        .map_err(sql("stream"))
}

fn streams(connection: &Connection, ns: i64, prefix: &str, after: Option<&StreamName>, limit: usize) -> Result<Vec<StreamInfo>> {
    query::check_limit(limit)?;
    let mut text = format!("SELECT {STREAM_COLUMNS} FROM streams WHERE ns = ?1 AND oldest <= head AND name >= ?2");
    let mut values: Vec<Box<dyn rusqlite::ToSql>> = vec![Box::new(ns), Box::new(prefix.to_owned())];
    if let Some(end) = prefix_end(prefix) {
        values.push(Box::new(end));
        text.push_str(&format!(" AND name < ?{}", values.len()));
    }
    if let Some(after) = after {
        values.push(Box::new(after.as_str().to_owned()));
        text.push_str(&format!(" AND name > ?{}", values.len()));
    }
    text.push_str(&format!(" ORDER BY name LIMIT {limit}"));
    run(connection, &text, &values, stream_info)
}

fn collections(connection: &Connection, ns: i64, schema: &Schema) -> Result<Vec<CollectionInfo>> {
    let mut found = Vec::new();
    for table in schema.declared() {
        let count: i64 = connection
            .prepare_cached(&format!("SELECT count(*) FROM {} WHERE ns = ?1", table.name))
            .and_then(|mut s| s.query_row([ns], |r| r.get(0)))
            .map_err(sql("collections"))?;
        found.push(CollectionInfo { name: table.collection.clone(), declared: true, records: count.cast_unsigned() });
    }
    let undeclared = "SELECT collection, count(*) FROM records WHERE ns = ?1 GROUP BY collection";
    found.extend(run(connection, undeclared, &[Box::new(ns)], |r| {
        Ok(CollectionInfo {
            name: CollectionName::from_store(r.get::<_, String>(0)?),
            declared: false,
            records: r.get::<_, i64>(1)?.cast_unsigned(),
        })
    })?);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
