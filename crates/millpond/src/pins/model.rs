//! What is kept of pins: one record for each execution that has any.

use std::collections::BTreeSet;

use millpond_core::{Collection, Document, Error, FieldKind, Key, Result, Timestamp, limits};
use serde::{Deserialize, Serialize};

use crate::extra::{Extended, Extra};
use crate::text::key_segment;

/// Every collection of pins.
pub(crate) const COLLECTIONS: [Collection; 1] = [ExecutionPins::COLLECTION];

/// Pins that one execution can have.
pub const PINS_OF_EXECUTION: usize = 256;

/// One reason to keep an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// What names it among those of its execution.
    pub id: String,
    /// Who asked for it.
    pub holder: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

impl Pin {
    /// Checks the texts a caller gave.
    ///
    /// # Errors
    /// `Invalid`, naming the text and the limit.
    pub(super) fn check(&self) -> Result<()> {
        for (name, text) in [("holder", &self.holder), ("reason", &self.reason)] {
            if text.trim().is_empty() || text.len() > limits::INDEXED_TEXT_BYTES || text.chars().any(char::is_control) {
                return Err(Error::invalid(format!(
                    "a pin's {name} has {} bytes; it may have 1 to {}, and no control characters",
                    text.len(),
                    limits::INDEXED_TEXT_BYTES
                ))
                .with_next("say in a line who needs the execution, and what for"));
            }
        }
        Ok(())
    }
}

/// The pins of an execution. There is a record only while there is a pin, so that a commit can expect none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionPins {
    /// The execution.
    pub execution: String,
    /// At least one, the oldest first.
    pub pins: Vec<Pin>,
    /// Who holds them: what lists look at.
    #[serde(default)]
    pub holders: BTreeSet<String>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ExecutionPins {
    /// These pins of an execution.
    pub(super) fn of(execution: &str, pins: Vec<Pin>, extra: Extra) -> Self {
        let holders = pins.iter().map(|pin| pin.holder.clone()).collect();
        Self { execution: execution.to_owned(), pins, holders, extra }
    }
}

impl Extended for ExecutionPins {
    fn extras(&self) -> Vec<&Extra> {
        vec![&self.extra]
    }
}

impl Document for ExecutionPins {
    const COLLECTION: Collection = Collection::new("execution_pins")
        .version(1)
        .index("execution", FieldKind::Text)
        .index("holders", FieldKind::TextSet)
        .owned();

    fn key(&self) -> Result<Key> {
        Key::new(key_segment(&self.execution))
    }
}
