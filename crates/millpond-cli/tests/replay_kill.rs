//! Replays in processes that are killed: each message is published once, in order, whoever goes on.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::time::{Duration, Instant};

use millpond::{EventFilter, EventQuery, Pond, Replay, ReplayFilter, StreamName};
use support::written_off::{Place, ended, key, write};
use support::{Random, fresh_seed, runtime};

const OBJECTS: usize = 2_000;
const START: [&str; 12] =
    ["replay", "start", "e1", "--route", "crawl", "--stage", "fetch", "--to", "crawl/parse", "--batch", "b1", "--per-commit=10"];

async fn replay(pond: &Pond) -> Option<Replay> {
    pond.replays().list(&ReplayFilter::default()).await.unwrap().items.pop().map(|found| found.value)
}

/// What a replay did until now, in commits or nearly so.
fn progress(replay: Option<&Replay>) -> u64 {
    replay.map_or(0, |r| 1 + r.pages / 25 + r.published_pages)
}

/// Catches messages that are lost or published twice: a position that is not moved with the messages, a plan that begins
/// anew, an end that comes too early.
#[test]
fn a_replay_killed_again_and_again_publishes_each_message_once_and_in_order() {
    let seed = fresh_seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let place = Place::new();
    runtime().block_on(async {
        let pond = place.open().await;
        write(&pond, 0..OBJECTS, "text").await;
        let mut kills = 0;
        let mut killed_while_preparing = 0;
        loop {
            let before = replay(&pond).await;
            let mut life = match &before {
                None => place.begin(&START),
                Some(known) => place.begin(&["replay", "resume", &known.id]),
            };
            let until = progress(before.as_ref()) + 1 + random.below(3);
            loop {
                if life.try_wait().unwrap().is_some() || progress(replay(&pond).await.as_ref()) >= until {
                    break;
                }
            }
            spin(Duration::from_micros(random.below(3_000)));
            let _ = life.kill();
            if ended(life).is_some() {
                break;
            }
            kills += 1;
            killed_while_preparing += u32::from(replay(&pond).await.is_some_and(|r| r.published == 0));
        }
        println!("{kills} kills, {killed_while_preparing} before the first message");
        assert!(kills >= 30, "only {kills} kills");
        assert!(killed_while_preparing > 0);

        let query = EventQuery { limit: 10_000, ..EventQuery::new(EventFilter::stream(StreamName::new("crawl/parse").unwrap())) };
        let messages = pond.store().events(query).await.unwrap().items;
        let keys: Vec<String> = messages.iter().map(|m| m.data.value().unwrap()["key"].as_str().unwrap().to_owned()).collect();
        assert_eq!(keys, (0..OBJECTS).map(key).collect::<Vec<_>>());
        let sequences: Vec<u64> = messages.iter().map(|m| m.sequence).collect();
        assert_eq!(sequences, (1..=OBJECTS as u64).collect::<Vec<_>>());
        let done = replay(&pond).await.unwrap();
        assert_eq!((done.published, done.objects), (OBJECTS as u64, OBJECTS as u64));
        assert!(pond.pins().get("e1").await.unwrap().is_none());
    });
}

fn spin(wait: Duration) {
    let until = Instant::now() + wait;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// Catches a second process that is let in, or that is not told who works on the replay.
#[test]
fn of_two_processes_on_one_replay_one_works_and_the_other_is_told_who() {
    let place = Place::new();
    runtime().block_on(async {
        let pond = place.open().await;
        write(&pond, 0..20, "text").await;
        let late = key(99);
        let first = place.begin(&[&START[..], &["--wait", "120s", "--expect", &late]].concat());
        let known = loop {
            match replay(&pond).await {
                Some(known) if pond.locks().info(&format!("replays/{}", known.id)).await.unwrap().is_some() => break known,
                _ => tokio::task::yield_now().await,
            }
        };
        let second = place.run(&["replay", "resume", &known.id]);
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(4), "{said}");
        let who = pond.locks().info(&format!("replays/{}", known.id)).await.unwrap().unwrap().lease.holder.name;
        assert!(said.contains(&format!("is being worked on by {who}")), "{said}");
        assert!(who.contains(&first.id().to_string()), "{who} is not the first process");
        write(&pond, 99..100, "late").await;
        assert!(ended(first).is_some());
        assert_eq!(replay(&pond).await.unwrap().published, 21);
        let third = place.run(&["replay", "resume", &known.id]);
        assert!(third.status.success(), "what is over is answered as it is");
    });
}
