//! Payloads outside of records: read while they go, and damaged.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "support/hooked.rs"]
mod hooked;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hooked::{Doing, World, world};
use millpond::{
    ClaimRequest, Commit, DeadLetterFilter, DeadLetteredItem, Error, ErrorKind, ErrorType, FailureDetail, NewCheckpoint, Payload,
    Scope, Timestamp,
};
use millpond_objects::Objects as _;
use serde_json::json;

#[tokio::test]
async fn the_newest_checkpoint_is_looked_for_again_when_it_goes_while_it_is_read() {
    let world = world().await;
    let (checkpoints, scope) = (world.pond.checkpoints(), Scope::Run("r".to_owned()));
    checkpoints.save_new(&scope, NewCheckpoint::bytes(vec![1; 6_300_000])).await.unwrap();
    let met = Arc::new(AtomicBool::new(false));
    let (others, of, place) = (checkpoints.clone(), scope.clone(), Arc::clone(&world.place));
    world.place.before(move |doing, at| {
        let first = doing == Doing::Read && !met.swap(true, Ordering::SeqCst);
        let (others, of, place) = (others.clone(), of.clone(), Arc::clone(&place));
        async move {
            if first {
                others.save_new(&of, NewCheckpoint::bytes(vec![2; 6_300_000])).await?;
                others.keep_newest(&of, 1).await?;
                place.memory.remove(&at).await?;
            }
            Ok(())
        }
    });
    let latest = checkpoints.latest(&scope).await.unwrap().expect("there was one at every moment");
    assert_eq!((latest.info.version, latest.payload), (2, Payload::Bytes(vec![2; 6_300_000])));
    // A payload whose record is lost while its checkpoint is there is damage, and not an absence.
    let location = latest.info.object.unwrap();
    world.pond.store().commit(Commit::new().trusted().delete("payload_objects", &location).unwrap()).await.unwrap();
    for lost in [checkpoints.latest(&scope).await, checkpoints.load(&scope, 2).await] {
        let lost = lost.unwrap_err();
        let text = lost.to_string();
        assert!(
            lost.kind() == ErrorKind::Corrupt && text.contains("checkpoint 2 of run/r") && text.contains(&location),
            "{text}"
        );
    }
}

fn item(n: u64, bytes: usize) -> DeadLetteredItem {
    let at = Timestamp::parse("2026-01-05T08:00:00Z").unwrap().plus(Duration::from_secs(n));
    DeadLetteredItem::of(format!("i{n}"), json!("x".repeat(bytes)), FailureDetail::of(at, ErrorType::Timeout, "slow"))
}

async fn damage(world: &World, at: &str) {
    let at = at.parse().unwrap();
    world.place.memory.remove(&at).await.unwrap();
    world.place.memory.put(&at, Bytes::from("not what it was"), None).await.unwrap();
}

#[tokio::test]
async fn a_damaged_payload_keeps_no_other_letter_back_and_is_not_lost() {
    let world = world().await;
    let letters = world.pond.dead_letters();
    for n in 1..=4 {
        letters.add("etl", item(n, 1_000_000)).await.unwrap();
    }
    letters.add("etl", item(5, 10)).await.unwrap();
    let broken = letters.get("etl", "i2").await.unwrap().unwrap().value.payload_object.unwrap();
    damage(&world, &broken).await;
    let page = letters.list(&DeadLetterFilter::all()).await.unwrap();
    let listed: Vec<_> = page.items.iter().map(|letter| letter.item.item_id.as_str()).collect();
    assert_eq!(listed, ["i5", "i4", "i3", "i1"]);
    assert!(page.damaged.len() == 1 && page.damaged[0].what == "dead_letters/etl/i2", "{:?}", page.damaged);
    assert!(page.damaged[0].why.contains(&broken), "{:?}", page.damaged);
    assert_eq!(letters.get("etl", "i2").await.unwrap_err().kind(), ErrorKind::Corrupt);

    // One by one: whoever comes upon it is given another one.
    let mut done = Vec::new();
    let mut told = Vec::new();
    loop {
        let claimed = letters.claim(&ClaimRequest::of("w", 1, Duration::from_secs(60))).await.unwrap();
        told.extend(claimed.damaged.iter().map(|damaged| damaged.what.clone()));
        let Some(claim) = claimed.into_iter().next() else { break };
        letters.complete(&claim).await.unwrap();
        done.push(claim.letter.item.item_id);
    }
    done.sort();
    assert_eq!((done, told), (vec!["i1".into(), "i3".into(), "i4".into(), "i5".into()], vec!["dead_letters/etl/i2".to_owned()]));
    // It waits, and is told of again once its time has passed.
    world.host.advance(Duration::from_secs(61));
    let claimed = letters.claim(&ClaimRequest::of("w", 5, Duration::from_secs(60))).await.unwrap();
    assert_eq!((claimed.items.len(), claimed.damaged.len()), (0, 1));
    // A place that does not answer is an error, and no damage.
    world.host.advance(Duration::from_secs(61));
    letters.add("etl", item(6, 1_000_000)).await.unwrap();
    world.place.before(|_, _| async { Err(Error::unavailable("no route to the place")) });
    let told = letters.claim(&ClaimRequest::of("w", 5, Duration::from_secs(60))).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_answer_brings_so_much_data_and_not_more() {
    let world = world().await;
    let letters = world.pond.dead_letters();
    for n in 1..=7 {
        // The last one alone has more than an answer.
        letters.add("etl", item(n, if n == 7 { 17 << 20 } else { 6 << 20 })).await.unwrap();
    }
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = letters.list(&DeadLetterFilter::all().after(after)).await.unwrap();
        pages.push(page.items.iter().map(|letter| letter.item.item_id.clone()).collect::<Vec<_>>());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec!["i7"], vec!["i6", "i5"], vec!["i4", "i3"], vec!["i2", "i1"]]);
    let mut claims = Vec::new();
    loop {
        let claimed = letters.claim(&ClaimRequest::of("w", 100, Duration::from_secs(60))).await.unwrap();
        if claimed.is_empty() {
            break;
        }
        claims.push(claimed.iter().map(|claim| claim.letter.item.item_data.as_str().unwrap().len()).sum::<usize>());
    }
    assert!(claims.iter().sum::<usize>() == (17 << 20) + 6 * (6 << 20), "{claims:?}");
    assert!(claims.iter().all(|bytes| *bytes <= 17 << 20), "{claims:?}");
}
