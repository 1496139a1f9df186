//! Feeds: everything a selector takes after a position, in position order.

use millpond_core::{
    Change, Error, ErrorKind, EventFilter, FeedPage, FeedRequest, Position, Result, Selector, StreamName, StreamSelect, limits,
};

use super::data::NamespaceData;
use super::steps::Steps;
use super::streams;

/// One page of a feed.
pub(super) fn page(data: &NamespaceData, request: &FeedRequest, steps: &dyn Steps) -> Result<FeedPage> {
    streams::check_limit(request.limit)?;
    let after = request.after.unwrap_or_default();
    if after > data.head.position && steps.expires_cursors() {
        return Err(Error::new(ErrorKind::CursorExpired, format!("position {after} is beyond the last one of this store"))
            .with_next("start again from the oldest"));
    }
    if let (Some(after), true) = (request.after, steps.expires_cursors()) {
        let forgotten = forgotten(data, &request.selector);
        if after < forgotten {
            return Err(Error::new(
                ErrorKind::CursorExpired,
                format!("position {after} lies before {forgotten}, up to which this feed has been forgotten"),
            )
            .with_next("start again from the oldest"));
        }
    }
    let mut changes = changes(data, &request.selector, steps)?;
    let limit = steps.feed_limit(request.limit);
    changes.retain(|c| steps.change_beyond(c.position(), after));
    changes.sort_by_key(Change::position);
    steps.feed(&mut changes);
    let head = data.head.position;
    let (mut shown, mut bytes, mut next) = (Vec::new(), 0, head.max(after));
    let total = changes.len();
    for change in changes {
        let position = change.position();
        bytes += size(&change);
        shown.push(change);
        if shown.len() == limit || bytes >= limits::PAGE_BYTES {
            // A page that happens to end with the last change has shown everything up to the head.
            next = if shown.len() < total { position } else { next };
            break;
        }
    }
    Ok(FeedPage { changes: shown, next, head, damaged: Vec::new() })
}

fn size(change: &Change) -> usize {
    match change {
        Change::Event(e) => e.data.len(),
        Change::Record(r) => r.value.len(),
        Change::Deleted(_) => 0,
    }
}

/// The highest position at which something the selector may take is gone.
fn forgotten(data: &NamespaceData, selector: &Selector) -> Position {
    match selector {
        Selector::Events(filter) => {
            let matching = data.streams.iter().filter(|(name, _)| selects(filter, name));
            matching.map(|(_, s)| s.trimmed).max().unwrap_or_default()
        }
        Selector::Records { collection, .. } => data.purged.get(collection).map(|(_, p)| *p).unwrap_or_default(),
    }
}

fn selects(filter: &EventFilter, name: &StreamName) -> bool {
    match &filter.stream {
        None => true,
        Some(StreamSelect::Exactly(only)) => name == only,
        Some(StreamSelect::Prefix(prefix)) => name.as_str().starts_with(prefix.as_str()),
    }
}

fn changes(data: &NamespaceData, selector: &Selector, steps: &dyn Steps) -> Result<Vec<Change>> {
    match selector {
        Selector::Events(filter) => {
            filter.check()?;
            Ok(streams::taken(data, filter, steps).into_iter().cloned().map(Change::Event).collect())
        }
        Selector::Records { collection, key_prefix } => {
            let matching = data
                .records
                .iter()
                .filter(|(id, _)| id.collection == *collection && id.key.as_str().starts_with(key_prefix.as_str()));
            let change = |(id, stored): (&millpond_core::RecordId, &super::StoredRecord)| match stored.document {
                Some(_) => Change::Record(stored.record(id)),
                None => Change::Deleted(stored.deleted(id)),
            };
            Ok(matching.map(change).collect())
        }
    }
}
