//! Streams: dense sequences, event ids, seals, trims, and queries over events.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond::{
    Commit, Direction, ErrorKind, Event, EventFilter, EventGroupBy, EventQuery, Expected, Found, NewEvent, Store, StreamName,
    Timestamp,
};
use serde_json::json;

use super::tools::{append, conflict, event, fill, numbers, put, race, refused, two};
use crate::{Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "streams":
    sequences_are_dense => "a stream counts 1, 2, 3 … over commits of any size, and a refused commit uses none";
    racing_appends => "racing appends give each event a sequence of its own, without gap, in position order";
    event_ids_once => "an event id is appended to its stream once, and the receipt tells where it is";
    events_survive => "every part of an event comes back as it was appended";
    sealed_streams => "a sealed stream takes no event, for ever, and is not trimmed by a raw commit";
    trimmed_streams => "a trim removes events before a sequence; the head never falls";
    event_filters => "each condition on events takes what it says, letters like % and _ and * in names included";
    event_pages => "events are paged in position order, oldest or newest first, without skip or repetition";
    event_groups => "events are counted by type, stream and agent";
    streams_are_listed => "streams are listed by name, from a prefix, page by page";
}

async fn events_of(store: &Store, stream: &str) -> millpond::Result<Vec<Event>> {
    Ok(store.events(EventQuery::new(EventFilter::stream(StreamName::new(stream)?))).await?.items)
}

async fn sequences_are_dense(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let mut expected = 0;
    for (n, size) in [1_u64, 3, 1, 100, 2].into_iter().enumerate() {
        let store = if n % 2 == 0 { &one } else { &two };
        let events = (0..size).map(|i| event("x", i as usize)).collect::<millpond::Result<Vec<_>>>()?;
        let refused = Commit::new().append_all("log", events.clone())?.expect_revision("notes", "missing", 1)?;
        conflict(store.try_commit(refused).await?, "an append beside a failing expectation")?;
        let receipt = store.commit(Commit::new().append_all("log", events)?).await?;
        ensure_eq!((receipt.sequences[0].first, receipt.sequences[0].count), (expected + 1, size), "the appended run");
        expected += size;
    }
    let found: Vec<u64> = events_of(&two, "log").await?.iter().map(|e| e.sequence).collect();
    ensure_eq!(found, (1..=expected).collect::<Vec<_>>(), "the stored sequences");
    let info = one.stream("log").await?.map(|s| (s.head, s.oldest, s.sealed));
    ensure_eq!(info, Some((expected, 1, false)), "the stream's head");
    let twice = Commit::new().append("log", event("x", 1)?)?.append("other", event("x", 2)?)?.append("log", event("x", 3)?)?;
    let firsts: Vec<u64> = one.commit(twice).await?.sequences.iter().map(|a| a.first).collect();
    ensure_eq!(firsts, vec![expected + 1, 1, expected + 2], "two appends to one stream in one commit");
    Ok(())
}

async fn racing_appends(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let told = race(&stores, 8, |i, store| async move {
        let mut told = Vec::new();
        for n in 0..15 {
            let mark = i * 100 + n;
            let lost = append("log", mark)?.expect_revision("notes", "missing", 1)?;
            let kept = append("log", mark)?;
            // Also at once, so that one batch may hold the one that is refused and the one that is not.
            let (lost, kept) = if n % 2 == 0 {
                (store.try_commit(lost).await, store.commit(kept).await)
            } else {
                tokio::join!(store.try_commit(lost), store.commit(kept))
            };
            conflict(lost?, "an append beside a failing expectation")?;
            told.push((kept?.sequences[0].first, mark as u64));
        }
        Ok(told)
    })
    .await?;
    let told: BTreeMap<u64, u64> = told.into_iter().flatten().collect();
    let events = events_of(&stores[1], "log").await?;
    let sequences: Vec<u64> = events.iter().map(|e| e.sequence).collect();
    ensure_eq!(sequences, (1..=120).collect::<Vec<_>>(), "sequences in position order");
    for event in &events {
        let mark = event.data.value()?["n"].as_u64();
        ensure_eq!(mark, told.get(&event.sequence).copied(), "the event at sequence {}", event.sequence);
    }
    Ok(())
}

async fn event_ids_once(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let named = |id: &str, n: usize| Ok::<_, millpond::Error>(NewEvent { id: Some(id.to_owned()), ..event("x", n)? });
    let first = Commit::new().append_all("log", vec![named("a", 1)?, named("b", 2)?, named("a", 3)?])?;
    let receipt = one.commit(first).await?;
    ensure_eq!((receipt.sequences[0].first, receipt.sequences[0].count), (1, 2), "two new events of three");
    ensure_eq!(receipt.sequences[0].existing, vec![(2, 1)], "the event that was there already");
    let second = Commit::new().append_all("log", vec![named("b", 4)?, named("c", 5)?, event("x", 6)?, named("a", 7)?])?;
    let again = two.commit(second).await?;
    ensure_eq!((again.sequences[0].first, again.sequences[0].count), (3, 2), "two new events of four");
    ensure_eq!(again.sequences[0].existing, vec![(0, 2), (3, 1)], "the events that were there already");
    let told: Vec<u64> = (0..4).map(|i| again.sequences[0].sequence(i)).collect();
    ensure_eq!(told, vec![2, 3, 4, 1], "the sequence of each event sent");
    two.commit(Commit::new().append("other", named("a", 8)?)?).await?;
    ensure_eq!(events_of(&one, "other").await?.len(), 1, "the same id in another stream");
    let stored: Vec<_> = events_of(&one, "log").await?.into_iter().map(|e| (e.id, e.data.to_string())).collect();
    let expected = [(Some("a"), 1), (Some("b"), 2), (Some("c"), 5), (None, 6)];
    let expected: Vec<_> = expected.map(|(id, n)| (id.map(str::to_owned), format!("{{\"n\":{n}}}"))).to_vec();
    ensure_eq!(stored, expected, "what is stored");
    Ok(())
}

async fn events_survive(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let full = NewEvent {
        id: Some("evt-1 é%".to_owned()),
        kind: "step.completed".to_owned(),
        time: Some(Timestamp::from_micros(1_700_000_000_123_456)),
        correlation: Some("corr".to_owned()),
        agent: Some("agent-7".to_owned()),
        source: Some("prog".to_owned()),
        labels: [("k", "v"), ("a=b", "c=d"), ("é", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        data: millpond::Json::parse(r#"{"deep":[1,{"x":9223372036854775807}],"s":"'\"%"}"#)?,
    };
    let receipt = one.commit(Commit::new().append_all("log", vec![full.clone(), NewEvent::of("bare", &())?])?).await?;
    let events = events_of(&two, "log").await?;
    ensure_eq!(events.len(), 2, "stored events");
    let expected = Event {
        stream: StreamName::new("log")?,
        sequence: 1,
        position: millpond::Position(receipt.position.0 - 1),
        id: full.id,
        kind: full.kind,
        time: full.time.unwrap_or_default(),
        correlation: full.correlation,
        agent: full.agent,
        source: full.source,
        labels: full.labels,
        data: full.data,
    };
    ensure_eq!(events[0], expected, "an event with everything");
    ensure_eq!(events[1].time, receipt.time, "the time of an event that named none");
    ensure_eq!((&events[1].id, &events[1].agent, events[1].labels.len()), (&None, &None, 0), "a bare event");
    Ok(())
}

async fn sealed_streams(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let named = NewEvent { id: Some("a".to_owned()), ..event("x", 1)? };
    one.commit(Commit::new().append("log", named.clone())?.append("log", event("x", 2)?)?.seal("log")?).await?;
    for store in [&one, &two] {
        let found = conflict(store.try_commit(append("log", 3)?).await?, "an append to a sealed stream")?;
        ensure_eq!(found.expected, Expected::Open(StreamName::new("log")?), "what was expected");
        ensure_eq!(found.found, Found::Stream { head: 2, sealed: true }, "what was found");
    }
    let repeated = two.commit(Commit::new().append("log", named)?).await?;
    ensure_eq!(repeated.sequences[0].existing, vec![(0, 1)], "an event that is there already");
    refused(two.commit(Commit::new().trim("log", 2)?).await, ErrorKind::Invalid, "trimming a sealed stream")?;
    ensure_eq!(events_of(&two, "log").await?.len(), 2, "the events of a sealed stream");
    ensure_eq!(two.stream("log").await?.map(|s| s.sealed), Some(true), "the seal");
    one.commit(Commit::new().trim("log", 3)?.trusted()).await?;
    ensure_eq!(two.stream("log").await?.map(|s| (s.head, s.oldest, s.sealed)), Some((2, 3, true)), "after its owner trimmed");
    Ok(())
}

async fn trimmed_streams(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    fill(&one, "log", 5).await?;
    fill(&one, "other", 2).await?;
    one.commit(Commit::new().trim("log", 4)?).await?;
    let info = two.stream("log").await?.map(|s| (s.head, s.oldest));
    ensure_eq!(info, Some((5, 4)), "head and oldest after a trim");
    let kept: Vec<u64> = events_of(&two, "log").await?.iter().map(|e| e.sequence).collect();
    ensure_eq!(kept, vec![4, 5], "the events that are kept");
    one.commit(Commit::new().trim("log", 2)?).await?;
    ensure_eq!(two.stream("log").await?.map(|s| s.oldest), Some(4), "the oldest after trimming backwards");
    refused(one.commit(Commit::new().trim("log", 7)?).await, ErrorKind::Invalid, "trimming beyond the next sequence")?;
    one.commit(Commit::new().trim("log", 6)?).await?;
    ensure_eq!(events_of(&two, "log").await?.len(), 0, "events after trimming all");
    ensure_eq!(two.stream("log").await?.map(|s| (s.head, s.oldest)), Some((5, 6)), "head and oldest after trimming all");
    ensure_eq!(two.commit(append("log", 6)?).await?.sequences[0].first, 6, "the sequence after trimming all");
    let both = append("log", 7)?.append("log", event("x", 8)?)?.trim("log", 8)?;
    two.commit(both).await?;
    let kept: Vec<u64> = events_of(&one, "log").await?.iter().map(|e| e.sequence).collect();
    ensure_eq!(kept, vec![8], "after a commit that appends and trims");
    ensure_eq!(events_of(&one, "other").await?.len(), 2, "another stream");
    Ok(())
}

/// Eight events that differ in everything a filter can ask.
async fn varied(store: &Store) -> millpond::Result<()> {
    let rows = [
        ("runs/a", "page.fetched", Some("w1"), Some("c1"), Some("crawler"), &[("env", "prod")][..], 10),
        ("runs/a", "page.failed", Some("w2"), Some("c1"), None, &[("env", "prod"), ("site", "x")], 20),
        ("runs/b", "pageXfetched", Some("w1"), None, Some("crawler"), &[("env", "dev")], 30),
        ("runs_b", "step.done", None, Some("c2"), Some("indexer"), &[], 40),
        ("run%", "step.done%", None, None, None, &[("env", "PROD")], 50),
        ("runs/A", "Page.fetched", Some("W1"), Some("C1"), None, &[], 60),
        ("runs", "p*", Some("w_1"), None, None, &[("100%", "a_b")], 70),
        ("runs/a", "done", None, None, None, &[], 80),
    ];
    for (n, (stream, kind, agent, correlation, source, labels, time)) in rows.into_iter().enumerate() {
        let event = NewEvent {
            time: Some(Timestamp::from_micros(time)),
            agent: agent.map(str::to_owned),
            correlation: correlation.map(str::to_owned),
            source: source.map(str::to_owned),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..NewEvent::of(kind, &json!({"n": n, "success": n % 2 == 0}))?
        };
        store.commit(Commit::new().append(stream, event)?).await?;
    }
    Ok(())
}

async fn event_filters(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    varied(&store).await?;
    store.commit(put("notes", "n", &json!(1))?).await?;
    let all = EventFilter::all;
    let text = |t: &str| Some(t.to_owned());
    let label = |k: &str, v: &str| BTreeMap::from([(k.to_owned(), v.to_owned())]);
    let at = |t: i64| Some(Timestamp::from_micros(t));
    let table: Vec<(EventFilter, &[u64])> = vec![
        (all(), &[0, 1, 2, 3, 4, 5, 6, 7]),
        (EventFilter::stream(StreamName::new("runs/a")?), &[0, 1, 7]),
        (EventFilter::stream(StreamName::new("missing")?), &[]),
        (EventFilter::streams("runs/"), &[0, 1, 2, 5, 7]),
        (EventFilter::streams("run%"), &[4]),
        (EventFilter::streams("runs_"), &[3]),
        (EventFilter::streams("run"), &[0, 1, 2, 3, 4, 5, 6, 7]),
        (EventFilter::streams("runs/a"), &[0, 1, 7]),
        (EventFilter::streams(""), &[0, 1, 2, 3, 4, 5, 6, 7]),
        (all().kind("page.*"), &[0, 1]),
        (all().kind("page.fetched"), &[0]),
        (all().kind("*.done"), &[3]),
        (all().kind("*done*"), &[3, 4, 7]),
        (all().kind("step.done%"), &[4]),
        (all().kind("p*"), &[0, 1, 2, 6]),
        (all().kind("p*e*f*"), &[0, 1, 2]),
        (all().kind("page.failed").kind("done"), &[1, 7]),
        (all().kind("page?fetched"), &[]),
        (all().kind("page.fetche[d]"), &[]),
        (EventFilter { agent: text("w1"), ..all() }, &[0, 2]),
        (EventFilter { agent: text("w_1"), ..all() }, &[6]),
        (EventFilter { correlation: text("c1"), ..all() }, &[0, 1]),
        (EventFilter { source: text("crawler"), ..all() }, &[0, 2]),
        (EventFilter { labels: label("env", "prod"), ..all() }, &[0, 1]),
        (EventFilter { labels: label("100%", "a_b"), ..all() }, &[6]),
        (EventFilter { labels: label("100%", "axb"), ..all() }, &[]),
        (EventFilter { labels: label("env", "prod").into_iter().chain(label("site", "x")).collect(), ..all() }, &[1]),
        (EventFilter { from: at(30), to: at(60), ..all() }, &[2, 3, 4]),
        (EventFilter { from: at(80), ..all() }, &[7]),
        (EventFilter { to: at(10), ..all() }, &[]),
        (EventFilter { agent: text("w1"), from: at(20), ..EventFilter::streams("runs").kind("page*") }, &[2]),
    ];
    for (filter, expected) in table {
        let found = numbers(&store, &EventQuery::new(filter.clone())).await?;
        ensure_eq!(found, expected, "events that {filter:?} takes");
        let groups = store.event_groups(filter.clone(), EventGroupBy::Stream, 100).await?;
        let counted: u64 = groups.iter().map(|g| g.count).sum();
        ensure_eq!(counted, expected.len() as u64, "events counted by {filter:?}");
    }
    refused(store.events(EventQuery::new(all().kind(""))).await, ErrorKind::Invalid, "an empty type pattern")?;
    Ok(())
}

async fn event_pages(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    for n in 0..23 {
        store.commit(append(if n % 3 == 0 { "a" } else { "b" }, n)?.put("notes", "n", &n)?).await?;
    }
    let all: Vec<u64> = (0..23).collect();
    for limit in [1, 2, 7, 22, 23, 24] {
        let query = EventQuery::new(EventFilter::all()).limit(limit);
        ensure_eq!(numbers(&store, &query).await?, all, "oldest first, {limit} at a time");
        let newest = numbers(&store, &query.clone().newest_first()).await?;
        ensure!(newest.iter().rev().eq(all.iter()), "newest first, {limit} at a time: found {newest:?}");
        let first = store.events(query.newest_first()).await?;
        ensure_eq!(first.items.len(), limit.min(23), "the first page of {limit}");
        ensure_eq!(first.next.is_some(), limit < 23, "whether a page of {limit} goes on");
    }
    let only = EventQuery { direction: Direction::Descending, ..EventQuery::new(EventFilter::streams("a")) }.limit(2);
    ensure_eq!(numbers(&store, &only).await?, vec![21, 18, 15, 12, 9, 6, 3, 0], "one stream, newest first");
    for limit in [0, 10_001] {
        let query = EventQuery::new(EventFilter::all()).limit(limit);
        refused(store.events(query).await, ErrorKind::Invalid, "a limit out of range")?;
    }
    Ok(())
}

async fn event_groups(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    varied(&store).await?;
    store.commit(Commit::new().append("runs/a", NewEvent::of("done", &json!({"success": "yes"}))?)?).await?;
    let by_agent = store.event_groups(EventFilter::all(), EventGroupBy::Agent, 100).await?;
    let found: Vec<_> = by_agent.iter().map(|g| (g.value.as_deref(), g.count, g.succeeded, g.failed)).collect();
    let expected =
        vec![(None, 4, 1, 2), (Some("W1"), 1, 0, 1), (Some("w1"), 2, 2, 0), (Some("w2"), 1, 0, 1), (Some("w_1"), 1, 1, 0)];
    ensure_eq!(found, expected, "counts by agent");
    let streams = store.event_groups(EventFilter::streams("runs"), EventGroupBy::Stream, 10).await?;
    let found: Vec<_> = streams.iter().take(2).map(|g| (g.value.as_deref(), g.count)).collect();
    ensure_eq!(found, vec![(Some("runs"), 1), (Some("runs/A"), 1)], "the first two groups by stream");
    let done = store.event_groups(EventFilter::all().kind("page*"), EventGroupBy::Kind, 10).await?;
    let found: Vec<_> = done.iter().map(|g| (g.value.as_deref(), g.first.as_micros(), g.last.as_micros())).collect();
    ensure_eq!(
        found,
        vec![(Some("page.failed"), 20, 20), (Some("page.fetched"), 10, 10), (Some("pageXfetched"), 30, 30)],
        "first and last by type"
    );
    Ok(())
}

async fn streams_are_listed(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let names = ["a", "a%", "a/1", "a/2", "a_", "aé", "b", "B"];
    for name in names {
        fill(&one, name, 2).await?;
    }
    let mut sorted: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    sorted.sort();
    for limit in [1, 3, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = two.streams("", after.take(), limit).await?;
            ensure!(page.len() <= limit, "a page of {limit} holds {} streams", page.len());
            let Some(last) = page.last() else { break };
            after = Some(last.stream.clone());
            found.extend(page.into_iter().map(|s| (s.stream.to_string(), s.head)));
            ensure!(found.len() <= names.len(), "listing streams does not end: {found:?}");
        }
        let expected: Vec<_> = sorted.iter().map(|n| (n.clone(), 2)).collect();
        ensure_eq!(found, expected, "all streams, {limit} at a time");
    }
    for (prefix, expected) in [("a/", &["a/1", "a/2"][..]), ("a%", &["a%"]), ("a_", &["a_"]), ("x", &[])] {
        let found: Vec<String> = two.streams(prefix, None, 10).await?.into_iter().map(|s| s.stream.to_string()).collect();
        ensure_eq!(found, expected, "streams that begin with {prefix:?}");
    }
    Ok(())
}
