//! The rows of a collection that is declared, or declared with more fields: moved into its table, or filled in.
//!
//! ```text
//!   declared with a new field      spec: with the field   filling: {fields: [it], after: ""}   one transaction
//!   a chunk of rows                                       filling: {…, after: "k999"}          a transaction each
//!   …                              commits write the field, questions do not know it
//!   the last chunk                                        filling: null                        questions know it
//! ```
//!
//! From the first transaction on every commit of every process writes the new field with its record, so a row that was
//! filled in stays right, and one that comes to be meanwhile is. Whoever declares the same again goes on where the last
//! one stopped. A record whose document does not fit ends it: the field is withdrawn, as if it had not been declared.
//!
//! Rows of a collection that nobody had declared move in one transaction: they can only be in one place or the other.

use std::collections::HashSet;
use std::sync::Arc;

use millpond_core::{CollectionSpec, Error, ErrorKind, FieldValue, Json, Namespace, Result};
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use tokio_postgres::{Error as PgError, Row};

use crate::apply::{Put, put};
use crate::arrays::JsonColumn;
use crate::call::Call;
use crate::catalog;
use crate::engine::Inner;
use crate::errors::{Failure, unreadable};
use crate::names::quote;
use crate::namespaces::{NamespaceRow, existing, lock_call};
use crate::session::Session;
use crate::table::{Slot, Table};

/// Rows that are moved or filled in by one statement, and filled in by one transaction.
const CHUNK: usize = 1_000;

/// Fields that are being filled in, and the key up to which they are.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Filling {
    fields: Vec<String>,
    after: String,
}

impl Filling {
    /// As a collection's row keeps it.
    pub(crate) fn read(text: Option<&str>) -> Result<Option<Self>> {
        let read = text.map(serde_json::from_str).transpose();
        read.map_err(|e| Error::corrupt("how far a field is filled in does not read back").with_source(e))
    }

    /// What [`Filling::read`] reads.
    pub(crate) fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::invalid("a key is not JSON").with_source(e))
    }

    /// A declaration without the fields that are not there yet.
    pub(crate) fn hide(&self, spec: &CollectionSpec) -> CollectionSpec {
        let mut shown = spec.clone();
        shown.fields.retain(|field| !self.fields.contains(&field.name));
        shown.indexes.retain(|fields| !fields.iter().any(|field| self.fields.contains(field)));
        shown
    }
}

/// A record that is moved or filled in.
struct Old {
    key: String,
    row: i64,
    revision: i64,
    position: i64,
    time: i64,
    by: Option<String>,
    doc: String,
    fields: Vec<FieldValue>,
}

fn old(row: &Row, spec: &CollectionSpec) -> Result<Old> {
    let read = || -> Result<Old, PgError> {
        Ok(Old {
            key: row.try_get(0)?,
            row: row.try_get(1)?,
            revision: row.try_get(2)?,
            position: row.try_get(3)?,
            time: row.try_get(4)?,
            by: row.try_get(5)?,
            doc: row.try_get::<_, JsonColumn<'_>>(6)?.0.to_owned(),
            fields: Vec::new(),
        })
    };
    let mut old = read().map_err(unreadable("records"))?;
    let value = Json::from_store(old.doc.as_str()).value()?;
    old.fields = spec.extract(&value).map_err(|e| {
        e.with("record", format!("{}/{}", spec.name, old.key))
            .with_next("change that record, or declare the field with the type it has")
    })?;
    Ok(old)
}

fn as_put<'o>(spec: &'o CollectionSpec, old: &'o Old, replaces: bool) -> Put<'o> {
    Put {
        collection: spec.name.as_str(),
        key: &old.key,
        row: old.row,
        revision: old.revision,
        position: old.position,
        time: old.time,
        by: old.by.as_deref(),
        doc: &old.doc,
        fields: &old.fields,
        replaces,
    }
}

/// Writes the next rows after a key with all their fields, each as it is; the last key if there may be more.
///
/// `from` is the table they are read from: the one they are written to, or the one of undeclared collections.
async fn chunk(session: &mut Session, ns: i64, table: &Table, from: &str, after: &str) -> Result<Option<String>, Failure> {
    let Some(spec) = table.spec.clone() else { return Ok(None) };
    let moves = from == "records";
    let scope = if moves { format!(" AND collection = '{}'", spec.name) } else { String::new() };
    let select = format!(
        "SELECT key, \"row\", revision, position, time, by, doc FROM {from} WHERE ns = $1{scope} AND key > $2 ORDER BY key LIMIT {CHUNK}"
    );
    let call = Call::once(select).with(Type::INT8, ns).with(Type::TEXT, after);
    let rows = session.run(&[call]).await?.pop().unwrap_or_default();
    let olds = rows.iter().map(|r| old(r, &spec)).collect::<Result<Vec<_>>>()?;
    let puts: Vec<Put<'_>> = olds.iter().map(|old| as_put(&spec, old, !moves)).collect();
    let calls = put(ns, table, &puts)?;
    if !calls.is_empty() {
        session.run(&calls).await?;
    }
    Ok(olds.last().filter(|_| olds.len() == CHUNK).map(|last| last.key.clone()))
}

/// Which of these collections have rows that were written while they were undeclared.
pub(crate) async fn undeclared<'n>(
    session: &mut Session,
    ns: i64,
    collections: impl Iterator<Item = &'n str>,
) -> Result<HashSet<String>, Failure> {
    let find = Call::once(
        "SELECT asked.name FROM unnest($2) AS asked (name) CROSS JOIN LATERAL \
         (SELECT 1 FROM records WHERE ns = $1 AND collection = asked.name LIMIT 1) AS found",
    )
    .with(Type::INT8, ns)
    .with(Type::TEXT_ARRAY, collections.map(str::to_owned).collect::<Vec<_>>());
    let found = session.run(&[find]).await?.pop().unwrap_or_default();
    found.iter().map(|row| Ok(row.try_get(0).map_err(unreadable("records"))?)).collect()
}

/// Moves the rows that were written while the collection was undeclared into its table, in the open transaction.
pub(crate) async fn moved(session: &mut Session, ns: i64, table: &Table) -> Result<(), Failure> {
    let mut after = Some(String::new());
    while let Some(key) = after {
        after = chunk(session, ns, table, "records", &key).await?;
    }
    let delete = Call::once("DELETE FROM records WHERE ns = $1 AND collection = $2").with(Type::INT8, ns);
    session.run(&[delete.with(Type::TEXT, table.collection.as_str())]).await?;
    Ok(())
}

/// Fills in the first rows of a collection whose declaration has more fields than the one that is shown, in the open
/// transaction. What is still to be done, if there are more rows.
pub(crate) async fn begun(
    session: &mut Session,
    ns: i64,
    table: &Table,
    shown: &CollectionSpec,
) -> Result<Option<Filling>, Failure> {
    let Some(spec) = &table.spec else { return Ok(None) };
    let hidden = spec.fields.iter().filter(|f| shown.field(&f.name).is_none());
    let fields: Vec<String> = hidden.map(|f| f.name.clone()).collect();
    if fields.is_empty() {
        return Ok(None);
    }
    let last = chunk(session, ns, table, &table.name, "").await?;
    Ok(last.map(|after| Filling { fields, after }))
}

/// What a transaction of [`finish`] came to.
enum Step {
    More,
    Done,
    /// This collection has a record that does not fit.
    Misfit(String, Error),
}

/// Fills in what is begun of these collections, a transaction for each chunk of rows.
pub(crate) async fn finish(inner: &Inner, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<()> {
    loop {
        match inner.retrying(|| step(inner, namespace, specs)).await? {
            Step::More => {}
            Step::Done => return Ok(()),
            Step::Misfit(collection, error) => {
                inner.at_length(|| withdraw(inner, namespace, &collection)).await?;
                return Err(error);
            }
        }
    }
}

async fn step(inner: &Inner, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<Step, Failure> {
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let mut session = inner.connections.session().await?;
    let rows = session.begin(&[lock_call(namespace)]).await?;
    match one_chunk(inner, &mut session, &rows, namespace, names).await {
        Ok(Some((more, calls))) => {
            session.commit(&calls).await?;
            Ok(if more { Step::More } else { Step::Done })
        }
        Ok(None) => {
            session.rollback().await;
            Ok(Step::Done)
        }
        Err((collection, failure)) => {
            session.rollback().await;
            match failure {
                Failure::Final(error) if error.kind() == ErrorKind::Invalid => Ok(Step::Misfit(collection, error)),
                other => Err(other),
            }
        }
    }
}

type Chunked<'a> = Option<(bool, Vec<Call<'a>>)>;

/// Writes a chunk. What else belongs in the transaction, and whether there is more to do; nothing if there was nothing.
async fn one_chunk<'a>(
    inner: &Inner,
    session: &mut Session,
    rows: &[Vec<Row>],
    namespace: &Namespace,
    names: Vec<&str>,
) -> Result<Chunked<'a>, (String, Failure)> {
    let other = |failure: Failure| (String::new(), failure);
    let row = existing(rows.first().map_or(&[], Vec::as_slice), namespace).map_err(|e| other(e.into()))?;
    let find = Call::once("SELECT name, filling FROM collections WHERE ns = $1 AND name = ANY ($2) AND filling IS NOT NULL")
        .with(Type::INT8, row.id)
        .with(Type::TEXT_ARRAY, names);
    let found = session.run(&[find]).await.map_err(other)?.pop().unwrap_or_default();
    let Some((name, filling)) = first(&found).map_err(|e| other(e.into()))? else { return Ok(None) };
    let schema = inner.schemas.of(session, &row).await.map_err(other)?;
    let table = table_of(&schema, &name).map_err(|e| other(e.into()))?;
    let last = chunk(session, row.id, &table, &table.name, &filling.after).await.map_err(|failure| (name.clone(), failure))?;
    let (is_last, text) = match last {
        Some(after) => (false, Some(Filling { after, ..filling }.text().map_err(|e| other(e.into()))?)),
        None => (true, None),
    };
    let mut calls = vec![
        Call::once("UPDATE collections SET filling = $3 WHERE ns = $1 AND name = $2")
            .with(Type::INT8, row.id)
            .with(Type::TEXT, name)
            .with(Type::TEXT, text),
    ];
    if is_last {
        calls.push(catalog::changed_call(row.id));
    }
    Ok(Some((!is_last || found.len() > 1, calls)))
}

fn first(found: &[Row]) -> Result<Option<(String, Filling)>> {
    let Some(row) = found.first() else { return Ok(None) };
    let read = || Ok((row.try_get(0)?, row.try_get(1)?));
    let (name, text) = read().map_err(unreadable("collections"))?;
    Ok(Filling::read(text)?.map(|filling| (name, filling)))
}

fn table_of(schema: &catalog::Schema, name: &str) -> Result<Arc<Table>> {
    let table = schema.declared().find(|table| table.collection.as_str() == name).cloned();
    table.ok_or_else(|| Error::corrupt(format!("a field of {name} is filled in, and {name} is not declared")))
}

/// Takes back the fields of a collection that are being filled in.
async fn withdraw(inner: &Inner, namespace: &Namespace, collection: &str) -> Result<(), Failure> {
    let mut session = inner.connections.session().await?;
    let rows = session.begin(&[lock_call(namespace)]).await?;
    let calls = async {
        let row = existing(rows.first().map_or(&[], Vec::as_slice), namespace)?;
        let schema = inner.schemas.of(&mut session, &row).await?;
        Ok(withdrawal(&row, &schema, collection)?)
    };
    match calls.await {
        Ok(calls) => session.commit(&calls).await.map(drop),
        Err(failure) => {
            session.rollback().await;
            Err(failure)
        }
    }
}

/// Commits no longer keep the side tables of these fields, so their values go. What is in a column is written again
/// when the field is declared again.
fn withdrawal<'a>(row: &NamespaceRow, schema: &catalog::Schema, collection: &str) -> Result<Vec<Call<'a>>> {
    let table = table_of(schema, collection)?;
    let shown = schema.shown(&table.collection);
    let (Some(spec), Some(old)) = (&table.spec, &shown.spec) else { return Ok(Vec::new()) };
    let mut calls = Vec::new();
    for (slot, field) in table.slots.iter().zip(&spec.fields) {
        if let (Slot::Side(side), None) = (slot, old.field(&field.name)) {
            calls.push(Call::once(format!("DELETE FROM {} WHERE ns = $1", quote(side))).with(Type::INT8, row.id));
        }
    }
    calls.push(
        Call::once("UPDATE collections SET spec = $3, filling = NULL WHERE ns = $1 AND name = $2")
            .with(Type::INT8, row.id)
            .with(Type::TEXT, collection.to_owned())
            .with(Type::TEXT, catalog::spec_text(old)?),
    );
    calls.push(catalog::changed_call(row.id));
    Ok(calls)
}
