//! Loads what a batch touches, under the namespace's lock: one statement, and one for each further collection.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millpond_core::plan::{RecordState, State, StoredReceipt, StreamState, Touched};
use millpond_core::{Appended, CommitId, Error, Json, Position, Receipt, RecordId, Result, StreamName, Timestamp};
use tokio_postgres::types::Type;
use tokio_postgres::{Error as PgError, Row};
use uuid::Uuid;

use crate::arrays::JsonColumn;
use crate::call::{self, Call};
use crate::catalog::Schema;
use crate::errors::unreadable;
use crate::namespaces::NamespaceRow;
use crate::table::Table;

/// Each read answers with the same columns, so that several are one statement: which read, the key's place from 1, three
/// numbers, a flag, a text, a document, bytes.
const TOMBSTONES: &str = "SELECT 1::int8, k.at, g.revision, NULL::int8, NULL::int8, NULL::bool, NULL::text, NULL::json, NULL::bytea \
     FROM unnest($2::text[], $3::text[]) WITH ORDINALITY k(collection, key, at) CROSS JOIN LATERAL (SELECT t.revision \
     FROM tombstones t WHERE t.ns = $1 AND t.collection = k.collection AND t.key = k.key OFFSET 0) g";
const STREAMS: &str = "SELECT 2::int8, k.at, g.id, g.head, g.oldest, g.sealed, NULL::text, NULL::json, NULL::bytea \
     FROM unnest($2::text[]) WITH ORDINALITY k(name, at) CROSS JOIN LATERAL \
     (SELECT s.id, s.head, s.oldest, s.sealed FROM streams s WHERE s.ns = $1 AND s.name = k.name OFFSET 0) g";
const EVENT_IDS: &str = "SELECT 3::int8, k.at, g.sequence, NULL::int8, NULL::int8, NULL::bool, NULL::text, NULL::json, NULL::bytea \
     FROM unnest($2::text[], $3::text[]) WITH ORDINALITY k(stream, id, at) CROSS JOIN LATERAL (SELECT e.sequence \
     FROM events e WHERE e.ns = $1 AND e.id = k.id AND e.id IS NOT NULL \
     AND e.stream = (SELECT s.id FROM streams s WHERE s.ns = $1 AND s.name = k.stream) OFFSET 0) g";
const RECEIPTS: &str = "SELECT 4::int8, k.at, g.position, g.time, NULL::int8, NULL::bool, g.sequences::text, g.revisions, g.digest \
     FROM unnest($2::uuid[]) WITH ORDINALITY k(id, at) CROSS JOIN LATERAL \
     (SELECT c.position, c.time, c.digest, c.revisions, c.sequences FROM commits c WHERE c.ns = $1 AND c.id = k.id OFFSET 0) g";

/// Records of one table, and whether each document is wanted.
type OfTable<'t> = (Arc<Table>, Vec<(&'t RecordId, bool)>);

/// What one read asks for, in the order of its keys.
enum Part<'t> {
    Records(Arc<Table>, Vec<(&'t RecordId, bool)>),
    Tombstones(Vec<&'t RecordId>),
    Streams(Vec<&'t StreamName>),
    EventIds(Vec<&'t (StreamName, String)>),
    Receipts(Vec<CommitId>),
}

/// The reads of a batch, by the statements that make them.
pub(crate) struct Reads<'t>(Vec<Vec<Part<'t>>>);

impl<'t> Reads<'t> {
    /// Everything touched. Tombstones are left out where there are believed to be none.
    ///
    /// One statement reads it all, but for the tables of further collections: one of each kind and one table is a choice
    /// of few statements, each of which is planned once on each connection. All tables at once would be too many.
    pub(crate) fn of(touched: &'t Touched, schema: &Schema, tombstones: bool) -> Self {
        let mut parts = Vec::new();
        let mut tables: BTreeMap<&str, OfTable<'_>> = BTreeMap::new();
        for (id, wanted) in &touched.records {
            let table = schema.table(&id.collection);
            // Undeclared collections share a table, and so one statement.
            let name = if table.is_declared() { id.collection.as_str() } else { "" };
            tables.entry(name).or_insert_with(|| (table, Vec::new())).1.push((id, *wanted));
        }
        let mut tables = tables.into_values().map(|(table, ids)| Part::Records(table, ids));
        parts.extend(tables.next());
        let others: Vec<Vec<Part<'t>>> = tables.map(|records| vec![records]).collect();
        if tombstones && !touched.records.is_empty() {
            parts.push(Part::Tombstones(touched.records.keys().collect()));
        }
        if !touched.streams.is_empty() {
            parts.push(Part::Streams(touched.streams.iter().collect()));
        }
        if !touched.event_ids.is_empty() {
            parts.push(Part::EventIds(touched.event_ids.iter().collect()));
        }
        if !touched.receipts.is_empty() {
            parts.push(Part::Receipts(touched.receipts.iter().copied().collect()));
        }
        let mut all = others;
        if !parts.is_empty() {
            all.push(parts);
        }
        Self(all)
    }

    /// The statements.
    pub(crate) fn calls(&self, ns: i64) -> impl Iterator<Item = Call<'t>> {
        self.0.iter().filter_map(move |parts| call::together(parts.iter().map(|part| part.call(ns)).collect()))
    }

    /// Takes the answers into a state.
    pub(crate) fn take(&self, answers: &[Vec<Row>], state: &mut State) -> Result<()> {
        for (parts, rows) in self.0.iter().zip(answers) {
            for row in rows {
                let kind = row.try_get::<_, i64>(0).map_err(unreadable("keys"))?;
                let part = parts.iter().find(|part| part.kind() == kind).ok_or_else(not_asked)?;
                part.take(row, state)?;
            }
        }
        Ok(())
    }
}

/// The state before anything was loaded into it.
pub(crate) fn empty(row: &NamespaceRow, schema: &Schema) -> State {
    State {
        namespace: row.head(),
        catalog: Arc::clone(&schema.catalog),
        revision_floors: schema.floors.clone(),
        records: HashMap::new(),
        streams: HashMap::new(),
        event_ids: HashMap::new(),
        receipts: HashMap::new(),
    }
}

fn not_asked() -> Error {
    Error::corrupt("PostgreSQL answered a key that was not asked for")
}

impl<'t> Part<'t> {
    /// The first column of its rows.
    fn kind(&self) -> i64 {
        match self {
            Self::Records(..) => 0,
            Self::Tombstones(_) => 1,
            Self::Streams(_) => 2,
            Self::EventIds(_) => 3,
            Self::Receipts(_) => 4,
        }
    }

    fn call(&self, ns: i64) -> Call<'t> {
        let call = |text: &'static str| Call::often(text).with(Type::INT8, ns);
        match self {
            Self::Records(table, ids) => {
                let mut records = Call::often(table.load.clone()).with(Type::INT8, ns);
                if !table.is_declared() {
                    records.bind(Type::TEXT_ARRAY, ids.iter().map(|(id, _)| id.collection.as_str()).collect::<Vec<_>>());
                }
                records
                    .with(Type::TEXT_ARRAY, ids.iter().map(|(id, _)| id.key.as_str()).collect::<Vec<_>>())
                    .with(Type::BOOL_ARRAY, ids.iter().map(|(_, wanted)| *wanted).collect::<Vec<_>>())
            }
            Self::Tombstones(ids) => call(TOMBSTONES)
                .with(Type::TEXT_ARRAY, ids.iter().map(|id| id.collection.as_str()).collect::<Vec<_>>())
                .with(Type::TEXT_ARRAY, ids.iter().map(|id| id.key.as_str()).collect::<Vec<_>>()),
            Self::Streams(names) => call(STREAMS).with(Type::TEXT_ARRAY, names.iter().map(|n| n.as_str()).collect::<Vec<_>>()),
            Self::EventIds(ids) => call(EVENT_IDS)
                .with(Type::TEXT_ARRAY, ids.iter().map(|(stream, _)| stream.as_str()).collect::<Vec<_>>())
                .with(Type::TEXT_ARRAY, ids.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>()),
            Self::Receipts(ids) => receipts_call(ns, ids),
        }
    }

    fn take(&self, row: &Row, state: &mut State) -> Result<()> {
        let at = place(row)?;
        match self {
            Self::Records(_, ids) => {
                let (id, wanted) = ids.get(at).ok_or_else(not_asked)?;
                state.records.insert((*id).clone(), live(row, *wanted).map_err(unreadable("records"))?);
            }
            Self::Tombstones(ids) => {
                let revision = row.try_get::<_, i64>(2).map_err(unreadable("tombstones"))?.cast_unsigned();
                let id = ids.get(at).ok_or_else(not_asked)?;
                // The keys of a tombstone name its row.
                state.records.insert((*id).clone(), RecordState::Gone { revision, handle: 0 });
            }
            Self::Streams(names) => {
                let name = names.get(at).ok_or_else(not_asked)?;
                state.streams.insert((*name).clone(), stream(row).map_err(unreadable("streams"))?);
            }
            Self::EventIds(ids) => {
                let sequence = row.try_get::<_, i64>(2).map_err(unreadable("events"))?.cast_unsigned();
                state.event_ids.insert((*ids.get(at).ok_or_else(not_asked)?).clone(), sequence);
            }
            Self::Receipts(ids) => {
                let id = *ids.get(at).ok_or_else(not_asked)?;
                state.receipts.insert(id, receipt(row, id)?);
            }
        }
        Ok(())
    }
}

/// Which of the keys asked for a row answers, from 0.
pub(crate) fn place(row: &Row) -> Result<usize> {
    let at = row.try_get::<_, i64>(1).map_err(unreadable("keys"))?;
    usize::try_from(at - 1).map_err(|_| not_asked())
}

fn live(row: &Row, wanted: bool) -> Result<RecordState, PgError> {
    let document = match row.try_get::<_, Option<JsonColumn<'_>>>(7)? {
        Some(JsonColumn(text)) if wanted => Some(Json::from_store(text)),
        _ => None,
    };
    Ok(RecordState::Live {
        handle: row.try_get(2)?,
        revision: row.try_get::<_, i64>(3)?.cast_unsigned(),
        time: Timestamp::from_micros(row.try_get(4)?),
        by: row.try_get(6)?,
        document,
    })
}

fn stream(row: &Row) -> Result<StreamState, PgError> {
    Ok(StreamState {
        handle: row.try_get(2)?,
        head: row.try_get::<_, i64>(3)?.cast_unsigned(),
        oldest: row.try_get::<_, i64>(4)?.cast_unsigned(),
        sealed: row.try_get(5)?,
    })
}

/// Reads receipts by the ids of their commits; [`place`] and [`receipt`] read the rows.
pub(crate) fn receipts_call(ns: i64, ids: &[CommitId]) -> Call<'static> {
    let ids: Vec<Uuid> = ids.iter().map(|id| Uuid::from_bytes(*id.as_bytes())).collect();
    Call::often(RECEIPTS).with(Type::INT8, ns).with(Type::UUID_ARRAY, ids)
}

/// A commit's receipt.
pub(crate) fn receipt(row: &Row, id: CommitId) -> Result<StoredReceipt> {
    let damaged = |what: &str| Error::corrupt(format!("the {what} of receipt {id} do not read back"));
    let read = || {
        let (JsonColumn(revisions), sequences) = (row.try_get(7)?, row.try_get::<_, &str>(6)?);
        Ok((row.try_get::<_, i64>(2)?, row.try_get(3)?, row.try_get::<_, &[u8]>(8)?, revisions, sequences))
    };
    let (position, time, digest, revisions, sequences) = read().map_err(unreadable("commits"))?;
    let revisions: Vec<u64> = serde_json::from_str(revisions).map_err(|e| damaged("revisions").with_source(e))?;
    let sequences: Vec<Appended> = serde_json::from_str(sequences).map_err(|e| damaged("sequences").with_source(e))?;
    let receipt = Receipt {
        id,
        position: Position(position.cast_unsigned()),
        time: Timestamp::from_micros(time),
        revisions,
        sequences,
        replayed: false,
    };
    Ok(StoredReceipt { digest: digest.try_into().map_err(|_| damaged("digest"))?, receipt })
}
