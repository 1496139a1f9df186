//! Declaring: tables, columns and indexes first, shared by all namespaces; then what the namespace itself says and holds.
//!
//! The first half changes one collection's table in each transaction and holds no namespace's lock, so it waits for
//! commits and is never waited for in a ring. Made again it finds everything there. The second half changes rows only,
//! under the namespace's lock, and is one transaction: declared whole, with every row moved and filled in, or not at all.

use std::collections::HashSet;
use std::sync::Arc;

use millpond_core::{CollectionSpec, Error, FieldKind, FieldValue, Json, Namespace, Result};
use tokio_postgres::types::Type;
use tokio_postgres::{Error as PgError, Row};

use crate::apply::{Put, put};
use crate::arrays::{JsonColumn, column_type};
use crate::catalog::{self, Columns, Schema, read_columns, slots};
use crate::connect::Connections;
use crate::engine::Inner;
use crate::errors::{Failure, unreadable};
use crate::names::{column_name, index_name, quote, side_index_name, side_name, table_name};
use crate::namespaces::{NamespaceRow, existing, lock_call};
use crate::query::KEY_BEGINNING;
use crate::schema::table_lock;
use crate::session::{Call, Session};
use crate::table::Table;

/// Rows that are moved or filled in by one statement.
const CHUNK: i64 = 1_000;
/// Texts one index can hold beside each other: three of 1,024 bytes are more than an index takes.
const TEXTS: usize = 2;

/// Whether a statement is part of the open transaction.
#[derive(Clone, Copy)]
enum Where {
    Alone,
    Inside,
}

/// Makes every table, column and index that these declarations need and that is not there.
pub(crate) async fn make_tables(connections: &Connections, schema: &str, specs: &[CollectionSpec]) -> Result<(), Failure> {
    for spec in specs {
        let mut session = connections.session().await?;
        let columns = columns_of(&mut session, Where::Alone).await?;
        let wanted = wanted(spec, &columns);
        if missing(&mut session, &wanted, Where::Alone).await?.is_empty() {
            continue;
        }
        session.begin(&[table_lock(schema)]).await?;
        match make(&mut session, spec).await {
            Ok(()) => session.commit(&[]).await.map(drop)?,
            Err(failure) => {
                session.rollback().await;
                return Err(failure);
            }
        }
    }
    Ok(())
}

/// Makes what one declaration needs, under the lock of all tables.
async fn make(session: &mut Session, spec: &CollectionSpec) -> Result<(), Failure> {
    // Another process may have been faster, so all is looked at again.
    let columns = columns_of(session, Where::Inside).await?;
    let wanted = wanted(spec, &columns);
    let names = missing(session, &wanted, Where::Inside).await?;
    for thing in wanted.iter().filter(|thing| names.contains(&thing.name)) {
        for statement in &thing.statements {
            session.run(&[Call::once(statement.clone())]).await?;
        }
        if let Some((field, kind, column)) = &thing.field {
            let insert = Call::once("INSERT INTO fields (collection, field, kind, column_name) VALUES ($1, $2, $3, $4)")
                .with(Type::TEXT, spec.name.as_str())
                .with(Type::TEXT, field.clone())
                .with(Type::TEXT, *kind)
                .with(Type::TEXT, column.clone());
            session.run(&[insert]).await?;
        }
    }
    Ok(())
}

/// Something in the database that a declaration needs, known by the name of a table or an index.
struct Thing {
    name: String,
    statements: Vec<String>,
    /// The field whose column it brings.
    field: Option<(String, &'static str, String)>,
}

/// The tables, columns and indexes of a declaration. A column is known by its index, which is made with it.
fn wanted(spec: &CollectionSpec, columns: &Columns) -> Vec<Thing> {
    let collection = spec.name.as_str();
    let (plain, table) = (table_name(collection), quote(&table_name(collection)));
    let (key, position) = (index_name(collection, &["key"]), index_name(collection, &["position"]));
    let thing = |name: String, statement: String| Thing { name, statements: vec![statement], field: None };
    let create = format!(
        "CREATE TABLE {table} (ns bigint NOT NULL, key text COLLATE \"C\" NOT NULL, \"row\" bigint NOT NULL, \
         revision bigint NOT NULL, position bigint NOT NULL, time bigint NOT NULL, by text, doc json NOT NULL, \
         CONSTRAINT {} PRIMARY KEY (ns, key))",
        quote(&key)
    );
    let mut things = vec![
        thing(plain, create),
        thing(position.clone(), format!("CREATE INDEX {} ON {table} (ns, position)", quote(&position))),
    ];
    let mut known = std::collections::HashMap::new();
    for field in &spec.fields {
        if field.kind == FieldKind::TextSet {
            things.extend(side_things(collection, &table, &field.name));
            continue;
        }
        let column = column_of(columns, collection, &field.name, field.kind);
        let is_there = columns.contains_key(&(collection.to_owned(), field.name.clone(), field.kind.as_str().to_owned()));
        let index = index_name(collection, std::slice::from_ref(&column));
        let mut statements = Vec::new();
        if !is_there {
            statements.push(format!("ALTER TABLE {table} ADD COLUMN {} {}", quote(&column), column_type(field.kind)));
        }
        statements.push(format!("CREATE INDEX {} ON {table} (ns, {}, {KEY_BEGINNING})", quote(&index), quote(&column)));
        let brings = (!is_there).then(|| (field.name.clone(), field.kind.as_str(), column.clone()));
        things.push(Thing { name: index, statements, field: brings });
        known.insert(field.name.as_str(), (column, field.kind));
    }
    for fields in &spec.indexes {
        let listed: Vec<_> = fields.iter().filter_map(|f| known.get(f.as_str())).collect();
        let names: Vec<&str> = listed.iter().map(|(column, _)| column.as_str()).collect();
        let name = index_name(collection, &names);
        let mut texts = 0;
        let fitting = listed.iter().take_while(|(_, kind)| {
            texts += usize::from(*kind == FieldKind::Text);
            texts <= TEXTS
        });
        let list: Vec<String> = fitting.map(|(column, _)| quote(column)).collect();
        let statement = format!("CREATE INDEX {} ON {table} (ns, {}, {KEY_BEGINNING})", quote(&name), list.join(", "));
        things.push(thing(name, statement));
    }
    things
}

fn side_things(collection: &str, table: &str, field: &str) -> [Thing; 3] {
    let (side, values, rows) =
        (side_name(collection, field), side_index_name(collection, field), index_name(collection, &["row"]));
    let thing = |name: String, statement: String| Thing { name, statements: vec![statement], field: None };
    let quoted = quote(&side);
    [
        thing(rows.clone(), format!("CREATE UNIQUE INDEX IF NOT EXISTS {} ON {table} (ns, \"row\")", quote(&rows))),
        thing(
            side.clone(),
            format!(
                "CREATE TABLE {quoted} (ns bigint NOT NULL, \"row\" bigint NOT NULL, value text COLLATE \"C\" NOT NULL, \
                 CONSTRAINT {} PRIMARY KEY (ns, \"row\", value))",
                quote(&index_name(collection, &[format!("{field}.set.row")]))
            ),
        ),
        thing(values.clone(), format!("CREATE INDEX {} ON {quoted} (ns, value, \"row\")", quote(&values))),
    ]
}

/// The column of a field: the one it has, or the one it will get. Where another namespace uses the name for another
/// type, this one gets a column of its own.
fn column_of(columns: &Columns, collection: &str, field: &str, kind: FieldKind) -> String {
    let key = (collection.to_owned(), field.to_owned(), kind.as_str().to_owned());
    if let Some(column) = columns.get(&key) {
        return column.clone();
    }
    let taken = columns.keys().any(|(c, f, _)| c == collection && f == field);
    column_name(field, taken.then_some(kind.as_str()))
}

async fn ask(session: &mut Session, call: Call<'_>, inside: Where) -> Result<Vec<Row>, Failure> {
    match inside {
        Where::Alone => session.one(&call).await,
        Where::Inside => Ok(session.run(&[call]).await?.pop().unwrap_or_default()),
    }
}

async fn columns_of(session: &mut Session, inside: Where) -> Result<Columns, Failure> {
    let call = Call::once("SELECT collection, field, kind, column_name FROM fields");
    Ok(read_columns(&ask(session, call, inside).await?)?)
}

/// Which of these are not there.
async fn missing(session: &mut Session, things: &[Thing], inside: Where) -> Result<HashSet<String>, Failure> {
    let names: Vec<String> = things.iter().map(|t| t.name.clone()).collect();
    let call = Call::once(
        "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname = ANY ($1)",
    )
    .with(Type::TEXT_ARRAY, names.clone());
    let mut missing: HashSet<String> = names.into_iter().collect();
    for row in ask(session, call, inside).await? {
        missing.remove(row.try_get::<_, &str>(0).map_err(unreadable("pg_class"))?);
    }
    Ok(missing)
}

/// Adds or extends a namespace's declarations.
pub(crate) async fn declare(inner: &Inner, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<(), Failure> {
    for spec in specs {
        spec.check()?;
    }
    // First by what is known, so that nothing is made for a declaration that will be refused.
    let mut session = inner.connections.session().await?;
    let (_, schema) = inner.snapshot_schema(&mut session, namespace).await?;
    let merged = merged(&schema, specs)?;
    drop(session);
    if merged.is_empty() {
        return Ok(());
    }
    make_tables(&inner.connections, &inner.schema, &merged).await?;
    let mut session = inner.connections.session().await?;
    let rows = session.begin(&[lock_call(namespace)]).await?;
    match declare_locked(&mut session, &rows, namespace, specs).await {
        Ok(()) => session.commit(&[]).await.map(drop),
        Err(failure) => {
            session.rollback().await;
            Err(failure)
        }
    }
}

/// The declarations that change something, merged with what was declared before.
fn merged(schema: &Schema, specs: &[CollectionSpec]) -> Result<Vec<CollectionSpec>> {
    let mut changed = Vec::new();
    for spec in specs {
        let old = schema.catalog.get(spec.name.as_str()).map(|s| &**s);
        let merged = old.map(|old| spec.following(old)).transpose()?;
        if old.is_none() || merged.as_ref() != old {
            changed.push(merged.unwrap_or_else(|| spec.clone()));
        }
    }
    Ok(changed)
}

async fn declare_locked(
    session: &mut Session,
    rows: &[Vec<Row>],
    namespace: &Namespace,
    specs: &[CollectionSpec],
) -> Result<(), Failure> {
    let row = existing(rows.first().map_or(&[], Vec::as_slice), namespace)?;
    let answers = session.run(&catalog::load_calls(&row.name)).await?;
    let before = catalog::read(&row, &answers)?;
    let changed = merged(&before, specs)?;
    if changed.is_empty() {
        return Ok(());
    }
    let columns = columns_of(session, Where::Inside).await?;
    for spec in changed {
        declare_one(session, &row, spec, &before, &columns).await?;
    }
    let raise = Call::once("UPDATE namespaces SET catalog = catalog + 1 WHERE id = $1").with(Type::INT8, row.id);
    session.run(&[raise]).await?;
    Ok(())
}

async fn declare_one(
    session: &mut Session,
    row: &NamespaceRow,
    spec: CollectionSpec,
    before: &Schema,
    columns: &Columns,
) -> Result<(), Failure> {
    let text = serde_json::to_string(&spec).map_err(|e| Error::invalid("the declaration is not JSON").with_source(e))?;
    let insert = Call::once(
        "INSERT INTO collections (ns, name, spec) VALUES ($1, $2, $3) ON CONFLICT (ns, name) DO UPDATE SET spec = excluded.spec",
    )
    .with(Type::INT8, row.id)
    .with(Type::TEXT, spec.name.as_str().to_owned())
    .with(Type::TEXT, text);
    session.run(&[insert]).await?;
    let old = before.catalog.get(spec.name.as_str());
    let adds = old.is_none_or(|old| spec.fields.iter().any(|f| old.field(&f.name).is_none()));
    if !adds {
        return Ok(());
    }
    let slots = slots(&spec, columns)?;
    let table = Table::declared(Arc::new(spec), slots);
    let from = if old.is_some() { table.name.clone() } else { "records".to_owned() };
    fill(session, row.id, &table, &from).await
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

/// Rows written while the collection was undeclared move into its table; new fields of rows that are there already are
/// taken out of their documents. Both write each row as it is, with its fields.
async fn fill(session: &mut Session, ns: i64, table: &Table, from: &str) -> Result<(), Failure> {
    let Some(spec) = table.spec.clone() else { return Ok(()) };
    let moves = from == "records";
    let scope = if moves { format!(" AND collection = '{}'", spec.name) } else { String::new() };
    let mut after = String::new();
    loop {
        let select = format!(
            "SELECT key, \"row\", revision, position, time, by, doc FROM {from} WHERE ns = $1{scope} AND key > $2 ORDER BY key LIMIT {CHUNK}"
        );
        let call = Call::once(select).with(Type::INT8, ns).with(Type::TEXT, after.clone());
        let rows = session.run(&[call]).await?.pop().unwrap_or_default();
        let olds = rows.iter().map(|r| old(r, &spec)).collect::<Result<Vec<_>>>()?;
        let Some(last) = olds.last() else { break };
        after.clone_from(&last.key);
        let puts: Vec<Put<'_>> = olds.iter().map(|old| as_put(&spec, old, !moves)).collect();
        let calls = put(ns, table, &puts, Vec::new())?;
        session.run(&calls).await?;
    }
    if moves {
        let delete = Call::once("DELETE FROM records WHERE ns = $1 AND collection = $2");
        session.run(&[delete.with(Type::INT8, ns).with(Type::TEXT, spec.name.as_str())]).await?;
    }
    Ok(())
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
