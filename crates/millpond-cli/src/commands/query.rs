//! Conditions on declared fields, as flags. A value is read as the kind its field is declared.

use std::time::Duration;

use clap::Args;
use millpond::{Catalog, Direction, Error, FieldKind, Filter, Group, KEY_FIELD, PageCursor, Query, Result, Scalar, limits};
use serde_json::{Value, json};

use super::input;

/// Flags of `records query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// The collection
    pub collection: String,
    /// The field is this
    #[arg(long, value_name = "FIELD=VALUE", value_parser = input::pair)]
    eq: Vec<(String, String)>,
    /// The field is one of these
    #[arg(long, value_name = "FIELD=A,B,…", value_parser = input::pair)]
    one_of: Vec<(String, String)>,
    /// At or above FROM, below TO; either may be left out
    #[arg(long, value_name = "FIELD=FROM..TO", value_parser = input::pair)]
    range: Vec<(String, String)>,
    /// Text that begins with this; the field `key` works too
    #[arg(long, value_name = "FIELD=TEXT", value_parser = input::pair)]
    prefix: Vec<(String, String)>,
    /// Text that holds this, case-sensitive
    #[arg(long, value_name = "FIELD=TEXT", value_parser = input::pair)]
    contains: Vec<(String, String)>,
    /// A set that holds this; labels as LABEL=VALUE
    #[arg(long, value_name = "FIELD=TEXT", value_parser = input::pair)]
    has: Vec<(String, String)>,
    /// The field is not there
    #[arg(long, value_name = "FIELD")]
    absent: Vec<String>,
    /// The field is there
    #[arg(long, value_name = "FIELD")]
    present: Vec<String>,
    /// Order by this field
    #[arg(long, value_name = "FIELD", default_value = KEY_FIELD)]
    order: String,
    /// Largest first
    #[arg(long)]
    desc: bool,
    /// At most this many; 50 if left out, or 10,000 groups
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Continue after the page that gave out this cursor
    #[arg(long, value_name = "CURSOR")]
    after: Option<PageCursor>,
    /// Only say how many there are
    #[arg(long, conflicts_with = "group_by")]
    pub count: bool,
    /// Count by the values of this field
    #[arg(long, value_name = "FIELD")]
    pub group_by: Option<String>,
    /// Cut a time field into pieces of this length
    #[arg(long, value_name = "LENGTH", value_parser = input::duration, requires = "group_by")]
    pub bucket: Option<Duration>,
    /// Show the smallest, largest and sum of this field in each group
    #[arg(long, value_name = "FIELD", requires = "group_by")]
    pub measure: Option<String>,
}

impl QueryArgs {
    /// The query these flags ask for.
    ///
    /// # Errors
    /// `Invalid` when a value is not of its field's kind.
    pub fn build(&self, catalog: &Catalog) -> Result<Query> {
        let spec = catalog.get(&self.collection);
        let kind = |field: &str| {
            // An undeclared field is refused by the query itself, which lists those that are declared.
            spec.and_then(|s| s.field(field)).map_or(FieldKind::Text, |f| f.kind)
        };
        let read = |field: &str, text: &str| scalar(field, kind(field), text);
        let limit = self.limit.unwrap_or(if self.group_by.is_some() { limits::PAGE_ROWS } else { 50 });
        let mut query = Query::new(&self.collection)?.limit(limit).after(self.after.clone());
        query.order.clone_from(&self.order);
        query.direction = if self.desc { Direction::Descending } else { Direction::Ascending };
        for (field, text) in &self.eq {
            query = query.eq(field, read(field, text)?);
        }
        for (field, texts) in &self.one_of {
            query = query.one_of(field, texts.split(',').map(|t| read(field, t)).collect::<Result<Vec<_>>>()?);
        }
        for (field, text) in &self.range {
            let (from, to) = text.split_once("..").ok_or_else(|| {
                Error::invalid(format!("--range {field}={text} has no \"..\""))
                    .with_next("write it like size=10..20, size=10.. or size=..20")
            })?;
            let end = |t: &str| if t.is_empty() { Ok(None) } else { read(field, t).map(Some) };
            query = query.filter(Filter::Range(field.clone(), end(from)?, end(to)?));
        }
        query = self.prefix.iter().fold(query, |q, (f, t)| q.prefix(f, t));
        query = self.contains.iter().fold(query, |q, (f, t)| q.contains(f, t));
        query = self.has.iter().fold(query, |q, (f, t)| q.has(f, t));
        query = self.absent.iter().fold(query, |q, f| q.filter(Filter::Absent(f.clone())));
        Ok(self.present.iter().fold(query, |q, f| q.filter(Filter::Present(f.clone()))))
    }
}

fn scalar(field: &str, kind: FieldKind, text: &str) -> Result<Scalar> {
    let wrong = || Error::invalid(format!("{text:?} is no value for field {field:?}, which is {}", kind.as_str()));
    Ok(match kind {
        FieldKind::Text | FieldKind::TextSet => Scalar::Text(text.to_owned()),
        FieldKind::Integer => Scalar::Integer(text.parse().map_err(|_| wrong())?),
        FieldKind::Real => Scalar::Real(text.parse().map_err(|_| wrong())?),
        FieldKind::Bool => Scalar::Bool(text.parse().map_err(|_| wrong().with_next("write true or false"))?),
        FieldKind::Timestamp => Scalar::Timestamp(input::moment(text).map_err(|e| wrong().with_next(e))?),
    })
}

/// A group with plain values.
pub fn group_json(group: &Group) -> Value {
    let plain = |s: &Option<Scalar>| s.as_ref().map(Scalar::to_json);
    json!({
        "value": plain(&group.value),
        "count": group.count,
        "min": plain(&group.min),
        "max": plain(&group.max),
        "sum": group.sum,
    })
}
