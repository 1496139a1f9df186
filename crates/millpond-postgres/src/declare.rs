//! Declaring: tables, columns and indexes first, shared by all namespaces; then what the namespace itself says and holds.
//!
//! ```text
//!   a new collection   one transaction: table, columns, indexes       nobody else can see them yet
//!   a table in use     a transaction for each column and each index   one lock on one table, taken at once
//!   the namespace      one transaction under its lock: what is declared, and the rows (`fill.rs`)
//! ```
//!
//! What changes a table that is in use never holds one lock while it waits for another: a commit may hold the first and
//! wait for the second. It waits for commits, and is never waited for in a ring. Made again it finds everything there.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millpond_core::{Catalog, CollectionSpec, Error, FieldKind, Namespace, Result};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::arrays::column_type;
use crate::call::Call;
use crate::catalog::{self, Columns, Schema, read_columns, slots};
use crate::connect::Connections;
use crate::engine::Inner;
use crate::errors::{Failure, unreadable};
use crate::fill;
use crate::names::{column_name, index_name, quote, side_index_name, side_name, table_name};
use crate::namespaces::{NamespaceRow, existing, lock_call};
use crate::query::KEY_BEGINNING;
use crate::schema::table_lock;
use crate::session::Session;
use crate::table::Table;

/// Times a declaration is begun anew because another process gave it up.
const ROUNDS: usize = 5;
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
    // One look at all of it: where nothing is missing, or little is left of an attempt that was cut, that is most of the work.
    let mut session = connections.session().await?;
    let columns = columns_of(&mut session, Where::Alone).await?;
    let things: Vec<Thing> = specs.iter().flat_map(|spec| wanted(spec, &columns)).collect();
    let absent = missing(&mut session, &things, Where::Alone).await?;
    for spec in specs.iter().filter(|spec| wanted(spec, &columns).iter().any(|thing| absent.contains(&thing.name))) {
        loop {
            let columns = columns_of(&mut session, Where::Alone).await?;
            if missing(&mut session, &wanted(spec, &columns), Where::Alone).await?.is_empty() {
                break;
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
    }
    Ok(())
}

/// Makes all that one declaration needs if its table is new, else the first thing that is not there. Under the lock of
/// all tables.
async fn make(session: &mut Session, spec: &CollectionSpec) -> Result<(), Failure> {
    // Another process may have been faster, so all is looked at again.
    let columns = columns_of(session, Where::Inside).await?;
    let wanted = wanted(spec, &columns);
    let names = missing(session, &wanted, Where::Inside).await?;
    let is_new = wanted.first().is_some_and(|table| names.contains(&table.name));
    let mut statements = Vec::new();
    for thing in wanted.into_iter().filter(|thing| names.contains(&thing.name)) {
        match thing.column {
            Some(column) => {
                let note = Call::once("INSERT INTO fields (collection, field, kind, column_name) VALUES ($1, $2, $3, $4)")
                    .with(Type::TEXT, spec.name.as_str())
                    .with(Type::TEXT, column.field)
                    .with(Type::TEXT, column.kind)
                    .with(Type::TEXT, column.name);
                statements.extend([Call::once(column.statement), note]);
                if is_new {
                    statements.push(Call::once(thing.statement));
                }
            }
            None => statements.push(Call::once(thing.statement)),
        }
        if !is_new {
            break;
        }
    }
    if !statements.is_empty() {
        session.run(&statements).await?;
    }
    Ok(())
}

/// Something in the database that a declaration needs, known by the name of a table or an index.
struct Thing {
    name: String,
    statement: String,
    /// The column it is an index of, if that is not there either.
    column: Option<NewColumn>,
}

struct NewColumn {
    field: String,
    kind: &'static str,
    name: String,
    statement: String,
}

/// The tables, columns and indexes of a declaration, the collection's own table first. A column is known by its row in
/// `fields`, which is written with it.
fn wanted(spec: &CollectionSpec, columns: &Columns) -> Vec<Thing> {
    let collection = spec.name.as_str();
    let (plain, table) = (table_name(collection), quote(&table_name(collection)));
    let (key, position) = (index_name(collection, &["key"]), index_name(collection, &["position"]));
    let thing = |name: String, statement: String| Thing { name, statement, column: None };
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
        let new = NewColumn {
            field: field.name.clone(),
            kind: field.kind.as_str(),
            name: column.clone(),
            statement: format!("ALTER TABLE {table} ADD COLUMN {} {}", quote(&column), column_type(field.kind)),
        };
        let statement = format!("CREATE INDEX {} ON {table} (ns, {}, {KEY_BEGINNING})", quote(&index), quote(&column));
        things.push(Thing { name: index, statement, column: (!is_there).then_some(new) });
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
    let thing = |name: String, statement: String| Thing { name, statement, column: None };
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

/// Adds or extends a namespace's declarations. `begun` is set when the first of that is written down.
pub(crate) async fn declare(inner: &Inner, namespace: &Namespace, specs: &[CollectionSpec], begun: &AtomicBool) -> Result<()> {
    specs.iter().try_for_each(CollectionSpec::check)?;
    for _ in 0..ROUNDS {
        // First by what is known, so that nothing is made for a declaration that will be refused.
        let look = || async { Ok(inner.snapshot_schema(&mut inner.connections.session().await?, namespace).await?.1) };
        let schema = inner.retrying(look).await?;
        if merged(&schema.shown_catalog, specs)?.is_empty() {
            return Ok(());
        }
        let changed = merged(&schema.catalog, specs)?;
        inner.at_length(|| make_tables(&inner.connections, &inner.schema, &changed)).await?;
        inner.at_length(|| begin(inner, namespace, specs)).await?;
        begun.store(true, Ordering::Relaxed);
        fill::finish(inner, namespace, specs).await?;
        // Another process may have filled a field in with us, and given it up.
    }
    Err(Error::unavailable("another process gives up what is declared here").with_next("let one process declare it"))
}

/// The declarations that change something, merged with what was declared before.
fn merged(known: &Catalog, specs: &[CollectionSpec]) -> Result<Vec<CollectionSpec>> {
    let mut changed = Vec::new();
    for spec in specs {
        let old = known.get(spec.name.as_str()).map(|s| &**s);
        let merged = old.map(|old| spec.following(old)).transpose()?;
        if old.is_none() || merged.as_ref() != old {
            changed.push(merged.unwrap_or_else(|| spec.clone()));
        }
    }
    Ok(changed)
}

/// Writes down what is declared. Small collections are whole after this; of others, new fields are still hidden.
async fn begin(inner: &Inner, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<(), Failure> {
    let mut session = inner.connections.session().await?;
    let rows = session.begin(&[lock_call(namespace)]).await?;
    match declare_locked(&mut session, &rows, namespace, specs).await {
        Ok(calls) => session.commit(&calls).await.map(drop),
        Err(failure) => {
            session.rollback().await;
            Err(failure)
        }
    }
}

/// Moves and fills in rows, and answers what else belongs in the transaction.
async fn declare_locked<'a>(
    session: &mut Session,
    rows: &[Vec<Row>],
    namespace: &Namespace,
    specs: &[CollectionSpec],
) -> Result<Vec<Call<'a>>, Failure> {
    let row = existing(rows.first().map_or(&[], Vec::as_slice), namespace)?;
    let answers = session.run(&catalog::load_calls(&row.name)).await?;
    let before = catalog::read(&row, &answers)?;
    let changed = merged(&before.catalog, specs)?;
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let columns = columns_of(session, Where::Inside).await?;
    let written = fill::undeclared(session, row.id, changed.iter().map(|spec| spec.name.as_str())).await?;
    let mut calls = Vec::with_capacity(changed.len() + 1);
    for spec in changed {
        let moves = written.contains(spec.name.as_str());
        calls.push(declare_one(session, &row, spec, &before, &columns, moves).await?);
    }
    calls.push(catalog::changed_call(row.id));
    Ok(calls)
}

/// The rows of one declaration, with the call that writes it down. `moves`: records were written before it was declared.
async fn declare_one<'a>(
    session: &mut Session,
    row: &NamespaceRow,
    spec: CollectionSpec,
    before: &Schema,
    columns: &Columns,
    moves: bool,
) -> Result<Call<'a>, Failure> {
    let text = catalog::spec_text(&spec)?;
    let shown = before.shown_catalog.get(spec.name.as_str()).cloned();
    let slots = slots(&spec, columns)?;
    let table = Table::declared(Arc::new(spec), slots);
    let filling = match shown {
        None => {
            if moves {
                fill::moved(session, row.id, &table).await?;
            }
            None
        }
        // From the beginning for all that is hidden: how far another field had come says nothing about a new one.
        Some(shown) => fill::begun(session, row.id, &table, &shown).await?,
    };
    Ok(Call::once(
        "INSERT INTO collections (ns, name, spec, filling) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (ns, name) DO UPDATE SET spec = excluded.spec, filling = excluded.filling",
    )
    .with(Type::INT8, row.id)
    .with(Type::TEXT, table.collection.as_str().to_owned())
    .with(Type::TEXT, text)
    .with(Type::TEXT, filling.map(|filling| filling.text()).transpose()?))
}
