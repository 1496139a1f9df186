//! Small conversions that several domains share: digests, key segments, times that merges can compare.

use sha2::{Digest, Sha256};

/// SHA-256 as lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    Sha256::digest(bytes).iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

/// Any text as one segment of a key: what a key cannot hold, and `/`, is written as `%XX`.
///
/// Two different texts give two different segments, so keys made of several never meet by accident.
pub(crate) fn key_segment(text: &str) -> String {
    use std::fmt::Write as _;
    if text.is_empty() {
        return "%".to_owned();
    }
    let all_dots = matches!(text, "." | "..");
    let mut segment = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '/' || c == '%' || c.is_control() || all_dots {
            let mut bytes = [0u8; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(segment, "%{byte:02X}");
            }
        } else {
            segment.push(c);
        }
    }
    segment
}

/// A moment kept as integer microseconds, so that merges can take the smaller or larger of two.
pub(crate) mod micros {
    use millpond_core::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.as_micros())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::Key;

    #[test]
    fn every_text_is_a_segment_of_its_own() {
        let texts = ["", ".", "..", "a", "a/b", "a%2Fb", "%", "a\nb", "ä", "a.b"];
        let segments: std::collections::BTreeSet<String> = texts.iter().map(|t| key_segment(t)).collect();
        assert_eq!(segments.len(), texts.len(), "{segments:?}");
        for segment in &segments {
            assert!(!segment.contains('/'), "{segment}");
            Key::new(segment.as_str()).expect("a key");
        }
    }

    #[test]
    fn digests_are_hexadecimal() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
