//! Forgets old receipts and tombstones, raising the floors that keep their ids and revisions from coming again.

use millpond_core::{CommitId, Namespace, Purged, Result, Timestamp};
use rusqlite::{Connection, params};

use crate::errors::sql;
use crate::namespaces::namespace_row;

/// Purges what is older than a moment, in the transaction given.
pub(crate) fn purge(transaction: &Connection, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
    let ns = namespace_row(transaction, namespace)?;
    let micros = before.as_micros();
    let run = |text: &str, values: &[&dyn rusqlite::ToSql]| transaction.execute(text, values).map_err(sql("purge"));
    // Ids begin with their time, so those made before a moment are one range.
    let first_kept = first_id_of(before);
    let receipts = run("DELETE FROM commits WHERE ns = ?1 AND id < ?2", &[&ns.id, &&first_kept[..]])?;
    run("UPDATE namespaces SET receipts_floor = max(receipts_floor, ?2) WHERE id = ?1", &[&ns.id, &micros])?;
    transaction
        .execute(
            "INSERT INTO collections (ns, name, revision_floor, purged_position) \
             SELECT ns, collection, max(revision), max(position) FROM tombstones WHERE ns = ?1 AND time < ?2 GROUP BY ns, collection \
             ON CONFLICT (ns, name) DO UPDATE SET revision_floor = max(revision_floor, excluded.revision_floor), \
               purged_position = max(purged_position, excluded.purged_position)",
            params![ns.id, micros],
        )
        .map_err(sql("purge"))?;
    run(
        "UPDATE namespaces SET purged_position = max(purged_position, \
           (SELECT coalesce(max(position), 0) FROM tombstones WHERE ns = ?1 AND time < ?2)), catalog = catalog + 1 WHERE id = ?1",
        &[&ns.id, &micros],
    )?;
    let tombstones = run("DELETE FROM tombstones WHERE ns = ?1 AND time < ?2", &[&ns.id, &micros])?;
    run("UPDATE namespaces SET has_tombstones = EXISTS (SELECT 1 FROM tombstones WHERE ns = ?1) WHERE id = ?1", &[&ns.id])?;
    Ok(Purged { receipts: receipts as u64, tombstones: tombstones as u64 })
}

/// The smallest id that can have been made at or after a moment.
fn first_id_of(moment: Timestamp) -> [u8; 16] {
    let millis = u64::try_from(moment.as_micros() / 1_000).unwrap_or(0);
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    *CommitId::from_store(bytes).as_bytes()
}
