//! Positions and the opaque cursors made of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Where in a namespace's history something happened. Dense, in commit order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before everything.
    pub const ZERO: Self = Self(0);
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A place to resume a feed from: a position and the store it belongs to. Treat the text as opaque.
///
/// A bare number is taken too, as a position of whatever store is asked; it is what a person copies from a screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    position: Position,
    store: Option<String>,
}

impl Cursor {
    /// A cursor of the store with this id.
    pub fn new(position: Position, store_id: &str) -> Self {
        Self { position, store: Some(short_store(store_id)) }
    }

    /// A cursor that is not tied to a store.
    pub fn unbound(position: Position) -> Self {
        Self { position, store: None }
    }

    /// Everything at or before this position has been seen.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The position, if the cursor belongs to this store.
    ///
    /// # Errors
    /// `CursorExpired` when it belongs to another store, as after a namespace was deleted and made again.
    pub fn for_store(&self, store_id: &str) -> Result<Position> {
        match &self.store {
            Some(own) if *own != short_store(store_id) => Err(Error::new(
                ErrorKind::CursorExpired,
                format!("cursor {self} belongs to another store or to a namespace that was made anew"),
            )
            .with_next("start again from the oldest")),
            _ => Ok(self.position),
        }
    }
}

fn short_store(store_id: &str) -> String {
    store_id.chars().filter(char::is_ascii_alphanumeric).rev().take(8).collect()
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.store {
            Some(store) => write!(f, "{}.{store}", self.position),
            None => write!(f, "{}", self.position),
        }
    }
}

impl std::str::FromStr for Cursor {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (number, store) = match text.split_once('.') {
            Some((n, s)) => (n, Some(s.to_owned())),
            None => (text, None),
        };
        let position = number.parse().map_err(|_| {
            Error::invalid(format!("{text:?} is not a cursor")).with_next("pass one that a feed gave out, or a number")
        })?;
        Ok(Self { position: Position(position), store })
    }
}

impl TryFrom<String> for Cursor {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}
