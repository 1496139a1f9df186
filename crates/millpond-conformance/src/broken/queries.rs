//! Engines that answer queries wrongly.

use std::cmp::Ordering;

use millpond_core::{
    Direction, Event, EventFilter, EventGroup, FieldValue, Filter, Group, Position, Query, Scalar, StreamSelect,
};

use super::BrokenEngine;
use crate::reference::{Honest, Row, Steps};

pub(super) fn all() -> Vec<BrokenEngine> {
    vec![
        BrokenEngine::new("cut-before-sort", "a limit takes the first rows found, and sorts those", CutBeforeSort),
        BrokenEngine::new("repeating-page", "a page begins with the record the last one ended with", RepeatingPage),
        BrokenEngine::new("tie-skipping-page", "a page begins after every record with the last value", TieSkippingPage),
        BrokenEngine::new("like-patterns", "prefix and contains are SQL's LIKE, unescaped", LikePatterns),
        BrokenEngine::new("absent-last", "absent values sort after all others", AbsentLast),
        BrokenEngine::new("utf16-order", "text is ordered by UTF-16 code units", Utf16Order),
        BrokenEngine::new("float-integers", "integers are compared as floats", FloatIntegers),
        BrokenEngine::new("closed-range", "a range takes its upper end, too", ClosedRange),
        BrokenEngine::new("ghost-count", "a count finds tombstones, too", GhostCount),
        BrokenEngine::new("cut-groups", "groups beyond the limit are left out in silence", CutGroups),
        BrokenEngine::new("null-groups", "records without the field are in no group", NullGroups),
        BrokenEngine::new("null-agents", "events without an agent are in no group", NullAgents),
        BrokenEngine::new("like-streams", "a prefix of streams is SQL's LIKE, unescaped", LikeStreams),
        BrokenEngine::new(
            "overlapping-events",
            "a page of events begins with the event the last one ended with",
            OverlappingEvents,
        ),
        BrokenEngine::new("few-parameters", "of the values of one filter the first 999 count", FewParameters),
        BrokenEngine::new("small-sets", "of a set the first 100 values are found", SmallSets),
        BrokenEngine::new("silent-list", "streams are listed as if there were none", SilentList),
    ]
}

#[derive(Debug, Default)]
struct CutBeforeSort;

impl Steps for CutBeforeSort {
    fn before_sorting(&self, rows: &mut Vec<Row>, query: &Query) {
        if query.after.is_none() {
            rows.truncate(query.limit);
        }
    }
}

#[derive(Debug, Default)]
struct CutGroups;

impl Steps for CutGroups {
    fn refuses_more_groups(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct RepeatingPage;

impl Steps for RepeatingPage {
    fn beyond(&self, by_value_and_key: Ordering, _: Option<Ordering>) -> bool {
        by_value_and_key != Ordering::Less
    }
}

#[derive(Debug, Default)]
struct TieSkippingPage;

impl Steps for TieSkippingPage {
    fn beyond(&self, by_value_and_key: Ordering, by_value: Option<Ordering>) -> bool {
        by_value.unwrap_or(by_value_and_key) == Ordering::Greater
    }
}

#[derive(Debug, Default)]
struct LikePatterns;

/// SQL's LIKE: `%` for any run, `_` for one character, case folded for ASCII.
fn like(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, rest) => rest.is_none(),
        (Some(('%', rest)), _) => (0..=text.len()).any(|skip| like(rest, &text[skip..])),
        (Some((p, rest)), Some((t, text))) => (*p == '_' || p.eq_ignore_ascii_case(t)) && like(rest, text),
        _ => false,
    }
}

impl Steps for LikePatterns {
    fn takes(&self, filter: &Filter, value: &FieldValue) -> bool {
        let pattern = match filter {
            Filter::Prefix(_, text) => format!("{text}%"),
            Filter::Contains(_, text) => format!("%{text}%"),
            _ => return Honest.takes(filter, value),
        };
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        matches!(value, FieldValue::Scalar(Scalar::Text(text)) if like(&chars(&pattern), &chars(text)))
    }
}

#[derive(Debug, Default)]
struct AbsentLast;

impl Steps for AbsentLast {
    fn compare(&self, a: Option<&Scalar>, b: Option<&Scalar>) -> Ordering {
        match (a, b) {
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            _ => Honest.compare(a, b),
        }
    }
}

#[derive(Debug, Default)]
struct Utf16Order;

impl Steps for Utf16Order {
    fn compare(&self, a: Option<&Scalar>, b: Option<&Scalar>) -> Ordering {
        match (a, b) {
            (Some(Scalar::Text(a)), Some(Scalar::Text(b))) => a.encode_utf16().cmp(b.encode_utf16()),
            _ => Honest.compare(a, b),
        }
    }
}

#[derive(Debug, Default)]
struct FloatIntegers;

impl Steps for FloatIntegers {
    #[allow(clippy::cast_precision_loss, clippy::float_cmp)] // The defect.
    fn takes(&self, filter: &Filter, value: &FieldValue) -> bool {
        match (filter, value) {
            (Filter::Eq(_, Scalar::Integer(want)), FieldValue::Scalar(Scalar::Integer(have))) => *want as f64 == *have as f64,
            _ => Honest.takes(filter, value),
        }
    }
}

#[derive(Debug, Default)]
struct ClosedRange;

impl Steps for ClosedRange {
    fn takes(&self, filter: &Filter, value: &FieldValue) -> bool {
        match (filter, value) {
            (Filter::Range(_, _, Some(to)), FieldValue::Scalar(have)) if have == to => true,
            _ => Honest.takes(filter, value),
        }
    }
}

#[derive(Debug, Default)]
struct SilentList;

impl Steps for SilentList {
    fn lists_streams(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct GhostCount;

impl Steps for GhostCount {
    fn counted(&self, records: u64, tombstones: u64) -> u64 {
        records + tombstones
    }
}

#[derive(Debug, Default)]
struct NullGroups;

impl Steps for NullGroups {
    fn groups(&self, groups: &mut Vec<Group>) {
        groups.retain(|g| g.value.is_some());
    }
}

#[derive(Debug, Default)]
struct NullAgents;

impl Steps for NullAgents {
    fn event_groups(&self, groups: &mut Vec<EventGroup>) {
        groups.retain(|g| g.value.is_some());
    }
}

#[derive(Debug, Default)]
struct LikeStreams;

impl Steps for LikeStreams {
    fn takes_event(&self, filter: &EventFilter, event: &Event) -> bool {
        let Some(StreamSelect::Prefix(prefix)) = &filter.stream else { return filter.takes(event) };
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        like(&chars(&format!("{prefix}%")), &chars(event.stream.as_str()))
            && EventFilter { stream: None, ..filter.clone() }.takes(event)
    }
}

#[derive(Debug, Default)]
struct OverlappingEvents;

impl Steps for OverlappingEvents {
    fn event_beyond(&self, event: Position, after: Position, direction: Direction) -> bool {
        match direction {
            Direction::Ascending => event >= after,
            Direction::Descending => event <= after,
        }
    }
}

#[derive(Debug, Default)]
struct FewParameters;

impl Steps for FewParameters {
    fn takes(&self, filter: &Filter, value: &FieldValue) -> bool {
        match filter {
            Filter::OneOf(field, values) => {
                Honest.takes(&Filter::OneOf(field.clone(), values.iter().take(999).cloned().collect()), value)
            }
            other => Honest.takes(other, value),
        }
    }
}

#[derive(Debug, Default)]
struct SmallSets;

impl Steps for SmallSets {
    fn takes(&self, filter: &Filter, value: &FieldValue) -> bool {
        match value {
            FieldValue::Set(values) => Honest.takes(filter, &FieldValue::Set(values.iter().take(100).cloned().collect())),
            other => Honest.takes(filter, other),
        }
    }
}
