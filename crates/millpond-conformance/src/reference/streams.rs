//! Events: pages in position order, groups, and the list of streams.

use std::collections::BTreeMap;

use millpond_core::{
    Direction, Error, Event, EventFilter, EventGroup, EventGroupBy, EventPage, EventQuery, Result, StreamInfo, StreamName,
    check_groups, limits,
};

use super::data::NamespaceData;
use super::steps::Steps;

/// Every event a filter takes, oldest first.
pub(super) fn taken<'d>(data: &'d NamespaceData, filter: &EventFilter, steps: &dyn Steps) -> Vec<&'d Event> {
    let all = data.streams.values().flat_map(|s| s.events.values());
    let mut taken: Vec<&Event> = all.filter(|e| steps.takes_event(filter, e)).collect();
    taken.sort_by_key(|e| e.position);
    taken
}

pub(super) fn check_limit(limit: usize) -> Result<()> {
    if limit == 0 || limit > limits::PAGE_ROWS {
        return Err(Error::invalid(format!("a limit of {limit} is not between 1 and {}", limits::PAGE_ROWS)));
    }
    Ok(())
}

/// One page of events.
pub(super) fn page(data: &NamespaceData, query: &EventQuery, steps: &dyn Steps) -> Result<EventPage> {
    query.filter.check()?;
    check_limit(query.limit)?;
    let mut events = taken(data, &query.filter, steps);
    if query.direction == Direction::Descending {
        events.reverse();
    }
    if let Some(after) = query.after {
        events.retain(|e| steps.event_beyond(e.position, after, query.direction));
    }
    let (mut items, mut next, mut bytes): (Vec<Event>, _, _) = (Vec::new(), None, 0);
    let total = events.len();
    for event in events {
        bytes += event.data.len();
        items.push(event.clone());
        if items.len() == query.limit || bytes >= limits::PAGE_BYTES {
            next = (items.len() < total).then_some(event.position);
            break;
        }
    }
    Ok(EventPage { items, next, damaged: Vec::new() })
}

/// Counts of events by type, stream or agent.
pub(super) fn groups(
    data: &NamespaceData,
    filter: &EventFilter,
    by: EventGroupBy,
    limit: usize,
    steps: &dyn Steps,
) -> Result<Vec<EventGroup>> {
    filter.check()?;
    check_limit(limit)?;
    let mut groups: BTreeMap<Option<String>, EventGroup> = BTreeMap::new();
    for event in taken(data, filter, steps) {
        let value = match by {
            EventGroupBy::Kind => Some(event.kind.clone()),
            EventGroupBy::Stream => Some(event.stream.to_string()),
            EventGroupBy::Agent => event.agent.clone(),
        };
        let group = groups.entry(value.clone()).or_insert_with(|| EventGroup {
            value,
            count: 0,
            succeeded: 0,
            failed: 0,
            first: event.time,
            last: event.time,
        });
        let success = event.data.value()?.get("success").and_then(serde_json::Value::as_bool);
        group.count += 1;
        group.succeeded += u64::from(success == Some(true));
        group.failed += u64::from(success == Some(false));
        group.first = group.first.min(event.time);
        group.last = group.last.max(event.time);
    }
    let mut groups: Vec<EventGroup> = groups.into_values().collect();
    steps.event_groups(&mut groups);
    if steps.refuses_more_groups() {
        check_groups(groups.len(), limit)?;
    }
    groups.truncate(limit);
    Ok(groups)
}

/// Streams by name.
pub(super) fn list(
    data: &NamespaceData,
    prefix: &str,
    after: Option<&StreamName>,
    limit: usize,
    steps: &dyn Steps,
) -> Result<Vec<StreamInfo>> {
    check_limit(limit)?;
    if !steps.lists_streams() {
        return Ok(Vec::new());
    }
    let holding = data.streams.iter().filter(|(_, s)| s.oldest <= s.head);
    let named = holding.filter(|(name, _)| name.as_str().starts_with(prefix));
    Ok(named.filter(|(name, _)| after.is_none_or(|a| *name > a)).take(limit).map(|(name, s)| s.info(name)).collect())
}
