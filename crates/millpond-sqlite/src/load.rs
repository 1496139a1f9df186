//! Loads what a batch touches, inside the write transaction.

use std::collections::HashMap;
use std::sync::Arc;

use millpond_core::plan::{RecordState, State, StoredReceipt, StreamState, Touched};
use millpond_core::{Appended, CommitId, Error, Json, Position, Receipt, RecordId, Result, StreamName, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use crate::catalog::Schema;
use crate::errors::sql;
use crate::held::Held;
use crate::namespaces::NamespaceRow;

const TOMBSTONE: &str = "SELECT row, revision FROM tombstones WHERE ns = ?1 AND collection = ?2 AND key = ?3";
const STREAM: &str = "SELECT id, head, oldest, sealed FROM streams WHERE ns = ?1 AND name = ?2";
const EVENT_ID: &str = "SELECT sequence FROM events WHERE stream = ?1 AND id = ?2";

/// The state that [`Touched`] names.
pub(crate) fn state(held: &mut Held<'_>, row: &NamespaceRow, schema: &Schema, touched: &Touched) -> Result<State> {
    let mut state = State {
        namespace: row.head(),
        catalog: Arc::clone(&schema.catalog),
        revision_floors: schema.floors.clone(),
        records: HashMap::with_capacity(touched.records.len()),
        streams: HashMap::with_capacity(touched.streams.len()),
        event_ids: HashMap::new(),
        receipts: HashMap::new(),
    };
    for id in &touched.receipts {
        if let Some(stored) = receipt(held.connection(), row.id, *id)? {
            state.receipts.insert(*id, stored);
        }
    }
    for (id, with_document) in &touched.records {
        let found = record(held, row, schema, id, *with_document)?;
        if found != RecordState::Never {
            state.records.insert(id.clone(), found);
        }
    }
    for name in &touched.streams {
        if let Some(found) = stream(held, row.id, name)? {
            state.streams.insert(name.clone(), found);
        }
    }
    for (name, id) in &touched.event_ids {
        let Some(found) = state.streams.get(name) else { continue };
        let statement = held.get(EVENT_ID)?;
        let sequence = statement.query_row((found.handle, id), |r| r.get::<_, i64>(0)).optional().map_err(sql("load"))?;
        if let Some(sequence) = sequence {
            state.event_ids.insert((name.clone(), id.clone()), sequence.cast_unsigned());
        }
    }
    Ok(state)
}

fn record(held: &mut Held<'_>, row: &NamespaceRow, schema: &Schema, id: &RecordId, with_document: bool) -> Result<RecordState> {
    let table = schema.table(&id.collection);
    let text = if with_document { &table.get_full } else { &table.get_head };
    let live = held
        .get(text)?
        .query_row((row.id, id.key.as_str()), |r| {
            Ok(RecordState::Live {
                handle: r.get(0)?,
                revision: r.get::<_, i64>(1)?.cast_unsigned(),
                time: Timestamp::from_micros(r.get(2)?),
                by: r.get(3)?,
                document: if with_document { Some(Json::from_store(r.get_ref(4)?.as_str()?)) } else { None },
            })
        })
        .optional()
        .map_err(sql("load"))?;
    if let Some(live) = live {
        return Ok(live);
    }
    if !row.has_tombstones {
        return Ok(RecordState::Never);
    }
    let gone = held
        .get(TOMBSTONE)?
        .query_row((row.id, id.collection.as_str(), id.key.as_str()), |r| {
            Ok(RecordState::Gone { handle: r.get(0)?, revision: r.get::<_, i64>(1)?.cast_unsigned() })
        })
        .optional()
        .map_err(sql("load"))?;
    Ok(gone.unwrap_or(RecordState::Never))
}

fn stream(held: &mut Held<'_>, ns: i64, name: &StreamName) -> Result<Option<StreamState>> {
    held.get(STREAM)?
        .query_row((ns, name.as_str()), |r| {
            Ok(StreamState {
                handle: r.get(0)?,
                head: r.get::<_, i64>(1)?.cast_unsigned(),
                oldest: r.get::<_, i64>(2)?.cast_unsigned(),
                sealed: r.get(3)?,
            })
        })
        .optional()
        .map_err(sql("load"))
}

/// A commit's receipt, if it is remembered.
pub(crate) fn receipt(connection: &Connection, ns: i64, id: CommitId) -> Result<Option<StoredReceipt>> {
    let found: Option<(i64, i64, Vec<u8>, String, String)> = connection
        .prepare_cached("SELECT position, time, digest, revisions, sequences FROM commits WHERE ns = ?1 AND id = ?2")
        .and_then(|mut s| {
            s.query_row((ns, &id.as_bytes()[..]), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))).optional()
        })
        .map_err(sql("load"))?;
    let Some((position, time, digest, revisions, sequences)) = found else { return Ok(None) };
    let damaged = |what: &str| Error::corrupt(format!("the {what} of receipt {id} do not read back"));
    let revisions: Vec<u64> = serde_json::from_str(&revisions).map_err(|e| damaged("revisions").with_source(e))?;
    let sequences: Vec<Appended> = serde_json::from_str(&sequences).map_err(|e| damaged("sequences").with_source(e))?;
    let digest: [u8; 16] = digest.try_into().map_err(|_| damaged("digest"))?;
    let receipt = Receipt {
        id,
        position: Position(position.cast_unsigned()),
        time: Timestamp::from_micros(time),
        revisions,
        sequences,
        replayed: false,
    };
    Ok(Some(StoredReceipt { digest, receipt }))
}
