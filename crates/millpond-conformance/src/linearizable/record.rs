//! Callers that ask at once and write down what they were answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millpond::{
    Answer as Told, Commit, ErrorKind, EventFilter, EventQuery, Expectation, FeedRequest, MergeOp, NewEvent, Outcome, Read,
    RecordId, Selector, Store, StreamName,
};
use serde_json::json;

use super::{Answer, Call, Change, Expect, History, Operation, Seen};
use crate::Failure;
use crate::random::Random;

/// The collection that the records are in.
const RECORDS: &str = "registers";

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Callers at a time.
    pub callers: u32,
    /// Operations of each.
    pub operations: u32,
    /// Records that they meet in.
    pub records: u8,
    /// Streams that they meet in.
    pub streams: u8,
    /// What decides who asks what.
    pub seed: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self { callers: 6, operations: 40, records: 3, streams: 2, seed: 1 }
    }
}

/// Writes down calls on one clock.
#[derive(Clone)]
pub struct Recorder {
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Default for Recorder {
    /// A clock that counts what it is asked for: enough for callers of one process.
    fn default() -> Self {
        let count = AtomicU64::new(0);
        Self::on(move || count.fetch_add(1, Ordering::SeqCst))
    }
}

impl Recorder {
    /// A clock that several processes share.
    pub fn on(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock) }
    }
}

/// Has callers work at once, spread over the stores, on a namespace that held nothing before. Commits are not sent again
/// when their answer is lost: that stays open, as it is for a caller that dies. Calls that were said not to be applied
/// are left out.
///
/// # Errors
/// What a store fails with, if it is neither "not applied" nor "unknown".
pub async fn run(stores: &[Store], workload: Workload, recorder: &Recorder) -> Result<History, Failure> {
    let mut callers = Vec::new();
    for number in 0..workload.callers {
        let store = stores[number as usize % stores.len()].clone();
        let seed = workload.seed.wrapping_mul(1_000).wrapping_add(u64::from(number));
        let caller = Caller { number, store, workload, random: Random::new(seed), known: Known::default() };
        callers.push(tokio::spawn(caller.work(recorder.clone())));
    }
    let mut history = History::default();
    for caller in callers {
        history.calls.extend(caller.await.map_err(|e| Failure(format!("a caller panicked: {e}")))??);
    }
    Ok(history)
}

/// What a caller saw last, to expect it again.
#[derive(Debug, Default)]
struct Known {
    revisions: std::collections::BTreeMap<u8, u64>,
    sequences: std::collections::BTreeMap<u8, u64>,
}

struct Caller {
    number: u32,
    store: Store,
    workload: Workload,
    random: Random,
    known: Known,
}

impl Caller {
    async fn work(mut self, recorder: Recorder) -> Result<Vec<Call>, Failure> {
        let mut calls = Vec::new();
        for n in 0..self.workload.operations {
            let operation = self.choose(i64::from(self.number * 10_000 + n));
            let called = (recorder.clock)();
            let answer = match self.ask(&operation).await {
                Ok(answer) => Some(answer),
                Err(error) if error.kind() == ErrorKind::UnknownOutcome => None,
                Err(error) if error.kind() == ErrorKind::Unavailable => continue,
                Err(error) => return Err(error.into()),
            };
            let returned = answer.is_some().then(|| (recorder.clock)());
            self.learn(&operation, answer.as_ref());
            calls.push(Call { caller: self.number, operation, called, returned, answer });
        }
        Ok(calls)
    }

    fn choose(&mut self, number: i64) -> Operation {
        let (record, stream) = (self.random.below_u8(self.workload.records), self.random.below_u8(self.workload.streams));
        let commit = |expect, changes| Operation::Commit { expect, changes };
        match self.random.below(10) {
            0 => commit(vec![], vec![Change::Put(record, number)]),
            1 => commit(vec![], vec![Change::Add(record, 1)]),
            2 => commit(vec![], vec![Change::Append(stream, number)]),
            // What others may have changed since: one of those who expect the same wins.
            3 | 4 => {
                let revision = self.known.revisions.get(&record).copied().unwrap_or(0);
                commit(
                    vec![Expect::Revision(record, revision)],
                    vec![Change::Put(record, number), Change::Append(stream, number)],
                )
            }
            5 => {
                let sequence = self.known.sequences.get(&stream).copied().unwrap_or(0);
                commit(vec![Expect::Sequence(stream, sequence)], vec![Change::Append(stream, number), Change::Add(record, 1)])
            }
            6 => Operation::Read { records: vec![record], streams: vec![] },
            7 => Operation::Read { records: vec![], streams: vec![stream] },
            _ => Operation::Read { records: (0..self.workload.records).collect(), streams: (0..self.workload.streams).collect() },
        }
    }

    async fn ask(&mut self, operation: &Operation) -> millpond::Result<Answer> {
        match operation {
            Operation::Commit { expect, changes } => {
                let commit = written(expect, changes)?.prepare(self.store.host(), &self.store.catalog())?;
                // Past the store's own retry: a lost answer is to stay lost.
                let outcome = self.store.front().submit(self.store.namespace(), commit, false).await?;
                Ok(told(outcome, changes))
            }
            Operation::Read { records, streams } => match streams.as_slice() {
                [stream] if records.is_empty() && self.random.below(2) == 0 => {
                    Ok(Answer::Read(vec![Seen::Stream(through_the_feed(&self.store, *stream).await?)]))
                }
                _ => read(&self.store, records, streams).await,
            },
        }
    }

    fn learn(&mut self, operation: &Operation, answer: Option<&Answer>) {
        match (operation, answer) {
            (Operation::Commit { changes, .. }, Some(Answer::Committed(left))) => {
                for (change, left) in changes.iter().zip(left) {
                    match change {
                        Change::Put(record, _) | Change::Add(record, _) => self.known.revisions.insert(*record, *left),
                        Change::Append(stream, _) => self.known.sequences.insert(*stream, *left),
                    };
                }
            }
            (Operation::Read { records, streams }, Some(Answer::Read(seen))) => {
                for (record, seen) in records.iter().zip(seen) {
                    let Seen::Record(found) = seen else { continue };
                    self.known.revisions.insert(*record, found.map_or(0, |(_, revision)| revision));
                }
                for (stream, seen) in streams.iter().zip(seen.iter().skip(records.len())) {
                    let Seen::Stream(found) = seen else { continue };
                    self.known.sequences.insert(*stream, found.len() as u64);
                }
            }
            _ => {}
        }
    }
}

fn key(record: u8) -> String {
    format!("r{record}")
}

fn stream_name(stream: u8) -> millpond::Result<StreamName> {
    StreamName::new(format!("s{stream}"))
}

fn written(expect: &[Expect], changes: &[Change]) -> millpond::Result<Commit> {
    let mut commit = Commit::new();
    for expect in expect {
        commit = match expect {
            Expect::Revision(record, 0) => commit.expect_absent(RECORDS, &key(*record))?,
            Expect::Revision(record, revision) => commit.expect_revision(RECORDS, &key(*record), *revision)?,
            Expect::Sequence(stream, sequence) => commit.expect(Expectation::StreamAt(stream_name(*stream)?, *sequence)),
        };
    }
    for change in changes {
        commit = match change {
            Change::Put(record, number) => commit.put(RECORDS, &key(*record), &json!({ "n": number }))?,
            Change::Add(record, number) => commit.merge(RECORDS, &key(*record), vec![MergeOp::Add("/n".to_owned(), *number)])?,
            Change::Append(stream, number) => {
                commit.append(stream_name(*stream)?.as_str(), NewEvent::of("numbered", &json!({ "n": number }))?)?
            }
        };
    }
    Ok(commit)
}

fn told(outcome: Outcome, changes: &[Change]) -> Answer {
    let Outcome::Committed(receipt) = outcome else { return Answer::Conflict };
    let (mut revisions, mut sequences) = (receipt.revisions.into_iter(), receipt.sequences.into_iter());
    // A receipt that is too short shows as a 0, which explains nothing.
    let left = changes.iter().map(|change| match change {
        Change::Append(..) => sequences.next().map_or(0, |s| s.first),
        _ => revisions.next().unwrap_or(0),
    });
    Answer::Committed(left.collect())
}

fn number(json: &millpond::Json) -> millpond::Result<i64> {
    Ok(json.value()?["n"].as_i64().unwrap_or(i64::MIN))
}

async fn read(store: &Store, records: &[u8], streams: &[u8]) -> millpond::Result<Answer> {
    let mut reads = Vec::new();
    for record in records {
        reads.push(Read::Get(RecordId::new(RECORDS, &key(*record))?));
    }
    for stream in streams {
        reads.push(Read::Events(EventQuery::new(EventFilter::stream(stream_name(*stream)?)).limit(1_000)));
    }
    let mut seen = Vec::new();
    for answer in store.read(reads).await? {
        seen.push(match answer {
            Told::Record(found) => {
                Seen::Record(found.map(|r| Ok::<_, millpond::Error>((number(&r.value)?, r.revision))).transpose()?)
            }
            other => Seen::Stream(other.into_events()?.items.iter().map(|e| number(&e.data)).collect::<Result<_, _>>()?),
        });
    }
    Ok(Answer::Read(seen))
}

async fn through_the_feed(store: &Store, stream: u8) -> millpond::Result<Vec<i64>> {
    let selector = Selector::Events(EventFilter::stream(stream_name(stream)?));
    let (mut numbers, mut after) = (Vec::new(), None);
    loop {
        let page = store.feed(FeedRequest { selector: selector.clone(), after, limit: 1_000 }).await?;
        for change in &page.changes {
            if let millpond::Change::Event(event) = change {
                numbers.push(number(&event.data)?);
            }
        }
        if page.next >= page.head {
            return Ok(numbers);
        }
        after = Some(page.next);
    }
}
