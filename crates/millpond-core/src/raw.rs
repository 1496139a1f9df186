//! One raw commit as JSON: the format of `millpond commit` and of the HTTP body.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commit::{Append, Commit, Expectation, Trim, Write};
use crate::error::{Error, Result};
use crate::event::NewEvent;
use crate::id::CommitId;
use crate::json::Json;
use crate::merge::MergeOp;
use crate::name::{Key, RecordId, StreamName};
use crate::outcome::{Conflict, Expected, Found, Outcome};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommit {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    expect: Vec<RawExpect>,
    #[serde(default)]
    writes: Vec<RawWrite>,
    #[serde(default)]
    appends: Vec<RawAppend>,
    #[serde(default)]
    trims: Vec<RawTrim>,
    #[serde(default)]
    seals: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawExpect {
    Record(RawExpectRecord),
    Stream(RawExpectStream),
    Lease(RawExpectLease),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpectRecord {
    record: (String, String),
    is: RawIs,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawIs {
    Absent,
    Exists,
    Revision(u64),
    AtMost(String, i64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpectStream {
    stream: String,
    at: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpectLease {
    lease: String,
    token: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawWrite {
    Put(RawPut),
    Delete(RawDelete),
    Merge(RawMerge),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPut {
    put: (String, String),
    value: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDelete {
    delete: (String, String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMerge {
    merge: (String, String),
    #[serde(default)]
    add: BTreeMap<String, i64>,
    #[serde(default)]
    min: BTreeMap<String, i64>,
    #[serde(default)]
    max: BTreeMap<String, i64>,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    set_if_absent: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAppend {
    stream: String,
    events: Vec<NewEvent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrim {
    stream: String,
    before: u64,
}

impl Commit {
    /// Reads one raw commit.
    ///
    /// ```
    /// let commit = millpond_core::Commit::from_json(r#"{
    ///   "expect": [{"record": ["tenants", "t1"], "is": "absent"}, {"stream": "audit", "at": 0}],
    ///   "writes": [{"put": ["tenants", "t1"], "value": {"plan": "pro"}},
    ///              {"merge": ["totals", "all"], "add": {"/tenants": 1}}],
    ///   "appends": [{"stream": "audit", "events": [{"type": "tenant.created", "data": {"id": "t1"}}]}]
    /// }"#)?;
    /// assert_eq!(commit.operations(), 5);
    /// # Ok::<(), millpond_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid`, naming the part that is wrong. Unknown fields are errors.
    pub fn from_json(text: &str) -> Result<Self> {
        // Checks numbers, depth and NULs on the text itself, before a parser can round anything.
        let checked = Json::parse(text)?;
        let value: Value = checked.value()?;
        let parts = ["expect", "writes"];
        for part in parts {
            for (i, item) in value.get(part).and_then(Value::as_array).into_iter().flatten().enumerate() {
                check_part(part, i, item)?;
            }
        }
        let raw: RawCommit = serde_json::from_value(value)
            .map_err(|e| Error::invalid("not a commit").with_source(e).with_next("see docs/raw-commit.md for the format"))?;
        raw.into_commit()
    }
}

/// Says which part of the commit is wrong; an untagged enum alone would only say that none matched.
fn check_part(part: &str, index: usize, item: &Value) -> Result<()> {
    let known = if part == "expect" {
        r#"{"record": [C, K], "is": "absent" | "exists" | {"revision": N} | {"at_most": [POINTER, N]}}, {"stream": S, "at": N} or {"lease": L, "token": N}"#
    } else {
        r#"{"put": [C, K], "value": …}, {"delete": [C, K]} or {"merge": [C, K], "add"|"min"|"max"|"set"|"set_if_absent": {POINTER: …}}"#
    };
    let ok = if part == "expect" { RawExpect::deserialize(item).is_ok() } else { RawWrite::deserialize(item).is_ok() };
    if ok {
        return Ok(());
    }
    let shown: String = item.to_string().chars().take(120).collect();
    Err(Error::invalid(format!("{part}[{index}] is not understood: {shown}")).with_next(format!("write it as {known}")))
}

impl RawCommit {
    fn into_commit(self) -> Result<Commit> {
        Ok(Commit {
            id: self.id.as_deref().map(CommitId::parse).transpose()?,
            by: self.by,
            expect: self.expect.into_iter().map(RawExpect::into_expectation).collect::<Result<_>>()?,
            writes: self.writes.into_iter().map(RawWrite::into_write).collect::<Result<_>>()?,
            appends: self
                .appends
                .into_iter()
                .map(|a| Ok(Append { stream: StreamName::new(a.stream)?, events: a.events }))
                .collect::<Result<_>>()?,
            trims: self
                .trims
                .into_iter()
                .map(|t| Ok(Trim { stream: StreamName::new(t.stream)?, before: t.before }))
                .collect::<Result<_>>()?,
            seals: self.seals.into_iter().map(StreamName::new).collect::<Result<_>>()?,
            trusted: false,
        })
    }
}

impl RawExpect {
    fn into_expectation(self) -> Result<Expectation> {
        Ok(match self {
            Self::Record(RawExpectRecord { record: (c, k), is }) => {
                let id = RecordId::new(&c, &k)?;
                match is {
                    RawIs::Absent => Expectation::Absent(id),
                    RawIs::Exists => Expectation::Exists(id),
                    RawIs::Revision(n) => Expectation::Revision(id, n),
                    RawIs::AtMost(pointer, n) => Expectation::AtMost(id, pointer, n),
                }
            }
            Self::Stream(RawExpectStream { stream, at }) => Expectation::StreamAt(StreamName::new(stream)?, at),
            Self::Lease(RawExpectLease { lease, token }) => Expectation::Lease(Key::new(lease)?, token),
        })
    }
}

impl RawWrite {
    fn into_write(self) -> Result<Write> {
        Ok(match self {
            Self::Put(RawPut { put: (c, k), value }) => Write::Put(RecordId::new(&c, &k)?, Json::from_value(&value)?),
            Self::Delete(RawDelete { delete: (c, k) }) => Write::Delete(RecordId::new(&c, &k)?),
            Self::Merge(m) => {
                let mut ops: Vec<MergeOp> = m.add.into_iter().map(|(p, n)| MergeOp::Add(p, n)).collect();
                ops.extend(m.min.into_iter().map(|(p, n)| MergeOp::Min(p, n)));
                ops.extend(m.max.into_iter().map(|(p, n)| MergeOp::Max(p, n)));
                for (p, v) in m.set {
                    ops.push(MergeOp::Set(p, Json::from_value(&v)?));
                }
                for (p, v) in m.set_if_absent {
                    ops.push(MergeOp::SetIfAbsent(p, Json::from_value(&v)?));
                }
                Write::Merge(RecordId::new(&m.merge.0, &m.merge.1)?, ops)
            }
        })
    }
}

#[derive(Serialize)]
struct ConflictJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    expectation: Option<usize>,
    expected: Value,
    found: Value,
    message: &'a str,
}

impl Outcome {
    /// The outcome as JSON: `{"committed": receipt}` or `{"conflict": {expectation, expected, found, message}}`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Committed(receipt) => serde_json::json!({ "committed": receipt }),
            Self::Conflict(conflict) => serde_json::json!({ "conflict": conflict.to_json() }),
        }
    }
}

impl Conflict {
    /// Which expectation failed and what was found, in the words of the raw format.
    pub fn to_json(&self) -> Value {
        let message = self.to_string();
        let json = ConflictJson {
            expectation: self.index,
            expected: expected(&self.expected),
            found: found(&self.found),
            message: &message,
        };
        serde_json::to_value(json).unwrap_or_default()
    }
}

fn expected(expected: &Expected) -> Value {
    let record = |r: &RecordId, is: Value| serde_json::json!({"record": [r.collection, r.key], "is": is});
    match expected {
        Expected::Stated(Expectation::Absent(r)) | Expected::CreateOnly(r) => record(r, "absent".into()),
        Expected::Stated(Expectation::Exists(r)) => record(r, "exists".into()),
        Expected::Stated(Expectation::Revision(r, n)) => record(r, serde_json::json!({ "revision": n })),
        Expected::Stated(Expectation::AtMost(r, pointer, n)) => record(r, serde_json::json!({ "at_most": [pointer, n] })),
        Expected::Stated(Expectation::StreamAt(s, n)) => serde_json::json!({"stream": s, "at": n}),
        Expected::Stated(Expectation::Lease(k, n)) => serde_json::json!({"lease": k, "token": n}),
        Expected::Open(s) => serde_json::json!({"stream": s, "is": "open"}),
        Expected::LeaseFree(k) => serde_json::json!({"lease": k, "is": "free"}),
    }
}

fn found(found: &Found) -> Value {
    match found {
        Found::Absent { revision } => serde_json::json!({"absent": true, "revision": revision}),
        Found::Record { revision, time, by } => serde_json::json!({"revision": revision, "time": time, "by": by}),
        Found::Stream { head, sealed } => serde_json::json!({"at": head, "sealed": sealed}),
        Found::Lease { holder, token, deadline } => serde_json::json!({"holder": holder, "token": token, "deadline": deadline}),
        Found::NoLease => serde_json::json!({"held": false}),
    }
}
