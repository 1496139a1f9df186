//! A random history: few names and small numbers, so that commits meet each other often.

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Acquire, Collection, Commit, EventFilter, EventGroupBy, EventQuery, Expectation, FeedRequest, FieldKind, Filter, Holder,
    Host, Json, Key, MergeOp, NewEvent, Position, Query, Read, RecordId, Result, Scalar, Selector, StreamName, Write,
};
use serde_json::{Value, json};

/// The collection that is declared somewhere in the middle.
pub(super) const ITEMS: Collection =
    Collection::new("items").index("size", FieldKind::Integer).index("name", FieldKind::Text).index("tags", FieldKind::TextSet);

const COLLECTIONS: [&str; 2] = ["items", "free"];
const KEYS: [&str; 4] = ["a", "b", "c/d", "%"];
const STREAMS: [&str; 3] = ["s", "s/1", "t"];
const LEASES: [&str; 2] = ["l", "m"];

/// One question, asked of both engines at the end.
#[derive(Debug, Clone)]
pub(super) enum Question {
    Read(Read),
    Feed(FeedRequest),
}

/// What makes a history: a seed, and what was sent so far.
pub(super) struct History {
    state: u64,
    host: Arc<dyn Host>,
    sent: Vec<Commit>,
}

impl History {
    pub(super) fn new(seed: u64, host: Arc<dyn Host>) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, host, sent: Vec::new() }
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        // xorshift64*: the same on every machine, and good enough to mix things up.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, names: &[&'a str]) -> &'a str {
        names[self.below(names.len())]
    }

    fn record(&mut self) -> Result<RecordId> {
        let (collection, key) = (self.pick(&COLLECTIONS), self.pick(&KEYS));
        RecordId::new(collection, key)
    }

    fn stream(&mut self) -> Result<StreamName> {
        StreamName::new(self.pick(&STREAMS))
    }

    fn lease(&mut self) -> Result<Key> {
        Key::new(self.pick(&LEASES))
    }

    fn document(&mut self) -> Value {
        let size = match self.below(8) {
            0 => Value::Null,
            // Does not fit the declaration.
            1 if self.one_in(4) => json!("large"),
            _ => json!(self.below(4) as i64 - 1),
        };
        let tags: Vec<String> = (0..self.below(3)).map(|_| format!("t{}", self.below(3))).collect();
        json!({"size": size, "name": self.pick(&["x", "X", "é", "x%", ""]), "tags": tags})
    }

    fn expectation(&mut self) -> Result<Expectation> {
        Ok(match self.below(6) {
            0 => Expectation::Absent(self.record()?),
            1 => Expectation::Exists(self.record()?),
            2 | 3 => Expectation::Revision(self.record()?, 1 + self.below(4) as u64),
            4 => Expectation::StreamAt(self.stream()?, self.below(4) as u64),
            _ => Expectation::Lease(self.lease()?, 1 + self.below(3) as u64),
        })
    }

    fn write(&mut self) -> Result<Write> {
        let hour = Duration::from_secs(3_600);
        Ok(match self.below(12) {
            0..=4 => Write::Put(self.record()?, Json::from_value(&self.document())?),
            5..=6 => Write::Delete(self.record()?),
            7..=8 => {
                let n = self.below(5) as i64;
                let set = Json::of(self.pick(&["x", "y"]))?;
                let ops = [
                    MergeOp::Add("/size".to_owned(), n),
                    MergeOp::Max("/deep/max".to_owned(), n),
                    MergeOp::Min("/deep/min".to_owned(), n),
                    MergeOp::Set("/name".to_owned(), set.clone()),
                    MergeOp::SetIfAbsent("/first".to_owned(), set),
                ];
                let from = self.below(ops.len());
                Write::Merge(self.record()?, ops[from..].to_vec())
            }
            9 => {
                let dead = self.one_in(2).then(|| 1 + self.below(3) as u64);
                let holder = Holder { name: format!("h{}", self.below(3)), ..Holder::default() };
                Write::Acquire(Acquire { lease: self.lease()?, holder, ttl: hour, purpose: None, dead })
            }
            10 if self.one_in(2) => Write::Renew { lease: self.lease()?, token: 1 + self.below(3) as u64, ttl: hour },
            10 => Write::Release { lease: self.lease()?, token: 1 + self.below(3) as u64 },
            _ => Write::Break { lease: self.lease()? },
        })
    }

    fn events(&mut self) -> Result<Vec<NewEvent>> {
        let mut events = Vec::new();
        for _ in 0..=self.below(3) {
            let n = self.below(100);
            let mut event = NewEvent::of(self.pick(&["a.x", "a.y", "b"]), &json!({"n": n, "success": n.is_multiple_of(2)}))?;
            event.id = self.one_in(2).then(|| format!("e{}", self.below(6)));
            event.agent = self.one_in(2).then(|| format!("w{}", self.below(2)));
            event.correlation = self.one_in(3).then(|| format!("c{}", self.below(3)));
            event.source = self.one_in(3).then(|| "plugin \"ä\"".to_owned());
            if self.one_in(3) {
                event.labels.insert(format!("label {}", self.below(2)), "ü\n".to_owned());
            }
            events.push(event);
        }
        Ok(events)
    }

    fn fresh(&mut self) -> Result<Commit> {
        let mut commit = Commit::new().id(millpond::CommitId::generate(&*self.host));
        if self.one_in(2) {
            commit = commit.by(format!("by{}", self.below(2)));
        }
        if self.one_in(3) {
            commit = commit.expect(self.expectation()?);
        }
        for _ in 0..self.below(4) {
            commit = commit.write(self.write()?);
        }
        if self.one_in(2) {
            let stream = self.pick(&STREAMS);
            commit = commit.append_all(stream, self.events()?)?;
        }
        if self.one_in(8) {
            commit = commit.trim(self.stream()?.as_str(), self.below(6) as u64)?;
        }
        if self.one_in(40) {
            commit = commit.seal(self.stream()?.as_str())?;
        }
        Ok(commit)
    }

    /// The next commit: mostly a fresh one, sometimes one again, sometimes another under an id that was used.
    pub(super) fn commit(&mut self) -> Result<Commit> {
        let known = self.sent.len();
        let commit = match self.below(8) {
            0 if known > 0 => {
                let again = self.below(known);
                self.sent[again].clone()
            }
            1 if known > 0 && self.one_in(3) => {
                let used = self.below(known);
                let mut other = self.fresh()?;
                other.id = self.sent[used].id;
                other
            }
            _ => self.fresh()?,
        };
        self.sent.push(commit.clone());
        Ok(commit)
    }

    /// Everything there is to ask about a history of these names.
    pub(super) fn questions(&mut self) -> Result<Vec<Question>> {
        let mut reads = vec![Read::Collections, Read::Streams { prefix: String::new(), after: None, limit: 100 }];
        for key in KEYS {
            for collection in COLLECTIONS {
                reads.push(Read::Get(RecordId::new(collection, key)?));
            }
        }
        for stream in STREAMS {
            reads.push(Read::Stream(StreamName::new(stream)?));
            reads.push(Read::Events(EventQuery::new(EventFilter::stream(StreamName::new(stream)?))));
        }
        reads.push(Read::Events(EventQuery::new(EventFilter::streams("s").kind("a.*")).newest_first().limit(5)));
        for by in [EventGroupBy::Kind, EventGroupBy::Stream, EventGroupBy::Agent] {
            reads.push(Read::EventGroups { filter: EventFilter::all(), by, limit: 100 });
        }
        let items = || Query::new("items");
        let queries = [
            items()?,
            Query::new("free")?.order_desc("key"),
            items()?.order_desc("size"),
            items()?.order_asc("name").limit(2),
            items()?.eq("size", self.below(3) as i64),
            items()?.at_least("size", 0_i64).order_asc("size"),
            items()?.one_of("name", ["x", ""]),
            items()?.prefix("name", "x"),
            items()?.contains("name", "%"),
            items()?.has("tags", "t1"),
            items()?.filter(Filter::Absent("size".to_owned())),
            items()?.filter(Filter::Range("name".to_owned(), Some(Scalar::from("X")), Some(Scalar::from("é")))),
        ];
        for query in queries {
            reads.push(Read::Count(query.clone()));
            reads.push(Read::Query(query));
        }
        for (field, measure) in [("name", Some("size")), ("size", None), ("key", Some("name"))] {
            reads.push(Read::GroupBy {
                query: items()?,
                field: field.to_owned(),
                bucket: None,
                measure: measure.map(str::to_owned),
            });
        }
        let mut questions: Vec<Question> = reads.into_iter().map(Question::Read).collect();
        for collection in COLLECTIONS.into_iter().chain(["locks"]) {
            let selector = Selector::collection(millpond::CollectionName::new(collection)?);
            questions.extend(self.feeds(selector));
        }
        questions.extend(self.feeds(Selector::types("a.*")));
        questions.extend(self.feeds(Selector::Events(EventFilter::streams("s"))));
        Ok(questions)
    }

    fn feeds(&mut self, selector: Selector) -> Vec<Question> {
        let request = |after| FeedRequest { selector: selector.clone(), after, limit: 4 };
        let after = Position(self.below(150) as u64);
        vec![Question::Feed(request(None)), Question::Feed(request(Some(after)))]
    }
}
