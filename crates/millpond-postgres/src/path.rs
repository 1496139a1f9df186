//! The ranges a page is read along. PostgreSQL reads a range of an index in order, but not several of them merged: a
//! `one of` in front of the order is therefore asked once for each value, and the answers are merged.
//!
//! ```text
//!   state = 'a', ordered by time            index (state, time): one range, already in order
//!   state one of 'a', 'b', ordered by time  the same index once for each value: two ranges, each in order
//! ```

use millpond_core::{Filter, KEY_FIELD, Query, Scalar};

use crate::table::Table;

/// Values of a `one of` that are read as ranges of their own. More are left to the planner.
const RANGES: usize = 16;

/// The filters of each range.
pub(crate) fn ranges(table: &Table, query: &Query) -> Vec<Vec<Filter>> {
    let whole = || vec![query.filters.clone()];
    let Some(spec) = &table.spec else { return whole() };
    // Every field has an index by itself, which the key follows.
    let by_key = || spec.fields.iter().map(|f| vec![f.name.as_str()]);
    let leading: Vec<Vec<&str>> = if query.order == KEY_FIELD {
        by_key().collect()
    } else {
        let ending = spec.indexes.iter().filter_map(|fields| fields.split_last()).filter(|(last, _)| **last == query.order);
        ending.map(|(_, leading)| leading.iter().map(String::as_str).collect()).collect()
    };
    // The longest that fits; one that needs no split where there is the choice.
    let fits = leading.iter().filter_map(|fields| Some((fields.len(), fit(&query.filters, fields)?)));
    match fits.max_by_key(|(length, fit)| (*length, matches!(fit, Fit::Equal))) {
        Some((_, Fit::Split(at, values))) => values.into_iter().map(|v| one_value(&query.filters, at, v)).collect(),
        _ => whole(),
    }
}

/// How filters fit the leading fields of an index.
enum Fit {
    /// Each field has one value.
    Equal,
    /// The filter at this place has several, each of them once.
    Split(usize, Vec<Scalar>),
}

fn fit(filters: &[Filter], leading: &[&str]) -> Option<Fit> {
    let mut fit = Fit::Equal;
    for field in leading {
        if filters.iter().any(|f| matches!(f, Filter::Eq(name, _) if name == field)) {
            continue;
        }
        let at = filters.iter().position(|f| matches!(f, Filter::OneOf(name, _) if name == field))?;
        let Some(Filter::OneOf(_, values)) = filters.get(at) else { return None };
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
    if let Some(filter) = filters.get_mut(at) {
        *filter = Filter::Eq(filter.field().to_owned(), value);
    }
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
        .index_on(&["state", "at"])
        .index_on(&["job", "state", "at"]);

    fn count(query: impl FnOnce(Query) -> Query) -> Result<usize> {
        let slots = ["job", "state", "at"].map(|c| Slot::Column(c.to_owned())).to_vec();
        let table = Table::declared(Arc::new(JOBS.spec()?), slots);
        Ok(ranges(&table, &query(Query::new("jobs")?)).len())
    }

    #[test]
    fn a_one_of_in_front_of_the_order_is_split() -> Result<()> {
        assert_eq!(count(|q| q.eq("state", "a").order_desc("at"))?, 1);
        assert_eq!(count(|q| q.one_of("state", ["a", "b", "a"]).order_desc("at"))?, 2);
        assert_eq!(count(|q| q.eq("job", "x").one_of("state", ["a", "b"]).order_desc("at"))?, 2);
        assert_eq!(count(|q| q.one_of("job", ["x", "y"]).one_of("state", ["a", "b"]).order_asc("at"))?, 2);
        assert_eq!(count(|q| q.one_of("state", ["a", "b"]))?, 2, "ordered by the key");
        assert_eq!(count(|q| q.one_of("job", ["a", "b"]).order_asc("at"))?, 1, "no index of job and at");
        let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
        assert_eq!(count(|q| q.one_of("state", &many).order_asc("at"))?, 1);
        Ok(())
    }
}
