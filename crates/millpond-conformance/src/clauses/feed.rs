//! Feeds and subscriptions: in order, complete, resumable anywhere.

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Change, Commit, Delivery, ErrorKind, EventFilter, FeedRequest, Pace, Position, Selector, StartAt, Store, StreamName,
    Subscription,
};
use serde_json::{Value, json};

use super::tools::{append, event, feed_positions, fill, head, joined, put, race, refused, soon, two};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "feed":
    resumes_at_every_index => "resumed after any position, in pages of any size, a feed shows exactly the rest, in order";
    pages_keep_to_their_limit => "a page holds at most what was asked for and says whether there is more";
    records_show_their_latest_state => "a feed of records shows each key once, at its latest change, deletes included";
    selectors_select => "a feed shows what its selector takes: streams, types, collections, key prefixes by bytes";
    snapshot_then_changes => "a watch shows what exists, then an end mark, then every change, deletes included";
    follows_the_other_handle => "what is committed through one handle is delivered through the other within a moment";
    late_commits_are_not_skipped => "a follower of racing writers on two handles sees each event once, in position order";
    resumes_from_any_delivery => "a subscription dropped at any delivery and made again from its cursor misses and repeats nothing";
    begins_now => "a subscription from now on shows only what is committed later";
    expires_after_a_trim => "a cursor before a trimmed event is expired, for feeds of that stream only, never skipped past";
    expires_after_a_purge => "a cursor before a purged tombstone is expired, for that collection only";
    an_idle_reader_is_handed_a_page => "a subscription nobody drains is handed one page, however much is committed";
}

/// A subscription that finds nothing by looking: only a hint or its first look can bring something in time.
fn hinted(store: &Store, selector: Selector, start: StartAt) -> Subscription {
    store.subscribe_with(selector, start, Pace { page: 16, poll: Duration::from_secs(3_600) })
}

async fn next(subscription: &mut Subscription) -> Result<Delivery, Failure> {
    match soon("a delivery", subscription.next()).await? {
        Some(delivery) => Ok(delivery?),
        None => Err(Failure("a subscription ended by itself".to_owned())),
    }
}

fn shown(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Change(Change::Record(r), _) => format!("{}={}", r.key, r.value),
        Delivery::Change(Change::Deleted(d), _) => format!("{} deleted at {}", d.key, d.revision),
        Delivery::Change(Change::Event(e), _) => format!("{}#{}", e.stream, e.sequence),
        Delivery::SnapshotEnd(_) => "end".to_owned(),
        Delivery::Damaged(d, _) => format!("damaged {}", d.what),
    }
}

async fn resumes_at_every_index(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    for n in 0..20 {
        let stream = if n % 3 == 0 { "a" } else { "b" };
        one.commit(append(stream, n)?.append(stream, event("x", n)?)?.put("notes", &format!("k{}", n % 7), &n)?).await?;
    }
    one.commit(Commit::new().delete("notes", "k3")?).await?;
    let selectors = [
        Selector::Events(EventFilter::all()),
        Selector::stream(StreamName::new("a")?),
        Selector::collection(millpond::CollectionName::new("notes")?),
    ];
    let last = head(&one).await?;
    for (selector, expected) in selectors.iter().zip([40, 14, 7]) {
        let all = feed_positions(&one, selector, None, 10_000).await?;
        ensure_eq!(all.len(), expected, "changes in the feed of {selector:?}");
        ensure!(all.is_sorted(), "the feed of {selector:?} is out of order: {all:?}");
        for after in 0..=last {
            for limit in [1, 3, 100] {
                let rest = feed_positions(&two, selector, Some(Position(after)), limit).await?;
                let expected: Vec<u64> = all.iter().copied().filter(|p| *p > after).collect();
                ensure_eq!(rest, expected, "after {after}, {limit} at a time, the feed of {selector:?}");
            }
        }
    }
    Ok(())
}

async fn pages_keep_to_their_limit(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    fill(&store, "log", 10).await?;
    store.commit(put("notes", "a", &json!(1))?).await?;
    let page = |after: Option<u64>, limit| {
        let request = FeedRequest { selector: Selector::Events(EventFilter::all()), after: after.map(Position), limit };
        let store = store.clone();
        async move { store.feed(request).await }
    };
    let first = page(None, 4).await?;
    ensure_eq!((first.changes.len(), first.next.0, first.head.0), (4, 4, 11), "a full page");
    let rest = page(Some(first.next.0), 100).await?;
    ensure_eq!((rest.changes.len(), rest.next.0, rest.head.0), (6, 11, 11), "the last page");
    let none = page(Some(11), 100).await?;
    ensure_eq!((none.changes.len(), none.next.0, none.head.0), (0, 11, 11), "a page at the head");
    for limit in [0, 10_001] {
        refused(page(None, limit).await, ErrorKind::Invalid, "a limit out of range")?;
    }
    Ok(())
}

async fn records_show_their_latest_state(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    for (key, value) in [("a", 1), ("b", 2), ("c", 3), ("a", 4)] {
        one.commit(put("notes", key, &json!(value))?.by("anna")).await?;
    }
    let gone = one.commit(Commit::new().delete("notes", "b")?.by("ben")).await?;
    one.commit(put("other", "x", &json!(9))?).await?;
    let selector = Selector::collection(millpond::CollectionName::new("notes")?);
    let page = two.feed(FeedRequest { selector, after: Some(Position(1)), limit: 100 }).await?;
    let found: Vec<_> =
        page.changes.iter().map(|c| (shown(&Delivery::Change(c.clone(), two.cursor(page.next))), c.position().0)).collect();
    let expected = [("c=3", 3), ("a=4", 4), ("b deleted at 2", 5)].map(|(t, p)| (t.to_owned(), p)).to_vec();
    ensure_eq!(found, expected, "the feed after four changes and a delete");
    let deleted = page.changes.into_iter().find_map(|c| if let Change::Deleted(d) = c { Some((d.by, d.time)) } else { None });
    ensure_eq!(deleted, Some((Some("ben".to_owned()), gone.time)), "who deleted, and when");
    Ok(())
}

async fn selectors_select(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    for (stream, kind) in [("s/1", "a.x"), ("s/2", "b.x"), ("s%", "a%"), ("t", "a.y"), ("s", "ab")] {
        store.commit(Commit::new().append(stream, event(kind, 1)?)?).await?;
    }
    for key in ["k/1", "k/2", "k%", "k_", "l", "K"] {
        store.commit(put("notes", key, &json!(1))?).await?;
    }
    let keys = |prefix: &str| {
        Ok::<_, millpond::Error>(Selector::Records {
            collection: millpond::CollectionName::new("notes")?,
            key_prefix: prefix.to_owned(),
        })
    };
    let table: Vec<(Selector, &[u64])> = vec![
        (Selector::types("a.*"), &[1, 4]),
        (Selector::types("a%"), &[3]),
        (Selector::types("*x"), &[1, 2]),
        (Selector::Events(EventFilter::streams("s/")), &[1, 2]),
        (Selector::Events(EventFilter::streams("s%")), &[3]),
        (Selector::Events(EventFilter::streams("s").kind("a*")), &[1, 3, 5]),
        (keys("k/")?, &[6, 7]),
        (keys("k%")?, &[8]),
        (keys("k_")?, &[9]),
        (keys("")?, &[6, 7, 8, 9, 10, 11]),
        (Selector::collection(millpond::CollectionName::new("empty")?), &[]),
    ];
    for (selector, expected) in table {
        ensure_eq!(feed_positions(&store, &selector, None, 2).await?, expected, "what {selector:?} shows");
    }
    Ok(())
}

async fn snapshot_then_changes(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    for n in 0..40 {
        one.commit(put("notes", &format!("k{n:02}"), &json!(n))?).await?;
    }
    one.commit(Commit::new().delete("notes", "k05")?).await?;
    let selector = Selector::collection(millpond::CollectionName::new("notes")?);
    let mut watch = hinted(&two, selector.clone(), StartAt::Oldest);
    let mut found = Vec::new();
    for _ in 0..40 {
        found.push(shown(&next(&mut watch).await?));
    }
    let mut expected: Vec<String> = (0..40).filter(|n| *n != 5).map(|n| format!("k{n:02}={n}")).collect();
    expected.push("end".to_owned());
    ensure_eq!(found, expected, "the snapshot");
    one.commit(put("notes", "k00", &json!("new"))?).await?;
    ensure_eq!(shown(&next(&mut watch).await?), "k00=\"new\"", "the first change");
    one.commit(Commit::new().delete("notes", "k01")?).await?;
    ensure_eq!(shown(&next(&mut watch).await?), "k01 deleted at 2", "a delete");
    let mut empty = hinted(&two, Selector::collection(millpond::CollectionName::new("empty")?), StartAt::Oldest);
    ensure_eq!(shown(&next(&mut empty).await?), "end", "the snapshot of nothing");
    Ok(())
}

async fn follows_the_other_handle(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let mut follow = hinted(&two, Selector::Events(EventFilter::all()), StartAt::Oldest);
    for n in 1..=20 {
        let waiting = next(&mut follow);
        let commit = async { Ok::<_, Failure>(one.commit(append("log", n)?).await?) };
        let (delivery, receipt) = tokio::join!(waiting, commit);
        receipt?;
        ensure_eq!(shown(&delivery?), format!("log#{n}"), "the delivery");
    }
    Ok(())
}

async fn late_commits_are_not_skipped(ground: Arc<Ground>) -> Verdict {
    const WRITERS: usize = 6;
    const EACH: usize = 30;
    let stores = two(&ground).await?;
    let reader = ground.second_store().await?;
    let following = tokio::spawn(async move {
        let (mut seen, mut after) = (Vec::new(), Position::ZERO);
        while seen.len() < WRITERS * EACH {
            let request = FeedRequest { selector: Selector::Events(EventFilter::all()), after: Some(after), limit: 7 };
            let page = reader.feed(request).await?;
            seen.extend(
                page.changes.iter().map(|c| (c.position().0, shown(&Delivery::Change(c.clone(), reader.cursor(page.next))))),
            );
            after = page.next;
            tokio::task::yield_now().await;
        }
        Ok::<_, Failure>(seen)
    });
    race(&stores, WRITERS, |i, store| async move {
        fill(&store, &format!("w{i}"), EACH).await?;
        Ok(())
    })
    .await?;
    let seen = soon("every event of the racing writers (some were skipped)", joined(following)).await??;
    ensure!(seen.is_sorted_by(|a, b| a.0 < b.0), "events were shown out of order or twice");
    for i in 0..WRITERS {
        let own: Vec<&str> = seen.iter().map(|(_, s)| s.as_str()).filter(|s| s.starts_with(&format!("w{i}#"))).collect();
        let expected: Vec<String> = (1..=EACH).map(|n| format!("w{i}#{n}")).collect();
        ensure_eq!(own, expected, "the events of writer {i}");
    }
    Ok(())
}

async fn resumes_from_any_delivery(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let writing = tokio::spawn(async move {
        for n in 1..=60 {
            one.commit(append("log", n)?.put("notes", "n", &n)?).await?;
        }
        Ok::<_, Failure>(())
    });
    let (mut seen, mut start) = (Vec::new(), StartAt::Oldest);
    // Lives of 1, 2, 3 … deliveries, so that a life ends at every place of a page.
    let mut life = 0;
    while seen.len() < 60 {
        life = life % 7 + 1;
        let mut follow = two.subscribe_with(
            Selector::Events(EventFilter::all()),
            start.clone(),
            Pace { page: 4, poll: Duration::from_millis(20) },
        );
        for _ in 0..life.min(60 - seen.len()) {
            let delivery = next(&mut follow).await?;
            seen.push(shown(&delivery));
            // Through its text, as a program would keep it.
            start = StartAt::After(delivery.cursor().to_string().parse()?);
        }
    }
    joined(writing).await?;
    let expected: Vec<String> = (1..=60).map(|n| format!("log#{n}")).collect();
    ensure_eq!(seen, expected, "deliveries over many lives");
    Ok(())
}

async fn begins_now(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    fill(&one, "log", 3).await?;
    let mut follow = hinted(&two, Selector::Events(EventFilter::all()), StartAt::Now);
    ensure_eq!(follow.try_next().await?, None, "what is there now");
    fill(&one, "log", 1).await?;
    ensure_eq!(shown(&next(&mut follow).await?), "log#4", "the first delivery");
    let saved = follow.cursor().map(|c| c.position().0);
    ensure_eq!(saved, Some(4), "the subscription's own cursor");
    Ok(())
}

async fn expires_after_a_trim(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    for n in 1..=5 {
        one.commit(append("log", n)?.append("other", event("x", n)?)?).await?;
    }
    one.commit(Commit::new().trim("log", 4)?).await?;
    // "log" took positions 1, 3, 5, 7, 9: the last trimmed event stood at 5.
    let log = Selector::stream(StreamName::new("log")?);
    let everything = Selector::Events(EventFilter::all());
    for selector in [&log, &everything, &Selector::Events(EventFilter::streams("lo"))] {
        for after in [0, 4] {
            let request = FeedRequest { selector: selector.clone(), after: Some(Position(after)), limit: 10 };
            let what = format!("a cursor at {after}, before a trimmed event, in {selector:?}");
            refused(two.feed(request).await, ErrorKind::CursorExpired, &what)?;
        }
        let cursor = two.cursor(Position(1));
        let mut follow = two.subscribe(selector.clone(), StartAt::After(cursor));
        let answer = soon("an expired subscription", follow.next())
            .await?
            .unwrap_or(Ok(Delivery::SnapshotEnd(two.cursor(Position::ZERO))));
        refused(answer, ErrorKind::CursorExpired, "an expired subscription")?;
    }
    ensure_eq!(feed_positions(&two, &log, Some(Position(5)), 10).await?, vec![7, 9], "resumed at the last trimmed event");
    ensure_eq!(feed_positions(&two, &log, None, 10).await?, vec![7, 9], "from the oldest");
    let other = Selector::stream(StreamName::new("other")?);
    ensure_eq!(feed_positions(&two, &other, Some(Position(1)), 10).await?, vec![2, 4, 6, 8, 10], "another stream");
    // A copy of a store that went on elsewhere: silence would skip whatever is committed until it has caught up.
    let beyond = Position(two.head().await?.0 + 1);
    let request = FeedRequest { selector: Selector::Events(EventFilter::all()), after: Some(beyond), limit: 10 };
    refused(two.feed(request).await, ErrorKind::CursorExpired, "a cursor beyond the head")?;
    Ok(())
}

async fn expires_after_a_purge(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    for key in ["a", "b", "c"] {
        one.commit(put("notes", key, &json!(1))?.put("other", key, &1)?).await?;
    }
    let gone = one.commit(Commit::new().delete("notes", "a")?).await?;
    one.commit(put("notes", "b", &json!(2))?).await?;
    ground.engine().purge(ground.namespace(), gone.time.plus(Duration::from_micros(1))).await?;
    let selector = |name: &str| Ok::<_, millpond::Error>(Selector::collection(millpond::CollectionName::new(name)?));
    for after in [0, 3, gone.position.0 - 1] {
        let request = FeedRequest { selector: selector("notes")?, after: Some(Position(after)), limit: 10 };
        refused(two.feed(request).await, ErrorKind::CursorExpired, &format!("a cursor at {after}, before a purged tombstone"))?;
    }
    let rest = feed_positions(&two, &selector("notes")?, Some(gone.position), 10).await?;
    ensure_eq!(rest, vec![gone.position.0 + 1], "resumed at the purged tombstone");
    ensure_eq!(feed_positions(&two, &selector("notes")?, None, 10).await?, vec![5, 8], "from the oldest");
    ensure_eq!(feed_positions(&two, &selector("other")?, Some(Position(0)), 10).await?, vec![2, 4, 6], "another collection");
    Ok(())
}

async fn an_idle_reader_is_handed_a_page(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let mut events = Vec::new();
    for n in 0..500 {
        events.push(event("x", n)?);
    }
    one.commit(Commit::new().append_all("log", events)?).await?;
    let mut follow = two.subscribe_with(
        Selector::Events(EventFilter::all()),
        StartAt::Oldest,
        Pace { page: 8, poll: Duration::from_secs(3_600) },
    );
    let first = next(&mut follow).await?;
    ensure_eq!(shown(&first), "log#1", "the first delivery");
    // Trimmed now, so that whatever was not handed over yet can only come from a later page, and that is refused.
    one.commit(Commit::new().trim("log", 400)?).await?;
    let mut held = 0;
    let expired = loop {
        match soon("the rest of the page", follow.next()).await? {
            Some(Ok(_)) if held < 100 => held += 1,
            other => break other,
        }
    };
    ensure_eq!(held, 7, "deliveries of a page of eight that were handed over before they were taken");
    let expired: Result<Value, _> = expired.unwrap_or(Ok(first)).map(|d| json!(shown(&d)));
    refused(expired, ErrorKind::CursorExpired, "the page after a trim")?;
    Ok(())
}
