//! Names: what may be a key, a stream, a collection or a namespace.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::limits;

/// Checks a key or stream name: UTF-8, 1–2,048 bytes, no control characters, no empty, `.` or `..` segment.
fn check_path(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(format!("{what} is empty")).with_next("give it at least one character"));
    }
    if name.len() > limits::NAME_BYTES {
        return Err(Error::invalid(format!(
            "{what} has {} bytes; the limit is {} (it begins {:?})",
            name.len(),
            limits::NAME_BYTES,
            name.chars().take(40).collect::<String>()
        )));
    }
    if let Some(c) = name.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(format!("{what} {name:?} holds the control character U+{:04X}", c as u32)));
    }
    for segment in name.split('/') {
        if segment.is_empty() {
            return Err(Error::invalid(format!("{what} {name:?} has an empty segment"))
                .with_next("remove the leading, trailing or doubled slash"));
        }
        if segment == "." || segment == ".." {
            return Err(Error::invalid(format!("{what} {name:?} has the segment {segment:?}, which is not allowed")));
        }
    }
    Ok(())
}

/// Checks a collection or namespace name: 1–64 bytes of a–z, 0–9, `_` and `-`, beginning with a letter.
fn check_short(what: &str, name: &str) -> Result<()> {
    let ok = name.len() <= limits::SHORT_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if ok {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{what} {:?} ({} bytes) is not 1–{} of a–z, 0–9, '_' and '-' beginning with a letter",
        name.chars().take(80).collect::<String>(),
        name.len(),
        limits::SHORT_NAME_BYTES
    )))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks the name and keeps it.
            ///
            /// # Errors
            /// `Invalid`, naming the rule and what was found.
            pub fn new(name: impl Into<Arc<str>>) -> Result<Self> {
                let name = name.into();
                $check($what, &name)?;
                Ok(Self(name))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Takes a name back that a store wrote after it had been checked.
            pub fn from_store(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self> {
                Self::new(s)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = Error;
            fn try_from(s: &str) -> Result<Self> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(s: String) -> Result<Self> {
                Self::new(s)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// The key of a record inside its collection.
    Key, "key", check_path
);
name_type!(
    /// The name of an event stream.
    StreamName, "stream name", check_path
);
name_type!(
    /// The name of a collection: it becomes a table's name, so it is short and plain.
    CollectionName, "collection name", check_short
);
name_type!(
    /// The name of a namespace by itself.
    NamespaceName, "namespace name", check_short
);

/// A namespace: the unit of atomicity, order and replication.
///
/// A handle that was opened is bound to the store id it found: engines refuse it once the namespace has been deleted,
/// also when one of the same name has been made since. Two are equal when their names are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespace {
    name: NamespaceName,
    #[serde(skip)]
    store_id: Option<Arc<str>>,
}

impl Namespace {
    /// The namespace that comes into being by itself.
    pub const DEFAULT: &'static str = "default";

    /// Checks the name and keeps it.
    ///
    /// # Errors
    /// `Invalid`, naming the rule and what was found.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self> {
        Ok(Self { name: NamespaceName::new(name)?, store_id: None })
    }

    /// Takes a name back that a store wrote after it had been checked.
    pub fn from_store(name: impl Into<Arc<str>>) -> Self {
        Self { name: NamespaceName::from_store(name), store_id: None }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.name.as_str()
    }

    /// The same namespace, bound to what was found when it was opened.
    #[must_use]
    pub fn bound(self, store_id: &str) -> Self {
        Self { store_id: Some(store_id.into()), ..self }
    }

    /// The store id it is bound to.
    pub fn store_id(&self) -> Option<&str> {
        self.store_id.as_deref()
    }

    /// Refuses a namespace that is bound to another store id than the one found. Engines call it wherever they look
    /// a namespace up, in the same transaction as what they do in it.
    ///
    /// # Errors
    /// `NotFound`: the namespace this handle was opened on is gone.
    pub fn check_is(&self, found: &str) -> Result<()> {
        match &self.store_id {
            Some(own) if **own != *found => Err(Error::not_found(format!(
                "namespace {:?} was deleted, and another of that name was made; this handle belongs to the old one",
                self.as_str()
            ))
            .with_next("open it again")),
            _ => Ok(()),
        }
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Namespace {}

impl PartialOrd for Namespace {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Namespace {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(&other.name)
    }
}

impl std::hash::Hash for Namespace {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name, f)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name, f)
    }
}

impl std::str::FromStr for Namespace {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Self::new(s)
    }
}

impl TryFrom<&str> for Namespace {
    type Error = Error;
    fn try_from(s: &str) -> Result<Self> {
        Self::new(s)
    }
}

impl Borrow<str> for Namespace {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::from_store(Self::DEFAULT)
    }
}

/// A record's identity inside a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The collection.
    pub collection: CollectionName,
    /// The key.
    pub key: Key,
}

impl RecordId {
    /// Checks both names.
    ///
    /// # Errors
    /// `Invalid` when one of the names breaks a rule.
    pub fn new(collection: &str, key: &str) -> Result<Self> {
        Ok(Self { collection: CollectionName::new(collection)?, key: Key::new(key)? })
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_some_backend_cannot_hold() {
        for bad in ["", "/a", "a/", "a//b", ".", "a/../b", "a/./b", "nul\0", "tab\t", "del\u{7f}"] {
            let error = Key::new(bad).expect_err(bad);
            assert_eq!(error.kind(), crate::ErrorKind::Invalid, "{bad:?}");
        }
        assert!(Key::new("x".repeat(2_048)).is_ok());
        let error = Key::new("é".repeat(1_025)).expect_err("2,050 bytes");
        assert!(error.message().contains("2050 bytes; the limit is 2048"), "{error}");
        for good in ["a", "a/b", "...", "a b", "ü/日本", "a.b", "%2F", "\\"] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "a.b", "a/b", "é"] {
            assert!(CollectionName::new(bad).is_err(), "{bad}");
        }
        assert!(CollectionName::new("x".repeat(65)).is_err());
    }
}
