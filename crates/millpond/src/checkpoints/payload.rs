//! How a payload becomes records, and records a payload again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millpond_core::{Error, Json, Result};
use serde_json::Value;

use super::model::{CheckpointInfo, NewCheckpoint, Payload, PayloadKind};
use crate::text::sha256_hex;

/// The largest payload: 6,225,920 bytes (6 MiB less 64 KiB), of the canonical JSON text or of the bytes themselves.
///
/// Chunks are base64 text, four bytes for three, and with their keys they have to fit one commit of 8 MiB.
pub const CHECKPOINT_BYTES: usize = 6 * 1024 * 1024 - 64 * 1024;

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
    pub(super) inline: Option<Value>,
    /// The payload as pieces of base64 text.
    pub(super) chunks: Vec<String>,
}

/// Packs a payload.
pub(super) fn pack(new: &NewCheckpoint) -> Result<Packed> {
    match &new.payload {
        Payload::Json(value) => {
            let text = Json::from_value(value)?;
            let inline = (text.len() <= INLINE_BYTES).then(|| value.clone());
            packed(PayloadKind::Json, text.as_str().as_bytes(), inline)
        }
        Payload::Bytes(bytes) => {
            let inline = (bytes.len() <= INLINE_BYTES).then(|| Value::String(STANDARD.encode(bytes)));
            packed(PayloadKind::Bytes, bytes, inline)
        }
    }
}

fn packed(kind: PayloadKind, bytes: &[u8], inline: Option<Value>) -> Result<Packed> {
    if bytes.len() > CHECKPOINT_BYTES {
        return Err(Error::invalid(format!("the checkpoint has {} bytes; the limit is {CHECKPOINT_BYTES}", bytes.len()))
            .with_next("keep large data as files of your own and name them in the checkpoint"));
    }
    let chunks = match inline {
        Some(_) => Vec::new(),
        None => bytes.chunks(CHUNK_BYTES).map(|piece| STANDARD.encode(piece)).collect(),
    };
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    Ok(Packed { kind, size, sha256: sha256_hex(bytes), inline, chunks })
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
        (kind, None) => {
            let mut bytes = Vec::with_capacity(usize::try_from(info.size).unwrap_or(0).min(CHECKPOINT_BYTES));
            for chunk in chunks {
                bytes.extend(decode(info, chunk)?);
            }
            verify(info, &bytes)?;
            match kind {
                PayloadKind::Bytes => Payload::Bytes(bytes),
                PayloadKind::Json => Payload::Json(
                    serde_json::from_slice(&bytes).map_err(|e| damaged(info, "its payload is not JSON").with_source(e))?,
                ),
            }
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
            note: None,
            metadata: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let large = "x".repeat(3 * CHUNK_BYTES + 1);
        let bytes: Vec<u8> = (0..=255u8).cycle().take(CHUNK_BYTES * 2).collect();
        let payloads = [
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
            assert_eq!(unpack(&info, packed.inline, &packed.chunks).expect("unpacks"), new.payload);
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
    fn the_limit_is_exact() {
        pack(&NewCheckpoint::bytes(vec![0; CHECKPOINT_BYTES])).expect("at the limit");
        let error = pack(&NewCheckpoint::bytes(vec![0; CHECKPOINT_BYTES + 1])).expect_err("beyond");
        assert!(error.message().contains("6225921") && error.message().contains("6225920"), "{error}");
    }
}
