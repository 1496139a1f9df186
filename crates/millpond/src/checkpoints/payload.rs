//! How a payload becomes records, and records a payload again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millpond_core::{Error, Json, Result, limits};
use serde_json::Value;

use super::model::{CheckpointInfo, NewCheckpoint, Payload, PayloadKind};
use crate::payloads::PayloadObject;
use crate::text::sha256_hex;

/// The largest payload of bytes that is kept in records: 6,225,920 bytes (6 MiB less 64 KiB).
///
/// Chunks of bytes are base64 text, four bytes for three, and with their keys they have to fit one commit of 8 MiB.
pub const CHECKPOINT_BYTES: usize = 6 * 1024 * 1024 - 64 * 1024;

/// The largest JSON payload that is kept in records: 8,257,536 bytes (8 MiB less 128 KiB) of its canonical text, each quote and each backslash
/// counted twice.
///
/// Chunks of JSON are pieces of that text, in a JSON string each, where a quote and a backslash take two bytes. The
/// 128 KiB are for the keys of the chunks and for the checkpoint's own record: all of it is one commit of 8 MiB. A
/// note or metadata beyond them have to be made up for by a smaller payload.
pub const CHECKPOINT_JSON_BYTES: usize = limits::COMMIT_BYTES - 128 * 1024;

/// A payload up to this size is kept in the checkpoint's own record: one row, and lists stay light.
pub(super) const INLINE_BYTES: usize = 64 * 1024;

/// Bytes of payload in one chunk record. As base64 text they are 983,040 bytes, below the 1 MiB of a document.
pub(super) const CHUNK_BYTES: usize = 720 * 1024;

/// A payload ready to be kept.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) kind: PayloadKind,
    pub(super) size: i64,
    pub(super) sha256: String,
    /// The payload inside the record.
    pub(super) inline: Option<Json>,
    /// The payload in pieces: of its JSON text, or of base64 text for bytes.
    pub(super) chunks: Vec<String>,
    /// The payload in an object.
    pub(super) object: Option<PayloadObject>,
}

/// The bytes of a payload that is too large for records.
pub(super) fn outside(new: &NewCheckpoint) -> Result<Option<(PayloadKind, Bytes)>> {
    match &new.payload {
        _ if new.stored.is_some() => Ok(None),
        Payload::Bytes(bytes) if bytes.len() > CHECKPOINT_BYTES => Ok(Some((PayloadKind::Bytes, bytes.clone().into()))),
        // Most payloads are far too small to need a look at their text.
        Payload::Json(value) if roughly(value) > CHECKPOINT_JSON_BYTES / 8 => {
            let text = Json::from_owned(value.clone())?;
            let too_large = text_chunks(text.as_str()).1 > CHECKPOINT_JSON_BYTES;
            Ok(too_large.then(|| (PayloadKind::Json, text.as_str().to_owned().into())))
        }
        _ => Ok(None),
    }
}

/// At least an eighth of the bytes of a value's text, found out without writing it.
fn roughly(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| roughly(item) + 1).sum::<usize>() + 2,
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + 4 + roughly(value)).sum::<usize>() + 2,
        _ => 4,
    }
}

/// Bytes of one piece of JSON text, written into a JSON string. The rest of a document is for the chunk's names.
pub(super) const CHUNK_TEXT_BYTES: usize = limits::DOCUMENT_BYTES - 16 * 1024;

/// Packs a payload.
pub(super) fn pack(new: &NewCheckpoint) -> Result<Packed> {
    if let Some(stored) = &new.stored {
        let size = i64::try_from(stored.object.length).unwrap_or(i64::MAX);
        let (kind, sha256) = (stored.kind, stored.object.sha256.clone());
        return Ok(Packed { kind, size, sha256, inline: None, chunks: Vec::new(), object: Some(stored.object.clone()) });
    }
    match &new.payload {
        Payload::Json(value) => {
            let text = Json::from_owned(value.clone())?;
            let inline = (text.len() <= INLINE_BYTES).then(|| text.clone());
            let (chunks, size) = match inline {
                Some(_) => (Vec::new(), 0),
                None => text_chunks(text.as_str()),
            };
            if size > CHECKPOINT_JSON_BYTES {
                return Err(too_large(format!(
                    "the checkpoint has {size} bytes of JSON, each quote and backslash counted twice; the limit is \
                     {CHECKPOINT_JSON_BYTES}, what fits a commit of {}",
                    limits::COMMIT_BYTES
                )));
            }
            Ok(packed(PayloadKind::Json, text.as_str().as_bytes(), inline, chunks))
        }
        Payload::Bytes(bytes) => {
            if bytes.len() > CHECKPOINT_BYTES {
                return Err(too_large(format!(
                    "the checkpoint has {} bytes; the limit is {CHECKPOINT_BYTES}, what fits a commit of {} as base64 text",
                    bytes.len(),
                    limits::COMMIT_BYTES
                )));
            }
            let inline = match bytes.len() {
                ..=INLINE_BYTES => Some(Json::from_owned(Value::String(STANDARD.encode(bytes)))?),
                _ => None,
            };
            let chunks = match inline {
                Some(_) => Vec::new(),
                None => bytes.chunks(CHUNK_BYTES).map(|piece| STANDARD.encode(piece)).collect(),
            };
            Ok(packed(PayloadKind::Bytes, bytes, inline, chunks))
        }
    }
}

fn too_large(message: String) -> Error {
    Error::invalid(message).with_next("save it with `save` or in a unit: those keep large payloads as objects")
}

fn packed(kind: PayloadKind, bytes: &[u8], inline: Option<Json>, chunks: Vec<String>) -> Packed {
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    Packed { kind, size, sha256: sha256_hex(bytes), inline, chunks, object: None }
}

/// Splits canonical JSON text between characters, so that no piece is larger than [`CHUNK_TEXT_BYTES`] once it is in a
/// JSON string; also how many bytes all pieces have there.
fn text_chunks(text: &str) -> (Vec<String>, usize) {
    let (mut chunks, mut begin, mut size, mut all) = (Vec::new(), 0, 0, 0);
    for (at, c) in text.char_indices() {
        // Canonical text has no control characters: these two are all that a JSON string writes otherwise.
        let bytes = if matches!(c, '"' | '\\') { 2 } else { c.len_utf8() };
        if size + bytes > CHUNK_TEXT_BYTES {
            chunks.push(text[begin..at].to_owned());
            (begin, size) = (at, 0);
        }
        size += bytes;
        all += bytes;
    }
    chunks.push(text[begin..].to_owned());
    (chunks, all)
}

/// A payload out of the bytes of its object, which were verified.
pub(super) fn of_object(info: &CheckpointInfo, bytes: &[u8]) -> Result<Payload> {
    match info.kind {
        PayloadKind::Bytes => Ok(Payload::Bytes(bytes.to_vec())),
        PayloadKind::Json => {
            let value = serde_json::from_slice(bytes).map_err(|e| damaged(info, "its payload is not JSON").with_source(e))?;
            Ok(Payload::Json(value))
        }
    }
}

/// Puts a payload together again and verifies it.
pub(super) fn unpack(info: &CheckpointInfo, inline: Option<Value>, chunks: &[String]) -> Result<Payload> {
    // A payload that is null reads back as absent; only chunks stand in for one that is.
    let inline = if info.chunks == 0 { inline.or(Some(Value::Null)) } else { inline };
    let payload = match (info.kind, inline) {
        (PayloadKind::Json, Some(value)) => {
            verify(info, value.to_string().as_bytes())?;
            Payload::Json(value)
        }
        (PayloadKind::Bytes, Some(Value::String(text))) => {
            let bytes = decode(info, &text)?;
            verify(info, &bytes)?;
            Payload::Bytes(bytes)
        }
        (PayloadKind::Bytes, Some(_)) => return Err(damaged(info, "its payload is not base64 text")),
        (PayloadKind::Json, None) => {
            let text = chunks.concat();
            verify(info, text.as_bytes())?;
            Payload::Json(serde_json::from_str(&text).map_err(|e| damaged(info, "its payload is not JSON").with_source(e))?)
        }
        (PayloadKind::Bytes, None) => {
            let mut bytes = Vec::with_capacity(usize::try_from(info.size).unwrap_or(0).min(CHECKPOINT_BYTES));
            for chunk in chunks {
                bytes.extend(decode(info, chunk)?);
            }
            verify(info, &bytes)?;
            Payload::Bytes(bytes)
        }
    };
    Ok(payload)
}

fn decode(info: &CheckpointInfo, text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|e| damaged(info, "its payload is not base64 text").with_source(e))
}

fn verify(info: &CheckpointInfo, bytes: &[u8]) -> Result<()> {
    let found = sha256_hex(bytes);
    if found != info.sha256 {
        return Err(damaged(info, &format!("its payload has SHA-256 {found}, not {}", info.sha256)));
    }
    Ok(())
}

/// The error for a checkpoint that does not read back.
pub(super) fn damaged(info: &CheckpointInfo, why: &str) -> Error {
    Error::corrupt(format!("checkpoint {} of {} is damaged: {why}", info.version, info.scope))
        .with_next("load an older version; millpond checkpoints list shows them")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use millpond_core::{ErrorKind, Timestamp};

    fn info(packed: &Packed) -> CheckpointInfo {
        CheckpointInfo {
            scope: "run/r".into(),
            version: 1,
            created_at: Timestamp::default(),
            parent: None,
            restored_from: None,
            kind: packed.kind,
            size: packed.size,
            sha256: packed.sha256.clone(),
            chunks: u32::try_from(packed.chunks.len()).expect("few"),
            object: None,
            note: None,
            metadata: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let large = "x".repeat(3 * CHUNK_BYTES + 1);
        let bytes: Vec<u8> = (0..=255u8).cycle().take(CHUNK_BYTES * 2).collect();
        let quotes = "\"é\\\n".repeat(CHUNK_TEXT_BYTES / 3);
        let payloads = [
            NewCheckpoint::json(&quotes).expect("json"),
            NewCheckpoint::json(&serde_json::json!({"n": 1.5, "deep": [null, true]})).expect("json"),
            NewCheckpoint::json(&large).expect("json"),
            NewCheckpoint::bytes(vec![0, 255, 7]),
            NewCheckpoint::bytes(Vec::new()),
            NewCheckpoint::bytes(bytes),
        ];
        for new in payloads {
            let packed = pack(&new).expect("packs");
            assert_eq!(packed.chunks.is_empty(), packed.size <= INLINE_BYTES as i64);
            let info = info(&packed);
            let inline = packed.inline.map(|json| json.value().expect("JSON"));
            assert_eq!(unpack(&info, inline, &packed.chunks).expect("unpacks"), new.payload);
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut packed = pack(&NewCheckpoint::bytes(vec![7; CHUNK_BYTES + 1])).expect("packs");
        let info = info(&packed);
        packed.chunks[1] = STANDARD.encode([8]);
        assert_eq!(unpack(&info, None, &packed.chunks).expect_err("damaged").kind(), ErrorKind::Corrupt);
        packed.chunks.pop();
        assert_eq!(unpack(&info, None, &packed.chunks).expect_err("short").kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn no_piece_of_text_is_larger_than_a_document_takes() {
        for piece in ["x", "\"", "\\", "é\"", "\u{1}\t", "😀\\"] {
            let packed = pack(&NewCheckpoint::json(&piece.repeat(1_200_000 / piece.len())).expect("json")).expect("packs");
            let sizes: Vec<usize> = packed.chunks.iter().map(|c| serde_json::to_string(c).expect("writes").len() - 2).collect();
            assert!(sizes.len() > 1 && sizes.iter().all(|s| *s <= CHUNK_TEXT_BYTES), "{piece:?}: {sizes:?}");
            assert!(sizes[0] > CHUNK_TEXT_BYTES - 4, "the first piece of {piece:?} is not full: {sizes:?}");
        }
    }

    #[test]
    fn the_limit_is_exact() {
        pack(&NewCheckpoint::bytes(vec![0; CHECKPOINT_BYTES])).expect("at the limit");
        let error = pack(&NewCheckpoint::bytes(vec![0; CHECKPOINT_BYTES + 1])).expect_err("beyond");
        assert!(error.message().contains("6225921") && error.message().contains("6225920"), "{error}");
        // Two quotes around the text, counted twice; a quote inside is `\"`, and both of that count twice.
        for (part, bytes) in [("x", 1), ("\"", 4)] {
            let most = (CHECKPOINT_JSON_BYTES - 4) / bytes;
            pack(&NewCheckpoint::json(&part.repeat(most)).expect("json")).expect("at the limit");
            let error = pack(&NewCheckpoint::json(&part.repeat(most + 1)).expect("json")).expect_err("beyond");
            let counted = (4 + (most + 1) * bytes).to_string();
            assert!(error.message().contains(&counted) && error.message().contains("8257536"), "{error}");
        }
    }
}
