//! Snapshots: a file in pieces, and a last message that says which pieces, how many, and their digest.
//!
//! ```text
//!   PREFIX.snapshot.NAME.<id>.0   PREFIX.snapshot.NAME.<id>.1 …   pieces
//!   PREFIX.snapshot.NAME.newest                                   the snapshot that counts
//! ```

use std::path::Path;
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM};
use bytes::Bytes;
use futures_util::future::try_join_all;
use millpond_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::link::{Answer as _, HEADER_BYTES, NoAnswer, code, unavailable};
use super::messages::{self, Found, Stored};
use super::names::Names;
use super::{Place, streams};
use crate::drivers::pieces as parts;
use crate::hex::hex;

/// Bytes of a piece, where the server takes that much at once.
const PIECE: usize = 256 << 10;
/// Pieces that are sent or asked for at once.
const AT_ONCE: u64 = 8;
/// How often the newest snapshot is looked up anew when it is exchanged while it is read.
const EXCHANGES: usize = 8;

/// The snapshot that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Newest {
    /// The entry up to which it goes.
    upto: u64,
    /// What its pieces are called.
    id: String,
    pieces: u64,
    bytes: u64,
    sha256: String,
    /// The number of the first piece in the stream.
    first: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Snapshots {
    place: Arc<Place>,
    names: Names,
}

impl Snapshots {
    pub(super) fn new(place: Arc<Place>, names: Names) -> Self {
        Self { place, names }
    }

    fn newest_subject(&self) -> String {
        format!("{}.newest", self.names.snapshot)
    }

    fn piece_subject(&self, id: &str, at: u64) -> String {
        format!("{}.{id}.{at}", self.names.snapshot)
    }

    /// Keeps a file as the snapshot up to an entry, unless there is a newer one.
    pub(super) async fn put(&self, upto: u64, file: &Path) -> Result<()> {
        streams::make(&self.place.link, &streams::snapshots(&self.names, self.place.replicas)).await?;
        let made = self.send(upto, file).await?;
        let mut tried = None;
        let before = loop {
            let before = self.newest().await?;
            if before.as_ref().is_some_and(|(_, newest)| *newest == made) {
                // An announcement that was given up arrived after all.
                break tried;
            }
            if before.as_ref().is_some_and(|(_, newest)| newest.upto >= upto) {
                return self.forget(&made.id).await;
            }
            // Who began long ago may find that its pieces were taken for what a dead process left.
            let first = messages::last(&self.place.link, &self.names.snapshots, &self.piece_subject(&made.id, 0)).await?;
            if !matches!(first, Found::Message(_)) {
                return Err(Error::unavailable("the snapshot took so long that its pieces are gone").with_next("make another"));
            }
            let number = before.as_ref().map_or(0, |(number, _)| *number);
            if self.announce(&made, number).await? {
                break before;
            }
            tried = before;
        };
        let Some((number, old)) = before else { return Ok(()) };
        self.forget(&old.id).await?;
        // What stands before both was left by processes that ended while they sent.
        let question = json!({"seq": number.min(made.first)});
        streams::purge(&self.place.link, &self.names.snapshots, &question).await
    }

    /// Sends the pieces of a file.
    async fn send(&self, upto: u64, file: &Path) -> Result<Newest> {
        let mut source = parts::open(file).await?;
        let size = PIECE.min(self.place.link.max_payload() - HEADER_BYTES);
        let id = fresh_name();
        let mut made = Newest { upto, id, pieces: 0, bytes: 0, sha256: String::new(), first: 0 };
        let mut digest = Sha256::new();
        loop {
            let mut pieces = Vec::new();
            while (pieces.len() as u64) < AT_ONCE {
                let (rest, piece) = parts::next(source, size).await?;
                source = rest;
                if piece.is_empty() {
                    break;
                }
                digest.update(&piece);
                made.bytes += piece.len() as u64;
                pieces.push((self.piece_subject(&made.id, made.pieces), Bytes::from(piece)));
                made.pieces += 1;
            }
            if pieces.is_empty() {
                break;
            }
            let numbers = try_join_all(pieces.into_iter().map(|(subject, piece)| self.publish(subject, piece))).await?;
            if made.first == 0 {
                made.first = numbers.into_iter().min().unwrap_or(0);
            }
        }
        made.sha256 = hex(&digest.finalize());
        Ok(made)
    }

    /// Publishes a piece until it is stored, once or more often: the pieces of one subject are all the same.
    async fn publish(&self, subject: String, piece: Bytes) -> Result<u64> {
        let link = &self.place.link;
        let mut pauses = link.pauses();
        loop {
            let why = match link.ask(&subject, Some(self.expected_stream()), piece.clone()).await {
                Ok(answer) => match Stored::read(&answer.payload)? {
                    Ok(stored) => return Ok(stored.seq),
                    Err(refusal) if refusal.passes() => refusal.description,
                    Err(refusal) => return Err(streams::refused("the server does not take the snapshot", &refusal)),
                },
                Err(NoAnswer::Nobody(why) | NoAnswer::Silence(why)) => why,
                Err(NoAnswer::NotSent(why)) => return Err(unavailable(&why)),
            };
            if !link.wait(&mut pauses).await {
                return Err(unavailable(&why));
            }
        }
    }

    fn expected_stream(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_STREAM, self.names.snapshots.as_str());
        headers
    }

    /// Makes a snapshot the one that counts, if the one before is still that of a number. False if it is not.
    async fn announce(&self, made: &Newest, number: u64) -> Result<bool> {
        let link = &self.place.link;
        let text = serde_json::to_vec(made).map_err(|e| Error::corrupt("a snapshot cannot be described").with_source(e))?;
        let mut headers = self.expected_stream();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, number.to_string());
        match link.ask(&self.newest_subject(), Some(headers), text.into()).await {
            Ok(answer) => match Stored::read(&answer.payload)? {
                Ok(_) => Ok(true),
                Err(refusal) if matches!(refusal.err_code, code::WRONG_LAST_SEQUENCE | code::WRONG_LAST_SEQUENCE_CONSTANT) => {
                    Ok(false)
                }
                Err(refusal) => Err(streams::refused("the server does not take the snapshot", &refusal)),
            },
            // Whether it was heard or not, what counts is what is there now.
            Err(NoAnswer::Nobody(_) | NoAnswer::Silence(_)) => {
                Ok(self.newest().await?.is_some_and(|(_, newest)| newest == *made))
            }
            Err(NoAnswer::NotSent(why)) => Err(unavailable(&why)),
        }
    }

    async fn forget(&self, id: &str) -> Result<()> {
        let question = json!({"filter": format!("{}.{id}.*", self.names.snapshot)});
        streams::purge(&self.place.link, &self.names.snapshots, &question).await
    }

    /// The snapshot that counts, with its message's number.
    async fn newest(&self) -> Result<Option<(u64, Newest)>> {
        match messages::last(&self.place.link, &self.names.snapshots, &self.newest_subject()).await? {
            Found::Message(message) => {
                let newest = serde_json::from_slice(&message.bytes)
                    .map_err(|e| Error::corrupt("the description of the newest snapshot does not read").with_source(e))?;
                Ok(Some((message.number, newest)))
            }
            Found::Nothing | Found::NoStream => Ok(None),
        }
    }

    /// Writes the newest snapshot into a file.
    pub(super) async fn get(&self, file: &Path) -> Result<Option<u64>> {
        let mut tried = None;
        for _ in 0..EXCHANGES {
            let Some((number, newest)) = self.newest().await? else { return Ok(None) };
            if tried == Some(number) {
                break;
            }
            tried = Some(number);
            if self.fetch(&newest, file).await? {
                return Ok(Some(newest.upto));
            }
        }
        Err(Error::corrupt("pieces of the newest snapshot are missing")
            .with("stream", &self.names.snapshots)
            .with_next("a process that has the store open makes another when the journal has grown"))
    }

    /// False if a piece is missing: then there is another snapshot by now.
    async fn fetch(&self, newest: &Newest, file: &Path) -> Result<bool> {
        let mut target = parts::create(file).await?;
        let mut digest = Sha256::new();
        let mut next = 0;
        while next < newest.pieces {
            let upto = newest.pieces.min(next + AT_ONCE);
            let pieces = (next..upto).map(|at| {
                let subject = self.piece_subject(&newest.id, at);
                async move { messages::last(&self.place.link, &self.names.snapshots, &subject).await }
            });
            for piece in try_join_all(pieces).await? {
                let Found::Message(piece) = piece else { return Ok(false) };
                digest.update(&piece.bytes);
                target = parts::append(target, piece.bytes).await?;
            }
            next = upto;
        }
        if hex(&digest.finalize()) == newest.sha256 {
            return Ok(true);
        }
        Err(Error::corrupt(format!("the snapshot up to entry {} is not what was sent", newest.upto))
            .with("stream", &self.names.snapshots)
            .with_next("restore the server's data from a copy"))
    }
}

/// Two processes may send snapshots at once. This name is for nothing else.
fn fresh_name() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}
