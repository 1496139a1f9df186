//! Checks that what is stored is what should be stored.

use millpond_core::{FieldKind, FieldValue, Json, Namespace, Result};
use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};

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
    findings.extend(events(connection, &ns)?);
    for table in schema.declared() {
        records(connection, &ns, table, &mut findings)?;
        left_behind(connection, &ns, table, &mut findings)?;
    }
    findings.extend(run(
        connection,
        "SELECT collection || '/' || key || ': the document is not JSON' FROM records WHERE ns = ?1 AND NOT json_valid(doc) LIMIT 100",
        &[Box::new(ns.id)],
        |r| r.get(0),
    )?);
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

/// The data and labels of every event read back.
fn events(connection: &Connection, ns: &NamespaceRow) -> Result<Vec<String>> {
    run(
        connection,
        "SELECT 'event at position ' || position || CASE WHEN json_valid(data) THEN ': the labels are not texts by name' \
           ELSE ': the data is not JSON' END \
         FROM events WHERE row > ?1 AND row < ?2 AND (NOT json_valid(data) OR (labels IS NOT NULL AND CASE WHEN json_valid(labels) \
           THEN json_type(labels) <> 'object' OR EXISTS (SELECT 1 FROM json_each(labels) l WHERE l.type <> 'text') ELSE 1 END)) \
         LIMIT 100",
        &[Box::new(ns.base()), Box::new(ns.end())],
        |r| r.get(0),
    )
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
        let text = |i| row.get_ref(i).ok().and_then(|v| v.as_str().ok().map(str::to_owned));
        let (Some(key), Some(doc)) = (text(0), text(1)) else {
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
