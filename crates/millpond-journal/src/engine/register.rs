//! The register: a journal of its own that says which namespaces there are.
//!
//! A namespace's journal is named after its name and store id, so that one that was deleted and made again is another
//! journal. The register is small, is never trimmed, and is kept in memory; the cache folder remembers where it stood.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond_core::{Error, ErrorKind, Host, Namespace, Result, uuid_v7};
use millpond_sqlite::Tail;
use tokio::sync::Mutex;

use super::append::{Patience, append_all};
use super::freshness::Freshness;
use super::remembered::Remembered;
use super::snapshot::forked;
use crate::entry::{Change, Entry, Named, Other, Parts, Signature, encode};
use crate::journal::{After, Append, Journal, Limit, Stored, lost};

/// The register's own journal.
pub(crate) const NAME: &str = "namespaces";

/// See the module.
#[derive(Debug)]
pub(crate) struct Register {
    journal: Arc<dyn Journal>,
    host: Arc<dyn Host>,
    patience: Patience,
    remembered: Remembered,
    freshness: Freshness,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tail: Tail,
    parts: Parts,
    names: BTreeMap<String, Named>,
    /// What was seen before this handle was opened, until the register was found to hold it.
    expected: Option<Tail>,
}

impl Register {
    pub(crate) fn new(journal: Arc<dyn Journal>, host: Arc<dyn Host>, patience: Patience, remembered: Remembered) -> Self {
        let state = Mutex::new(State { expected: remembered.tail(), ..State::default() });
        Self { journal, host, patience, remembered, freshness: Freshness::default(), state }
    }

    /// Everything that is registered, by name.
    pub(crate) async fn list(&self) -> Result<Vec<Named>> {
        let mut state = self.state.lock().await;
        self.catch_up(&mut state).await?;
        Ok(state.names.values().cloned().collect())
    }

    /// Who has a name.
    pub(crate) async fn find(&self, namespace: &Namespace) -> Result<Option<Named>> {
        let mut state = self.state.lock().await;
        self.catch_up(&mut state).await?;
        Ok(state.names.get(namespace.as_str()).cloned())
    }

    /// Gives a name to a namespace. False when another has it.
    pub(crate) async fn add(&self, named: &Named) -> Result<bool> {
        self.change(|names| match names.get(&named.name) {
            // This very one, when an answer was lost.
            Some(found) => Err(found.store_id == named.store_id),
            None => Ok(Other::Register(named.clone())),
        })
        .await
    }

    /// Takes a name back. False when it belongs to another namespace, or to none.
    pub(crate) async fn remove(&self, named: &Named) -> Result<bool> {
        self.change(|names| match names.get(&named.name) {
            Some(found) if found.store_id == named.store_id => {
                Ok(Other::Unregister { name: named.name.clone(), store_id: named.store_id.clone() })
            }
            _ => Err(false),
        })
        .await
    }

    /// Appends what `decide` makes of the names, or answers what it answers.
    async fn change(&self, decide: impl Fn(&BTreeMap<String, Named>) -> Result<Other, bool> + Send) -> Result<bool> {
        let mut state = self.state.lock().await;
        loop {
            self.catch_up(&mut state).await?;
            let change = match decide(&state.names) {
                Ok(change) => change,
                Err(answer) => return Ok(answer),
            };
            let id = uuid_v7(&*self.host).simple().to_string();
            let signature = Signature { by: "register".to_owned(), id };
            let (entries, _) = encode(&state.tail, &signature, &change.text()?, self.journal.max_entry_bytes())?;
            let sent =
                append_all(Arc::clone(&self.journal), state.tail.number, entries, signature, self.patience.clone()).await?;
            if sent == Append::Written {
                self.catch_up(&mut state).await?;
                return Ok(true);
            }
        }
    }

    async fn catch_up(&self, state: &mut State) -> Result<()> {
        let before = state.tail.number;
        if self.freshness.verification_is_due() {
            self.verify(&state.tail).await?;
        }
        loop {
            let entries = self.read(state.tail.number, Limit::default()).await?;
            if entries.is_empty() {
                break;
            }
            for stored in entries {
                let entry = Entry::read(stored.number, &stored.bytes).and_then(|e| e.follow(&state.tail).map(|()| e));
                let entry = entry.map_err(|e| e.with("journal", NAME))?;
                if let Some(expected) = state.expected.take_if(|expected| expected.number == entry.number)
                    && expected.digest != entry.digest
                {
                    let error = forked(entry.number, &expected, &entry.digest);
                    state.expected = Some(expected);
                    return Err(self.named(error));
                }
                state.tail = entry.tail();
                if let Some(whole) = state.parts.take(entry) {
                    apply(&mut state.names, Change::read(&whole.text)?)?;
                }
            }
        }
        if let Some(expected) = &state.expected {
            return Err(self.named(lost(expected.number, state.tail.number)));
        }
        if state.tail.number > before {
            self.remembered.keep(&state.tail);
        }
        Ok(())
    }

    /// Compares the entry that was read last with the journal's, because "nothing follows" is also what is said of a
    /// journal that lost it.
    async fn verify(&self, seen: &Tail) -> Result<()> {
        let Some(before) = seen.number.checked_sub(1) else { return Ok(()) };
        match self.read(before, Limit { entries: 1, bytes: 1 }).await?.first() {
            None => Err(self.named(lost(seen.number, before))),
            Some(stored) => {
                let found = Entry::read(stored.number, &stored.bytes).map_err(|e| e.with("journal", NAME))?;
                let same = found.digest == seen.digest;
                if same { Ok(()) } else { Err(self.named(forked(seen.number, seen, &found.digest))) }
            }
        }
    }

    async fn read(&self, after: u64, limit: Limit) -> Result<Vec<Stored>> {
        match self.journal.read(after, limit).await {
            Ok(After::Entries(entries)) => Ok(entries),
            Ok(After::Trimmed) => Err(Error::corrupt("the register of namespaces was trimmed, which never happens to it")
                .with_next("restore its journal from a copy")),
            // Nobody removes it.
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.named(lost(after.max(1), 0)).with_source(error)),
            Err(error) => Err(error),
        }
    }

    fn named(&self, error: Error) -> Error {
        error.with("journal", NAME).with_next(format!(
            "restore the place's journals from a copy; if it was emptied on purpose, or another one is at its address, \
             name another cache folder with cache=FOLDER, or delete {}",
            self.remembered.path().display()
        ))
    }
}

fn apply(names: &mut BTreeMap<String, Named>, change: Change) -> Result<()> {
    match change {
        Change::Other(Other::Register(named)) => drop(names.insert(named.name.clone(), named)),
        Change::Other(Other::Unregister { name, store_id }) => {
            if names.get(&name).is_some_and(|n| n.store_id == store_id) {
                names.remove(&name);
            }
        }
        _ => return Err(Error::corrupt("the register of namespaces holds an entry that is not its own")),
    }
    Ok(())
}
