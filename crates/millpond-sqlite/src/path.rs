//! The index a page is read along. SQLite keeps no statistics of our tables and would at times choose an index that
//! makes it read rows of no interest; a declared index that fits the question is therefore named in the statement.
//!
//! ```text
//!   state = 'a', ordered by time            index (state, time): one range, already in order
//!   state one of 'a', 'b', ordered by time  the same index once for each value, merged: two ranges, each in order
//! ```

use millpond_core::{Filter, Query, Scalar};

use crate::table::Table;

/// Values of a `one of` that are read as ranges of their own. More are left to SQLite.
const RANGES: usize = 16;

/// How the rows of a page are read.
#[derive(Debug, PartialEq)]
pub(crate) struct Path {
    /// `INDEXED BY` and the index, or nothing.
    pub(crate) hint: String,
    /// The filters of each range.
    pub(crate) ranges: Vec<Vec<Filter>>,
}

impl Path {
    /// The longest declared index whose last field is the query's order and whose other fields are each asked to be
    /// equal, or one of a few values for one of them.
    pub(crate) fn of(table: &Table, query: &Query) -> Self {
        let whole = || Self { hint: String::new(), ranges: vec![query.filters.clone()] };
        let Some(spec) = &table.spec else { return whole() };
        let mut best: Option<(usize, Fit, &Vec<String>)> = None;
        for fields in &spec.indexes {
            let Some((last, leading)) = fields.split_last() else { continue };
            if *last != query.order {
                continue;
            }
            let Some(fit) = fit(&query.filters, leading) else { continue };
            let better = best.as_ref().is_none_or(|(n, old, _)| (leading.len(), fit.rank()) > (*n, old.rank()));
            if better {
                best = Some((leading.len(), fit, fields));
            }
        }
        let Some((_, fit, fields)) = best else { return whole() };
        let Some(index) = table.index(fields) else { return whole() };
        let ranges = match fit {
            Fit::Equal => vec![query.filters.clone()],
            Fit::Split(at, values) => values.into_iter().map(|v| one_value(&query.filters, at, v)).collect(),
        };
        Self { hint: format!(" INDEXED BY {index}"), ranges }
    }
}

/// How filters fit the leading fields of an index.
#[derive(Debug)]
enum Fit {
    /// Each field has one value.
    Equal,
    /// The filter at this place has several, each of them once.
    Split(usize, Vec<Scalar>),
}

impl Fit {
    fn rank(&self) -> u8 {
        u8::from(matches!(self, Self::Equal))
    }
}

fn fit(filters: &[Filter], leading: &[String]) -> Option<Fit> {
    let mut fit = Fit::Equal;
    for field in leading {
        if filters.iter().any(|f| matches!(f, Filter::Eq(name, _) if name == field)) {
            continue;
        }
        let at = filters.iter().position(|f| matches!(f, Filter::OneOf(name, _) if name == field))?;
        let Filter::OneOf(_, values) = &filters[at] else { return None };
        let mut once: Vec<Scalar> = Vec::new();
        for value in values {
            if !once.contains(value) {
                once.push(value.clone());
            }
        }
        if once.is_empty() || once.len() > RANGES || matches!(fit, Fit::Split(..)) {
            return None;
        }
        fit = Fit::Split(at, once);
    }
    Some(fit)
}

fn one_value(filters: &[Filter], at: usize, value: Scalar) -> Vec<Filter> {
    let mut filters = filters.to_vec();
    filters[at] = Filter::Eq(filters[at].field().to_owned(), value);
    filters
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millpond_core::{Collection, FieldKind, Result};

    use super::*;
    use crate::table::Slot;

    const JOBS: Collection = Collection::new("jobs")
        .index("job", FieldKind::Text)
        .index("state", FieldKind::Text)
        .index("at", FieldKind::Timestamp)
        .index_on(&["job", "at"])
        .index_on(&["state", "at"])
        .index_on(&["job", "state", "at"]);

    fn path(query: impl FnOnce(Query) -> Query) -> Result<(String, usize)> {
        let slots = ["job", "state", "at"].map(|c| Slot::Column(c.to_owned())).to_vec();
        let table = Table::declared(Arc::new(JOBS.spec()?), slots);
        let path = Path::of(&table, &query(Query::new("jobs")?));
        Ok((path.hint.replace(" INDEXED BY ", ""), path.ranges.len()))
    }

    #[test]
    fn the_longest_index_that_fits_is_named() -> Result<()> {
        let range = |q: Query| q.at_least("at", 1_i64).order_desc("at");
        assert_eq!(path(|q| range(q).eq("job", "a"))?, ("\"jobs.job+at\"".to_owned(), 1));
        assert_eq!(path(|q| range(q).eq("state", "a").eq("job", "a"))?, ("\"jobs.job+state+at\"".to_owned(), 1));
        assert_eq!(path(|q| range(q).one_of("state", ["a", "b", "a"]))?, ("\"jobs.state+at\"".to_owned(), 2));
        assert_eq!(path(|q| range(q).one_of("state", ["a", "b"]).eq("job", "a"))?, ("\"jobs.job+state+at\"".to_owned(), 2));
        assert_eq!(path(range)?, (String::new(), 1), "no condition on a leading field");
        assert_eq!(path(|q| q.eq("job", "a"))?, (String::new(), 1), "ordered by the key");
        assert_eq!(path(|q| q.eq("job", "a").order_asc("state"))?, (String::new(), 1), "an index with another end");
        let two = |q: Query| q.one_of("job", ["a", "b"]).one_of("state", ["a", "b"]).order_asc("at");
        assert_eq!(path(two)?.1, 2, "one of the two is split, the other is asked of each row");
        let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
        assert_eq!(path(|q| q.one_of("job", &many).order_asc("at"))?, (String::new(), 1));
        Ok(())
    }
}
