//! The tables that every store has, and the versions they went through.

use millpond_core::{Error, ErrorKind, Result};
use tokio_postgres::types::Type;

use crate::call::Call;
use crate::connect::Connections;
use crate::errors::Failure;
use crate::names::quote;
use crate::session::Session;

/// The format this program writes.
pub(crate) const FORMAT: i32 = MIGRATIONS.len() as i32;

/// Each entry brings a store from the version of its index to the next one.
const MIGRATIONS: &[&[&str]] = &[FORMAT_1, FORMAT_2];

const FORMAT_1: &[&str] = &[
    "CREATE TABLE format (version integer NOT NULL, migrated_at timestamptz NOT NULL DEFAULT now())",
    // Every commit changes its namespace's row: room on the page lets the old versions be cleared away at once.
    "CREATE TABLE namespaces (
       id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
       name text COLLATE \"C\" NOT NULL UNIQUE,
       store_id text NOT NULL,
       status text NOT NULL,
       position bigint NOT NULL,
       time bigint NOT NULL,
       created_at bigint NOT NULL,
       receipts_floor bigint NOT NULL,
       purged_position bigint NOT NULL,
       trimmed_position bigint NOT NULL,
       streams bigint NOT NULL,
       has_tombstones boolean NOT NULL,
       catalog bigint NOT NULL
     ) WITH (fillfactor = 20)",
    "CREATE TABLE collections (
       ns bigint NOT NULL,
       name text COLLATE \"C\" NOT NULL,
       spec text,
       revision_floor bigint NOT NULL DEFAULT 0,
       purged_position bigint NOT NULL DEFAULT 0,
       PRIMARY KEY (ns, name)
     )",
    "CREATE TABLE fields (
       collection text COLLATE \"C\" NOT NULL,
       field text COLLATE \"C\" NOT NULL,
       kind text COLLATE \"C\" NOT NULL,
       column_name text NOT NULL,
       PRIMARY KEY (collection, field, kind)
     )",
    "CREATE TABLE records (
       ns bigint NOT NULL,
       collection text COLLATE \"C\" NOT NULL,
       key text COLLATE \"C\" NOT NULL,
       \"row\" bigint NOT NULL,
       revision bigint NOT NULL,
       position bigint NOT NULL,
       time bigint NOT NULL,
       by text,
       doc json NOT NULL,
       PRIMARY KEY (ns, collection, key)
     )",
    "CREATE INDEX records_position ON records (ns, collection, position)",
    "CREATE TABLE tombstones (
       ns bigint NOT NULL,
       collection text COLLATE \"C\" NOT NULL,
       key text COLLATE \"C\" NOT NULL,
       revision bigint NOT NULL,
       position bigint NOT NULL,
       time bigint NOT NULL,
       by text,
       PRIMARY KEY (ns, collection, key)
     )",
    "CREATE INDEX tombstones_position ON tombstones (ns, collection, position)",
    "CREATE TABLE streams (
       ns bigint NOT NULL,
       id bigint NOT NULL,
       name text COLLATE \"C\" NOT NULL,
       head bigint NOT NULL,
       oldest bigint NOT NULL,
       sealed boolean NOT NULL,
       position bigint NOT NULL,
       time bigint NOT NULL,
       trimmed_position bigint NOT NULL DEFAULT 0,
       PRIMARY KEY (ns, name)
     ) WITH (fillfactor = 80)",
    "CREATE UNIQUE INDEX streams_id ON streams (ns, id)",
    "CREATE INDEX streams_trimmed ON streams (ns, trimmed_position) WHERE trimmed_position > 0",
    "CREATE TABLE events (
       ns bigint NOT NULL,
       position bigint NOT NULL,
       stream bigint NOT NULL,
       sequence bigint NOT NULL,
       id text COLLATE \"C\",
       type text COLLATE \"C\" NOT NULL,
       time bigint NOT NULL,
       correlation text COLLATE \"C\",
       agent text COLLATE \"C\",
       source text COLLATE \"C\",
       labels jsonb,
       data json NOT NULL,
       PRIMARY KEY (ns, position)
     )",
    "CREATE INDEX events_stream ON events (ns, stream, position)",
    "CREATE UNIQUE INDEX events_id ON events (ns, stream, id) WHERE id IS NOT NULL",
    "CREATE INDEX events_correlation ON events (ns, correlation, position) WHERE correlation IS NOT NULL",
    "CREATE INDEX events_agent ON events (ns, agent, position) WHERE agent IS NOT NULL",
    "CREATE TABLE commits (
       ns bigint NOT NULL,
       id uuid NOT NULL,
       position bigint NOT NULL,
       time bigint NOT NULL,
       digest bytea NOT NULL,
       revisions json NOT NULL,
       sequences json NOT NULL,
       PRIMARY KEY (ns, id)
     )",
];

/// Which fields of a collection are being filled in, and how far that has come (`declare.rs`).
const FORMAT_2: &[&str] = &["ALTER TABLE collections ADD COLUMN filling text"];

/// Names that collections cannot take for their tables. A table's name is also a type's, and its key's index has a name.
pub(crate) const OWN_TABLES: [&str; 9] =
    ["format", "namespaces", "collections", "fields", "records", "tombstones", "streams", "events", "commits"];

/// Names of the indexes that every store has; tables, indexes and sequences share one space of names.
pub(crate) const OWN_INDEXES: [&str; 18] = [
    "namespaces_pkey",
    "namespaces_name_key",
    "namespaces_id_seq",
    "collections_pkey",
    "fields_pkey",
    "records_pkey",
    "records_position",
    "tombstones_pkey",
    "tombstones_position",
    "streams_pkey",
    "streams_id",
    "streams_trimmed",
    "events_pkey",
    "events_stream",
    "events_id",
    "events_correlation",
    "events_agent",
    "commits_pkey",
];

/// The format of a store; 0 where there is none. Refuses newer formats.
pub(crate) async fn format(session: &mut Session, schema: &str) -> Result<i32, Failure> {
    Ok(known(version(session, schema).await?)?)
}

/// The format of a store, whatever it is; 0 where there is none.
pub(crate) async fn version(session: &mut Session, schema: &str) -> Result<i32, Failure> {
    // A statement on a table that is not there would fail, so it is looked for first.
    let table = format!("{}.format", quote(schema));
    let there = Call::once("SELECT to_regclass($1) IS NOT NULL").with(Type::TEXT, table.clone());
    let rows = session.one(&there).await?;
    if !rows.first().is_some_and(|r| r.try_get(0).unwrap_or(false)) {
        return Ok(0);
    }
    let rows = session.one(&Call::once(format!("SELECT coalesce(max(version), 0) FROM {table}"))).await?;
    Ok(rows.first().and_then(|r| r.try_get(0).ok()).unwrap_or(0))
}

/// Refuses a format that a newer program made.
fn known(version: i32) -> Result<i32> {
    if version > FORMAT {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("the store has format {version}; this program knows formats up to {FORMAT}"),
        )
        .with_next("use a newer millpond")
        .in_check("schema"));
    }
    Ok(version)
}

/// The lock that everything which changes tables takes first. It is the transaction's, so a pooler does no harm.
pub(crate) fn table_lock(schema: &str) -> Call<'static> {
    // hashtextextended is PostgreSQL's own 64-bit hash of a text.
    Call::once("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))").with(Type::TEXT, format!("millpond schema {schema}"))
}

/// Brings a store to this program's format, in one transaction. Refuses what a newer program wrote.
pub(crate) async fn migrate(connections: &Connections, schema: &str) -> Result<(), Failure> {
    let mut session = connections.session().await?;
    if format(&mut session, schema).await? == FORMAT {
        return Ok(());
    }
    session.begin(&[table_lock(schema)]).await?;
    let done = step_by_step(&mut session, schema).await;
    match done {
        Ok(()) => session.commit(&[]).await.map(drop),
        Err(failure) => {
            session.rollback().await;
            Err(failure)
        }
    }
}

async fn step_by_step(session: &mut Session, schema: &str) -> Result<(), Failure> {
    let there = Call::once("SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL")
        .with(Type::TEXT, quote(schema))
        .with(Type::TEXT, format!("{}.format", quote(schema)));
    let rows = session.run(&[there]).await?;
    let is = |i: usize| rows.first().and_then(|r| r.first()).is_some_and(|r| r.try_get(i).unwrap_or(false));
    if !is(0) {
        // Only where it is not there: a role may own the schema without the right to make one.
        session.run(&[Call::once(format!("CREATE SCHEMA {}", quote(schema)))]).await?;
    }
    // Another process may have been faster, and it may be a newer program.
    let mut found = 0;
    if is(1) {
        let rows = session.run(&[Call::once("SELECT coalesce(max(version), 0) FROM format")]).await?;
        found = known(rows.first().and_then(|r| r.first()).and_then(|r| r.try_get(0).ok()).unwrap_or(0))?;
    }
    for (version, statements) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let version = i32::try_from(version + 1).unwrap_or(i32::MAX);
        let mut calls: Vec<Call<'_>> = statements.iter().map(|statement| Call::once(*statement)).collect();
        calls.push(Call::once("INSERT INTO format (version) VALUES ($1)").with(Type::INT4, version));
        session.run(&calls).await?;
    }
    Ok(())
}
