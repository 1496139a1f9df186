//! What a store is, said as shortly as possible: records with revisions and streams with dense sequences, changed by
//! commits that happen whole or not at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Puts a number into a record: a register.
    Put(u8, i64),
    /// Adds to a record's number; one that is absent counts as 0: a counter.
    Add(u8, i64),
    /// Appends a number to a stream.
    Append(u8, i64),
}

/// What a commit expects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// A record is at this revision; at 0 it is absent.
    Revision(u8, u64),
    /// A stream is at this sequence.
    Sequence(u8, u64),
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// A commit, with at most one change for each record and stream.
    Commit {
        /// What must hold.
        expect: Vec<Expect>,
        /// What changes.
        changes: Vec<Change>,
    },
    /// One read of several records and streams, from one snapshot.
    Read {
        /// Records.
        records: Vec<u8>,
        /// Streams.
        streams: Vec<u8>,
    },
}

/// What a record or a stream was seen to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// A record's number and revision; `None` where it is absent.
    Record(Option<(i64, u64)>),
    /// A stream's numbers, from its first event on.
    Stream(Vec<i64>),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The commit was applied: the revision or the sequence that each change left behind, in their order.
    Committed(Vec<u64>),
    /// It was not, because an expectation did not hold.
    Conflict,
    /// What was read, records first.
    Read(Vec<Seen>),
}

/// What a namespace holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct State {
    records: BTreeMap<u8, (i64, u64)>,
    streams: BTreeMap<u8, Vec<i64>>,
}

impl State {
    /// The state after an operation, and the answer to it.
    pub fn after(&self, operation: &Operation) -> (Self, Answer) {
        match operation {
            Operation::Read { records, streams } => {
                let records = records.iter().map(|r| Seen::Record(self.records.get(r).copied()));
                let streams = streams.iter().map(|s| Seen::Stream(self.streams.get(s).cloned().unwrap_or_default()));
                (self.clone(), Answer::Read(records.chain(streams).collect()))
            }
            Operation::Commit { expect, .. } if !expect.iter().all(|e| self.holds(e)) => (self.clone(), Answer::Conflict),
            Operation::Commit { changes, .. } => {
                let mut next = self.clone();
                let left = changes.iter().map(|c| next.change(c)).collect();
                (next, Answer::Committed(left))
            }
        }
    }

    fn holds(&self, expect: &Expect) -> bool {
        match expect {
            Expect::Revision(record, revision) => self.records.get(record).map_or(0, |(_, r)| *r) == *revision,
            Expect::Sequence(stream, sequence) => self.streams.get(stream).map_or(0, Vec::len) as u64 == *sequence,
        }
    }

    fn change(&mut self, change: &Change) -> u64 {
        match change {
            Change::Put(record, number) => {
                let kept = self.records.entry(*record).or_default();
                *kept = (*number, kept.1 + 1);
                kept.1
            }
            Change::Add(record, number) => {
                let kept = self.records.entry(*record).or_default();
                *kept = (kept.0 + number, kept.1 + 1);
                kept.1
            }
            Change::Append(stream, number) => {
                let kept = self.streams.entry(*stream).or_default();
                kept.push(*number);
                kept.len() as u64
            }
        }
    }
}
