//! Events as SQL: pages, counts, and the conditions that both share with feeds.

use millpond_core::{
    Answer, Damaged, Direction, Event, EventFilter, EventGroup, EventGroupBy, EventPage, EventQuery, Json, Position, Result,
    StreamName, StreamSelect, Timestamp, check_groups, limits,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Error as PgError, Row};

use crate::arrays::JsonColumn;
use crate::call::Call;
use crate::errors::unreadable;
use crate::query::{check_limit, prefix_end};
use crate::read::Question;

const COLUMNS: &str = "e.position, e.sequence, e.id, e.type, e.time, e.correlation, e.agent, e.source, e.labels::text, e.data";
/// A look-up for each row that is shown: a join could lead the planner away from the order of positions.
const STREAM_NAME: &str = "(SELECT s.name FROM streams s WHERE s.ns = e.ns AND s.id = e.stream)";

/// Conditions on `e`, to follow `WHERE`. `$1` is the namespace.
pub(crate) struct EventConditions {
    text: String,
    call: Call<'static>,
    stream: Option<StreamName>,
}

impl EventConditions {
    fn and(&mut self, condition: &str) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
    }

    /// Everything a filter asks.
    pub(crate) fn new(ns: i64, filter: &EventFilter) -> Result<Self> {
        filter.check()?;
        let mut c = Self { text: "e.ns = $1".to_owned(), call: Call::once("").with(Type::INT8, ns), stream: None };
        match &filter.stream {
            None => {}
            Some(StreamSelect::Exactly(name)) => {
                let place = c.call.bind(Type::TEXT, name.as_str().to_owned());
                c.and(&format!("e.stream = (SELECT s.id FROM streams s WHERE s.ns = $1 AND s.name = {place})"));
                c.stream = Some(name.clone());
            }
            Some(StreamSelect::Prefix(prefix)) => {
                let low = c.call.bind(Type::TEXT, prefix.clone());
                let high = prefix_end(prefix).map(|end| format!(" AND s.name < {}", c.call.bind(Type::TEXT, end)));
                let high = high.unwrap_or_default();
                c.and(&format!("e.stream IN (SELECT s.id FROM streams s WHERE s.ns = $1 AND s.name >= {low}{high})"));
            }
        }
        c.types(&filter.types);
        for (column, value) in [("correlation", &filter.correlation), ("agent", &filter.agent), ("source", &filter.source)] {
            if let Some(value) = value {
                let place = c.call.bind(Type::TEXT, value.clone());
                c.and(&format!("e.{column} = {place}"));
            }
        }
        if !filter.labels.is_empty() {
            let place = c.call.bind(Type::TEXT, Json::of(&filter.labels)?.as_str().to_owned());
            c.and(&format!("e.labels @> {place}::jsonb"));
        }
        for (time, sign) in [(filter.from, ">="), (filter.to, "<")] {
            if let Some(time) = time {
                let place = c.call.bind(Type::INT8, time.as_micros());
                c.and(&format!("e.time {sign} {place}"));
            }
        }
        Ok(c)
    }

    fn types(&mut self, patterns: &[String]) {
        if patterns.is_empty() {
            return;
        }
        let mut any = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            any.push(if pattern.contains('*') {
                format!("e.type LIKE {}", self.call.bind(Type::TEXT, like(pattern)))
            } else {
                format!("e.type = {}", self.call.bind(Type::TEXT, pattern.clone()))
            });
        }
        self.and(&format!("({})", any.join(" OR ")));
    }

    /// Only events beyond a position, in a direction.
    fn beyond(&mut self, position: Position, direction: Direction) {
        let sign = if direction == Direction::Ascending { ">" } else { "<" };
        // A cursor may name a position that no event ever had.
        let place = self.call.bind(Type::INT8, i64::try_from(position.0).unwrap_or(i64::MAX));
        self.and(&format!("e.position {sign} {place}"));
    }
}

/// Our pattern, in which only `*` means something, as SQL's.
fn like(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 2);
    for c in pattern.chars() {
        match c {
            '*' => out.push('%'),
            '%' | '_' | '\\' => out.extend(['\\', c]),
            other => out.push(other),
        }
    }
    out
}

/// Rows of events, in position order, at most a page's number and bytes.
pub(crate) struct Events {
    pub(crate) events: Vec<Event>,
    pub(crate) damaged: Vec<Damaged>,
    /// The position of the last row taken, damaged or not.
    pub(crate) last: Option<Position>,
    /// There are more.
    pub(crate) more: bool,
}

/// The statement that reads a page of events.
pub(crate) fn rows_call(
    ns: i64,
    filter: &EventFilter,
    after: Option<Position>,
    direction: Direction,
    limit: usize,
) -> Result<Call<'static>> {
    check_limit(limit)?;
    let mut conditions = EventConditions::new(ns, filter)?;
    if let Some(after) = after {
        conditions.beyond(after, direction);
    }
    let way = if direction == Direction::Ascending { "ASC" } else { "DESC" };
    // With one stream its name is known.
    let name = if conditions.stream.is_some() { "NULL::text" } else { STREAM_NAME };
    let text =
        format!("SELECT {COLUMNS}, {name} FROM events e WHERE {} ORDER BY e.position {way} LIMIT {}", conditions.text, limit + 1);
    Ok(conditions.call.say(text).page())
}

/// The stream of a filter that names one.
pub(crate) fn one_stream(filter: &EventFilter) -> Option<StreamName> {
    match &filter.stream {
        Some(StreamSelect::Exactly(name)) => Some(name.clone()),
        _ => None,
    }
}

/// Takes the rows of [`rows_call`].
pub(crate) fn take(rows: &[Row], stream: Option<&StreamName>, limit: usize) -> Result<Events> {
    let mut out = Events { events: Vec::new(), damaged: Vec::new(), last: None, more: false };
    let mut bytes = 0;
    for row in rows {
        if out.events.len() + out.damaged.len() >= limit || bytes >= limits::PAGE_BYTES {
            out.more = true;
            break;
        }
        bytes += row.raw_size_bytes();
        let position = Position(row.try_get::<_, i64>(0).map_err(unreadable("events"))?.cast_unsigned());
        out.last = Some(position);
        match event(row, position, stream).map_err(unreadable("events"))? {
            Ok(event) => out.events.push(event),
            Err(why) => out.damaged.push(Damaged { what: format!("event at position {position}"), why }),
        }
    }
    Ok(out)
}

fn event(row: &Row, position: Position, stream: Option<&StreamName>) -> Result<std::result::Result<Event, String>, PgError> {
    let labels = match row.try_get::<_, Option<&str>>(8)?.map(serde_json::from_str).transpose() {
        Ok(labels) => labels.unwrap_or_default(),
        Err(error) => return Ok(Err(format!("the labels are not texts by name: {error}"))),
    };
    let stream = match (stream, row.try_get::<_, Option<&str>>(10)?) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => StreamName::from_store(name),
        (None, None) => return Ok(Err("its stream is not there".to_owned())),
    };
    Ok(Ok(Event {
        stream,
        sequence: row.try_get::<_, i64>(1)?.cast_unsigned(),
        position,
        id: row.try_get(2)?,
        kind: row.try_get(3)?,
        time: Timestamp::from_micros(row.try_get(4)?),
        correlation: row.try_get(5)?,
        agent: row.try_get(6)?,
        source: row.try_get(7)?,
        labels,
        data: Json::from_store(row.try_get::<_, JsonColumn<'_>>(9)?.0),
    }))
}

/// A page of events.
pub(crate) fn page(ns: i64, query: &EventQuery) -> Result<Question> {
    let call = rows_call(ns, &query.filter, query.after, query.direction, query.limit)?;
    let (stream, limit) = (one_stream(&query.filter), query.limit);
    Ok(Question::new(vec![call], move |answers| {
        let rows = take(answers.first().map_or(&[], Vec::as_slice), stream.as_ref(), limit)?;
        let next = if rows.more { rows.last } else { None };
        Ok(Answer::Events(EventPage { items: rows.events, next, damaged: rows.damaged }))
    }))
}

/// Counts of events.
pub(crate) fn groups(ns: i64, filter: &EventFilter, by: EventGroupBy, limit: usize) -> Result<Question> {
    check_limit(limit)?;
    let conditions = EventConditions::new(ns, filter)?;
    let (value, join) = match by {
        EventGroupBy::Kind => ("e.type", ""),
        EventGroupBy::Agent => ("e.agent", ""),
        EventGroupBy::Stream => ("s.name", " JOIN streams s ON s.ns = e.ns AND s.id = e.stream"),
    };
    // Text of a JSON value: true and "true" have to be told apart.
    let success = "CASE WHEN json_typeof(e.data) = 'object' THEN (e.data -> 'success')::text END";
    let text = format!(
        "SELECT {value} AS grouped, count(*), count(*) FILTER (WHERE {success} = 'true'), \
           count(*) FILTER (WHERE {success} = 'false'), min(e.time), max(e.time) \
         FROM events e{join} WHERE {} GROUP BY grouped ORDER BY grouped NULLS FIRST LIMIT {}",
        conditions.text,
        limit + 1
    );
    Ok(Question::new(vec![conditions.call.say(text)], move |answers| {
        let groups = answers.into_iter().flatten().map(|row| group(&row));
        let groups = groups.collect::<Result<Vec<_>, _>>().map_err(unreadable("events"))?;
        check_groups(groups.len(), limit)?;
        Ok(Answer::EventGroups(groups))
    }))
}

fn group(row: &Row) -> Result<EventGroup, PgError> {
    let count = |i| row.try_get::<_, i64>(i).map(i64::cast_unsigned);
    Ok(EventGroup {
        value: row.try_get(0)?,
        count: count(1)?,
        succeeded: count(2)?,
        failed: count(3)?,
        first: Timestamp::from_micros(row.try_get(4)?),
        last: Timestamp::from_micros(row.try_get(5)?),
    })
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn only_the_star_means_something() {
        assert_eq!(like("a*_%\\"), "a%\\_\\%\\\\");
    }
}
