//! Declarations: kept in the store, cached by their version.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use millpond_core::{Catalog, CollectionName, CollectionSpec, Error, FieldKind, Namespace, Result};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::call::Call;
use crate::errors::{Failure, unreadable};
use crate::fill::Filling;
use crate::names::side_name;
use crate::namespaces::NamespaceRow;
use crate::session::Session;
use crate::table::{Slot, Table};

/// One namespace's declarations, tables and revision floors, at one version.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) ns: i64,
    version: i64,
    store_id: String,
    pub(crate) catalog: Arc<Catalog>,
    /// What was last seen: a guess that spares a look-up, checked against the namespace's row each time.
    pub(crate) tombstones: AtomicBool,
    /// The same without fields that are still being filled in: what questions may use.
    pub(crate) shown_catalog: Arc<Catalog>,
    pub(crate) floors: HashMap<CollectionName, u64>,
    tables: HashMap<CollectionName, Arc<Table>>,
    /// Tables of which a field is being filled in, without that field.
    shown: HashMap<CollectionName, Arc<Table>>,
    undeclared: Mutex<HashMap<CollectionName, Arc<Table>>>,
}

impl Schema {
    /// Whether this is what a namespace's row just read speaks of.
    pub(crate) fn is_of(&self, row: &NamespaceRow) -> bool {
        self.version == row.catalog && self.ns == row.id && self.store_id == row.store_id
    }

    /// The table a collection's records are in.
    pub(crate) fn table(&self, collection: &CollectionName) -> Arc<Table> {
        if let Some(table) = self.tables.get(collection) {
            return Arc::clone(table);
        }
        let mut undeclared = self.undeclared.lock().unwrap_or_else(PoisonError::into_inner);
        // Made again at little cost; kept for those in use, not for every name that was ever asked for.
        if undeclared.len() >= UNDECLARED {
            undeclared.clear();
        }
        let make = || Arc::new(Table::undeclared(collection.clone()));
        Arc::clone(undeclared.entry(collection.clone()).or_insert_with(make))
    }

    /// The table as questions may see it: a field that is still being filled in has no column yet.
    pub(crate) fn shown(&self, collection: &CollectionName) -> Arc<Table> {
        self.shown.get(collection).map_or_else(|| self.table(collection), Arc::clone)
    }

    /// Declared tables.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values()
    }
}

/// Undeclared collections whose statements are kept.
const UNDECLARED: usize = 1_000;

/// Schemas of the namespaces in use.
#[derive(Debug, Default)]
pub(crate) struct Schemas(Mutex<HashMap<String, Arc<Schema>>>);

impl Schemas {
    /// The schema this process last knew of a namespace. It may be out of date.
    pub(crate) fn known(&self, namespace: &Namespace) -> Option<Arc<Schema>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(namespace.as_str()).cloned();
        known.filter(|schema| namespace.check_is(&schema.store_id).is_ok())
    }

    /// The known schema, if it is the one a namespace's row speaks of.
    pub(crate) fn current(&self, row: &NamespaceRow) -> Option<Arc<Schema>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(row.name.as_str()).cloned();
        known.filter(|schema| schema.is_of(row))
    }

    /// Remembers a schema that was loaded.
    pub(crate) fn learn(&self, row: &NamespaceRow, schema: Schema) -> Arc<Schema> {
        let schema = Arc::new(schema);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(row.name.clone(), Arc::clone(&schema));
        schema
    }

    /// Forgets a namespace that was deleted.
    pub(crate) fn forget(&self, namespace: &Namespace) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace.as_str());
    }

    /// The schema a row speaks of, loaded in the open transaction if it is not known.
    pub(crate) async fn of(&self, session: &mut Session, row: &NamespaceRow) -> Result<Arc<Schema>, Failure> {
        if let Some(schema) = self.current(row) {
            return Ok(schema);
        }
        let rows = session.run(&load_calls(&row.name)).await?;
        Ok(self.learn(row, read(row, &rows)?))
    }
}

/// Reads a namespace's declarations; [`read`] makes a schema of what they give.
pub(crate) fn load_calls(namespace: &str) -> [Call<'_>; 2] {
    [
        "SELECT name, spec, revision_floor, filling FROM collections WHERE ns = (SELECT id FROM namespaces WHERE name = $1)",
        "SELECT f.collection, f.field, f.kind, f.column_name FROM fields f JOIN collections c ON c.name = f.collection \
         WHERE c.ns = (SELECT id FROM namespaces WHERE name = $1)",
    ]
    .map(|text| Call::once(text).with(Type::TEXT, namespace))
}

/// Tells every process that the declarations of a namespace are others now.
pub(crate) fn changed_call(ns: i64) -> Call<'static> {
    Call::once("UPDATE namespaces SET catalog = catalog + 1 WHERE id = $1").with(Type::INT8, ns)
}

/// A declaration as it is kept.
pub(crate) fn spec_text(spec: &CollectionSpec) -> Result<String> {
    serde_json::to_string(spec).map_err(|e| Error::invalid("the declaration is not JSON").with_source(e))
}

/// Columns by collection, field and kind.
pub(crate) type Columns = HashMap<(String, String, String), String>;

pub(crate) fn read_columns(rows: &[Row]) -> Result<Columns> {
    let read = |r: &Row| Ok(((r.try_get(0)?, r.try_get(1)?, r.try_get(2)?), r.try_get(3)?));
    rows.iter().map(read).collect::<Result<_, _>>().map_err(unreadable("fields"))
}

/// The schema that [`load_calls`] gave the rows of.
pub(crate) fn read(row: &NamespaceRow, rows: &[Vec<Row>]) -> Result<Schema> {
    let [collections, fields] = rows else { return Err(Error::corrupt("the declarations were not answered")) };
    let columns = read_columns(fields)?;
    let (mut specs, mut shown_specs, mut floors, mut shown) = (Vec::new(), Vec::new(), HashMap::new(), HashMap::new());
    for found in collections {
        let read = || Ok((found.try_get::<_, String>(0)?, found.try_get::<_, Option<String>>(1)?, found.try_get::<_, i64>(2)?));
        let (name, spec, floor) = read().map_err(unreadable("collections"))?;
        let filling = Filling::read(found.try_get(3).map_err(unreadable("collections"))?)?;
        if let Some(text) = spec {
            let spec = serde_json::from_str::<CollectionSpec>(&text).map_err(|e| {
                Error::corrupt(format!("the declaration of collection {name:?} does not read back")).with_source(e)
            })?;
            let known = filling.map_or_else(|| spec.clone(), |filling| filling.hide(&spec));
            if known != spec {
                let slots = slots(&known, &columns)?;
                shown.insert(known.name.clone(), Arc::new(Table::declared(Arc::new(known.clone()), slots)));
            }
            shown_specs.push(known);
            specs.push(spec);
        }
        if floor > 0 {
            floors.insert(CollectionName::from_store(name), floor.cast_unsigned());
        }
    }
    let catalog = Arc::new(Catalog::new(specs));
    let mut tables = HashMap::new();
    for spec in catalog.iter() {
        let slots = slots(spec, &columns)?;
        tables.insert(spec.name.clone(), Arc::new(Table::declared(Arc::clone(spec), slots)));
    }
    Ok(Schema {
        ns: row.id,
        version: row.catalog,
        store_id: row.store_id.clone(),
        tombstones: AtomicBool::new(row.has_tombstones),
        catalog,
        shown_catalog: Arc::new(Catalog::new(shown_specs)),
        floors,
        tables,
        shown,
        undeclared: Mutex::default(),
    })
}

/// Where each field of a declaration is kept.
pub(crate) fn slots(spec: &CollectionSpec, columns: &Columns) -> Result<Vec<Slot>> {
    let slot = |field: &millpond_core::Field| {
        if field.kind == FieldKind::TextSet {
            return Ok(Slot::Side(side_name(spec.name.as_str(), &field.name)));
        }
        let key = (spec.name.as_str().to_owned(), field.name.clone(), field.kind.as_str().to_owned());
        let column = columns.get(&key).cloned().map(Slot::Column);
        column.ok_or_else(|| Error::corrupt(format!("field {:?} of {} has no column", field.name, spec.name)))
    };
    spec.fields.iter().map(slot).collect()
}
