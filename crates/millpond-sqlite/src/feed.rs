//! Feeds: what happened after a position, in position order.

use millpond_core::{
    Change, CollectionName, Damaged, Deleted, Direction, Error, ErrorKind, EventFilter, FeedPage, FeedRequest, Json, Key,
    Namespace, Position, Record, Result, Selector, StreamSelect, Timestamp,
};
use rusqlite::{Connection, ToSql};

use crate::catalog::Schemas;
use crate::errors::sql;
use crate::events::{EventConditions, rows};
use crate::namespaces::{NamespaceRow, namespace_row};
use crate::query::{check_limit, prefix_end, run};

/// One page.
pub(crate) fn page(connection: &Connection, namespace: &Namespace, schemas: &Schemas, request: &FeedRequest) -> Result<FeedPage> {
    check_limit(request.limit)?;
    let ns = namespace_row(connection, namespace)?;
    if let Some(after) = request.after.filter(|p| p.0 > ns.position) {
        return Err(Error::new(
            ErrorKind::CursorExpired,
            format!("position {after} is beyond {}, the last one of this store: it may be a copy that went back", ns.position),
        )
        .with_next("start again from the oldest"));
    }
    match &request.selector {
        Selector::Events(filter) => events(connection, &ns, filter, request),
        Selector::Records { collection, key_prefix } => {
            let schema = schemas.of(connection, &ns)?;
            records(connection, &ns, &schema.table(collection), collection, key_prefix, request)
        }
    }
}

fn expired(after: Position, oldest: Position) -> Error {
    Error::new(ErrorKind::CursorExpired, format!("position {after} is before {oldest}, up to which the history was forgotten"))
        .with("oldest", oldest)
        .with_next("start again from the oldest")
}

fn events(connection: &Connection, ns: &NamespaceRow, filter: &EventFilter, request: &FeedRequest) -> Result<FeedPage> {
    if let Some(after) = request.after.filter(|p| p.0 < ns.trimmed_position) {
        let trimmed = trimmed(connection, ns.id, filter)?;
        if after < trimmed {
            return Err(expired(after, trimmed));
        }
    }
    let from = request.after.map_or(ns.base(), |p| ns.row_of(p));
    let conditions = EventConditions::new(connection, ns, filter, from, ns.end())?;
    let rows = rows(connection, conditions, Direction::Ascending, request.limit)?;
    let head = Position(ns.position);
    let next = if rows.more { rows.last.unwrap_or(head) } else { head };
    Ok(FeedPage { changes: rows.events.into_iter().map(Change::Event).collect(), next, head, damaged: rows.damaged })
}

/// The last position trimmed away from the streams a filter takes.
fn trimmed(connection: &Connection, ns: i64, filter: &EventFilter) -> Result<Position> {
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(ns)];
    let mut text = "SELECT coalesce(max(trimmed_position), 0) FROM streams WHERE ns = ?1".to_owned();
    match &filter.stream {
        None => {}
        Some(StreamSelect::Exactly(name)) => {
            values.push(Box::new(name.as_str().to_owned()));
            text.push_str(" AND name = ?2");
        }
        Some(StreamSelect::Prefix(prefix)) => {
            values.push(Box::new(prefix.clone()));
            text.push_str(" AND name >= ?2");
            if let Some(end) = prefix_end(prefix) {
                values.push(Box::new(end));
                text.push_str(" AND name < ?3");
            }
        }
    }
    let found = run(connection, &text, &values, |r| r.get::<_, i64>(0))?;
    Ok(Position(found.first().copied().unwrap_or(0).cast_unsigned()))
}

/// The last position among the purged tombstones of a collection.
fn purged(connection: &Connection, ns: i64, collection: &CollectionName) -> Result<Position> {
    let values: Vec<Box<dyn ToSql>> = vec![Box::new(ns), Box::new(collection.as_str().to_owned())];
    let text = "SELECT purged_position FROM collections WHERE ns = ?1 AND name = ?2";
    let found = run(connection, text, &values, |r| r.get::<_, i64>(0))?;
    Ok(Position(found.first().copied().unwrap_or(0).cast_unsigned()))
}

enum Found {
    Change(Change),
    Damaged(Damaged),
}

fn records(
    connection: &Connection,
    ns: &NamespaceRow,
    table: &crate::table::Table,
    collection: &CollectionName,
    key_prefix: &str,
    request: &FeedRequest,
) -> Result<FeedPage> {
    if let Some(after) = request.after.filter(|p| p.0 < ns.purged_position) {
        let purged = purged(connection, ns.id, collection)?;
        if after < purged {
            return Err(expired(after, purged));
        }
    }
    let after = request.after.unwrap_or_default();
    let scope = &table.scope;
    let tombstones = format!("ns = ?1 AND collection = '{collection}'");
    let live = format!("SELECT position, key, revision, time, by, doc FROM {} WHERE {scope}", table.name);
    let gone = format!("SELECT position, key, revision, time, by, NULL FROM tombstones WHERE {tombstones}");
    let mut found = Vec::new();
    for text in [live, gone] {
        found.extend(changes(connection, ns.id, &text, collection, key_prefix, after, request.limit)?);
    }
    found.sort_by_key(|(position, _)| *position);
    let head = Position(ns.position);
    // Either list may have been cut at the limit, but only beyond what is kept here.
    let more = found.len() > request.limit;
    found.truncate(request.limit);
    let last = found.last().map(|(p, _)| *p);
    let (mut list, mut damaged) = (Vec::new(), Vec::new());
    for (_, item) in found {
        match item {
            Found::Change(change) => list.push(change),
            Found::Damaged(d) => damaged.push(d),
        }
    }
    let next = if more { last.unwrap_or(head) } else { head };
    Ok(FeedPage { changes: list, next, head, damaged })
}

fn changes(
    connection: &Connection,
    ns: i64,
    select: &str,
    collection: &CollectionName,
    key_prefix: &str,
    after: Position,
    limit: usize,
) -> Result<Vec<(Position, Found)>> {
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(ns), Box::new(after.0.cast_signed())];
    let mut text = format!("{select} AND position > ?2");
    if !key_prefix.is_empty() {
        values.push(Box::new(key_prefix.to_owned()));
        text.push_str(" AND key >= ?3");
        if let Some(end) = prefix_end(key_prefix) {
            values.push(Box::new(end));
            text.push_str(" AND key < ?4");
        }
    }
    // One more than the page takes shows that there is more.
    text.push_str(&format!(" ORDER BY position LIMIT {}", limit + 1));
    let mut statement = connection.prepare_cached(&text).map_err(sql("feed"))?;
    let bound: Vec<&dyn ToSql> = values.iter().map(|v| &**v).collect();
    let mut rows = statement.query(&bound[..]).map_err(sql("feed"))?;
    let mut out = Vec::new();
    while let Some(row) = rows.next().map_err(sql("feed"))? {
        let position = Position(row.get::<_, i64>(0).map_err(sql("feed"))?.cast_unsigned());
        out.push((position, change(row, collection, position)));
    }
    Ok(out)
}

fn change(row: &rusqlite::Row<'_>, collection: &CollectionName, position: Position) -> Found {
    let read = || -> rusqlite::Result<Change> {
        let key = Key::from_store(row.get_ref(1)?.as_str()?);
        let revision = row.get::<_, i64>(2)?.cast_unsigned();
        let (time, by) = (Timestamp::from_micros(row.get(3)?), row.get(4)?);
        let collection = collection.clone();
        Ok(match row.get_ref(5)?.as_str_or_null()? {
            Some(doc) => Change::Record(Record { collection, key, revision, position, time, by, value: Json::from_store(doc) }),
            None => Change::Deleted(Deleted { collection, key, revision, position, time, by }),
        })
    };
    let damaged = |why| Found::Damaged(Damaged { what: format!("{collection} at position {position}"), why });
    match read() {
        Ok(Change::Record(record)) => match record.value.check_text() {
            Ok(()) => Found::Change(Change::Record(record)),
            Err(error) => damaged(format!("the document is not JSON: {error}")),
        },
        Ok(change) => Found::Change(change),
        Err(error) => damaged(error.to_string()),
    }
}
