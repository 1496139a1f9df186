//! Small conversions that several domains share: digests, key segments, times that merges can compare.

use sha2::{Digest, Sha256};

/// SHA-256 as lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The beginning of a text, of at most so many bytes: whole characters.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

/// A digest that [`hex`] wrote.
pub(crate) fn bytes_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
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

/// The text that [`key_segment`] made a segment of; a segment that it cannot have made is taken as it is.
pub(crate) fn of_key_segment(segment: &str) -> String {
    let decoded = || {
        let (mut bytes, mut rest) = (Vec::with_capacity(segment.len()), segment.as_bytes());
        while let [first, more @ ..] = rest {
            rest = match (first, more) {
                (b'%', [high, low, more @ ..]) => {
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&[*high, *low]).ok()?, 16).ok()?);
                    more
                }
                _ => {
                    bytes.push(*first);
                    more
                }
            };
        }
        String::from_utf8(bytes).ok()
    };
    let text = if segment == "%" { Some(String::new()) } else { decoded() };
    text.filter(|text| key_segment(text) == segment).unwrap_or_else(|| segment.to_owned())
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
        for text in texts.into_iter().chain(["100 %25", "ü/ö%"]) {
            assert_eq!(of_key_segment(&key_segment(text)), text);
        }
        for segment in ["100 %", "%zz", "%41", "a%"] {
            assert_eq!(of_key_segment(segment), segment, "no text has this segment");
        }
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
