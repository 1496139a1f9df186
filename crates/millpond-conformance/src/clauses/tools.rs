//! What several groups need: racers behind a barrier, ids with a chosen age, and short ways to say what must hold.

use std::fmt::Debug;
use std::future::{Future, IntoFuture as _};
use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Commit, CommitId, Conflict, ErrorKind, EventQuery, FeedRequest, ManualHost, NewEvent, Outcome, Pond, Position, Query,
    Receipt, Result, Selector, Store, Timestamp,
};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::{Failure, Ground};

/// How long a clause waits for something that must come by itself, such as a hint or the end of a lease.
pub const SOON: Duration = Duration::from_secs(10);

/// Two stores on the clause's namespace, each through a handle of its own.
///
/// # Errors
/// What opening fails with.
pub async fn two(ground: &Ground) -> Result<[Store; 2]> {
    Ok([ground.store().await?, ground.second_store().await?])
}

/// Starts `n` tasks at once, spread over the stores, and gathers what they answer, by their number.
///
/// # Errors
/// What the first failing racer fails with.
pub async fn race<T, Work, Running>(stores: &[Store], n: usize, work: Work) -> Result<Vec<T>, Failure>
where
    T: Send + 'static,
    Work: Fn(usize, Store) -> Running,
    Running: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(n));
    let tasks = (0..n).map(|i| {
        let running = work(i, stores[i % stores.len()].clone());
        let barrier = Arc::clone(&barrier);
        tokio::spawn(async move {
            barrier.wait().await;
            running.await
        })
    });
    let mut answers = Vec::with_capacity(n);
    for task in tasks.collect::<Vec<_>>() {
        answers.push(joined(task).await?);
    }
    Ok(answers)
}

/// The answer of a task of the clause's own.
///
/// # Errors
/// What the task fails with, or that it panicked.
pub async fn joined<T>(task: tokio::task::JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    task.await.map_err(|e| Failure(format!("a racer panicked: {e}")))?
}

/// Waits for something that must happen by itself, but not for ever.
///
/// # Errors
/// When it did not happen within [`SOON`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(SOON, future).await.map_err(|_| Failure(format!("{what}: nothing came within {SOON:?}")))
}

/// The conflict of an outcome that must be one.
///
/// # Errors
/// When the commit was applied.
pub fn conflict(outcome: Outcome, what: &str) -> Result<Conflict, Failure> {
    match outcome {
        Outcome::Conflict(conflict) => Ok(conflict),
        Outcome::Committed(receipt) => Err(Failure(format!("{what}: was applied ({receipt:?}), expected a conflict"))),
    }
}

/// Requires an error of a kind, and gives its text.
///
/// # Errors
/// When there was no error, or one of another kind.
pub fn refused<T: Debug>(result: Result<T>, kind: ErrorKind, what: &str) -> Result<String, Failure> {
    match result {
        Err(error) if error.kind() == kind => Ok(error.to_string()),
        Err(error) => Err(Failure(format!("{what}: expected {}, found {error:?}", kind.as_str()))),
        Ok(value) => Err(Failure(format!("{what}: expected {}, but it answered {value:?}", kind.as_str()))),
    }
}

/// A commit id made at a moment. Two calls with one moment give one id.
pub fn id_at(time: Timestamp) -> CommitId {
    CommitId::generate(&ManualHost::at(time))
}

/// A commit that puts one record.
///
/// # Errors
/// When a name breaks a rule.
pub fn put(collection: &str, key: &str, value: &Value) -> Result<Commit> {
    Commit::new().put(collection, key, value)
}

/// An event of a type with `{"n": n}` as its body.
///
/// # Errors
/// Never, but the body has to be checked.
pub fn event(kind: &str, n: usize) -> Result<NewEvent> {
    NewEvent::of(kind, &json!({ "n": n }))
}

/// A commit that appends one event with `{"n": n}` as its body.
///
/// # Errors
/// When the stream's name breaks a rule.
pub fn append(stream: &str, n: usize) -> Result<Commit> {
    Commit::new().append(stream, event("test", n)?)
}

/// Commits `n` events to a stream, one commit each.
///
/// # Errors
/// What committing fails with.
pub async fn fill(store: &Store, stream: &str, n: usize) -> Result<Vec<Receipt>> {
    let mut receipts = Vec::with_capacity(n);
    for i in 1..=n {
        receipts.push(store.commit(append(stream, i)?).await?);
    }
    Ok(receipts)
}

/// The document under a key.
///
/// # Errors
/// What reading fails with.
pub async fn value(store: &Store, collection: &str, key: &str) -> Result<Option<Value>> {
    store.get(collection, key).await?.map(|r| r.value.value()).transpose()
}

/// The revision under a key; 0 where there is no record.
///
/// # Errors
/// What reading fails with.
pub async fn revision(store: &Store, collection: &str, key: &str) -> Result<u64> {
    Ok(store.get(collection, key).await?.map_or(0, |r| r.revision))
}

/// All keys a query takes, page by page.
///
/// # Errors
/// What the query fails with, or that paging does not end.
pub async fn keys(store: &Store, query: &Query) -> Result<Vec<String>, Failure> {
    let mut query = query.clone();
    let mut keys = Vec::new();
    loop {
        let page = store.query(query.clone()).await?;
        let empty = page.items.is_empty();
        keys.extend(page.items.into_iter().map(|r| r.key.to_string()));
        match page.next {
            None => return Ok(keys),
            next if empty || next == query.after => return Err(Failure(format!("paging does not get on: {query:?}"))),
            next => query.after = next,
        }
    }
}

/// The `n` of every event a query takes, page by page.
///
/// # Errors
/// What the query fails with, or that paging does not end.
pub async fn numbers(store: &Store, query: &EventQuery) -> Result<Vec<u64>, Failure> {
    let mut query = query.clone();
    let mut found = Vec::new();
    loop {
        let page = store.events(query.clone()).await?;
        let empty = page.items.is_empty();
        for event in page.items {
            found.push(event.data.value()?.get("n").and_then(Value::as_u64).unwrap_or(0));
        }
        match page.next {
            None => return Ok(found),
            next if empty || next == query.after => return Err(Failure(format!("paging does not get on: {query:?}"))),
            next => query.after = next,
        }
    }
}

/// Positions of everything a feed shows after a position, read in pages of `limit`.
///
/// # Errors
/// What the feed fails with, or that it does not reach its head.
pub async fn feed_positions(
    store: &Store,
    selector: &Selector,
    mut after: Option<Position>,
    limit: usize,
) -> Result<Vec<u64>, Failure> {
    let mut positions = Vec::new();
    loop {
        let page = store.feed(FeedRequest { selector: selector.clone(), after, limit }).await?;
        if page.changes.len() > limit {
            return Err(Failure(format!("a page of {limit} holds {} changes", page.changes.len())));
        }
        positions.extend(page.changes.iter().map(|c| c.position().0));
        if page.next >= page.head {
            return Ok(positions);
        }
        if after.is_some_and(|a| page.next <= a) {
            return Err(Failure(format!("the feed stands still at {} of {}", page.next, page.head)));
        }
        after = Some(page.next);
    }
}

/// The last position given out in a namespace.
///
/// # Errors
/// What the engine fails with.
pub async fn head(store: &Store) -> Result<u64> {
    Ok(store.head().await?.0)
}

/// What [`stop`] ends a task with.
struct Stopped;

/// Ends the task it is called in where a process would be killed, and says nothing of it.
pub fn stop() -> ! {
    std::panic::resume_unwind(Box::new(Stopped))
}

/// What a life of a job came to: `None` when [`stop`] ended it.
///
/// # Errors
/// What the job fails with, or that it panicked.
pub async fn unless_stopped<T: Send + 'static>(
    job: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<Option<T>, Failure> {
    match tokio::spawn(job).await {
        Ok(done) => Ok(Some(done?)),
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) if panic.is::<Stopped>() => Ok(None),
            _ => Err(Failure("a job panicked".to_owned())),
        },
    }
}

/// Leaves a job that was stopped to the next one, who is refused before: its lease is taken away, as it runs out once
/// nobody keeps it.
///
/// # Errors
/// What the store fails with, or that nobody had the lease.
pub async fn left_behind(pond: &Pond, lease: &str) -> Result<(), Failure> {
    let taken = pond.locks().force_release(lease, "its worker is gone", "clause").await?;
    taken.map(drop).ok_or_else(|| Failure(format!("nobody had the lease {lease}")))
}

/// How many records of a collection there are.
///
/// # Errors
/// What the store fails with.
pub async fn count(pond: &Pond, collection: &str) -> Result<u64> {
    pond.store().count(Query::new(collection)?).await
}

/// The clock moves on: what was done before is older than what comes now, also by the milliseconds that floors count.
pub async fn passed_a_moment() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Writes artifacts with one unit; each text is that of its key.
///
/// # Errors
/// What the unit fails with.
pub async fn write_all(pond: &Pond, keys: &[String]) -> Result<()> {
    let mut unit = pond.unit();
    let artifacts = unit.artifacts();
    let puts = keys.iter().map(|key| artifacts.put(key.as_str(), key.clone()).into_future());
    for put in futures_util::future::join_all(puts).await {
        put?;
    }
    unit.commit().await.map(drop)
}
