//! Queries over records: filter all, sort all, cut last.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{
    Direction, Error, FieldKind, FieldValue, Filter, Group, KEY_FIELD, Key, Page, PageCursor, Query, Record, Result, Scalar,
    Timestamp, check_groups, limits,
};

use super::data::NamespaceData;
use super::steps::Steps;

/// One record that the filters take, with its declared fields.
pub struct Row {
    /// The record.
    pub record: Record,
    fields: BTreeMap<String, FieldValue>,
}

impl Row {
    fn field(&self, name: &str) -> FieldValue {
        if name == KEY_FIELD {
            return FieldValue::Scalar(Scalar::from(self.record.key.as_str()));
        }
        self.fields.get(name).cloned().unwrap_or(FieldValue::Absent)
    }

    fn scalar(&self, name: &str) -> Option<Scalar> {
        match self.field(name) {
            FieldValue::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }
}

/// Absent before everything else.
pub(super) fn compare(a: Option<&Scalar>, b: Option<&Scalar>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.compare(b),
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
    }
}

fn rows(data: &NamespaceData, query: &Query, steps: &dyn Steps) -> Result<Vec<Row>> {
    let spec = data.catalog.get(query.collection.as_str()).cloned();
    let resolved = query.resolve(spec.as_deref())?;
    let mut rows = Vec::new();
    for (id, stored) in &data.records {
        if id.collection != query.collection || stored.document.is_none() {
            continue;
        }
        let names = spec.iter().flat_map(|s| &s.fields).map(|f| f.name.clone());
        let fields = names.zip(data.fields(id, stored, steps)?).collect();
        let row = Row { record: stored.record(id), fields };
        if resolved.filters.iter().all(|f| steps.takes(f, &row.field(f.field()))) {
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Whether a field's value meets one condition. An absent value meets `Absent` only.
pub(super) fn takes(filter: &Filter, value: &FieldValue) -> bool {
    let same = |a: &Scalar, b: &Scalar| a.compare(b) == Ordering::Equal;
    match (filter, value) {
        (Filter::Absent(_), value) => *value == FieldValue::Absent,
        (_, FieldValue::Absent) => false,
        (Filter::Present(_), _) => true,
        (Filter::Eq(_, want), FieldValue::Scalar(have)) => same(want, have),
        (Filter::OneOf(_, wanted), FieldValue::Scalar(have)) => wanted.iter().any(|want| same(want, have)),
        (Filter::Range(_, from, to), FieldValue::Scalar(have)) => {
            from.as_ref().is_none_or(|from| have.compare(from) != Ordering::Less)
                && to.as_ref().is_none_or(|to| have.compare(to) == Ordering::Less)
        }
        (Filter::Prefix(_, text), FieldValue::Scalar(Scalar::Text(have))) => have.starts_with(text.as_str()),
        (Filter::Contains(_, text), FieldValue::Scalar(Scalar::Text(have))) => have.contains(text.as_str()),
        (Filter::Has(_, text), FieldValue::Set(have)) => have.contains(text),
        _ => false,
    }
}

/// One page: everything that is taken, sorted, begun after the cursor, cut at the limit.
pub(super) fn page(data: &NamespaceData, query: &Query, steps: &dyn Steps) -> Result<Page> {
    let mut rows = rows(data, query, steps)?;
    steps.before_sorting(&mut rows, query);
    // Ordered by key, the value plays no part: the key says it all.
    let value = |row: &Row| if query.order == KEY_FIELD { None } else { row.scalar(&query.order) };
    let order = |a: (Option<&Scalar>, &Key), b: (Option<&Scalar>, &Key)| {
        let ascending = steps.compare(a.0, b.0).then_with(|| a.1.cmp(b.1));
        if query.direction == Direction::Descending { ascending.reverse() } else { ascending }
    };
    let mut rows: Vec<_> = rows.into_iter().map(|row| (value(&row), row.record)).collect();
    rows.sort_by(|a, b| order((a.0.as_ref(), &a.1.key), (b.0.as_ref(), &b.1.key)));
    if let Some(PageCursor { value, key, .. }) = &query.after {
        rows.retain(|(v, record)| {
            let by_value = (query.order != KEY_FIELD).then(|| order((v.as_ref(), key), (value.as_ref(), key)));
            steps.beyond(order((v.as_ref(), &record.key), (value.as_ref(), key)), by_value)
        });
    }
    let (mut items, mut next, mut bytes) = (Vec::new(), None, 0);
    let total = rows.len();
    for (value, record) in rows {
        bytes += record.value.len();
        let cursor = query.cursor_after(value, &record.key);
        items.push(record);
        if items.len() == query.limit || bytes >= limits::PAGE_BYTES {
            next = (items.len() < total).then_some(cursor);
            break;
        }
    }
    Ok(Page { items, next, damaged: Vec::new() })
}

/// How many records the filters take.
pub(super) fn count(data: &NamespaceData, query: &Query, steps: &dyn Steps) -> Result<u64> {
    let query = Query { after: None, ..query.clone() };
    let gone = data.records.iter().filter(|(id, stored)| id.collection == query.collection && stored.document.is_none());
    Ok(steps.counted(rows(data, &query, steps)?.len() as u64, gone.count() as u64))
}

/// Groups of the records the filters take.
pub(super) fn group_by(
    data: &NamespaceData,
    query: &Query,
    field: &str,
    bucket: Option<Duration>,
    measure: Option<&str>,
    steps: &dyn Steps,
) -> Result<Vec<Group>> {
    let query = Query { after: None, ..query.clone() };
    let spec = data.catalog.get(query.collection.as_str()).cloned();
    // What can be ordered by can be grouped by and measured: a declared field that is no set.
    for name in std::iter::once(field).chain(measure) {
        query.clone().order_asc(name).resolve(spec.as_deref())?;
    }
    let kind = spec.as_ref().and_then(|s| s.field(field)).map(|f| f.kind);
    if bucket.is_some() && kind != Some(FieldKind::Timestamp) {
        return Err(Error::invalid(format!("field {field:?} cannot be cut into buckets: it is no timestamp")));
    }
    let mut groups: Vec<Group> = Vec::new();
    for row in rows(data, &query, steps)? {
        let value = cut(row.scalar(field), bucket);
        let measured = measure.and_then(|m| row.scalar(m));
        let at = groups.iter().position(|g| g.value == value).unwrap_or_else(|| {
            groups.push(Group { value, count: 0, min: None, max: None, sum: None });
            groups.len() - 1
        });
        add(&mut groups[at], measured)?;
    }
    groups.sort_by(|a, b| compare(a.value.as_ref(), b.value.as_ref()));
    steps.groups(&mut groups);
    if steps.refuses_more_groups() {
        check_groups(groups.len(), query.limit)?;
    }
    groups.truncate(query.limit);
    Ok(groups)
}

fn cut(value: Option<Scalar>, bucket: Option<Duration>) -> Option<Scalar> {
    match (value, bucket) {
        (Some(Scalar::Timestamp(t)), Some(length)) => {
            let length = i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1);
            Some(Scalar::Timestamp(Timestamp::from_micros(t.as_micros().div_euclid(length) * length)))
        }
        (value, _) => value,
    }
}

fn add(group: &mut Group, measured: Option<Scalar>) -> Result<()> {
    group.count += 1;
    let Some(value) = measured else { return Ok(()) };
    if let Scalar::Integer(n) = value {
        let sum = group.sum.unwrap_or(0).checked_add(n);
        group.sum = Some(sum.ok_or_else(|| Error::invalid("the sum of a group leaves the range of 64-bit integers"))?);
    }
    if group.min.as_ref().is_none_or(|min| value.compare(min) == Ordering::Less) {
        group.min = Some(value.clone());
    }
    if group.max.as_ref().is_none_or(|max| value.compare(max) == Ordering::Greater) {
        group.max = Some(value);
    }
    Ok(())
}
