//! Forgets old receipts and tombstones, raising the floors that keep their ids and revisions from coming again.

use millpond_core::{CommitId, Namespace, Purged, Timestamp};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::errors::{Failure, unreadable};
use crate::namespaces::{existing, lock_call};
use crate::session::{Call, Session};

const RECEIPTS: &str = "WITH gone AS (DELETE FROM commits WHERE ns = $1 AND id < $2 RETURNING 1) SELECT count(*) FROM gone";
const FLOORS: &str = "INSERT INTO collections (ns, name, revision_floor, purged_position) \
     SELECT ns, collection, max(revision), max(position) FROM tombstones WHERE ns = $1 AND time < $2 GROUP BY ns, collection \
     ON CONFLICT (ns, name) DO UPDATE SET revision_floor = greatest(collections.revision_floor, excluded.revision_floor), \
       purged_position = greatest(collections.purged_position, excluded.purged_position)";
const RAISE: &str = "UPDATE namespaces SET receipts_floor = greatest(receipts_floor, $2), catalog = catalog + 1, \
       purged_position = greatest(purged_position, \
         (SELECT coalesce(max(position), 0) FROM tombstones WHERE ns = $1 AND time < $2)) WHERE id = $1";
const TOMBSTONES: &str =
    "WITH gone AS (DELETE FROM tombstones WHERE ns = $1 AND time < $2 RETURNING 1) SELECT count(*) FROM gone";
const HAS_TOMBSTONES: &str =
    "UPDATE namespaces SET has_tombstones = EXISTS (SELECT 1 FROM tombstones WHERE ns = $1) WHERE id = $1";

/// Purges what is older than a moment, under the namespace's lock.
pub(crate) async fn purge(session: &mut Session, namespace: &Namespace, before: Timestamp) -> Result<Purged, Failure> {
    let rows = session.begin(&[lock_call(namespace)]).await?;
    let ns = match existing(rows.first().map_or(&[], Vec::as_slice), namespace) {
        Ok(row) => row,
        Err(error) => {
            session.rollback().await;
            return Err(error.into());
        }
    };
    let timed = |text: &'static str| Call::once(text).with(Type::INT8, ns.id).with(Type::INT8, before.as_micros());
    // Ids begin with their time, so those made before a moment are one range.
    let receipts = Call::once(RECEIPTS).with(Type::INT8, ns.id).with(Type::UUID, first_id_of(before));
    let flag = Call::once(HAS_TOMBSTONES).with(Type::INT8, ns.id);
    let answers = session.commit(&[receipts, timed(FLOORS), timed(RAISE), timed(TOMBSTONES), flag]).await?;
    let count = |at: usize| {
        let row = answers.get(at).and_then(|rows| rows.first());
        row.map(|r| r.try_get::<_, i64>(0)).transpose().map(|n| n.unwrap_or(0).cast_unsigned())
    };
    let (receipts, tombstones) = (count(0).map_err(unreadable("a purge"))?, count(3).map_err(unreadable("a purge"))?);
    Ok(Purged { receipts, tombstones })
}

/// The smallest id that can have been made at or after a moment.
fn first_id_of(moment: Timestamp) -> Uuid {
    let millis = u64::try_from(moment.as_micros() / 1_000).unwrap_or(0);
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    Uuid::from_bytes(*CommitId::from_store(bytes).as_bytes())
}
