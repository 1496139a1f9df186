//! Forgets old receipts and tombstones, raising the floors that keep their ids and revisions from coming again.
//!
//! ```text
//!   lock the namespace · raise the floor of receipts · forget the oldest of them      again while there are more
//!   lock the namespace · look at the next tombstones · raise the floors of their
//!                        collections · forget those that are old                      again while there are more
//! ```
//!
//! Each line is a transaction, so a purge of any size lets commits through, and one that is cut off has done a part: what
//! is forgotten has raised its floor with it. Asked for again it goes on.

use millpond_core::{CommitId, Namespace, Purged, Result, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::call::Call;
use crate::engine::{Inner, undecided};
use crate::errors::{Failure, unreadable};
use crate::namespaces::{NamespaceRow, existing, lock_call};
use crate::session::Session;

/// Rows that are looked at in one transaction.
const CHUNK: i64 = 2_000;

const RAISE: &str = "UPDATE namespaces SET receipts_floor = greatest(receipts_floor, $2) WHERE id = $1";
/// The oldest receipts: ids begin with their time, so those made before a moment are one range. Those before `$3` are
/// gone; what is left of them in the index need not be read again.
const RECEIPTS: &str = "WITH old AS MATERIALIZED (SELECT ctid, id FROM commits WHERE ns = $1 AND id < $2 AND id >= $3 ORDER BY id LIMIT $4), \
     gone AS (DELETE FROM commits WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) RETURNING id) \
     SELECT id, (SELECT count(*) FROM gone) FROM old ORDER BY id DESC LIMIT 1";
/// The next tombstones by their keys, and what those among them that are old raise.
const TOMBSTONES: &str = "WITH next AS MATERIALIZED (SELECT ctid, collection, key, revision, position, time FROM tombstones \
       WHERE ns = $1 AND (collection, key) > ($3, $4) ORDER BY collection, key LIMIT $5), \
     gone AS (DELETE FROM tombstones WHERE ctid = ANY (ARRAY(SELECT ctid FROM next WHERE time < $2)) \
       RETURNING collection, revision, position), \
     floors AS (INSERT INTO collections (ns, name, revision_floor, purged_position) \
       SELECT $1, collection, max(revision), max(position) FROM gone GROUP BY collection \
       ON CONFLICT (ns, name) DO UPDATE SET revision_floor = greatest(collections.revision_floor, excluded.revision_floor), \
         purged_position = greatest(collections.purged_position, excluded.purged_position)), \
     raised AS (UPDATE namespaces SET catalog = catalog + 1, \
       purged_position = greatest(purged_position, (SELECT max(position) FROM gone)) \
       WHERE id = $1 AND EXISTS (SELECT FROM gone)) \
     SELECT collection, key, (SELECT count(*) FROM gone), (SELECT count(*) FROM next) FROM next \
     ORDER BY collection DESC, key DESC LIMIT 1";
const HAS_TOMBSTONES: &str =
    "UPDATE namespaces SET has_tombstones = EXISTS (SELECT 1 FROM tombstones WHERE ns = $1) WHERE id = $1";

/// How far a purge has come.
struct Progress {
    receipts: u64,
    tombstones: u64,
    /// Transactions that were answered.
    steps: u64,
}

/// Purges what is older than a moment.
pub(crate) async fn purge(inner: &Inner, namespace: &Namespace, before: Timestamp) -> Result<Purged> {
    let mut progress = Progress { receipts: 0, tombstones: 0, steps: 0 };
    match all(inner, namespace, before, &mut progress).await {
        Ok(()) => Ok(Purged { receipts: progress.receipts, tombstones: progress.tombstones }),
        // An error that says "not applied" would not be true any more.
        Err(error) => Err(if progress.steps > 0 { undecided(error) } else { error }),
    }
}

async fn all(inner: &Inner, namespace: &Namespace, before: Timestamp, progress: &mut Progress) -> Result<()> {
    let mut from = Some(Uuid::nil());
    while let Some(id) = from {
        let (count, last) = inner.retrying(|| receipts(inner, namespace, before, id)).await?;
        progress.receipts += count;
        progress.steps += 1;
        from = last;
    }
    let mut from = Some((String::new(), String::new()));
    while let Some(after) = from {
        let (count, last) = inner.retrying(|| tombstones(inner, namespace, before, &after)).await?;
        progress.tombstones += count;
        progress.steps += 1;
        from = last;
    }
    Ok(())
}

/// Begins a transaction under the namespace's lock.
async fn lock(session: &mut Session, namespace: &Namespace) -> Result<NamespaceRow, Failure> {
    let rows = session.begin(&[lock_call(namespace)]).await?;
    match existing(rows.first().map_or(&[], Vec::as_slice), namespace) {
        Ok(row) => Ok(row),
        Err(error) => {
            session.rollback().await;
            Err(error.into())
        }
    }
}

/// Forgets the oldest receipts, from an id on: how many, and the last one's id if there may be more.
async fn receipts(inner: &Inner, namespace: &Namespace, before: Timestamp, from: Uuid) -> Result<(u64, Option<Uuid>), Failure> {
    let mut session = inner.connections.session().await?;
    let ns = lock(&mut session, namespace).await?;
    let raise = Call::once(RAISE).with(Type::INT8, ns.id).with(Type::INT8, before.as_micros());
    let forget = Call::once(RECEIPTS)
        .with(Type::INT8, ns.id)
        .with(Type::UUID, first_id_of(before))
        .with(Type::UUID, from)
        .with(Type::INT8, CHUNK);
    let answers = session.commit(&[raise, forget]).await?;
    let Some(row) = answers.last().and_then(|rows| rows.first()) else { return Ok((0, None)) };
    let read = |row: &Row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?));
    let (last, count) = read(row).map_err(unreadable("a purge"))?;
    Ok((count.cast_unsigned(), (count == CHUNK).then_some(last)))
}

type Place = (String, String);

/// Forgets those of the next tombstones that are old: how many, and where the next ones begin if there are more.
async fn tombstones(
    inner: &Inner,
    namespace: &Namespace,
    before: Timestamp,
    after: &Place,
) -> Result<(u64, Option<Place>), Failure> {
    let mut session = inner.connections.session().await?;
    let ns = lock(&mut session, namespace).await?;
    let forget = Call::once(TOMBSTONES)
        .with(Type::INT8, ns.id)
        .with(Type::INT8, before.as_micros())
        .with(Type::TEXT, after.0.as_str())
        .with(Type::TEXT, after.1.as_str())
        .with(Type::INT8, CHUNK);
    let mut answers = session.run(&[forget]).await?;
    let rows = answers.pop().unwrap_or_default();
    let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get::<_, i64>(2)?, row.try_get::<_, i64>(3)?));
    let found = rows.first().map(read).transpose().map_err(unreadable("a purge"))?;
    let (count, next) = match found {
        Some((collection, key, count, seen)) => (count.cast_unsigned(), (seen == CHUNK).then_some((collection, key))),
        None => (0, None),
    };
    let flag = Call::once(HAS_TOMBSTONES).with(Type::INT8, ns.id);
    session.commit(if next.is_none() { std::slice::from_ref(&flag) } else { &[] }).await?;
    Ok((count, next))
}

/// The smallest id that can have been made at or after a moment.
fn first_id_of(moment: Timestamp) -> Uuid {
    let millis = u64::try_from(moment.as_micros() / 1_000).unwrap_or(0);
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    Uuid::from_bytes(*CommitId::from_store(bytes).as_bytes())
}
