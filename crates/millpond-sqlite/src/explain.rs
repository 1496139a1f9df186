//! What a page costs SQLite: for people who ask why a query is slow, and for tests that must not believe.

use millpond_core::{Query, Result};
use rusqlite::{Connection, StatementStatus, ToSql};

use crate::catalog::Schema;
use crate::errors::sql;
use crate::query;

/// How SQLite answers one page of a query, and what it did for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageCost {
    /// SQLite's own plan (`EXPLAIN QUERY PLAN`), a line each.
    pub plan: Vec<String>,
    /// Records it handed over; one more than the page when there is a next one.
    pub rows: u64,
    /// Steps of its virtual machine: what grows when rows are looked at and left out.
    pub steps: u64,
    /// Steps forward in a scan of a whole table.
    pub scanned: u64,
    /// Times it had to sort.
    pub sorts: u64,
}

/// Runs the statements of a page and adds up what they cost.
pub(crate) fn page(connection: &Connection, ns: i64, schema: &Schema, query: &Query) -> Result<PageCost> {
    let mut cost = PageCost::default();
    for (text, values) in query::statements(ns, schema, query)? {
        let bound: Vec<&dyn ToSql> = values.iter().map(|v| &**v).collect();
        let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).map_err(sql("explain"))?;
        let lines = explained.query_map(&bound[..], |row| row.get::<_, String>(3)).map_err(sql("explain"))?;
        cost.plan.extend(lines.collect::<rusqlite::Result<Vec<_>>>().map_err(sql("explain"))?);
        let mut statement = connection.prepare(&text).map_err(sql("explain"))?;
        let mut rows = statement.query(&bound[..]).map_err(sql("explain"))?;
        while rows.next().map_err(sql("explain"))?.is_some() {
            cost.rows += 1;
        }
        drop(rows);
        let of = |status| u64::try_from(statement.get_status(status)).unwrap_or(0);
        cost.steps += of(StatementStatus::VmStep);
        cost.scanned += of(StatementStatus::FullscanStep);
        cost.sorts += of(StatementStatus::Sort);
    }
    Ok(cost)
}
