//! Events as a domain: batches appended once, reads in order, counts by the engine, feeds that resume.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millpond::{
    CollectionName, ErrorKind, EventFilter, EventGroupBy, EventQuery, Events, Json, NewEvent, Pond, Selector, StartAt,
    StreamName, StreamSelect, Timestamp,
};
use serde_json::{Value, json};

use super::tools::{race, refused, soon, two};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "events":
    a_batch_is_appended_once => "a batch sent by many at once, through two handles, is in the stream once, in its order";
    a_long_stream_is_read_in_order => "thousands of events are read oldest first, newest first, after a position and up to a limit";
    events_are_found_by_their_fields => "stream, type, agent, correlation, source, time and labels are asked together";
    success_and_failure_follow_the_rule => "a boolean in the body decides, else the end of the type; times and types are counted";
    a_feed_goes_on_where_it_was => "a feed resumed from a cursor in another process shows the rest, each event once";
    streams_are_listed_by_name => "streams are listed by name, page by page, by prefix";
    a_trim_forgets_the_oldest => "after a trim the rest is there, sequences go on, and older cursors are refused";
}

fn event(kind: &str, data: &Value) -> Result<NewEvent, Failure> {
    Ok(NewEvent::new(kind, Json::from_value(data)?))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

async fn a_batch_is_appended_once(ground: Arc<Ground>) -> Verdict {
    let counts = race(&two(&ground).await?, 12, |_, store| async move {
        let batch = (0..5).map(|n| Ok(NewEvent { id: Some(format!("e{n}")), ..event("n", &json!(n))? }));
        let batch = batch.collect::<Result<Vec<_>, Failure>>()?;
        Ok(Pond::new(store).await?.events().append("jobs/j", batch).await?.count)
    })
    .await?;
    ensure_eq!(counts.iter().sum::<u64>(), 5, "events that were appended");
    let events = ground.second_pond().await?.events();
    let read = events.query(Events::of_job("j")?).take(100).await?;
    let found = read.iter().map(|e| e.data.decode::<i64>()).collect::<millpond::Result<Vec<_>>>()?;
    ensure_eq!(found, [0, 1, 2, 3, 4], "the stream");
    refused(events.append("jobs/j", Vec::new()).await, ErrorKind::Invalid, "an empty batch")?;
    Ok(())
}

async fn a_long_stream_is_read_in_order(ground: Arc<Ground>) -> Verdict {
    let events = ground.pond().await?.events();
    for _ in 0..3 {
        let batch = (0..1_000).map(|n| event("n", &json!(n))).collect::<Result<Vec<_>, _>>()?;
        events.append("s", batch).await?;
        events.append("other", vec![event("n", &json!(0))?]).await?;
    }
    let filter = || StreamName::new("s").map(EventFilter::stream);
    let mut reader = events.query(filter()?);
    for expected in 1..=3_000 {
        let found = reader.next().await?.map(|e| e.sequence);
        ensure_eq!(found, Some(expected), "the next event");
    }
    ensure_eq!(reader.next().await?, None, "after the last event");
    let newest = events.query(filter()?).newest_first().take(2).await?;
    ensure_eq!(newest.iter().map(|e| e.sequence).collect::<Vec<_>>(), [3_000, 2_999], "newest first");
    let after = events.query(filter()?).after(Some(newest[1].position)).take(10).await?;
    ensure_eq!(after.iter().map(|e| e.sequence).collect::<Vec<_>>(), [3_000], "after a position");
    ensure_eq!(events.query(filter()?).limit(300).take(1_000).await?.len(), 300, "events up to a limit");
    Ok(())
}

async fn events_are_found_by_their_fields(ground: Arc<Ground>) -> Verdict {
    let events = ground.pond().await?.events();
    for n in 0..6i64 {
        let new = NewEvent {
            time: Some(at(n)),
            agent: Some(format!("a{}", n % 2)),
            source: Some(format!("s{}", n % 3)),
            correlation: (n > 2).then(|| "c".to_owned()),
            labels: BTreeMap::from([("n".to_owned(), n.to_string())]),
            ..event(if n < 4 { "page.read" } else { "page.written" }, &json!(n))?
        };
        events.append(&Events::job_stream(if n < 3 { "x" } else { "y" }), vec![new]).await?;
    }
    let all = EventFilter::all;
    let text = |text: &str| Some(text.to_owned());
    let labels = BTreeMap::from([("n".to_owned(), "5".to_owned())]);
    let asked: [(&str, EventFilter, &[i64]); 9] = [
        ("nothing", all(), &[0, 1, 2, 3, 4, 5]),
        ("job", Events::of_job("x")?, &[0, 1, 2]),
        ("type", all().kind("*.written").kind("none"), &[4, 5]),
        ("agent", EventFilter { agent: text("a1"), ..all() }, &[1, 3, 5]),
        ("source", EventFilter { source: text("s2"), ..all() }, &[2, 5]),
        ("correlation", EventFilter { correlation: text("c"), ..all() }, &[3, 4, 5]),
        ("time", EventFilter { from: Some(at(1)), to: Some(at(3)), ..all() }, &[1, 2]),
        ("label", EventFilter { labels, ..all() }, &[5]),
        (
            "prefix and agent",
            EventFilter { stream: Some(StreamSelect::Prefix("jobs/y".to_owned())), agent: text("a0"), ..all() },
            &[4],
        ),
    ];
    for (what, filter, expected) in asked {
        let read = events.query(filter).take(100).await?;
        let found = read.iter().map(|e| e.data.decode::<i64>()).collect::<millpond::Result<Vec<_>>>()?;
        ensure_eq!(found, expected, "events by {what}");
    }
    let page = events.page(EventQuery::new(all()).newest_first().limit(2)).await?;
    ensure_eq!(page.items.iter().map(|e| e.sequence).collect::<Vec<_>>(), [3, 2], "a page, newest first");
    ensure!(page.next.is_some(), "a page that is not the last names no next one");
    Ok(())
}

async fn success_and_failure_follow_the_rule(ground: Arc<Ground>) -> Verdict {
    let events = ground.pond().await?.events();
    let told = [
        ("agent_completed", json!({}), 5),
        ("agent_completed", json!({"success": false}), 9),
        ("agent_failed", json!(null), 2),
        ("agent_failed", json!({"success": true}), 3),
        ("job", json!({"success": true}), 4),
        ("job", json!({"success": "yes"}), 4),
    ];
    let mut batch = Vec::new();
    for (kind, data, time) in told {
        batch.push(NewEvent { time: Some(at(time)), agent: Some(kind.to_owned()), ..event(kind, &data)? });
    }
    events.append("jobs/j", batch).await?;
    events.append("jobs/k", vec![event("x_failed", &json!(1))?]).await?;
    let stats = events.aggregate(Events::of_job("j")?).await?;
    ensure_eq!((stats.total, stats.succeeded, stats.failed), (6, 3, 2), "total, successes, failures");
    ensure_eq!((stats.first, stats.last, stats.duration()), (Some(at(2)), Some(at(9)), Duration::from_secs(7)), "times");
    let kinds = ["agent_completed", "agent_failed", "job"].map(|kind| (kind.to_owned(), 2));
    ensure_eq!(stats.by_type, BTreeMap::from(kinds), "counts by type");
    let agents = events.groups(EventFilter::all(), EventGroupBy::Agent, 10).await?;
    ensure_eq!(agents.len(), 4, "groups by agent, events without one included");
    ensure_eq!(events.aggregate(Events::of_job("none")?).await?.total, 0, "events of a job that has none");
    Ok(())
}

async fn a_feed_goes_on_where_it_was(ground: Arc<Ground>) -> Verdict {
    let (here, there) = (ground.pond().await?.events(), ground.second_pond().await?.events());
    for n in 0..6 {
        here.append("s", vec![event(if n % 2 == 0 { "page.even" } else { "page.odd" }, &json!(n))?]).await?;
    }
    let mut feed = there.subscribe(Selector::types("page.even"), StartAt::Oldest)?;
    let mut seen = Vec::new();
    let mut cursor = None;
    for _ in 0..2 {
        if let Some(next) = soon("an event of the feed", feed.next()).await?.transpose()? {
            cursor = Some(next.cursor().clone());
            seen.push(next.sequence);
        }
    }
    drop(feed);
    let cursor = cursor.ok_or_else(|| Failure("a feed over events showed none".to_owned()))?;
    let mut feed = here.subscribe(Selector::types("page.even"), StartAt::After(cursor))?;
    there.append("s", vec![event("page.even", &json!(6))?]).await?;
    for _ in 0..2 {
        if let Some(next) = soon("an event of the resumed feed", feed.next()).await?.transpose()? {
            seen.push(next.sequence);
        }
    }
    ensure_eq!(seen, [1, 3, 5, 7], "the events of both feeds");
    ensure_eq!(feed.try_next().await?, None, "a feed that has shown everything");
    let records = Selector::collection(CollectionName::new("runs")?);
    ensure!(here.subscribe(records, StartAt::Now).is_err(), "a feed of events took a selector of records");
    Ok(())
}

async fn streams_are_listed_by_name(ground: Arc<Ground>) -> Verdict {
    let events = ground.pond().await?.events();
    for stream in ["jobs/b", "jobs/a", "jobs/a/x", "other"] {
        events.append(stream, vec![event("n", &json!(1))?]).await?;
    }
    let names = async |prefix, after, limit| -> Result<Vec<String>, Failure> {
        Ok(events.streams(prefix, after, limit).await?.iter().map(|s| s.stream.to_string()).collect())
    };
    ensure_eq!(names("jobs/", None, 10).await?, ["jobs/a", "jobs/a/x", "jobs/b"], "streams of jobs");
    ensure_eq!(names("", None, 2).await?, ["jobs/a", "jobs/a/x"], "the first page of all streams");
    ensure_eq!(names("", Some("jobs/a/x"), 2).await?, ["jobs/b", "other"], "the second page of all streams");
    ensure_eq!(events.stream("none").await?, None, "a stream that has no event");
    Ok(())
}

async fn a_trim_forgets_the_oldest(ground: Arc<Ground>) -> Verdict {
    let events = ground.pond().await?.events();
    events.append("s", (0..5).map(|n| event("n", &json!(n))).collect::<Result<Vec<_>, _>>()?).await?;
    let mut feed = events.subscribe(Selector::types("n"), StartAt::Oldest)?;
    let first = soon("the first event", feed.next()).await?.transpose()?;
    let cursor = first.map(|e| e.cursor().clone()).ok_or_else(|| Failure("the feed showed nothing".to_owned()))?;
    events.trim("s", 4).await?;
    let left = events.query(EventFilter::all()).take(10).await?;
    ensure_eq!(left.iter().map(|e| e.sequence).collect::<Vec<_>>(), [4, 5], "events after a trim");
    ensure_eq!(events.append("s", vec![event("n", &json!(5))?]).await?.first, 6, "the sequence after a trim");
    let mut late = ground.second_pond().await?.events().subscribe(Selector::types("n"), StartAt::After(cursor))?;
    let expired = soon("the answer to an old cursor", late.next()).await?;
    let kind = expired.and_then(Result::err).map(|e| e.kind());
    ensure_eq!(kind, Some(ErrorKind::CursorExpired), "the answer to a cursor older than the trim");
    refused(events.trim("s", 99).await, ErrorKind::Invalid, "a trim beyond the end")?;
    Ok(())
}
