//! Declarations: kept in the store, cached by their version, and made into tables.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use millpond_core::{Catalog, CollectionName, CollectionSpec, Error, FieldKind, Json, Namespace, Result};
use rusqlite::{Connection, OptionalExtension, params};

use crate::apply::write_sides;
use crate::errors::sql;
use crate::held::Held;
use crate::namespaces::{NamespaceRow, namespace_row};
use crate::table::{Slot, Table, column_type, index_name, quote, side_name, table_name};

/// One namespace's declarations, tables and revision floors, at one version.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) ns: i64,
    pub(crate) version: i64,
    pub(crate) store_id: String,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) floors: HashMap<CollectionName, u64>,
    tables: HashMap<CollectionName, Arc<Table>>,
    undeclared: Mutex<HashMap<CollectionName, Arc<Table>>>,
}

impl Schema {
    /// The table a collection's records are in.
    pub(crate) fn table(&self, collection: &CollectionName) -> Arc<Table> {
        if let Some(table) = self.tables.get(collection) {
            return Arc::clone(table);
        }
        let mut undeclared = self.undeclared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = undeclared.get(collection) {
            return Arc::clone(table);
        }
        let table = Arc::new(Table::undeclared(collection.clone()));
        undeclared.insert(collection.clone(), Arc::clone(&table));
        table
    }

    /// Declared tables.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values()
    }
}

/// Schemas of the namespaces in use, each reloaded when its version in the store has moved on.
#[derive(Debug, Default)]
pub(crate) struct Schemas(Mutex<HashMap<String, Arc<Schema>>>);

impl Schemas {
    /// The schema this process last knew of a namespace. It may be out of date.
    pub(crate) fn known(&self, namespace: &Namespace) -> Option<Arc<Schema>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(namespace.as_str()).cloned();
        known.filter(|schema| namespace.check_is(&schema.store_id).is_ok())
    }

    /// The schema that belongs to a namespace row just read on this connection.
    pub(crate) fn of(&self, connection: &Connection, row: &NamespaceRow) -> Result<Arc<Schema>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(row.name.as_str()).cloned();
        if let Some(schema) = known.filter(|s| s.version == row.catalog && s.ns == row.id && s.store_id == row.store_id) {
            return Ok(schema);
        }
        let schema = Arc::new(load(connection, row)?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(row.name.clone(), Arc::clone(&schema));
        Ok(schema)
    }
}

fn load(connection: &Connection, row: &NamespaceRow) -> Result<Schema> {
    let mut statement =
        connection.prepare_cached("SELECT name, spec, revision_floor FROM collections WHERE ns = ?1").map_err(sql("catalog"))?;
    let rows = statement
        .query_map([row.id], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Option<String>>(1)?, r.get::<_, i64>(2)?)))
        .map_err(sql("catalog"))?;
    let (mut specs, mut floors) = (Vec::new(), HashMap::new());
    for found in rows {
        let (name, spec, floor) = found.map_err(sql("catalog"))?;
        if let Some(text) = spec {
            specs.push(serde_json::from_str::<CollectionSpec>(&text).map_err(|e| {
                Error::corrupt(format!("the declaration of collection {name:?} does not read back")).with_source(e)
            })?);
        }
        if floor > 0 {
            floors.insert(CollectionName::from_store(name), floor.cast_unsigned());
        }
    }
    let catalog = Arc::new(Catalog::new(specs));
    let mut tables = HashMap::new();
    for spec in catalog.iter() {
        let slots = spec.fields.iter().map(|f| slot(connection, spec, f.name.as_str(), f.kind)).collect::<Result<Vec<_>>>()?;
        tables.insert(spec.name.clone(), Arc::new(Table::declared(Arc::clone(spec), slots)));
    }
    Ok(Schema {
        ns: row.id,
        version: row.catalog,
        store_id: row.store_id.clone(),
        catalog,
        floors,
        tables,
        undeclared: Mutex::default(),
    })
}

fn slot(connection: &Connection, spec: &CollectionSpec, field: &str, kind: FieldKind) -> Result<Slot> {
    if kind == FieldKind::TextSet {
        return Ok(Slot::Side(side_name(spec.name.as_str(), field)));
    }
    let column = column(connection, spec, field, kind)?;
    column.map(Slot::Column).ok_or_else(|| Error::corrupt(format!("field {field:?} of {} has no column", spec.name)))
}

fn column(connection: &Connection, spec: &CollectionSpec, field: &str, kind: FieldKind) -> Result<Option<String>> {
    connection
        .prepare_cached("SELECT column_name FROM fields WHERE collection = ?1 AND field = ?2 AND kind = ?3")
        .and_then(|mut s| s.query_row([spec.name.as_str(), field, kind.as_str()], |r| r.get(0)).optional())
        .map_err(sql("catalog"))
}

/// Adds or extends declarations, moves rows, fills in new fields: all in the transaction given.
pub(crate) fn declare(transaction: &Connection, namespace: &Namespace, specs: &[CollectionSpec]) -> Result<()> {
    let row = namespace_row(transaction, namespace)?;
    let before = load(transaction, &row)?;
    let mut changed = false;
    for spec in specs {
        spec.check()?;
        let old = before.catalog.get(spec.name.as_str()).map(|s| &**s);
        let merged = old.map(|old| spec.following(old)).transpose()?;
        if old.is_some() && merged.as_ref() == old {
            continue;
        }
        changed = true;
        declare_one(transaction, row.id, merged.as_ref().unwrap_or(spec), old)?;
    }
    if changed {
        transaction.execute("UPDATE namespaces SET catalog = catalog + 1 WHERE id = ?1", [row.id]).map_err(sql("declare"))?;
    }
    Ok(())
}

fn declare_one(transaction: &Connection, ns: i64, spec: &CollectionSpec, old: Option<&CollectionSpec>) -> Result<()> {
    make_table(transaction, spec)?;
    for field in &spec.fields {
        make_field(transaction, spec, &field.name, field.kind)?;
    }
    for index in &spec.indexes {
        make_index(transaction, spec, index)?;
    }
    let text = serde_json::to_string(spec).map_err(|e| Error::invalid("the declaration is not JSON").with_source(e))?;
    transaction
        .execute(
            "INSERT INTO collections (ns, name, spec) VALUES (?1, ?2, ?3) ON CONFLICT (ns, name) DO UPDATE SET spec = excluded.spec",
            params![ns, spec.name.as_str(), text],
        )
        .map_err(sql("declare"))?;
    let slots = spec.fields.iter().map(|f| slot(transaction, spec, &f.name, f.kind)).collect::<Result<Vec<_>>>()?;
    let table = Table::declared(Arc::new(spec.clone()), slots);
    match old {
        None => move_rows(transaction, ns, spec, &table),
        Some(old) if spec.fields.iter().any(|f| old.field(&f.name).is_none()) => backfill(transaction, ns, spec, &table),
        Some(_) => Ok(()),
    }
}

fn make_table(transaction: &Connection, spec: &CollectionSpec) -> Result<()> {
    let plain = table_name(spec.name.as_str());
    let name = quote(&plain);
    let (key, position) = (quote(&format!("{plain}.key")), quote(&format!("{plain}.position")));
    transaction
        .execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {name} (
               row INTEGER PRIMARY KEY, ns INTEGER NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL,
               position INTEGER NOT NULL, time INTEGER NOT NULL, by TEXT, doc TEXT NOT NULL) STRICT;
             CREATE UNIQUE INDEX IF NOT EXISTS {key} ON {name} (ns, key);
             CREATE INDEX IF NOT EXISTS {position} ON {name} (ns, position);"
        ))
        .map_err(sql("declare"))
}

fn make_field(transaction: &Connection, spec: &CollectionSpec, field: &str, kind: FieldKind) -> Result<()> {
    let plain = table_name(spec.name.as_str());
    let table = quote(&plain);
    if kind == FieldKind::TextSet {
        let side = side_name(spec.name.as_str(), field);
        let (name, index) = (quote(&side), quote(&format!("{side}.value")));
        return transaction
            .execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS {name} (row INTEGER NOT NULL, value TEXT NOT NULL, ns INTEGER NOT NULL,
                   PRIMARY KEY (row, value)) STRICT, WITHOUT ROWID;
                 CREATE INDEX IF NOT EXISTS {index} ON {name} (ns, value, row);"
            ))
            .map_err(sql("declare"));
    }
    if column(transaction, spec, field, kind)?.is_some() {
        return Ok(());
    }
    // Another namespace may use this field name for another type: then this one gets a column of its own,
    // named with a character that no field name has.
    let taken: bool = transaction
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM fields WHERE collection = ?1 AND field = ?2)",
            [spec.name.as_str(), field],
            |r| r.get(0),
        )
        .map_err(sql("declare"))?;
    let column = if taken { format!("{field}:{}", kind.as_str()) } else { field.to_owned() };
    let index = quote(&format!("{plain}.{column}"));
    let quoted = quote(&column);
    transaction
        .execute_batch(&format!(
            "ALTER TABLE {table} ADD COLUMN {quoted} {}; CREATE INDEX {index} ON {table} (ns, {quoted}, key);",
            column_type(kind)
        ))
        .map_err(sql("declare"))?;
    transaction
        .execute(
            "INSERT INTO fields (collection, field, kind, column_name) VALUES (?1, ?2, ?3, ?4)",
            [spec.name.as_str(), field, kind.as_str(), &column],
        )
        .map_err(sql("declare"))?;
    Ok(())
}

fn make_index(transaction: &Connection, spec: &CollectionSpec, fields: &[String]) -> Result<()> {
    let plain = table_name(spec.name.as_str());
    let mut columns = Vec::new();
    for name in fields {
        let field = spec.field(name).ok_or_else(|| Error::invalid(format!("index over unknown field {name:?}")))?;
        columns.extend(column(transaction, spec, name, field.kind)?);
    }
    let index = quote(&index_name(&plain, &columns));
    let list: Vec<String> = columns.iter().map(|c| quote(c)).collect();
    transaction
        .execute_batch(&format!("CREATE INDEX IF NOT EXISTS {index} ON {} (ns, {}, key)", quote(&plain), list.join(", ")))
        .map_err(sql("declare"))
}

fn extract(spec: &CollectionSpec, key: &str, doc: &str) -> Result<Vec<millpond_core::FieldValue>> {
    let value = Json::from_store(doc).value()?;
    spec.extract(&value).map_err(|e| {
        e.with("record", format!("{}/{key}", spec.name))
            .with_next("change that record, or declare the field with the type it has")
    })
}

/// Rows written while the collection was undeclared move into its table.
fn move_rows(transaction: &Connection, ns: i64, spec: &CollectionSpec, table: &Table) -> Result<()> {
    let mut select = transaction
        .prepare("SELECT key, revision, position, time, by, doc FROM records WHERE ns = ?1 AND collection = ?2")
        .map_err(sql("declare"))?;
    let mut insert = transaction.prepare(&table.insert).map_err(sql("declare"))?;
    let mut rows = select.query(params![ns, spec.name.as_str()]).map_err(sql("declare"))?;
    while let Some(row) = rows.next().map_err(sql("declare"))? {
        let get = |i| row.get::<_, String>(i).map_err(sql("declare"));
        let number = |i| row.get::<_, i64>(i).map_err(sql("declare"));
        let (key, doc) = (get(0)?, get(5)?);
        let fields = extract(spec, &key, &doc)?;
        let by: Option<String> = row.get(4).map_err(sql("declare"))?;
        crate::apply::bind_record(
            &mut insert,
            table,
            ns,
            &key,
            number(1)?,
            number(2)?,
            number(3)?,
            by.as_deref(),
            &doc,
            &fields,
        )?;
        insert.raw_execute().map_err(sql("declare"))?;
        write_sides(&mut Held::new(transaction), table, ns, transaction.last_insert_rowid(), &fields, false)?;
    }
    drop(rows);
    transaction
        .execute("DELETE FROM records WHERE ns = ?1 AND collection = ?2", params![ns, spec.name.as_str()])
        .map_err(sql("declare"))?;
    Ok(())
}

/// Row, key, revision, position, time, author and document of a record.
type Row = (i64, String, i64, i64, i64, Option<String>, String);

/// New fields of records that are there already are taken out of their documents.
fn backfill(transaction: &Connection, ns: i64, spec: &CollectionSpec, table: &Table) -> Result<()> {
    let mut select = transaction
        .prepare(&format!(
            "SELECT row, key, revision, position, time, by, doc FROM {} WHERE ns = ?1 AND row > ?2 ORDER BY row LIMIT 1000",
            table.name
        ))
        .map_err(sql("declare"))?;
    let mut update = transaction.prepare(&table.update).map_err(sql("declare"))?;
    let mut after = i64::MIN;
    loop {
        let rows: Vec<Row> = select
            .query_map([ns, after], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?, r.get(6)?)))
            .and_then(Iterator::collect)
            .map_err(sql("declare"))?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.0;
        for (row, key, revision, position, time, by, doc) in &rows {
            let fields = extract(spec, key, doc)?;
            crate::apply::bind_record(&mut update, table, *row, key, *revision, *position, *time, by.as_deref(), doc, &fields)?;
            update.raw_execute().map_err(sql("declare"))?;
            write_sides(&mut Held::new(transaction), table, ns, *row, &fields, true)?;
        }
    }
}
