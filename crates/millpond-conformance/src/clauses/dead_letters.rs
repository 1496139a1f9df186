//! Dead letters: one pair of hands at a time, a capacity the store checks, counts that are exact.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Claim, ClaimRequest, Commit, DeadLetter, DeadLetterFilter, DeadLetterState, DeadLetteredItem, DeadLetters, ErrorKind,
    ErrorType, EventFilter, EventQuery, FailureDetail, LetterRef, Pond, Store, StreamName, Timestamp, Versioned,
};
use serde_json::json;

use super::tools::{race, refused, soon, two, value};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "dead_letters":
    the_same_failure_is_added_once => "an item added again gets the failures it does not know, and the same ones change nothing";
    names_never_meet => "items of different jobs never share a letter, whatever their names";
    unknown_fields_survive_the_queue => "fields nobody knows survive claiming, failing again and requeueing";
    history_is_bounded => "the newest hundred attempts are kept, and all are counted";
    capacity_holds_under_racing_adders => "however many add at once, a job never holds more open letters than its capacity, and each eviction is told";
    room_is_checked_when_it_is_taken => "an add planned while there was room is refused once the room is taken";
    the_oldest_waiting_are_evicted => "a full job evicts the tenth that was tried longest ago, never a claimed one";
    a_letter_has_one_claim => "workers that claim at once through two handles never get the same letter, and all are completed once";
    an_abandoned_claim_comes_back => "after its visibility timeout a letter can be claimed again, and the first worker can do nothing with it";
    a_token_works_once => "whatever is done with a letter voids every token given out before, and changes nothing under an old one";
    completing_many_is_all_or_nothing => "completing several letters with one lost claim among them completes none";
    a_letter_is_completed_with_its_result => "completing joins the commit of what processing gave, and is refused together with it";
    released_at_once_retried_later => "a released letter can be claimed at once, one that failed again after its delay, with the failure in its history";
    only_eligible_letters_are_claimed => "letters that are not eligible, completed or discarded are not claimed before they are requeued";
    discarding_needs_a_reason => "a letter is given up with a reason that is kept, and can be requeued while there is room";
}

const LONG: Duration = Duration::from_secs(3_600);

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_700_000_000 + seconds) * 1_000_000)
}

fn failure(seconds: i64, message: &str) -> FailureDetail {
    FailureDetail::of(at(seconds), ErrorType::Timeout, message)
}

/// An item last tried at a second.
pub(super) fn item(id: impl Into<String>, seconds: i64) -> DeadLetteredItem {
    DeadLetteredItem::of(id, json!({ "n": seconds }), failure(seconds, "agent timed out"))
}

pub(super) fn worker(n: usize) -> ClaimRequest {
    ClaimRequest::of("worker", n, LONG)
}

pub(super) async fn letters(ground: &Ground) -> Result<DeadLetters, Failure> {
    Ok(ground.pond().await?.dead_letters())
}

pub(super) async fn letter(letters: &DeadLetters, item: &str) -> Result<Versioned<DeadLetter>, Failure> {
    letters.get("j", item).await?.ok_or_else(|| Failure(format!("dead letter {item} is gone")))
}

/// The one claim there is to be had.
async fn claim_one(letters: &DeadLetters, request: &ClaimRequest) -> Result<Claim, Failure> {
    letters.claim(request).await?.into_iter().next().ok_or_else(|| Failure("there was nothing to claim".to_owned()))
}

async fn open(store: &Store, job: &str) -> Result<i64, Failure> {
    Ok(value(store, "dead_letter_jobs", job).await?.and_then(|v| v["open"].as_i64()).unwrap_or(0))
}

/// The job's counter and the letters themselves must say the same.
pub(super) async fn counted(letters: &DeadLetters, store: &Store, job: &str, expected: i64) -> Verdict {
    let filter = DeadLetterState::OPEN.into_iter().fold(DeadLetterFilter::all().job(job), DeadLetterFilter::state);
    ensure_eq!(letters.count(&filter).await?, expected.cast_unsigned(), "open letters of job {job}");
    ensure_eq!(open(store, job).await?, expected, "the counter of job {job}");
    Ok(())
}

async fn the_same_failure_is_added_once(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let letters = pond.dead_letters();
    let first = letters.add("j", item("i", 1)).await?;
    ensure_eq!((first.revision, first.merged), (1, false), "the first add");
    let again = letters.add("j", item("i", 1)).await?;
    ensure_eq!((again.revision, again.merged), (1, true), "the same failure again");
    let next = letters.add("j", item("i", 9)).await?;
    ensure_eq!((next.revision, next.merged), (2, true), "another failure");
    let kept = letter(&letters, "i").await?;
    ensure_eq!((kept.item.failure_count, kept.item.failure_history.len()), (2, 2), "failures");
    ensure_eq!((kept.item.first_attempt, kept.item.last_attempt), (at(1), at(9)), "first and last attempt");
    ensure_eq!(kept.item.item_data, json!({"n": 9}), "the newest data");
    ensure_eq!(kept.item.error_signature, "Timeout::agent timed out", "the signature");
    ensure_eq!(letters.attempts("j", "i").await?, kept.item.failure_history, "the attempts");
    counted(&letters, pond.store(), "j", 1).await?;
    let claim = claim_one(&letters, &worker(1)).await?;
    letters.complete(&claim).await?;
    letters.add("j", item("i", 9)).await?;
    ensure_eq!(letter(&letters, "i").await?.state, DeadLetterState::Completed, "the state after a late retry of the add");
    letters.add("j", item("i", 12)).await?;
    ensure_eq!(letter(&letters, "i").await?.state, DeadLetterState::Pending, "the state after a new failure");
    counted(&letters, pond.store(), "j", 1).await?;
    refused(letters.attempts("j", "nobody").await, ErrorKind::NotFound, "attempts of no letter")?;
    Ok(())
}

async fn names_never_meet(ground: Arc<Ground>) -> Verdict {
    let letters = letters(&ground).await?;
    let names = [("a", "b/c"), ("a/b", "c"), ("a%2Fb", "c"), ("a", "b%2Fc"), (".", ".."), ("..", "."), ("", "x"), ("x", "")];
    for (n, (job, name)) in names.iter().enumerate() {
        letters.add(job, DeadLetteredItem { item_data: json!(n), ..item(*name, 1) }).await?;
    }
    for (n, (job, name)) in names.iter().enumerate() {
        let data = letters.get(job, name).await?.map(|l| l.value.item.item_data);
        ensure_eq!(data, Some(json!(n)), "the item {name:?} of job {job:?}");
    }
    let jobs = letters.jobs(true, 3, None).await?;
    ensure_eq!(jobs.items.len(), 3, "a page of jobs");
    let rest = letters.jobs(true, 10, jobs.next).await?;
    ensure_eq!(rest.items.len(), 4, "the rest of seven jobs");
    Ok(())
}

async fn unknown_fields_survive_the_queue(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let letters = pond.dead_letters();
    let mut new = item("i", 1);
    new.extra.insert("from_tomorrow".into(), json!({"deep": [1.25]}));
    new.failure_history[0].extra.insert("host".into(), json!("h"));
    new.failure_history[0].error_type = ErrorType::Other(json!({"DiskOnFire": {"floor": 3}}));
    letters.add("j", new).await?;
    let claim = claim_one(&letters, &worker(1)).await?;
    letters.retry_later(&claim, failure(2, "again"), Duration::ZERO).await?;
    let claim = claim_one(&letters, &worker(1)).await?;
    letters.requeue(&LetterRef::from(&claim)).await?;
    let now = value(pond.store(), "dead_letters", "j/i").await?.ok_or_else(|| Failure("the letter is gone".into()))?;
    ensure_eq!(now["from_tomorrow"], json!({"deep": [1.25]}), "an unknown field of the item");
    ensure_eq!(now["failure_history"][0]["host"], json!("h"), "an unknown field of an attempt");
    ensure_eq!(now["failure_history"][0]["error_type"], json!({"DiskOnFire": {"floor": 3}}), "an unknown error type");
    let found = letters.list(&DeadLetterFilter { error_type: Some("DiskOnFire".into()), ..Default::default() }).await?;
    ensure_eq!(found.items.len(), 1, "letters with that error type");
    Ok(())
}

async fn history_is_bounded(ground: Arc<Ground>) -> Verdict {
    let letters = letters(&ground).await?;
    let mut many = item("i", 1);
    many.failure_history = (1..=120).map(|n| failure(n, "no")).collect();
    many.failure_count = 120;
    many.last_attempt = at(120);
    letters.add("j", many).await?;
    letters.add("j", item("i", 500)).await?;
    let kept = letter(&letters, "i").await?;
    ensure_eq!((kept.item.failure_count, kept.item.failure_history.len()), (121, 100), "counted and kept");
    ensure_eq!(kept.attempts_dropped, 21, "dropped");
    ensure_eq!(kept.item.failure_history.last().map(|f| f.timestamp), Some(at(500)), "the newest");
    Ok(())
}

async fn capacity_holds_under_racing_adders(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let added = race(&stores, 40, |i, store| async move {
        let letters = Pond::new(store).await?.dead_letters().with_capacity(20);
        let mut evicted = Vec::new();
        for n in 0..3 {
            evicted.extend(letters.add("j", item(format!("{i}-{n}"), i64::try_from(i * 3 + n).unwrap_or(0))).await?.evicted);
        }
        Ok(evicted)
    })
    .await?;
    let letters = Pond::new(stores[0].clone()).await?.dead_letters();
    let evicted: Vec<String> = added.into_iter().flatten().collect();
    ensure_eq!(evicted.iter().collect::<BTreeSet<_>>().len(), evicted.len(), "letters that were evicted once each");
    let left = i64::try_from(120 - evicted.len()).unwrap_or(i64::MAX);
    ensure!(left <= 20, "{left} open letters in a job that holds 20");
    counted(&letters, &stores[1], "j", left).await?;
    let told = stores[0].events(EventQuery::new(EventFilter::stream(StreamName::new(DeadLetters::stream("j"))?))).await?;
    let mut items = BTreeSet::new();
    for event in told.items {
        let data = event.data.value()?;
        items.extend(data["items"].as_array().into_iter().flatten().filter_map(|i| i.as_str()).map(str::to_owned));
    }
    ensure_eq!(items, evicted.into_iter().collect::<BTreeSet<_>>(), "evictions told as events");
    Ok(())
}

async fn room_is_checked_when_it_is_taken(ground: Arc<Ground>) -> Verdict {
    let (one, other) = (ground.pond().await?, ground.second_pond().await?);
    let planned = async |pond: &Pond, name: &str| {
        let part = pond.dead_letters().with_capacity(2).add_part("j", item(name, 1)).await?;
        part.ok_or_else(|| Failure(format!("item {name} is there already")))
    };
    one.dead_letters().add("j", item("first", 1)).await?;
    let (a, b) = (planned(&one, "a").await?, planned(&other, "b").await?);
    one.commit(a).await?;
    refused(other.commit(b).await, ErrorKind::Conflict, "an add that was planned for the room another took")?;
    counted(&one.dead_letters(), one.store(), "j", 2).await?;
    let added = other.dead_letters().with_capacity(2).add("j", item("b", 1)).await?;
    ensure_eq!(added.evicted.len(), 1, "letters evicted for the one that was refused before");
    Ok(())
}

async fn the_oldest_waiting_are_evicted(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let letters = pond.dead_letters().with_capacity(20);
    for i in 0..20 {
        let added = letters.add("j", item(format!("i{i:02}"), 100 - i)).await?;
        ensure!(added.evicted.is_empty(), "item {i} of 20 evicted {:?}", added.evicted);
    }
    // The one tried longest ago, i19, is in a worker's hands.
    let all = letters.claim(&worker(20)).await?;
    for claim in &all {
        if claim.letter.item.item_id != "i19" {
            letters.release(claim).await?;
        }
    }
    let added = letters.add("j", item("new", 200)).await?;
    ensure_eq!(added.evicted, ["i18", "i17"], "a tenth, oldest first, without the claimed one");
    counted(&letters, pond.store(), "j", 19).await?;
    ensure!(letters.get("j", "i18").await?.is_none(), "an evicted letter is still there");
    let other = letters.add("k", item("i", 1)).await?;
    ensure!(other.evicted.is_empty(), "another job's letter evicted {:?}", other.evicted);
    let small = pond.dead_letters().with_capacity(1);
    let lowered = small.add("j", item("one", 300)).await?;
    ensure_eq!(lowered.evicted.len(), 18, "all that wait, with a smaller capacity");
    let held = letters.claim(&worker(20).job("j")).await?;
    ensure_eq!(held.len(), 1, "what waits now");
    refused(small.add("j", item("two", 301)).await, ErrorKind::Unavailable, "adding to a job full of claimed letters")?;
    Ok(())
}

async fn a_letter_has_one_claim(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let letters = Pond::new(stores[0].clone()).await?.dead_letters();
    for i in 0..60 {
        letters.add("j", item(format!("i{i}"), i)).await?;
    }
    let done = race(&stores, 8, |n, store| async move {
        let letters = Pond::new(store).await?.dead_letters();
        let mut done = Vec::new();
        loop {
            let claims = letters.claim(&worker(1 + n % 4)).await?;
            if claims.is_empty() {
                return Ok(done);
            }
            for claim in &claims {
                letters.complete(claim).await?;
            }
            done.extend(claims.into_iter().map(|c| c.letter.item.item_id));
        }
    })
    .await?;
    let done: Vec<String> = done.into_iter().flatten().collect();
    ensure_eq!(done.len(), 60, "completions");
    ensure_eq!(done.iter().collect::<BTreeSet<_>>().len(), 60, "letters that were completed");
    counted(&letters, &stores[1], "j", 0).await?;
    let twice = letters.list(&DeadLetterFilter::all()).await?.items.into_iter().find(|l| l.claims != 1);
    ensure!(twice.is_none(), "a letter was claimed more than once: {twice:?}");
    Ok(())
}

async fn an_abandoned_claim_comes_back(ground: Arc<Ground>) -> Verdict {
    let (one, other) = (ground.pond().await?, ground.second_pond().await?);
    one.dead_letters().add("j", item("i", 1)).await?;
    let request = ClaimRequest::of("dies", 1, Duration::from_millis(400));
    let lost = claim_one(&one.dead_letters(), &request).await?;
    if other.store().now() < lost.until {
        let early = other.dead_letters().claim(&worker(1)).await?;
        ensure!(early.is_empty() || other.store().now() >= lost.until, "a claimed letter was claimed again: {early:?}");
        for claim in early {
            other.dead_letters().release(&claim).await?;
        }
    }
    let taken = soon("the abandoned letter", async {
        loop {
            match other.dead_letters().claim(&worker(1)).await {
                Ok(claims) if claims.is_empty() => tokio::time::sleep(Duration::from_millis(5)).await,
                other => return other,
            }
        }
    })
    .await??;
    ensure!(other.store().now() >= lost.until, "the letter came back before its time");
    let theirs = one.dead_letters();
    refused(theirs.complete(&lost).await, ErrorKind::Conflict, "completing a lost claim")?;
    refused(theirs.release(&lost).await, ErrorKind::Conflict, "releasing a lost claim")?;
    refused(theirs.extend(&lost, LONG).await, ErrorKind::Conflict, "extending a lost claim")?;
    refused(theirs.retry_later(&lost, failure(2, "no"), LONG).await, ErrorKind::Conflict, "failing a lost claim")?;
    other.dead_letters().complete(&taken[0]).await?;
    ensure!(letter(&theirs, "i").await?.claims >= 2, "the letter does not count its claims");
    Ok(())
}

async fn a_token_works_once(ground: Arc<Ground>) -> Verdict {
    let letters = letters(&ground).await?;
    letters.add("j", item("i", 1)).await?;
    let seen = LetterRef::from(&letter(&letters, "i").await?);
    let first = claim_one(&letters, &worker(1)).await?;
    refused(letters.discard(&seen, "old news", "ops").await, ErrorKind::Conflict, "discarding what was claimed since")?;
    let second = letters.extend(&first, LONG).await?;
    ensure!(second.token > first.token, "token {} after {}", second.token, first.token);
    refused(letters.complete(&first).await, ErrorKind::Conflict, "completing under the token before the extension")?;
    refused(letters.requeue(&LetterRef::from(&first)).await, ErrorKind::Conflict, "requeueing under it")?;
    let before = letter(&letters, "i").await?;
    ensure_eq!(before.state, DeadLetterState::Claimed, "the state after refusals");
    letters.complete(&second).await?;
    refused(letters.complete(&second).await, ErrorKind::Conflict, "completing twice")?;
    refused(letters.release(&second).await, ErrorKind::Conflict, "releasing what was completed")?;
    let after = letter(&letters, "i").await?;
    ensure_eq!((after.state, after.available_at, &after.claim), (DeadLetterState::Completed, None, &None), "the letter");
    ensure_eq!(after.closed.as_ref().and_then(|c| c.by.clone()), Some("worker".to_owned()), "who completed it");
    Ok(())
}

async fn completing_many_is_all_or_nothing(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let letters = pond.dead_letters();
    for i in 0..4 {
        letters.add(if i < 2 { "j" } else { "k" }, item(format!("i{i}"), i)).await?;
    }
    let mut claims = letters.claim(&worker(4)).await?;
    ensure_eq!(claims.len(), 4, "claims");
    let kept = letters.extend(&claims[1], LONG).await?;
    refused(letters.complete_all(&claims).await, ErrorKind::Conflict, "completing with one lost claim")?;
    ensure_eq!(letters.count(&DeadLetterFilter::all().state(DeadLetterState::Claimed)).await?, 4, "letters still claimed");
    claims[1] = kept;
    letters.complete_all(&claims).await?;
    ensure_eq!(letters.count(&DeadLetterFilter::all().state(DeadLetterState::Completed)).await?, 4, "letters completed");
    counted(&letters, pond.store(), "j", 0).await?;
    counted(&letters, pond.store(), "k", 0).await
}

async fn a_letter_is_completed_with_its_result(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let letters = pond.dead_letters();
    letters.add("j", item("i", 1)).await?;
    let claim = claim_one(&letters, &worker(1)).await?;
    let result = |n: u64| Commit::new().put("results", "i", &json!({ "n": n }));
    let taken = result(1)?.expect_revision("results", "i", 7)?.and(letters.complete_part(std::slice::from_ref(&claim))?);
    refused(pond.commit(taken.trusted()).await, ErrorKind::Conflict, "a result whose expectation fails")?;
    ensure_eq!(letter(&letters, "i").await?.state, DeadLetterState::Claimed, "the letter after it");
    let both = |n| Ok::<_, Failure>(result(n)?.and(letters.complete_part(std::slice::from_ref(&claim))?).trusted());
    pond.commit(both(2)?).await?;
    refused(pond.commit(both(3)?).await, ErrorKind::Conflict, "the same letter's result again")?;
    ensure_eq!(value(pond.store(), "results", "i").await?, Some(json!({"n": 2})), "the result");
    ensure_eq!(letter(&letters, "i").await?.state, DeadLetterState::Completed, "the letter");
    Ok(())
}

async fn released_at_once_retried_later(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let letters = pond.dead_letters();
    letters.add("j", item("i", 1)).await?;
    let claim = claim_one(&letters, &worker(1)).await?;
    ensure!(letters.claim(&worker(1)).await?.is_empty(), "a claimed letter was claimed again");
    letters.release(&claim).await?;
    let claim = claim_one(&letters, &worker(1)).await?;
    ensure_eq!(claim.letter.item.failure_count, 1, "failures after a release");
    letters.retry_later(&claim, failure(50, "worse now"), LONG).await?;
    ensure!(letters.claim(&worker(1)).await?.is_empty(), "a letter was claimed before its delay");
    let kept = letter(&letters, "i").await?;
    ensure_eq!((kept.state, kept.item.failure_count), (DeadLetterState::Pending, 2), "the letter");
    ensure_eq!(kept.item.error_signature, "Timeout::worse now", "the signature of the newest failure");
    ensure_eq!(kept.item.last_attempt, at(50), "the last attempt");
    letters.requeue(&LetterRef::from(&kept)).await?;
    let claim = claim_one(&letters, &worker(1)).await?;
    letters.retry_later(&claim, failure(60, "and worse"), Duration::ZERO).await?;
    ensure_eq!(claim_one(&letters, &worker(1)).await?.letter.item.failure_count, 3, "failures after a short delay");
    for (limit, visibility) in [(0, LONG), (101, LONG), (1, Duration::ZERO)] {
        let request = ClaimRequest::of("w", limit, visibility);
        refused(letters.claim(&request).await, ErrorKind::Invalid, "a claim out of range")?;
    }
    counted(&letters, pond.store(), "j", 1).await
}

async fn only_eligible_letters_are_claimed(ground: Arc<Ground>) -> Verdict {
    let letters = letters(&ground).await?;
    letters.add("j", DeadLetteredItem { reprocess_eligible: false, ..item("held", 1) }).await?;
    letters.add("k", item("other", 1)).await?;
    ensure!(letters.claim(&worker(5).job("j")).await?.is_empty(), "a letter that is not eligible was claimed");
    letters.requeue(&LetterRef::from(&letter(&letters, "held").await?)).await?;
    let claim = claim_one(&letters, &worker(5).job("j")).await?;
    ensure!(claim.letter.item.reprocess_eligible, "a requeued letter is not eligible");
    letters.complete(&claim).await?;
    ensure!(letters.claim(&worker(5).job("j")).await?.is_empty(), "a completed letter was claimed");
    letters.requeue(&LetterRef::from(&letter(&letters, "held").await?)).await?;
    let again = letters.claim(&worker(5).job("j")).await?;
    ensure_eq!(again.len(), 1, "letters of the job that can be claimed");
    ensure_eq!(again[0].letter.closed, None, "how the letter was closed, once it is open again");
    Ok(())
}

async fn discarding_needs_a_reason(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let letters = pond.dead_letters().with_capacity(1);
    letters.add("j", item("i", 1)).await?;
    let seen = LetterRef::from(&letter(&letters, "i").await?);
    refused(letters.discard(&seen, " ", "ops").await, ErrorKind::Invalid, "discarding without a reason")?;
    letters.discard(&seen, "superseded", "ops").await?;
    let kept = letter(&letters, "i").await?;
    let closed = kept.closed.as_ref().map(|c| (c.reason.as_deref(), c.by.as_deref()));
    ensure_eq!((kept.state, closed), (DeadLetterState::Discarded, Some((Some("superseded"), Some("ops")))), "the letter");
    ensure!(letters.claim(&worker(1)).await?.is_empty(), "a discarded letter was claimed");
    counted(&letters, pond.store(), "j", 0).await?;
    letters.discard(&LetterRef::from(&kept), "still superseded", "ops").await?;
    counted(&letters, pond.store(), "j", 0).await?;
    letters.add("j", item("k", 2)).await?;
    let discarded = LetterRef::from(&letter(&letters, "i").await?);
    refused(letters.requeue(&discarded).await, ErrorKind::Conflict, "requeueing into a full job")?;
    letters.discard(&LetterRef::from(&letter(&letters, "k").await?), "room", "ops").await?;
    letters.requeue(&discarded).await?;
    counted(&letters, pond.store(), "j", 1).await?;
    let nobody = LetterRef { job_id: "j".into(), item_id: "nobody".into(), revision: 1 };
    refused(letters.discard(&nobody, "x", "ops").await, ErrorKind::NotFound, "discarding what is not there")?;
    Ok(())
}
