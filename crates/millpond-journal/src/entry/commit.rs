//! Resolved commits as text, and back. Documents are copied as they are, never parsed.
//!
//! ```text
//!   {"commit":{"pos":19,"time":1700000000000000,
//!     "records":[{"in":"runs","key":"a","rev":2,"pos":17,"by":"x","fields":["done",{"at":17}],"doc":{…}}],
//!     "streams":[{"name":"log","head":9,"pos":19}],
//!     "events":[{"s":0,"n":8,"pos":18,"type":"step","data":{…}}],
//!     "receipts":[{"id":"…","digest":"…","pos":19,"revs":[2],"seqs":[…]}]}}
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;

use millpond_core::plan::{EventMutation, Mutations, NamespaceHead, RecordMutation, RecordState, StoredReceipt, StreamMutation};
use millpond_core::{
    Appended, CollectionName, CommitId, Error, Event, FieldValue, Json, Key, NamespaceStatus, Position, Receipt, RecordId,
    Result, Scalar, StreamName, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Writes a plan's mutations as the text of a change.
pub(crate) fn write_commit(changes: &Mutations) -> Result<String> {
    let mut out = Writer(Vec::with_capacity(256 + 512 * (changes.records.len() + changes.events.len())));
    let time = changes.namespace.time;
    out.raw("{\"commit\":{\"pos\":");
    out.json(&changes.namespace.position.0)?;
    out.raw(",\"time\":");
    out.json(&time.as_micros())?;
    out.list("records", &changes.records, |out, record| out.record(record, time))?;
    out.list("streams", &changes.streams, Writer::stream)?;
    out.list("events", &changes.events, |out, event| out.event(event, time))?;
    out.list("receipts", &changes.receipts, Writer::receipt)?;
    out.raw("}}");
    String::from_utf8(out.0).map_err(|e| Error::invalid("a change is not text").with_source(e))
}

struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        serde_json::to_writer(&mut self.0, value).map_err(|e| Error::invalid("a change cannot be written as JSON").with_source(e))
    }

    fn list<T>(&mut self, name: &str, items: &[T], mut one: impl FnMut(&mut Self, &T) -> Result<()>) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        self.raw(",\"");
        self.raw(name);
        self.raw("\":[");
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.raw(",");
            }
            one(self, item)?;
        }
        self.raw("]");
        Ok(())
    }

    fn optional<T: Serialize>(&mut self, name: &str, value: Option<T>) -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        self.raw(",\"");
        self.raw(name);
        self.raw("\":");
        self.json(&value)
    }

    fn record(&mut self, change: &RecordMutation, time: Timestamp) -> Result<()> {
        self.raw("{\"in\":");
        self.json(change.record.collection.as_str())?;
        self.raw(",\"key\":");
        self.json(change.record.key.as_str())?;
        self.raw(",\"rev\":");
        self.json(&change.revision)?;
        self.raw(",\"pos\":");
        self.json(&change.position.0)?;
        self.optional("time", (change.time != time).then(|| change.time.as_micros()))?;
        self.optional("by", change.by.as_deref())?;
        if let Some((document, fields)) = &change.after {
            if !fields.is_empty() {
                self.raw(",\"fields\":[");
                for (at, field) in fields.iter().enumerate() {
                    if at > 0 {
                        self.raw(",");
                    }
                    self.json(&WireField::of(field))?;
                }
                self.raw("]");
            }
            self.raw(",\"doc\":");
            self.raw(document.as_str());
        }
        self.raw("}");
        Ok(())
    }

    fn stream(&mut self, change: &StreamMutation) -> Result<()> {
        self.raw("{\"name\":");
        self.json(change.stream.as_str())?;
        self.raw(",\"head\":");
        self.json(&change.head)?;
        self.optional("oldest", (change.oldest != 1).then_some(change.oldest))?;
        self.optional("sealed", change.sealed.then_some(true))?;
        self.raw(",\"pos\":");
        self.json(&change.position.0)?;
        self.raw("}");
        Ok(())
    }

    fn event(&mut self, change: &EventMutation, time: Timestamp) -> Result<()> {
        let event = &change.event;
        self.raw("{\"s\":");
        self.json(&change.stream)?;
        self.raw(",\"n\":");
        self.json(&event.sequence)?;
        self.raw(",\"pos\":");
        self.json(&event.position.0)?;
        self.optional("id", event.id.as_deref())?;
        self.raw(",\"type\":");
        self.json(&event.kind)?;
        self.optional("time", (event.time != time).then(|| event.time.as_micros()))?;
        self.optional("correlation", event.correlation.as_deref())?;
        self.optional("agent", event.agent.as_deref())?;
        self.optional("source", event.source.as_deref())?;
        self.optional("labels", (!event.labels.is_empty()).then_some(&event.labels))?;
        self.raw(",\"data\":");
        self.raw(event.data.as_str());
        self.raw("}");
        Ok(())
    }

    fn receipt(&mut self, stored: &StoredReceipt) -> Result<()> {
        let receipt = &stored.receipt;
        self.raw("{\"id\":");
        self.json(&receipt.id)?;
        self.raw(",\"digest\":\"");
        for byte in stored.digest {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            self.0.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        self.raw("\",\"pos\":");
        self.json(&receipt.position.0)?;
        self.optional("revs", (!receipt.revisions.is_empty()).then_some(&receipt.revisions))?;
        self.optional("seqs", (!receipt.sequences.is_empty()).then_some(&receipt.sequences))?;
        self.raw("}");
        Ok(())
    }
}

/// An index field: text, integers, truths and sets as themselves, the other kinds with a word before them.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WireField<'a> {
    Absent(()),
    Bool(bool),
    Integer(i64),
    Text(Cow<'a, str>),
    Set(Cow<'a, [String]>),
    Real { real: f64 },
    At { at: i64 },
}

impl<'a> WireField<'a> {
    fn of(value: &'a FieldValue) -> Self {
        match value {
            FieldValue::Absent => Self::Absent(()),
            FieldValue::Set(values) => Self::Set(Cow::Borrowed(values)),
            FieldValue::Scalar(Scalar::Text(text)) => Self::Text(Cow::Borrowed(text)),
            FieldValue::Scalar(Scalar::Integer(n)) => Self::Integer(*n),
            FieldValue::Scalar(Scalar::Bool(b)) => Self::Bool(*b),
            FieldValue::Scalar(Scalar::Real(real)) => Self::Real { real: *real },
            FieldValue::Scalar(Scalar::Timestamp(at)) => Self::At { at: at.as_micros() },
        }
    }

    fn value(self) -> FieldValue {
        FieldValue::Scalar(match self {
            Self::Absent(()) => return FieldValue::Absent,
            Self::Set(values) => return FieldValue::Set(values.into_owned()),
            Self::Text(text) => Scalar::Text(text.into_owned()),
            Self::Integer(n) => Scalar::Integer(n),
            Self::Bool(b) => Scalar::Bool(b),
            Self::Real { real } => Scalar::Real(real),
            Self::At { at } => Scalar::Timestamp(Timestamp::from_micros(at)),
        })
    }
}

/// A resolved commit as it is read.
#[derive(Deserialize)]
pub(super) struct WireCommit<'a> {
    pos: u64,
    time: i64,
    #[serde(borrow, default)]
    records: Vec<WireRecord<'a>>,
    #[serde(default)]
    streams: Vec<WireStream>,
    #[serde(borrow, default)]
    events: Vec<WireEvent<'a>>,
    #[serde(default)]
    receipts: Vec<WireReceipt>,
}

#[derive(Deserialize)]
struct WireRecord<'a> {
    r#in: String,
    key: String,
    rev: u64,
    pos: u64,
    time: Option<i64>,
    by: Option<String>,
    #[serde(default)]
    fields: Vec<WireField<'static>>,
    /// Absent for a tombstone. A document that is `null` is one all the same.
    #[serde(borrow, default, deserialize_with = "present")]
    doc: Option<&'a RawValue>,
}

fn present<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

#[derive(Deserialize)]
struct WireStream {
    name: String,
    head: u64,
    #[serde(default = "one")]
    oldest: u64,
    #[serde(default)]
    sealed: bool,
    pos: u64,
}

fn one() -> u64 {
    1
}

#[derive(Deserialize)]
struct WireEvent<'a> {
    s: usize,
    n: u64,
    pos: u64,
    id: Option<String>,
    r#type: String,
    time: Option<i64>,
    correlation: Option<String>,
    agent: Option<String>,
    source: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct WireReceipt {
    id: CommitId,
    digest: String,
    pos: u64,
    #[serde(default)]
    revs: Vec<u64>,
    #[serde(default)]
    seqs: Vec<Appended>,
}

impl WireCommit<'_> {
    /// What to apply. What each change replaces is for the replica to look up.
    pub(super) fn into_mutations(self) -> Result<Mutations> {
        let time = Timestamp::from_micros(self.time);
        let streams: Vec<StreamMutation> = self.streams.into_iter().map(|s| s.mutation(time)).collect();
        let events = self.events.into_iter().map(|e| e.mutation(&streams, time)).collect::<Result<_>>()?;
        Ok(Mutations {
            records: self.records.into_iter().map(|r| r.mutation(time)).collect(),
            events,
            streams,
            receipts: self.receipts.into_iter().map(|r| r.stored(time)).collect::<Result<_>>()?,
            namespace: NamespaceHead {
                // Only position and time of the head are a commit's to change.
                status: NamespaceStatus::Open,
                position: Position(self.pos),
                time,
                receipts_floor: Timestamp::default(),
            },
        })
    }
}

impl WireRecord<'_> {
    fn mutation(self, time: Timestamp) -> RecordMutation {
        let fields: Vec<FieldValue> = self.fields.into_iter().map(WireField::value).collect();
        RecordMutation {
            record: RecordId { collection: CollectionName::from_store(self.r#in), key: Key::from_store(self.key) },
            before: RecordState::Never,
            revision: self.rev,
            position: Position(self.pos),
            time: self.time.map_or(time, Timestamp::from_micros),
            by: self.by,
            after: self.doc.map(|doc| (Json::from_store(doc.get()), fields)),
        }
    }
}

impl WireStream {
    fn mutation(self, time: Timestamp) -> StreamMutation {
        StreamMutation {
            stream: StreamName::from_store(self.name),
            before: None,
            head: self.head,
            oldest: self.oldest,
            sealed: self.sealed,
            position: Position(self.pos),
            time,
        }
    }
}

impl WireEvent<'_> {
    fn mutation(self, streams: &[StreamMutation], time: Timestamp) -> Result<EventMutation> {
        let stream = streams.get(self.s).ok_or_else(|| Error::corrupt("an event of a journal entry is in no stream of it"))?;
        let event = Event {
            stream: stream.stream.clone(),
            sequence: self.n,
            position: Position(self.pos),
            id: self.id,
            kind: self.r#type,
            time: self.time.map_or(time, Timestamp::from_micros),
            correlation: self.correlation,
            agent: self.agent,
            source: self.source,
            labels: self.labels,
            data: Json::from_store(self.data.get()),
        };
        Ok(EventMutation { stream: self.s, event })
    }
}

impl WireReceipt {
    fn stored(self, time: Timestamp) -> Result<StoredReceipt> {
        let digest = uuid::Uuid::try_parse(&self.digest).map_err(|e| Error::corrupt("a receipt's digest").with_source(e))?;
        let receipt = Receipt {
            id: self.id,
            position: Position(self.pos),
            time,
            revisions: self.revs,
            sequences: self.seqs,
            replayed: false,
        };
        Ok(StoredReceipt { digest: digest.into_bytes(), receipt })
    }
}
