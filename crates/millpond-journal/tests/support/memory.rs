//! Journals in memory that fail on demand: the smallest driver there is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::{Durability, Error, ErrorKind, Examination, Probing, Result};
use millpond_journal::{After, Append, Exclusive, Journal, Journals, Limit, PlaceInfo, Stored};
use tokio::sync::watch;

/// What happens to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and the answer is lost.
    DoneNotTold,
    /// Nothing is done, and the answer is lost.
    NothingNotTold,
    /// Nothing is done, and that is said.
    NothingTold,
    /// It is done, and the driver says that somebody else was first (it sent again by itself).
    DoneToldOvertaken,
    /// It is done, others trim it away at once, and the driver says that somebody else was first.
    DoneTrimmedToldOvertaken,
    /// The answer is lost, and the entry arrives only after two more requests.
    Late,
}

/// All journals of one place, shared by handles.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Shared>);

#[derive(Debug, Default)]
pub struct Shared {
    journals: Mutex<HashMap<String, Arc<MemoryJournal>>>,
    /// Names of the journals that were removed.
    removed: Mutex<Vec<String>>,
    /// The largest entry; 0 for the usual limit.
    most: usize,
}

impl Memory {
    /// A place with a limit of its own.
    pub fn with_limit(most: usize) -> Self {
        Self(Arc::new(Shared { most, ..Shared::default() }))
    }

    /// The journal of the default namespace.
    pub fn default_journal(&self) -> Arc<MemoryJournal> {
        self.journal("default.")
    }

    /// The journal whose name begins so.
    pub fn journal(&self, begins: &str) -> Arc<MemoryJournal> {
        let journals = self.0.journals.lock().unwrap_or_else(PoisonError::into_inner);
        let found = journals.iter().find(|(name, _)| name.starts_with(begins));
        Arc::clone(found.expect("the journal").1)
    }

    /// Names of the journals that there are.
    pub fn names(&self) -> Vec<String> {
        self.0.journals.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Names of the journals that were removed.
    pub fn removed(&self) -> Vec<String> {
        self.0.removed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loses all journals, as a server does that restarts without its data.
    pub fn lose_everything(&self) {
        self.0.journals.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[derive(Debug)]
pub struct MemoryJournal {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    most: usize,
    /// How long a request travels, there and back: an append, a read.
    travel: Mutex<(Duration, Duration)>,
    /// True while appends are held up.
    held: watch::Sender<bool>,
}

/// What a journal holds, to be put back later.
#[derive(Debug, Clone)]
pub struct Content {
    entries: BTreeMap<u64, Bytes>,
    trimmed: u64,
    snapshot: Option<(u64, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<u64, Bytes>,
    trimmed: u64,
    snapshot: Option<(u64, Vec<u8>)>,
    faults: VecDeque<Fault>,
    late: Option<(u32, u64, Bytes)>,
    /// How many snapshots in a row cannot be kept.
    failing_snapshots: u32,
    /// Snapshots that were brought, whatever became of them.
    brought: u64,
    appends: u64,
    /// The next read finds its entries trimmed away. What a snapshot would bring, the read after it brings.
    trimmed_once: bool,
    reads: u64,
    /// Reads answer as of this entry: a follower that is behind.
    stale_at: Option<u64>,
}

impl MemoryJournal {
    fn new(most: usize) -> Self {
        let (changed, held) = (watch::Sender::new(0), watch::Sender::new(false));
        Self { state: Mutex::default(), changed, most, travel: Mutex::default(), held }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to the next appends.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Faults that have not happened yet.
    pub fn faults_left(&self) -> usize {
        self.state().faults.len()
    }

    /// Requests to append so far.
    pub fn appends(&self) -> u64 {
        self.state().appends
    }

    /// Requests to read so far.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// The last entry.
    pub fn last(&self) -> u64 {
        self.state().entries.keys().next_back().copied().unwrap_or(0)
    }

    /// The entries that are there.
    pub fn entries(&self) -> Vec<Bytes> {
        self.state().entries.values().cloned().collect()
    }

    /// The next snapshots cannot be kept.
    pub fn fail_snapshots(&self, times: u32) {
        self.state().failing_snapshots = times;
    }

    /// Snapshots that were brought so far, also those that could not be kept.
    pub fn snapshots_brought(&self) -> u64 {
        self.state().brought
    }

    /// The file of the snapshot, to be changed.
    pub fn snapshot(&self) -> Option<Vec<u8>> {
        self.state().snapshot.as_ref().map(|(_, bytes)| bytes.clone())
    }

    /// Exchanges the file of the snapshot.
    pub fn exchange_snapshot(&self, bytes: Vec<u8>) {
        if let Some((_, kept)) = &mut self.state().snapshot {
            *kept = bytes;
        }
    }

    /// Everything in it.
    pub fn content(&self) -> Content {
        let state = self.state();
        Content { entries: state.entries.clone(), trimmed: state.trimmed, snapshot: state.snapshot.clone() }
    }

    /// Exchanges everything in it.
    pub fn exchange(&self, content: Content) {
        let mut state = self.state();
        (state.entries, state.trimmed, state.snapshot) = (content.entries, content.trimmed, content.snapshot);
    }

    /// Loses everything.
    pub fn lose(&self) {
        self.exchange(Content { entries: BTreeMap::new(), trimmed: 0, snapshot: None });
    }

    /// How long appends and reads travel, there and back.
    pub fn travel(&self, append: Duration, read: Duration) {
        *self.travel.lock().unwrap_or_else(PoisonError::into_inner) = (append, read);
    }

    /// Holds appends up, or lets them go.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    async fn half(of: Duration) {
        if !of.is_zero() {
            tokio::time::sleep(of / 2).await;
        }
    }

    /// Up to which entry it was trimmed.
    pub fn trimmed(&self) -> u64 {
        self.state().trimmed
    }

    /// Loses everything after an entry, as a fail-over without a flush does.
    pub fn lose_after(&self, number: u64) {
        self.state().entries.split_off(&(number + 1));
    }

    /// Reads answer as of now from here on: what a follower does that is behind.
    pub fn answer_stale(&self, stale: bool) {
        let last = self.last();
        self.state().stale_at = stale.then_some(last);
    }

    fn arrive(&self, state: &mut State) {
        if let Some((left, number, bytes)) = state.late.take() {
            if left == 0 {
                state.entries.entry(number).or_insert(bytes);
            } else {
                state.late = Some((left - 1, number, bytes));
            }
        }
    }

    fn write(&self, state: &mut State, after: u64, entry: Bytes) -> Append {
        let last = state.entries.keys().next_back().copied().unwrap_or(state.trimmed);
        if last != after {
            return Append::Overtaken;
        }
        state.entries.insert(after + 1, entry);
        self.changed.send_replace(after + 1);
        Append::Written
    }

    fn append_now(&self, after: u64, entry: Bytes) -> Result<Append> {
        let mut state = self.state();
        state.appends += 1;
        self.arrive(&mut state);
        match state.faults.pop_front() {
            None => Ok(self.write(&mut state, after, entry)),
            Some(Fault::NothingTold) => Err(Error::unavailable("the server is away")),
            Some(Fault::NothingNotTold) => Err(lost_answer()),
            Some(Fault::DoneNotTold) => {
                self.write(&mut state, after, entry);
                Err(lost_answer())
            }
            Some(Fault::DoneToldOvertaken) => {
                self.write(&mut state, after, entry);
                Ok(Append::Overtaken)
            }
            Some(Fault::DoneTrimmedToldOvertaken) => {
                self.write(&mut state, after, entry);
                state.trimmed_once = true;
                Ok(Append::Overtaken)
            }
            Some(Fault::Late) => {
                state.late = Some((2, after + 1, entry));
                Err(lost_answer())
            }
        }
    }

    fn read_now(&self, after: u64, limit: Limit) -> After {
        let mut state = self.state();
        state.reads += 1;
        self.arrive(&mut state);
        if after < state.trimmed || std::mem::take(&mut state.trimmed_once) {
            return After::Trimmed;
        }
        let upto = state.stale_at.unwrap_or(u64::MAX);
        let found = state.entries.range(after + 1..).take_while(|(n, _)| **n <= upto).take(limit.entries);
        After::Entries(found.map(|(number, bytes)| Stored { number: *number, bytes: bytes.clone() }).collect())
    }
}

fn lost_answer() -> Error {
    Error::new(ErrorKind::UnknownOutcome, "the answer was lost")
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, after: u64, entry: Bytes) -> Result<Append> {
        assert!(entry.len() <= self.max_entry_bytes(), "an entry larger than the limit");
        let travel = self.travel.lock().unwrap_or_else(PoisonError::into_inner).0;
        Self::half(travel).await;
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        let answer = self.append_now(after, entry);
        Self::half(travel).await;
        answer
    }

    async fn read(&self, after: u64, limit: Limit) -> Result<After> {
        let travel = self.travel.lock().unwrap_or_else(PoisonError::into_inner).1;
        Self::half(travel).await;
        let answer = self.read_now(after, limit);
        Self::half(travel).await;
        Ok(answer)
    }
    async fn changed(&self, after: u64) {
        let mut changed = self.changed.subscribe();
        let _ = changed.wait_for(|last| *last > after).await;
    }

    fn max_entry_bytes(&self) -> usize {
        if self.most == 0 { 16 << 20 } else { self.most }
    }

    async fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>> {
        Ok(None)
    }

    async fn put_snapshot(&self, upto: u64, file: &Path) -> Result<()> {
        self.state().brought += 1;
        let failing = self.state().failing_snapshots;
        if failing > 0 {
            self.state().failing_snapshots = failing - 1;
            return Err(Error::unavailable("the server takes no snapshot"));
        }
        let bytes = std::fs::read(file).map_err(|e| Error::unavailable("the snapshot's file").with_source(e))?;
        self.state().snapshot = Some((upto, bytes));
        Ok(())
    }

    async fn get_snapshot(&self, file: &Path) -> Result<Option<u64>> {
        let Some((upto, bytes)) = self.state().snapshot.clone() else { return Ok(None) };
        std::fs::write(file, bytes).map_err(|e| Error::unavailable("the snapshot's file").with_source(e))?;
        Ok(Some(upto))
    }

    async fn trim(&self, upto: u64) -> Result<()> {
        let mut state = self.state();
        state.entries = state.entries.split_off(&(upto + 1));
        state.trimmed = state.trimmed.max(upto);
        Ok(())
    }

    async fn size(&self) -> Result<u64> {
        Ok(self.state().entries.values().map(|e| e.len() as u64).sum())
    }
}

#[async_trait]
impl Journals for Memory {
    fn info(&self) -> PlaceInfo {
        PlaceInfo { kind: "memory", location: "memory".to_owned(), durability: Durability::Memory, facts: Vec::new() }
    }

    async fn examine(&self, _: Probing) -> Result<Examination> {
        Ok(Examination::of(Durability::Memory))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Journal>> {
        let mut journals = self.0.journals.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.0.most;
        let make = || Arc::new(MemoryJournal::new(most));
        let found: Arc<dyn Journal> = Arc::clone(journals.entry(name.to_owned()).or_insert_with(make)) as _;
        Ok(found)
    }

    async fn remove(&self, name: &str) -> Result<()> {
        self.0.removed.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
        self.0.journals.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    fn cache(&self) -> Option<&Path> {
        None
    }
}
