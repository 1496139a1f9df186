//! One read as statements and what is made of their rows. All statements of one call go out together.

use std::sync::Arc;

use millpond_core::{
    Answer, CollectionInfo, CollectionName, Json, Key, Position, Read, Record, RecordId, Result, StreamInfo, StreamName,
    Timestamp,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Error as PgError, Row};

use crate::arrays::JsonColumn;
use crate::call::Call;
use crate::catalog::Schema;
use crate::errors::unreadable;
use crate::query::prefix_end;
use crate::table::Table;
use crate::{events, query};

type Answering = Box<dyn FnOnce(Vec<Vec<Row>>) -> Result<Answer> + Send>;

/// What a read asks of the server, and what makes an answer of the rows.
pub(crate) struct Question {
    pub(crate) calls: Vec<Call<'static>>,
    answer: Answering,
}

impl Question {
    pub(crate) fn new(calls: Vec<Call<'static>>, answer: impl FnOnce(Vec<Vec<Row>>) -> Result<Answer> + Send + 'static) -> Self {
        Self { calls, answer: Box::new(answer) }
    }

    /// A read of a namespace with these declarations.
    pub(crate) fn of(schema: &Schema, read: &Read) -> Result<Self> {
        let ns = schema.ns;
        match read {
            Read::Get(id) => Ok(get(schema, id)),
            Read::Query(q) => query::page(ns, schema, q),
            Read::Count(q) => query::count(ns, schema, q),
            Read::GroupBy { query, field, bucket, measure } => {
                query::group_by(ns, schema, query, field, *bucket, measure.as_deref())
            }
            Read::Stream(name) => Ok(stream(ns, name)),
            Read::Streams { prefix, after, limit } => streams(ns, prefix, after.as_ref(), *limit),
            Read::Events(q) => events::page(ns, q),
            Read::EventGroups { filter, by, limit } => events::groups(ns, filter, *by, *limit),
            Read::Collections => Ok(collections(schema)),
        }
    }

    /// Makes the answer of this question's own rows.
    pub(crate) fn answer(self, rows: Vec<Vec<Row>>) -> Result<Answer> {
        (self.answer)(rows)
    }
}

/// The statement that reads a record by key.
pub(crate) fn get_call(ns: i64, table: &Table, key: &Key) -> Call<'static> {
    let call = Call::often(table.get.clone()).with(Type::INT8, ns).with(Type::TEXT, key.as_str().to_owned());
    if table.is_declared() { call } else { call.with(Type::TEXT, table.collection.as_str().to_owned()) }
}

fn get(schema: &Schema, id: &RecordId) -> Question {
    let call = get_call(schema.ns, &schema.table(&id.collection), &id.key);
    let id = id.clone();
    Question::new(vec![call], move |answers| {
        let row = answers.first().and_then(|rows| rows.first());
        row.map(|r| record(r, &id)).transpose().map(Answer::Record)
    })
}

/// The record of a row of [`get_call`].
pub(crate) fn record(row: &Row, id: &RecordId) -> Result<Record> {
    let read = || -> Result<Record, PgError> {
        Ok(Record {
            collection: id.collection.clone(),
            key: id.key.clone(),
            revision: row.try_get::<_, i64>(0)?.cast_unsigned(),
            position: Position(row.try_get::<_, i64>(1)?.cast_unsigned()),
            time: Timestamp::from_micros(row.try_get(2)?),
            by: row.try_get(3)?,
            value: Json::from_store(row.try_get::<_, JsonColumn<'_>>(4)?.0),
        })
    };
    read().map_err(unreadable("records")).map_err(|e| e.with("record", id))
}

macro_rules! stream_columns {
    () => {
        "SELECT name, head, oldest, sealed, position, time FROM streams WHERE ns = $1"
    };
}

fn stream_info(row: &Row) -> Result<StreamInfo, PgError> {
    Ok(StreamInfo {
        stream: StreamName::from_store(row.try_get::<_, &str>(0)?),
        head: row.try_get::<_, i64>(1)?.cast_unsigned(),
        oldest: row.try_get::<_, i64>(2)?.cast_unsigned(),
        sealed: row.try_get(3)?,
        position: Position(row.try_get::<_, i64>(4)?.cast_unsigned()),
        time: Timestamp::from_micros(row.try_get(5)?),
    })
}

fn stream(ns: i64, name: &StreamName) -> Question {
    let call = Call::often(concat!(stream_columns!(), " AND name = $2"));
    let call = call.with(Type::INT8, ns).with(Type::TEXT, name.as_str().to_owned());
    Question::new(vec![call], |answers| {
        let row = answers.first().and_then(|rows| rows.first());
        row.map(stream_info).transpose().map(Answer::Stream).map_err(unreadable("streams"))
    })
}

fn streams(ns: i64, prefix: &str, after: Option<&StreamName>, limit: usize) -> Result<Question> {
    query::check_limit(limit)?;
    let mut call = Call::once("").with(Type::INT8, ns).with(Type::TEXT, prefix.to_owned());
    let mut text = concat!(stream_columns!(), " AND oldest <= head AND name >= $2").to_owned();
    if let Some(end) = prefix_end(prefix) {
        text.push_str(&format!(" AND name < {}", call.bind(Type::TEXT, end)));
    }
    if let Some(after) = after {
        text.push_str(&format!(" AND name > {}", call.bind(Type::TEXT, after.as_str().to_owned())));
    }
    text.push_str(&format!(" ORDER BY name LIMIT {limit}"));
    Ok(Question::new(vec![call.say(text)], |answers| {
        let all = answers.into_iter().flatten().map(|row| stream_info(&row));
        all.collect::<Result<Vec<_>, _>>().map(Answer::Streams).map_err(unreadable("streams"))
    }))
}

fn collections(schema: &Schema) -> Question {
    let declared: Vec<Arc<Table>> = schema.declared().cloned().collect();
    let count =
        |table: &Arc<Table>| Call::once(format!("SELECT count(*) FROM {} WHERE ns = $1", table.name)).with(Type::INT8, schema.ns);
    let mut calls: Vec<_> = declared.iter().map(count).collect();
    let undeclared = "SELECT count(*), collection FROM records WHERE ns = $1 GROUP BY collection";
    calls.push(Call::once(undeclared).with(Type::INT8, schema.ns));
    Question::new(calls, move |answers| {
        let mut found = Vec::new();
        for (at, rows) in answers.into_iter().enumerate() {
            for row in rows {
                let read = || Ok((row.try_get::<_, i64>(0)?, declared.get(at)));
                let (records, table) = read().map_err(unreadable("collections"))?;
                let name = match table {
                    Some(table) => table.collection.clone(),
                    None => CollectionName::from_store(row.try_get::<_, &str>(1).map_err(unreadable("records"))?),
                };
                found.push(CollectionInfo { name, declared: table.is_some(), records: records.cast_unsigned() });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Answer::Collections(found))
    })
}
