//! Merges: counters and aggregates that never conflict.

use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};
use crate::json::Json;

/// One change inside a document, at a JSON pointer. Objects on the way are made; integers are 64-bit and checked.
#[derive(Debug, Clone, PartialEq)]
pub enum MergeOp {
    /// Adds to the integer there; absent counts as 0.
    Add(String, i64),
    /// The smaller of the integer there and this one; absent gives this one.
    Min(String, i64),
    /// The larger of the integer there and this one; absent gives this one.
    Max(String, i64),
    /// Replaces what is there.
    Set(String, Json),
    /// Keeps what is there; absent or null becomes this.
    SetIfAbsent(String, Json),
}

impl MergeOp {
    /// The JSON pointer.
    pub fn path(&self) -> &str {
        match self {
            Self::Add(p, _) | Self::Min(p, _) | Self::Max(p, _) | Self::Set(p, _) | Self::SetIfAbsent(p, _) => p,
        }
    }

    /// An upper bound of the bytes this can add to a document.
    pub fn size(&self) -> usize {
        let value = match self {
            Self::Add(..) | Self::Min(..) | Self::Max(..) => 20,
            Self::Set(_, v) | Self::SetIfAbsent(_, v) => v.len(),
        };
        // A pointer's segments become keys, each with quotes, a colon, and braces round the rest.
        self.path().len() * 6 + 8 + value
    }

    /// Applies it to a document.
    ///
    /// # Errors
    /// `Invalid` when the path is no JSON pointer, something on it is not an object, the value there is not an
    /// integer, or a sum leaves 64 bits. The document may be half changed then; callers work on a copy.
    pub fn apply(&self, document: &mut Value) -> Result<()> {
        let slot = slot(document, self.path())?;
        match self {
            Self::Add(path, n) => {
                let old = integer(slot, path)?.unwrap_or(0);
                let sum = old.checked_add(*n).ok_or_else(|| {
                    Error::invalid(format!("merge: {old} + {n} at {path:?} leaves the range of 64-bit integers"))
                })?;
                *slot = Value::Number(Number::from(sum));
            }
            Self::Min(path, n) => *slot = Value::from(integer(slot, path)?.map_or(*n, |old| old.min(*n))),
            Self::Max(path, n) => *slot = Value::from(integer(slot, path)?.map_or(*n, |old| old.max(*n))),
            Self::Set(_, value) => *slot = value.value()?,
            Self::SetIfAbsent(_, value) => {
                if slot.is_null() {
                    *slot = value.value()?;
                }
            }
        }
        Ok(())
    }
}

fn integer(slot: &Value, path: &str) -> Result<Option<i64>> {
    match slot {
        Value::Null => Ok(None),
        Value::Number(n) if n.is_i64() => Ok(n.as_i64()),
        other => {
            let shown: String = other.to_string().chars().take(40).collect();
            Err(Error::invalid(format!("merge: the value at {path:?} is {shown}, not an integer")))
        }
    }
}

/// The place a pointer names, made with the objects on the way if it is absent.
fn slot<'v>(document: &'v mut Value, pointer: &str) -> Result<&'v mut Value> {
    let Some(path) = pointer.strip_prefix('/') else {
        return Err(Error::invalid(format!("merge: {pointer:?} is not a JSON pointer")).with_next("write it like /a/b"));
    };
    let mut at = document;
    for segment in path.split('/') {
        let name = segment.replace("~1", "/").replace("~0", "~");
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        at = match at {
            Value::Object(map) => map.entry(name).or_insert(Value::Null),
            other => {
                let shown: String = other.to_string().chars().take(40).collect();
                return Err(Error::invalid(format!("merge: {pointer:?} runs through {shown}, which is not an object")));
            }
        };
    }
    Ok(at)
}

/// Escapes one segment for use inside a JSON pointer.
pub fn pointer_segment(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merges_follow_their_rules() {
        let mut doc = json!({"n": 5, "s": "x", "nested": {"a/b": 1}});
        for op in [
            MergeOp::Add("/n".into(), 3),
            MergeOp::Add("/new/deep".into(), -2),
            MergeOp::Min("/n".into(), 7),
            MergeOp::Max("/n".into(), 100),
            MergeOp::Add("/nested/a~1b".into(), 1),
            MergeOp::Set("/s".into(), Json::of("y").expect("json")),
            MergeOp::SetIfAbsent("/s".into(), Json::of("z").expect("json")),
            MergeOp::SetIfAbsent("/t".into(), Json::of("t").expect("json")),
        ] {
            op.apply(&mut doc).expect("applies");
        }
        assert_eq!(doc, json!({"n": 100, "s": "y", "t": "t", "new": {"deep": -2}, "nested": {"a/b": 2}}));
        assert!(MergeOp::Add("/n".into(), i64::MAX).apply(&mut doc).is_err());
        assert!(MergeOp::Add("/s".into(), 1).apply(&mut doc).is_err());
        assert!(MergeOp::Add("/s/x".into(), 1).apply(&mut doc).is_err());
        assert!(MergeOp::Add("n".into(), 1).apply(&mut doc).is_err());
    }
}
