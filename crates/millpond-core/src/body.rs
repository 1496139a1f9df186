//! The body of a commit as bytes: what a receipt's digest covers, and what counts against the limits.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::commit::{Commit, Expectation, Write};
use crate::event::NewEvent;
use crate::merge::MergeOp;
use crate::name::RecordId;

/// Feeds every part of a commit to SHA-256, each with its length, and counts the bytes.
struct Feeder {
    hash: Sha256,
    bytes: usize,
}

impl Feeder {
    fn tag(&mut self, tag: u8) {
        self.hash.update([tag]);
    }
    fn number(&mut self, n: u64) {
        self.hash.update(n.to_le_bytes());
    }
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.hash.update(text.as_bytes());
        self.bytes += text.len();
    }
    fn optional(&mut self, text: Option<&str>) {
        self.tag(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }
    fn optional_number(&mut self, n: Option<u64>) {
        self.tag(u8::from(n.is_some()));
        self.number(n.unwrap_or(0));
    }
    fn record(&mut self, record: &RecordId) {
        self.text(record.collection.as_str());
        self.text(record.key.as_str());
    }
    fn duration(&mut self, d: Duration) {
        self.number(u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
    }
}

/// The digest of a commit's body, and the bytes that count against its limits.
pub(crate) fn digest(commit: &Commit) -> ([u8; 16], usize) {
    let mut feeder = Feeder { hash: Sha256::new(), bytes: 0 };
    feeder.optional(commit.by.as_deref());
    feeder.tag(u8::from(commit.trusted));
    for expectation in &commit.expect {
        feed_expectation(&mut feeder, expectation);
    }
    for write in &commit.writes {
        feed_write(&mut feeder, write);
    }
    for append in &commit.appends {
        feeder.tag(30);
        feeder.text(append.stream.as_str());
        for event in &append.events {
            feed_event(&mut feeder, event);
        }
    }
    for trim in &commit.trims {
        feeder.tag(40);
        feeder.text(trim.stream.as_str());
        feeder.number(trim.before);
    }
    for seal in &commit.seals {
        feeder.tag(41);
        feeder.text(seal.as_str());
    }
    let full = feeder.hash.finalize();
    let mut short = [0u8; 16];
    short.copy_from_slice(&full[..16]);
    (short, feeder.bytes)
}

fn feed_expectation(f: &mut Feeder, expectation: &Expectation) {
    match expectation {
        Expectation::Absent(r) => {
            f.tag(1);
            f.record(r);
        }
        Expectation::Exists(r) => {
            f.tag(2);
            f.record(r);
        }
        Expectation::Revision(r, n) => {
            f.tag(3);
            f.record(r);
            f.number(*n);
        }
        Expectation::StreamAt(s, n) => {
            f.tag(4);
            f.text(s.as_str());
            f.number(*n);
        }
        Expectation::AtMost(r, pointer, n) => {
            f.tag(6);
            f.record(r);
            f.text(pointer);
            f.number(n.cast_unsigned());
        }
        Expectation::Lease(k, n) => {
            f.tag(5);
            f.text(k.as_str());
            f.number(*n);
        }
    }
}

fn feed_write(f: &mut Feeder, write: &Write) {
    match write {
        Write::Put(r, value) => {
            f.tag(10);
            f.record(r);
            f.text(value.as_str());
        }
        Write::Delete(r) => {
            f.tag(11);
            f.record(r);
        }
        Write::Merge(r, ops) => {
            f.tag(12);
            f.record(r);
            for op in ops {
                feed_merge(f, op);
            }
        }
        Write::Acquire(a) => {
            f.tag(20);
            f.text(a.lease.as_str());
            f.text(&a.holder.name);
            f.optional(a.holder.host.as_deref());
            f.optional(a.holder.boot.as_deref());
            f.optional_number(a.holder.pid.map(u64::from));
            f.optional_number(a.holder.started);
            f.duration(a.ttl);
            f.optional(a.purpose.as_deref());
            f.optional_number(a.dead);
        }
        Write::Renew { lease, token, ttl } => {
            f.tag(21);
            f.text(lease.as_str());
            f.number(*token);
            f.duration(*ttl);
        }
        Write::Release { lease, token } => {
            f.tag(22);
            f.text(lease.as_str());
            f.number(*token);
        }
        Write::Break { lease } => {
            f.tag(23);
            f.text(lease.as_str());
        }
    }
}

fn feed_merge(f: &mut Feeder, op: &MergeOp) {
    let (tag, path) = match op {
        MergeOp::Add(p, _) => (1, p),
        MergeOp::Min(p, _) => (2, p),
        MergeOp::Max(p, _) => (3, p),
        MergeOp::Set(p, _) => (4, p),
        MergeOp::SetIfAbsent(p, _) => (5, p),
    };
    f.tag(tag);
    f.text(path);
    // What an operation takes in memory beside its texts.
    f.bytes += 16;
    match op {
        MergeOp::Add(_, n) | MergeOp::Min(_, n) | MergeOp::Max(_, n) => f.number(n.cast_unsigned()),
        MergeOp::Set(_, v) | MergeOp::SetIfAbsent(_, v) => f.text(v.as_str()),
    }
}

fn feed_event(f: &mut Feeder, event: &NewEvent) {
    f.tag(31);
    f.text(&event.kind);
    for text in [&event.id, &event.correlation, &event.agent, &event.source] {
        f.optional(text.as_deref());
    }
    f.optional_number(event.time.map(|t| t.as_micros().cast_unsigned()));
    for (k, v) in &event.labels {
        f.tag(32);
        f.text(k);
        f.text(v);
    }
    f.text(event.data.as_str());
}
