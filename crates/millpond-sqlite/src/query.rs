//! Queries as SQL. Every value is bound; only names made by us stand in the text.

use std::time::Duration;

use millpond_core::{
    CollectionSpec, Damaged, Direction, Error, FieldKind, Filter, Group, Json, KEY_FIELD, Key, Page, Position, Query, Record,
    Result, Scalar, Timestamp, check_groups, limits,
};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, ToSql};

use crate::catalog::Schema;
use crate::errors::sql;
use crate::path::Path;
use crate::table::{Table, bind, scalar};

pub(crate) type Values = Vec<Box<dyn ToSql>>;

/// A statement being written: its conditions and their values.
struct Conditions {
    text: String,
    values: Values,
    /// The page continues behind a key, this way.
    behind: Option<Direction>,
}

impl Conditions {
    fn new(table: &Table, ns: i64) -> Self {
        Self { text: format!(" WHERE {}", table.scope), values: vec![Box::new(ns)], behind: None }
    }

    /// Begins the conditions of another range; values that are bound already keep their places.
    fn again(&mut self, table: &Table) {
        self.text = format!(" WHERE {}", table.scope);
    }

    /// Binds a value and returns its place.
    fn bind(&mut self, value: impl ToSql + 'static) -> String {
        self.values.push(Box::new(value));
        format!("?{}", self.values.len())
    }

    fn scalar(&mut self, value: &Scalar) -> Result<String> {
        let owned = match bind(value) {
            rusqlite::types::ToSqlOutput::Owned(v) => v,
            rusqlite::types::ToSqlOutput::Borrowed(v) => {
                Value::try_from(v).map_err(|e| Error::invalid("not UTF-8").with_source(e))?
            }
            _ => return Err(Error::corrupt("a scalar became no value")),
        };
        Ok(self.bind(owned))
    }

    fn and(&mut self, condition: &str) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
    }

    fn filters(&mut self, table: &Table, filters: &[Filter]) -> Result<()> {
        filters.iter().try_for_each(|f| self.filter(table, f))
    }

    fn filter(&mut self, table: &Table, filter: &Filter) -> Result<()> {
        let field = filter.field();
        if let Some(side) = table.side(field) {
            let owner = &table.name;
            match filter {
                Filter::Has(_, text) => {
                    let place = self.bind(text.clone());
                    self.and(&format!("{owner}.row IN (SELECT row FROM {side} WHERE ns = ?1 AND value = {place})"));
                }
                Filter::Absent(_) => self.and(&format!("NOT EXISTS (SELECT 1 FROM {side} WHERE {side}.row = {owner}.row)")),
                _ => self.and(&format!("EXISTS (SELECT 1 FROM {side} WHERE {side}.row = {owner}.row)")),
            }
            return Ok(());
        }
        let (column, _) = column(table, field)?;
        match filter {
            Filter::Eq(_, value) => {
                let place = self.scalar(value)?;
                self.and(&format!("{column} = {place}"));
            }
            Filter::OneOf(_, values) => {
                let places = values.iter().map(|v| self.scalar(v)).collect::<Result<Vec<_>>>()?;
                self.and(&format!("{column} IN ({})", places.join(", ")));
            }
            Filter::Range(_, from, to) => {
                self.and(&format!("{column} IS NOT NULL"));
                for (value, sign) in [(from, ">="), (to, "<")] {
                    if let Some(value) = value {
                        let place = self.scalar(value)?;
                        self.and(&format!("{column} {sign} {place}"));
                    }
                }
            }
            Filter::Prefix(field, prefix) => {
                let behind = self.behind.filter(|_| field == KEY_FIELD);
                self.prefix(&column, prefix, behind);
            }
            Filter::Contains(_, text) => {
                let place = self.bind(text.clone());
                self.and(&format!("instr({column}, {place}) > 0"));
            }
            Filter::Absent(_) => self.and(&format!("{column} IS NULL")),
            Filter::Present(_) | Filter::Has(..) => self.and(&format!("{column} IS NOT NULL")),
        }
        Ok(())
    }

    fn prefix(&mut self, column: &str, prefix: &str, behind: Option<Direction>) {
        // A bound that the cursor has passed is only looked at: SQLite takes one lower and one upper bound for its way through
        // an index, and with this one each page would walk over all those before it.
        let passed = |way| if behind == Some(way) { "+" } else { "" };
        let place = self.bind(prefix.to_owned());
        self.and(&format!("{}{column} >= {place}", passed(Direction::Ascending)));
        if let Some(end) = prefix_end(prefix) {
            let place = self.bind(end);
            self.and(&format!("{}{column} < {place}", passed(Direction::Descending)));
        }
    }
}

/// The smallest text above all that begin with `prefix`; `None` when there is none.
pub(crate) fn prefix_end(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The order of UTF-8 bytes is the order of code points; step over the gap of the surrogates.
        let next = if last as u32 == 0xD7FF { Some('\u{E000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn column(table: &Table, field: &str) -> Result<(String, FieldKind)> {
    table
        .column(field)
        .ok_or_else(|| Error::invalid(format!("collection {} has no column for field {field:?}", table.collection)))
}

/// Refuses page sizes out of range.
pub(crate) fn check_limit(limit: usize) -> Result<()> {
    if limit == 0 || limit > limits::PAGE_ROWS {
        return Err(Error::invalid(format!("a limit of {limit} is not between 1 and {}", limits::PAGE_ROWS)));
    }
    Ok(())
}

/// Runs a statement and collects what each row becomes.
pub(crate) fn run<T>(
    connection: &Connection,
    text: &str,
    values: &[Box<dyn ToSql>],
    make: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(text).map_err(sql("query"))?;
    let bound: Vec<&dyn ToSql> = values.iter().map(|v| &**v).collect();
    let rows = statement.query_map(&bound[..], make).map_err(sql("query"))?;
    rows.collect::<rusqlite::Result<_>>().map_err(sql("query"))
}

fn spec(table: &Table) -> Option<&CollectionSpec> {
    table.spec.as_deref()
}

/// A page of records.
pub(crate) fn page(connection: &Connection, ns: i64, schema: &Schema, query: &Query) -> Result<Page> {
    let table = schema.table(&query.collection);
    let query = query.resolve(spec(&table))?;
    let mut pager =
        Pager { query: &query, page: Page { items: Vec::new(), next: None, damaged: Vec::new() }, seen: 0, bytes: 0, last: None };
    for part in parts(&query) {
        if pager.full() {
            break;
        }
        pager.read(connection, ns, &table, &part)?;
    }
    Ok(pager.finish())
}

/// The order field is absent, or it is there: each is one range of its index, and they follow each other.
#[derive(Clone, Copy, PartialEq)]
enum Presence {
    Either,
    Absent,
    Present,
}

struct Part {
    presence: Presence,
    after: Option<(Option<Scalar>, Key)>,
}

fn parts(query: &Query) -> Vec<Part> {
    let after = query.after.as_ref().map(|c| (c.value.clone(), c.key.clone()));
    if query.order == KEY_FIELD {
        return vec![Part { presence: Presence::Either, after }];
    }
    // A condition on the order field itself decides which of the two there can be. SQLite would not see it, and
    // read all records without a value only to leave them out.
    let about_order = query.filters.iter().find(|f| f.field() == query.order);
    let order: &[Presence] = match (about_order, query.direction) {
        (Some(Filter::Absent(_)), _) => &[Presence::Absent],
        (Some(_), _) => &[Presence::Present],
        (None, Direction::Ascending) => &[Presence::Absent, Presence::Present],
        (None, Direction::Descending) => &[Presence::Present, Presence::Absent],
    };
    let at = match &after {
        None => return order.iter().map(|presence| Part { presence: *presence, after: None }).collect(),
        Some((Some(_), _)) => Presence::Present,
        Some((None, _)) => Presence::Absent,
    };
    let begun = order.iter().position(|p| *p == at).unwrap_or(0);
    let rest = order.iter().enumerate().skip(begun);
    rest.map(|(i, presence)| Part { presence: *presence, after: if i == begun { after.clone() } else { None } }).collect()
}

/// The statement that reads one part of a page, and what is bound to it.
fn select(query: &Query, ns: i64, table: &Table, part: &Part, limit: usize) -> Result<(String, Values)> {
    let (order, _) = column(table, &query.order)?;
    let (sign, way) = match query.direction {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let path = Path::of(table, query);
    let mut conditions = Conditions::new(table, ns);
    conditions.behind = part.after.as_ref().filter(|_| query.order == KEY_FIELD).map(|_| query.direction);
    let mut selects = Vec::with_capacity(path.ranges.len());
    for filters in &path.ranges {
        conditions.again(table);
        conditions.filters(table, filters)?;
        match part.presence {
            Presence::Either => {}
            Presence::Absent => conditions.and(&format!("{order} IS NULL")),
            Presence::Present => conditions.and(&format!("{order} IS NOT NULL")),
        }
        if let Some((value, key)) = &part.after {
            let key = conditions.bind(key.as_str().to_owned());
            match value {
                Some(value) => {
                    let value = conditions.scalar(value)?;
                    conditions.and(&format!("({order}, key) {sign} ({value}, {key})"));
                }
                None => conditions.and(&format!("key {sign} {key}")),
            }
        }
        selects.push(format!(
            "SELECT key, revision, position, time, by, doc, {order} FROM {}{}{}",
            table.name, path.hint, conditions.text
        ));
    }
    // By the places of the columns, which several ranges have in common: 7 is the order field, 1 the key.
    let by = if part.presence == Presence::Present { format!("7 {way}, 1 {way}") } else { format!("1 {way}") };
    let place = conditions.bind(i64::try_from(limit).unwrap_or(i64::MAX));
    Ok((format!("{} ORDER BY {by} LIMIT {place}", selects.join(" UNION ALL ")), conditions.values))
}

/// The statements of a query's page, each to be run for a whole page.
pub(crate) fn statements(ns: i64, schema: &Schema, query: &Query) -> Result<Vec<(String, Values)>> {
    let table = schema.table(&query.collection);
    let query = query.resolve(spec(&table))?;
    parts(&query).iter().map(|part| select(&query, ns, &table, part, query.limit + 1)).collect()
}

struct Pager<'q> {
    query: &'q Query,
    page: Page,
    /// Rows taken off the database, damaged ones too.
    seen: usize,
    bytes: usize,
    last: Option<(Option<Scalar>, Key)>,
}

impl Pager<'_> {
    fn full(&self) -> bool {
        self.page.next.is_some()
    }

    fn read(&mut self, connection: &Connection, ns: i64, table: &Table, part: &Part) -> Result<()> {
        let (_, kind) = column(table, &self.query.order)?;
        // One more than asked for tells whether there is a next page.
        let (text, values) = select(self.query, ns, table, part, self.query.limit - self.seen + 1)?;
        let mut statement = connection.prepare_cached(&text).map_err(sql("query"))?;
        let bound: Vec<&dyn ToSql> = values.iter().map(|v| &**v).collect();
        let mut rows = statement.query(&bound[..]).map_err(sql("query"))?;
        while let Some(row) = rows.next().map_err(sql("query"))? {
            if self.seen >= self.query.limit || self.bytes >= limits::PAGE_BYTES {
                self.page.next = self.last.take().map(|(value, key)| self.query.cursor_after(value, &key));
                return Ok(());
            }
            self.take(table, row, kind)?;
        }
        Ok(())
    }

    fn take(&mut self, table: &Table, row: &Row<'_>, kind: FieldKind) -> Result<()> {
        let key = Key::from_store(
            row.get_ref(0)
                .map_err(sql("query"))?
                .as_str()
                .map_err(|e| Error::corrupt(format!("a key of collection {} is not text", table.collection)).with_source(e))?,
        );
        let value = if self.query.order == KEY_FIELD { None } else { scalar(row.get_ref(6).map_err(sql("query"))?, kind) };
        self.seen += 1;
        self.last = Some((value, key.clone()));
        match record(table, key.clone(), row) {
            Ok(record) => {
                self.bytes += record.value.len();
                self.page.items.push(record);
            }
            Err(why) => self.page.damaged.push(Damaged { what: format!("{}/{key}", table.collection), why }),
        }
        Ok(())
    }

    fn finish(self) -> Page {
        self.page
    }
}

/// A record whose document is JSON, or why it is not.
fn record(table: &Table, key: Key, row: &Row<'_>) -> std::result::Result<Record, String> {
    let text = |e: rusqlite::Error| e.to_string();
    let value = Json::from_store(row.get_ref(5).map_err(text)?.as_str().map_err(|e| e.to_string())?);
    value.check_text().map_err(|e| format!("the document is not JSON: {e}"))?;
    Ok(Record {
        collection: table.collection.clone(),
        key,
        revision: row.get::<_, i64>(1).map_err(text)?.cast_unsigned(),
        position: Position(row.get::<_, i64>(2).map_err(text)?.cast_unsigned()),
        time: Timestamp::from_micros(row.get(3).map_err(text)?),
        by: row.get(4).map_err(text)?,
        value,
    })
}

/// How many records the filters take.
pub(crate) fn count(connection: &Connection, ns: i64, schema: &Schema, query: &Query) -> Result<u64> {
    let table = schema.table(&query.collection);
    let query = query.clone().after(None).resolve(spec(&table))?;
    let mut conditions = Conditions::new(&table, ns);
    conditions.filters(&table, &query.filters)?;
    let text = format!("SELECT count(*) FROM {}{}", table.name, conditions.text);
    let counts = run(connection, &text, &conditions.values, |r| r.get::<_, i64>(0))?;
    Ok(counts.first().copied().unwrap_or(0).cast_unsigned())
}

/// Groups by a field's value.
pub(crate) fn group_by(
    connection: &Connection,
    ns: i64,
    schema: &Schema,
    query: &Query,
    field: &str,
    bucket: Option<Duration>,
    measure: Option<&str>,
) -> Result<Vec<Group>> {
    let table = schema.table(&query.collection);
    let query = query.clone().after(None).order_asc(field).resolve(spec(&table))?;
    let (by, kind) = column(&table, field)?;
    let mut conditions = Conditions::new(&table, ns);
    conditions.filters(&table, &query.filters)?;
    let by = match bucket {
        None => by,
        Some(_) if kind != FieldKind::Timestamp => {
            return Err(Error::invalid(format!("field {field:?} is {}; only timestamps can be cut into buckets", kind.as_str())));
        }
        Some(length) => {
            let micros = i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1);
            format!("{by} - (({by} % {micros}) + {micros}) % {micros}")
        }
    };
    let measured = measure.map(|m| measured_column(&table, &query, m)).transpose()?;
    let extra = match &measured {
        None => String::new(),
        Some((column, FieldKind::Integer)) => format!(", min({column}), max({column}), sum({column})"),
        Some((column, _)) => format!(", min({column}), max({column}), NULL"),
    };
    let text = format!(
        "SELECT {by} AS grouped, count(*){extra} FROM {}{} GROUP BY grouped ORDER BY grouped LIMIT {}",
        table.name,
        conditions.text,
        query.limit.saturating_add(1)
    );
    let groups = run(connection, &text, &conditions.values, |row| {
        let measure = |i: usize| -> rusqlite::Result<Option<Scalar>> {
            match &measured {
                Some((_, kind)) => Ok(scalar(row.get_ref(i)?, *kind)),
                None => Ok(None),
            }
        };
        let sum = match &measured {
            Some(_) => match row.get_ref(4)? {
                ValueRef::Integer(n) => Some(n),
                _ => None,
            },
            None => None,
        };
        Ok(Group {
            value: scalar(row.get_ref(0)?, kind),
            count: row.get::<_, i64>(1)?.cast_unsigned(),
            min: measure(2)?,
            max: measure(3)?,
            sum,
        })
    })
    .map_err(|e| {
        if e.to_string().contains("integer overflow") { Error::invalid("the sum leaves the range of 64-bit integers") } else { e }
    })?;
    check_groups(groups.len(), query.limit)?;
    Ok(groups)
}

fn measured_column(table: &Table, query: &Query, measure: &str) -> Result<(String, FieldKind)> {
    // The same words for an unknown field as everywhere.
    query.clone().order_asc(measure).resolve(spec(table))?;
    column(table, measure)
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(prefix_end("ab").as_deref(), Some("ac"));
        assert_eq!(prefix_end("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(prefix_end("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(prefix_end("\u{10FFFF}"), None);
        assert_eq!(prefix_end(""), None);
    }
}
