//! Does the server create an object only if it is absent? It is asked, not believed.
//!
//! A server that does not know the condition overwrites and says yes. One that looks first and writes then is right as
//! long as nobody else writes at the same moment. So: once one after another, and then many at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use millpond_core::{Error, ErrorKind, Result, ServerClock, Timestamp};
use millpond_objects::place::{Patience, failed, get};
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::create::create;

/// Writers of one race.
const WRITERS: usize = 16;
/// Races, which are run at once. On a busy machine a server that looks first and writes then gets through some of them
/// unharmed: s3s-fs got through three, one after another, in two of three tries, and never through six at once.
const ROUNDS: usize = 6;
/// Bytes that each writer sends, so that a server which looks before it has all of them leaves time for others.
const BODY: usize = 32 << 10;

/// Probes a store under a location of its own, which is removed afterwards.
///
/// # Errors
/// `Unsupported` when an object was created twice.
pub(super) async fn run(store: &dyn ObjectStore, patience: &Patience, folder: &Location) -> Result<()> {
    let folder = folder.clone().join(fresh_name());
    let mut used = Vec::new();
    let verdict = probe(store, patience, &folder, &mut used).await;
    for location in used {
        if let Err(error) = store.delete(&location).await {
            tracing::warn!(%error, "an object of the probe stays behind");
        }
    }
    verdict
}

/// Two processes may probe one place at once. This name is for nothing else.
fn fresh_name() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// The server's clock, by the time it gives an object made just now. Servers say it in whole seconds.
///
/// # Errors
/// What the store fails with.
pub(super) async fn clock(store: &dyn ObjectStore, folder: &Location) -> Result<ServerClock> {
    let location = folder.clone().join(fresh_name());
    let asked = Instant::now();
    store.put(&location, "now".into()).await.map_err(failed("write", &location))?;
    let answered = Instant::now();
    let made = store.head(&location).await.map_err(failed("read", &location));
    if let Err(error) = store.delete(&location).await {
        tracing::warn!(%error, "an object of the probe stays behind");
    }
    let shows = Timestamp::from_micros(made?.last_modified.timestamp_micros());
    Ok(ServerClock { shows, resolution: Duration::from_secs(1), asked, answered })
}

async fn probe(store: &dyn ObjectStore, patience: &Patience, folder: &Location, used: &mut Vec<Location>) -> Result<()> {
    let location = folder.clone().join("one-after-another");
    used.push(location.clone());
    // A refusal may be the answer to a request that was sent again: what is there tells.
    if !create(store, patience, &location, "first").await? && get(store, &location).await?.as_deref() != Some(b"first") {
        return Err(Error::unavailable(format!("cannot create {location}, though nothing is there")));
    }
    if create(store, patience, &location, "second").await? {
        return Err(refused("it created an object that was there already: it ignores If-None-Match"));
    }
    if get(store, &location).await?.as_deref() != Some(b"first") {
        return Err(refused("it refused to create an object that was there already, and replaced it all the same"));
    }
    let races: Vec<Location> = (0..ROUNDS).map(|round| folder.clone().join(format!("race-{round}"))).collect();
    used.extend(races.iter().cloned());
    // At once: SeaweedFS lets those who meet wait for a second each, and races one after another took half a minute.
    // All of them to the end: a request that was given up could still make an object that nobody removes.
    let lost = join_all(races.iter().map(|location| race(store, patience, location))).await.into_iter().filter_map(Result::err);
    // A promise that was broken in one of them counts, whatever became of the others.
    let (broken, failed): (Vec<_>, Vec<_>) = lost.partition(|e| e.kind() == ErrorKind::Unsupported);
    broken.into_iter().chain(failed).next().map_or(Ok(()), Err)
}

async fn race(store: &dyn ObjectStore, patience: &Patience, location: &Location) -> Result<()> {
    let bodies: Vec<String> = (0..WRITERS).map(|n| format!("{:width$}", format!("writer {n}"), width = BODY)).collect();
    let created = join_all(bodies.iter().map(|body| create(store, patience, location, body))).await;
    let (mut winners, mut failed) = (Vec::new(), None);
    for (body, created) in bodies.iter().zip(created) {
        match created {
            Ok(true) => winners.push(body),
            Ok(false) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    // Two that were told are too many, whatever the others heard.
    if let Some(error) = failed.filter(|_| winners.len() < 2) {
        return Err(error);
    }
    let kept = get(store, location).await?;
    match winners[..] {
        [winner] if kept.as_deref() == Some(winner.as_bytes()) => Ok(()),
        [_] => Err(refused("of several writers that created one object at once, it told one and kept another's")),
        // The answer to the one who won was lost, and its request, sent again, refused: nobody was told too much.
        [] if bodies.iter().any(|body| kept.as_deref() == Some(body.as_bytes())) => Ok(()),
        [] => Err(Error::unavailable(format!("cannot create {location}, though nothing is there"))),
        _ => Err(refused(&format!(
            "of {WRITERS} writers that created one object at once, {} were told that they had",
            winners.len()
        ))),
    }
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("this object store cannot keep a journal: {what}"))
        .with_next("use a server that enforces conditional writes, such as AWS S3, Google Cloud Storage, Azure or SeaweedFS")
        .in_check(super::CONDITIONAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::object::fakes::{Fault, Faulty};
    use object_store::memory::InMemory;

    fn patience() -> Patience {
        Patience { calls: millpond_objects::place::CALLS, host: std::sync::Arc::new(millpond_core::SystemHost) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_is_no_broken_promise() {
        for fault in [Fault::LosesEveryAnswer, Fault::LosesFirstAnswers] {
            let store = Faulty { inner: InMemory::new(), fault };
            run(&store, &patience(), &Location::from("p")).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_promise_that_was_broken_counts_whatever_else_fails() {
        for fault in [Fault::FailsInOneRace, Fault::FailsOneWriter] {
            let store = Faulty { inner: InMemory::new(), fault };
            let error = run(&store, &patience(), &Location::from("p")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{fault:?}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_only_refuses_is_not_called_a_liar() {
        let store = Faulty { inner: InMemory::new(), fault: Fault::TakesNothing };
        assert_eq!(run(&store, &patience(), &Location::from("p")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
