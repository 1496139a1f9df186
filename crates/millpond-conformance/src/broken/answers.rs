//! Engines that answer wrongly whatever is asked, where `queries.rs` has those that take one kind of question wrongly.

use std::cmp::Ordering;

use millpond_core::{Answer, Event, EventFilter, FieldValue, Filter, Json, Position, Record, RecordId, Scalar, Timestamp};

use super::BrokenEngine;
use crate::reference::{Honest, Steps};

pub(super) fn all() -> Vec<BrokenEngine> {
    vec![
        BrokenEngine::new("empty-pages", "a query of records finds nothing", EmptyPages),
        BrokenEngine::new("empty-events", "a query of events finds nothing", EmptyEvents),
        BrokenEngine::new("empty-groups", "records are counted in no group", EmptyGroups),
        BrokenEngine::new("first-page-only", "a page of records never says that there is another", FirstPageOnly),
        BrokenEngine::new("ghost-records", "a get of a record that is not there answers an empty document", GhostRecords),
        BrokenEngine::new("unfiltered", "a query of records takes no notice of its filters", Unfiltered),
        BrokenEngine::new("unfiltered-events", "a query of events takes no notice of its filter", UnfilteredEvents),
        BrokenEngine::new("backwards", "records come in the opposite of the order that is asked for", Backwards),
    ]
}

#[derive(Debug, Default)]
struct EmptyPages;

impl Steps for EmptyPages {
    fn answers(&self, answers: &mut Vec<Answer>) {
        for answer in answers {
            if let Answer::Page(page) = answer {
                page.items.clear();
                page.next = None;
            }
        }
    }
}

#[derive(Debug, Default)]
struct EmptyEvents;

impl Steps for EmptyEvents {
    fn answers(&self, answers: &mut Vec<Answer>) {
        for answer in answers {
            if let Answer::Events(page) = answer {
                page.items.clear();
                page.next = None;
            }
        }
    }
}

#[derive(Debug, Default)]
struct EmptyGroups;

impl Steps for EmptyGroups {
    fn answers(&self, answers: &mut Vec<Answer>) {
        for answer in answers {
            if let Answer::Groups(groups) = answer {
                groups.clear();
            }
        }
    }
}

#[derive(Debug, Default)]
struct FirstPageOnly;

impl Steps for FirstPageOnly {
    fn answers(&self, answers: &mut Vec<Answer>) {
        for answer in answers {
            if let Answer::Page(page) = answer {
                page.next = None;
            }
        }
    }
}

#[derive(Debug, Default)]
struct GhostRecords;

impl Steps for GhostRecords {
    fn absent(&self, id: &RecordId) -> Option<Record> {
        Some(Record {
            collection: id.collection.clone(),
            key: id.key.clone(),
            revision: 0,
            position: Position::ZERO,
            time: Timestamp::default(),
            by: None,
            value: Json::from_store("{}"),
        })
    }
}

#[derive(Debug, Default)]
struct Unfiltered;

impl Steps for Unfiltered {
    fn takes(&self, _: &Filter, _: &FieldValue) -> bool {
        true
    }
}

#[derive(Debug, Default)]
struct UnfilteredEvents;

impl Steps for UnfilteredEvents {
    fn takes_event(&self, _: &EventFilter, _: &Event) -> bool {
        true
    }
}

#[derive(Debug, Default)]
struct Backwards;

impl Steps for Backwards {
    fn compare(&self, a: Option<&Scalar>, b: Option<&Scalar>) -> Ordering {
        Honest.compare(a, b).reverse()
    }
}
