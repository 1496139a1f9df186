//! What holds between processes on one place. Left out where a place lives in one process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millpond::{Change, Delivery, EventFilter, EventQuery, Pace, Selector, StartAt, Store, StreamName};

use super::tools::{head, soon, value};
use crate::processes::{APPENDS, CHILDREN, Role, SHARED, TURNS, race};
use crate::{Failure, Ground, Verdict, clauses, ensure_eq};

clauses! { "processes":
    appends_are_dense => "two processes append to one stream: sequences and positions have no gap and no double";
    a_lease_is_in_one_hand => "two processes take turns under one lease: never both at once, and tokens only grow";
    an_id_is_applied_once => "two processes send the same commit ids: each is applied once, by one of them";
    a_follower_sees_everything => "a process that follows by hints alone sees each event of two others once, in order";
}

/// The numbers behind a word.
fn numbers(said: &[Vec<String>], word: &str) -> Vec<Vec<u64>> {
    let after = said.iter().flatten().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    after.map(|rest| rest.split(' ').filter_map(|n| n.parse().ok()).collect()).collect()
}

async fn nothing_damaged(ground: &Ground) -> Verdict {
    ensure_eq!(ground.engine().check(ground.namespace()).await?, Vec::<String>::new(), "what a check finds");
    Ok(())
}

async fn appends_are_dense(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let before = head(&store).await?;
    let said = race(&ground, Role::Append).await?;
    let mut acknowledged: Vec<u64> = numbers(&said, "sequence").concat();
    acknowledged.sort_unstable();
    ensure_eq!(acknowledged, (1..=CHILDREN * APPENDS).collect::<Vec<_>>(), "acknowledged sequences");
    let query = EventQuery::new(EventFilter::stream(StreamName::new("race")?)).limit(1_000);
    let events = store.events(query).await?.items;
    let stored: Vec<(u64, u64)> = events.iter().map(|e| (e.sequence, e.position.0)).collect();
    let dense: Vec<(u64, u64)> = (1..=CHILDREN * APPENDS).map(|n| (n, before + n)).collect();
    ensure_eq!(stored, dense, "sequences and positions");
    let writers: BTreeSet<u64> = events.iter().filter_map(|e| e.data.value().ok()?["by"].as_u64()).collect();
    ensure_eq!(writers.len() as u64, CHILDREN, "processes that wrote");
    nothing_damaged(&ground).await
}

async fn a_lease_is_in_one_hand(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let said = race(&ground, Role::TakeTurns).await?;
    let mut turns = numbers(&said, "turn");
    turns.sort_unstable();
    let counted: Vec<u64> = turns.iter().filter_map(|turn| turn.first().copied()).collect();
    ensure_eq!(counted, (0..CHILDREN * TURNS).collect::<Vec<_>>(), "what each holder found");
    let tokens: Vec<u64> = turns.iter().filter_map(|turn| turn.get(1).copied()).collect();
    ensure_eq!(tokens.len(), counted.len(), "tokens");
    ensure_eq!(tokens.is_sorted_by(|a, b| a < b), true, "tokens grow from turn to turn ({tokens:?})");
    ensure_eq!(value(&store, "totals", "turns").await?, Some((CHILDREN * TURNS).into()), "turns taken");
    nothing_damaged(&ground).await
}

async fn an_id_is_applied_once(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let said = race(&ground, Role::SendShared).await?;
    let count = |word: &str| said.iter().flatten().filter(|w| *w == word).count() as u64;
    ensure_eq!((count("fresh"), count("replayed")), (SHARED, (CHILDREN - 1) * SHARED), "fresh and replayed commits");
    let shared = store.get("totals", "shared").await?.ok_or_else(|| Failure("nothing was applied".to_owned()))?;
    ensure_eq!((shared.value.value()?["n"].as_u64(), shared.revision), (Some(SHARED), SHARED), "sum and revision");
    nothing_damaged(&ground).await
}

async fn a_follower_sees_everything(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let (said, seen) = tokio::join!(race(&ground, Role::Append), follow(&store));
    ensure_eq!(numbers(&said?, "sequence").len() as u64, CHILDREN * APPENDS, "acknowledged events");
    ensure_eq!(seen?, (1..=CHILDREN * APPENDS).collect::<Vec<_>>(), "what the follower saw");
    Ok(())
}

/// Every event of the race, found by hints alone: by itself this subscription looks once an hour.
async fn follow(store: &Store) -> Result<Vec<u64>, Failure> {
    let selector = Selector::Events(EventFilter::stream(StreamName::new("race")?));
    let mut feed = store.subscribe_with(selector, StartAt::Oldest, Pace { page: 16, poll: Duration::from_secs(3_600) });
    let mut seen = Vec::new();
    while (seen.len() as u64) < CHILDREN * APPENDS {
        match soon("an event of another process", feed.next()).await? {
            Some(delivery) => {
                if let Delivery::Change(Change::Event(event), _) = delivery? {
                    seen.push(event.sequence);
                }
            }
            None => return Err(Failure("the subscription ended".to_owned())),
        }
    }
    Ok(seen)
}
