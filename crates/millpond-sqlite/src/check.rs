//! Checks that what is stored is what should be stored.

use std::collections::BTreeMap;

use millpond_core::{FieldKind, FieldValue, Json, Namespace, Result};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row};

use crate::catalog::{Schema, Schemas};
use crate::errors::sql;
use crate::namespaces::{NamespaceRow, namespace_row};
use crate::query::run;
use crate::table::{Slot, Table, quote};

/// Findings are cut here: a damaged store has one cause more often than ten thousand.
const FINDINGS: usize = 100;

/// Checks the file, the streams, and every record's document and index fields. One line for each finding.
pub(crate) fn check(connection: &Connection, namespace: &Namespace, schemas: &Schemas) -> Result<Vec<String>> {
    let mut findings = quick_check(connection)?;
    let ns = namespace_row(connection, namespace)?;
    let schema = schemas.of(connection, &ns)?;
    findings.extend(streams(connection, &ns)?);
    findings.extend(positions(connection, &ns, &schema)?);
    events(connection, &ns, &mut findings)?;
    for table in schema.declared() {
        records(connection, &ns, table, &mut findings)?;
        left_behind(connection, &ns, table, &mut findings)?;
    }
    undeclared(connection, &ns, &mut findings)?;
    findings.truncate(FINDINGS);
    Ok(findings)
}

fn quick_check(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection.prepare("PRAGMA quick_check(100)").map_err(sql("check"))?;
    let lines: Vec<String> = statement.query_map([], |r| r.get(0)).and_then(Iterator::collect).map_err(sql("check"))?;
    Ok(lines.into_iter().filter(|l| l != "ok").map(|l| format!("database file: {l}")).collect())
}

/// Sequences are dense from the oldest kept to the head, in the order of positions.
fn streams(connection: &Connection, ns: &NamespaceRow) -> Result<Vec<String>> {
    run(
        connection,
        "SELECT 'stream ' || s.name || ': holds ' || count(e.row) || ' events from ' || coalesce(min(e.sequence), 0) || ' to ' || \
           coalesce(max(e.sequence), 0) || ', but should hold ' || s.oldest || ' to ' || s.head \
         FROM streams s LEFT JOIN events e ON e.stream = s.id WHERE s.ns = ?1 GROUP BY s.id \
         HAVING count(e.row) <> s.head - s.oldest + 1 OR (count(e.row) > 0 AND (min(e.sequence) <> s.oldest OR max(e.sequence) <> s.head)) \
         LIMIT 100",
        &[Box::new(ns.id)],
        |r| r.get(0),
    )
}

/// The data and labels of every event read back, as its readers read them.
fn events(connection: &Connection, ns: &NamespaceRow, findings: &mut Vec<String>) -> Result<()> {
    let mut statement =
        connection.prepare("SELECT position, data, labels FROM events WHERE row > ?1 AND row < ?2").map_err(sql("check"))?;
    let mut rows = statement.query([ns.base(), ns.end()]).map_err(sql("check"))?;
    while let Some(row) = rows.next().map_err(sql("check"))? {
        if findings.len() >= FINDINGS {
            return Ok(());
        }
        let position: i64 = row.get(0).map_err(sql("check"))?;
        if text(row, 1).is_none_or(|data| Json::from_store(data).check_text().is_err()) {
            findings.push(format!("event at position {position}: the data is not JSON"));
        }
        let labels = row.get_ref(2).map_err(sql("check"))?;
        let read = labels.as_str().ok().and_then(|text| serde_json::from_str::<BTreeMap<String, String>>(text).ok());
        if labels != ValueRef::Null && read.is_none() {
            findings.push(format!("event at position {position}: the labels are not texts by name"));
        }
    }
    Ok(())
}

/// The documents of collections nobody declared: they have no fields, but have to read back as well.
fn undeclared(connection: &Connection, ns: &NamespaceRow, findings: &mut Vec<String>) -> Result<()> {
    let mut statement =
        connection.prepare("SELECT collection || '/' || key, doc FROM records WHERE ns = ?1").map_err(sql("check"))?;
    let mut rows = statement.query([ns.id]).map_err(sql("check"))?;
    while let Some(row) = rows.next().map_err(sql("check"))? {
        if findings.len() >= FINDINGS {
            return Ok(());
        }
        match text(row, 1).map(|doc| Json::from_store(doc).check_text()) {
            Some(Ok(())) => {}
            damaged => {
                let record = text(row, 0).unwrap_or_else(|| "a record whose name is not text".to_owned());
                let why = damaged.and_then(std::result::Result::err).map(|e| format!(": {e}")).unwrap_or_default();
                findings.push(format!("{record}: the document is not JSON{why}"));
            }
        }
    }
    Ok(())
}

/// A column that should hold text.
fn text(row: &Row<'_>, column: usize) -> Option<String> {
    row.get_ref(column).ok().and_then(|value| value.as_str().ok().map(str::to_owned))
}

fn positions(connection: &Connection, ns: &NamespaceRow, schema: &Schema) -> Result<Vec<String>> {
    let head = ns.position.cast_signed();
    let mut findings = Vec::new();
    for table in schema.declared() {
        findings.extend(run(
            connection,
            &format!(
                "SELECT '{}/' || key || ': position ' || position || ' is beyond the head {head}' FROM {} WHERE ns = ?1 AND position > ?2 LIMIT 100",
                table.collection, table.name
            ),
            &[Box::new(ns.id), Box::new(head)],
            |r| r.get::<_, String>(0),
        )?);
    }
    for table in ["records", "tombstones"] {
        findings.extend(run(
            connection,
            &format!(
                "SELECT collection || '/' || key || ': position ' || position || ' is beyond the head {head}' \
                 FROM {table} WHERE ns = ?1 AND position > ?2 LIMIT 100"
            ),
            &[Box::new(ns.id), Box::new(head)],
            |r| r.get::<_, String>(0),
        )?);
    }
    findings.extend(run(
        connection,
        "SELECT 'event at position ' || position || ' is beyond the head' FROM events WHERE row > ?1 AND row < ?2 LIMIT 100",
        &[Box::new(ns.base() + head), Box::new(ns.end())],
        |r| r.get::<_, String>(0),
    )?);
    Ok(findings)
}

fn records(connection: &Connection, ns: &NamespaceRow, table: &Table, findings: &mut Vec<String>) -> Result<()> {
    let Some(spec) = &table.spec else { return Ok(()) };
    let columns: Vec<String> = table
        .slots
        .iter()
        .map(|s| match s {
            Slot::Column(c) => format!(", {}", quote(c)),
            // The values of a set as a list, in their order.
            Slot::Side(side) => {
                let side = quote(side);
                format!(", (SELECT json_group_array(value ORDER BY value) FROM {side} WHERE {side}.row = {}.row)", table.name)
            }
        })
        .collect();
    let mut statement = connection
        .prepare(&format!("SELECT key, doc{} FROM {} WHERE ns = ?1 ORDER BY key", columns.concat(), table.name))
        .map_err(sql("check"))?;
    let mut rows = statement.query([ns.id]).map_err(sql("check"))?;
    while let Some(row) = rows.next().map_err(sql("check"))? {
        if findings.len() >= FINDINGS {
            return Ok(());
        }
        let (Some(key), Some(doc)) = (text(row, 0), text(row, 1)) else {
            findings.push(format!("{}: a key or document is not text", table.collection));
            continue;
        };
        let fields = Json::from_store(doc).value().and_then(|value| spec.extract(&value));
        match fields {
            Err(error) => findings.push(format!("{}/{key}: {error}", table.collection)),
            Ok(fields) => {
                for (i, (field, value)) in spec.fields.iter().zip(&fields).enumerate() {
                    let stored = row.get_ref(i + 2).map_err(sql("check"))?;
                    let slot = if field.kind == FieldKind::TextSet { "side table" } else { "column" };
                    let same = if field.kind == FieldKind::TextSet { same_set(value, stored) } else { same(value, stored) };
                    if !same {
                        findings.push(format!(
                            "{}/{key}: the {slot} of {:?} does not hold what the document says",
                            table.collection, field.name
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Values of sets whose record is not there.
fn left_behind(connection: &Connection, ns: &NamespaceRow, table: &Table, findings: &mut Vec<String>) -> Result<()> {
    for slot in &table.slots {
        let Slot::Side(side) = slot else { continue };
        let orphans: Vec<i64> = run(
            connection,
            &format!(
                "SELECT count(*) FROM {} WHERE ns = ?1 AND row NOT IN (SELECT row FROM {} WHERE ns = ?1)",
                quote(side),
                table.name
            ),
            &[Box::new(ns.id)],
            |r| r.get(0),
        )?;
        if let Some(count) = orphans.first().filter(|n| **n > 0) {
            findings
                .push(format!("{}: side table {side:?} holds {count} values of records that are not there", table.collection));
        }
    }
    Ok(())
}

fn same_set(value: &FieldValue, stored: ValueRef<'_>) -> bool {
    let mut expected: Vec<&str> = match value {
        FieldValue::Set(values) => values.iter().map(|v| &**v).collect(),
        _ => Vec::new(),
    };
    expected.sort_unstable();
    stored.as_str().is_ok_and(|text| serde_json::from_str::<Vec<String>>(text).is_ok_and(|found| found == expected))
}

fn same(value: &FieldValue, stored: ValueRef<'_>) -> bool {
    let FieldValue::Scalar(scalar) = value else { return stored == ValueRef::Null };
    match crate::table::bind(scalar) {
        ToSqlOutput::Borrowed(v) => v == stored,
        ToSqlOutput::Owned(v) => ValueRef::from(&v) == stored,
        _ => false,
    }
}
