//! Watching flows: what there is, an end mark, then every change and deletion.

use std::fmt;
use std::str::FromStr;

use millpond_core::{
    Change, CollectionName, Cursor, Damaged, Deleted, Delivery, Document, Error, Result, Selector, StartAt, Subscription,
    Versioned,
};

use super::Flows;
use super::model::Flow;

/// A pattern over flow ids, in NATS's way: tokens are separated by `.`, `*` stands for one token, `>` at the end for
/// one or more.
///
/// ```
/// let pattern: millpond::FlowPattern = "plant.*.ingest".parse()?;
/// assert!(pattern.matches("plant.7.ingest") && !pattern.matches("plant.7.8.ingest"));
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowPattern {
    tokens: Vec<String>,
}

impl FromStr for FlowPattern {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let tokens: Vec<String> = text.split('.').map(str::to_owned).collect();
        let last = tokens.len() - 1;
        let well_formed = tokens.iter().enumerate().all(|(i, t)| !t.is_empty() && (t != ">" || i == last));
        if !well_formed {
            return Err(Error::invalid(format!("{text:?} is not a pattern of flow ids")).with_next(
                "separate tokens by '.', write '*' for any one token, '>' at the end for all the rest, or just '>' for all",
            ));
        }
        Ok(Self { tokens })
    }
}

impl fmt::Display for FlowPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tokens.join("."))
    }
}

impl FlowPattern {
    /// Whether the pattern takes a flow of this id.
    pub fn matches(&self, id: &str) -> bool {
        let mut parts = id.split('.');
        for token in &self.tokens {
            match (token.as_str(), parts.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (token, Some(part)) if token == part => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }

    /// The bytes every id it takes begins with: what the store is asked for.
    fn prefix(&self) -> String {
        let literal: Vec<&str> = self.tokens.iter().map(String::as_str).take_while(|t| *t != "*" && *t != ">").collect();
        let mut prefix = literal.join(".");
        if !literal.is_empty() && literal.len() < self.tokens.len() {
            prefix.push('.');
        }
        prefix
    }
}

/// One delivery of a watch. Every one carries the cursor that resumes after it.
#[derive(Debug, Clone, PartialEq)]
pub enum FlowDelivery {
    /// A flow as it is now.
    Changed(Box<Versioned<Flow>>, Cursor),
    /// A flow that was deleted.
    Deleted(Deleted, Cursor),
    /// Every flow that existed when the watch began has been shown.
    SnapshotEnd(Cursor),
    /// A flow that does not read back was passed over.
    Damaged(Damaged, Cursor),
}

impl FlowDelivery {
    /// Resumes after this delivery.
    pub fn cursor(&self) -> &Cursor {
        match self {
            Self::Changed(_, c) | Self::Deleted(_, c) | Self::SnapshotEnd(c) | Self::Damaged(_, c) => c,
        }
    }

    /// The id of the flow it is about.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Changed(flow, _) => Some(&flow.id),
            Self::Deleted(gone, _) => Some(gone.key.as_str()),
            Self::SnapshotEnd(_) | Self::Damaged(..) => None,
        }
    }
}

/// A live watch over flows. Dropping it ends it.
#[derive(Debug)]
pub struct FlowWatch {
    pattern: FlowPattern,
    subscription: Subscription,
}

impl Flows {
    /// Watches the flows whose ids match a pattern (see [`FlowPattern`]). From the oldest, it begins with every flow
    /// there is and an end mark; after a cursor, it goes on where that left off, deletions included. Shows the latest
    /// state of each flow; the states between are in the history. Nothing is read before the first delivery is asked.
    ///
    /// # Errors
    /// `Invalid` when the pattern breaks a rule.
    pub fn watch(&self, pattern: &str, start: StartAt) -> Result<FlowWatch> {
        let pattern: FlowPattern = pattern.parse().map_err(|e: Error| e.during("flows.watch"))?;
        let collection = CollectionName::new(Flow::COLLECTION.name())?;
        let selector = Selector::Records { collection, key_prefix: pattern.prefix() };
        Ok(FlowWatch { pattern, subscription: self.store.subscribe(selector, start) })
    }
}

impl FlowWatch {
    /// The next delivery; waits until there is one. Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// `CursorExpired` when a deletion after the cursor was forgotten: begin again at the oldest.
    pub async fn next(&mut self) -> Result<FlowDelivery> {
        loop {
            let delivery = self.subscription.next().await.transpose()?;
            let delivery = delivery.ok_or_else(|| Error::unavailable("the watch has ended"))?;
            if let Some(delivery) = self.take(delivery) {
                return Ok(delivery);
            }
        }
    }

    /// What is there now, without waiting.
    ///
    /// # Errors
    /// As [`FlowWatch::next`].
    pub async fn try_next(&mut self) -> Result<Option<FlowDelivery>> {
        while let Some(delivery) = self.subscription.try_next().await? {
            if let Some(delivery) = self.take(delivery) {
                return Ok(Some(delivery));
            }
        }
        Ok(None)
    }

    /// The cursor after everything delivered so far, if anything was read yet.
    pub fn cursor(&self) -> Option<Cursor> {
        self.subscription.cursor()
    }

    fn take(&self, delivery: Delivery) -> Option<FlowDelivery> {
        Some(match delivery {
            Delivery::SnapshotEnd(cursor) => FlowDelivery::SnapshotEnd(cursor),
            Delivery::Damaged(damaged, cursor) => FlowDelivery::Damaged(damaged, cursor),
            Delivery::Change(Change::Deleted(gone), cursor) => {
                self.pattern.matches(gone.key.as_str()).then_some(FlowDelivery::Deleted(gone, cursor))?
            }
            Delivery::Change(Change::Record(record), cursor) => {
                if !self.pattern.matches(record.key.as_str()) {
                    return None;
                }
                match record.decode::<Flow>() {
                    Ok(flow) => FlowDelivery::Changed(Box::new(flow), cursor),
                    Err(e) => {
                        let what = format!("{}/{}", record.collection, record.key);
                        FlowDelivery::Damaged(Damaged { what, why: e.to_string() }, cursor)
                    }
                }
            }
            Delivery::Change(Change::Event(_), _) => return None,
        })
    }
}

/// The same for synchronous callers.
pub mod blocking {
    use std::time::Duration;

    use millpond_core::{Cursor, Result};

    use super::FlowDelivery;
    use crate::bridge::Bridge;

    /// A live watch over flows, for synchronous callers.
    #[derive(Debug)]
    pub struct FlowWatch {
        watch: super::FlowWatch,
        bridge: Bridge,
    }

    impl FlowWatch {
        pub(crate) fn new(watch: super::FlowWatch, bridge: Bridge) -> Self {
            Self { watch, bridge }
        }

        /// Waits for the next delivery, at most this long; `None` when there was none.
        ///
        /// # Errors
        /// As [`super::FlowWatch::next`]; `Invalid` when called inside an async runtime.
        pub fn next_within(&mut self, wait: Duration) -> Result<Option<FlowDelivery>> {
            let next = self.watch.next();
            self.bridge.run(async { tokio::time::timeout(wait, next).await.ok().transpose() })
        }

        /// What is there now, without waiting.
        ///
        /// # Errors
        /// As [`FlowWatch::next_within`].
        pub fn try_next(&mut self) -> Result<Option<FlowDelivery>> {
            self.bridge.run(self.watch.try_next())
        }

        /// As [`super::FlowWatch::cursor`].
        pub fn cursor(&self) -> Option<Cursor> {
            self.watch.cursor()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_nats_does() {
        for (pattern, id, expected) in [
            (">", "a", true),
            (">", "a.b.c", true),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.>", "a", false),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "ab.c", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.b.c", false),
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("a.b", "a.b.c", false),
            ("a*", "a*", true),
            ("a*", "ab", false),
            ("*.b.>", "a.b.c", true),
        ] {
            let parsed: FlowPattern = pattern.parse().expect(pattern);
            assert_eq!(parsed.matches(id), expected, "{pattern} {id}");
            assert!(!expected || id.starts_with(&parsed.prefix()), "{pattern}: prefix {:?}", parsed.prefix());
        }
        for bad in ["", ".", "a.", ".a", "a..b", ">.a", "a.>.b"] {
            assert!(bad.parse::<FlowPattern>().is_err(), "{bad}");
        }
        assert_eq!("a.b.*.c".parse::<FlowPattern>().expect("pattern").prefix(), "a.b.");
    }
}
