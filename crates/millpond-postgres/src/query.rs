//! Queries as SQL. Every value is bound; only names made by us stand in the text.

use std::time::Duration;

use millpond_core::{
    Answer, CollectionSpec, Direction, Error, FieldKind, Filter, Group, Json, KEY_FIELD, Key, Page, Position, Query, Record,
    Result, Scalar, Timestamp, check_groups, limits,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Error as PgError, Row};

use crate::arrays::{JsonColumn, bind_scalar, bind_scalars, scalar};
use crate::call::Call;
use crate::catalog::Schema;
use crate::errors::unreadable;
use crate::path::ranges;
use crate::read::Question;
use crate::table::Table;

/// Indexes of fields end with this much of the key: a whole key beside two texts would be more than an index takes.
pub(crate) const KEY_BEGINNING: &str = "left(key, 128)";

/// A statement being written: its conditions and their values. `$1` is the namespace.
struct Conditions {
    text: String,
    call: Call<'static>,
}

impl Conditions {
    fn new(table: &Table, ns: i64) -> Self {
        Self { text: format!(" WHERE {}", table.scope), call: Call::once("").with(Type::INT8, ns) }
    }

    /// Begins the conditions of another range; values that are bound already keep their places.
    fn again(&mut self, table: &Table) {
        self.text = format!(" WHERE {}", table.scope);
    }

    fn text(&mut self, value: &str) -> String {
        self.call.bind(Type::TEXT, value.to_owned())
    }

    fn scalar(&mut self, value: &Scalar) -> String {
        bind_scalar(&mut self.call, value)
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
            self.set_filter(&table.name, &side, filter);
            return Ok(());
        }
        let (column, kind) = column(table, field)?;
        match filter {
            Filter::Eq(_, value) => {
                let place = self.scalar(value);
                self.and(&format!("{column} = {place}"));
            }
            Filter::OneOf(_, values) => {
                let place = bind_scalars(&mut self.call, kind, values);
                self.and(&format!("{column} = ANY ({place})"));
            }
            Filter::Range(_, from, to) => {
                self.and(&format!("{column} IS NOT NULL"));
                for (value, sign) in [(from, ">="), (to, "<")] {
                    if let Some(value) = value {
                        let place = self.scalar(value);
                        self.and(&format!("{column} {sign} {place}"));
                    }
                }
            }
            Filter::Prefix(_, prefix) => {
                let place = self.text(prefix);
                self.and(&format!("{column} >= {place}"));
                if let Some(end) = prefix_end(prefix) {
                    let place = self.text(&end);
                    self.and(&format!("{column} < {place}"));
                }
            }
            Filter::Contains(_, text) => {
                let place = self.text(text);
                self.and(&format!("strpos({column}, {place}) > 0"));
            }
            Filter::Absent(_) => self.and(&format!("{column} IS NULL")),
            Filter::Present(_) | Filter::Has(..) => self.and(&format!("{column} IS NOT NULL")),
        }
        Ok(())
    }

    fn set_filter(&mut self, owner: &str, side: &str, filter: &Filter) {
        let of_row = format!("SELECT 1 FROM {side} s WHERE s.ns = $1 AND s.\"row\" = {owner}.\"row\"");
        match filter {
            Filter::Has(_, text) => {
                let place = self.text(text);
                self.and(&format!("{owner}.\"row\" IN (SELECT s.\"row\" FROM {side} s WHERE s.ns = $1 AND s.value = {place})"));
            }
            Filter::Absent(_) => self.and(&format!("NOT EXISTS ({of_row})")),
            _ => self.and(&format!("EXISTS ({of_row})")),
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

fn spec(table: &Table) -> Option<&CollectionSpec> {
    table.spec.as_deref()
}

/// The order field is absent, or it is there: each is one range of its index, and they follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    // A condition on the order field itself decides which of the two there can be.
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

/// A page of records: all its parts in one statement.
pub(crate) fn page(ns: i64, schema: &Schema, query: &Query) -> Result<Question> {
    let table = schema.shown(&query.collection);
    let query = query.resolve(spec(&table))?;
    let mut conditions = Conditions::new(&table, ns);
    let (order, kind) = column(&table, &query.order)?;
    let filters = ranges(&table, &query);
    // One more than asked for tells whether there is a next page.
    let limit = query.limit + 1;
    let mut selects = Vec::new();
    for (number, part) in parts(&query).iter().enumerate() {
        let ranges = filters.iter().map(|f| select(&mut conditions, &table, &query, &order, part, number, f));
        let ranges = ranges.collect::<Result<Vec<_>>>()?;
        selects.push(match ranges.as_slice() {
            [one] => one.clone(),
            several => {
                let by = ordering(&query, "ordered", several.len() > 1 && query.order == KEY_FIELD);
                format!("(SELECT * FROM ({}) u ORDER BY {by} LIMIT {limit})", several.join(" UNION ALL "))
            }
        });
    }
    let text = match selects.as_slice() {
        [one] => one.clone(),
        several => format!("{} LIMIT {limit}", several.join(" UNION ALL ")),
    };
    let call = conditions.call.say(text).page();
    Ok(Question::new(vec![call], move |answers| Ok(Answer::Page(take(&table, &query, kind, answers)?))))
}

/// One range of one part, in order.
fn select(
    conditions: &mut Conditions,
    table: &Table,
    query: &Query,
    order: &str,
    part: &Part,
    number: usize,
    filters: &[Filter],
) -> Result<String> {
    let sign = if query.direction == Direction::Ascending { ">" } else { "<" };
    conditions.again(table);
    conditions.filters(table, filters)?;
    match part.presence {
        Presence::Either => {}
        Presence::Absent => conditions.and(&format!("{order} IS NULL")),
        Presence::Present => conditions.and(&format!("{order} IS NOT NULL")),
    }
    // Rows that share a field's value come by the beginning of the key from its index, and by the key where there is none.
    let along_field = query.order != KEY_FIELD || filters.iter().any(|f| matches!(f, Filter::Eq(name, _) if name != KEY_FIELD));
    if let Some((value, key)) = &part.after {
        let key = conditions.text(key.as_str());
        let beginning = KEY_BEGINNING.replace("key", &key);
        match value {
            Some(value) => {
                let value = conditions.scalar(value);
                conditions.and(&format!("({order}, {KEY_BEGINNING}, key) {sign} ({value}, {beginning}, {key})"));
            }
            None if along_field => conditions.and(&format!("({KEY_BEGINNING}, key) {sign} ({beginning}, {key})")),
            None => conditions.and(&format!("key {sign} {key}")),
        }
    }
    let by = ordering(query, order, along_field);
    Ok(format!(
        "(SELECT {number} AS part, key, revision, position, time, by, doc, {order} AS ordered FROM {}{} ORDER BY {by} LIMIT {})",
        table.name,
        conditions.text,
        query.limit + 1
    ))
}

fn ordering(query: &Query, order: &str, along_field: bool) -> String {
    let way = if query.direction == Direction::Ascending { "ASC" } else { "DESC" };
    match (query.order == KEY_FIELD, along_field) {
        (true, false) => format!("key {way}"),
        (true, true) => format!("{KEY_BEGINNING} {way}, key {way}"),
        (false, _) => format!("{order} {way}, {KEY_BEGINNING} {way}, key {way}"),
    }
}

/// Makes a page of the rows. Parts come one after the other, which no rule of SQL promises: they are put in order here.
fn take(table: &Table, query: &Query, kind: FieldKind, answers: Vec<Vec<Row>>) -> Result<Page> {
    let mut rows: Vec<(i32, Row)> = Vec::new();
    for row in answers.into_iter().flatten() {
        rows.push((row.try_get(0).map_err(unreadable("a page"))?, row));
    }
    rows.sort_by_key(|(part, _)| *part);
    let mut page = Page { items: Vec::new(), next: None, damaged: Vec::new() };
    let (mut bytes, mut last) = (0, None);
    for (seen, (_, row)) in rows.iter().enumerate() {
        if seen >= query.limit || bytes >= limits::PAGE_BYTES {
            page.next = last.map(|(value, key): (Option<Scalar>, Key)| query.cursor_after(value, &key));
            return Ok(page);
        }
        let key = Key::from_store(row.try_get::<_, &str>(1).map_err(unreadable("a page"))?);
        let value = if query.order == KEY_FIELD { None } else { scalar(row, 7, kind).map_err(unreadable("a page"))? };
        bytes += row.raw_size_bytes();
        page.items.push(record(table, key.clone(), row).map_err(unreadable("a page"))?);
        last = Some((value, key));
    }
    Ok(page)
}

fn record(table: &Table, key: Key, row: &Row) -> Result<Record, PgError> {
    Ok(Record {
        collection: table.collection.clone(),
        key,
        revision: row.try_get::<_, i64>(2)?.cast_unsigned(),
        position: Position(row.try_get::<_, i64>(3)?.cast_unsigned()),
        time: Timestamp::from_micros(row.try_get(4)?),
        by: row.try_get(5)?,
        value: Json::from_store(row.try_get::<_, JsonColumn<'_>>(6)?.0),
    })
}

/// How many records the filters take.
pub(crate) fn count(ns: i64, schema: &Schema, query: &Query) -> Result<Question> {
    let table = schema.shown(&query.collection);
    let query = query.clone().after(None).resolve(spec(&table))?;
    let mut conditions = Conditions::new(&table, ns);
    conditions.filters(&table, &query.filters)?;
    let text = format!("SELECT count(*) FROM {}{}", table.name, conditions.text);
    Ok(Question::new(vec![conditions.call.say(text)], |answers| {
        let count = answers.first().and_then(|rows| rows.first()).map(|r| r.try_get::<_, i64>(0));
        Ok(Answer::Count(count.transpose().map_err(unreadable("a count"))?.unwrap_or(0).cast_unsigned()))
    }))
}

/// Groups by a field's value.
pub(crate) fn group_by(
    ns: i64,
    schema: &Schema,
    query: &Query,
    field: &str,
    bucket: Option<Duration>,
    measure: Option<&str>,
) -> Result<Question> {
    let table = schema.shown(&query.collection);
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
        Some((column, FieldKind::Integer)) => format!(", min({column}), max({column}), sum({column})::int8"),
        // PostgreSQL orders booleans, but has no min and max of them.
        Some((column, FieldKind::Bool)) => format!(", bool_and({column}), bool_or({column}), NULL::int8"),
        Some((column, _)) => format!(", min({column}), max({column}), NULL::int8"),
    };
    let limit = query.limit;
    let text = format!(
        "SELECT {by} AS grouped, count(*){extra} FROM {}{} GROUP BY grouped ORDER BY grouped NULLS FIRST LIMIT {}",
        table.name,
        conditions.text,
        limit.saturating_add(1)
    );
    Ok(Question::new(vec![conditions.call.say(text)], move |answers| {
        let rows = answers.into_iter().flatten();
        let groups = rows.map(|row| group(&row, kind, measured.as_ref().map(|(_, kind)| *kind)));
        let groups = groups.collect::<Result<Vec<_>, _>>().map_err(unreadable("a group"))?;
        check_groups(groups.len(), limit)?;
        Ok(Answer::Groups(groups))
    }))
}

fn group(row: &Row, kind: FieldKind, measured: Option<FieldKind>) -> Result<Group, PgError> {
    let (mut min, mut max, mut sum) = (None, None, None);
    if let Some(measured) = measured {
        (min, max, sum) = (scalar(row, 2, measured)?, scalar(row, 3, measured)?, row.try_get(4)?);
    }
    Ok(Group { value: scalar(row, 0, kind)?, count: row.try_get::<_, i64>(1)?.cast_unsigned(), min, max, sum })
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
