//! Locks: one holder, tokens that only grow, fences the store checks, waiting, take-over of the dead, force on record.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millpond::locks::{ProcessState, Processes};
use millpond::{
    Attempt, Commit, ErrorKind, EventFilter, EventQuery, Holder, Lease, LockFilter, LockInfo, LockRequest, Locks, Store,
    StreamName, Timestamp,
};
use serde_json::json;

use super::tools::{joined, race, refused, soon, two, value};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "locks":
    one_holder_at_a_time => "of many who ask at once through two handles one gets the lock, and the others are told who holds it";
    tokens_only_grow => "each acquisition has a higher token than any before, after release, expiry and force too";
    a_lost_lock_stops_its_holder => "a holder that overslept can neither commit under its fence, nor renew, nor release";
    a_fenced_commit_of_the_holder_passes => "a commit under a lock that is held is applied, also after a renewal and past the deadline";
    a_release_joins_other_writes => "the last write under a lock and its release are one commit, refused together";
    a_waiter_gets_the_lock_when_it_is_given_back => "who waits gets the lock soon after its release";
    waiters_all_get_their_turn => "many waiters through two handles get the lock one after another, never two at once";
    waiting_ends => "a waiter gives up at its time and is told who holds the lock";
    a_dead_holder_is_taken_over => "a holder that is known to be dead is taken over before its deadline, any other is not";
    a_lock_taken_by_force_is_on_record => "force needs a reason, is told in the lock's stream in the same commit, and voids the token";
    a_kept_lock_outlives_its_ttl => "a lease that is kept is renewed until it is lost, and then says so";
    a_token_alone_is_enough => "name and token give the lease back, and a token that has moved on is refused";
    locks_are_listed_in_pages => "locks are listed by name, page by page, by prefix, holder and deadline";
}

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(1);

fn acquired(attempt: Attempt) -> Result<Lease, Failure> {
    match attempt {
        Attempt::Acquired(lease) => Ok(lease),
        Attempt::Held(info) => Err(Failure(format!("a free lock was refused: {info:?}"))),
    }
}

fn held(attempt: Attempt) -> Result<LockInfo, Failure> {
    match attempt {
        Attempt::Held(info) => Ok(*info),
        Attempt::Acquired(lease) => Err(Failure(format!("a held lock was given away: {lease:?}"))),
    }
}

/// Waits until the store's clock has passed a moment.
async fn passed(store: &Store, moment: Timestamp) -> Result<(), Failure> {
    soon("the clock passing a deadline", async {
        while store.now() <= moment {
            tokio::time::sleep(SHORT).await;
        }
    })
    .await
}

/// A commit that writes `n` into one record.
fn write(n: u64) -> Result<Commit, Failure> {
    Ok(Commit::new().put("guarded", "it", &json!({ "n": n }))?)
}

async fn one_holder_at_a_time(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let attempts = race(&stores, 16, |i, store| async move {
        Ok(Locks::new(store).try_acquire(&LockRequest::of("l", LONG).holder(format!("racer {i}"))).await?)
    })
    .await?;
    let winners: Vec<usize> = (0..16).filter(|i| matches!(attempts[*i], Attempt::Acquired(_))).collect();
    ensure_eq!(winners.len(), 1, "racers that got the lock");
    let name = format!("racer {}", winners[0]);
    for attempt in &attempts {
        if let Attempt::Held(info) = attempt {
            ensure_eq!(info.lease.holder.name, name, "the holder the others were told of");
        }
    }
    let again = Locks::new(stores[0].clone()).try_acquire(&LockRequest::of("l", LONG).holder(name)).await?;
    held(again)?;
    let other = Locks::new(stores[1].clone()).try_acquire(&LockRequest::of("l2", LONG)).await?;
    acquired(other)?;
    Ok(())
}

async fn tokens_only_grow(ground: Arc<Ground>) -> Verdict {
    let (one, other) = (ground.pond().await?, ground.second_pond().await?);
    let mut last = 0;
    for round in 0..12 {
        let (locks, request) = match round % 2 {
            0 => (one.locks(), LockRequest::of("l", if round % 3 == 0 { SHORT } else { LONG })),
            _ => (other.locks(), LockRequest::of("l", LONG)),
        };
        let lease = acquired(locks.try_acquire(&request).await?)?;
        ensure!(lease.token > last, "token {} after {last}", lease.token);
        last = lease.token;
        match round % 3 {
            0 if request.ttl == SHORT => passed(one.store(), lease.deadline).await?,
            1 => {
                one.locks().force_release("l", "round over", "test").await?;
            }
            _ => locks.release(&locks.renew(&lease, LONG).await?).await?,
        }
    }
    Ok(())
}

async fn a_lost_lock_stops_its_holder(ground: Arc<Ground>) -> Verdict {
    let (one, other) = (ground.pond().await?, ground.second_pond().await?);
    let slept = acquired(one.locks().try_acquire(&LockRequest::of("l", SHORT).holder("sleeper")).await?)?;
    passed(other.store(), slept.deadline).await?;
    let taken = acquired(other.locks().try_acquire(&LockRequest::of("l", LONG).holder("next")).await?)?;
    other.commit(taken.fence(write(1)?)).await?;
    let told = refused(one.commit(slept.fence(write(2)?)).await, ErrorKind::Fenced, "a commit under a lost lock")?;
    ensure!(told.contains("next"), "the refusal does not name the holder: {told}");
    refused(one.locks().renew(&slept, LONG).await, ErrorKind::Fenced, "renewing a lost lock")?;
    refused(one.locks().release(&slept).await, ErrorKind::Fenced, "releasing a lost lock")?;
    ensure_eq!(value(one.store(), "guarded", "it").await?, Some(json!({"n": 1})), "what is guarded");
    other.commit(taken.fence(write(3)?)).await?;
    Ok(())
}

async fn a_fenced_commit_of_the_holder_passes(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let lease = acquired(pond.locks().try_acquire(&LockRequest::of("l", LONG)).await?)?;
    pond.commit(lease.fence(write(1)?)).await?;
    let renewed = pond.locks().renew(&lease, SHORT).await?;
    ensure_eq!(renewed.token, lease.token, "the token after a renewal");
    ensure!(renewed.deadline < lease.deadline, "a shorter renewal did not move the deadline");
    passed(pond.store(), renewed.deadline).await?;
    pond.commit(lease.fence(write(2)?)).await?;
    pond.locks().release(&lease).await?;
    refused(pond.commit(lease.fence(write(3)?)).await, ErrorKind::Fenced, "a commit after the release")?;
    ensure_eq!(value(pond.store(), "guarded", "it").await?, Some(json!({"n": 2})), "what is guarded");
    Ok(())
}

async fn a_release_joins_other_writes(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let lease = acquired(pond.locks().try_acquire(&LockRequest::of("l", LONG)).await?)?;
    pond.commit(write(1)?.and(pond.locks().release_part(&lease))).await?;
    ensure!(pond.locks().info("l").await?.is_none(), "the lock is held after the commit that released it");
    let second = pond.try_commit(write(2)?.and(pond.locks().release_part(&lease))).await?;
    ensure!(matches!(second, millpond::Outcome::Conflict(_)), "a second release with a write was applied");
    ensure_eq!(value(pond.store(), "guarded", "it").await?, Some(json!({"n": 1})), "what is guarded");
    Ok(())
}

async fn a_waiter_gets_the_lock_when_it_is_given_back(ground: Arc<Ground>) -> Verdict {
    let (one, other) = (ground.pond().await?, ground.second_pond().await?);
    let lease = acquired(one.locks().try_acquire(&LockRequest::of("l", LONG)).await?)?;
    let waiter = tokio::spawn(async move { Ok(other.locks().acquire(&LockRequest::of("l", LONG).wait(LONG)).await?) });
    for n in 0..20 {
        one.commit(write(n)?).await?;
        tokio::task::yield_now().await;
    }
    ensure!(!waiter.is_finished(), "the waiter got a lock that is held");
    one.locks().release(&lease).await?;
    let got: Lease = soon("the lock after its release", joined(waiter)).await??;
    ensure!(got.token > lease.token, "token {} after {}", got.token, lease.token);
    Ok(())
}

async fn waiters_all_get_their_turn(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let tokens = soon(
        "all waiters getting their turn",
        race(&stores, 8, |_, store| async move {
            let locks = Locks::new(store.clone());
            let lease = locks.acquire(&LockRequest::of("l", LONG).wait(LONG)).await?;
            // Without the lock two of these would read the same number.
            let n = value(&store, "guarded", "turns").await?.and_then(|v| v["n"].as_u64()).unwrap_or(0);
            store.commit(lease.fence(Commit::new().put("guarded", "turns", &json!({ "n": n + 1 }))?)).await?;
            locks.release(&lease).await?;
            Ok(lease.token)
        }),
    )
    .await??;
    ensure_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), 8, "different tokens");
    ensure_eq!(value(&stores[0], "guarded", "turns").await?, Some(json!({"n": 8})), "turns that were counted");
    Ok(())
}

async fn waiting_ends(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    acquired(pond.locks().try_acquire(&LockRequest::of("l", LONG).holder("anna")).await?)?;
    let request = LockRequest::of("l", LONG).wait(Duration::from_millis(30));
    let answer = soon("a waiter giving up", pond.locks().acquire(&request)).await?;
    let told = refused(answer, ErrorKind::Conflict, "waiting for a lock that stays held")?;
    ensure!(told.contains("anna"), "who waited in vain is not told who holds the lock: {told}");
    let none = refused(pond.locks().acquire(&LockRequest::of("l", LONG)).await, ErrorKind::Conflict, "not waiting at all")?;
    ensure!(none.contains("anna"), "{none}");
    Ok(())
}

/// A machine with one process that asks, and one answer about all others.
#[derive(Debug)]
struct Machine(Holder, ProcessState);

impl Processes for Machine {
    fn this_process(&self) -> Holder {
        self.0.clone()
    }
    fn state(&self, _: u32) -> ProcessState {
        self.1
    }
}

fn process(host: &str, pid: u32) -> Holder {
    Holder {
        name: format!("{host}:{pid}"),
        host: Some(host.to_owned()),
        boot: Some("boot".to_owned()),
        pid: Some(pid),
        started: Some(100),
    }
}

async fn a_dead_holder_is_taken_over(ground: Arc<Ground>) -> Verdict {
    let (one, other) = (ground.store().await?, ground.second_store().await?);
    let holder = Locks::with_processes(one.clone(), Arc::new(Machine(process("h", 1), ProcessState::Unknown)));
    let first = acquired(holder.try_acquire(&LockRequest::of("l", LONG)).await?)?;
    let on = |host: &str, state| Locks::with_processes(other.clone(), Arc::new(Machine(process(host, 2), state)));
    for (locks, what) in [
        (on("h", ProcessState::Running(100)), "alive"),
        (on("h", ProcessState::Unknown), "unknown"),
        (on("elsewhere", ProcessState::Gone), "on another machine"),
    ] {
        let told = held(locks.try_acquire(&LockRequest::of("l", LONG)).await?)?;
        ensure!(!told.dead, "a holder that is {what} counts as dead");
    }
    let taken = acquired(on("h", ProcessState::Gone).try_acquire(&LockRequest::of("l", LONG)).await?)?;
    ensure!(taken.token > first.token, "token {} after {}", taken.token, first.token);
    refused(one.commit(first.fence(write(1)?)).await, ErrorKind::Fenced, "a commit of the one taken for dead")?;
    let again = on("h", ProcessState::Running(101)).try_acquire(&LockRequest::of("l", LONG)).await?;
    ensure!(acquired(again)?.token > taken.token, "a pid that was given to another process was not taken over");
    Ok(())
}

async fn a_lock_taken_by_force_is_on_record(ground: Arc<Ground>) -> Verdict {
    let (one, other) = (ground.pond().await?, ground.second_pond().await?);
    let lease = acquired(one.locks().try_acquire(&LockRequest::of("a/l", LONG).holder("anna").purpose("index")).await?)?;
    for (reason, by) in [("", "ops"), (" ", "ops"), ("stuck", "")] {
        refused(other.locks().force_release("a/l", reason, by).await, ErrorKind::Invalid, "force without a reason or a name")?;
    }
    ensure!(one.locks().info("a/l").await?.is_some(), "a refused force took the lock away");
    let taken = other.locks().force_release("a/l", "stuck since noon", "ops").await?;
    ensure_eq!(taken.map(|i| i.lease.holder.name), Some("anna".to_owned()), "who held it");
    refused(one.commit(lease.fence(write(1)?)).await, ErrorKind::Fenced, "a commit after the force")?;
    ensure!(one.locks().info("a/l").await?.is_none(), "the lock is still held");
    ensure!(one.locks().force_release("a/l", "again", "ops").await?.is_none(), "a free lock was taken away");
    let told = one.store().events(EventQuery::new(EventFilter::stream(StreamName::new("locks/a/l")?))).await?.items;
    ensure_eq!(told.len(), 1, "events that tell of the force");
    let data = told[0].data.value()?;
    ensure_eq!(told[0].kind, "lock.broken", "the event's type");
    ensure_eq!(
        json!([data["reason"], data["by"], data["holder"]["name"], data["token"], data["purpose"]]),
        json!(["stuck since noon", "ops", "anna", lease.token, "index"]),
        "what the event tells"
    );
    Ok(())
}

async fn a_kept_lock_outlives_its_ttl(ground: Arc<Ground>) -> Verdict {
    let (one, other) = (ground.pond().await?, ground.second_pond().await?);
    let ttl = Duration::from_millis(1_500);
    let lease = acquired(one.locks().try_acquire(&LockRequest::of("l", ttl)).await?)?;
    let (locks, kept) = (one.locks(), lease.clone());
    let keeper = tokio::spawn(async move { locks.keep(&kept).await });
    passed(other.store(), lease.deadline).await?;
    let info = other.locks().info("l").await?;
    ensure_eq!(info.map(|i| (i.lease.token, i.expired)), Some((lease.token, false)), "the lock past its first deadline");
    held(other.locks().try_acquire(&LockRequest::of("l", LONG)).await?)?;
    other.locks().force_release("l", "test", "test").await?;
    let end = soon("the keeper noticing", keeper).await?.map_err(|e| Failure(format!("the keeper panicked: {e}")))?;
    refused(end, ErrorKind::Fenced, "keeping a lock that was taken away")?;
    Ok(())
}

async fn a_token_alone_is_enough(ground: Arc<Ground>) -> Verdict {
    let (one, other) = (ground.pond().await?, ground.second_pond().await?);
    let lease = acquired(one.locks().try_acquire(&LockRequest::of("l", LONG)).await?)?;
    ensure_eq!(other.locks().resume("l", lease.token).await?, lease, "the lease by its token");
    refused(other.locks().resume("l", lease.token + 1).await, ErrorKind::Fenced, "another token")?;
    one.locks().release(&other.locks().resume("l", lease.token).await?).await?;
    refused(other.locks().resume("l", lease.token).await, ErrorKind::Fenced, "a token of a lock that was given back")?;
    refused(one.locks().try_acquire(&LockRequest::of("a//b", LONG)).await, ErrorKind::Invalid, "a bad name")?;
    refused(one.locks().try_acquire(&LockRequest::of("x".repeat(2_043), LONG)).await, ErrorKind::Invalid, "a long name")?;
    refused(one.locks().try_acquire(&LockRequest::of("l", Duration::ZERO)).await, ErrorKind::Invalid, "no ttl")?;
    Ok(())
}

async fn locks_are_listed_in_pages(ground: Arc<Ground>) -> Verdict {
    let (one, other) = (ground.pond().await?, ground.second_pond().await?);
    for i in 0..7 {
        let ttl = if i < 3 { Duration::from_secs(60) } else { LONG };
        let request = LockRequest::of(format!("jobs/{i}"), ttl).holder(if i % 2 == 0 { "anna" } else { "ben" });
        acquired(one.locks().try_acquire(&request).await?)?;
    }
    acquired(one.locks().try_acquire(&LockRequest::of("other", LONG).holder("anna")).await?)?;
    let all = async |filter: LockFilter| -> Result<Vec<String>, Failure> {
        let mut filter = LockFilter { limit: 2, ..filter };
        let mut names = Vec::new();
        loop {
            let page = other.locks().list(&filter).await?;
            ensure!(page.items.len() <= 2, "a page of two holds {}", page.items.len());
            names.extend(page.items.into_iter().map(|i| i.name.to_string()));
            filter.after = page.next;
            if filter.after.is_none() {
                return Ok(names);
            }
        }
    };
    let jobs: Vec<String> = (0..7).map(|i| format!("jobs/{i}")).collect();
    let prefix = LockFilter { prefix: Some("jobs/".into()), ..LockFilter::default() };
    ensure_eq!(all(prefix).await?, jobs, "locks by prefix");
    let anna = LockFilter { holder: Some("anna".into()), ..LockFilter::default() };
    ensure_eq!(all(anna).await?, ["jobs/0", "jobs/2", "jobs/4", "jobs/6", "other"], "locks by holder");
    let soon = one.store().now().plus(Duration::from_secs(600));
    let short = LockFilter { deadline_before: Some(soon), ..LockFilter::default() };
    ensure_eq!(all(short).await?, jobs[..3], "locks that end soon");
    let long = LockFilter { deadline_from: Some(soon), holder: Some("ben".into()), ..LockFilter::default() };
    ensure_eq!(all(long).await?, ["jobs/3", "jobs/5"], "ben's locks that do not");
    Ok(())
}
