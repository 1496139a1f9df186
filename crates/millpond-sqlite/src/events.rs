//! Events as SQL: pages, counts, and the conditions that both share with feeds.

use millpond_core::{
    Damaged, Direction, Event, EventFilter, EventGroup, EventGroupBy, EventPage, EventQuery, Json, Position, Result, StreamName,
    StreamSelect, Timestamp, check_groups, limits,
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};

use crate::errors::sql;
use crate::namespaces::NamespaceRow;
use crate::query::{check_limit, prefix_end, run};

type Values = Vec<Box<dyn ToSql>>;

const COLUMNS: &str = "e.row, e.sequence, e.id, e.type, e.time, e.correlation, e.agent, e.source, e.labels, e.data";

/// NULL, which has no members, for labels that are not JSON.
const VALID_LABELS: &str = "CASE WHEN json_valid(e.labels) THEN e.labels END";

/// Conditions on `e`, to follow `WHERE`; `None` when no event can match.
pub(crate) struct EventConditions {
    text: String,
    values: Values,
    stream: Option<StreamName>,
}

impl EventConditions {
    fn bind(&mut self, value: impl ToSql + 'static) -> String {
        self.values.push(Box::new(value));
        format!("?{}", self.values.len())
    }

    fn and(&mut self, condition: &str) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
    }

    /// Everything a filter asks, with bounds on the row.
    pub(crate) fn new(
        connection: &Connection,
        ns: &NamespaceRow,
        filter: &EventFilter,
        from: i64,
        to: i64,
    ) -> Result<Option<Self>> {
        filter.check()?;
        let mut c = Self { text: String::new(), values: Vec::new(), stream: None };
        let (low, high) = (c.bind(from), c.bind(to));
        c.text = format!("e.row > {low} AND e.row < {high}");
        match &filter.stream {
            None => {}
            Some(StreamSelect::Exactly(name)) => {
                let Some(id) = stream_id(connection, ns.id, name)? else { return Ok(None) };
                let place = c.bind(id);
                c.and(&format!("e.stream = {place}"));
                c.stream = Some(name.clone());
            }
            Some(StreamSelect::Prefix(prefix)) => {
                let (ns, low) = (c.bind(ns.id), c.bind(prefix.clone()));
                let high = prefix_end(prefix).map(|end| format!(" AND name < {}", c.bind(end))).unwrap_or_default();
                // `+` keeps the plan on the rows' own order, which is the order asked for.
                c.and(&format!("+e.stream IN (SELECT id FROM streams WHERE ns = {ns} AND name >= {low}{high})"));
            }
        }
        c.types(&filter.types);
        for (column, value) in [("correlation", &filter.correlation), ("agent", &filter.agent), ("source", &filter.source)] {
            if let Some(value) = value {
                let place = c.bind(value.clone());
                c.and(&format!("e.{column} = {place}"));
            }
        }
        for (key, value) in &filter.labels {
            let (key, value) = (c.bind(key.clone()), c.bind(value.clone()));
            // Labels that are not JSON would fail the whole statement. Whether they match is unknown: the page says so.
            c.and(&format!(
                "(NOT json_valid(e.labels) OR EXISTS (SELECT 1 FROM json_each({VALID_LABELS}) l \
                  WHERE l.key = {key} AND l.value = {value}))"
            ));
        }
        for (time, sign) in [(filter.from, ">="), (filter.to, "<")] {
            if let Some(time) = time {
                let place = c.bind(time.as_micros());
                c.and(&format!("e.time {sign} {place}"));
            }
        }
        Ok(Some(c))
    }

    fn types(&mut self, patterns: &[String]) {
        if patterns.is_empty() {
            return;
        }
        let any: Vec<String> = patterns
            .iter()
            .map(|pattern| {
                if pattern.contains('*') {
                    let place = self.bind(glob(pattern));
                    format!("e.type GLOB {place}")
                } else {
                    let place = self.bind(pattern.clone());
                    format!("e.type = {place}")
                }
            })
            .collect();
        self.and(&format!("({})", any.join(" OR ")));
    }
}

/// Our pattern, in which only `*` means something, as SQLite's.
fn glob(pattern: &str) -> String {
    pattern.chars().map(|c| if matches!(c, '?' | '[') { format!("[{c}]") } else { c.to_string() }).collect()
}

fn stream_id(connection: &Connection, ns: i64, name: &StreamName) -> Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM streams WHERE ns = ?1 AND name = ?2")
        .and_then(|mut s| s.query_row((ns, name.as_str()), |r| r.get(0)).optional())
        .map_err(sql("events"))
}

/// Rows of events, in position order, at most `limit` and a page's bytes.
pub(crate) struct Rows {
    pub(crate) events: Vec<Event>,
    pub(crate) damaged: Vec<Damaged>,
    /// The position of the last row taken, damaged or not.
    pub(crate) last: Option<Position>,
    /// There are more.
    pub(crate) more: bool,
}

/// Reads events that match.
pub(crate) fn rows(
    connection: &Connection,
    conditions: Option<EventConditions>,
    direction: Direction,
    limit: usize,
) -> Result<Rows> {
    let mut out = Rows { events: Vec::new(), damaged: Vec::new(), last: None, more: false };
    let Some(mut conditions) = conditions else { return Ok(out) };
    let way = if direction == Direction::Ascending { "ASC" } else { "DESC" };
    let place = conditions.bind(i64::try_from(limit + 1).unwrap_or(i64::MAX));
    // With one stream its name is known; otherwise it comes with each row.
    let (name, join) = match &conditions.stream {
        Some(_) => ("NULL", ""),
        None => ("s.name", " JOIN streams s ON s.id = e.stream"),
    };
    let text =
        format!("SELECT {COLUMNS}, {name} FROM events e{join} WHERE {} ORDER BY e.row {way} LIMIT {place}", conditions.text);
    let mut statement = connection.prepare_cached(&text).map_err(sql("events"))?;
    let bound: Vec<&dyn ToSql> = conditions.values.iter().map(|v| &**v).collect();
    let mut rows = statement.query(&bound[..]).map_err(sql("events"))?;
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(sql("events"))? {
        if out.events.len() + out.damaged.len() >= limit || bytes >= limits::PAGE_BYTES {
            out.more = true;
            break;
        }
        let position = position(row).map_err(sql("events"))?;
        out.last = Some(position);
        match event(row, position, conditions.stream.as_ref()) {
            Ok(event) => {
                bytes += event.data.len() + 64;
                out.events.push(event);
            }
            Err(why) => out.damaged.push(Damaged { what: format!("event at position {position}"), why }),
        }
    }
    Ok(out)
}

fn position(row: &Row<'_>) -> rusqlite::Result<Position> {
    const MASK: i64 = (1 << crate::schema::POSITION_BITS) - 1;
    Ok(Position((row.get::<_, i64>(0)? & MASK).cast_unsigned()))
}

fn event(row: &Row<'_>, position: Position, stream: Option<&StreamName>) -> std::result::Result<Event, String> {
    let text = |e: rusqlite::Error| e.to_string();
    let labels = match row.get_ref(8).map_err(text)?.as_str_or_null().map_err(|e| e.to_string())? {
        None => std::collections::BTreeMap::new(),
        Some(labels) => serde_json::from_str(labels).map_err(|e| format!("the labels are not JSON: {e}"))?,
    };
    let stream = match stream {
        Some(name) => name.clone(),
        None => StreamName::from_store(row.get_ref(10).map_err(text)?.as_str().map_err(|e| e.to_string())?),
    };
    let data = row.get_ref(9).map_err(text)?.as_str().map_err(|e| e.to_string())?;
    let data = Json::from_store(data);
    data.check_text().map_err(|e| format!("the data is not JSON: {e}"))?;
    Ok(Event {
        stream,
        sequence: row.get::<_, i64>(1).map_err(text)?.cast_unsigned(),
        position,
        id: row.get(2).map_err(text)?,
        kind: row.get(3).map_err(text)?,
        time: Timestamp::from_micros(row.get(4).map_err(text)?),
        correlation: row.get(5).map_err(text)?,
        agent: row.get(6).map_err(text)?,
        source: row.get(7).map_err(text)?,
        labels,
        data,
    })
}

/// A page of events.
pub(crate) fn page(connection: &Connection, ns: &NamespaceRow, query: &EventQuery) -> Result<EventPage> {
    check_limit(query.limit)?;
    let (from, to) = match (query.direction, query.after) {
        (_, None) => (ns.base(), ns.end()),
        (Direction::Ascending, Some(after)) => (ns.row_of(after), ns.end()),
        (Direction::Descending, Some(after)) => (ns.base(), ns.row_of(after)),
    };
    let conditions = EventConditions::new(connection, ns, &query.filter, from, to)?;
    let rows = rows(connection, conditions, query.direction, query.limit)?;
    let next = if rows.more { rows.last } else { None };
    Ok(EventPage { items: rows.events, next, damaged: rows.damaged })
}

/// Counts of events.
pub(crate) fn groups(
    connection: &Connection,
    ns: &NamespaceRow,
    filter: &EventFilter,
    by: EventGroupBy,
    limit: usize,
) -> Result<Vec<EventGroup>> {
    check_limit(limit)?;
    let Some(mut conditions) = EventConditions::new(connection, ns, filter, ns.base(), ns.end())? else { return Ok(Vec::new()) };
    if !filter.labels.is_empty() {
        // A count cannot say that an event is damaged, so it leaves out what cannot be known to match.
        conditions.and("json_valid(e.labels)");
    }
    let (value, join) = match by {
        EventGroupBy::Kind => ("e.type", ""),
        EventGroupBy::Agent => ("e.agent", ""),
        EventGroupBy::Stream => ("s.name", " JOIN streams s ON s.id = e.stream"),
    };
    let text = format!(
        "SELECT {value} AS grouped, count(*), \
           sum(CASE WHEN json_valid(e.data) THEN json_type(e.data, '$.success') IS 'true' ELSE 0 END), \
           sum(CASE WHEN json_valid(e.data) THEN json_type(e.data, '$.success') IS 'false' ELSE 0 END), \
           min(e.time), max(e.time) \
         FROM events e{join} WHERE {} GROUP BY grouped ORDER BY grouped LIMIT {}",
        conditions.text,
        limit + 1
    );
    let groups = run(connection, &text, &conditions.values, |row| {
        let count = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
        Ok(EventGroup {
            value: row.get(0)?,
            count: count(1)?,
            succeeded: count(2)?,
            failed: count(3)?,
            first: Timestamp::from_micros(row.get(4)?),
            last: Timestamp::from_micros(row.get(5)?),
        })
    })?;
    check_groups(groups.len(), limit)?;
    Ok(groups)
}
