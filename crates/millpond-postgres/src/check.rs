//! Checks that what is stored is what should be stored.

use std::sync::Arc;

use millpond_core::{FieldKind, FieldValue, Json, Namespace, Result, Scalar};
use tokio_postgres::types::Type;
use tokio_postgres::{Error as PgError, Row};

use crate::arrays::{JsonColumn, scalar};
use crate::call::Call;
use crate::catalog::Schema;
use crate::engine::Inner;
use crate::errors::{Failure, unreadable};
use crate::names::quote;
use crate::namespaces::NamespaceRow;
use crate::session::Session;
use crate::table::{Slot, Table};

/// Findings are cut here: a damaged store has one cause more often than ten thousand.
const FINDINGS: usize = 100;
/// Records that are looked at in one statement.
const CHUNK: i64 = 1_000;

const INVALID_INDEXES: &str = "SELECT 'index ' || c.relname || ': is not valid, so questions do not use it' FROM pg_index i \
     JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = current_schema()::regnamespace AND NOT i.indisvalid LIMIT 100";
/// Sequences are dense from the oldest kept to the head, in the order of positions.
const STREAMS: &str = "SELECT 'stream ' || s.name || ': holds ' || e.n || ' events from ' || e.low || ' to ' || e.high || \
       ', but should hold ' || s.oldest || ' to ' || s.head \
     FROM streams s CROSS JOIN LATERAL (SELECT count(*) AS n, coalesce(min(sequence), 0) AS low, coalesce(max(sequence), 0) AS high \
       FROM events e WHERE e.ns = s.ns AND e.stream = s.id) e \
     WHERE s.ns = $1 AND (e.n <> s.head - s.oldest + 1 OR (e.n > 0 AND (e.low <> s.oldest OR e.high <> s.head))) LIMIT 100";
const ORDER: &str = "SELECT 'event at position ' || position || ': its sequence does not follow the one before it' FROM \
     (SELECT position, sequence, lag(sequence) OVER (PARTITION BY stream ORDER BY position) AS before FROM events WHERE ns = $1) e \
     WHERE before IS NOT NULL AND sequence <> before + 1 LIMIT 100";
const STRAY_EVENTS: &str = "SELECT 'event at position ' || position || ': its stream is not there' FROM events e WHERE ns = $1 \
     AND NOT EXISTS (SELECT 1 FROM streams s WHERE s.ns = $1 AND s.id = e.stream) LIMIT 100";
const LABELS: &str = "SELECT 'event at position ' || position || ': the labels are not texts by name' FROM events e WHERE ns = $1 \
     AND labels IS NOT NULL AND CASE WHEN jsonb_typeof(labels) = 'object' THEN EXISTS \
     (SELECT 1 FROM jsonb_each(labels) l WHERE jsonb_typeof(l.value) <> 'string') ELSE true END LIMIT 100";

/// Checks indexes, streams, positions, and every record's index fields. One line for each finding.
pub(crate) async fn check(inner: &Inner, namespace: &Namespace) -> Result<Vec<String>, Failure> {
    let mut session = inner.connections.session().await?;
    let (ns, schema) = inner.snapshot_schema(&mut session, namespace).await?;
    let mut calls: Vec<Call<'static>> = vec![Call::once(INVALID_INDEXES)];
    calls.extend([STREAMS, ORDER, STRAY_EVENTS, LABELS].map(|text| Call::once(text).with(Type::INT8, ns.id)));
    calls.extend(beyond_calls(&ns, &schema));
    calls.extend(schema.declared().flat_map(|table| left_behind_calls(ns.id, table)));
    let mut findings = Vec::new();
    for row in session.read(&calls).await?.iter().flatten() {
        findings.push(row.try_get(0).map_err(unreadable("a check"))?);
    }
    for table in schema.declared() {
        // Fields that are still being filled in may lack values.
        records(&mut session, ns.id, &schema.shown(&table.collection), &mut findings).await?;
    }
    findings.truncate(FINDINGS);
    Ok(findings)
}

/// The head is read before the rows in a snapshot of its own, so it is read again with them.
fn beyond_calls(ns: &NamespaceRow, schema: &Schema) -> Vec<Call<'static>> {
    const HEAD: &str = "(SELECT position FROM namespaces WHERE id = $1)";
    let from = |table: &str, what: &str| {
        Call::once(format!(
            "SELECT {what} || ': position ' || position || ' is beyond the head' FROM {table} \
             WHERE ns = $1 AND position > {HEAD} LIMIT 100"
        ))
        .with(Type::INT8, ns.id)
    };
    let mut calls: Vec<_> =
        schema.declared().map(|table| from(&table.name, &format!("'{}/' || key", table.collection))).collect();
    calls.extend(["records", "tombstones"].map(|table| from(table, "collection || '/' || key")));
    calls.push(from("events", "'event ' || sequence"));
    calls
}

/// Values of sets whose record is not there.
fn left_behind_calls(ns: i64, table: &Arc<Table>) -> Vec<Call<'static>> {
    let sides = table.slots.iter().filter_map(|slot| if let Slot::Side(side) = slot { Some(side) } else { None });
    sides
        .map(|side| {
            let text = format!(
                "SELECT $2 || ': side table ' || $3 || ' holds ' || count(*) || ' values of records that are not there' FROM {} s \
                 WHERE s.ns = $1 AND NOT EXISTS (SELECT 1 FROM {} t WHERE t.ns = $1 AND t.\"row\" = s.\"row\") HAVING count(*) > 0",
                quote(side),
                table.name
            );
            let call = Call::once(text).with(Type::INT8, ns).with(Type::TEXT, table.collection.as_str().to_owned());
            call.with(Type::TEXT, side.clone())
        })
        .collect()
}

/// The columns of every record hold what its document says.
async fn records(session: &mut Session, ns: i64, table: &Table, findings: &mut Vec<String>) -> Result<(), Failure> {
    let columns: Vec<String> = table
        .slots
        .iter()
        .map(|slot| match slot {
            Slot::Column(column) => format!(", t.{}", quote(column)),
            // The values of a set as a list, in their order.
            Slot::Side(side) => format!(
                ", ARRAY(SELECT s.value FROM {} s WHERE s.ns = $1 AND s.\"row\" = t.\"row\" ORDER BY s.value)",
                quote(side)
            ),
        })
        .collect();
    let text = format!(
        "SELECT t.key, t.doc{} FROM {} t WHERE t.ns = $1 AND t.key > $2 ORDER BY t.key LIMIT {CHUNK}",
        columns.concat(),
        table.name
    );
    let mut after = String::new();
    while findings.len() < FINDINGS {
        let call = Call::once(text.clone()).with(Type::INT8, ns).with(Type::TEXT, after.clone());
        let rows = session.one(&call).await?;
        let Some(last) = rows.last() else { break };
        after = last.try_get(0).map_err(unreadable("records"))?;
        for row in &rows {
            record(table, row, findings)?;
        }
    }
    Ok(())
}

fn record(table: &Table, row: &Row, findings: &mut Vec<String>) -> Result<()> {
    let Some(spec) = &table.spec else { return Ok(()) };
    let key: &str = row.try_get(0).map_err(unreadable("records"))?;
    let doc: JsonColumn<'_> = row.try_get(1).map_err(unreadable("records"))?;
    let fields = match Json::from_store(doc.0).value().and_then(|value| spec.extract(&value)) {
        Ok(fields) => fields,
        Err(error) => {
            findings.push(format!("{}/{key}: {error}", table.collection));
            return Ok(());
        }
    };
    for (at, (field, value)) in spec.fields.iter().zip(&fields).enumerate() {
        let (same, place) = match field.kind {
            FieldKind::TextSet => (same_set(row, at + 2, value), "side table"),
            kind => (same(row, at + 2, kind, value), "column"),
        };
        if !same.map_err(unreadable("records"))? {
            findings.push(format!(
                "{}/{key}: the {place} of {:?} does not hold what the document says",
                table.collection, field.name
            ));
        }
    }
    Ok(())
}

fn same(row: &Row, at: usize, kind: FieldKind, value: &FieldValue) -> Result<bool, PgError> {
    let stored = scalar(row, at, kind)?;
    let expected: Option<&Scalar> = if let FieldValue::Scalar(scalar) = value { Some(scalar) } else { None };
    Ok(stored.as_ref() == expected)
}

fn same_set(row: &Row, at: usize, value: &FieldValue) -> Result<bool, PgError> {
    let stored: Vec<&str> = row.try_get(at)?;
    let mut expected: Vec<&str> =
        if let FieldValue::Set(values) = value { values.iter().map(|v| &**v).collect() } else { Vec::new() };
    expected.sort_unstable();
    Ok(stored == expected)
}
