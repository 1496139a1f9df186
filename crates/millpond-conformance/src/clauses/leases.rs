//! Leases and fencing: one holder, tokens that only grow, and a store that refuses whoever was overtaken.

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Acquire, Commit, Expectation, Expected, Found, Holder, Key, LeaseState, Outcome, Query, Receipt, Result, Store, Write,
};
use serde_json::json;

use super::tools::{conflict, event, head, put, race, soon, two, value};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "leases":
    one_of_racing_holders => "of racing callers exactly one gets the lease; the others hear who holds it";
    tokens_only_grow => "the token grows over release, expiry, break and purge, and is never given out twice";
    a_paused_holder_is_fenced_off => "a holder that slept past its deadline and was overtaken cannot commit any more";
    a_fence_holds_until_overtaken => "a fenced commit passes while the token is the holder's, also after the deadline";
    only_the_holder_renews => "renewing moves the deadline; with another token it is refused and changes nothing";
    only_the_holder_releases => "releasing frees the lease at once; with another token it is refused and changes nothing";
    a_broken_lease_is_void => "a lease taken away is free at once, and its token opens nothing any more";
    a_dead_holder_is_replaced => "a holder known to be dead is replaced before its deadline, by naming its token only";
    leases_can_be_asked => "who holds a lease, until when and what for is an ordinary record";
}

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(1);

fn acquire(lease: &str, who: &str, ttl: Duration) -> Result<Commit> {
    let holder = Holder { name: who.to_owned(), ..Holder::default() };
    let acquire = Acquire { lease: Key::new(lease)?, holder, ttl, purpose: Some(format!("{who}'s work")), dead: None };
    Ok(Commit::new().write(Write::Acquire(acquire)))
}

/// Takes a lease that is free.
async fn take(store: &Store, lease: &str, who: &str, ttl: Duration) -> Result<u64> {
    Ok(token(&store.commit(acquire(lease, who, ttl)?).await?))
}

/// Takes a lease as soon as the store's clock has passed the deadline of its holder.
async fn take_over(store: &Store, lease: &str, who: &str, ttl: Duration) -> Result<u64, Failure> {
    let trying = async {
        loop {
            match store.try_commit(acquire(lease, who, ttl)?).await? {
                Outcome::Committed(receipt) => return Ok(token(&receipt)),
                Outcome::Conflict(_) => tokio::time::sleep(SHORT).await,
            }
        }
    };
    soon("the end of a lease of a millisecond", trying).await?
}

fn token(receipt: &Receipt) -> u64 {
    receipt.revisions.first().copied().unwrap_or(0)
}

fn release(lease: &str, token: u64) -> Result<Commit> {
    Ok(Commit::new().write(Write::Release { lease: Key::new(lease)?, token }))
}

fn renew(lease: &str, token: u64, ttl: Duration) -> Result<Commit> {
    Ok(Commit::new().write(Write::Renew { lease: Key::new(lease)?, token, ttl }))
}

async fn held(store: &Store, lease: &str) -> Result<Option<LeaseState>> {
    store.get("locks", lease).await?.map(|r| r.value.decode()).transpose()
}

async fn one_of_racing_holders(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    for round in 0..10 {
        let lease = format!("lease/{round}");
        let outcomes = race(&stores, 8, |i, store| {
            let lease = lease.clone();
            async move { Ok((i, store.try_commit(acquire(&lease, &format!("racer {i}"), LONG)?).await?)) }
        })
        .await?;
        let winners: Vec<usize> = outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Committed(_))).map(|(i, _)| *i).collect();
        ensure_eq!(winners.len(), 1, "holders of one lease");
        let winner = format!("racer {}", winners[0]);
        ensure_eq!(held(&stores[1], &lease).await?.map(|s| s.holder.name), Some(winner.clone()), "the holder that is stored");
        for (i, outcome) in outcomes {
            let Outcome::Conflict(conflict) = outcome else { continue };
            ensure_eq!(conflict.expected, Expected::LeaseFree(Key::new(lease.as_str())?), "what racer {i} expected");
            let named = matches!(&conflict.found, Found::Lease { holder, .. } if *holder == winner);
            ensure!(named, "racer {i} was not told that {winner} holds the lease: {:?}", conflict.found);
        }
    }
    Ok(())
}

async fn tokens_only_grow(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let token = take(&one, "l", "a", LONG).await?;
        tokens.push(token);
        two.commit(release("l", token)?).await?;
        tokens.push(take(&two, "l", "b", SHORT).await?);
        let next = take_over(&one, "l", "c", LONG).await?;
        tokens.push(next);
        one.commit(renew("l", next, LONG)?).await?;
        let gone = two.commit(Commit::new().write(Write::Break { lease: Key::new("l")? })).await?;
        ground.engine().purge(ground.namespace(), gone.time.plus(Duration::from_micros(1))).await?;
        // A lease that was never held begins above what was purged, too.
        tokens.push(take(&one, "l", "d", SHORT).await?);
        tokens.push(take_over(&two, "l", "e", LONG).await?);
        one.commit(Commit::new().write(Write::Break { lease: Key::new("l")? })).await?;
    }
    ensure!(tokens.is_sorted_by(|a, b| a < b), "tokens did not only grow: {tokens:?}");
    Ok(())
}

async fn a_paused_holder_is_fenced_off(ground: Arc<Ground>) -> Verdict {
    let [paused, other] = two(&ground).await?;
    let lease = Key::new("l")?;
    let old = take(&paused, "l", "sleeper", LONG).await?;
    let late = |n: i32| put("work", "result", &json!(n))?.append("log", event("done", 1)?).map(|c| c.fenced(lease.clone(), old));
    paused.commit(late(1)?).await?;
    // Made short only now, so that the commit above does not race the clock.
    paused.commit(renew("l", old, SHORT)?).await?;
    let new = take_over(&other, "l", "successor", LONG).await?;
    let before = head(&other).await?;
    let refused = conflict(paused.try_commit(late(2)?).await?, "a commit of an overtaken holder")?;
    ensure!(refused.is_fence(), "the refusal is not about the lease: {refused}");
    ensure_eq!(refused.expected, Expected::Stated(Expectation::Lease(lease.clone(), old)), "what was expected");
    let named = matches!(&refused.found, Found::Lease { holder, token, .. } if holder == "successor" && *token == new);
    ensure!(named, "the overtaken holder was not told who holds the lease: {:?}", refused.found);
    ensure_eq!(value(&other, "work", "result").await?, Some(json!(1)), "the record after a late commit");
    ensure_eq!(head(&other).await?, before, "the head after a late commit");
    other.commit(put("work", "result", &json!(3))?.fenced(lease.clone(), new)).await?;
    other.commit(release("l", new)?).await?;
    for stale in [old, new] {
        let commit = put("work", "result", &json!(4))?.fenced(lease.clone(), stale);
        let refused = conflict(paused.try_commit(commit).await?, "a commit under a lease nobody holds")?;
        ensure_eq!(refused.found, Found::NoLease, "what was found");
    }
    ensure_eq!(value(&paused, "work", "result").await?, Some(json!(3)), "the record");
    Ok(())
}

async fn a_fence_holds_until_overtaken(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let token = take(&one, "l", "slow", SHORT).await?;
    let deadline = held(&two, "l").await?.map(|s| s.deadline).unwrap_or_default();
    soon("the store's clock", async {
        while one.now() <= deadline {
            tokio::time::sleep(SHORT).await;
        }
    })
    .await?;
    one.commit(put("work", "a", &json!(1))?.fenced(Key::new("l")?, token)).await?;
    ensure_eq!(value(&two, "work", "a").await?, Some(json!(1)), "a commit after the deadline that nobody overtook");
    let renewed = one.commit(renew("l", token, LONG)?).await?;
    one.commit(put("work", "a", &json!(2))?.fenced(Key::new("l")?, token)).await?;
    ensure!(renewed.revisions.first().is_some_and(|r| *r > token), "a renewal is a change of the lease's record");
    Ok(())
}

async fn only_the_holder_renews(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let token = take(&one, "l", "a", Duration::from_secs(60)).await?;
    let before = held(&two, "l").await?;
    for wrong in [token - 1, token + 1, token + 1_000] {
        conflict(two.try_commit(renew("l", wrong, LONG)?).await?, "renewing with another token")?;
    }
    ensure_eq!(held(&two, "l").await?, before, "the lease after renewals by others");
    one.commit(renew("l", token, LONG)?).await?;
    let after = held(&two, "l").await?;
    let deadlines = (before.as_ref().map(|s| s.deadline), after.as_ref().map(|s| s.deadline));
    ensure!(deadlines.0 < deadlines.1, "renewing did not move the deadline: {deadlines:?}");
    ensure_eq!(after.map(|s| (s.token, s.holder.name)), Some((token, "a".to_owned())), "token and holder after a renewal");
    conflict(two.try_commit(acquire("l", "b", LONG)?).await?, "taking a renewed lease")?;
    conflict(one.try_commit(renew("never", 1, LONG)?).await?, "renewing what nobody holds")?;
    Ok(())
}

async fn only_the_holder_releases(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let token = take(&one, "l", "a", LONG).await?;
    for wrong in [token - 1, token + 1] {
        conflict(two.try_commit(release("l", wrong)?).await?, "releasing with another token")?;
    }
    ensure_eq!(held(&two, "l").await?.map(|s| s.token), Some(token), "the lease after releases by others");
    one.commit(release("l", token)?).await?;
    ensure_eq!(held(&two, "l").await?, None, "the lease after its release");
    conflict(one.try_commit(release("l", token)?).await?, "releasing twice")?;
    conflict(one.try_commit(renew("l", token, LONG)?).await?, "renewing after a release")?;
    take(&two, "l", "b", LONG).await?;
    Ok(())
}

async fn a_broken_lease_is_void(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let lease = Key::new("l")?;
    let old = take(&one, "l", "a", LONG).await?;
    let broken = || Commit::new().write(Write::Break { lease: lease.clone() });
    two.commit(broken()).await?;
    let fenced = put("work", "a", &json!(1))?.fenced(lease.clone(), old);
    let refused = conflict(one.try_commit(fenced).await?, "a commit under a broken lease")?;
    ensure!(refused.is_fence(), "the refusal is not about the lease: {refused}");
    conflict(one.try_commit(renew("l", old, LONG)?).await?, "renewing a broken lease")?;
    let new = take(&two, "l", "b", LONG).await?;
    ensure!(new > old, "the token after a break is {new}, before it was {old}");
    two.commit(release("l", new)?).await?;
    ensure_eq!(two.commit(broken()).await?.revisions, vec![0], "breaking what nobody holds");
    Ok(())
}

async fn a_dead_holder_is_replaced(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let old = take(&one, "l", "dead", LONG).await?;
    let with = |dead: u64| {
        let holder = Holder { name: "heir".to_owned(), ..Holder::default() };
        let acquire = Acquire { lease: Key::new("l")?, holder, ttl: LONG, purpose: None, dead: Some(dead) };
        Ok::<_, millpond::Error>(Commit::new().write(Write::Acquire(acquire)))
    };
    for wrong in [old - 1, old + 1] {
        conflict(two.try_commit(with(wrong)?).await?, "taking over the holder of another token")?;
    }
    let new = token(&two.commit(with(old)?).await?);
    ensure!(new > old, "the token after a takeover is {new}, before it was {old}");
    conflict(one.try_commit(put("work", "a", &json!(1))?.fenced(Key::new("l")?, old)).await?, "the dead holder's commit")?;
    conflict(one.try_commit(with(old)?).await?, "taking over twice")?;
    Ok(())
}

async fn leases_can_be_asked(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    two.declare(&[millpond::LEASES.spec()?]).await?;
    let token = take(&one, "jobs/a", "anna", LONG).await?;
    take(&one, "jobs/b", "ben", Duration::from_secs(1)).await?;
    let state = held(&two, "jobs/a").await?.ok_or_else(|| Failure("a held lease has no record".to_owned()))?;
    ensure_eq!((state.holder.name.as_str(), state.token), ("anna", token), "holder and token");
    ensure_eq!(state.purpose.as_deref(), Some("anna's work"), "the purpose");
    ensure_eq!(state.deadline, state.acquired_at.plus(LONG), "the deadline");
    ensure_eq!(state.ttl_us, 3_600_000_000, "the length");
    let keys = super::tools::keys(&two, &Query::new("locks")?.eq("holder", "anna")).await?;
    ensure_eq!(keys, vec!["jobs/a".to_owned()], "leases by holder");
    let keys = super::tools::keys(&two, &Query::new("locks")?.order_asc("deadline")).await?;
    ensure_eq!(keys, vec!["jobs/b".to_owned(), "jobs/a".to_owned()], "leases by deadline");
    Ok(())
}
