//! A configuration's text as a tree in which everything knows its line.

use millpond_core::{Error, Result};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

/// Bytes of a configuration at most.
const TEXT_BYTES: usize = 256 << 10;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
    List,
    Nothing,
}

/// Reads a text. `name` is the file's name, for errors.
///
/// # Errors
/// `Invalid` with the file's name and the line.
pub(super) fn parse(text: &str, name: &str) -> Result<Spanned<Node>> {
    if text.len() > TEXT_BYTES {
        return Err(Error::invalid(format!("{name} has {} bytes; the limit is {TEXT_BYTES}", text.len())));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: 8, max_nodes: 4_096, max_aliases: 64, max_documents: 1, },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let line = e.location().map_or_else(String::new, |l| format!(":{}", l.line()));
        // The reason names what it met, which may be a password; the line is enough.
        Error::invalid(format!("{name}{line}: not YAML, or a key stands there twice")).with_next(
            "write a value that ends with a colon in quotes, such as \"memory:\"; docs/configuration.md shows the form",
        )
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text, a number or a map")
    }
    fn visit_str<E>(self, text: &str) -> std::result::Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }
    fn visit_bool<E>(self, value: bool) -> std::result::Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }
    fn visit_i64<E>(self, value: i64) -> std::result::Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> std::result::Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> std::result::Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }
    fn visit_unit<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Nothing)
    }
    fn visit_none<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Nothing)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Node, A::Error> {
        while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(Node::List)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}
