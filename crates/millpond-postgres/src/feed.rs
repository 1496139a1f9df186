//! Feeds: what happened after a position, in position order. One round trip for a page.

use millpond_core::{
    Change, CollectionName, Deleted, Direction, Error, ErrorKind, EventFilter, FeedPage, FeedRequest, Json, Key, Position,
    Record, Result, Selector, StreamSelect, Timestamp,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Error as PgError, Row};

use crate::arrays::JsonColumn;
use crate::call::Call;
use crate::catalog::Schema;
use crate::errors::unreadable;
use crate::events::{one_stream, rows_call, take};
use crate::namespaces::NamespaceRow;
use crate::query::{check_limit, prefix_end};

/// The statements of a page; [`page`] makes it of their answers.
pub(crate) fn calls(schema: &Schema, request: &FeedRequest) -> Result<Vec<Call<'static>>> {
    check_limit(request.limit)?;
    let after = request.after.unwrap_or_default();
    match &request.selector {
        Selector::Events(filter) => {
            let rows = rows_call(schema.ns, filter, request.after, Direction::Ascending, request.limit)?;
            Ok(vec![trimmed_call(schema.ns, filter, after), rows])
        }
        Selector::Records { collection, key_prefix } => {
            let table = schema.table(collection);
            let live = format!("SELECT position, key, revision, time, by, doc FROM {} WHERE {}", table.name, table.scope);
            let gone = format!(
                "SELECT position, key, revision, time, by, NULL::json FROM tombstones WHERE ns = $1 AND collection = '{collection}'"
            );
            let changes = |select| changes_call(schema.ns, select, key_prefix, after, request.limit);
            Ok(vec![purged_call(schema.ns, collection), changes(live), changes(gone)])
        }
    }
}

/// A page of the answers to [`calls`], read in one snapshot with the namespace's row.
pub(crate) fn page(ns: &NamespaceRow, request: &FeedRequest, answers: &[Vec<Row>]) -> Result<FeedPage> {
    if let Some(after) = request.after.filter(|p| p.0 > ns.position) {
        return Err(Error::new(
            ErrorKind::CursorExpired,
            format!("position {after} is beyond {}, the last one of this store: it may be a copy that went back", ns.position),
        )
        .with_next("start again from the oldest"));
    }
    let (forgotten, rest) = answers.split_first().map_or((&[][..], &[][..]), |(first, rest)| (first.as_slice(), rest));
    let known = match &request.selector {
        Selector::Events(_) => ns.trimmed_position,
        Selector::Records { .. } => ns.purged_position,
    };
    if let Some(after) = request.after.filter(|p| p.0 < known) {
        let oldest = forgotten.first().map(|r| r.try_get::<_, i64>(0)).transpose().map_err(unreadable("a feed"))?;
        let oldest = Position(oldest.unwrap_or(0).cast_unsigned());
        if after < oldest {
            return Err(expired(after, oldest));
        }
    }
    match &request.selector {
        Selector::Events(filter) => events(ns, filter, request, rest),
        Selector::Records { collection, .. } => records(ns, collection, request, rest),
    }
}

fn expired(after: Position, oldest: Position) -> Error {
    Error::new(ErrorKind::CursorExpired, format!("position {after} is before {oldest}, up to which the history was forgotten"))
        .with("oldest", oldest)
        .with_next("start again from the oldest")
}

fn events(ns: &NamespaceRow, filter: &EventFilter, request: &FeedRequest, answers: &[Vec<Row>]) -> Result<FeedPage> {
    let rows = take(answers.first().map_or(&[], Vec::as_slice), one_stream(filter).as_ref(), request.limit)?;
    let head = Position(ns.position);
    let next = if rows.more { rows.last.unwrap_or(head) } else { head };
    Ok(FeedPage { changes: rows.events.into_iter().map(Change::Event).collect(), next, head, damaged: rows.damaged })
}

/// The last position trimmed away from the streams a filter takes; only what lies after the cursor matters.
fn trimmed_call(ns: i64, filter: &EventFilter, after: Position) -> Call<'static> {
    let after = i64::try_from(after.0).unwrap_or(i64::MAX);
    let mut call = Call::once("").with(Type::INT8, ns).with(Type::INT8, after);
    // The second condition is the index's own.
    let mut text = "SELECT coalesce(max(trimmed_position), 0) FROM streams WHERE ns = $1 AND trimmed_position > $2 \
                    AND trimmed_position > 0"
        .to_owned();
    match &filter.stream {
        None => {}
        Some(StreamSelect::Exactly(name)) => {
            text.push_str(&format!(" AND name = {}", call.bind(Type::TEXT, name.as_str().to_owned())));
        }
        Some(StreamSelect::Prefix(prefix)) => {
            text.push_str(&format!(" AND name >= {}", call.bind(Type::TEXT, prefix.clone())));
            if let Some(end) = prefix_end(prefix) {
                text.push_str(&format!(" AND name < {}", call.bind(Type::TEXT, end)));
            }
        }
    }
    call.say(text)
}

/// The last position among the purged tombstones of a collection.
fn purged_call(ns: i64, collection: &CollectionName) -> Call<'static> {
    Call::once("SELECT purged_position FROM collections WHERE ns = $1 AND name = $2")
        .with(Type::INT8, ns)
        .with(Type::TEXT, collection.as_str().to_owned())
}

fn changes_call(ns: i64, select: String, key_prefix: &str, after: Position, limit: usize) -> Call<'static> {
    let after = i64::try_from(after.0).unwrap_or(i64::MAX);
    let mut call = Call::once("").with(Type::INT8, ns).with(Type::INT8, after);
    let mut text = select + " AND position > $2";
    if !key_prefix.is_empty() {
        text.push_str(&format!(" AND key >= {}", call.bind(Type::TEXT, key_prefix.to_owned())));
        if let Some(end) = prefix_end(key_prefix) {
            text.push_str(&format!(" AND key < {}", call.bind(Type::TEXT, end)));
        }
    }
    // One more than the page takes shows that there is more.
    text.push_str(&format!(" ORDER BY position LIMIT {}", limit + 1));
    call.say(text).page()
}

fn records(ns: &NamespaceRow, collection: &CollectionName, request: &FeedRequest, answers: &[Vec<Row>]) -> Result<FeedPage> {
    let mut found = Vec::new();
    let mut cut = None;
    for rows in answers {
        let mut bytes = 0;
        for row in rows {
            bytes += row.raw_size_bytes();
            found.push((change(row, collection).map_err(unreadable("a feed"))?, row.raw_size_bytes()));
        }
        // A list that was cut by its bytes says nothing of what lies after its last row.
        if bytes >= millpond_core::limits::PAGE_BYTES {
            let last = found.last().map(|(change, _)| change.position());
            cut = if cut.is_none() { last } else { cut.min(last) };
        }
    }
    found.sort_by_key(|(change, _)| change.position());
    let head = Position(ns.position);
    let (mut changes, mut bytes, mut next) = (Vec::new(), 0, head);
    for (change, size) in found {
        let full = changes.len() >= request.limit || bytes >= millpond_core::limits::PAGE_BYTES;
        if full || cut.is_some_and(|cut| change.position() > cut) {
            next = changes.last().map_or(head, Change::position);
            break;
        }
        bytes += size;
        if cut.is_some() {
            next = change.position();
        }
        changes.push(change);
    }
    Ok(FeedPage { changes, next, head, damaged: Vec::new() })
}

fn change(row: &Row, collection: &CollectionName) -> Result<Change, PgError> {
    let position = Position(row.try_get::<_, i64>(0)?.cast_unsigned());
    let key = Key::from_store(row.try_get::<_, &str>(1)?);
    let revision = row.try_get::<_, i64>(2)?.cast_unsigned();
    let (time, by) = (Timestamp::from_micros(row.try_get(3)?), row.try_get(4)?);
    let collection = collection.clone();
    Ok(match row.try_get::<_, Option<JsonColumn<'_>>>(5)? {
        Some(JsonColumn(doc)) => {
            Change::Record(Record { collection, key, revision, position, time, by, value: Json::from_store(doc) })
        }
        None => Change::Deleted(Deleted { collection, key, revision, position, time, by }),
    })
}
