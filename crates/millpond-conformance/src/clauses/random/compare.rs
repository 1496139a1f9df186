//! Answers without what two engines cannot share: moments, and what leases hold of them.

use millpond::{Answer, Change, Event, Found, LEASES, Outcome, Page, Record, Result, Store};

use super::history::Question;
use crate::Failure;

/// An outcome as text.
pub(super) fn outcome(found: &Result<Outcome>) -> String {
    match found {
        Ok(Outcome::Committed(r)) => {
            format!("committed at {}, {:?}, {:?}, replayed: {}", r.position, r.revisions, r.sequences, r.replayed)
        }
        Ok(Outcome::Conflict(c)) => {
            let found = match &c.found {
                Found::Record { revision, by, .. } => format!("revision {revision} by {by:?}"),
                Found::Lease { holder, token, .. } => format!("held by {holder} with {token}"),
                other => format!("{other:?}"),
            };
            format!("conflict at {:?}: {:?}, {found}", c.index, c.expected)
        }
        Err(error) => format!("error {}", error.kind().as_str()),
    }
}

fn record(r: &Record) -> String {
    // A lease's document holds moments of the clock.
    let value = if r.collection.as_str() == LEASES.name() { "" } else { r.value.as_str() };
    format!("{}/{} {} at {} by {:?}: {value}", r.collection, r.key, r.revision, r.position, r.by)
}

fn change(c: &Change) -> String {
    match c {
        Change::Record(r) => record(r),
        Change::Deleted(d) => format!("{}/{} deleted {} at {} by {:?}", d.collection, d.key, d.revision, d.position, d.by),
        Change::Event(e) => event(e),
    }
}

fn event(e: &Event) -> String {
    let words = format!("{:?} {:?} {:?} {:?} {:?}", e.id, e.correlation, e.agent, e.source, e.labels);
    format!("{}#{} at {} {} {words} {}", e.stream, e.sequence, e.position, e.kind, e.data)
}

fn answer(answer: Answer) -> Vec<String> {
    match answer {
        Answer::Record(r) => r.iter().map(record).collect(),
        Answer::Page(Page { items, next, damaged }) => {
            let end = format!("{} {damaged:?}", next.map_or_else(String::new, |c| c.to_string()));
            items.iter().map(record).chain([end]).collect()
        }
        Answer::Stream(s) => {
            s.iter().map(|s| format!("{} {} {} {} {}", s.stream, s.head, s.oldest, s.sealed, s.position)).collect()
        }
        Answer::Streams(all) => all.iter().map(|s| format!("{} {} {} {}", s.stream, s.head, s.oldest, s.sealed)).collect(),
        Answer::Events(page) => {
            page.items.into_iter().map(|e| change(&Change::Event(e))).chain([format!("{:?}", page.next)]).collect()
        }
        Answer::EventGroups(all) => {
            all.iter().map(|g| format!("{:?} {} {} {}", g.value, g.count, g.succeeded, g.failed)).collect()
        }
        // The collection of leases is declared by whoever opens domains, which is not of interest here.
        Answer::Collections(all) => all.iter().map(|c| format!("{} {} {}", c.name, c.declared, c.records)).collect(),
        other => vec![format!("{other:?}")],
    }
}

/// What a store answers to a question, as lines that two engines must share.
pub(super) async fn answers(store: &Store, question: &Question) -> std::result::Result<Vec<String>, Failure> {
    Ok(match question {
        Question::Read(read) => match store.read(vec![read.clone()]).await {
            Ok(found) => found.into_iter().flat_map(answer).collect(),
            Err(error) => vec![format!("error {}", error.kind().as_str())],
        },
        Question::Feed(request) => match store.feed(request.clone()).await {
            Ok(page) => page.changes.iter().map(change).chain([format!("next {} of {}", page.next, page.head)]).collect(),
            Err(error) => vec![format!("error {}", error.kind().as_str())],
        },
    })
}
