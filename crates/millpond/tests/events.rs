//! Events: appended once by id, read as a stream, counted by the engine, followed from any cursor.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use millpond::{
    Direction, ErrorKind, EventFilter, EventGroupBy, Events, Json, NewEvent, Pond, Selector, StartAt, StreamSelect, Timestamp,
    Verdict, verdict,
};
use serde_json::json;

async fn pond() -> Pond {
    millpond::open("memory:").await.expect("opens")
}

fn event(kind: &str, id: Option<&str>, data: serde_json::Value) -> NewEvent {
    NewEvent { id: id.map(str::to_owned), ..NewEvent::new(kind, Json::of(&data).expect("json")) }
}

#[tokio::test]
async fn a_batch_is_appended_once() {
    let events = pond().await.events();
    let batch = || vec![event("a", Some("1"), json!(1)), event("b", Some("2"), json!(2))];
    let first = events.append("jobs/j", batch()).await.expect("appends");
    assert_eq!((first.first, first.count), (1, 2));
    let mut more = batch();
    more.push(event("c", Some("3"), json!(3)));
    let second = events.append("jobs/j", more).await.expect("appends");
    assert_eq!((second.first, second.count, second.existing), (3, 1, vec![(0, 1), (1, 2)]));
    assert_eq!(events.stream("jobs/j").await.expect("reads").expect("is there").head, 3);
    assert_eq!(events.append("jobs/j", Vec::new()).await.expect_err("empty").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn ten_thousand_are_read_as_a_stream() {
    let pond = pond().await;
    for batch in 0..10 {
        let batch = (0..1_000).map(|n| event("n", None, json!(batch * 1_000 + n))).collect();
        pond.events().append("s", batch).await.expect("appends");
    }
    let read = || pond.events().query(EventFilter::stream(millpond::StreamName::new("s").expect("name")));
    let mut reader = read();
    for n in 1..=10_000 {
        assert_eq!(reader.next().await.expect("reads").expect("is there").sequence, n);
    }
    assert_eq!(reader.next().await.expect("reads"), None);
    assert!(reader.take_damaged().is_empty());

    let last = read().newest_first().take(3).await.expect("reads");
    assert_eq!(last.iter().map(|e| e.sequence).collect::<Vec<_>>(), [10_000, 9_999, 9_998]);
    let after = read().after(Some(last[2].position)).take(9).await.expect("reads");
    assert_eq!(after.iter().map(|e| e.sequence).collect::<Vec<_>>(), [9_999, 10_000]);
    assert_eq!(read().limit(33).take(1_000).await.expect("reads").len(), 33);
    assert_eq!(read().limit(0).take(1).await.expect("reads").len(), 0);

    let mut stream = read().limit(5_000).into_stream();
    let mut count = 0;
    while let Some(event) = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
        count += 1;
        assert_eq!(event.expect("reads").sequence, count);
    }
    assert_eq!(count, 5_000);
}

#[tokio::test]
async fn filters_are_the_engines() {
    let events = pond().await.events();
    let at = |n: i64| Timestamp::from_micros(n * 1_000_000);
    for n in 0..6i64 {
        let new = NewEvent {
            time: Some(at(n)),
            agent: Some(format!("a{}", n % 2)),
            correlation: (n > 2).then(|| "c".to_owned()),
            labels: BTreeMap::from([("n".to_owned(), n.to_string())]),
            ..event(if n < 4 { "page.read" } else { "page.written" }, None, json!(n))
        };
        events.append(&Events::job_stream(if n < 3 { "x" } else { "y" }), vec![new]).await.expect("appends");
    }
    let found = async |filter: EventFilter| -> Vec<i64> {
        let read = events.query(filter).take(100).await.expect("reads");
        read.iter().map(|e| e.data.decode().expect("a number")).collect()
    };
    assert_eq!(found(EventFilter::all()).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(found(Events::of_job("x").expect("name")).await, [0, 1, 2]);
    assert_eq!(found(EventFilter::streams("jobs/")).await.len(), 6);
    assert_eq!(found(EventFilter::all().kind("*.written").kind("none")).await, [4, 5]);
    assert_eq!(found(EventFilter { agent: Some("a1".into()), ..EventFilter::all() }).await, [1, 3, 5]);
    assert_eq!(found(EventFilter { correlation: Some("c".into()), ..EventFilter::all() }).await, [3, 4, 5]);
    assert_eq!(found(EventFilter { from: Some(at(1)), to: Some(at(3)), ..EventFilter::all() }).await, [1, 2]);
    let labels = BTreeMap::from([("n".to_owned(), "5".to_owned())]);
    assert_eq!(found(EventFilter { labels, ..EventFilter::all() }).await, [5]);
    let both = EventFilter { stream: Some(StreamSelect::Prefix("jobs/y".into())), ..EventFilter::all() };
    assert_eq!(found(EventFilter { agent: Some("a0".into()), ..both }).await, [4]);
    let page =
        millpond::EventQuery { direction: Direction::Descending, ..millpond::EventQuery::new(EventFilter::all()).limit(2) };
    assert_eq!(events.page(page).await.expect("reads").items.iter().map(|e| e.sequence).collect::<Vec<_>>(), [3, 2]);

    let names: Vec<String> =
        events.streams("jobs/", None, 10).await.expect("lists").iter().map(|s| s.stream.to_string()).collect();
    assert_eq!(names, ["jobs/x", "jobs/y"]);
    assert_eq!(events.streams("jobs/", Some("jobs/x"), 10).await.expect("lists").len(), 1);
    let agents = events.groups(EventFilter::all(), EventGroupBy::Agent, 10).await.expect("counts");
    assert_eq!(agents.iter().map(|g| (g.value.as_deref(), g.count)).collect::<Vec<_>>(), [(Some("a0"), 3), (Some("a1"), 3)]);
}

#[tokio::test]
async fn aggregates_follow_the_rule() {
    let events = pond().await.events();
    let at = |n: i64| Some(Timestamp::from_micros(n * 1_000_000));
    let batch = [
        ("agent_completed", json!({}), at(5)),
        ("agent_completed", json!({"success": false}), at(9)),
        ("agent_failed", json!(null), at(2)),
        ("agent_failed", json!({"success": true}), at(3)),
        ("job", json!({"success": true}), at(4)),
        ("job", json!({"success": "yes"}), at(4)),
    ];
    let batch = batch.into_iter().map(|(kind, data, time)| NewEvent { time, ..event(kind, None, data) }).collect();
    events.append("jobs/j", batch).await.expect("appends");
    events.append("jobs/k", vec![event("x", None, json!(1))]).await.expect("appends");
    let stats = events.aggregate(Events::of_job("j").expect("name")).await.expect("counts");
    assert_eq!((stats.total, stats.succeeded, stats.failed), (6, 3, 2));
    assert_eq!((stats.first, stats.last, stats.duration()), (at(2), at(9), Duration::from_secs(7)));
    assert_eq!(stats.by_type, BTreeMap::from([("agent_completed".into(), 2), ("agent_failed".into(), 2), ("job".into(), 2)]));
    let none = events.aggregate(Events::of_job("none").expect("name")).await.expect("counts");
    assert_eq!((none.total, none.first, none.duration()), (0, None, Duration::ZERO));
    assert_eq!((verdict(None, "job_failed"), verdict(Some(true), "job_failed")), (Verdict::Failure, Verdict::Success));
}

#[tokio::test]
async fn a_feed_goes_on_after_a_cursor() {
    let pond = pond().await;
    let events = pond.events();
    for n in 0..5 {
        let kind = if n % 2 == 0 { "page.even" } else { "page.odd" };
        events.append("s", vec![event(kind, None, json!(n))]).await.expect("appends");
    }
    let mut feed = events.subscribe(Selector::types("page.*"), StartAt::Oldest).expect("subscribes");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let next = feed.next().await.expect("goes on").expect("reads");
        seen.push(next.sequence);
    }
    let cursor = feed.cursor().expect("has read");
    drop(feed);
    let mut feed = events.subscribe(Selector::types("page.*"), StartAt::After(cursor)).expect("subscribes");
    while let Some(next) = feed.try_next().await.expect("reads") {
        assert_eq!(next.cursor(), &pond.store().cursor(next.position));
        seen.push(next.into_event().sequence);
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);

    let mut feed = events.subscribe(Selector::types("page.odd"), StartAt::Now).expect("subscribes");
    assert!(feed.try_next().await.expect("reads").is_none());
    let (late, _) = tokio::join!(feed.next(), events.append("s", vec![event("page.odd", None, json!(9))]));
    assert_eq!(late.expect("goes on").expect("reads").sequence, 6);
    let records = Selector::collection(millpond::CollectionName::new("runs").expect("name"));
    assert_eq!(events.subscribe(records, StartAt::Now).expect_err("not events").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn trimmed_events_are_gone_and_said_so() {
    let events = pond().await.events();
    events.append("s", (0..5).map(|n| event("n", None, json!(n))).collect()).await.expect("appends");
    let mut feed = events.subscribe(Selector::types("n"), StartAt::Oldest).expect("subscribes");
    let cursor = feed.next().await.expect("goes on").expect("reads").cursor().clone();
    events.trim("s", 4).await.expect("trims");
    let info = events.stream("s").await.expect("reads").expect("is there");
    assert_eq!((info.oldest, info.head), (4, 5));
    let left = events.query(EventFilter::all()).take(9).await.expect("reads");
    assert_eq!(left.iter().map(|e| e.sequence).collect::<Vec<_>>(), [4, 5]);
    let mut late = events.subscribe(Selector::types("n"), StartAt::After(cursor)).expect("subscribes");
    let expired = late.next().await.expect("answers").expect_err("expired");
    assert_eq!(expired.kind(), ErrorKind::CursorExpired, "{expired}");
    assert_eq!(events.trim("s", 99).await.expect_err("beyond").kind(), ErrorKind::Invalid);
    assert_eq!(events.append("s", vec![event("n", None, json!(5))]).await.expect("appends").first, 6);
}

#[test]
fn synchronous_callers_have_the_same() {
    let events = millpond::blocking::open("memory:").expect("opens").events();
    events.append("s", (0..100).map(|n| event("n", None, json!(n))).collect()).expect("appends");
    let read: Result<Vec<_>, _> = events.query(EventFilter::all()).limit(70).collect();
    assert_eq!(read.expect("reads").len(), 70);
    let mut feed = events.subscribe(Selector::types("n"), StartAt::Oldest).expect("subscribes");
    assert_eq!(feed.next_within(Duration::from_secs(60)).expect("reads").expect("is there").sequence, 1);
    let mut quiet = events.subscribe(Selector::types("none"), StartAt::Oldest).expect("subscribes");
    assert_eq!(quiet.next_within(Duration::from_millis(1)).expect("reads"), None);
    assert_eq!(events.aggregate(EventFilter::all()).expect("counts").total, 100);
}
