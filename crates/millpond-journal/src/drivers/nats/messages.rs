//! Messages of streams, one by one: read through the leader, written with a condition.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millpond_core::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::link::{Answer, Link, Refusal, code, strange};
use super::streams::refused;

/// A message of a stream.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) number: u64,
    pub(super) bytes: Bytes,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    Message(Message),
    /// There is no such message.
    Nothing,
    /// There is no such stream.
    NoStream,
}

/// What a server says once it has stored a message.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    #[serde(default)]
    pub(super) stream: String,
    #[serde(default)]
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) duplicate: bool,
}

/// A server's answer, without copies of what may be a megabyte.
#[derive(Deserialize)]
struct Envelope<'a> {
    error: Option<Refusal>,
    #[serde(borrow)]
    message: Option<Wire<'a>>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    seq: u64,
    #[serde(borrow, default)]
    data: Cow<'a, str>,
}

impl Answer for Message {
    fn read(payload: &[u8]) -> Result<Result<Self, Refusal>> {
        let envelope: Envelope<'_> = serde_json::from_slice(payload).map_err(|e| strange().with_source(e))?;
        match (envelope.error, envelope.message) {
            (Some(refusal), _) => Ok(Err(refusal)),
            (None, Some(wire)) => {
                let bytes = STANDARD.decode(wire.data.as_bytes()).map_err(|e| strange().with_source(e))?;
                Ok(Ok(Self { number: wire.seq, bytes: bytes.into() }))
            }
            (None, None) => Err(strange()),
        }
    }
}

/// The message with a number.
pub(super) async fn at(link: &Link, stream: &str, number: u64) -> Result<Found> {
    get(link, stream, &json!({"seq": number})).await
}

/// The first message of a subject from a number on.
pub(super) async fn from(link: &Link, stream: &str, subject: &str, number: u64) -> Result<Found> {
    get(link, stream, &json!({"seq": number, "next_by_subj": subject})).await
}

/// The last message of a subject.
pub(super) async fn last(link: &Link, stream: &str, subject: &str) -> Result<Found> {
    get(link, stream, &json!({"last_by_subj": subject})).await
}

/// Only the leader of a stream answers this question. The other one that servers know, a "direct get", is answered by
/// whatever copy hears it first, and a copy may be behind.
async fn get(link: &Link, stream: &str, question: &Value) -> Result<Found> {
    match link.api::<Message>(&format!("STREAM.MSG.GET.{stream}"), question).await? {
        Ok(message) => Ok(Found::Message(message)),
        Err(refusal) if refusal.err_code == code::MESSAGE_NOT_FOUND => Ok(Found::Nothing),
        Err(refusal) if refusal.err_code == code::STREAM_NOT_FOUND => Ok(Found::NoStream),
        Err(refusal) => Err(refused(&format!("cannot read the stream {stream}"), &refusal)),
    }
}
