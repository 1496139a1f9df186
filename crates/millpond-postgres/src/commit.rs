//! A batch of commits: two round trips, and what is done when the answer to the second never comes.
//!
//! ```text
//!   lock, read ─► plan ─► remember what is about to be sent ─► write, COMMIT ─► answered: done
//!                                                                    └─► lost: lock again, look for the receipts:
//!                                                                        all there: it was applied; none: plan anew
//! ```
//!
//! Under the lock the lost transaction is over, whichever way it ended. So only a batch that could not ask again until
//! its deadline has an unknown outcome.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use millpond_core::plan::{Touched, plan};
use millpond_core::{CommitId, Error, ErrorKind, Namespace, Outcome, Position, PreparedCommit, Result, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::apply;
use crate::call::Call;
use crate::catalog::Schema;
use crate::engine::Inner;
use crate::errors::Failure;
use crate::load::{self, Reads};
use crate::namespaces::{NamespaceRow, existing, lock_call};
use crate::session::{Begin, Session};

/// What was sent with COMMIT and not answered yet.
struct Sent {
    outcomes: Vec<Result<Outcome>>,
    receipts: Vec<(CommitId, Position, Timestamp)>,
}

/// What became of what was sent.
enum Found {
    Applied,
    NotApplied,
    /// Its receipts were purged, or are not ours: nobody can tell any more.
    Nothing,
}

/// Decides and applies a batch.
pub(crate) async fn commit(inner: &Inner, namespace: &Namespace, batch: &[PreparedCommit]) -> Result<Vec<Result<Outcome>>> {
    let touched = Touched::of(batch);
    let mut retry = inner.retry();
    let mut sent = None;
    loop {
        let error = match retry.attempt(attempt(inner, namespace, batch, &touched, &mut sent)).await {
            Ok(outcomes) => return Ok(outcomes),
            Err(Failure::Final(error)) => return Err(undecided_if(sent.is_some(), error)),
            Err(failure) => failure.into_error(),
        };
        retry.pause(error, sent.is_some()).await.map_err(|error| undecided_if(sent.is_some(), error))?;
    }
}

fn undecided_if(sent: bool, error: Error) -> Error {
    if !sent {
        return error;
    }
    Error::new(ErrorKind::UnknownOutcome, "PostgreSQL did not answer a COMMIT, and could not be asked what became of it")
        .with_source(error)
        .with_next("send the same commit again under the same id")
}

async fn attempt(
    inner: &Inner,
    namespace: &Namespace,
    batch: &[PreparedCommit],
    touched: &Touched,
    sent: &mut Option<Sent>,
) -> Result<Vec<Result<Outcome>>, Failure> {
    let mut session = inner.connections.session().await?;
    let result = inside(inner, &mut session, namespace, batch, touched, sent).await;
    if matches!(result, Err(Failure::Final(_))) {
        session.rollback().await;
    }
    result
}

async fn inside(
    inner: &Inner,
    session: &mut Session,
    namespace: &Namespace,
    batch: &[PreparedCommit],
    touched: &Touched,
    sent: &mut Option<Sent>,
) -> Result<Vec<Result<Outcome>>, Failure> {
    let loaded = load(inner, session, namespace, touched).await?;
    if let Some(before) = sent {
        match look(session, &loaded.row, before).await? {
            Found::Applied => {
                vouch(session, &loaded.row).await?;
                return Ok(sent.take().map(|s| s.outcomes).unwrap_or_default());
            }
            Found::NotApplied => *sent = None,
            Found::Nothing => return Err(Error::unavailable("the receipts of the batch are gone").into()),
        }
    }
    let Loaded { row, schema, reads, answers } = loaded;
    let mut state = load::empty(&row, &schema);
    reads.take(&answers, &mut state)?;
    let planned = plan(batch, state, row.now);
    if planned.mutations.is_empty() {
        if planned.outcomes.iter().any(|outcome| matches!(outcome, Ok(Outcome::Committed(_)))) {
            vouch(session, &row).await?;
        } else {
            session.rollback().await;
        }
        return Ok(planned.outcomes);
    }
    let calls = apply::calls(&row, &schema, &planned.mutations)?;
    let receipts = planned.mutations.receipts.iter().map(|s| (s.receipt.id, s.receipt.position, s.receipt.time));
    *sent = Some(Sent { outcomes: planned.outcomes, receipts: receipts.collect() });
    match session.commit(&calls).await {
        Ok(_) => {
            schema.tombstones.fetch_or(planned.mutations.records.iter().any(|r| r.after.is_none()), Ordering::Relaxed);
            inner.hints.committed(row.id);
            Ok(sent.take().map(|s| s.outcomes).unwrap_or_default())
        }
        Err(Failure::Unknown(error)) => Err(Failure::Unknown(error)),
        Err(failure) => {
            *sent = None;
            Err(failure)
        }
    }
}

/// Ends the transaction so that what an earlier one wrote is kept as well as an acknowledgement promises.
///
/// What is seen under the lock may not have reached the standby: a server that crashed while a commit waited for one
/// shows that commit when it is up again. A commit that writes comes after it in the log, so when this one has arrived
/// that one has.
pub(crate) async fn vouch(session: &mut Session, row: &NamespaceRow) -> Result<(), Failure> {
    let touch = Call::often("UPDATE namespaces SET position = position WHERE id = $1").with(Type::INT8, row.id);
    session.commit(&[touch]).await.map(drop)
}

/// What the first round trip brought.
struct Loaded<'t> {
    row: NamespaceRow,
    schema: Arc<Schema>,
    reads: Reads<'t>,
    answers: Vec<Vec<Row>>,
}

/// Locks the namespace and reads what the batch touches, by the declarations last known. Where those turn out to be
/// old, the reads are made again: that is the one case of a third round trip.
async fn load<'t>(
    inner: &Inner,
    session: &mut Session,
    namespace: &Namespace,
    touched: &'t Touched,
) -> Result<Loaded<'t>, Failure> {
    let known = inner.schemas.known(namespace);
    let guess = known.as_ref().map(|schema| Reads::of(touched, schema, schema.tombstones.load(Ordering::Relaxed)));
    let mut calls: Vec<Call<'_>> = vec![lock_call(namespace)];
    if let (Some(schema), Some(reads)) = (&known, &guess) {
        calls.extend(reads.calls(schema.ns));
    }
    let mut answers = session.begin_as(Begin::Batch, &calls).await?;
    let row = existing(answers.first().map_or(&[], Vec::as_slice), namespace)?;
    if let (Some(schema), Some(reads)) = (known, guess)
        && schema.is_of(&row)
        && row.has_tombstones == schema.tombstones.load(Ordering::Relaxed)
    {
        answers.remove(0);
        return Ok(Loaded { row, schema, reads, answers });
    }
    let schema = inner.schemas.of(session, &row).await?;
    schema.tombstones.store(row.has_tombstones, Ordering::Relaxed);
    let reads = Reads::of(touched, &schema, row.has_tombstones);
    let calls: Vec<Call<'_>> = reads.calls(row.id).collect();
    let answers = if calls.is_empty() { Vec::new() } else { session.run(&calls).await? };
    Ok(Loaded { row, schema, reads, answers })
}

/// Looks for the receipts of what was sent, under the lock.
async fn look(session: &mut Session, row: &NamespaceRow, sent: &Sent) -> Result<Found, Failure> {
    let ids: Vec<CommitId> = sent.receipts.iter().map(|(id, ..)| *id).collect();
    if ids.iter().any(|id| id.time() < row.receipts_floor()) || ids.is_empty() {
        return Ok(Found::Nothing);
    }
    let answers = session.run(&[load::receipts_call(row.id, &ids)]).await?;
    let mut ours = 0;
    for found in answers.first().map_or(&[][..], Vec::as_slice) {
        let Some((id, position, time)) = sent.receipts.get(load::place(found)?) else { continue };
        // Another process may have applied a commit of the same id: then it stands at another place.
        let receipt = load::receipt(found, *id)?.receipt;
        ours += usize::from(receipt.position == *position && receipt.time == *time);
    }
    // One transaction wrote all of them, or none.
    Ok(if ours == sent.receipts.len() { Found::Applied } else { Found::NotApplied })
}
