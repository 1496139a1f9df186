//! One connection in use: statements sent in one go, and the care that a connection in doubt is never used again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use deadpool::managed::Object;
use futures_util::TryStreamExt as _;
use millpond_core::{Error, limits};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error as PgError, Row, RowStream, Statement};

use crate::call::Call;
use crate::connect::{Counters, Taken};
use crate::errors::{Failure, beginning, failure};
use crate::sent;

/// How a transaction begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Each statement sees what was committed before it: the namespace's row is the lock.
    Write,
    /// The same for a batch, whose statements are all written so that the plan made without values is the one wanted.
    Batch,
    /// All statements see one snapshot.
    Read,
}

impl Begin {
    fn text(self) -> &'static str {
        match self {
            Self::Write | Self::Batch => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            Self::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// What comes after the settings of a session. Statements of many forms are planned for their values; to say so
    /// costs a small commit a twentieth of its time, so it is not said the other way round.
    fn planning(self) -> &'static str {
        match self {
            Self::Write | Self::Read => "; SET LOCAL plan_cache_mode = auto",
            Self::Batch => "",
        }
    }
}

/// Settings each transaction needs for itself where a session's settings do not last (a pooler in between).
pub(crate) type LocalSettings = Option<Arc<str>>;

/// A connection taken from the pool. Dropped while a transaction or an answer is open, it is closed, not given back.
pub(crate) struct Session {
    taken: Option<Taken>,
    local: LocalSettings,
    counters: Arc<Counters>,
    settled: bool,
}

enum Step<'s, 'a> {
    Simple(String),
    Call(&'s Call<'a>),
    /// COMMIT of a transaction that writes.
    Commit,
}

type Rows = Vec<Row>;
type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Session {
    pub(crate) fn new(taken: Taken, local: LocalSettings, counters: Arc<Counters>) -> Self {
        Self { taken: Some(taken), local, counters, settled: true }
    }

    /// Whether statements may be prepared and kept.
    fn prepares(&self) -> bool {
        self.local.is_none()
    }

    fn begin_text(&self, how: Begin) -> String {
        match &self.local {
            None => format!("{}{}", how.text(), how.planning()),
            Some(settings) => format!("{}; {settings}{}", how.text(), how.planning()),
        }
    }

    /// Answers one statement by itself.
    pub(crate) async fn one(&mut self, call: &Call<'_>) -> Result<Rows, Failure> {
        // What is not prepared is planned for its values, which takes a transaction that says so.
        if !self.prepares() || !call.prepared {
            return Ok(self.read(std::slice::from_ref(call)).await?.pop().unwrap_or_default());
        }
        self.settled = false;
        let mut results = self.send(&[Step::Call(call)]).await?;
        let result = results.pop().unwrap_or_else(|| Ok(Vec::new()));
        // An error of the statement leaves no transaction open; one of the connection is noticed by the pool.
        self.settled = result.as_ref().err().is_none_or(|e| e.as_db_error().is_some());
        result.map_err(failure)
    }

    /// Answers statements from one snapshot, in one round trip.
    pub(crate) async fn read(&mut self, calls: &[Call<'_>]) -> Result<Vec<Rows>, Failure> {
        self.settled = false;
        let mut steps = vec![Step::Simple(self.begin_text(Begin::Read))];
        steps.extend(calls.iter().map(Step::Call));
        steps.push(Step::Simple("COMMIT".to_owned()));
        let mut results = self.send(&steps).await?;
        // After a failed statement COMMIT rolls back, and succeeds in that.
        self.settled = matches!(results.pop(), Some(Ok(_)));
        let rows: Vec<Rows> = results.into_iter().collect::<Result<_, _>>().map_err(failure)?;
        Ok(rows.into_iter().skip(1).collect())
    }

    /// Begins a write transaction and sends its first statements with it: one round trip.
    pub(crate) async fn begin(&mut self, calls: &[Call<'_>]) -> Result<Vec<Rows>, Failure> {
        self.begin_as(Begin::Write, calls).await
    }

    /// Begins a transaction as said, and sends its first statements with it: one round trip.
    pub(crate) async fn begin_as(&mut self, how: Begin, calls: &[Call<'_>]) -> Result<Vec<Rows>, Failure> {
        self.settled = false;
        let mut steps = vec![Step::Simple(self.begin_text(how))];
        steps.extend(calls.iter().map(Step::Call));
        let mut results = self.send(&steps).await?.into_iter();
        // If BEGIN was refused, what the statements after it say is of no use.
        results.next().transpose().map_err(beginning)?;
        results.collect::<Result<_, _>>().map_err(failure)
    }

    /// Sends statements inside the open transaction: one round trip.
    pub(crate) async fn run(&mut self, calls: &[Call<'_>]) -> Result<Vec<Rows>, Failure> {
        let steps: Vec<_> = calls.iter().map(Step::Call).collect();
        let results = self.send(&steps).await?;
        results.into_iter().collect::<Result<_, _>>().map_err(failure)
    }

    /// Sends the last statements and COMMIT: one round trip.
    ///
    /// COMMIT after a failed statement succeeds, as a rollback: every result is looked at. What is not known to have
    /// failed before COMMIT is [`Failure::Unknown`].
    ///
    /// A commit for which the server stopped waiting for its standby is unknown, too: it may be lost with the server.
    pub(crate) async fn commit(&mut self, calls: &[Call<'_>]) -> Result<Vec<Rows>, Failure> {
        let alone = self.counters.alone();
        let sent_before = sent::before();
        let mut steps: Vec<_> = calls.iter().map(Step::Call).collect();
        steps.push(Step::Commit);
        let mut results = self.send(&steps).await?;
        let committed = results.pop().unwrap_or_else(|| Ok(Vec::new()));
        self.settled = committed.is_ok();
        let mut rows = Vec::with_capacity(results.len());
        for result in results {
            match result {
                Ok(found) => rows.push(found),
                // The server said that this statement failed, so the transaction was rolled back.
                Err(error) if error.as_db_error().is_some() && self.settled => {
                    sent::refused(sent_before);
                    return Err(failure(error));
                }
                Err(error) => return Err(Failure::Unknown(failure(error).into_error())),
            }
        }
        match committed {
            // Perhaps another connection's; then a look at the receipts is all it costs.
            Ok(_) if self.counters.alone() != alone => Err(Failure::Unknown(
                Error::unavailable("the wait for a standby was cancelled").with_next("try again under the same id"),
            )),
            Ok(_) => Ok(rows),
            Err(error) => Err(Failure::Unknown(failure(error).into_error())),
        }
    }

    /// Ends the open transaction without a trace. If that fails the connection is closed, which comes to the same.
    pub(crate) async fn rollback(&mut self) {
        if let Ok(results) = self.send(&[Step::Simple("ROLLBACK".to_owned())]).await {
            self.settled = results.iter().all(Result::is_ok);
        }
    }

    /// Closes the connection, so that nobody gets it again.
    pub(crate) fn close(mut self) {
        self.settled = false;
    }

    /// Sends everything before it waits for anything.
    async fn send(&mut self, steps: &[Step<'_, '_>]) -> Result<Vec<Result<Rows, PgError>>, Failure> {
        let prepares = self.prepares();
        let Some(wire) = &mut self.taken else { return Ok(Vec::new()) };
        let mut statements = Vec::with_capacity(steps.len());
        for step in steps {
            statements.push(match step {
                Step::Call(call) if call.prepared && prepares => {
                    Some(wire.prepared(&call.text, &call.types).await.map_err(failure)?)
                }
                _ => None,
            });
        }
        self.counters.pipelined();
        if steps.iter().any(|step| matches!(step, Step::Commit)) {
            sent::commit();
        }
        Ok(wire
            .drive(|client| {
                in_order(steps.iter().zip(&statements).map(|(step, known)| asked(client, step, known.as_ref())).collect())
            })
            .await)
    }
}

/// What one step asks of the server.
fn asked<'a>(client: &'a Client, step: &'a Step<'_, '_>, known: Option<&'a Statement>) -> Waiting<'a, Result<Rows, PgError>> {
    match (step, known) {
        (Step::Simple(text), _) => Box::pin(async move { client.batch_execute(text).await.map(|()| Vec::new()) }),
        (Step::Commit, _) => Box::pin(async move { client.batch_execute("COMMIT").await.map(|()| Vec::new()) }),
        (Step::Call(call), Some(statement)) => Box::pin(async move {
            let values: Vec<&(dyn ToSql + Sync)> = call.values.iter().map(|v| &**v as _).collect();
            client.query(statement, &values).await
        }),
        (Step::Call(call), None) => Box::pin(async move {
            let values = call.values.iter().map(|v| &**v as &(dyn ToSql + Sync)).zip(call.types.iter().cloned());
            let rows = client.query_typed_raw(&call.text, values).await?;
            collect(rows, if call.page { limits::PAGE_BYTES } else { usize::MAX }).await
        }),
    }
}

/// Reads rows to their end, and keeps those that fit.
async fn collect(rows: RowStream, most: usize) -> Result<Rows, PgError> {
    let mut rows = pin!(rows);
    let (mut kept, mut bytes, mut full) = (Vec::new(), 0, false);
    while let Some(row) = rows.try_next().await? {
        if full {
            continue;
        }
        full = bytes >= most;
        bytes += row.raw_size_bytes();
        kept.push(row);
    }
    Ok(kept)
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.settled
            && let Some(taken) = self.taken.take()
        {
            // Taken out of the pool and dropped: the connection closes, and the server rolls back what was open.
            drop(Object::take(taken));
        }
    }
}

/// Waits for all, and polls them in their order: a client sends a statement when its future is first polled.
async fn in_order<T>(mut futures: Vec<Waiting<'_, T>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut waiting = false;
        for (future, slot) in futures.iter_mut().zip(&mut done) {
            if slot.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *slot = Some(value),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}
