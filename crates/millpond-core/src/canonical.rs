//! Canonical JSON text: written quickly, and recognised in one pass without building a value.
//!
//! Most text that reaches a store was written by a program that keeps to the canonical form, or was canonical when it
//! left another store. Reading such text into a value, only to write the very same text again, is most of what taking
//! in an event costs. The answer here is only ever "yes, certainly" or "not certainly": text that is refused here goes
//! the long way, which makes it canonical or says what is wrong with it.

use serde_json::Value;

use crate::limits;

/// Digits that every 64-bit integer can have, whatever they are.
const SAFE_DIGITS: usize = 18;

/// Bytes looked at together for one that has to be escaped: without a way out in the middle, all at once.
const BLOCK: usize = 32;

/// Bytes that a JSON string cannot hold as they are.
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Where the first byte is that has to be escaped, or the end.
fn plain_length(bytes: &[u8]) -> usize {
    let clean = |block: &&[u8]| !block.iter().fold(false, |found, byte| found | is_special(*byte));
    let skipped = bytes.chunks_exact(BLOCK).take_while(clean).count() * BLOCK;
    bytes.iter().skip(skipped).position(|byte| is_special(*byte)).map_or(bytes.len(), |at| skipped + at)
}

/// Writes the canonical text of a value: as serde_json writes it, but long strings without looking at each byte by itself.
pub(crate) fn write(value: &Value, text: &mut String) {
    match value {
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                text.push(if i == 0 { '[' } else { ',' });
                write(item, text);
            }
            text.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Value::Object(members) => {
            for (i, (name, member)) in members.iter().enumerate() {
                text.push(if i == 0 { '{' } else { ',' });
                write_string(name, text);
                text.push(':');
                write(member, text);
            }
            text.push_str(if members.is_empty() { "{}" } else { "}" });
        }
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(_) => text.push_str(&value.to_string()),
    }
}

/// Writes a string with its quotes.
pub(crate) fn write_string(string: &str, text: &mut String) {
    if plain_length(string.as_bytes()) < string.len() {
        text.push_str(&Value::from(string).to_string());
        return;
    }
    text.reserve(string.len() + 2);
    text.push('"');
    text.push_str(string);
    text.push('"');
}

/// True when the text is certainly one JSON value in canonical form that breaks no rule.
///
/// Not recognised, and left to the long way: decimals, integers of more than eighteen digits, escapes in strings.
pub(crate) fn is_canonical(text: &str) -> bool {
    let mut scan = Scan { text: text.as_bytes(), at: 0 };
    scan.value(0) && scan.at == scan.text.len()
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Scan<'t> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn value(&mut self, depth: usize) -> bool {
        match self.peek() {
            Some(b'"') => self.string().is_some(),
            Some(b'{') => depth < limits::JSON_DEPTH && self.object(depth),
            Some(b'[') => depth < limits::JSON_DEPTH && self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => false,
        }
    }

    /// The bytes between the quotes. Text is UTF-8 already; what would be escaped, or is, is not recognised.
    fn string(&mut self) -> Option<&'t [u8]> {
        if self.next() != Some(b'"') {
            return None;
        }
        let rest = self.text.get(self.at..)?;
        let end = plain_length(rest);
        self.at += end + 1;
        (rest.get(end) == Some(&b'"')).then(|| rest.get(..end)).flatten()
    }

    fn object(&mut self, depth: usize) -> bool {
        self.at += 1;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return true;
        }
        let mut last: Option<&[u8]> = None;
        loop {
            let Some(name) = self.string() else { return false };
            // In byte order, and no name twice.
            if last.is_some_and(|last| last >= name) || self.next() != Some(b':') || !self.value(depth + 1) {
                return false;
            }
            last = Some(name);
            match self.next() {
                Some(b',') => {}
                end => return end == Some(b'}'),
            }
        }
    }

    fn array(&mut self, depth: usize) -> bool {
        self.at += 1;
        if self.peek() == Some(b']') {
            self.at += 1;
            return true;
        }
        loop {
            if !self.value(depth + 1) {
                return false;
            }
            match self.next() {
                Some(b',') => {}
                end => return end == Some(b']'),
            }
        }
    }

    /// An integer of at most eighteen digits, without a zero in front and not `-0`, that is not the beginning of a decimal.
    fn integer(&mut self) -> bool {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = self.at - begin;
        let leading_zero = self.text.get(begin) == Some(&b'0') && (negative || digits > 1);
        (1..=SAFE_DIGITS).contains(&digits) && !leading_zero && !matches!(self.peek(), Some(b'.' | b'e' | b'E'))
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let found = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word));
        self.at += word.len();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;
    use proptest::prelude::*;

    /// Pieces that texts are made of: valid and not, canonical and not.
    const PIECES: [&str; 34] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\"",
        "\"é\"",
        "\"\"",
        "\"\\n\"",
        "\"\\u0000\"",
        "\"\u{7f}\"",
        "\"",
        "0",
        "-0",
        "1",
        "-1",
        "01",
        "-",
        "1.5",
        "1e2",
        "999999999999999999",
        "9223372036854775807",
        "9223372036854775808",
        "true",
        "false",
        "null",
        "nul",
        " ",
        "\n",
        "{\"a\":1}",
        "[1,2]",
        "\"\t\"",
    ];

    fn long_way(text: &str) -> Option<String> {
        Json::parse_any(text).ok().map(|json| json.as_str().to_owned())
    }

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| serde_json::json!(f)),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::btree_map("[a-c\"é]{0,3}", inner, 0..5)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_is_recognised_is_what_the_long_way_writes(pieces in prop::collection::vec(0..PIECES.len(), 0..9)) {
            let text: String = pieces.into_iter().map(|i| PIECES[i]).collect();
            if is_canonical(&text) {
                prop_assert_eq!(long_way(&text), Some(text));
            }
        }

        #[test]
        fn values_are_written_as_serde_json_writes_them(value in values(), long in ".{0,80}[\"\\\\\n]?.{0,40}") {
            for value in [value, long.into()] {
                let mut text = String::new();
                write(&value, &mut text);
                prop_assert_eq!(text, value.to_string());
            }
        }

        #[test]
        fn canonical_text_without_decimals_and_escapes_is_recognised(value in values()) {
            let Some(text) = long_way(&value.to_string()) else { return Ok(()) };
            let simple = !text.contains('\\') && !text.contains('.') && !has_long_integer(&text) && !text.contains("e");
            prop_assert!(is_canonical(&text) || !simple, "{}", text);
        }
    }

    fn has_long_integer(text: &str) -> bool {
        text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > SAFE_DIGITS)
    }

    #[test]
    fn the_order_of_names_and_the_depth_count() {
        assert!(is_canonical("{\"a\":{\"b\":[1,-20,\"x\"]},\"b\":null}"));
        for other in
            ["{\"b\":1,\"a\":1}", "{\"a\":1,\"a\":1}", "{\"a\":1,}", "[1,]", "[1 ]", "", "1 ", "1,2", "tru", "\"a", "{\"a\"}"]
        {
            assert!(!is_canonical(other), "{other}");
        }
        let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(is_canonical(&deep(limits::JSON_DEPTH)) && !is_canonical(&deep(limits::JSON_DEPTH + 1)));
    }
}
