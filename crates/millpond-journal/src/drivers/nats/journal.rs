//! One journal: a stream whose sequence is the entries' number.
//!
//! An entry is published with the sequence that it expects to be the last. The server refuses it if it is not, so of
//! several writers one is next. The last sequence never falls, not even when everything before it is purged. No message
//! carries an id of its own: what a server takes for a repetition it answers as if it had stored it, and the answer of
//! one who was overtaken would look like that of one who was not.

use std::path::Path;
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SEQUENCE, NATS_EXPECTED_STREAM};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use millpond_core::{Error, ErrorKind, Result};

use super::hint::Hint;
use super::link::{Answer as _, HEADER_BYTES, Link, NoAnswer, Refusal, code, unavailable};
use super::messages::{self, Found};
use super::names::Names;
use super::snapshots::Snapshots;
use super::{Place, streams};
use crate::journal::{After, Append, Exclusive, Journal, Limit, Stored, lost};

/// Entries that are asked for at once.
const AT_ONCE: u64 = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct NatsJournal {
    place: Arc<Place>,
    names: Names,
    hint: Hint,
    snapshots: Snapshots,
}

/// What a try to append came to.
enum Tried {
    Done(Append),
    /// Nothing was stored, and it may be tried again.
    NotNow(String),
    /// Nobody heard it.
    Unheard(String),
    /// The stream ends at this number, before the entry that this one should follow.
    EndsAt(u64),
}

impl NatsJournal {
    /// Opens a journal; compares its stream's settings if there is one.
    pub(super) async fn open(place: Arc<Place>, names: Names) -> Result<Self> {
        if let Some(info) = streams::find(&place.link, &names.stream).await? {
            streams::compare(&streams::journal(&names, place.replicas), info)?;
        }
        let hint = Hint::new(&place.link, names.hints.clone());
        let snapshots = Snapshots::new(Arc::clone(&place), names.clone());
        Ok(Self { place, names, hint, snapshots })
    }

    fn link(&self) -> &Link {
        &self.place.link
    }

    fn removed(&self) -> Error {
        Error::not_found(format!("the journal {} was removed", self.names.stream))
    }

    async fn try_append(&self, after: u64, entry: Bytes) -> Result<Tried> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, after.to_string());
        headers.insert(NATS_EXPECTED_STREAM, self.names.stream.as_str());
        let answer = match self.link().ask(&self.names.subject, Some(headers), entry).await {
            Ok(answer) => answer,
            Err(NoAnswer::Nobody(why)) => return Ok(Tried::Unheard(why)),
            Err(NoAnswer::Silence(why)) => return Err(unknown(&why)),
            Err(NoAnswer::NotSent(why)) => return Err(unavailable(&why)),
        };
        match messages::Stored::read(&answer.payload).map_err(|e| unknown(&e.to_string()))? {
            Ok(stored) if stored.stream == self.names.stream && stored.seq == after + 1 && !stored.duplicate => {
                Ok(Tried::Done(Append::Written))
            }
            Ok(stored) => Err(unknown(&format!("the server says that it stored {stored:?}, which is not what it was sent"))),
            Err(refusal) => self.understand(after, refusal).await,
        }
    }

    async fn understand(&self, after: u64, refusal: Refusal) -> Result<Tried> {
        match refusal.err_code {
            code::WRONG_LAST_SEQUENCE | code::WRONG_LAST_SEQUENCE_CONSTANT => {
                let told = refusal.description.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
                let last = match told {
                    Some(last) => last,
                    None => streams::find(self.link(), &self.names.stream).await?.map_or(0, |info| info.state.last_seq),
                };
                Ok(match last {
                    last if last > after => Tried::Done(Append::Overtaken),
                    last if last < after => Tried::EndsAt(last),
                    _ => Tried::NotNow(refusal.description),
                })
            }
            code if code::PASSING.contains(&code) => Ok(Tried::NotNow(refusal.description)),
            code if code::BEFORE_STORING.contains(&code) || refusal.is_full() => {
                Err(streams::refused(&format!("the stream {} takes nothing", self.names.stream), &refusal))
            }
            _ => Err(unknown(&refusal.description)),
        }
    }

    /// What to do when nobody hears an entry: wait for a leader, or make the stream. True if there is no stream, and
    /// there should be one.
    async fn look_for_stream(&self, after: u64) -> Result<bool> {
        if streams::find(self.link(), &self.names.stream).await?.is_some() {
            return Ok(false);
        }
        if self.place.is_removed(&self.names).await? {
            return Err(self.removed());
        }
        if after > 0 {
            return Ok(true);
        }
        streams::make(self.link(), &streams::journal(&self.names, self.place.replicas)).await?;
        // Whoever removes a journal says so first, and then deletes its stream.
        if self.place.is_removed(&self.names).await? {
            streams::delete(self.link(), &self.names.stream).await?;
            return Err(self.removed());
        }
        Ok(false)
    }

    /// What a reader or writer is told that stands after entry `after` when there is no stream.
    async fn without_stream(&self, after: u64) -> Result<After> {
        if self.place.is_removed(&self.names).await? {
            return Err(self.removed());
        }
        if after == 0 { Ok(After::Entries(Vec::new())) } else { Err(lost(after, 0).with("stream", &self.names.stream)) }
    }

    /// The entries that follow one that is there, as many as come without a gap.
    async fn following(&self, first: Stored, limit: Limit) -> Result<Vec<Stored>> {
        let mut bytes = first.bytes.len();
        let mut entries = vec![first];
        let mut width = 1;
        loop {
            let next = entries.last().map_or(0, |entry| entry.number) + 1;
            let room = limit.entries.saturating_sub(entries.len()) as u64;
            let found = (next..next + room.min(width)).map(|n| messages::at(self.link(), &self.names.stream, n));
            let found = if bytes < limit.bytes { try_join_all(found).await? } else { Vec::new() };
            if found.is_empty() {
                return Ok(entries);
            }
            for found in found {
                let Found::Message(message) = found else { return Ok(entries) };
                if bytes >= limit.bytes {
                    return Ok(entries);
                }
                bytes += message.bytes.len();
                entries.push(Stored { number: message.number, bytes: message.bytes });
            }
            width = (width * 4).min(AT_ONCE);
        }
    }
}

impl Refusal {
    /// Whether the stream has reached a limit; nothing was stored then.
    fn is_full(&self) -> bool {
        self.description.contains("maximum bytes exceeded") || self.description.contains("maximum messages exceeded")
    }
}

fn unknown(why: &str) -> Error {
    Error::new(ErrorKind::UnknownOutcome, "NATS did not say whether the entry was written")
        .with_source(why.to_owned())
        .with_next("send the same commit again under the same id")
}

#[async_trait]
impl Journal for NatsJournal {
    async fn append(&self, after: u64, entry: Bytes) -> Result<Append> {
        let (mut pauses, mut settling) = (self.link().pauses(), self.link().settling());
        loop {
            // Whatever is tried again here was not stored before.
            let (why, ends_at) = match self.try_append(after, entry.clone()).await? {
                Tried::Done(append) => return Ok(append),
                Tried::NotNow(why) => (why, None),
                // A new leader may not have taken in yet what the one before it had acknowledged.
                Tried::EndsAt(last) => ("the stream ends too early".to_owned(), Some(last)),
                Tried::Unheard(why) => (why, self.look_for_stream(after).await?.then_some(0)),
            };
            // That history was lost is not said because few tries were asked for.
            let between = if ends_at.is_some() { &mut settling } else { &mut pauses };
            if !self.link().wait(between).await {
                return Err(match ends_at {
                    Some(last) => lost(after, last).with("stream", &self.names.stream),
                    None => unavailable(&why),
                });
            }
        }
    }

    async fn read(&self, after: u64, limit: Limit) -> Result<After> {
        let first = match messages::from(self.link(), &self.names.stream, &self.names.subject, after + 1).await? {
            Found::Message(first) => first,
            Found::Nothing => return Ok(After::Entries(Vec::new())),
            Found::NoStream => return self.without_stream(after).await,
        };
        if first.number > after + 1 {
            return Ok(After::Trimmed);
        }
        let first = Stored { number: first.number, bytes: first.bytes };
        self.following(first, limit).await.map(After::Entries)
    }

    async fn changed(&self, after: u64) {
        self.hint.changed(self.link(), after).await;
    }

    fn max_entry_bytes(&self) -> usize {
        self.link().max_payload() - HEADER_BYTES
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
        let Some(info) = streams::find(self.link(), &self.names.stream).await? else { return Ok(()) };
        // The last entry stays, so that a reader behind a journal that was trimmed meets a gap and not an end.
        let upto = upto.min(info.state.last_seq.saturating_sub(1));
        if upto == 0 {
            return Ok(());
        }
        streams::purge(self.link(), &self.names.stream, &serde_json::json!({"seq": upto + 1})).await
    }

    async fn size(&self) -> Result<u64> {
        Ok(streams::find(self.link(), &self.names.stream).await?.map_or(0, |info| info.state.bytes))
    }
}
