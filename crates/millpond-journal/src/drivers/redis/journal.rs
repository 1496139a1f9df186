//! One journal: a stream in which every entry is followed by a mark.
//!
//! ```text
//!   1-0 entry │ 1-1 mark │ 2-0 entry │ 2-1 mark │ …        a mark holds the bytes of all entries so far
//! ```
//!
//! A mark is a few bytes, so the tail, or whether an entry is still there, can be asked without being sent an entry
//! whole. Trimming up to an entry leaves its mark, so a journal that was trimmed still differs from one that was lost.

use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::{Error, Result};
use redis::{Cmd, Value};

use super::errors::unreadable;
use super::link::{Link, Sending};
use super::live::Live;
use super::scripts;
use super::snapshots::Snapshots;
use super::watch::Watch;
use crate::journal::{After, Append, Exclusive, Journal, Limit, Stored, lost};

/// The largest entry. Larger changes go in parts: one command must not hold the server up for long.
const ENTRY_BYTES: usize = 4 << 20;
/// Entries of the first page; how many fit into the next ones is known then.
const FIRST_PAGE: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct RedisJournal {
    link: Link,
    live: Live,
    log: String,
    snapshots: Snapshots,
    watch: Watch,
}

impl RedisJournal {
    /// `base` is what every key of this journal begins with.
    pub(super) fn new(link: Link, live: Live, base: &str) -> Self {
        let log = log_key(base);
        let watch = Watch::new(link.clone(), log.clone());
        let snapshots = Snapshots::new(link.clone(), base);
        Self { link, live, log, snapshots, watch }
    }

    /// The number of the last entry; 0 for a journal that is empty or does not exist.
    async fn last(&self) -> Result<u64> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(&self.log).arg("+").arg("-").arg("COUNT").arg(1);
        let items = items(self.link.call(command, Sending::Read).await?)?;
        Ok(items.first().map_or(0, |item| item.number))
    }

    /// One page of items from the mark of `after` on.
    async fn page(&self, after: u64, entries: usize) -> Result<Page> {
        let mut command = redis::cmd("XRANGE");
        // Each entry with its mark, and first the mark of `after`, which only a journal's beginning does not have.
        let count = entries.saturating_mul(2).saturating_add(usize::from(after > 0));
        command.arg(&self.log).arg(mark_id(after)).arg("+").arg("COUNT").arg(count);
        let items = items(self.link.call(command, Sending::Read).await?)?;
        let mut items = items.into_iter().peekable();
        if after > 0 {
            match items.next() {
                Some(first) if first.number == after && first.is_mark => {}
                Some(first) if first.number > after => return Ok(Page::Trimmed),
                Some(_) => return Err(unreadable("a range")),
                None => return Ok(Page::Before),
            }
        } else if items.peek().is_some_and(|first| first.number > 1 || first.is_mark) {
            return Ok(Page::Trimmed);
        }
        let mut found = Vec::new();
        while let Some(entry) = items.next() {
            let expected = after + 1 + found.len() as u64;
            let whole = items.next().is_some_and(|mark| mark.is_mark && mark.number == expected);
            if entry.is_mark || entry.number != expected || !whole {
                return Err(Error::corrupt(format!("entry {expected} or its mark is missing in the stream {}", self.log))
                    .with("found", entry.number)
                    .with_next("somebody changed the stream by hand: restore it from a copy of the server's data"));
            }
            found.push(Stored { number: expected, bytes: entry.bytes });
        }
        Ok(Page::Entries(found))
    }

    async fn ended_before(&self, after: u64) -> Result<Error> {
        let last = self.last().await?;
        // It may have been written again meanwhile by somebody who restored it.
        Ok(lost(after, last.min(after.saturating_sub(1))).with("stream", &self.log))
    }
}

/// What one page shows.
enum Page {
    Entries(Vec<Stored>),
    Trimmed,
    /// The stream ends before the entry asked after.
    Before,
}

/// The key of the stream.
pub(super) fn log_key(base: &str) -> String {
    format!("{base}:log")
}

/// The id of an entry's mark.
pub(super) fn mark_id(number: u64) -> String {
    format!("{number}-1")
}

/// A script with its one key.
fn script(text: &str, key: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(1).arg(key);
    command
}

#[async_trait]
impl Journal for RedisJournal {
    async fn append(&self, after: u64, entry: Bytes) -> Result<Append> {
        self.live.check()?;
        let mut command = script(scripts::APPEND, &self.log);
        command.arg(mark_id(after)).arg(format!("{}-0", after + 1)).arg(mark_id(after + 1)).arg(&entry[..]);
        match self.link.call(command, Sending::Once).await? {
            Value::Int(1) => {
                self.watch.saw(after + 1);
                Ok(Append::Written)
            }
            Value::BulkString(last) => match read_id(&last) {
                Some((last, _)) if last > after => Ok(Append::Overtaken),
                Some((last, _)) if last < after => Err(lost(after, last).with("stream", &self.log)),
                _ => Err(unreadable("an append")),
            },
            _ => Err(unreadable("an append")),
        }
    }

    async fn read(&self, after: u64, limit: Limit) -> Result<After> {
        let mut found: Vec<Stored> = Vec::new();
        let mut bytes = 0;
        let mut page = FIRST_PAGE.min(limit.entries).max(1);
        loop {
            let at = after + found.len() as u64;
            let next = match self.page(at, page).await? {
                Page::Entries(next) => next,
                Page::Trimmed => return Ok(After::Trimmed),
                Page::Before => return Err(self.ended_before(at).await?),
            };
            let end = next.len() < page;
            for entry in next {
                bytes += entry.bytes.len();
                found.push(entry);
                if bytes >= limit.bytes {
                    return Ok(After::Entries(found));
                }
            }
            if end || found.len() >= limit.entries {
                return Ok(After::Entries(found));
            }
            // As many as will fit, going by those that came, and at least one.
            let average = (bytes / found.len().max(1)).max(1);
            page = ((limit.bytes - bytes) / average).min(limit.entries - found.len()).max(1);
        }
    }

    async fn changed(&self, after: u64) {
        self.watch.changed(after).await;
    }

    fn max_entry_bytes(&self) -> usize {
        ENTRY_BYTES
    }

    async fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>> {
        Ok(None)
    }

    async fn put_snapshot(&self, upto: u64, file: &Path) -> Result<()> {
        self.snapshots.put(upto, file).await
    }

    async fn get_snapshot(&self, file: &Path) -> Result<Option<u64>> {
        self.snapshots.get(file).await
    }

    async fn trim(&self, upto: u64) -> Result<()> {
        let mut command = script(scripts::TRIM, &self.log);
        command.arg(mark_id(upto));
        self.link.call(command, Sending::Repeatable).await.map(drop)
    }

    async fn size(&self) -> Result<u64> {
        let answer = self.link.call(script(scripts::SIZE, &self.log), Sending::Repeatable).await?;
        let (first, last): (u64, u64) = redis::from_redis_value(answer).map_err(|_| unreadable("a size"))?;
        Ok(last.saturating_sub(first))
    }
}

/// An item of the stream.
struct Item {
    number: u64,
    is_mark: bool,
    bytes: Bytes,
}

fn read_id(id: &[u8]) -> Option<(u64, u64)> {
    let (number, part) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some((number.parse().ok()?, part.parse().ok()?))
}

fn items(answer: Value) -> Result<Vec<Item>> {
    let Value::Array(items) = answer else { return Err(unreadable("a range")) };
    items.into_iter().map(|value| item(value).ok_or_else(|| unreadable("an item of a stream"))).collect()
}

/// `[id, [field, value]]`
fn item(value: Value) -> Option<Item> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(id), Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    let [_, Value::BulkString(bytes)] = <[Value; 2]>::try_from(fields).ok()? else { return None };
    let (number, part) = read_id(&id)?;
    Some(Item { number, is_mark: part == 1, bytes: bytes.into() })
}
