//! A canonical, order-independent digest of a namespace's content, the same on every backend.
//!
//! It covers keys, revisions, values, streams and sequences; never positions or receipts. Each item is hashed by
//! itself and the hashes are added modulo 2^256, so the order of reading plays no part.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::engine::Read;
use crate::error::Result;
use crate::event::Event;
use crate::feed::{EventFilter, EventQuery, StreamSelect};
use crate::json::Json;
use crate::lease::LEASES;
use crate::query::Query;
use crate::record::Record;
use crate::store::Store;

/// What a digest covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DigestOptions {
    /// Only what was stored, not when: revisions, record and event times, and every text in a document that is
    /// written the way Millpond writes moments, are left out, and so are leases.
    pub content_only: bool,
}

/// A digest and what went into it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ContentDigest {
    /// 64 hex digits.
    pub digest: String,
    /// Records.
    pub records: u64,
    /// Events.
    pub events: u64,
    /// Streams.
    pub streams: u64,
    /// Things that do not read back; each is one line.
    pub damaged: Vec<String>,
}

#[derive(Default)]
struct Sum([u64; 4]);

impl Sum {
    fn add(&mut self, item: &[u8]) {
        let hash = Sha256::digest(item);
        let mut carry = 0u128;
        for (word, chunk) in self.0.iter_mut().zip(hash.chunks_exact(8)) {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(chunk);
            let total = u128::from(*word) + u128::from(u64::from_le_bytes(bytes)) + carry;
            *word = total as u64;
            carry = total >> 64;
        }
    }

    fn hex(&self) -> String {
        self.0.iter().flat_map(|w| w.to_le_bytes()).map(|b| format!("{b:02x}")).collect()
    }
}

impl Store {
    /// Digests the namespace's content. Reads everything, a page at a time; commits made meanwhile may or may not
    /// be covered.
    ///
    /// # Errors
    /// What the engine fails with.
    pub async fn digest(&self, options: DigestOptions) -> Result<ContentDigest> {
        let mut sum = Sum::default();
        let mut report = ContentDigest { digest: String::new(), records: 0, events: 0, streams: 0, damaged: Vec::new() };
        for collection in self.collections().await? {
            if options.content_only && collection.name.as_str() == LEASES.name() {
                continue;
            }
            let mut query = Query::new(collection.name.as_str())?.limit(1_000);
            loop {
                let page = self.query(query.clone()).await?;
                for record in &page.items {
                    sum.add(record_text(record, options)?.as_bytes());
                    report.records += 1;
                }
                report.damaged.extend(page.damaged.into_iter().map(|d| format!("{}: {}", d.what, d.why)));
                let Some(next) = page.next else { break };
                query.after = Some(next);
            }
        }
        let mut after = None;
        loop {
            let streams = self.streams("", after.take(), 1_000).await?;
            for info in &streams {
                sum.add(format!("stream\n{}\n{}\n{}\n{}", info.stream, info.head, info.oldest, info.sealed).as_bytes());
                report.streams += 1;
                self.digest_stream(info.stream.clone(), options, &mut sum, &mut report).await?;
            }
            match streams.into_iter().last() {
                Some(last) => after = Some(last.stream),
                None => break,
            }
        }
        report.digest = sum.hex();
        Ok(report)
    }

    async fn digest_stream(
        &self,
        stream: crate::StreamName,
        options: DigestOptions,
        sum: &mut Sum,
        report: &mut ContentDigest,
    ) -> Result<()> {
        let filter = EventFilter { stream: Some(StreamSelect::Exactly(stream)), ..EventFilter::default() };
        let mut query = EventQuery::new(filter);
        loop {
            let answer = self.read(vec![Read::Events(query.clone())]).await?.pop();
            let Some(answer) = answer else { return Ok(()) };
            let page = answer.into_events()?;
            for event in &page.items {
                sum.add(event_text(event, options)?.as_bytes());
                report.events += 1;
            }
            report.damaged.extend(page.damaged.into_iter().map(|d| format!("{}: {}", d.what, d.why)));
            let Some(next) = page.next else { return Ok(()) };
            query.after = Some(next);
        }
    }
}

fn record_text(record: &Record, options: DigestOptions) -> Result<String> {
    let head = format!("record\n{}\n{}", record.collection, record.key);
    if options.content_only {
        return Ok(format!("{head}\n{}", timeless(&record.value)?));
    }
    let by = record.by.as_deref().unwrap_or("");
    Ok(format!("{head}\n{}\n{}\n{by}\n{}", record.revision, record.time.as_micros(), record.value))
}

fn event_text(event: &Event, options: DigestOptions) -> Result<String> {
    let labels = Json::of(&event.labels)?;
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let (time, data) =
        if options.content_only { (0, timeless(&event.data)?) } else { (event.time.as_micros(), event.data.clone()) };
    Ok(format!(
        "event\n{}\n{}\n{}\n{}\n{time}\n{}\n{}\n{}\n{labels}\n{data}",
        event.stream,
        event.sequence,
        text(&event.id),
        event.kind,
        text(&event.correlation),
        text(&event.agent),
        text(&event.source),
    ))
}

/// The document with every moment replaced.
fn timeless(json: &Json) -> Result<Json> {
    let mut value = json.value()?;
    blank_moments(&mut value);
    Ok(Json::from_checked(&value))
}

fn blank_moments(value: &mut Value) {
    match value {
        Value::String(s) if is_moment(s) => *s = "<time>".to_owned(),
        Value::Array(items) => items.iter_mut().for_each(blank_moments),
        Value::Object(map) => map.values_mut().for_each(blank_moments),
        _ => {}
    }
}

/// `2026-11-21T08:00:00.250000Z`, to the letter.
fn is_moment(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 27
        && bytes.iter().enumerate().all(|(i, b)| match i {
            4 | 7 => *b == b'-',
            10 => *b == b'T',
            13 | 16 => *b == b':',
            19 => *b == b'.',
            26 => *b == b'Z',
            _ => b.is_ascii_digit(),
        })
}
