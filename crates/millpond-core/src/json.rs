//! JSON as every backend keeps it: checked once, in one canonical text.
//!
//! Canonical means: object keys in byte order, no spaces, numbers in their shortest form. Refused, on every
//! backend alike, is what some backend could not give back unchanged: a NUL in a string, nesting deeper than
//! [`limits::JSON_DEPTH`], an integer outside of 64 bits, a decimal that a 64-bit float cannot hold.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::canonical::{self, is_canonical};
use crate::error::{Error, Result};
use crate::limits;

/// A checked JSON value in canonical text. Cheap to clone.
#[derive(Clone)]
pub struct Json {
    text: Arc<str>,
    /// The value, as long as the one who made it may still need it.
    parsed: Option<Arc<Value>>,
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Json {}

impl std::hash::Hash for Json {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Json {
    /// Checks JSON text and makes it canonical.
    ///
    /// # Errors
    /// `Invalid`, naming the place and the rule.
    pub fn parse(text: &str) -> Result<Self> {
        if is_canonical(text) {
            return Ok(Self::from_store(text));
        }
        Self::parse_any(text)
    }

    /// As [`Json::parse`], for text of any form.
    pub(crate) fn parse_any(text: &str) -> Result<Self> {
        check_numbers(text)?;
        let value: Value = serde_json::from_str(text).map_err(|e| {
            let message = e.to_string();
            if message.contains("recursion limit") { too_deep() } else { Error::invalid("not valid JSON").with_source(e) }
        })?;
        Self::from_owned(value)
    }

    /// Checks a value and writes its canonical text.
    ///
    /// # Errors
    /// `Invalid`, naming the place and the rule.
    pub fn from_value(value: &Value) -> Result<Self> {
        check(value, 0)?;
        Ok(Self::from_checked(value))
    }

    /// Serialises anything, then checks it.
    ///
    /// # Errors
    /// `Invalid` when it cannot be JSON or breaks a rule.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let value = serde_json::to_value(value).map_err(|e| Error::invalid("cannot be written as JSON").with_source(e))?;
        Self::from_owned(value)
    }

    pub(crate) fn from_checked(value: &Value) -> Self {
        Self::from_store(written(value))
    }

    /// Checks a value, writes its canonical text, and keeps both.
    ///
    /// # Errors
    /// `Invalid`, naming the place and the rule.
    pub fn from_owned(value: Value) -> Result<Self> {
        check(&value, 0)?;
        Ok(Self { text: written(&value).into(), parsed: Some(Arc::new(value)) })
    }

    /// This object with one more member, whose text is written already and so is not written again.
    ///
    /// # Errors
    /// `Invalid` when this is no object, has a member of that name already, or would be nested too deep.
    pub fn with_member(&self, name: &str, member: &Self) -> Result<Self> {
        let Value::Object(mut map) = self.with_value(Value::clone)? else {
            return Err(Error::invalid(format!("{name:?} cannot be added: this is no object")));
        };
        if map.contains_key(name) {
            return Err(Error::invalid(format!("there is a member {name:?} already")));
        }
        let value = member.with_value(Value::clone)?;
        check_text(name)?;
        check_depth(&value, 1)?;
        let mut text = String::with_capacity(self.len() + name.len() + member.len() + 8);
        let (before, after): (Vec<_>, Vec<_>) = map.iter().partition(|(other, _)| other.as_str() < name);
        for (name, value) in before {
            open_member(name, &mut text);
            canonical::write(value, &mut text);
        }
        open_member(name, &mut text);
        text.push_str(member.as_str());
        for (name, value) in after {
            open_member(name, &mut text);
            canonical::write(value, &mut text);
        }
        text.push('}');
        map.insert(name.to_owned(), value);
        Ok(Self { text: text.into(), parsed: Some(Arc::new(Value::Object(map))) })
    }

    pub(crate) fn forget_parsed(&mut self) {
        self.parsed = None;
    }

    /// Looks at the value without parsing it again where that can be avoided.
    pub(crate) fn with_value<T>(&self, look: impl FnOnce(&Value) -> T) -> Result<T> {
        match &self.parsed {
            Some(value) => Ok(look(value)),
            None => Ok(look(&self.value()?)),
        }
    }

    /// Takes canonical text back that a store kept.
    pub fn from_store(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), parsed: None }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Bytes of the canonical text.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Never true: the shortest JSON value has one byte.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The value.
    ///
    /// # Errors
    /// `Corrupt` when a store gave back text that is not JSON.
    pub fn value(&self) -> Result<Value> {
        serde_json::from_str(&self.text).map_err(|e| Error::corrupt("stored JSON does not parse").with_source(e))
    }

    /// Whether text that a store kept is undamaged: whether [`Json::value`] gives its value. Every reader and every check
    /// of an engine asks this one question, so that what one of them takes, none refuses.
    ///
    /// # Errors
    /// `Corrupt` when the text has no value: it is not JSON, or holds a number, an escape or a depth that no value has.
    pub fn check_text(&self) -> Result<()> {
        // What stores keep is canonical, and most of it is recognised at a glance. Skipping over the rest would not do:
        // a value is refused for more than its brackets.
        if is_canonical(&self.text) { Ok(()) } else { self.value().map(drop) }
    }

    /// The value as `T`.
    ///
    /// # Errors
    /// `Corrupt` when the document does not have the shape of `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.text)
            .map_err(|e| Error::corrupt(format!("the document is not a {}", short_type_name::<T>())).with_source(e))
    }
}

/// The canonical text of a checked value.
fn written(value: &Value) -> String {
    let mut text = String::new();
    canonical::write(value, &mut text);
    text
}

/// Writes what comes before a member's value.
fn open_member(name: &str, text: &mut String) {
    text.push(if text.is_empty() { '{' } else { ',' });
    canonical::write_string(name, text);
    text.push(':');
}

fn short_type_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    full.rsplit("::").next().unwrap_or(full)
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let value: Value = serde_json::from_str(&self.text).map_err(serde::ser::Error::custom)?;
        value.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(d)?;
        Self::from_value(&value).map_err(serde::de::Error::custom)
    }
}

fn too_deep() -> Error {
    Error::invalid(format!("JSON is nested deeper than {} levels", limits::JSON_DEPTH))
        .with_next("flatten it, or keep the deep part as text")
}

/// Walks a value: depth, NUL, numbers.
pub(crate) fn check(value: &Value, depth: usize) -> Result<()> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(n) => {
            if n.is_u64() && !n.is_i64() {
                return Err(number_out_of_range(&n.to_string()));
            }
            Ok(())
        }
        Value::String(s) => check_text(s),
        Value::Array(items) => {
            if depth >= limits::JSON_DEPTH {
                return Err(too_deep());
            }
            items.iter().try_for_each(|v| check(v, depth + 1))
        }
        Value::Object(map) => {
            if depth >= limits::JSON_DEPTH {
                return Err(too_deep());
            }
            map.iter().try_for_each(|(k, v)| check_text(k).and_then(|()| check(v, depth + 1)))
        }
    }
}

/// Walks a checked value once more, for it goes below something else.
fn check_depth(value: &Value, depth: usize) -> Result<()> {
    match value {
        Value::Array(_) | Value::Object(_) if depth >= limits::JSON_DEPTH => Err(too_deep()),
        Value::Array(items) => items.iter().try_for_each(|v| check_depth(v, depth + 1)),
        Value::Object(map) => map.values().try_for_each(|v| check_depth(v, depth + 1)),
        _ => Ok(()),
    }
}

fn check_text(s: &str) -> Result<()> {
    if s.as_bytes().contains(&0) {
        return Err(Error::invalid(format!("a JSON string holds a NUL character: {:?}", s.chars().take(40).collect::<String>()))
            .with_next("remove it or encode the text (base64)"));
    }
    Ok(())
}

fn number_out_of_range(token: &str) -> Error {
    Error::invalid(format!(
        "the number {token} does not fit 64-bit integers ({}..={}) nor a 64-bit float without loss",
        i64::MIN,
        i64::MAX
    ))
    .with_next("send it as a string")
}

/// Looks at every number of JSON text before a parser can round it.
fn check_numbers(text: &str) -> Result<()> {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => {
                i += 1;
                while i < bytes.len() && bytes[i] != b'"' {
                    i += if bytes[i] == b'\\' { 2 } else { 1 };
                }
                i += 1;
            }
            b'-' | b'0'..=b'9' => {
                let start = i;
                while i < bytes.len() && matches!(bytes[i], b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') {
                    i += 1;
                }
                let token = &text[start..i];
                if !number_survives(token) {
                    return Err(number_out_of_range(token));
                }
            }
            _ => i += 1,
        }
    }
    Ok(())
}

/// True when a number token comes back from storage as the same number: for readers of other texts than JSON.
pub fn number_survives(token: &str) -> bool {
    if !token.contains(['.', 'e', 'E']) {
        // "-0" is an integer token, but not an integer: it would come back as 0.
        return token != "-0" && token.parse::<i64>().is_ok() || !token.bytes().all(|b| b == b'-' || b.is_ascii_digit());
    }
    match token.parse::<f64>() {
        Ok(f) if f.is_finite() => decimal(token) == decimal(&format!("{f:e}")),
        Ok(_) => false,
        Err(_) => true, // Not a number at all: the parser says it better.
    }
}

/// Significant digits and exponent of a decimal token, so that `1.50e1` equals `15`.
fn decimal(token: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = match token.find(['e', 'E']) {
        Some(at) => (&token[..at], token[at + 1..].trim_start_matches('+').parse::<i64>().unwrap_or(0)),
        None => (token, 0),
    };
    let (negative, mantissa) = (mantissa.starts_with('-'), mantissa.trim_start_matches('-'));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let significant = digits.trim_matches('0').to_string();
    if significant.is_empty() {
        return (negative, significant, 0);
    }
    (negative, significant, exponent + whole.len() as i64 - leading as i64)
}

/// Reads the value at a JSON pointer (RFC 6901).
pub fn at<'v>(value: &'v Value, pointer: &str) -> Option<&'v Value> {
    value.pointer(pointer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_is_one_text() {
        let a = Json::parse("{ \"b\": 1.50, \"a\": [1e2, -0.0, 9007199254740993] }").expect("valid");
        assert_eq!(a.as_str(), "{\"a\":[100.0,-0.0,9007199254740993],\"b\":1.5}");
        assert_eq!(Json::parse(a.as_str()).expect("canonical text is valid"), a);
    }

    #[test]
    fn numbers_that_would_change_are_refused() {
        for bad in ["9223372036854775808", "-9223372036854775809", "1e400", "0.1000000000000000055", "1.00000000000000001", "-0"]
        {
            let error = Json::parse(&format!("{{\"n\":{bad}}}")).expect_err(bad);
            assert!(error.message().contains(bad), "{error}");
        }
        for good in [
            "9223372036854775807",
            "-9223372036854775808",
            "0.1",
            "1e-7",
            "5e-324",
            "1.7976931348623157e308",
            "0",
            "0.0",
            "1E+2",
            "100.00",
        ] {
            Json::parse(&format!("[{good}]")).expect(good);
        }
        assert!(Json::of(&u64::MAX).is_err());
        assert!(Json::parse("[\"1e999 is text\"]").is_ok());
    }

    #[test]
    fn a_member_goes_to_its_place() {
        let object = Json::parse("{\"b\":{\"c\":[1]},\"d\":1.5}").expect("valid");
        for name in ["a", "c", "e", "quo\"te"] {
            let member = Json::parse("{\"z\":[\"\\n\"]}").expect("valid");
            let more = object.with_member(name, &member).expect("an object");
            let mut plain = object.value().expect("value");
            plain[name] = member.value().expect("value");
            assert_eq!(more, Json::from_value(&plain).expect("valid"), "{name}");
            assert_eq!(more.with_value(Value::clone).expect("value"), plain);
        }
        assert_eq!(Json::parse("{}").expect("valid").with_member("a", &object).expect("ok").as_str().len(), object.len() + 6);
        let error = object.with_member("b", &object).expect_err("twice");
        assert!(error.message().contains("\"b\""), "{error}");
        object.with_member("x\0", &object).expect_err("NUL");
        Json::parse("[1]").expect("valid").with_member("a", &object).expect_err("no object");
        let deepest = Json::parse(&format!("{}1{}", "[".repeat(64), "]".repeat(64))).expect("64 levels");
        assert!(object.with_member("a", &deepest).expect_err("65 levels").message().contains("64 levels"));
    }

    #[test]
    fn depth_and_nul() {
        let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(Json::parse(&deep(64)).is_ok());
        assert!(Json::parse(&deep(65)).expect_err("65").message().contains("64 levels"));
        assert!(Json::parse(&deep(5_000)).expect_err("5000").message().contains("64 levels"));
        assert!(Json::parse("{\"a\":\"x\\u0000\"}").expect_err("nul").message().contains("NUL"));
        assert!(Json::parse("{\"a\\u0000\":1}").is_err());
    }
}
