//! The outside of an entry: its number, its place in the chain, who wrote it.

use std::borrow::Cow;

use bytes::Bytes;
use millpond_core::{Error, Result};
use millpond_sqlite::Tail;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::hex::hex;

/// The version this program writes. An entry of a later one is refused.
const VERSION: u32 = 1;
/// Bytes of a digest that are kept: enough against accidents, which is what it is for.
const DIGEST_BYTES: usize = 16;
/// `,"sum":"` and `"}` around the digest.
const SUM_BYTES: usize = 8 + 2 * DIGEST_BYTES + 2;

/// Who wrote an entry, and which attempt it was: how a writer knows its own entry again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    /// The writer.
    pub(crate) by: String,
    /// The attempt; all parts of one change have the same.
    pub(crate) id: String,
}

/// An entry as read.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    /// The digest of the entry before it.
    pub(crate) previous: String,
    pub(crate) digest: String,
    pub(crate) signature: Signature,
    pub(crate) body: Body,
}

/// What an entry carries.
#[derive(Debug)]
pub(crate) enum Body {
    /// The text of a whole change.
    Change(String),
    /// A piece of one.
    Part { part: u32, of: u32, text: String },
}

#[derive(Deserialize)]
struct Line<'a> {
    v: u32,
    n: u64,
    prev: String,
    id: String,
    by: String,
    #[serde(default)]
    part: Option<u32>,
    #[serde(default)]
    of: Option<u32>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    change: Option<&'a RawValue>,
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..DIGEST_BYTES])
}

/// Escapes a text as JSON, quotes included.
pub(crate) fn quoted(text: &str) -> Result<String> {
    serde_json::to_string(text).map_err(|e| Error::invalid("a text cannot be written as JSON").with_source(e))
}

/// Writes the entries of a change, each at most `most` bytes, and tells where the journal stands after each.
pub(crate) fn encode(after: &Tail, signature: &Signature, change: &str, most: usize) -> Result<(Vec<Bytes>, Vec<Tail>)> {
    let mut tail = after.clone();
    let whole = line(&mut tail, signature, |out| {
        out.push_str("\"change\":");
        out.push_str(change);
        Ok(())
    })?;
    if whole.len() <= most {
        return Ok((vec![whole], vec![tail]));
    }
    let pieces = pieces(change, most.saturating_sub(400));
    let mut tail = after.clone();
    let (mut entries, mut tails) = (Vec::with_capacity(pieces.len()), Vec::with_capacity(pieces.len()));
    for (at, piece) in pieces.iter().enumerate() {
        entries.push(line(&mut tail, signature, |out| {
            out.push_str(&format!("\"part\":{},\"of\":{},\"text\":", at + 1, pieces.len()));
            out.push_str(&quoted(piece)?);
            Ok(())
        })?);
        tails.push(tail.clone());
    }
    Ok((entries, tails))
}

fn line(tail: &mut Tail, signature: &Signature, body: impl FnOnce(&mut String) -> Result<()>) -> Result<Bytes> {
    let number = tail.number + 1;
    let mut out = format!(
        "{{\"v\":{VERSION},\"n\":{number},\"prev\":\"{}\",\"id\":\"{}\",\"by\":\"{}\",",
        tail.digest, signature.id, signature.by
    );
    body(&mut out)?;
    let sum = digest(out.as_bytes());
    out.push_str(",\"sum\":\"");
    out.push_str(&sum);
    out.push_str("\"}");
    *tail = Tail { number, digest: sum };
    Ok(out.into())
}

/// Cuts a text into pieces that fit when they are escaped. Escaping makes a byte six at most.
fn pieces(text: &str, most: usize) -> Vec<&str> {
    let cost = |c: char| match c {
        '"' | '\\' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    let (mut pieces, mut start, mut size) = (Vec::new(), 0, 2);
    for (at, c) in text.char_indices() {
        if size + cost(c) > most && at > start {
            pieces.push(&text[start..at]);
            (start, size) = (at, 2);
        }
        size += cost(c);
    }
    pieces.push(&text[start..]);
    pieces
}

impl Entry {
    /// Reads an entry that the journal holds under a number.
    ///
    /// # Errors
    /// `Corrupt`, naming the entry, when it is damaged; `Unsupported` when a newer program wrote it.
    pub(crate) fn read(number: u64, bytes: &[u8]) -> Result<Self> {
        let damaged = |what: &str| {
            Error::corrupt(format!("journal entry {number} is damaged: {what}"))
                .with("entry", number)
                .with_next("restore the journal from a copy; entries before this one are whole")
        };
        let split = bytes.len().checked_sub(SUM_BYTES).ok_or_else(|| damaged("it is too short"))?;
        let (text, sum) = bytes.split_at(split);
        let sum =
            sum.strip_prefix(b",\"sum\":\"").and_then(|s| s.strip_suffix(b"\"}")).ok_or_else(|| damaged("it has no digest"))?;
        let digest = digest(text);
        if digest.as_bytes() != sum {
            return Err(damaged("its digest does not fit its text"));
        }
        let line: Line<'_> = serde_json::from_slice(bytes).map_err(|e| damaged("it does not read as an entry").with_source(e))?;
        if line.v > VERSION {
            return Err(Error::new(
                millpond_core::ErrorKind::Unsupported,
                format!("journal entry {number} has version {}; this program knows {VERSION}", line.v),
            )
            .with_next("use a newer millpond"));
        }
        if line.n != number {
            return Err(damaged(&format!("it says that it is entry {}", line.n)));
        }
        let body = match (line.change, line.part, line.of, line.text) {
            (Some(change), None, None, None) => Body::Change(change.get().to_owned()),
            (None, Some(part), Some(of), Some(text)) => Body::Part { part, of, text: text.into_owned() },
            _ => return Err(damaged("it is neither a change nor a part of one")),
        };
        let signature = Signature { by: line.by, id: line.id };
        Ok(Self { number, previous: line.prev, digest, signature, body })
    }

    /// Refuses an entry that does not follow what was seen before it.
    pub(crate) fn follow(&self, seen: &Tail) -> Result<()> {
        if self.number == seen.number + 1 && self.previous == seen.digest {
            return Ok(());
        }
        let next = "do not write; compare the journal with a copy: one that holds the entry named here is the right one";
        if self.number != seen.number + 1 {
            return Err(Error::corrupt(format!(
                "journal entry {} is missing: entry {} comes after {}",
                seen.number + 1,
                self.number,
                seen.number
            ))
            .with("entry", seen.number + 1)
            .with_next(next));
        }
        Err(Error::corrupt(format!(
            "the journal forked: entry {} follows an entry {} that is not the one seen before, so acknowledged history is lost",
            self.number, seen.number
        ))
        .with("entry", self.number)
        .with("seen", &seen.digest)
        .with("found", &self.previous)
        .with_next(next))
    }

    /// Where the journal stands with this entry.
    pub(crate) fn tail(&self) -> Tail {
        Tail { number: self.number, digest: self.digest.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        Signature { by: "w".into(), id: "a".into() }
    }

    #[test]
    fn a_change_comes_back_in_one_entry_or_in_parts() {
        let change = format!("{{\"x\":\"{}\"}}", "ä\\\\\\\"\\u0001".repeat(20_000));
        let (whole, tails) = encode(&Tail::default(), &signature(), &change, 1 << 30).unwrap();
        assert_eq!((whole.len(), tails.len(), tails[0].number), (1, 1, 1));
        let (parts, tails) = encode(&Tail::default(), &signature(), &change, 64 << 10).unwrap();
        assert!(parts.len() > 2);
        let mut text = String::new();
        let mut seen = Tail::default();
        for (at, bytes) in parts.iter().enumerate() {
            assert!(bytes.len() <= 64 << 10, "{}", bytes.len());
            let entry = Entry::read(at as u64 + 1, bytes).unwrap();
            entry.follow(&seen).unwrap();
            seen = entry.tail();
            assert_eq!(seen, tails[at]);
            match entry.body {
                Body::Part { text: piece, .. } => text.push_str(&piece),
                Body::Change(_) => panic!("a part was expected"),
            }
        }
        assert_eq!(text, change);
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let (entries, _) = encode(&Tail::default(), &signature(), "{\"x\":1}", 1 << 20).unwrap();
        for at in 0..entries[0].len() {
            let mut bytes = entries[0].to_vec();
            bytes[at] ^= 1;
            assert!(Entry::read(1, &bytes).is_err(), "byte {at}");
        }
        assert!(Entry::read(2, &entries[0]).is_err(), "read under another number");
    }

    #[test]
    fn a_fork_and_a_gap_are_named() {
        let (_, one) = encode(&Tail::default(), &signature(), "{\"x\":1}", 1 << 20).unwrap();
        let (other, _) = encode(&Tail { number: 1, digest: "0".repeat(32) }, &signature(), "{\"x\":2}", 1 << 20).unwrap();
        let entry = Entry::read(2, &other[0]).unwrap();
        assert!(entry.follow(&one[0]).unwrap_err().to_string().contains("entry 2 follows"));
        assert!(entry.follow(&Tail::default()).unwrap_err().to_string().contains("entry 1 is missing"));
    }
}
