//! Snapshots: pieces under keys of their own, and a pointer that is written when all of them are there.
//!
//! ```text
//!   BASE:snapshot                          "<upto> <id> <pieces> <sha-256>"
//!   BASE:snapshot:ids                      how many were begun: the last id given out
//!   BASE:snapshot:<upto>-<id>:<number>     a piece; expires by itself until the pointer names it
//! ```

use std::path::Path;

use millpond_core::{Error, Result};
use redis::Value;
use sha2::{Digest as _, Sha256};

use super::errors::unreadable;
use super::link::{Link, Sending};
use super::scripts;
use crate::drivers::pieces;
use crate::hex::hex;

/// Bytes of a piece.
const PIECE: usize = 4 << 20;
/// How long a piece stays when whoever writes the snapshot goes away.
const UNFINISHED_S: u64 = 3_600;
/// Snapshots that are begun to be read at most, each time because a newer one took the place of the last.
const TRIES: u32 = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Snapshots {
    link: Link,
    pointer: String,
}

/// What the pointer says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pointer {
    upto: u64,
    id: String,
    pieces: u64,
    digest: String,
}

impl Pointer {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let pointer = Self {
            upto: parts.next()?.parse().ok()?,
            id: parts.next()?.to_owned(),
            pieces: parts.next()?.parse().ok()?,
            digest: parts.next()?.to_owned(),
        };
        parts.next().is_none().then_some(pointer)
    }

    fn text(&self) -> String {
        format!("{} {} {} {}", self.upto, self.id, self.pieces, self.digest)
    }
}

impl Snapshots {
    pub(super) fn new(link: Link, base: &str) -> Self {
        Self { link, pointer: pointer_key(base) }
    }

    fn piece(&self, upto: u64, id: &str, number: u64) -> String {
        format!("{}:{upto}-{id}:{number}", self.pointer)
    }

    /// Keeps a file as the snapshot up to an entry; the older one goes.
    pub(super) async fn put(&self, upto: u64, file: &Path) -> Result<()> {
        let id = self.next_id().await?;
        let (mut file, mut digest, mut pieces) = (pieces::open(file).await?, Sha256::new(), 0);
        loop {
            let (back, piece) = pieces::next(file, PIECE).await?;
            if piece.is_empty() {
                break;
            }
            file = back;
            digest.update(&piece);
            let mut command = redis::cmd("SET");
            command.arg(self.piece(upto, &id, pieces)).arg(piece).arg("EX").arg(UNFINISHED_S);
            self.link.call(command, Sending::Repeatable).await?;
            pieces += 1;
        }
        let digest = hex(&digest.finalize());
        self.point_to(&Pointer { upto, id, pieces, digest }).await
    }

    /// An id that nobody else has: two processes may write a snapshot of the same entry at once.
    async fn next_id(&self) -> Result<String> {
        let mut command = redis::cmd("INCR");
        command.arg(self.ids());
        match self.link.call(command, Sending::Repeatable).await? {
            Value::Int(id) => Ok(id.to_string()),
            _ => Err(unreadable("a number")),
        }
    }

    fn ids(&self) -> String {
        format!("{}:ids", self.pointer)
    }

    async fn point_to(&self, pointer: &Pointer) -> Result<()> {
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::KEEP_SNAPSHOT).arg(pointer.pieces + 1).arg(&self.pointer);
        for number in 0..pointer.pieces {
            command.arg(self.piece(pointer.upto, &pointer.id, number));
        }
        command.arg(pointer.upto).arg(pointer.text());
        let replaced = match self.link.call(command, Sending::Once).await {
            // It may be the snapshot now, so its pieces stay; if it is not, they stay until the next one.
            Err(error) => return Err(error),
            Ok(Value::Nil) => return Ok(()),
            Ok(Value::BulkString(text)) => text,
            Ok(_) => return Err(unreadable("a snapshot")),
        };
        match std::str::from_utf8(&replaced).ok().and_then(Pointer::read) {
            Some(old) => self.remove_pieces(&old).await,
            None => Ok(()),
        }
    }

    async fn remove_pieces(&self, pointer: &Pointer) -> Result<()> {
        for number in 0..pointer.pieces {
            let mut command = redis::cmd("UNLINK");
            command.arg(self.piece(pointer.upto, &pointer.id, number));
            self.link.call(command, Sending::Repeatable).await?;
        }
        Ok(())
    }

    async fn newest(&self) -> Result<Option<Pointer>> {
        let mut command = redis::cmd("GET");
        command.arg(&self.pointer);
        match self.link.call(command, Sending::Read).await? {
            Value::Nil => Ok(None),
            Value::BulkString(text) => {
                let pointer = std::str::from_utf8(&text).ok().and_then(Pointer::read);
                pointer.map(Some).ok_or_else(|| Error::corrupt(format!("{} does not read back", self.pointer)))
            }
            _ => Err(unreadable("a snapshot")),
        }
    }

    /// Writes the newest snapshot into a new file.
    pub(super) async fn get(&self, file: &Path) -> Result<Option<u64>> {
        let mut missing = None;
        for _ in 0..TRIES {
            let Some(pointer) = self.newest().await? else { return Ok(None) };
            if missing.as_ref() == Some(&pointer) {
                break;
            }
            if self.copy(&pointer, file).await? {
                return Ok(Some(pointer.upto));
            }
            // A newer one has taken its place, or a piece of it was lost.
            missing = Some(pointer);
        }
        Err(Error::corrupt("a piece of the newest snapshot is missing in Redis")
            .with("pointer", &self.pointer)
            .with_next("restore the server's data from a copy"))
    }

    /// Copies a snapshot. False when a piece of it is not there any more.
    async fn copy(&self, pointer: &Pointer, file: &Path) -> Result<bool> {
        let mut target = pieces::create(file).await?;
        let mut digest = Sha256::new();
        for number in 0..pointer.pieces {
            let mut command = redis::cmd("GET");
            command.arg(self.piece(pointer.upto, &pointer.id, number));
            let Value::BulkString(piece) = self.link.call(command, Sending::Read).await? else { return Ok(false) };
            digest.update(&piece);
            target = pieces::append(target, piece).await?;
        }
        if hex(&digest.finalize()) == pointer.digest {
            return Ok(true);
        }
        Err(Error::corrupt("the newest snapshot in Redis is not what was written")
            .with("pointer", &self.pointer)
            .with_next("restore the server's data from a copy"))
    }

    /// Removes the snapshot.
    pub(super) async fn remove(&self) -> Result<()> {
        if let Some(pointer) = self.newest().await? {
            self.remove_pieces(&pointer).await?;
        }
        let mut command = redis::cmd("UNLINK");
        command.arg(&self.pointer).arg(self.ids());
        self.link.call(command, Sending::Repeatable).await.map(drop)
    }
}

fn pointer_key(base: &str) -> String {
    format!("{base}:snapshot")
}
